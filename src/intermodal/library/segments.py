"""The columns that a scan reads, kept beside the table in files of its own; all of it can be made again.

A segment is a folder with the rows of some parts of the store, sorted by modality: ``vectors.f32`` and ``vectors.i8``
(memory-mapped), ``rows.arrow`` (what a hit tells, and each row's address in the store) and ``segment.json``. It is
written beside, then renamed, never changed, and named by what it holds, so two processes that make the same one at
once make equal ones. When the store moves on, only its new parts are read: they become a new segment, into which small
neighbours are merged, so that there are few segments and a row is copied a few times in its life. A segment counts only
if format, dimension, lengths and checksums are right and its parts are parts of the store today; rows removed since
are masked.
"""

import json
import os
import shutil
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int64, UInt32, UInt64

from intermodal.library.product import padded
from intermodal.library.scan import Rows, quantise
from intermodal.library.store import HIT_COLUMNS, Part, Snapshot

_FORMAT = 1
_CHECKED = ("vectors.i8", "rows.arrow")  # the scan itself finds float32 rows that do not fit their int8 rows
_STEP = 16_384  # rows that are rounded at a time: a few dozen MiB
_SMALL = 2  # a segment is merged into a new one of at least half its rows
_LEFT_MIN = 0.8  # a segment of which more was removed is made again
_UNUSED_S = 60.0  # another process may be about to use it
_HALF_MADE_S = 3600.0


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one modality in one segment.

    Attributes:
        modality: of all of them.
        rows: for the scan.
        table: what a hit tells of each row.
        address: of each row in the store; ascending.
        draw: a number drawn from each row's id: those with the smallest are a fair sample.
        mask: the rows that were not removed; None where none was.
    """

    modality: str
    rows: Rows
    table: pa.Table
    address: UInt64[np.ndarray, " N"]
    draw: UInt32[np.ndarray, " N"]
    mask: Bool[np.ndarray, " N"] | None

    def live(self) -> Int64[np.ndarray, " L"]:
        """Returns the places of the rows that were not removed."""
        return np.arange(len(self.rows)) if self.mask is None else np.flatnonzero(self.mask)


@dataclass(frozen=True, eq=False)
class _Segment:
    """A segment that was read and found whole."""

    name: str
    held: tuple[Part, ...]
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return sum(len(block.rows) for block in self.blocks)


class Segments:
    """The segments of one store."""

    def __init__(self, folder: Path) -> None:
        """Keeps them in ``folder``, or in a temporary folder where that cannot be written."""
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="intermodal-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._folder = folder
        self._read: dict[str, _Segment] = {}

    def blocks(self, store: Snapshot) -> tuple[Block, ...]:
        """Returns the blocks that hold every row of the store, once; reads what is new in it."""
        parts = {part.name: part for part in store.parts() if part.rows}
        self._load()
        chosen: list[tuple[_Segment, tuple[Block, ...]]] = []
        left = dict(parts)
        for segment in sorted(self._read.values(), key=len, reverse=True):
            mine = [part.name for part in segment.held if part.name in parts]
            if not mine or any(name not in left for name in mine):
                continue
            blocks = _masked(segment, parts, store)
            if blocks is not None:
                chosen.append((segment, blocks))
                left = {name: part for name, part in left.items() if name not in mine}
        if left:
            made, chosen = self._extend(store, list(left.values()), chosen, parts)
            chosen += [(made, made.blocks)] if made is not None else []
        self._tidy({segment.name for segment, _ in chosen})
        return tuple(block for _, blocks in chosen for block in blocks)

    def forget(self) -> None:
        """Removes all segments."""
        self._read = {}
        for path in self._folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def _extend(
        self,
        store: Snapshot,
        new: list[Part],
        chosen: list[tuple[_Segment, tuple[Block, ...]]],
        parts: dict[str, Part],
    ) -> tuple[_Segment | None, list[tuple[_Segment, tuple[Block, ...]]]]:
        """Returns a segment of the new parts and of the small segments merged into it, and the segments that stay."""
        rows = sum(part.rows for part in new)
        stay = sorted(chosen, key=lambda pair: len(pair[0]))
        while stay and len(stay[0][0]) <= _SMALL * rows:
            merged, _ = stay.pop(0)
            new += [parts[part.name] for part in merged.held if part.name in parts]
            rows += len(merged)
        new.sort(key=lambda part: part.number)
        name = _name_of(new, store.dimension())
        if name not in self._read:
            beside = Path(tempfile.mkdtemp(prefix=".making-", dir=self._folder))
            try:
                if not _write(beside, store, new):
                    return None, stay
                self._read[name] = _open(beside, name)
                self._publish(beside, name)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        return self._read[name], stay

    def _publish(self, beside: Path, name: str) -> None:
        """Gives a segment its name; one of that name is either equal or damaged, so this one takes its place."""
        for _ in range(3):
            try:
                os.rename(beside, self._folder / name)
                return
            except OSError:
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def _load(self) -> None:
        """Reads the segments that are in the folder and were not read yet; passes over those that are not whole."""
        for path in self._folder.iterdir():
            if path.name not in self._read and not path.name.startswith("."):
                try:
                    self._read[path.name] = _open(path, path.name)
                except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
                    continue

    def _tidy(self, used: set[str]) -> None:
        """Removes segments that have not been used for a while, and what a stopped process left half-made."""
        self._read = {name: segment for name, segment in self._read.items() if name in used}
        for path in self._folder.iterdir():
            try:
                age = time.time() - path.stat().st_mtime
            except OSError:
                continue  # another process removed it
            if path.name not in used and age > (_HALF_MADE_S if path.name.startswith(".") else _UNUSED_S):
                shutil.rmtree(path, ignore_errors=True)


def _name_of(parts: Sequence[Part], dimension: int | None) -> str:
    """Returns the name of the segment that holds these parts as they are now."""
    held = [_FORMAT, dimension, [[part.name, part.removed] for part in parts]]
    return blake2b(json.dumps(held).encode(), digest_size=16).hexdigest()


def _write(folder: Path, store: Snapshot, parts: Sequence[Part]) -> int:
    """Writes a segment and returns how many rows it has."""
    table = pa.Table.from_batches(list(_batches(store, parts, HIT_COLUMNS)), schema=_ROWS)
    modality = table.column("modality").to_numpy(zero_copy_only=False).astype(str)
    order = np.argsort(modality, kind="stable")
    count, dimension = len(order), store.dimension() or 0
    if not count:
        return 0
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    exact = np.memmap(folder / "vectors.f32", np.float32, "w+", shape=(count, dimension))
    start = 0
    for batch in _batches(store, parts, ["vector"]):
        vectors = batch.column("vector").flatten().to_numpy().reshape(-1, dimension)
        exact[place[start : start + len(vectors)]] = vectors
        start += len(vectors)
    if start != count:
        raise OSError("the store changed while its rows were read")
    names, first = np.unique(modality[order], return_index=True)
    blocks = [[str(n), int(a), int(b)] for n, a, b in zip(names, first, [*first[1:], count], strict=True)]
    scale, residual, shapes = _write_coarse(folder, exact, blocks)
    exact.flush()
    table = table.take(pa.array(order)).combine_chunks()
    draw = np.fromiter((zlib.crc32(name.encode()) for name in table.column("id").to_pylist()), np.uint32, count)
    for name, values in (("draw", draw), ("scale", scale), ("residual", residual)):
        table = table.append_column(name, pa.array(values))
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    header: dict[str, Any] = {
        "format": _FORMAT,
        "dimension": dimension,
        "rows": count,
        "parts": [[part.number, part.name, part.rows, part.removed] for part in parts],
        "blocks": blocks,
        "shapes": shapes,
        "bytes": {path.name: path.stat().st_size for path in folder.iterdir()},
        "crc32": {name: _checksum(folder / name) for name in _CHECKED},
    }
    (folder / "segment.json").write_text(json.dumps(header), encoding="utf-8")
    return count


def _write_coarse(
    folder: Path, exact: Float[np.ndarray, "N D"], blocks: list[list[Any]]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], list[dict[str, Any]]]:
    """Writes the int8 rows; returns scales, residuals, and the centre and the longest row of each block."""
    coarse = np.memmap(folder / "vectors.i8", np.int8, "w+", shape=(len(exact), padded(exact.shape[1])))
    scale, residual = np.empty(len(exact), np.float32), np.empty(len(exact), np.float32)
    shapes: list[dict[str, Any]] = []
    for _, start, stop in blocks:
        total, longest = np.zeros(exact.shape[1]), 0.0
        for at in _chunks(start, stop):
            total += exact[at].sum(axis=0, dtype=np.float64)
        centre = (total / (stop - start)).astype(np.float32)
        for at in _chunks(start, stop):
            coarse[at], scale[at], residual[at], length = quantise(exact[at], centre)
            longest = max(longest, length)
        shapes.append({"centre": [float(value) for value in centre], "longest": longest})
    coarse.flush()
    return scale, residual, shapes


def _chunks(start: int, stop: int) -> Iterator[slice]:
    """Gives slices of at most ``_STEP`` rows."""
    for begin in range(start, stop, _STEP):
        yield slice(begin, min(begin + _STEP, stop))


_ROWS = pa.schema(
    [
        pa.field("id", pa.large_string()),
        pa.field("modality", pa.large_string()),
        pa.field("source", pa.large_string()),
        pa.field("start_s", pa.float64()),
        pa.field("stop_s", pa.float64()),
        pa.field("metadata", pa.large_string()),
        pa.field("address", pa.uint64()),
    ]
)


def _batches(store: Snapshot, parts: Sequence[Part], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Gives columns of the rows of several parts, and their addresses where those of a hit are asked for."""
    for part in parts:
        for batch in store.read(part, columns):
            yield batch.select(_ROWS.names).cast(_ROWS) if columns == HIT_COLUMNS else batch


