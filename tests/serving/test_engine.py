"""Which model is asked, and that many requests are computed together."""

import asyncio
import os
import threading
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.errors import Unsupported
from intermodal.modalities.text import Text
from intermodal.serving.engine import Engine, direction
from intermodal.serving.faults import Refused
from intermodal.serving.settings import Settings
from intermodal.types import Answers, Embeds
from tests.serving.places import QUICK


class Fake:
    """Embeds words by their lengths and remembers its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def embed(self, items: Any) -> torch.Tensor:
        self.sizes.append(len(items))
        return torch.tensor([[len(item.text), 1.0] for item in items])


class Painter:
    directions = (("text", "image"), ("image", "text"))

    def translate(self, items: Any, to: str, *, source: Any = None, sampling: Any = None, count: int = 1) -> list[Any]:
        return [Text(f"{to} of {item.text}") for item in items]


def test_vectors_of_many_clients_are_computed_together_and_are_unit() -> None:
    async def main() -> None:
        fake = Fake()
        engine = Engine({"fake": fake}, Settings(wait_s=0.05, threads=1))
        found = await asyncio.gather(*(engine.embed("fake", [Text("a" * n)]) for n in range(1, 31)))
        assert len(fake.sizes) < 6
        assert sum(fake.sizes) == 30
        for n, rows in enumerate(found, 1):
            np.testing.assert_allclose(rows, np.array([[n, 1]]) / np.hypot(n, 1), rtol=1e-6)

    asyncio.run(main())


class Placed:
    """Embeds on two threads at a time alone, and remembers which cores each may use."""

    def __init__(self) -> None:
        self.cores: list[set[int]] = []
        self.both = threading.Barrier(2, timeout=30)

    def embed(self, items: Any) -> torch.Tensor:
        self.cores.append(os.sched_getaffinity(0))
        self.both.wait()
        return torch.ones(len(items), 2)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="threads choose no cores here"
)
def test_each_thread_that_embeds_stays_on_cores_of_its_own() -> None:
    async def main() -> None:
        placed = Placed()
        engine = Engine({"m": placed}, Settings(wait_s=0.0, together=1))
        engine._alone = {}  # as of a network, which may be called by both
        await asyncio.gather(*(engine.embed("m", [Text("a")]) for _ in range(2)))
        first, second = placed.cores
        assert first | second == os.sched_getaffinity(0)
        assert not first & second

    asyncio.run(main())


def test_a_name_of_the_hosted_api_is_any_model_that_can_and_another_is_an_error() -> None:
    engine = Engine({"painter": Painter(), "fake": Fake()}, QUICK)
    assert engine.able("", Embeds, "embed")[0] == "fake"
    assert engine.able("text-embedding-3-small", Embeds, "embed")[0] == "fake"
    assert engine.able("fake", Embeds, "embed")[0] == "fake"
    with pytest.raises(Refused, match="painter, fake") as refused:
        engine.able("gtp-4", Embeds, "embed")
    assert refused.value.status == 404
    with pytest.raises(Refused, match="'painter' does not embed; of the models here these can: fake"):
        engine.able("painter", Embeds, "embed")
    with pytest.raises(Refused, match="no model here can answer"):
        engine.able("", Answers, "answer questions")
    assert list(engine.translating("gpt-4o")) == ["painter"]
    assert engine.abilities("painter")["directions"] == [["text", "image"], ["image", "text"]]
    assert engine.abilities("fake")["verbs"] == ["embed"]


def test_what_cannot_be_made_is_said_at_once() -> None:
    async def main() -> None:
        engine = Engine({"painter": Painter()}, QUICK)
        (made,) = await engine.translate(engine.translating(""), [Text("x")], "image")
        assert made.candidates[0].item == Text("image of x")
        assert made.model == "painter"
        with pytest.raises(Unsupported, match="no way"):
            await engine.translate(engine.translating(""), [Text("x")], "video")
        with pytest.raises(Unsupported, match="direction from text to speech"):
            direction(engine.translating(""), (("text", "speech"),), "speak")
        assert await engine.drain()

    asyncio.run(main())


def test_words_are_counted_and_bounded() -> None:
    engine = Engine({"fake": Fake()}, Settings(tokens=10))
    assert engine.count(["one two", "three"]) == 3
    for texts in (["word"] * 11, ["a" * 1000]):
        with pytest.raises(Refused, match="more than 10 tokens"):
            engine.count(texts)
