"""Rows in groups go through a transformer's blocks as they do by themselves."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from intermodal.layers.attention import Attention, visible
from intermodal.layers.block import Block, Norms
from intermodal.layers.grouped import LENGTHS, attend_groups, by_length, in_groups
from intermodal.layers.pooling import pool_mean


def uneven(counts: Sequence[int]) -> Tensor:
    """Returns a mask of rows of so many tokens."""
    return torch.arange(max(counts)) < torch.tensor(counts)[:, None]


def test_rows_of_similar_length_go_together_and_each_goes_once() -> None:
    torch.manual_seed(0)
    counts = (torch.randn(128) * 0.3 + 2.6).exp().round().clamp(2, 60).int().tolist()
    mask = uneven([*counts, 0])
    groups = by_length(mask)
    assert 3 <= len(groups) <= 8
    assert sorted(torch.cat([rows for rows, _ in groups]).tolist()) == list(range(129))
    for rows, length in groups:
        assert 0 <= length - int(mask[rows].sum(dim=1).max()) < LENGTHS
        assert length % LENGTHS == 0 or length == mask.shape[1]
    assert sum(len(rows) * length for rows, length in groups) < 1.35 * sum(counts)
    for alike in (uneven([7] * 50), uneven([3, 4]), uneven([3, 9] * 40).flip(1), uneven([4])):
        assert len(by_length(alike)) == 1


def test_batches_of_many_lengths_need_few_sizes_of_products() -> None:
    sizes, shapes = set(), set()
    block = Block(16, 2)
    block.mlp_in.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
    for seed in range(60):
        torch.manual_seed(seed)
        counts = (torch.randn(128) * 0.3 + 2.6).exp().round().clamp(2, 40).int().tolist()
        mask = uneven(counts)
        groups = by_length(mask)
        in_groups([block], nn.Identity(), pool_mean, torch.randn(*mask.shape, 16), mask, groups, False)
        shapes |= {(len(rows), length) for rows, length in groups}
    assert len(sizes) <= 4
    assert len(shapes) <= 60


@pytest.mark.parametrize("after", [False, True])
def test_blocks_in_groups_equal_blocks(after: bool) -> None:
    torch.manual_seed(0)
    mask = uneven([3, 30, 5, 4, 28, 0, 3, 12] * 4)
    blocks, norm = [Block(16, 2, norms=Norms(after)) for _ in range(2)], nn.LayerNorm(16)
    x = torch.randn(*mask.shape, 16)
    found = in_groups(blocks, norm, pool_mean, x, mask, by_length(mask), False)
    for block in blocks:
        x = block(x, mask)
    assert found.mask is mask
    torch.testing.assert_close(found.tokens[mask], norm(x)[mask])
    torch.testing.assert_close(found.pooled, pool_mean(norm(x), mask))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_rows_in_groups_attend_as_rows_by_themselves(bf16: bool, causal: bool) -> None:
    torch.manual_seed(0)
    layer = Attention(16, 2)
    rows = [torch.randn(3, 4, 16), torch.randn(2, 7, 16)]
    mask = torch.arange(7) < torch.tensor([7, 5])[:, None]
    packed = torch.cat([*(x.flatten(0, 1) for x in rows), torch.randn(5, 16)])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = attend_groups(layer, packed, [(3, 4), (2, 7)], [None, visible(mask, causal)], causal)
        wanted = [layer(rows[0], causal=causal), layer(rows[1], mask, causal=causal)]
        beyond = layer.out(torch.zeros(1, 16)).expand(5, -1)
    tolerance = 2e-2 if bf16 else 1e-5
    every = torch.cat([*(x.flatten(0, 1) for x in wanted), beyond])
    torch.testing.assert_close(found, every, rtol=tolerance, atol=tolerance)
