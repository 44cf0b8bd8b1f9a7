"""Products of patches by shorter ways are those of patches."""

import math

import pytest
import torch
from torch import nn

from intermodal.errors import InvalidValue
from intermodal.layers.patched import of_merged, of_small
from intermodal.layers.stem import patches


@pytest.mark.parametrize(("grid", "patch"), [((6,), (3,)), ((6, 4), (3, 2)), ((4, 6, 2), (2, 3, 1))])
def test_shorter_ways_give_the_products_of_patches(grid: tuple[int, ...], patch: tuple[int, ...]) -> None:
    values, product = torch.randn(2, 5, *grid), nn.Linear(5 * math.prod(patch), 7)
    wanted = product(patches(values, patch))
    torch.testing.assert_close(of_small(values, product, patch), wanted)
    torch.testing.assert_close(of_merged(values.movedim(1, -1), product, patch), wanted)
    with pytest.raises(InvalidValue, match="no multiple of the patch"):
        of_small(values[..., :1].expand(*values.shape[:-1], 7), product, [2] * len(patch))
