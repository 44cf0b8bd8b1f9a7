"""What the tests of systems over words and regions share: small samples, and the checks that all three pass."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.decoders.asking import Roles
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.saving import load_model, save_model
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Answers, Batch, Scores, Trains

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (30, 30, 220), "white": (240, 240, 240)}
SIDES = ("left", "right")
ANSWERS = (*COLOURS, *SIDES)
WORDS = WordTokenizer(words=("a", "square", "on", "the", "what", "colour", "where", "is", "it", "?", *ANSWERS))
BOTH = Roles("image", "text", "question", "answer")
CAPTIONS, QUESTIONS = Roles("image", "text"), Roles("image", "", "question", "answer")
TEXT, IMAGE = TextPreprocessor(WORDS, 12), ImagePreprocessor(16, 16, 8)


def picture(colour: str, side: str) -> Image:
    """Returns a square on a dark ground."""
    pixels = np.full((16, 16, 3), 40, np.uint8)
    start = 0 if side == "left" else 8
    pixels[4:12, start : start + 8] = COLOURS[colour]
    return Image(pixels)


def sample(colour: str, side: str, asked: str) -> dict[str, Any]:
    question, answer = ("what colour is it?", colour) if asked == "colour" else ("where is it?", side)
    return {
        "image": picture(colour, side),
        "text": Text(f"a {colour} square on the {side}"),
        "question": Text(question),
        "answer": Text(answer),
    }


KINDS = [(colour, side) for colour in COLOURS for side in SIDES]
SAMPLES = [sample(colour, side, ("colour", "side")[i % 2]) for i, (colour, side) in enumerate(KINDS)]
"""Eight, all different."""


def trained(model: Any, steps: int, rate: float = 2e-3) -> Any:
    """Returns the model after so many steps, in each of which it sees the eight samples four times."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    batch = batches(model, SAMPLES * 4)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        torch.stack(list(model.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def check_losses(make: Callable[[Roles], Any], tasks: set[str]) -> None:
    """Checks that fields decide which losses there are, and each trained weight gets a gradient of them."""
    for roles, wanted in ((BOTH, {*tasks, "answers"}), (CAPTIONS, tasks), (QUESTIONS, {"answers"})):
        model = make(roles)
        for protocol in (Trains, Answers, Scores):
            assert isinstance(model, protocol)
        assert set(model.preprocessors) == {name for name in dataclasses.astuple(roles) if name}
        losses = model.losses(batches(model, SAMPLES))
        assert set(losses) == wanted
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not without, f"{roles}: no gradient for {without}"
    model = make(BOTH)
    every = batches(model, SAMPLES)
    assert set(model.losses({k: v for k, v in every.items() if k in ("image", "text")})) == tasks
    alone = [{"text": SAMPLES[0]["text"]}, {"image": SAMPLES[0]["image"]}]
    assert model.losses(batches(model, alone)) == {}
    unknown = {**SAMPLES[0], "answer": Text("neither")}
    questions = [{"image": s["image"], "question": s["question"], "answer": s["answer"]} for s in (unknown, SAMPLES[1])]
    assert set(model.losses(batches(model, questions))) == {"answers"}
    both = float(model.losses(batches(model, questions))["answers"].detach())
    one = float(model.losses(batches(model, questions[1:]))["answers"].detach())
    assert both == pytest.approx(one, rel=1e-4)  # what is no answer of the list is not learnt
    assert set(model.losses(batches(model, [SAMPLES[0]]))) == {*tasks, "answers"}  # of one row nothing is exchanged


