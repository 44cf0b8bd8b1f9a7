"""Exact nearest neighbours by a scan that reads one byte per number.

Every row is kept twice: as float32, and as int8 around the centre of its block with a scale of its own and the length
of what the rounding took away. A product of the int8 rows with the query gives every row's cosine with a known bound on
its error. Rows that cannot be among the nearest by that bound are dropped; the rest, a few dozen as a rule, are scored
again in float64 from float32. So the answer is the exact one by construction, whatever the data: where the bound leaves
too many rows, all are scored in float32 first.

The floor of a scan is the memory's speed: N x D bytes here against 4 N x D in float32. ``product`` has the int8
products; where none is right and faster, the float32 product takes its place, and the answer is the same. A filter that
lets few rows through costs as much as those rows.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache
from threading import Lock

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8, Int64

from intermodal.library.product import Packed, Product, fastest, padded

CHUNK = 65_536  # rows at a time where threads share a scan
_ALONE = 4  # so many times as many where they do not
_FIRST = 4096  # rows of the first chunk
_FEW = 32  # where more than 1/32 of the rows are to be scored again, the int8 rows told too little
_DIRECT = 256  # so few rows are scored one by one
_SPARSE = 3  # of a chunk of which less than 1/3 may be found, only those rows are read
_SHARED_BYTES = 32 * 2**20  # less is not worth sharing among threads
_SLACK = 4e-6  # float32 arithmetic on numbers up to 1, beyond the rounding to int8


class Inconsistent(Exception):
    """The int8 and the float32 rows do not belong together: a derived file is damaged and must be made again."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A block of rows of one modality in both precisions; the arrays may be memory-mapped (copy-on-write).

    Attributes:
        exact: unit vectors.
        coarse: ``exact`` minus the centre, over ``scale``, rounded; see ``padded`` for its width.
        scale: of each row; a bfloat16 number.
        residual: length of what the rounding took from each row.
        centre: a vector near the rows; their mean.
        longest: no row less its centre is longer.
        worst: the largest residual of each ``CHUNK`` rows.
    """

    exact: Float[np.ndarray, "N D"]
    coarse: Int8[np.ndarray, "N W"]
    scale: Float[np.ndarray, " N"]
    residual: Float[np.ndarray, " N"]
    centre: Float[np.ndarray, " D"]
    longest: float
    worst: Float[np.ndarray, " K"] = dataclass_field(init=False)

    def __post_init__(self) -> None:
        """Derives what every search needs."""
        starts = np.arange(0, len(self.residual), CHUNK)
        worst = np.maximum.reduceat(self.residual, starts) if len(starts) else self.residual
        object.__setattr__(self, "worst", worst)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.exact)


@dataclass(frozen=True, eq=False)
class Part:
    """A block in one search, and what its cosines are worth there.

    Attributes:
        rows: the block.
        gain: score per cosine, above 0.
        offset: score at cosine 0.
        mask: the rows that may be found; None for all.
    """

    rows: Rows
    gain: float = 1.0
    offset: float = 0.0
    mask: Bool[np.ndarray, " N"] | None = None

    def __len__(self) -> int:
        """Returns the number of rows that may be found."""
        return len(self.rows) if self.mask is None else int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class Found:
    """The rows found, best first.

    Attributes:
        part: which part each row is in.
        row: its place there.
        cosine: with the query.
        score: ``offset + gain * cosine`` of its part.
    """

    part: Int64[np.ndarray, " K"]
    row: Int64[np.ndarray, " K"]
    cosine: Float[np.ndarray, " K"]
    score: Float[np.ndarray, " K"]


def quantise(
    exact: Float[np.ndarray, "N D"], centre: Float[np.ndarray, " D"]
) -> tuple[Int8[np.ndarray, "N W"], Float[np.ndarray, " N"], Float[np.ndarray, " N"], float]:
    """Returns rounded rows, scales, lengths of what rounding took away (never too short), and the longest row's."""
    moved = exact - centre
    scale = np.abs(moved).max(axis=1, initial=0.0) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    bits = scale.view(np.uint32) + np.uint32(0xFFFF)  # up to the next bfloat16, whose lower half is nought
    scale = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    coarse = np.zeros((len(exact), padded(exact.shape[1])), np.int8)
    coarse[:, : exact.shape[1]] = np.rint(moved / scale[:, None])
    restored = coarse[:, : exact.shape[1]] * scale[:, None]
    lost = moved - restored
    residual = np.sqrt(np.einsum("nd,nd->n", lost, lost, dtype=np.float64)) + 1e-6  # float32 arithmetic just above
    longest = np.sqrt(np.einsum("nd,nd->n", restored, restored, dtype=np.float64)).max(initial=0.0) + 1e-6
    return coarse, scale, residual.astype(np.float32), float(longest)


