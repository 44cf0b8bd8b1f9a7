"""How fields are written in one vocabulary."""

import pytest
import torch
from torch.nn import functional as F

from intermodal.decoders.spelling import (
    Source,
    Speller,
    Spelt,
    code_spelling,
    grid_of,
    positions_read,
    spell_codes,
    spell_text,
    text_spelling,
)
from intermodal.types import Batch


def test_ranges_follow_each_other_without_a_gap() -> None:
    text = text_spelling(0, 10, 1, 2)
    assert (text.begin, text.starts, text.sizes, text.end, text.stop) == (0, (1,), (10,), 2, 11)
    codes = code_spelling(text.stop, 5, 3, ends=True)
    assert (codes.begin, codes.starts, codes.sizes, codes.end) == (11, (12, 18, 23), (6, 5, 5), 0)
    assert codes.stop == 28
    fixed = code_spelling(codes.stop, 5, 2, ends=False)
    assert (fixed.starts, fixed.sizes, fixed.end) == ((29, 34), (5, 5), None)


def test_texts_lose_their_begin_and_get_it_back() -> None:
    batch = Batch(torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]), torch.tensor([[True] * 4, [True, True, True, False]]))
    spelt = spell_text(batch)
    assert spelt.choices[..., 0].tolist() == [[5, 6, 2], [7, 2, 0]]
    assert spelt.real[..., 0].tolist() == [[True, True, True], [True, True, False]]
    words = torch.tensor([[True, True, False], [True, False, False]])
    assert text_spelling(0, 10, 1, 2).own_ids(spelt.choices, words).tolist() == [[1, 5, 6, 2], [1, 7, 2, 2]]


def test_codes_end_where_they_have_no_fixed_length_and_come_back() -> None:
    ids = torch.tensor([[[4, 0], [3, 1]], [[2, 2], [0, 0]], [[0, 0], [0, 0]]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    fixed = spell_codes(Batch(ids, mask), ends=False)
    assert fixed.choices[0].tolist() == [[4, 0], [3, 1]]
    assert torch.equal(code_spelling(7, 5, 2, ends=False).own_ids(fixed.choices, mask), ids * mask[..., None])
    assert fixed.real[1].tolist() == [[True, True], [False, False]]
    spelt = spell_codes(Batch(ids, mask), ends=True)
    assert spelt.choices.shape == (3, 3, 2)
    assert spelt.choices[0].tolist() == [[5, 0], [4, 1], [0, 0]]
    assert spelt.choices[1, :2].tolist() == [[3, 2], [0, 0]]
    assert spelt.real[1].tolist() == [[True, True], [True, False], [False, False]]
    assert not bool(spelt.real[2].any())
    back = code_spelling(7, 5, 2, ends=True).own_ids(spelt.choices[:, :2], mask)
    assert torch.equal(back, ids * mask[..., None])


def looking(speller: Speller, rows: int) -> Source:
    """Returns five given tokens, one of which is not real in the last row, that a speller has learnt to look at."""
    torch.nn.init.normal_(speller.look.out.weight)
    mask = torch.ones(rows, 5, dtype=torch.bool)
    mask[-1, 0] = False
    return speller.source(torch.randn(rows, 5, 8), mask)


@torch.no_grad()
@pytest.mark.parametrize("ends", [False, True])
def test_the_likelihood_is_that_of_a_loop_over_every_id(ends: bool) -> None:
    torch.manual_seed(0)
    spelling = code_spelling(3, 4, 3, ends)
    table, speller = torch.randn(spelling.stop, 8), Speller(8, 3, 2)
    batch = Batch(torch.randint(4, (2, 3, 3)), torch.tensor([[True] * 3, [True, True, False]]))
    spelt = spell_codes(batch, ends)
    count, source = spelt.choices.shape[1], looking(speller, 2)
    x = torch.randn(2, count, 8)
    found = speller.log_likelihood(x, table, spelling, spelt, source)
    for row in range(2):
        expected = 0.0
        own = source.rows(torch.tensor([row]))
        for place in range(count):
            chosen = torch.zeros(1, 1, 8)
            for group in range(3):
                start, size = spelling.starts[group], spelling.sizes[group]
                hidden = speller(x[row, place][None, None], chosen, speller.marks[group, None], own)
                logits = hidden[0, 0] @ table[start : start + size].T
                choice = spelt.choices[row, place, group]
                if bool(spelt.real[row, place, group]):
                    expected += float(logits.log_softmax(-1)[choice])
                chosen = chosen + table[start + choice]
        assert abs(float(found[row]) - expected) < 1e-4


@torch.no_grad()
def test_a_speller_sees_what_is_real_of_its_own_row_and_begins_without() -> None:
    torch.manual_seed(0)
    speller = Speller(8, 1, 2)
    x, chosen, tokens = torch.randn(2, 3, 8), torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, False, False], [False] * 4])

    def spelt(tokens: torch.Tensor) -> torch.Tensor:
        return speller(x, chosen, speller.marks.expand(3, -1), speller.source(tokens, mask))

    torch.testing.assert_close(spelt(tokens), spelt(torch.randn(2, 4, 8)))  # a fresh one has not learnt to look
    torch.nn.init.normal_(speller.look.out.weight)
    before, other = spelt(tokens), tokens.clone()
    other[0, 2:], other[1] = 9.0, 9.0
    torch.testing.assert_close(before, spelt(other))
    other[0, 1] = 9.0
    assert not torch.allclose(before[0], spelt(other)[0])
    assert bool(before.isfinite().all())


@torch.no_grad()
def test_what_is_not_real_adds_nothing() -> None:
    speller, spelling = Speller(8, 1, 2), text_spelling(0, 6, 0, 1)
    x, table, source = torch.randn(1, 4, 8), torch.randn(spelling.stop, 8), looking(speller, 1)
    choices = torch.tensor([[2, 3, 1, 5]])[..., None]
    real = torch.tensor([[True, True, True, False]])[..., None]
    one = speller.log_likelihood(x, table, spelling, Spelt(choices, real), source)
    other = choices.clone()
    other[0, 3] = 0
    assert torch.equal(one, speller.log_likelihood(x, table, spelling, Spelt(other, real), source))


def test_positions_are_the_sum_of_their_ids_and_grids_are_found() -> None:
    table = torch.randn(9, 4)
    ids = torch.tensor([[[1, 8], [0, 3]]])
    torch.testing.assert_close(positions_read(table, ids)[0, 1], table[0] + table[3])
    torch.testing.assert_close(positions_read(table, ids), F.embedding(ids, table).sum(2))
    assert grid_of((4, 4), 16) == (4, 4)
    assert grid_of((1, 0), 7) == (1, 7)
    assert grid_of((64,), 5) == (5,)
    assert grid_of((0,), 5) == (5,)
