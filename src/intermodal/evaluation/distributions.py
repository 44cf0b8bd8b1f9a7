"""Distributions: how far a set of generated items is from a set of real ones, through features of some network.

Every function takes features, one row per item, and gives a ``FeatureFigures``, because the number means nothing
without the network, its width and the counts. Sizes at which a figure is only noise are refused.

Compare figures only at equal networks, layers, preprocessing and counts. The published FID uses 50,000 items and 2,048
features of one port of Inception v3; with other features the same formula is another figure.

Source: Fréchet distance: Heusel et al. 2017, arXiv 1706.08500, eq. 6; Dowson, Landau 1982. Kernel distance: Bińkowski
et al. 2018, arXiv 1801.01401, section 4. Inception score: Salimans et al. 2016, arXiv 1606.03498, section 4. Precision
and recall: Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 2. Density and coverage: Naeem et al. 2020, arXiv
2002.09797, section 3.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array
from intermodal.evaluation.features import FeatureFigures, feature_rows

_ROWS = 1024  # compared at once
_GROUPS = 10  # of items, left out one at a time for the error of the kernel distance


def frechet_distance(real: Num[Array, "R D"], generated: Num[Array, "G D"], network: str) -> FeatureFigures:
    """Returns ``frechet_distance``: between the normal distributions of equal mean and covariance; 0 if these agree.

    It falls with the number of items even where nothing else changes: the bias is about proportional to 1 / count.

    Args:
        real: features of real items.
        generated: features of generated items.
        network: what made the features.

    Raises:
        InvalidValue: a side has no more items than there are features (its covariance is then singular whatever the
            items are), the widths differ, or values are not finite.
    """
    a, b = _both(real, generated)
    width = a.shape[1]
    for what, rows in (("real", a), ("generated", b)):
        if len(rows) <= width:
            raise InvalidValue(
                f"{len(rows)} {what} items with {width} features leave their covariance singular; give more items than "
                "features (ten times as many or more), or a network with fewer features"
            )
    value = gaussian_distance(a.mean(axis=0), _covariance(a), b.mean(axis=0), _covariance(b))
    return FeatureFigures({"frechet_distance": value}, network, width, len(b), len(a))


def _covariance(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    product: NDArray[np.float64] = centred.T @ centred / (len(rows) - 1)
    return product


def gaussian_distance(
    mean: Float[np.ndarray, " D"],
    covariance: Float[np.ndarray, "D D"],
    other_mean: Float[np.ndarray, " D"],
    other_covariance: Float[np.ndarray, "D D"],
) -> float:
    """Returns the squared Fréchet distance (2-Wasserstein) of two normal distributions, such as published statistics.

    The trace of the square root of the product of the covariances is the sum of the singular values of the product of
    their own roots. Roots come from eigenvalues, negative ones (rounding) taken for 0; so nothing has to be inverted,
    nothing becomes complex, and singular covariances need no added constant.

    Raises:
        InvalidValue: values that are not finite, or a covariance with a clearly negative eigenvalue.
    """
    left, right = _root(covariance), _root(other_covariance)
    shared = float(np.linalg.svd(left.T @ right, compute_uv=False).sum())
    apart = np.square(np.asarray(mean, np.float64) - np.asarray(other_mean, np.float64)).sum()
    return max(0.0, float(apart + np.square(left).sum() + np.square(right).sum() - 2.0 * shared))


def _root(covariance: Float[np.ndarray, "D D"]) -> NDArray[np.float64]:
    """Returns a matrix whose product with its own transpose is ``covariance``."""
    matrix = np.asarray(covariance, np.float64)
    if not np.isfinite(matrix).all():
        raise InvalidValue("a covariance holds values that are not finite; check the features it was taken from")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -1e-6 * max(float(values[-1]), 0.0):
        raise InvalidValue(f"a covariance has the eigenvalue {values[0]:.3g}; one of real data has none below 0")
    root: NDArray[np.float64] = vectors * np.sqrt(values.clip(0.0))
    return root


def kernel_distance(real: Num[Array, "R D"], generated: Num[Array, "G D"], network: str) -> FeatureFigures:
    """Returns ``kernel_distance`` and ``kernel_distance_error``: the squared maximum mean discrepancy, without bias.

    The kernel is the cube of (dot product / width + 1). The value uses all pairs, and no bias falls with the counts, so
    it may be slightly negative where the sets agree. The error is its standard error, by leaving out a tenth of both
    sides at a time (jackknife); where the sets agree it is rather too large. Papers often print the distance times
    1,000, and as a mean over random subsets of 1,000 items, which has the same expectation.

    Raises:
        InvalidValue: fewer than 20 items on a side, other widths, or values that are not finite.
    """
    a, b = _both(real, generated)
    if min(len(a), len(b)) < 2 * _GROUPS:
        raise InvalidValue(
            f"{len(a)} real and {len(b)} generated items are too few for a kernel distance and its error; give "
            f"at least {2 * _GROUPS} of each, better 1,000"
        )
    order = np.random.default_rng(0)  # of sorted items the groups would differ
    a, b = a[order.permutation(len(a))], b[order.permutation(len(b))]
    sums = _kernel_sums(a, a, left_out=True), _kernel_sums(b, b, left_out=True), _kernel_sums(a, b, left_out=False)
    sizes = np.diff(_edges(len(a))), np.diff(_edges(len(b)))
    everything = np.ones(_GROUPS, bool)
    without = [_discrepancy(sums, sizes, everything & (np.arange(_GROUPS) != g)) for g in range(_GROUPS)]
    error = np.sqrt((_GROUPS - 1) * np.var(without))
    figures = {
        "kernel_distance": _discrepancy(sums, sizes, everything),
        "kernel_distance_error": float(error),
    }
    return FeatureFigures(figures, network, a.shape[1], len(b), len(a))


def _edges(count: int) -> NDArray[np.int64]:
    """Returns where each group of ``count`` items begins, and where the last one ends."""
    return np.linspace(0, count, _GROUPS + 1).astype(np.int64)


def _kernel_sums(a: NDArray[np.float64], b: NDArray[np.float64], left_out: bool) -> NDArray[np.float64]:
    """Returns the sum of the kernel between each two groups; ``left_out``: without that of an item with itself."""
    width, edges, others = a.shape[1], _edges(len(a)), _edges(len(b))[:-1]
    sums = np.zeros((_GROUPS, _GROUPS))
    for g, (start, stop) in enumerate(pairwise(edges.tolist())):
        for first in range(start, stop, _ROWS):
            rows = a[first : min(first + _ROWS, stop)]
            sums[g] += np.add.reduceat(((rows @ b.T / width + 1.0) ** 3).sum(axis=0), others)
        if left_out:
            sums[g, g] -= ((np.square(a[start:stop]).sum(axis=1) / width + 1.0) ** 3).sum()
    return sums


def _discrepancy(
    sums: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
    kept: NDArray[np.bool_],
) -> float:
    """Returns the unbiased squared maximum mean discrepancy of the items in the groups ``kept``."""
    m, n = (int(size[kept].sum()) for size in sizes)
    own, other, between = (float(part[np.ix_(kept, kept)].sum()) for part in sums)
    return own / (m * (m - 1)) + other / (n * (n - 1)) - 2.0 * between / (m * n)


def inception_score(
    probabilities: Float[Array, "N L"], network: str, splits: int = 10, seed: int = 0
) -> FeatureFigures:
    """Returns ``inception_score`` and ``inception_score_deviation`` over splits: 1 to the number of classes, L.

    High where a classifier is sure of each item and all classes occur equally often. It sees no real items, so that
    ones of the wrong kind may score high.

    Args:
        probabilities: of each class for each generated item, each row adding up to 1.
        network: the classifier.
        splits: parts of equal size, each scored by itself; items are dealt to them at random.
        seed: of the dealing.

    Raises:
        InvalidValue: rows that do not add up to 1, or splits with fewer items than classes, which cannot reach L.

    Source: Salimans et al. 2016; the published figures use 50,000 items in 10 splits.
    """
    p = feature_rows(probabilities, "generated")
    if p.min() < 0.0 or np.abs(p.sum(axis=1) - 1.0).max() > 1e-3:
        raise InvalidValue(
            "the inception score needs probabilities: rows of at least 0 that add up to 1; take a softmax"
        )
    if splits < 1 or len(p) // splits < p.shape[1]:
        raise InvalidValue(
            f"{len(p)} items in {splits} splits, for {p.shape[1]} classes; give at least as many items per split as "
            "there are classes, else the score cannot reach their number"
        )
    parts = np.array_split(p[np.random.default_rng(seed).permutation(len(p))], splits)
    scores = np.array([_one_inception_score(part) for part in parts])
    figures = {"inception_score": float(scores.mean()), "inception_score_deviation": float(scores.std())}
    return FeatureFigures(figures, network, p.shape[1], len(p))


def _one_inception_score(p: NDArray[np.float64]) -> float:
    """Returns the exponential of the mean divergence of each row from the mean row; 0 log 0 is 0."""
    own = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=1).mean()
    mean = p.mean(axis=0)
    return float(np.exp(own - np.where(mean > 0, mean * np.log(np.where(mean > 0, mean, 1.0)), 0.0).sum()))


def precision_recall(
    real: Num[Array, "R D"], generated: Num[Array, "G D"], network: str, neighbours: int = 5
) -> FeatureFigures:
    """Returns ``precision``, ``recall``, ``density`` and ``coverage`` of the generated set.

    Around each item lies a ball that reaches to its k-th nearest neighbour on its own side. Precision: the share of
    generated items in any real ball. Recall: the share of real ones in any generated ball. Density: in how many real
    balls a generated item lies, by k; about 1 where the sets agree, and above it where they crowd. Coverage: the share
    of real balls with a generated item. All but density are 0 to 1; density and coverage are less moved by outliers.

    Args:
        real: features of real items.
        generated: features of generated items; give equally many, else the figures of the two sides do not compare.
        network: what made the features.
        neighbours: k; the papers take 3 (precision and recall) and 5 (density and coverage).

    Raises:
        InvalidValue: k below 1, no more than k items on a side, other widths, or values that are not finite.
    """
    a, b = _both(real, generated)
    if neighbours < 1 or min(len(a), len(b)) <= neighbours:
        raise InvalidValue(
            f"{len(a)} real and {len(b)} generated items for {neighbours} neighbours; give at least 1 neighbour and "
            "more items than neighbours on both sides"
        )
    reach, generated_reach = _reach(a, neighbours), _reach(b, neighbours)
    inside = np.zeros(len(b))
    reached = np.zeros(len(a), bool)
    covered = np.zeros(len(a), bool)
    for rows, squares in _squared_distances(a, b):
        within = squares <= reach[rows, None]
        inside += within.sum(axis=0)
        covered[rows] = within.any(axis=1)
        reached[rows] = (squares <= generated_reach).any(axis=1)
    figures = {
        "precision": float((inside > 0).mean()),
        "recall": float(reached.mean()),
        "density": float(inside.mean() / neighbours),
        "coverage": float(covered.mean()),
    }
    return FeatureFigures(figures, network, a.shape[1], len(b), len(a))


def _reach(x: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    """Returns the squared distance of each item to its k-th nearest neighbour, not counting itself."""
    result = np.empty(len(x))
    for rows, squares in _squared_distances(x, x):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.start + len(squares))] = np.inf
        result[rows] = np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1]
    return result


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yields the squared distances of a block of rows of ``a`` to all rows of ``b``, with where the block lies."""
    shift = a.mean(axis=0)  # features far from the origin would lose their differences to rounding
    a, b = a - shift, b - shift
    squares = np.square(b).sum(axis=1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        yield rows, np.maximum(np.square(a[rows]).sum(axis=1)[:, None] + squares - 2.0 * a[rows] @ b.T, 0.0)


def _both(real: Array, generated: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the features of both sides, checked."""
    a, b = feature_rows(real, "real"), feature_rows(generated, "generated")
    if a.shape[1] != b.shape[1]:
        raise InvalidValue(
            f"real items have {a.shape[1]} features and generated ones {b.shape[1]}; take both from the same network"
        )
    return a, b
