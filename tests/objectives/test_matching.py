import pytest
import torch

from intermodal.objectives.matching import exchanged, matching_loss, matching_score
from intermodal.types import Batch


def texts(rows: int) -> Batch:
    """Returns different rows, but the last, which says what the first does, padded otherwise."""
    values = torch.arange(4, 4 + 3 * rows).view(rows, 3)
    mask = torch.ones(rows, 3, dtype=torch.bool)
    mask[:, 2] = torch.arange(rows) % 2 == 1
    mask[-1] = mask[0]
    values[-1, :2] = values[0, :2]
    return Batch(values, mask)


def test_half_of_the_rows_get_another_text_and_equal_words_still_match() -> None:
    torch.manual_seed(0)
    batch, moved, equal = texts(8), 0, 0
    for _ in range(200):
        index, matches = exchanged(batch)
        own = torch.arange(8)
        moved += int((index != own).sum())
        ends = {0, 7}
        for i, (j, match) in enumerate(zip(index.tolist(), matches.tolist(), strict=True)):
            assert match == (i == j or {i, j} == ends)
            equal += i != j and match
    assert moved / 1600 == pytest.approx(0.5, abs=0.05)
    assert equal > 0


def test_of_one_row_there_is_no_other() -> None:
    index, matches = exchanged(texts(1))
    assert (index.tolist(), matches.tolist()) == ([0], [True])
    assert bool(exchanged(texts(5), 0.0)[1].all())


def test_the_second_logit_is_that_of_a_match() -> None:
    logits = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
    assert float(matching_loss(logits, torch.tensor([True, False]))) < 0.01
    assert float(matching_loss(logits, torch.tensor([False, True]))) > 8
    assert matching_score(logits).tolist() == [9.0, -9.0]
