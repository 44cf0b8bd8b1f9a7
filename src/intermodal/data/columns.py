"""Columns of parquet files, read a row group at a time, and the last ones kept.

A row group is the least that can be read of a parquet file, and rows are asked for in any order. So a column that fits
into memory stays there; one that does not is unpacked, row group by row group as they are asked for, into files of the
cache, which are mapped: after the first reading a row costs no more than its own bytes.
"""

import hashlib
import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from intermodal import runtime
from intermodal.errors import InvalidData

MEMORY_BYTES = 256 * 2**20
MAPPED_MAX = 256
"""Files that are mapped at a time."""

logger = logging.getLogger(__name__)


class Columns:
    """The columns of some parquet files, whose rows are numbered through.

    Attributes:
        schema: of the first file, as Arrow has it.
        nulls: column -> how many of its values are absent, where all files say so.
        sha256: of the sizes and footers of the files, which say where everything is, but not its content.
    """

    def __init__(self, paths: Sequence[Path], memory_bytes: int = MEMORY_BYTES) -> None:
        """Reads the footers.

        Raises:
            InvalidData: a file that is none or cut off, or that lacks columns of the first one.
        """
        self._paths, self._memory = list(paths), memory_bytes
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._held = OrderedDict[tuple[int, str], tuple[Any, int]]()
        self._bytes = 0
        self._groups: list[tuple[int, int]] = []
        self._sizes, self.nulls = Counter[str](), dict[str, int]()
        rows, digest, unknown = list[int](), hashlib.sha256(), set[str]()
        for number, path in enumerate(self._paths):
            file = _opened(path)
            if number == 0:
                self.schema = file.schema_arrow
                self.nulls = dict.fromkeys(self.schema.names, 0)
            lacking = set(self.schema.names) - set(file.schema_arrow.names)
            if lacking:
                raise InvalidData(
                    f"{path} lacks the columns {', '.join(sorted(lacking))} that {self._paths[0].name} has; give files "
                    "of one data set"
                )
            for i in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(i)
                self._groups.append((number, i))
                rows.append(group.num_rows)
                self._note(group, unknown)
            digest.update(_footer(path))
            file.close()
        self._starts = np.array([0, *accumulate(rows)], np.int64)
        self.nulls = {name: count for name, count in self.nulls.items() if name not in unknown}
        self.sha256 = digest.hexdigest()
        self._large, self._told = self._too_large(), set[str]()

    def _note(self, group: Any, unknown: set[str]) -> None:
        """Adds up the sizes and the absent values of a row group; of a picture those of its bytes."""
        for k in range(group.num_columns):
            part = group.column(k)
            name, _, inner = part.path_in_schema.partition(".")
            self._sizes[name] += part.total_uncompressed_size
            told = part.statistics
            if inner in ("", "bytes"):
                if told is None or not told.has_null_count:
                    unknown.add(name)
                else:
                    self.nulls[name] = self.nulls.get(name, 0) + told.null_count
            elif inner != "path":
                unknown.add(name)

    def _too_large(self) -> set[str]:
        """Returns the columns that do not fit into memory, the smallest taken first."""
        names = sorted(self._sizes, key=lambda name: self._sizes[name])
        sums = accumulate(self._sizes[name] for name in names)
        return {name for name, size in zip(names, sums, strict=True) if size > self._memory}

    def __len__(self) -> int:
        """Returns the number of rows."""
        return int(self._starts[-1])

    def place(self, i: int) -> tuple[Path, int]:
        """Returns the file that a row is in, and its number there."""
        group = self._group(i)
        file = self._groups[group][0]
        first = next(g for g in range(group, -1, -1) if g == 0 or self._groups[g - 1][0] != file)
        return self._paths[file], i - int(self._starts[first])

    def cell(self, i: int, column: str) -> Any:
        """Returns the value of a row in a column; None where it is absent."""
        group = self._group(i)
        return self._column(group, column)[i - int(self._starts[group])].as_py()

    def chunks(self, column: str) -> Iterator[Any]:
        """Yields a column, row group by row group."""
        for group in range(len(self._groups)):
            yield self._column(group, column)

    def _group(self, i: int) -> int:
        return int(np.searchsorted(self._starts, i, "right")) - 1

    def _column(self, group: int, column: str) -> Any:
        """Returns a column of a row group."""
        key = group, column
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]
        with self._reading:  # one thread reads it, the others find it
            with self._lock:
                if key in self._held:
                    return self._held[key][0]
            found, size = None, 0
            if column not in self._large:
                found = self._read(group, column)
                size = found.nbytes
                if self._bytes + size > self._memory:  # unpacked it is larger than the file said
                    self._large.add(column)
                    found, size = None, 0
            if found is None:
                found = self._mapped(group, column)
            self._hold(key, found, size)
        return found

    def _hold(self, key: tuple[int, str], found: Any, size: int) -> None:
        """Keeps a column of a row group; of those that are mapped, which have no size, only the last ones used."""
        with self._lock:
            self._held[key] = found, size
            self._bytes += size
            mapped = [one for one, (_, held) in self._held.items() if not held]
            if len(mapped) > MAPPED_MAX:
                del self._held[mapped[0]]

    def _read(self, group: int, column: str) -> Any:
        """Returns a column of a row group, from its parquet file."""
        import pyarrow as pa

        number, inside = self._groups[group]
        path = self._paths[number]
        file = _opened(path)
        try:
            return file.read_row_group(inside, columns=[column], use_threads=False).column(column)
        except (OSError, ValueError, IndexError, pa.ArrowException) as error:
            raise InvalidData(
                f"{path} is damaged or was changed: row group {inside} cannot be read: {error}"
            ) from error
        finally:
            file.close()

    def _mapped(self, group: int, column: str) -> Any:
        """Returns a column of a row group, from a file of the cache, which is made where it is not there."""
        import pyarrow as pa

        number, inside = self._groups[group]
        folder = self._folder(number, column)
        place = folder / f"{inside:06d}.arrow"
        try:
            if not place.exists():
                table = pa.table({column: self._read(group, column)})
                beside = place.with_name(f".{place.name}.{os.getpid()}")
                with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
                os.replace(beside, place)
            return pa.ipc.open_file(pa.memory_map(str(place))).read_all().column(column)
        except (OSError, pa.ArrowException) as error:
            raise InvalidData(
                f"the column {column!r} of {self._paths[number].name} cannot be unpacked into {folder} ({error}); make "
                "room there, or set INTERMODAL_CACHE to another folder"
            ) from error

    def _folder(self, number: int, column: str) -> Path:
        """Returns the folder that a column of a file is unpacked into; says so once for each column."""
        path = self._paths[number]
        told = path.stat()
        key = f"{path.resolve()} {told.st_size} {told.st_mtime_ns} {column}"
        cache = runtime.cache_folder() / "parquet"
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
        folder.mkdir(parents=True, exist_ok=True)
        if column not in self._told:
            self._told.add(column)
            logger.warning(
                "the column %r has %d MB, more than is kept in memory; it is unpacked into %s as it is read",
                column,
                self._sizes[column] >> 20,
                cache,
            )
        return folder

    def close(self) -> None:
        """Drops what is kept."""
        with self._lock:
            self._held.clear()
            self._bytes = 0


def _opened(path: Path) -> Any:
    """Returns a parquet file, open.

    Raises:
        InvalidData: it is none, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidData(f"{path} cannot be read as a parquet file: {reason}; copy or download it again") from error


def _footer(path: Path) -> bytes:
    """Returns the footer of a parquet file, which ends with its own length and a mark."""
    with path.open("rb") as file:
        size = file.seek(-8, os.SEEK_END) + 8
        length = min(int.from_bytes(file.read(4), "little"), size - 8)
        file.seek(-8 - length, os.SEEK_END)
        return f"{size}:".encode() + file.read(length)
