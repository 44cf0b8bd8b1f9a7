"""Retrieval: how well a similarity finds what belongs together.

Rows are queries, columns are the gallery. With two pictures and four texts, texts 0 and 1 of picture 0, 2 and 3 of
picture 1:

    picture to text   similarity (2, 4)   relevant [[1, 1, 0, 0],    query_labels (0, 1)   gallery_labels (0, 0, 1, 1)
                                                    [0, 0, 1, 1]]
    text to picture   similarity (4, 2)   relevant [[1, 0],          query_labels (0, 0, 1, 1)   gallery_labels (0, 1)
                                                    [1, 0], [0, 1], [0, 1]]

Recall@k of a query is the field's own: whether any relevant item is among the first k.

Equal similarities are counted as if their order were drawn at random: each figure is the expectation over all orders.
So a constant similarity gives chance, and a model that collapses cannot look perfect because the right item came first.

Source: expectations over ties for precision and DCG: McSherry, Najork 2008, "Computing information retrieval
performance measures efficiently in the presence of tied scores"; DCG: Järvelin, Kekäläinen 2002, with binary gains.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array

NDCG_AT = 10
_ENTRIES = 2**24  # similarities held at once by ``retrieval_between``

Relevance = Callable[[int], NDArray[np.bool_]]


def retrieval(
    similarity: Float[Array, "Q G"],
    relevant: Bool[Array, "Q G"] | None = None,
    query_labels: Int[Array, " Q"] | None = None,
    gallery_labels: Int[Array, " G"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """Returns ``recall_at_k``, ``mrr``, ``ndcg_at_10``, ``ndcg``, ``map``, ``median_rank``, ``mean_rank`` and counts.

    All are in 0 to 1 but the ranks (of the first relevant item, from 1) and ``count`` (queries) and ``gallery_count``.

    Args:
        similarity: higher fits better; infinite allowed, not-a-number not.
        relevant: what each query should find; or give both kinds of labels; or neither: query i finds item i.
        query_labels: an item is relevant if its label equals the query's.
        gallery_labels: see ``query_labels``.
        ks: the cut-offs of recall; one beyond the gallery's size counts the whole gallery.

    Raises:
        InvalidValue: a query with nothing relevant, similarities that are not numbers, or arguments that do not fit.
    """
    return summary(per_query(similarity, relevant, query_labels, gallery_labels, ks), np.shape(similarity)[1])


def retrieval_between(
    queries: Float[Array, "Q D"],
    gallery: Float[Array, "G D"],
    query_labels: Int[Array, " Q"] | None = None,
    gallery_labels: Int[Array, " G"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """Returns what ``retrieval`` does for the dot products of two sets of vectors, without ever holding all of them."""
    a, b = np.asarray(queries), np.asarray(gallery)
    relevance = _relevance((len(a), len(b)), None, query_labels, gallery_labels)
    rows = max(1, _ENTRIES // max(1, len(b)))

    def scores() -> Iterator[NDArray[np.floating]]:
        for start in range(0, len(a), rows):
            yield from a[start : start + rows] @ b.T

    return summary(_measure(scores(), relevance, len(a), len(b), ks), len(b))


def per_query(
    similarity: Float[Array, "Q G"],
    relevant: Bool[Array, "Q G"] | None = None,
    query_labels: Int[Array, " Q"] | None = None,
    gallery_labels: Int[Array, " G"] | None = None,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, Float[np.ndarray, " Q"]]:
    """Returns each query's ``recall_at_k``, ``rank``, ``mrr``, ``ndcg_at_10``, ``ndcg``, ``map``; see ``retrieval``."""
    scores = np.asarray(similarity)
    relevance = _relevance(scores.shape, relevant, query_labels, gallery_labels)
    return _measure(iter(scores), relevance, len(scores), scores.shape[1], ks)


def summary(measured: dict[str, Float[np.ndarray, " Q"]], gallery_count: int) -> dict[str, float]:
    """Returns the figures over all queries from those of ``per_query``."""
    result = {name: float(values.mean()) for name, values in measured.items() if name != "rank"}
    ranks = measured["rank"]
    return {
        **result,
        "median_rank": float(np.median(ranks)),
        "mean_rank": float(ranks.mean()),
        "count": float(len(ranks)),
        "gallery_count": float(gallery_count),
    }


def recall_ceiling(query_keys: Sequence[Hashable], gallery_keys: Sequence[Hashable], k: int = 1) -> float:
    """Returns the best Recall@k that anyone can expect where items of equal keys cannot be told apart, 0 to 1.

    A key is all that both renderings carry of an item; exactly one gallery item of the query's key is its partner.
    Among n of them the best guess names it within k attempts with probability ``min(1, k / n)``. A query whose key the
    gallery lacks counts 0.

    Raises:
        InvalidValue: there are no queries, or ``k`` is below 1.
    """
    if not query_keys or k < 1:
        raise InvalidValue(
            f"a ceiling needs queries and a k of at least 1; {len(query_keys)} queries and k={k} were given"
        )
    counts = Counter(gallery_keys)
    return sum(min(1.0, k / counts[key]) for key in query_keys if key in counts) / len(query_keys)


