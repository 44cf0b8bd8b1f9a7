"""Candidates in the order of another model."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from intermodal.errors import InvalidValue
from intermodal.modalities.text import Text
from intermodal.sampling.ranking import rank
from intermodal.types import Candidate, Embeds, Item


class ByLetters:
    """Embeds a text by how often it has each letter; a stand-in for a model that knows both sides."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, items: Sequence[Item]) -> Tensor:
        self.calls += 1
        counts = [[item.text.count(letter) for letter in "abcd"] for item in items]  # type: ignore[attr-defined]
        return torch.nn.functional.normalize(torch.tensor(counts, dtype=torch.float32), dim=1)


def made(*texts: str) -> list[Candidate]:
    """Returns candidates, the first with the highest score of its maker."""
    return [Candidate(Text(text), -float(i)) for i, text in enumerate(texts)]


def test_the_one_that_fits_comes_first_with_its_cosine() -> None:
    ranker = ByLetters()
    assert isinstance(ranker, Embeds)
    found = rank([made("bbb", "ab", "a"), made("a", "cd", "dd", "c")], [Text("aa"), Text("cccd")], ranker)
    assert [[c.item.text for c in row] for row in found] == [["a", "ab", "bbb"], ["c", "cd", "dd", "a"]]  # type: ignore[attr-defined]
    assert [c.score for c in found[0]] == pytest.approx([1.0, 0.5**0.5, 0.0])
    assert ranker.calls == 2  # all that was asked, all that was made


def test_equal_ones_stay_in_their_order() -> None:
    found = rank([made("a", "aaa", "b", "aa")], [Text("a")], ByLetters())
    assert [c.item.text for c in found[0]] == ["a", "aaa", "aa", "b"]  # type: ignore[attr-defined]


def test_requests_may_have_no_candidates() -> None:
    assert rank([], [], ByLetters()) == []
    assert rank([[], []], [Text("a"), Text("b")], ByLetters()) == [[], []]
    found = rank([[], made("a")], [Text("a"), Text("b")], ByLetters())
    assert [len(row) for row in found] == [0, 1]


def test_each_request_has_its_item() -> None:
    with pytest.raises(InvalidValue, match="candidates of 1 requests and 2 items"):
        rank([made("a")], [Text("a"), Text("b")], ByLetters())
