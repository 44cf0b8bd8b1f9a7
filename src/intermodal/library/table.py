"""The store in a Lance table, which https://lancedb.com opens too.

It takes typed filters, knows where each row lies, and is imported in a tenth of a second; lancedb around it takes ten
times as long, and would be needed here for nothing else.

What is done about the format's sharp edges: two writers that insert the same id at once would both succeed, so every
change takes a file lock, and what is there already is found in memory (``held``), because the format's own way of
merging reads the ids of all rows at each insert, or trusts an index. Commits are not flushed, so they are here
(``durable``). Distances change their scale once an index exists, so the library computes scores itself.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, UInt64

from intermodal.errors import StoreError
from intermodal.library.durable import Repaired, is_whole, manifests, newest_manifest, repair_table, sync_tree
from intermodal.library.filters import KINDS, Filter, column, column_of, expression, kind_of
from intermodal.library.held import Hashes, Holdings
from intermodal.library.store import HIT_COLUMNS, Part, Row, Snapshot

if TYPE_CHECKING:
    import lance

_NAME = "items"
_LOCK_S = 600.0  # a commit takes milliseconds; whoever waits this long waits for a stopped process
_DELETE_AT_ONCE = 10_000
_PART_ROWS = 131_072  # larger parts are left alone when small ones are merged
_PART_ROWS_MIN = 1024
_REFINED = 10  # candidates of the index per row wanted, scored again in float32
_PROBES = 20  # cells of the index that are read


class LanceStore:
    """A store in a Lance table inside ``folder``; safe to use from several threads and processes, not after a fork."""

    def __init__(self, folder: Path) -> None:
        """Keeps the folder; the table in it is made by the first insert."""
        self.folder = folder
        self.table = folder / f"{_NAME}.lance"
        self._synced: set[str] = set()
        self._seen: tuple[str, Snapshot] | None = None
        self._holdings = Holdings()

    def stamp(self) -> str:
        """Returns the newest version file's name, length and time."""
        newest = newest_manifest(self.table)
        if newest is None:
            return ""
        status = os.stat(newest)
        return f"{os.path.basename(newest)}:{status.st_size}:{status.st_mtime_ns}"

    def snapshot(self) -> Snapshot:
        """Returns the rows as they are now.

        Raises:
            StoreError: the newest version cannot be read.
        """
        stamp, seen = self.stamp(), self._seen
        if seen is not None and seen[0] == stamp:
            return seen[1]
        if not stamp:
            return LanceSnapshot(None)
        import lance

        try:
            if not is_whole(manifests(self.table)[0]):
                raise ValueError("the file is cut off")
            found = LanceSnapshot(lance.dataset(str(self.table)))
        except Exception as error:
            raise StoreError(
                f"the store in {str(self.folder)!r} does not open: its newest version is damaged "
                f"({_first_line(error)}); Library.repair_folder goes back to the newest whole one"
            ) from error
        self._seen = (stamp, found)
        return found

    def held(self) -> Hashes:
        """Returns what it holds now; cheap while little is new since it was asked before."""
        return self._holdings.of(self.snapshot())

    def insert(self, rows: list[Row]) -> int:
        """Adds the rows whose ids are new, durably and all at once; returns how many were.

        Raises:
            StoreError: the vectors are of another length than those in the store, or it is locked for too long.
        """
        if not rows:
            return 0
        dimension = len(rows[0].vector)
        if any(len(row.vector) != dimension for row in rows):
            raise StoreError("the vectors of one insert have several lengths; use one model for a library")
        unique = list({row.id: row for row in rows}.values())
        with self._writing():
            table = self._open_or_create(dimension)
            new = self._new_of(unique)
            if not new:
                return 0
            extra = {name: pa.field(name, KINDS[kind]) for name, kind in _metadata_columns(new).items()}
            absent = [made for name, made in extra.items() if name not in table.schema.names]
            if absent:
                table.add_columns(pa.schema(absent))
            held = [name for name in table.schema.names if ":" in name]
            _append(table, _to_arrow(new, dimension, held))
            sync_tree(self.table, self._synced)
        return len(new)

    def _new_of(self, rows: list[Row]) -> list[Row]:
        """Returns the rows whose ids are not in the newest version; the caller holds the lock."""
        doubtful = [row.id for row, may in zip(rows, self.held().may_have_id([r.id for r in rows]), strict=True) if may]
        if not doubtful:
            return rows
        there = set(self.snapshot().select(column("id").is_in(doubtful), ["id"]).column("id").to_pylist())
        return [row for row in rows if row.id not in there]

    def delete(self, ids: list[str]) -> int:
        """Removes rows and returns how many there were."""
        removed = 0
        if not ids:
            return 0
        with self._writing():
            if not self.stamp():
                return 0
            table = self._open()
            for at in range(0, len(ids), _DELETE_AT_ONCE):
                condition = pc.field("id").isin(pa.array(ids[at : at + _DELETE_AT_ONCE], pa.string()))
                removed += table.delete(condition)["num_deleted_rows"]
            sync_tree(self.table, self._synced)
        return removed

    def index(self) -> None:
        """Builds the index of ``nearest``, or brings it up to date."""
        with self._writing():
            if self.snapshot().count():
                self._open().create_index("vector", "IVF_SQ", metric="cosine", replace=True)
                sync_tree(self.table, self._synced)

    def compact(self, keep_s: float, enough: int = 1) -> None:
        """Merges small parts, the smallest first, until about ``enough`` are left, and forgets old versions."""
        with self._writing():
            if self.stamp():
                table = self._open()
                rows = [part.rows for part in self.snapshot().parts()]
                table.optimize.compact_files(target_rows_per_fragment=_merged_below(rows, enough))
                table.optimize.optimize_indices()
                table.cleanup_old_versions(older_than=timedelta(seconds=keep_s))
                sync_tree(self.table, self._synced)

    def repair(self) -> Repaired:
        """Makes the table open and read again and returns what was done."""
        with self._writing():
            found = repair_table(self.table)
        self._seen = None
        return found

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the lock that every change takes, across processes; freed by the system when its holder dies."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.folder / "write.lock", timeout=_LOCK_S):
                yield
        except Timeout as error:
            raise StoreError(
                f"the store in {str(self.folder)!r} has been locked by another process for {_LOCK_S:.0f} s; "
                "end that one first"
            ) from error

    def _open(self) -> "lance.LanceDataset":
        """Returns the newest version for changing it; the caller holds the lock."""
        import lance

        return lance.dataset(str(self.table))

    def _open_or_create(self, dimension: int) -> "lance.LanceDataset":
        """Returns the table, made for vectors of this length where there was none; the caller holds the lock."""
        held = self.snapshot().dimension()
        if held is None:
            import lance

            mode = "overwrite" if self.table.exists() else "create"  # a stopped process may have left a beginning
            return lance.write_dataset(_schema(dimension).empty_table(), str(self.table), mode=mode)
        if held != dimension:
            raise StoreError(
                f"the store in {str(self.folder)!r} holds vectors of length {held}, and these are of length "
                f"{dimension}; use the model that it was made with"
            )
        return self._open()


