import pytest
import torch

from intermodal.objectives.matching import confused, exchanged, hard_negatives, matching_loss, matching_score
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


def test_what_is_alike_is_taken_more_often_and_what_is_the_same_never() -> None:
    torch.manual_seed(0)
    near = torch.tensor([[9.0, 1.0, 0.0], [0.0, 9.0, 9.0], [0.0, 0.0, 0.0]])
    same = torch.eye(3, dtype=torch.bool)
    same[1, 2] = same[2, 1] = True
    drawn = torch.stack([hard_negatives(near, same) for _ in range(400)])
    assert set(drawn[:, 0].tolist()) == {1, 2}
    share = float((drawn[:, 0] == 1).float().mean())
    assert share == pytest.approx(2.718 / 3.718, abs=0.08)
    assert set(drawn[:, 1].tolist()) == set(drawn[:, 2].tolist()) == {0}
    assert hard_negatives(near, torch.ones(3, 3, dtype=torch.bool)).tolist() == [-1, -1, -1]


def test_pairs_to_tell_apart() -> None:
    torch.manual_seed(0)
    pictures, said, matches = confused(torch.zeros(3, 3), torch.eye(3, dtype=torch.bool))
    assert matches.tolist() == [True] * 3 + [False] * 6
    assert pictures[:3].tolist() == said[:3].tolist() == [0, 1, 2]
    assert pictures[3:6].tolist() == [0, 1, 2]  # with another text
    assert said[6:].tolist() == [0, 1, 2]  # with another picture
    assert bool((pictures[3:] != said[3:]).all())
    one = confused(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert [part.tolist() for part in one] == [[0], [0], [True]]


def test_equal_words_have_equal_numbers_and_padding_does_not_matter() -> None:
    batch = texts(6)
    numbers = batch.keys()
    assert numbers[0] == numbers[5]
    assert len(set(numbers.tolist())) == 5
    wild = Batch(torch.where(batch.mask, batch.values, 99), batch.mask)
    assert torch.equal(wild.keys(), numbers)