def nearest(parts: Sequence[Part], query: Float[np.ndarray, " D"], top: int) -> Found:
    """Returns the rows with the highest scores, exactly; rows of equal score in the order of their places.

    Args:
        parts: what to search.
        query: unit vector.
        top: how many rows are wanted.

    Raises:
        Inconsistent: a row that counts is not the one that its int8 row was made of.
    """
    total, eligible = sum(len(part.rows) for part in parts), sum(len(part) for part in parts)
    wanted = min(top, eligible)
    if eligible <= max(wanted, _DIRECT):
        return _best([_listed(part) for part in parts], parts, query, wanted)
    make = fastest(len(query), total * padded(len(query)))
    if make is not None:
        shared = make is not Packed and eligible * len(query) >= _SHARED_BYTES  # torch's takes all threads by itself
        candidates = _candidates(parts, _Coarse(query, make), wanted, torch.get_num_threads() if shared else 1)
        if sum(map(len, candidates)) <= max(4096, total // _FEW):
            return _best(candidates, parts, query, wanted)
    return _best(_candidates(parts, _Exact(query), wanted), parts, query, wanted)


@dataclass(frozen=True, eq=False)
class _Bound:
    """How wrong the estimates of a chunk are: at most ``residual * length + slack + rounded * |estimate|``.

    An estimate is that of a cosine less ``base``; ``worst`` is the largest residual.
    """

    worst: float
    base: float
    length: float
    slack: float
    rounded: float

    def reaching(self, cosine: float) -> float:
        """Returns the least estimate of a row that may have this cosine."""
        least = cosine - self.base - self.worst * self.length - self.slack
        return least / (1 + self.rounded) if least > 0 else least / (1 - self.rounded)

    def least_of(self, estimate: float) -> float:
        """Returns the least cosine of a row with this estimate."""
        return self.base + estimate - abs(estimate) * self.rounded - self.worst * self.length - self.slack

    def interval(
        self, estimate: Float[np.ndarray, " K"], residual: Float[np.ndarray, " K"]
    ) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Returns the interval that each cosine lies in."""
        middle = estimate.astype(np.float64)
        bound = residual.astype(np.float64) * self.length + self.slack + np.abs(middle) * self.rounded
        return middle + self.base - bound, middle + self.base + bound


class _Coarse:
    """Estimates from int8 products; wrong by what rounding took from the rows and from the query."""

    def __init__(self, vector: Float[np.ndarray, " D"], make: Callable[[Float[np.ndarray, " D"]], Product]) -> None:
        """Rounds the query as the product wants it."""
        self._vector = vector.astype(np.float64)
        self._length = float(np.linalg.norm(self._vector)) + 1e-6
        self._product = make(np.ascontiguousarray(vector, np.float32))

    def bound(self, rows: Rows, at: slice) -> _Bound:
        """Returns how wrong the estimates of a chunk are."""
        base = float(rows.centre.astype(np.float64) @ self._vector)
        slack = self._product.lost * rows.longest + _SLACK
        worst = float(rows.worst[at.start // CHUNK : -(-at.stop // CHUNK)].max())
        return _Bound(worst, base, self._length, slack, self._product.rounded)

    def reaching(
        self, rows: Rows, at: slice, which: Int64[np.ndarray, " _"] | None, least: float
    ) -> tuple[Int64[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Returns places in a chunk and estimates of the rows whose estimate is at least ``least``."""
        return self._product.reaching(rows.coarse[at], rows.scale[at], which, least)


class _Exact:
    """Estimates from the float32 product; wrong by its arithmetic alone."""

    def __init__(self, vector: Float[np.ndarray, " D"]) -> None:
        """Keeps the query."""
        self._vector = np.ascontiguousarray(vector, np.float32)

    def bound(self, rows: Rows, at: slice) -> _Bound:
        """Returns how wrong the estimates are."""
        return _Bound(0.0, 0.0, 0.0, max(_SLACK, len(self._vector) * 2.0**-23), 0.0)

    def reaching(
        self, rows: Rows, at: slice, which: Int64[np.ndarray, " _"] | None, least: float
    ) -> tuple[Int64[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Returns places in a chunk and estimates of the rows whose estimate is at least ``least``."""
        cosine = (rows.exact[at] if which is None else rows.exact[at][which]) @ self._vector
        place = np.flatnonzero(cosine >= least)
        return place if which is None else which[place], cosine[place]


@dataclass(frozen=True, eq=False)
class _Kept:
    """Rows of one part whose score may be among the best, and the highest that it can be."""

    part: int
    row: Int64[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]


def _candidates(
    parts: Sequence[Part], asked: _Coarse | _Exact, wanted: int, threads: int = 1
) -> list[Int64[np.ndarray, " _"]]:
    """Returns, for each part, all rows whose score may reach that of the last wanted one."""
    survey = _Survey(parts, asked, wanted, CHUNK * _ALONE if threads == 1 else CHUNK)
    if threads == 1:
        survey.run()
    else:
        for done in [_pool(threads).submit(survey.run) for _ in range(threads)]:
            done.result()
    return survey.candidates()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Returns the threads that share a scan."""
    return ThreadPoolExecutor(threads, "intermodal-scan")


def _chunks(parts: Sequence[Part], rows: int) -> Iterator[tuple[int, slice]]:
    """Gives the parts in pieces of at most so many rows; the first is small and soon tells what to look for."""
    for number, part in enumerate(parts):
        start = 0
        while start < len(part.rows):
            stop = min(start - start % rows + rows, len(part.rows))
            if start == 0:
                stop = min(stop, _FIRST)
            yield number, slice(start, stop)
            start = stop


class _Survey:
    """The rows that may be among the best, gathered chunk by chunk; several threads may run it at once."""

    def __init__(self, parts: Sequence[Part], asked: _Coarse | _Exact, wanted: int, rows: int) -> None:
        """Starts with all chunks to do, each of so many rows."""
        self._parts, self._asked, self._wanted = parts, asked, wanted
        self._left = _chunks(parts, rows)
        self._best = np.full(wanted, -np.inf)  # ascending: so many rows score at least this, the last at least [0]
        self._kept: list[_Kept] = []
        self._lock = Lock()

    def run(self) -> None:
        """Does chunks until none is left."""
        while True:
            with self._lock:
                chunk, least = next(self._left, None), float(self._best[0])
            if chunk is None:
                return
            low, kept = self._reaching(*chunk, least)
            if len(low):
                with self._lock:
                    self._best = np.sort(np.concatenate([self._best, low]))[-self._wanted :]
                    self._kept.append(kept)

    def candidates(self) -> list[Int64[np.ndarray, " _"]]:
        """Returns the rows of each part that still may be among the best, once all chunks were done."""
        rows: list[list[Int64[np.ndarray, " _"]]] = [[np.empty(0, np.int64)] for _ in self._parts]
        for one in self._kept:
            rows[one.part].append(one.row[one.high >= self._best[0]])
        return [np.concatenate(each) for each in rows]

    def _reaching(self, number: int, at: slice, least: float) -> tuple[Float[np.ndarray, " K"], _Kept]:
        """Returns the rows of a chunk that may have this score, and the least that each may have."""
        part, wanted = self._parts[number], self._wanted
        allowed = None if part.mask is None else part.mask[at]
        let = at.stop - at.start if allowed is None else int(np.count_nonzero(allowed))
        which = np.flatnonzero(allowed) if allowed is not None and let * _SPARSE < len(allowed) else None
        bound = self._asked.bound(part.rows, at)
        place, estimate = self._asked.reaching(part.rows, at, which, bound.reaching((least - part.offset) / part.gain))
        if allowed is not None and which is None:
            place, estimate = place[allowed[place]], estimate[allowed[place]]
        if least == -np.inf and len(place) > wanted:
            first = bound.reaching(bound.least_of(float(np.partition(estimate, -wanted)[-wanted])))
            place, estimate = place[estimate >= first], estimate[estimate >= first]
        low, high = bound.interval(estimate, part.rows.residual[at][place])
        return part.offset + part.gain * low, _Kept(number, place + at.start, part.offset + part.gain * high)


def _listed(part: Part) -> Int64[np.ndarray, " _"]:
    """Returns the rows that a mask lets through."""
    return np.arange(len(part.rows)) if part.mask is None else np.flatnonzero(part.mask)


def _best(
    candidates: list[Int64[np.ndarray, " _"]], parts: Sequence[Part], query: Float[np.ndarray, " D"], wanted: int
) -> Found:
    """Returns the best of the candidates by their scores in float64."""
    precise = query.astype(np.float64)
    found = []
    for number, (part, places) in enumerate(zip(parts, candidates, strict=True)):
        for start in range(0, len(places), CHUNK):
            row = places[start : start + CHUNK]
            exact = part.rows.exact[row]
            _check(exact, part.rows, row)
            cosine = exact.astype(np.float64) @ precise
            found.append((np.full(len(row), number), row, cosine, part.offset + part.gain * cosine))
    if not found:
        return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    block, row, cosine, score = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((row, block, -np.round(score, 12)))[:wanted]
    return Found(block[order], row[order], cosine[order], score[order])


def _check(exact: Float[np.ndarray, "K D"], rows: Rows, row: Int64[np.ndarray, " K"]) -> None:
    """Checks that rows lie as far from what their int8 rows say as rounding took them, and no further.

    Raises:
        Inconsistent: one does not.
    """
    lost = exact - rows.centre - rows.coarse[row, : exact.shape[1]] * rows.scale[row, None]
    length = np.sqrt(np.einsum("nd,nd->n", lost, lost))
    if not (length <= rows.residual[row] + _SLACK).all():  # written so that NaN is caught
        raise Inconsistent("there are int8 rows that are not those of their float32 rows")
