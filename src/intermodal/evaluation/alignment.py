"""Alignment: how two sets of vectors of the same items lie to each other, without any query.

Row i of both is one item. Canonical correlation and centred kernel alignment ask whether they tell the same up to a
linear map or a rotation, and take any widths; the others look at unit vectors in one space.
"""

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array

_ROWS = 1024  # compared at once by ``uniformity``


def canonical_correlations(
    x: Float[Array, "N D"], y: Float[Array, "N E"], regularisation: float = 0.0
) -> Float[np.ndarray, " K"]:
    """Returns the correlations of the best matching directions, highest first, each 0 to 1.

    There are as many as the lower of the two ranks. Whatever invertible linear map is applied to either side changes
    nothing (without regularisation).

    Args:
        x: one row per item.
        y: one row per item.
        regularisation: added to every variance, as a share of that side's mean variance, 0 or more. Without it, the
            fewer items per dimension, the higher the correlations of any data.

    Raises:
        InvalidValue: values that are not finite, or without regularisation no more items than both ranks together.

    Source: Hotelling 1936, "Relations between two sets of variates"; by singular values: Björck, Golub 1973; ridge:
    Vinod 1976.
    """
    a, b = _checked(x, y, rows=2)
    if not regularisation >= 0.0:
        raise InvalidValue(f"regularisation is {regularisation}; give 0 or more")
    left, right = _whitened(a, regularisation), _whitened(b, regularisation)
    if regularisation == 0.0 and left.shape[1] + right.shape[1] > len(a) - 1:
        raise InvalidValue(
            f"{len(a)} items in {left.shape[1]} and {right.shape[1]} dimensions correlate perfectly whatever they are; "
            "give more items than both together, or a regularisation above 0"
        )
    correlations: NDArray[np.floating] = np.linalg.svd(left.T @ right, compute_uv=False)
    return correlations.clip(0.0, 1.0)


def _whitened(x: NDArray[np.float64], regularisation: float) -> NDArray[np.float64]:
    """Returns the centred rows turned and scaled so that all directions vary alike (less where regularised)."""
    centred = x - x.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    ridge = regularisation * float(np.square(s).sum()) / x.shape[1]
    kept = s > max(x.shape) * np.finfo(np.float64).eps * max(float(s.max(initial=0.0)), float(np.abs(x).max()))
    scaled: NDArray[np.float64] = u[:, kept] * (s[kept] / np.sqrt(np.square(s[kept]) + ridge))
    return scaled


def linear_cka(x: Float[Array, "N D"], y: Float[Array, "N E"], unbiased: bool = False) -> float:
    """Returns the linear centred kernel alignment: 1 for equal up to rotation, shift and scale.

    Args:
        x: one row per item.
        y: one row per item.
        unbiased: without it the value is 0 to 1 and grows towards 1 with few items in many dimensions, even for
            unrelated data. With it unrelated data give about 0, at times less; needs at least 4 items.

    Raises:
        InvalidValue: too few rows, values that are not finite, or a side on which all items are the same.

    Source: Kornblith et al. 2019, arXiv 1905.00414, section 3; the unbiased estimator: Song et al. 2012, "Feature
    selection via dependence maximization", eq. 5, as used by Nguyen et al. 2020, arXiv 2010.15327.
    """
    a, b = _checked(x, y, rows=4 if unbiased else 2)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    measure = _unbiased_dependence if unbiased else _dependence
    own = measure(a, a) * measure(b, b)
    if not own > 1e-24:
        raise InvalidValue("one side does not vary over the items; alignment needs items that differ on both sides")
    return measure(a, b) / math.sqrt(own)


