"""Diversity: how much samples differ from each other, for texts by their n-grams and for the rest by their vectors.

Diversity alone rewards noise: read it beside a figure that says whether the samples are right.

Source: distinct-n: Li et al. 2016, arXiv 1510.03055. Self-BLEU: Zhu et al. 2018, arXiv 1802.01886, here with the
smoothing of Lin, Och 2004 (add one from order 2 on), since a single sentence often has no match.
"""

import bisect
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array
from intermodal.evaluation.captions import NGram, Tokenize, bleu_of_counts, n_grams, words
from intermodal.evaluation.features import FeatureFigures, feature_rows


def distinct(texts: Sequence[str], tokenize: Tokenize = words, orders: tuple[int, ...] = (1, 2)) -> dict[str, float]:
    """Returns ``distinct_n`` for each order, the share of n-grams that are distinct, and ``count``; above 0 to 1.

    It falls as texts are added, since words recur: compare equal numbers of texts only.

    Raises:
        InvalidValue: an order of which the texts hold no n-gram.
    """
    tokens = [tokenize(text) for text in texts]
    result = {}
    for n in orders:
        found = [n_gram for t in tokens for n_gram in n_grams(t, n).elements()] if n > 0 else []
        if not found:
            raise InvalidValue(f"{len(texts)} texts hold no run of {n} words; give longer texts or lower orders")
        result[f"distinct_{n}"] = len(set(found)) / len(found)
    return {**result, "count": float(len(texts))}


def self_bleu(texts: Sequence[str], tokenize: Tokenize = words, order: int = 4) -> dict[str, float]:
    """Returns ``self_bleu``, the mean BLEU of each text against all others, and ``count``; 1 where all are equal.

    A text of fewer than ``order`` words is judged by the orders it has. The time grows with the words, not with the
    square of the texts.

    Raises:
        InvalidValue: fewer than 2 texts, or an order below 1.
    """
    if len(texts) < 2 or order < 1:
        raise InvalidValue(f"{len(texts)} texts and order {order} were given; give at least 2 texts and order 1")
    tokens = [tokenize(text) for text in texts]
    lengths = sorted(map(len, tokens))
    counts = [[n_grams(t, n) for n in range(1, order + 1)] for t in tokens]
    most: dict[NGram, tuple[int, int]] = {}  # how often the two texts that hold it most often do
    for own in counts:
        for n_gram, count in ((g, c) for grams in own for g, c in grams.items()):
            first, second = most.get(n_gram, (0, 0))
            most[n_gram] = (max(first, count), min(first, max(second, count)))
    total = 0.0
    for t, own in zip(tokens, counts, strict=True):
        grams = own[: max(1, min(order, len(t)))]
        matches = [sum(min(c, most[g][most[g][0] == c]) for g, c in n.items()) for n in grams]
        totals = [n.total() for n in grams]
        total += bleu_of_counts(matches, totals, len(t), _closest(lengths, len(t)), smooth=True)
    return {"self_bleu": total / len(texts), "count": float(len(texts))}


def _closest(lengths: Sequence[int], own: int) -> int:
    """Returns the length closest to ``own`` among the sorted ``lengths`` less one such, of two the shorter one."""
    at = bisect.bisect_left(lengths, own)
    around = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    return min(around, key=lambda length: (abs(length - own), length))


def pairwise_diversity(samples: Num[Array, "N S D"], network: str) -> FeatureFigures:
    """Returns ``pairwise_diversity``: one less the mean cosine between two samples of one condition, 0 to 2.

    Args:
        samples: features of S samples for each of N conditions.
        network: what made the features.

    Raises:
        InvalidValue: fewer than 2 samples, a feature vector of no length, or values that are not finite.
    """
    conditions, count, width = np.shape(samples)
    if count < 2:
        raise InvalidValue(f"there are {count} samples of each condition; diversity needs at least 2")
    rows = feature_rows(np.asarray(samples).reshape(-1, width), "sampled")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise InvalidValue(f"{int((norms == 0).sum())} samples have features of length 0, which have no direction")
    units = (rows / norms).reshape(conditions, count, width)
    # of all S * S cosines the S with oneself are 1
    cosines = (np.square(units.sum(axis=1)).sum(axis=1) - count) / (count * (count - 1))
    return FeatureFigures({"pairwise_diversity": float(1.0 - cosines.mean())}, network, width, conditions * count)