def _open(folder: Path, name: str) -> _Segment:
    """Returns a segment.

    Raises:
        OSError, ValueError, KeyError, TypeError, pa.ArrowException: it is not whole.
    """
    header = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
    count, dimension = int(header["rows"]), int(header["dimension"])
    if header["format"] != _FORMAT:
        raise ValueError(f"{folder} has the format {header['format']}")
    for file, length in header["bytes"].items():
        path = folder / file
        if path.stat().st_size != length or (file in _CHECKED and _checksum(path) != header["crc32"][file]):
            raise ValueError(f"{path} is damaged")
    exact = np.memmap(folder / "vectors.f32", np.float32, "c", shape=(count, dimension))
    coarse = np.memmap(folder / "vectors.i8", np.int8, "c", shape=(count, padded(dimension)))
    table = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()
    if len(table) != count:
        raise ValueError(f"{folder} has {count} vectors and {len(table)} rows")
    columns = {key: table.column(key).to_numpy() for key in ("address", "draw", "scale", "residual")}
    for _, start, stop in header["blocks"]:
        if not (np.diff(columns["address"][start:stop].view(np.int64)) > 0).all():
            raise ValueError(f"{folder} has rows in another order than the store")
    blocks = []
    for (modality, start, stop), shape in zip(header["blocks"], header["shapes"], strict=True):
        at = slice(start, stop)
        scale, residual = (columns[key][at].copy() for key in ("scale", "residual"))  # torch wants them writeable
        centre, both = np.array(shape["centre"], np.float32), (np.asarray(exact[at]), np.asarray(coarse[at]))
        rows = Rows(*both, scale, residual, centre, float(shape["longest"]))
        told = table.slice(start, stop - start)
        blocks.append(Block(modality, rows, told, columns["address"][at], columns["draw"][at], None))
    return _Segment(name, tuple(Part(*part) for part in header["parts"]), tuple(blocks))