def _dependence(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Returns the squared norm of the cross-covariance: the linear HSIC up to a factor, never an N x N matrix."""
    return float(np.square(a.T @ b).sum())


def _unbiased_dependence(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Returns the unbiased linear HSIC up to a factor, from sums over features; no N x N matrix."""
    n = len(a)
    own_a, own_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    row_a, row_b = a @ a.sum(axis=0) - own_a, b @ b.sum(axis=0) - own_b
    pairs = _dependence(a, b) - own_a @ own_b
    return float(pairs + row_a.sum() * row_b.sum() / ((n - 1) * (n - 2)) - 2.0 / (n - 2) * row_a @ row_b)


def modality_gap(a: Float[Array, "A D"], b: Float[Array, "B D"]) -> float:
    """Returns the distance between the two centres, 0 to 2 for unit rows; rows need not be paired.

    Raises:
        InvalidValue: a side without rows, other widths, or values that are not finite.

    Source: Liang et al. 2022, arXiv 2203.02053, section 4.2.
    """
    left, right = _finite(a), _finite(b)
    if left.shape[1] != right.shape[1]:
        raise InvalidValue(f"the widths are {left.shape[1]} and {right.shape[1]}; both sides must lie in one space")
    return float(np.linalg.norm(left.mean(axis=0) - right.mean(axis=0)))


def alignment(a: Float[Array, "N D"], b: Float[Array, "N D"], exponent: float = 2.0) -> float:
    """Returns the mean distance of partners, to the power ``exponent``: 0 where they coincide, at most 4 for squares.

    Raises:
        InvalidValue: no rows or values that are not finite.

    Source: Wang, Isola 2020, arXiv 2005.10242, section 4.1.
    """
    left, right = _checked(a, b, rows=1)
    return float((np.linalg.norm(left - right, axis=1) ** exponent).mean())


def uniformity(x: Float[Array, "N D"], sharpness: float = 2.0) -> float:
    """Returns the logarithm of the mean of ``exp(-sharpness * squared distance)`` over all pairs of different rows.

    0 where all rows are the same; the lower, the more evenly unit rows are spread over the sphere (down to about
    ``-2 * sharpness`` in many dimensions).

    Raises:
        InvalidValue: fewer than 2 rows or values that are not finite.

    Source: Wang, Isola 2020, arXiv 2005.10242, section 4.1 (t is ``sharpness``).
    """
    rows, _ = _checked(x, x, rows=2)
    squares = np.square(rows).sum(axis=1)
    total = 0.0
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        distances = np.maximum(squares[block, None] + squares - 2.0 * rows[block] @ rows.T, 0.0)
        own = np.arange(len(distances))
        distances[own, own + start] = np.inf
        total += float(np.exp(-sharpness * distances).sum())
    return math.log(max(total, np.finfo(np.float64).tiny) / (len(rows) * (len(rows) - 1)))


def mutual_information_bound(info_nce_loss: float, candidates: int) -> float:
    """Returns a lower bound, in nats, of what the two sides of a pair tell of each other: ``ln candidates - loss``.

    It cannot exceed ``ln candidates``, however much there is: reaching that says only that more candidates are needed.
    Below 0 it says nothing.

    Args:
        info_nce_loss: the mean loss over held-out pairs, in nats, each against ``candidates`` of which one is right.
        candidates: the partner and its negatives, at least 2.

    Raises:
        InvalidValue: fewer than 2 candidates, or a loss that is negative or not finite.

    Source: van den Oord et al. 2018, arXiv 1807.03748, section 2.3; the cap: Poole et al. 2019, arXiv 1905.06922.
    """
    if candidates < 2 or not 0.0 <= info_nce_loss < math.inf:
        raise InvalidValue(
            f"the loss is {info_nce_loss} over {candidates} candidates; give a finite loss of 0 or more and at least 2"
        )
    return math.log(candidates) - info_nce_loss


def _finite(x: Array) -> NDArray[np.float64]:
    rows = np.asarray(x, dtype=np.float64)
    if not rows.size or not np.isfinite(rows).all():
        raise InvalidValue(f"{rows.shape[0]} rows of width {rows.shape[1]} hold nothing, or values that are not finite")
    return rows


def _checked(x: Array, y: Array, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _finite(x), _finite(y)
    if len(a) != len(b) or len(a) < rows:
        raise InvalidValue(f"there are {len(a)} and {len(b)} rows; give equally many on both sides, at least {rows}")
    return a, b
