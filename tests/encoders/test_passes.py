"""Rows on their way through an encoder: which go together, and how many different numbers of tokens there are."""

import torch

from intermodal.encoders import passes


def test_few_different_numbers_of_tokens_and_little_that_is_filled_up() -> None:
    sizes = {count: len(passes.filled(torch.ones(count, 3))) for count in range(1, passes.TOKENS + 1)}
    assert len(set(sizes.values())) < 64
    assert all(0 <= size - count < 2 * passes.STEP for count, size in sizes.items())
    assert max(size / count for count, size in sizes.items() if count > 256) < 1.13
    assert sizes[32] == 32
    assert float(passes.filled(torch.ones(5, 3)).sum()) == 15  # what is filled up is zero


def test_a_pass_has_about_so_many_tokens_and_at_least_a_row() -> None:
    counts = [900, 600, 200, 5000, 10]
    assert passes.passes(range(5), counts) == [[0, 1], [2], [3], [4]]


def test_rows_of_one_length_stand_together() -> None:
    found = passes.grouped([4, 4, 6], 1)
    assert found == [passes.Rows(0, 1, 1), passes.Rows(1, 2, 3, 1), passes.Rows(7, 1, 5, 1)]
