"""Exact nearest neighbours by a scan that reads one byte per number.

Every row is kept twice: as float32, and as int8 around the centre of its block with a scale of its own and the length
of what the rounding took away. A product of the int8 rows with the query gives every row's cosine with a known bound on
its error. Rows that cannot be among the nearest by that bound are dropped; the rest, a few dozen as a rule, are scored
again in float64 from float32. So the answer is the exact one by construction, whatever the data: where the bound leaves
too many rows, all are scored in float32 first.

The floor of a scan is the memory's speed: N x D bytes here against 4 N x D in float32. The int8 product comes from a
private entry point of torch, the one that language models with int8 weights use for one token; where it is absent,
wrong or slower, the float32 product takes its place, and the answer is the same.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
import torch
from jaxtyping import BFloat16, Bool, Float, Int8, Int64

CHUNK = 32_768  # rows at a time: what a scan makes of them stays in the processor's cache
_FEW = 32  # below 1/32 of the rows, scoring them one by one beats a scan
_SLACK = 4e-6  # float32 arithmetic on numbers up to 1, beyond the rounding to int8
_PROBE_ROWS = 4096
_LANES = 64  # int8 rows are filled up with noughts to a multiple of this: the product reads whole registers
_ROUNDED = 2.0**-7  # the product comes in bfloat16, scaled in bfloat16: twice this is lost at most, of 2**-9 each


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
        factor: ``scale`` as the product takes it.
    """

    exact: Float[np.ndarray, "N D"]
    coarse: Int8[np.ndarray, "N W"]
    scale: Float[np.ndarray, " N"]
    residual: Float[np.ndarray, " N"]
    centre: Float[np.ndarray, " D"]
    longest: float
    worst: Float[np.ndarray, " K"] = dataclass_field(init=False)
    factor: BFloat16[torch.Tensor, " N"] = dataclass_field(init=False)

    def __post_init__(self) -> None:
        """Derives what every search needs."""
        starts = np.arange(0, len(self.residual), CHUNK)
        worst = np.maximum.reduceat(self.residual, starts) if len(starts) else self.residual
        object.__setattr__(self, "worst", worst)
        object.__setattr__(self, "factor", torch.from_numpy(self.scale).bfloat16())

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