def check_absent(model: Any) -> None:
    """Checks that what is absent or padding changes nothing: no other row, and no row that has it."""
    model.eval()
    words = model.preprocessors["text"]([SAMPLES[0]["text"], None, Text("a square"), Text("a red square")])
    shown = model.preprocessors["image"]([SAMPLES[0]["image"], SAMPLES[1]["image"], SAMPLES[2]["image"], None])
    with torch.no_grad():
        whole = model.read(words, shown).pooled
        wild = Batch(torch.where(words.mask, words.values, 5), words.mask)
        garbage = torch.where(shown.present[:, None, None, None], shown.values, 9.0)
        other = model.read(wild, Batch(garbage, shown.mask)).pooled
        present = words.present
        torch.testing.assert_close(other[present], whole[present], atol=1e-5, rtol=1e-5)
        assert bool(whole.isfinite().all())
        for i in (0, 2, 3):
            row = torch.tensor([i])
            length = int(words.mask[i].sum())
            alone = Batch(words.values[row][:, :length], words.mask[row][:, :length])
            found = model.read(alone, shown.rows(row)).pooled[0]
            torch.testing.assert_close(found, whole[i], atol=1e-5, rtol=1e-5)
        assert (
            float((whole[0] - model.read(words, shown.rows(torch.tensor([1, 0, 2, 3]))).pooled[0]).abs().max()) > 1e-4
        )


def check_learns(make: Callable[[Roles], Any], folder: Path, steps: int = 240) -> None:
    """Checks that eight samples are learnt by heart, answered in words, matched, and that a saved model is the same."""
    model = trained(make(BOTH), steps)
    wanted = [s["answer"].text for s in SAMPLES]
    questions = [s["question"].text for s in SAMPLES]
    images = [{"image": s["image"]} for s in SAMPLES]
    assert model.answers(images, questions) == wanted
    assert model.answer(images[0], questions[0]) == wanted[0]
    assert model.answer({}, questions[0]) in ANSWERS
    pictures, texts = [s["image"] for s in SAMPLES], [s["text"] for s in SAMPLES]
    table = model.score(pictures, texts)
    fits = torch.tensor([[a == b for b, _ in KINDS] for a, _ in KINDS])
    assert float(table[fits].mean() - table[~fits].mean()) > 1  # which side takes longer than which colour
    torch.testing.assert_close(model.score(texts, pictures), table.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.score(pictures[:1], texts[:2]), table[:1, :2], atol=1e-4, rtol=1e-4)
    assert model.score([], texts).shape == (0, 8)
    save_model(folder / "m", model)
    loaded = load_model(folder / "m")
    assert loaded.config == model.config
    assert torch.equal(loaded.score(pictures, texts), table)
    assert loaded.answers(images, questions) == wanted


def check_refuses(make: Callable[..., Any], module: Any) -> None:
    """Checks what is refused: questions to who learnt none, other things than pictures and texts, impossible sizes."""
    with pytest.raises(Unsupported, match="has learnt no answers"):
        make(CAPTIONS).answer({"image": SAMPLES[0]["image"]}, "what colour is it?")
    with pytest.raises(Unsupported, match="has not learnt what matches"):
        make(QUESTIONS).score([SAMPLES[0]["image"]], [SAMPLES[0]["text"]])
    with pytest.raises(Unsupported, match="reads image with words, not text"):
        make(BOTH).score([SAMPLES[0]["text"]], [SAMPLES[0]["text"]])
    with pytest.raises(Unsupported, match="reads image with words, not text"):
        make(BOTH).answer({"image": SAMPLES[0]["text"]}, "what colour is it?")
    with pytest.raises(InvalidValue, match="no answers to choose from"):
        make(QUESTIONS, answers=())
    for wrong in ({"image": None}, {"text": None}, {"dropout": 1.0}, {"masked": 0.0}, {"epsilon": 0.0}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            make(BOTH, **wrong)
    with pytest.raises(UnknownName, match="size of"):
        module.sized("huge", {"image": "image", "text": "text"}, WORDS)
    with pytest.raises(Unsupported, match="of text the data has none"):
        module.sized("tiny", {"image": "image"}, WORDS)


def check_sizes(module: Any, paper: tuple[float, float]) -> None:
    """Checks that the small size is small, and the published one about as large as it was, in millions of weights."""
    fields = {"image": "image", "text": "text", "question": "text", "answer": "text"}
    with torch.device("meta"):
        tiny = module.build(dataclasses.replace(module.sized("tiny", fields, WORDS), answers=ANSWERS))
        whole = module.build(module.sized("paper", {"image": "image", "text": "text"}, WORDS))
    assert 2e6 < sum(p.numel() for p in tiny.parameters()) < 5e6
    assert paper[0] * 1e6 < sum(p.numel() for p in whole.parameters()) < paper[1] * 1e6
