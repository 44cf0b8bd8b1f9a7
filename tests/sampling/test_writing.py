"""Writing with a memory is what writing without one would be."""

import pytest
import torch
from torch import Tensor

from intermodal.decoders.spelling import Source, Speller, code_spelling, text_spelling
from intermodal.decoders.vocabulary import Writer
from intermodal.errors import InvalidValue
from intermodal.layers.block import Block
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.writing import Cache, extended, write

WIDTH = 16


def empty(rows: int, room: int, layers: int = 2) -> Cache:
    nothing = [torch.zeros(rows, 2, 0, WIDTH // 2) for _ in range(layers)]
    return Cache(nothing, nothing, torch.zeros(rows, 0, dtype=torch.bool), room)


@torch.no_grad()
def test_tokens_one_by_one_are_a_causal_sequence() -> None:
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList(Block(WIDTH, 2) for _ in range(2)).eval()
    x = torch.randn(3, 7, WIDTH)
    whole = x
    for block in blocks:
        whole = block(whole, causal=True)
    cache = empty(3, 7)
    steps = [extended(blocks, cache, x[:, i : i + 1]) for i in range(4)]
    steps.append(extended(blocks, cache, x[:, 4:]))  # several at once
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    with pytest.raises(InvalidValue, match="8 tokens do not fit a cache for 7"):
        extended(blocks, cache, x[:, :1])


@torch.no_grad()
def test_rows_of_a_cache_go_on_by_themselves() -> None:
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList(Block(WIDTH, 2) for _ in range(2)).eval()
    x, y = torch.randn(2, 3, WIDTH), torch.randn(3, 1, WIDTH)
    cache = empty(2, 4)
    extended(blocks, cache, x)
    index = torch.tensor([1, 1, 0])
    found = extended(blocks, cache.rows(index), y)
    for row in range(3):
        alone = empty(1, 4)
        extended(blocks, alone, x[index[row] : index[row] + 1])
        torch.testing.assert_close(found[row : row + 1], extended(blocks, alone, y[row : row + 1]))


class Same(Speller):
    """Says what the transformer says."""

    def forward(self, x: Tensor, chosen: Tensor, marks: Tensor, source: Source) -> Tensor:
        return x


def counting(ends: bool, groups: int = 1, rows: int = 2) -> tuple[Writer, list[Tensor]]:
    """Returns a writer whose vocabulary is easy to follow, and a list that its steps are noted in."""
    torch.manual_seed(0)
    spelling = text_spelling(0, 6, 0, 1) if ends and groups == 1 else code_spelling(0, 4, groups, ends)
    speller, table = Speller(8, groups, 2), torch.randn(spelling.stop, 8)
    return Writer(speller, table, spelling, torch.zeros(5, 8), nothing(speller, rows)), []


def nothing(speller: Speller, rows: int) -> Source:
    """Returns what a speller looks at where nothing is given."""
    return speller.source(torch.zeros(rows, 0, 8), torch.zeros(rows, 0, dtype=torch.bool))


@torch.no_grad()
def test_what_enters_is_the_begin_and_then_what_was_chosen() -> None:
    writer, entered = counting(ends=False, groups=2)

    def step(x: Tensor) -> Tensor:
        entered.append(x[:, 0])
        return x

    *_, last = write(step, writer, Sampling(), torch.arange(2))
    assert last.choices.shape == (2, 5, 2)
    assert last.lengths.tolist() == [5, 5]
    assert last.ids.tolist() == [10, 10]
    assert not bool(last.done.any())  # what has a fixed length never ends
    torch.testing.assert_close(entered[0], writer.table[0].expand(2, -1))
    ids = writer.spelling.ids(last.choices)
    torch.testing.assert_close(entered[3], writer.table[ids[:, 2]].sum(dim=1))


@torch.no_grad()
def test_a_row_that_has_ended_counts_no_more() -> None:
    writer, _ = counting(ends=True)
    script = [[2, 3], [4, 1], [1, 5], [3, 3], [5, 5]]  # the first row ends at place 2, the second at place 1
    place = iter(script)

    def step(x: Tensor) -> Tensor:
        wanted = torch.tensor(next(place))
        return writer.table[1 + wanted][:, None]

    unit = writer.table / writer.table.norm(dim=1, keepdim=True)
    writer = Writer(Same(8, 1, 2), unit, writer.spelling, writer.places, writer.source)
    *_, last = write(step, writer, Sampling(), torch.arange(2))
    assert last.lengths.tolist() == [2, 1]
    assert last.ids.tolist() == [3, 2]
    assert last.choices.shape[1] == 3  # nobody waits for places that no row needs
    assert last.choices[0, :, 0].tolist() == [2, 4, 1]
    assert bool(last.done.all())


@torch.no_grad()
def test_candidates_of_one_number_are_equal_wherever_they_stand() -> None:
    sampling = Sampling(temperature=1.0, seed=3)
    *_, three = write(lambda x: x, counting(ends=False, groups=2, rows=3)[0], sampling, torch.tensor([0, 1, 0]))
    *_, alone = write(lambda x: x, counting(ends=False, groups=2, rows=1)[0], sampling, torch.tensor([1]))
    assert torch.equal(three.choices[0], three.choices[2])
    assert torch.equal(three.choices[1], alone.choices[0])
    assert not torch.equal(three.choices[0], three.choices[1])