def _checksum(path: Path) -> int:
    """Returns the CRC-32 of a file, read through a map."""
    return zlib.crc32(np.memmap(path, np.uint8, "r").data)


def _masked(segment: _Segment, parts: dict[str, Part], store: Snapshot) -> tuple[Block, ...] | None:
    """Returns the blocks of a segment with what was removed masked; None where it no longer fits or is mostly gone."""
    held = {part.name: part for part in segment.held}
    if all(name in parts and parts[name].removed == part.removed for name, part in held.items()):
        return segment.blocks
    live = [store.live(parts[name]) for name in held if name in parts]
    addresses = np.sort(np.concatenate(live)) if live else np.empty(0, np.uint64)
    masks = [members(block.address, addresses) for block in segment.blocks]
    kept = sum(int(mask.sum()) for mask in masks)
    if kept != len(addresses) or kept < _LEFT_MIN * len(segment):
        return None
    return tuple(
        Block(b.modality, b.rows, b.table, b.address, b.draw, None if mask.all() else mask)
        for b, mask in zip(segment.blocks, masks, strict=True)
    )


def members(values: UInt64[np.ndarray, " N"], among: UInt64[np.ndarray, " M"]) -> Bool[np.ndarray, " N"]:
    """Returns which values are in ``among``; both ascending, so that a few are found without going through all."""
    found = np.zeros(len(values), bool)
    if len(values):
        place = np.minimum(np.searchsorted(values, among), len(values) - 1)
        found[place[values[place] == among]] = True
    return found
