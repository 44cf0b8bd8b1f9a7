"""CapFilt: what is made, what is kept, and that captioner and filter can be left out."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from intermodal.data.retold import Told, mistold
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.evaluation.scenes import read_back, scene_right
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.training import capfilt as module
from intermodal.training.capfilt import capfilt

COUNT = 40
SOURCE = Diorama("train", fields=("text", "image"), size=COUNT)
TRUE = [Told(i, sample["text"].text) for i, sample in enumerate(SOURCE.samples(range(COUNT)))]  # type: ignore[attr-defined]
NUMBERS = {sample["image"].pixels.tobytes(): i for i, sample in enumerate(SOURCE.samples(range(COUNT)))}  # type: ignore[attr-defined]


class Captioner:
    """Says what is true of every third picture that it is shown, and else nothing or what is never true."""

    directions = (("image", "text"),)

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def translate(
        self, items: Sequence[Any], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Any]:
        self.seeds.append(sampling.seed)
        numbers = [NUMBERS[item.pixels.tobytes()] for item in items]
        ways = {0: lambda i: f"in truth {TRUE[i].words}", 1: lambda i: "", 2: lambda i: "nothing at all"}
        return [Text(ways[i % 3](i)) for i in numbers]


class Judge:
    """Knows the truth."""

    def matches(self, pictures: Sequence[Any], texts: Sequence[Any]) -> torch.Tensor:
        numbers = [NUMBERS[item.pixels.tobytes()] for item in pictures]
        right = [TRUE[i].words in text.text for i, text in zip(numbers, texts, strict=True)]
        return torch.tensor([2.0 if one else -2.0 for one in right])


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 16)


def test_what_matches_is_kept_of_both_and_each_batch_has_its_own_seed() -> None:
    noisy, captioner = mistold(TRUE, 0.4), Captioner()
    shares: list[float] = []
    result = capfilt(SOURCE, noisy, captioner, Judge(), Sampling(1.0, top_p=0.9, seed=7), progress=shares.append)
    kept = [pair for pair, true in zip(noisy, TRUE, strict=True) if pair == true]
    assert list(result.found) == kept
    assert len(kept) == 24
    assert list(result.made) == [Told(i, f"in truth {TRUE[i].words}") for i in range(0, COUNT, 3)]
    assert result.pairs == (*result.found, *result.made)
    assert result.judged == (COUNT, sum(i % 3 != 1 for i in range(COUNT)))  # what says nothing is not judged
    assert captioner.seeds == [7, 23, 39]
    assert shares[-1] == 1.0


def test_either_can_be_left_out() -> None:
    noisy = mistold(TRUE, 0.4)
    filtered = capfilt(SOURCE, noisy, None, Judge())
    assert (len(filtered.found), filtered.made) == (24, ())
    made = capfilt(SOURCE, noisy, Captioner(), None)
    assert list(made.found) == noisy
    assert len(made.made) == sum(i % 3 != 1 for i in range(COUNT))
    with pytest.raises(InvalidValue, match="neither a captioner nor a filter"):
        capfilt(SOURCE, noisy, None, None)


def test_the_bar_can_be_raised_and_a_picture_with_several_captions_is_captioned_once() -> None:
    twice = [*TRUE[:4], *TRUE[:4]]
    result = capfilt(SOURCE, twice, Captioner(), Judge())
    assert len(result.found) == 8
    assert [pair.sample for pair in result.made] == [0, 3]
    assert capfilt(SOURCE, twice, Captioner(), Judge(), least=3.0).pairs == ()


def test_a_wrong_caption_is_wrong_by_the_reader_of_sentences() -> None:
    """The truth that the benchmark counts by agrees with who got another's words."""
    noisy = mistold(TRUE, 0.5)
    scenes = list(SOURCE.scenes([pair.sample for pair in noisy]))
    right = scene_right(scenes, read_back("text", [Text(pair.words) for pair in noisy]), "image", "text")
    moved = [pair != true for pair, true in zip(noisy, TRUE, strict=True)]
    assert right[[not one for one in moved]].all()
    assert right[moved].mean() < 0.2
