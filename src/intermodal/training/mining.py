"""Batches of samples that are easily confused: their negatives teach more than those of a random batch.

Sources: VSE++, Faghri et al. 2017, arXiv 1707.05612 (the hardest negatives count); ANCE, Xiong et al. 2020, arXiv
2007.00808 (neighbours found over the whole corpus with the model itself, refreshed now and then). Simplified:
neighbours come from the vectors of one moment, so that a batch depends on its number alone and a resumed run sees the
same.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from intermodal.errors import InvalidValue

_ROWS = 1024  # of the similarity matrix at once


def nearest(vectors: Float[np.ndarray, "N D"], count: int) -> Int[np.ndarray, "N K"]:
    """Returns the ``count`` nearest other rows of each row by inner product, nearest first; memory grows with N."""
    if not 1 <= count < len(vectors):
        raise InvalidValue(f"{count} neighbours of {len(vectors)} vectors were asked for; give 1 to {len(vectors) - 1}")
    found = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), _ROWS):
        scores = vectors[start : start + _ROWS] @ vectors.T
        own = np.arange(len(scores))
        scores[own, start + own] = -np.inf
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        found[start : start + _ROWS] = np.take_along_axis(best, order, axis=1)
    return found


def hard_batches(
    vectors: Float[np.ndarray, "N D"],
    batch_size: int,
    group: int = 4,
    seed: int = 0,
    index: Sequence[int] | None = None,
) -> Callable[[int], list[int]]:
    """Returns a sampler (step -> samples of its batch) whose batches are made of groups of near neighbours.

    Args:
        vectors: of the candidates, by the model as it is, for example of their texts.
        batch_size: samples per batch, at most N.
        group: a drawn sample and its ``group - 1`` nearest; 1 is random sampling.
        seed: of the draw.
        index: the sample that each vector stands for; default: 0 to N - 1.

    Raises:
        InvalidValue: numbers that do not fit each other.
    """
    if not 1 <= group <= batch_size <= len(vectors):
        raise InvalidValue(
            f"group {group}, batch_size {batch_size} and {len(vectors)} vectors must rise in this order, from 1"
        )
    ids = np.arange(len(vectors)) if index is None else np.asarray(index, dtype=np.int64)
    table = nearest(vectors, group - 1) if group > 1 else np.empty((len(vectors), 0), dtype=np.int64)

    def batch(step: int) -> list[int]:
        order = np.random.default_rng((seed, step)).permutation(len(ids))
        chosen: dict[int, None] = {}
        for start in order.tolist():
            for member in (start, *table[start].tolist()):
                chosen.setdefault(member)
            if len(chosen) >= batch_size:
                break
        return [int(ids[i]) for i in list(chosen)[:batch_size]]

    return batch
