"""One version of a library as a search sees it: its rows, its background, and the rows each filter lets through."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float

from intermodal.library.calibrate import SAMPLE, Background
from intermodal.library.filters import Filter, column
from intermodal.library.scan import Part, nearest
from intermodal.library.segments import Block, members
from intermodal.library.store import HIT_COLUMNS, Snapshot

_FILTERS_MAX = 32  # whose rows are remembered
_OVERSAMPLE = 8  # rows asked for per row of the sample, because ids fall unevenly


@dataclass(frozen=True, eq=False)
class Asked:
    """A search.

    Attributes:
        query: unit vector.
        modality: of the query; empty where it is not known.
        among: modalities to find.
        top: how many rows are wanted.
        condition: what they satisfy.
    """

    query: Float[np.ndarray, " D"]
    modality: str
    among: tuple[str, ...]
    top: int
    condition: Filter | None


@dataclass(frozen=True, eq=False)
class Answer:
    """A row found."""

    row: Mapping[str, Any]
    score: float
    cosine: float


class ExactView:
    """Searches by scanning all rows."""

    def __init__(self, snapshot: Snapshot, blocks: tuple[Block, ...]) -> None:
        """Draws the background sample."""
        self.snapshot, self._blocks = snapshot, blocks
        self._masks: dict[str, list[Bool[np.ndarray, " N"]]] = {}
        self._lock = Lock()
        self._background = Background({m: _sample(blocks, m) for m in sorted({b.modality for b in blocks})})

    def search(self, asked: Asked) -> list[Answer]:
        """Returns the rows with the highest scores, best first, exactly."""
        blocks = [block for block in self._blocks if block.modality in asked.among]
        allowed = None if asked.condition is None else self._allowed(asked.condition)
        parts = []
        for block in blocks:
            centre, spread = self._background.usual(asked.query, asked.modality, block.modality)
            mask = block.mask
            if allowed is not None:
                mine = allowed[id(block)]
                mask = mine if mask is None else mask & mine
            parts.append(Part(block.rows, 1 / spread, -centre / spread, mask))
        found = nearest(parts, asked.query, asked.top)
        told: dict[int, Mapping[str, Any]] = {}  # place in the answer -> its row
        for number in np.unique(found.part):
            mine = np.flatnonzero(found.part == number)
            rows = blocks[number].table.select(HIT_COLUMNS).take(pa.array(found.row[mine])).to_pylist()
            told.update(zip(mine.tolist(), rows, strict=True))
        scored = zip(found.score.tolist(), found.cosine.tolist(), strict=True)
        return [Answer(told[place], score, cosine) for place, (score, cosine) in enumerate(scored)]

    def _allowed(self, condition: Filter) -> dict[int, Bool[np.ndarray, " N"]]:
        """Returns the rows of each block that satisfy a condition; asked of the store once for each condition."""
        key = repr(condition)  # True and 1 are equal, and are not the same question
        with self._lock:
            if key not in self._masks:
                matching = self.snapshot.matching(condition)
                if len(self._masks) >= _FILTERS_MAX:
                    self._masks.pop(next(iter(self._masks)))
                self._masks[key] = [members(block.address, matching) for block in self._blocks]
            return {id(block): mask for block, mask in zip(self._blocks, self._masks[key], strict=True)}


class IndexView:
    """Searches through the store's index: about the nearest rows, without reading all."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Draws the background sample."""
        self.snapshot = snapshot
        self._background = Background({m: _drawn(snapshot, m, n) for m, n in modalities(snapshot).items()})

    def search(self, asked: Asked) -> list[Answer]:
        """Returns about the rows with the highest scores, best first."""
        answers = []
        for modality in asked.among:
            if modality not in self._background.vectors:
                continue
            centre, spread = self._background.usual(asked.query, asked.modality, modality)
            mine = column("modality") == modality
            condition = mine if asked.condition is None else mine & asked.condition
            table = self.snapshot.nearest(asked.query, asked.top, condition)
            rows = table.select(HIT_COLUMNS).to_pylist()
            cosines = _vectors(table.column("vector")).astype(np.float64) @ asked.query.astype(np.float64)
            answers += [
                Answer(row, float((cosine - centre) / spread), float(cosine))
                for row, cosine in zip(rows, cosines, strict=True)
            ]
        return sorted(answers, key=lambda answer: (-answer.score, answer.row["id"]))[: asked.top]


def modalities(snapshot: Snapshot) -> dict[str, int]:
    """Returns how many rows there are of each modality."""
    counts = pc.value_counts(snapshot.select(None, ["modality"]).column("modality"))
    return dict(sorted((str(pair["values"]), int(pair["counts"])) for pair in counts.to_pylist()))


def newest(snapshot: Snapshot, among: Sequence[str], top: int) -> list[Mapping[str, Any]]:
    """Returns the last rows of these modalities, the newest first; no more parts are read than that takes."""
    found: list[Mapping[str, Any]] = []
    for part in reversed(snapshot.parts()):
        if len(found) >= top:
            break
        table = pa.Table.from_batches(list(snapshot.read(part, HIT_COLUMNS))) if part.rows else None
        if table is not None and len(table):
            mine = table.filter(pc.is_in(table.column("modality"), pa.array(list(among))))
            found += reversed(mine.slice(max(0, len(mine) - (top - len(found)))).to_pylist())
    return found


def _sample(blocks: Sequence[Block], modality: str) -> Float[np.ndarray, "N D"]:
    """Returns the vectors of the rows of a modality whose draws are the smallest."""
    mine = [(block, block.live()) for block in blocks if block.modality == modality]
    draws = np.concatenate([block.draw[live] for block, live in mine])
    order = np.argpartition(draws, SAMPLE)[:SAMPLE] if len(draws) > SAMPLE else np.arange(len(draws))
    order = order[np.argsort(draws[order], kind="stable")]
    ends = np.cumsum([len(live) for _, live in mine])
    owner = np.searchsorted(ends, order, side="right")
    rows = []
    for place, number in zip(order, owner, strict=True):
        block, live = mine[number]
        rows.append(block.rows.exact[live[place - (ends[number] - len(live))]])
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _drawn(snapshot: Snapshot, modality: str, count: int) -> Float[np.ndarray, "N D"]:
    """Returns such a sample without reading all rows: ids begin with a hash, so those below a bound are a fair part."""
    condition = column("modality") == modality
    share = SAMPLE * _OVERSAMPLE / count
    if share < 1:
        condition &= column("id") < f"{int(share * 2**32):08x}"
    table = snapshot.select(condition, ["id", "vector"])
    draws = [zlib.crc32(name.encode()) for name in table.column("id").to_pylist()]
    return _vectors(table.column("vector").take(np.argsort(draws, kind="stable")[:SAMPLE]))


def _vectors(vectors: Any) -> Float[np.ndarray, "N D"]:
    """Returns a column of vectors as an array."""
    dimension = vectors.type.list_size
    rows: Float[np.ndarray, "N D"] = vectors.combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    return rows