def padded(width: int) -> int:
    """Returns the width of int8 rows of vectors of length ``width``."""
    return -(-width // _LANES) * _LANES


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
    if eligible * _FEW <= total or eligible <= max(wanted, 256):
        return _best([_listed(part) for part in parts], parts, query, wanted)
    asked = _Query(query)
    if _int8_pays(len(query)):
        candidates = _candidates(parts, asked.coarse, wanted)
        if sum(map(len, candidates)) <= max(4096, total // _FEW):
            return _best(candidates, parts, query, wanted)
    return _best(_candidates(parts, asked.exact, wanted), parts, query, wanted)


@dataclass(frozen=True, eq=False)
class _Estimate:
    """Cosines less ``base``; each is wrong by at most ``residual * length + slack + rounded * |cosine|``."""

    cosine: Float[np.ndarray, " N"]
    residual: Float[np.ndarray, " N"]
    worst: float  # of the residuals
    base: float
    length: float
    slack: float
    rounded: float

    def reaching(self, cosine: float) -> float:
        """Returns the least estimate of a row that may have this cosine."""
        least = cosine - self.base - self.worst * self.length - self.slack
        return least / (1 + self.rounded) if least > 0 else least / (1 - self.rounded)

    def least_of(self, wanted: int) -> float:
        """Returns a cosine that at least ``wanted`` of these rows have."""
        estimate = float(np.partition(self.cosine, -wanted)[-wanted])
        return self.base + estimate - abs(estimate) * self.rounded - self.worst * self.length - self.slack

    def bounds(self, place: Int64[np.ndarray, " K"]) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Returns the interval that the cosines of some rows lie in."""
        estimate = self.cosine[place].astype(np.float64)
        bound = self.residual[place].astype(np.float64) * self.length + self.slack + np.abs(estimate) * self.rounded
        return estimate + self.base - bound, estimate + self.base + bound


class _Query:
    """A query in both precisions; its methods estimate the cosines of some rows of a block."""

    def __init__(self, vector: Float[np.ndarray, " D"]) -> None:
        """Rounds the query to bfloat16."""
        self._vector = np.ascontiguousarray(vector, np.float32)
        self._length = float(np.linalg.norm(vector.astype(np.float64))) + 1e-6
        wide = torch.zeros(1, padded(len(vector)), dtype=torch.float32, device="cpu")
        wide[0, : len(vector)] = torch.from_numpy(self._vector)
        self._rounded = wide.bfloat16()
        self._lost = float((wide.double() - self._rounded.double()).norm())

    def coarse(self, rows: Rows, at: slice) -> _Estimate:
        """Returns estimates from the int8 product; wrong by what rounding took from the rows and from the query."""
        product = torch._weight_int8pack_mm(self._rounded, torch.from_numpy(rows.coarse[at]), rows.factor[at])
        base = float(rows.centre.astype(np.float64) @ self._vector.astype(np.float64))
        worst, slack = float(rows.worst[at.start // CHUNK]), self._lost * rows.longest + _SLACK
        return _Estimate(product[0].float().numpy(), rows.residual[at], worst, base, self._length, slack, _ROUNDED)

    def exact(self, rows: Rows, at: slice) -> _Estimate:
        """Returns estimates from the float32 product; wrong by its arithmetic alone."""
        slack = max(_SLACK, len(self._vector) * 2.0**-23)
        return _Estimate(rows.exact[at] @ self._vector, rows.residual[at], 0.0, 0.0, 0.0, slack, 0.0)


def _candidates(
    parts: Sequence[Part], estimate: Callable[[Rows, slice], _Estimate], wanted: int
) -> list[Int64[np.ndarray, " _"]]:
    """Returns, for each part, all rows whose score may reach that of the last wanted one."""
    best = np.full(wanted, -np.inf)  # lower ends of scores, ascending: the last wanted row scores at least best[0]
    kept: list[list[tuple[Int64[np.ndarray, " _"], Float[np.ndarray, " _"]]]] = []
    for part in parts:
        kept.append([])
        for start in range(0, len(part.rows), CHUNK):
            at = slice(start, min(start + CHUNK, len(part.rows)))
            these = estimate(part.rows, at)
            if part.mask is not None:
                these.cosine[~part.mask[at]] = -np.inf
            least = (best[0] - part.offset) / part.gain
            if least == -np.inf and len(these.cosine) > wanted:
                least = these.least_of(wanted)
            place = np.flatnonzero(these.cosine >= max(these.reaching(float(least)), -1e30))
            low, high = (part.offset + part.gain * end for end in these.bounds(place))
            best = np.sort(np.concatenate([best, low]))[-wanted:]
            kept[-1].append((place + start, high))
    return [_still(chunks, best[0]) for chunks in kept]


def _still(
    chunks: list[tuple[Int64[np.ndarray, " _"], Float[np.ndarray, " _"]]], least: float
) -> Int64[np.ndarray, " _"]:
    """Returns the candidates that still reach the score of the last wanted row once all rows were seen."""
    kept = [place[high >= least] for place, high in chunks]
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


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


_PAYS: dict[int, bool] = {}


def _int8_pays(width: int) -> bool:
    """Returns whether the int8 product is right here and faster than float32; asked once for each width."""
    if width not in _PAYS:
        _PAYS[width] = _measure(width)
    return _PAYS[width]


def _measure(width: int) -> bool:
    """Returns whether the int8 product is as right as is reckoned with, and faster, on rows of this width."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(-127, 128, (_PROBE_ROWS, padded(width)), dtype=np.int8)
    factor = torch.from_numpy(generator.random(_PROBE_ROWS, np.float32)).bfloat16()
    query = torch.from_numpy(generator.standard_normal((1, padded(width)), np.float32)).bfloat16()
    rows = torch.from_numpy(coarse)
    try:
        found = torch._weight_int8pack_mm(query, rows, factor)[0].double()
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    terms = rows.double() * query.double() * factor.double()[:, None]
    wrong = (found - terms.sum(dim=1)).abs()
    if not (wrong <= 0.75 * _ROUNDED * found.abs() + 1e-6 * terms.norm(dim=1)).all():
        return False
    floats, column = coarse[:, :width].astype(np.float32), coarse[0, :width].astype(np.float32)
    return _fastest(lambda: torch._weight_int8pack_mm(query, rows, factor)) < _fastest(lambda: floats @ column)


def _fastest(work: Callable[[], object]) -> float:
    """Returns the least of a few durations in seconds."""
    durations = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return min(durations[2:])
