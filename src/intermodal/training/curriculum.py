"""Easy samples first: a batch is drawn from a share of the samples that grows from the easiest to all.

Sources: Bengio et al. 2009, "Curriculum Learning"; the square-root growth of Platanios et al. 2019, arXiv 1903.09848,
equation 7.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

from intermodal.errors import InvalidValue


def competence(step: int, steps: int, start: float = 0.2) -> float:
    """Returns the share of the samples, easiest first, that a step draws from: ``start`` at 0, 1 from ``steps`` on."""
    grown = min(1.0, max(0.0, step / steps))
    return math.sqrt(grown * (1 - start**2) + start**2)


def curriculum(
    difficulty: Shaped[np.ndarray, " N"], batch_size: int, steps: int, start: float = 0.2, seed: int = 0
) -> Callable[[int], list[int]]:
    """Returns a sampler (step -> samples of its batch) that begins with the easiest samples.

    Args:
        difficulty: of each sample, any unit, higher is harder (for example words of its text).
        batch_size: samples per batch; distinct within one.
        steps: step from which all samples are drawn from.
        start: share of the samples at step 0, above 0, at most 1.
        seed: of the draw.

    Raises:
        InvalidValue: numbers outside their range, or a first share smaller than a batch.
    """
    count = len(difficulty)
    if not 0 < start <= 1 or steps < 1:
        raise InvalidValue(f"start {start} must lie above 0 and at most at 1, steps {steps} be at least 1")
    if not 1 <= batch_size <= max(1, int(start * count)):
        raise InvalidValue(f"a batch of {batch_size} does not fit into the first share, {start} of {count} samples")
    jitter = np.random.default_rng(seed).permutation(count)  # equally hard samples in a drawn order
    order = np.lexsort((jitter, difficulty))

    def batch(step: int) -> list[int]:
        available = max(batch_size, int(competence(step, steps, start) * count))
        rng = np.random.default_rng((seed, step))
        return [int(i) for i in order[rng.choice(available, batch_size, replace=False)]]

    return batch