def _relevance(
    shape: tuple[int, ...],
    relevant: Array | None,
    query_labels: Array | None,
    gallery_labels: Array | None,
) -> Relevance:
    """Returns the function that gives one query's row of relevance."""
    if relevant is not None:
        if query_labels is not None or gallery_labels is not None:
            raise InvalidValue("both relevant and labels were given; give one of the two")
        matrix = np.asarray(relevant)
        if matrix.shape != shape:
            raise InvalidValue(f"relevant is {matrix.shape} and similarity {shape}; give one truth value per pair")
        return lambda i: matrix[i]
    if query_labels is not None and gallery_labels is not None:
        own, others = np.asarray(query_labels), np.asarray(gallery_labels)
        if (len(own), len(others)) != shape:
            raise InvalidValue(f"there are {len(own)} and {len(others)} labels for similarities {shape}; give one each")
        return lambda i: others == own[i]
    if query_labels is not None or gallery_labels is not None:
        raise InvalidValue("only one kind of labels was given; give query_labels and gallery_labels, or neither")
    if shape[0] != shape[1]:
        raise InvalidValue(
            f"there are {shape[0]} queries and {shape[1]} gallery items; give relevant or labels that say which belong "
            "together"
        )
    index = np.arange(shape[1])
    return lambda i: index == i


def _measure(
    rows: Iterator[NDArray[np.floating]], relevance: Relevance, queries: int, gallery: int, ks: tuple[int, ...]
) -> dict[str, NDArray[np.float64]]:
    """Returns the figures of each query, one row of similarities at a time."""
    if not queries or not gallery or min(ks, default=0) < 1:
        raise InvalidValue(
            f"{queries} queries, {gallery} gallery items and ks={ks} were given; give at least 1 of each"
        )
    names = [*(f"recall_at_{k}" for k in ks), "rank", "mrr", f"ndcg_at_{NDCG_AT}", "ndcg", "map"]
    result = np.empty((queries, len(names)))
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, gallery + 2)))])
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, gallery + 1))])
    for i, row in enumerate(rows):
        if np.isnan(row).any():
            raise InvalidValue(
                f"similarities of query {i} are not numbers (NaN); a model that gives NaN cannot be ranked"
            )
        before, tied, hits = _groups(row, relevance(i))
        if not len(hits):
            raise InvalidValue(f"query {i} has nothing relevant in the gallery; leave such queries out, and say so")
        first = (int(before[0]), int(tied[0]), int(hits[0]))
        result[i] = [
            *(_chance_within(k, *first) for k in ks),
            first[0] + (first[1] + 1) / (first[2] + 1),
            _reciprocal_rank(*first),
            _ndcg(before, tied, hits, discounts, min(NDCG_AT, gallery)),
            _ndcg(before, tied, hits, discounts, gallery),
            _average_precision(before, tied, hits, harmonic),
        ]
    return dict(zip(names, result.T, strict=True))


def _groups(
    row: NDArray[np.floating], relevant: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns, for each similarity of a relevant item, best first: items above it, items at it, relevant at it."""
    values, hits = np.unique(row[relevant], return_counts=True)
    ordered = np.sort(row)
    upto = np.searchsorted(ordered, values, side="right")
    tied = upto - np.searchsorted(ordered, values, side="left")
    return np.flip(len(row) - upto), np.flip(tied), np.flip(hits)


def _chance_within(k: int, before: int, tied: int, hits: int) -> float:
    """Returns how probably the first k hold one of ``hits`` among ``tied`` items that come after ``before`` others."""
    slots = min(k - before, tied)
    if slots <= 0:
        return 0.0
    if slots > tied - hits:
        return 1.0
    left = np.arange(slots)
    return float(1.0 - np.prod((tied - hits - left) / (tied - left)))


def _reciprocal_rank(before: int, tied: int, hits: int) -> float:
    """Returns the expectation of 1 / rank of the first of ``hits`` among ``tied`` items after ``before`` others."""
    if tied == hits:
        return 1.0 / (before + 1)
    place = np.arange(1, tied - hits + 2)
    none_yet = np.concatenate([[1.0], np.cumprod((tied - hits - place[:-1] + 1) / (tied - place[:-1] + 1))])
    return float((none_yet * hits / (tied - place + 1) / (before + place)).sum())


def _ndcg(
    before: NDArray[np.int64], tied: NDArray[np.int64], hits: NDArray[np.int64], discounts: NDArray[np.float64], k: int
) -> float:
    """Returns the expected normalised discounted gain of the first k; ``discounts`` are cumulated from place 0."""
    start, stop = np.minimum(before, k), np.minimum(before + tied, k)
    gain = (hits / tied * (discounts[stop] - discounts[start])).sum()
    return float(gain / discounts[min(int(hits.sum()), k)])


def _average_precision(
    before: NDArray[np.int64], tied: NDArray[np.int64], hits: NDArray[np.int64], harmonic: NDArray[np.float64]
) -> float:
    """Returns the expected average precision; ``harmonic`` are the harmonic numbers from 0.

    A relevant item at place p of its group sees, on average, ``(p - 1) (hits - 1) / (tied - 1)`` relevant ones of the
    group before it. The sum over p of that precision has the closed form used here.
    """
    earlier = np.cumsum(hits) - hits
    slope = (hits - 1) / np.maximum(1, tied - 1)
    inverse = harmonic[before + tied] - harmonic[before]  # sum over p of 1 / (before + p)
    per_item = (earlier + 1) * inverse + slope * (tied - (before + 1) * inverse)
    return float((hits / tied * per_item).sum() / hits.sum())
