"""Products of patches by shorter ways than cutting these out: what ``stem.patches`` and a linear layer say, sooner."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue

CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
"""Convolutions, by how many axes they have."""


def check_cover(sizes: Sequence[int], patch: Sequence[int]) -> None:
    """Raises InvalidValue where patches do not cover a grid."""
    if any(size % step for size, step in zip(sizes, patch, strict=True)):
        raise InvalidValue(f"a grid of {tuple(sizes)} is no multiple of the patch {tuple(patch)}; pad or resize it")


def of_small(values: Float[Tensor, "B C ..."], product: nn.Linear, patch: Sequence[int]) -> Float[Tensor, "B ..."]:
    """Returns ``product(patches(values, patch))`` as a convolution: to cut small patches costs more than the product.

    Args:
        values: a grid, channels first.
        product: of a patch.
        patch: its cells per axis.

    Raises:
        InvalidValue: the patches do not cover the grid.
    """
    check_cover(values.shape[2:], patch)
    weight = product.weight.view(-1, values.shape[1], *patch)
    found: Tensor = CONVOLVE[len(patch) - 1](values, weight, product.bias, stride=tuple(patch))
    return found.movedim(1, -1)


def of_merged(x: Float[Tensor, "B ..."], product: nn.Linear, patch: Sequence[int]) -> Float[Tensor, "B ..."]:
    """Returns ``product(patches(x.movedim(-1, 1), patch))`` of ``(B, *grid, C)``; channels stay together when cut."""
    rank, channels = len(patch), x.shape[-1]
    weight = product.weight.view(-1, channels, *patch).movedim(1, -1).flatten(1)
    split = [n for size, step in zip(x.shape[1:-1], patch, strict=True) for n in (size // step, step)]
    order = [0, *range(1, 1 + 2 * rank, 2), *range(2, 2 + 2 * rank, 2), 1 + 2 * rank]
    cells = x.reshape(x.shape[0], *split, channels).permute(order).flatten(1 + rank)
    return F.linear(cells, weight, product.bias)
