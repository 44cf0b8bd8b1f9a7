"""Texts one behind the other: no gaps, and every id knows its text and its place."""

import torch

from intermodal.layers.stream import streamed
from intermodal.types import Batch


def batch(*rows: list[int]) -> Batch:
    """Returns ids padded with zeros."""
    width = max(1, *map(len, rows))
    values = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return Batch(values, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None])


TEXTS = [batch([1, 5, 2], [], [1, 2]), batch([1, 7, 8, 2], [1, 9, 2], []), batch([1, 2], [1, 6, 2], [])]


def test_texts_follow_each_other_without_gaps() -> None:
    stream = streamed(TEXTS)
    found = [stream.ids[i][stream.mask[i]].tolist() for i in range(3)]
    assert found == [[1, 5, 2, 1, 7, 8, 2, 1, 2], [1, 9, 2, 1, 6, 2], [1, 2]]
    assert bool((stream.mask[:, 1:] <= stream.mask[:, :-1]).all())


def test_lengths_repeat_and_are_no_longer_than_all_texts() -> None:
    assert streamed(TEXTS).ids.shape[1] == 10  # of texts of at most 3, 4 and 3 ids
    long = [batch([1] * 20, [1]), batch([1], [1] * 20)]
    assert streamed(long).ids.shape[1] == 32
    assert int(streamed(long).mask.sum(dim=1).max()) == 21


def test_numbers_count_the_texts_that_are_there() -> None:
    stream = streamed(TEXTS)
    assert stream.number[1][stream.mask[1]].tolist() == [0, 0, 0, 1, 1, 1]
    assert stream.slot[1][stream.mask[1]].tolist() == [1, 1, 1, 2, 2, 2]
    assert stream.place[0][stream.mask[0]].tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]


def test_all_but_the_begin_of_each_text_is_told() -> None:
    stream = streamed(TEXTS)
    assert stream.told[1].tolist() == [True, True, False, True, True, False, False, False, False]
    assert int(stream.told.sum()) == 2 + 3 + 1 + 2 + 2 + 1


def test_the_last_id_of_each_row_can_be_taken_off() -> None:
    before, last = streamed(TEXTS).begun()
    assert last.ids[:, 0].tolist() == [2, 2, 2]
    assert last.place[:, 0].tolist() == [1, 2, 1]
    assert before.mask.sum(dim=1).tolist() == [8, 5, 1]
    assert before.rows(torch.tensor([2, 0])).mask.sum(dim=1).tolist() == [1, 8]