def _append(table: "lance.LanceDataset", rows: pa.Table) -> None:
    """Adds rows to the newest version."""
    import lance

    lance.write_dataset(rows, table, mode="append")


def _merged_below(rows: list[int], enough: int) -> int:
    """Returns the size below which parts are merged, so that about ``enough`` parts are left of parts of these sizes.

    The least that will do: a part that is merged is written anew, so a large one should not be for a few small ones.
    """
    limit = _PART_ROWS_MIN
    while limit < _PART_ROWS:
        small = [count for count in rows if count < limit]
        if len(rows) - len(small) + -(-sum(small) // limit) <= enough:
            break
        limit *= 2
    return limit


def _schema(dimension: int) -> pa.Schema:
    """Returns the columns of a new table."""
    return pa.schema(
        [
            pa.field("id", pa.string(), False, {"lance-schema:unenforced-primary-key": "true"}),
            pa.field("modality", pa.string(), False),
            pa.field("vector", pa.list_(pa.float32(), dimension), False),
            pa.field("source", pa.string(), False),
            pa.field("start_s", pa.float64()),
            pa.field("stop_s", pa.float64()),
            pa.field("metadata", pa.string(), False),
            pa.field("added_at", pa.timestamp("us", "UTC"), False),
            pa.field("media", pa.large_binary(), True, {"lance-encoding:blob": "true"}),
        ]
    )


def _metadata_columns(rows: Iterable[Row]) -> dict[str, str]:
    """Returns the columns that the metadata of these rows needs: name -> kind."""
    kinds: dict[str, str] = {}
    for row in rows:
        for key, value in row.metadata.items():
            kind = kind_of(value)
            if kind is not None:
                kinds[column_of(kind, key)] = kind
    return kinds


def _to_arrow(rows: list[Row], dimension: int, held: list[str]) -> pa.Table:
    """Returns rows as a table with the fixed columns and the metadata columns that the store holds."""
    schema = _schema(dimension)
    vectors = np.stack([row.vector for row in rows]).astype(np.float32)
    columns: dict[str, Any] = {
        "id": [row.id for row in rows],
        "modality": [row.modality for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        "source": [row.source for row in rows],
        "start_s": [row.start_s for row in rows],
        "stop_s": [row.stop_s for row in rows],
        "metadata": [json.dumps(dict(row.metadata), ensure_ascii=False, allow_nan=False) for row in rows],
        "added_at": [datetime.now(UTC)] * len(rows),
        "media": [row.media for row in rows],
    }
    flat = [{column_of(str(kind_of(v)), k): v for k, v in row.metadata.items()} for row in rows]
    for name in held:
        kind = KINDS[name.partition(":")[0]]
        columns[name] = pa.array([values.get(name) for values in flat], kind)
        schema = schema.append(pa.field(name, kind))
    return pa.table(columns, schema=schema)


def _first_line(error: Exception) -> str:
    """Returns the beginning of a message that may be long."""
    return str(error).partition("\n")[0][:160]


class LanceSnapshot:
    """One version of a table; of an empty store where ``data`` is None."""

    def __init__(self, data: "lance.LanceDataset | None") -> None:
        """Keeps the version, and what every search asks of it."""
        self._data = data
        self._count = 0 if data is None else int(data.count_rows())
        self._columns = [] if data is None else list(data.schema.names)
        self._dimension = None if data is None else int(data.schema.field("vector").type.list_size)

    def dimension(self) -> int | None:
        """Returns the length of the vectors; None before the first row."""
        return self._dimension

    def count(self) -> int:
        """Returns how many rows there are."""
        return self._count

    def columns(self) -> list[str]:
        """Returns the names of all columns; those with a colon hold metadata."""
        return list(self._columns)

    def parts(self) -> list[Part]:
        """Returns the parts, oldest first."""
        fragments = [] if self._data is None else self._data.get_fragments()
        parts = []
        for each in fragments:
            name = "+".join(file.path for file in each.metadata.files)
            parts.append(Part(each.fragment_id, name, each.physical_rows, each.deletion_file() or ""))
        return parts

    def read(self, part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Gives the rows left in a part in order, with their ``address``."""
        fragment = None if self._data is None else self._data.get_fragment(part.number)
        if fragment is None:
            raise StoreError(f"there is no part {part.number} in this version of the store; ask it for its parts")
        for batch in fragment.scanner(columns=columns, with_row_address=True, batch_size=8192).to_batches():
            yield batch.rename_columns(["address" if name == "_rowaddr" else name for name in batch.schema.names])

    def live(self, part: Part) -> UInt64[np.ndarray, " N"]:
        """Returns the addresses of the rows left in a part, ascending."""
        found = [batch.column("address").to_numpy() for batch in self.read(part, [])]
        return np.concatenate(found) if found else np.empty(0, np.uint64)

    def matching(self, condition: Filter) -> UInt64[np.ndarray, " N"]:
        """Returns the addresses of the rows that satisfy a filter, ascending.

        Raises:
            UnknownName: no row has the metadata key.
            InvalidValue: it is compared with a value of another kind.
        """
        if self._data is None:
            return np.empty(0, np.uint64)
        where = expression(condition, self.columns())
        found = self._data.scanner(columns=[], filter=where, with_row_address=True).to_table()
        return np.sort(found.column("_rowaddr").to_numpy())

    def select(self, condition: Filter | None, columns: list[str]) -> pa.Table:
        """Returns some columns of the rows that satisfy a filter."""
        if self._data is None:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        where = None if condition is None else expression(condition, self.columns())
        return self._data.scanner(columns=columns, filter=where).to_table()

    def nearest(self, vector: Float[np.ndarray, " D"], top: int, condition: Filter | None) -> pa.Table:
        """Returns about the ``top`` rows nearest to a vector, found through the index where there is one."""
        if self._data is None:
            return pa.table({name: pa.array([], pa.string()) for name in [*HIT_COLUMNS, "vector"]})
        where = None if condition is None else expression(condition, self.columns())
        query = {"column": "vector", "q": vector, "k": top, "refine_factor": _REFINED, "nprobes": _PROBES}
        if not self.indexed():
            query["metric"] = "cosine"
        wanted = [*HIT_COLUMNS, "vector", "_distance"]
        return self._data.scanner(columns=wanted, nearest=query, filter=where, prefilter=True).to_table()

    def media(self, id: str) -> bytes | None:
        """Returns the bytes kept with a row."""
        if self._data is None:
            return None
        scanner = self._data.scanner(columns=["id"], filter=pc.field("id") == pa.scalar(id), with_row_address=True)
        blobs = self._data.take_blobs("media", addresses=scanner.to_table().column("_rowaddr").to_pylist())
        return None if not blobs or blobs[0] is None else bytes(blobs[0].readall())

    def indexed(self) -> bool:
        """Returns whether ``nearest`` has an index."""
        return self._data is not None and any("vector" in each.field_names for each in self._data.describe_indices())
