"""Files of rows to items: decoded in threads, kept up to a number of bytes, each that cannot be read reported once."""

import contextvars
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from intermodal import catalog, runtime
from intermodal.data.rows import Row, Rows
from intermodal.errors import UnreadableMedia
from intermodal.types import Item

THREADS_MAX = 8


@dataclass(frozen=True)
class Problem:
    """Something in a data set that could not be read.

    Attributes:
        place: metadata file and line, shard or table that names it first.
        what: the path of the file, or the field of a text.
        reason: why it could not be read.
    """

    place: str
    what: str
    reason: str

    def __str__(self) -> str:
        """Returns it as one line."""
        return f"{self.place}: {self.what!r}: {self.reason}"


def item_bytes(item: Item) -> int:
    """Returns about how many bytes an item takes in memory."""
    total = 256
    for field in dataclasses.fields(item):  # type: ignore[arg-type]
        value = getattr(item, field.name)
        if isinstance(value, np.ndarray):
            total += int(value.nbytes) + 128
        elif isinstance(value, str):
            total += 4 * len(value)
        elif dataclasses.is_dataclass(value):
            total += item_bytes(value)  # type: ignore[arg-type]
    return total


class _Cache:
    """Decoded items, the least recently used dropped beyond a number of bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._items: OrderedDict[str, tuple[Item, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """How many are held."""
        return self._bytes

    def find(self, keys: Iterable[str]) -> dict[str, Item]:
        """Returns those of ``keys`` that are held, and marks them as used."""
        found = {}
        with self._lock:
            for key in keys:
                entry = self._items.get(key)
                if entry is not None:
                    self._items.move_to_end(key)
                    found[key] = entry[0]
        return found

    def add(self, key: str, item: Item) -> None:
        """Keeps ``item`` unless it is larger than the whole cache."""
        size = item_bytes(item)
        if size > self._bytes_max:
            return
        with self._lock:
            before = self._items.pop(key, None)
            self._bytes += size - (before[1] if before else 0)
            self._items[key] = (item, size)
            while self._bytes > self._bytes_max:
                self._bytes -= self._items.popitem(last=False)[1][1]


@dataclass(frozen=True)
class File:
    """A file to decode."""

    key: str
    modality: str
    path: str
    row: Row


class Files:
    """Decodes files in threads, keeps what was decoded and remembers what could not be read."""

    def __init__(self, table: Rows, cache_bytes: int, report: Callable[[Problem], None]) -> None:
        self.cache = _Cache(cache_bytes)
        self.problems: list[Problem] = []
        self._table, self._report, self._bad, self._lock = table, report, set[str](), threading.Lock()
        self._threads = min(runtime.cores(), THREADS_MAX)
        self._pool: ThreadPoolExecutor | None = None

    def add_problem(self, key: str, problem: Problem) -> None:
        """Reports a problem the first time that it comes up."""
        with self._lock:
            if key in self._bad:
                return
            self._bad.add(key)
            self.problems.append(problem)
        self._report(problem)

    def open(self, files: Iterable[File]) -> dict[str, Item]:
        """Returns key -> item of each file that can be read."""
        wanted = {file.key: file for file in files if file.key not in self._bad}
        found = self.cache.find(wanted)
        missing = [file for key, file in wanted.items() if key not in found]
        for file, item in zip(missing, self._decode(missing), strict=True):
            if item is not None:
                self.cache.add(file.key, item)
                found[file.key] = item
        return found

    def _decode(self, files: Sequence[File]) -> Iterator[Item | None]:
        """Yields the item of each file, or None; as many threads as cores share them."""
        if len(files) < 2 or self._threads < 2:
            yield from map(self._decode_one, files)
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "decode")
        step = -(-len(files) // (4 * self._threads))  # a few shares per thread: files differ in size
        shares = [files[i : i + step] for i in range(0, len(files), step)]
        limits = contextvars.copy_context  # those on media that hold here hold in the threads too
        futures = [self._pool.submit(limits().run, self._decode_all, share) for share in shares]
        try:
            for future in futures:
                yield from future.result()
        finally:  # after an error nothing is decoded any more when the caller hears of it
            for future in futures:
                future.cancel()
            wait(futures)

    def _decode_all(self, files: Sequence[File]) -> list[Item | None]:
        """Returns the item of each file, or None."""
        return [self._decode_one(file) for file in files]

    def _decode_one(self, file: File) -> Item | None:
        """Returns the item in one file; None where the row has none, or where it cannot be read, which is a problem."""
        given: str | bytes | None = None
        try:
            given = self._table.read(file.row, file.path)
            return None if given is None else opened(file.modality, given, file.path)
        except UnreadableMedia as error:
            self.add_problem(file.key, Problem(file.row.place, file.path, str(error)))
            return None

    def close(self) -> None:
        """Ends the threads; they start again when they are needed."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def opened(modality: str, given: str | bytes, name: str) -> Item:
    """Returns the item of ``modality`` in a file, given by its path or its bytes.

    Args:
        modality: what it should be.
        given: path or bytes.
        name: what messages call the bytes; its suffix tells a table of numbers.

    Raises:
        UnreadableMedia: it is something else, or damaged.
    """
    kind = catalog.module("modalities", modality).ITEM
    try:
        if modality == "timeseries" and isinstance(given, bytes):
            item: Item = kind.open(given, name)
        else:
            item = kind.open(given)
    except UnreadableMedia as error:
        if isinstance(given, str):
            raise
        raise UnreadableMedia(str(error).replace(f"{len(given)} bytes", name, 1)) from error
    return item
