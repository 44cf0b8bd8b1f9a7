"""How sure a mean is: bootstrap intervals of any values, and Wilson's interval of a share.

Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; the percentile interval. Wilson 1927, "Probable
inference, the law of succession, and statistical inference".
"""

import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Shaped

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array

_ENTRIES = 2**22  # draws held at once


def interval(
    values: Shaped[Array, " N"], confidence: float = 0.95, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """Returns (low, high), between which the mean lies in ``confidence`` of the resamplings of ``values``.

    It takes each value for an independent draw. Queries that share something, such as several captions of one picture,
    are fewer draws than values, so the interval comes out too narrow: average over each group first. With fewer than
    about 20 values it is too narrow in any case.

    Args:
        values: one number or truth value per query, such as ``per_query(...)["recall_at_1"]``.
        confidence: above 0, below 1.
        seed: the same seed gives the same interval.
        resamples: how often to draw N values with replacement.

    Raises:
        InvalidValue: no values, a value that is not finite, or a setting outside its range.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        raise InvalidValue(
            f"an interval needs finite values; {len(x)} were given, {np.isfinite(x).sum()} of them finite"
        )
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise InvalidValue(f"confidence is {confidence} and resamples {resamples}; give one in (0, 1) and at least 1")
    draw = np.random.default_rng(seed)
    rows = max(1, _ENTRIES // len(x))
    means = [
        x[draw.integers(0, len(x), (min(rows, resamples - start), len(x)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def wilson(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns (low, high) of a share, from how many of ``count`` independent trials went well; both in 0 to 1.

    Unlike the bootstrap it has a width where all or none went well, so it holds for few trials too.

    Raises:
        InvalidValue: no trials, more successes than trials or fewer than none, or ``confidence`` outside (0, 1).

    Source: Wilson 1927, without correction for continuity.
    """
    if not 0 <= successes <= count or count < 1 or not 0.0 < confidence < 1.0:
        raise InvalidValue(
            f"{successes} of {count} at confidence {confidence}; give at least 1 trial, 0 to all of them well, and a "
            "confidence in (0, 1)"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / count, z * z / count
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)
