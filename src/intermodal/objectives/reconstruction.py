"""How far a grid is from the one it should be.

``distance`` weighs cells, so that what stands out counts and padding does not; ``slopes`` compares the differences
between neighbours at several scales, which keeps edges sharp and leaves noise alone.

Sources: the mean of absolute and squared error as in Esser et al. 2020, arXiv 2012.09841 (its adversarial part is left
out); gradients compared scale by scale as in Li and Snavely 2018, arXiv 1804.00607, section 4.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def prominence(
    truth: Float[Tensor, "B C ..."], real: Float[Tensor, "B ..."], strength: float
) -> Float[Tensor, "B ..."]:
    """Returns a weight per cell: 1 for what looks like the mean of its item, ``1 + strength`` for what is far from it.

    A cell that differs by twice the item's standard deviation in any channel has the full weight; padding has 0.

    Args:
        truth: media grids.
        real: 1 where a cell is real, else 0.
        strength: 0 gives all real cells the weight 1.
    """
    if not strength:
        return real
    axes = tuple(range(2, truth.dim()))
    count = real.sum(dim=tuple(range(1, real.dim())), keepdim=True).clamp(min=1)[:, None]
    centred = (truth - (truth * real[:, None]).sum(dim=axes, keepdim=True) / count) * real[:, None]
    spread = (centred.square().sum(dim=axes, keepdim=True) / count).sqrt()
    away = (centred.abs() / (2 * spread + 1e-6)).amax(dim=1).clamp(max=1)
    return real * (1 + strength * away)


def distance(
    guess: Float[Tensor, "B C ..."], truth: Float[Tensor, "B C ..."], weights: Float[Tensor, "B ..."]
) -> Float[Tensor, ""]:
    """Returns the mean over cells and channels of absolute plus squared error; 0 where all weights are 0."""
    away = guess - truth
    error = (away.abs() + away.square()).mean(dim=1)
    return (error * weights).sum() / weights.sum().clamp(min=1)


def slopes(
    guess: Float[Tensor, "B C ..."],
    truth: Float[Tensor, "B C ..."],
    weights: Float[Tensor, "B ..."],
    scales: int = 5,
) -> Float[Tensor, ""]:
    """Returns the mean absolute error of the differences between neighbours along each axis, over several scales.

    Args:
        guess: media grids.
        truth: what they should be.
        weights: per cell; a difference counts with the lesser of its two cells.
        scales: the grid itself, then each time half as fine along axes that are long enough.
    """
    away, total, terms = guess - truth, guess.new_zeros(()), 0
    for scale in range(scales):
        if scale:
            size = tuple(2 if n >= 4 else 1 for n in away.shape[2:])
            if max(size) == 1:
                break
            away, weights = _pooled(away, size), _pooled(weights[:, None], size)[:, 0]
        for axis in range(2, away.dim()):
            if away.shape[axis] > 1:
                step = away.diff(dim=axis).abs().mean(dim=1)
                n = weights.shape[axis - 1]
                both = torch.minimum(weights.narrow(axis - 1, 0, n - 1), weights.narrow(axis - 1, 1, n - 1))
                total = total + (step * both).sum() / both.sum().clamp(min=1)
                terms += 1
    return total / max(1, terms)


def _pooled(values: Float[Tensor, "B C ..."], size: tuple[int, ...]) -> Float[Tensor, "B C ..."]:
    """Returns the mean over blocks of cells."""
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(size) - 1]
    pooled: Tensor = pool(values, size)
    return pooled
