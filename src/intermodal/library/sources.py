"""What ``add`` was given, one source after the other: files, folders, patterns, items, samples and datasets.

Nothing is read here but names and ``metadata.jsonl``; a folder of a million files is walked, never listed whole.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from intermodal.errors import InvalidValue
from intermodal.library.store import CONTENT
from intermodal.types import Sample

METADATA = "metadata.jsonl"
HEADER = "library.json"
"""The file that marks a folder as a library."""
GROUP = 16  # samples of a dataset that are made at a time
_WILD = "*?["


@runtime_checkable
class Dataset(Protocol):
    """Samples by index: the same index gives the same sample, always."""

    fields: dict[str, str]

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the samples with these numbers."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what identifies it."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """One thing to add. Exactly one of path, items, dataset and error is given.

    Attributes:
        name: what a hit will call it.
        metadata: of all its items.
        path: of a file.
        items: fields and their items; one field, the empty one, for an item alone.
        dataset: where the samples ``index`` are from.
        index: their numbers.
        error: why it cannot be read, where that is known already.
    """

    name: str
    metadata: Mapping[str, Any]
    path: Path | None = None
    items: Sample | None = None
    dataset: Dataset | None = None
    index: tuple[int, ...] = ()
    error: str = ""


def check(given: Sequence[Any]) -> None:
    """Checks what was given before anything is added.

    Raises:
        InvalidValue: a path or pattern that names nothing, or something that is no source.
    """
    for each in given:
        if isinstance(each, str | os.PathLike):
            path = os.fspath(each)
            if not os.path.lexists(path) and not (_is_pattern(path) and next(glob.iglob(path, recursive=True), None)):
                raise InvalidValue(f"there is no file, folder or match for {path!r}; give an existing path")
        elif isinstance(each, bytes):
            raise InvalidValue("bytes were given to add; open them as an item first, as in Image.open(data)")
        elif not (_is_item(each) or isinstance(each, Mapping | Dataset | Iterable)):
            raise InvalidValue(f"add was given {type(each).__name__}; give paths, items, samples or a dataset")


def walk(given: Iterable[Any], metadata: Mapping[str, Any]) -> Iterator[Source]:
    """Gives the sources in a fixed order: as given, and files of a folder by name."""
    for each in given:
        if isinstance(each, str | os.PathLike):
            yield from _paths(os.fspath(each), metadata)
        elif _is_item(each):
            yield Source("", metadata, items={"": each})
        elif isinstance(each, Mapping):
            yield Source("", metadata, items=each)
        elif isinstance(each, Dataset):
            yield from _dataset(each, metadata)
        elif isinstance(each, Iterable):
            yield from walk(each, metadata)
        else:
            yield Source(
                repr(each)[:200], metadata, error=f"is a {type(each).__name__}, not a path, an item or a sample"
            )


def count(given: Iterable[Any]) -> int:
    """Returns how many sources ``walk`` will give; 0 where one of them can only be gone through once."""
    total = 0
    for each in given:
        if isinstance(each, str | os.PathLike):
            path = os.fspath(each)
            roots = [path] if os.path.lexists(path) or not _is_pattern(path) else glob.glob(path, recursive=True)
            total += sum(_count_files(root) for root in roots)
        elif _is_item(each) or isinstance(each, Mapping):
            total += 1
        elif isinstance(each, Dataset):
            total += -(-len(each) // GROUP)
        elif isinstance(each, list | tuple):
            total += count(each)
        else:
            return 0
    return total


def _count_files(path: str) -> int:
    """Returns how many files there are below a path."""
    if not os.path.isdir(path):
        return 1
    total = 0
    for _, folders, files in os.walk(path):
        folders[:] = [] if HEADER in files else [name for name in folders if not name.startswith(".")]
        total += 0 if HEADER in files else sum(not name.startswith(".") and name != METADATA for name in files)
    return total


def content_key(*parts: Any) -> str:
    """Returns the first part of an id for JSON values that say what the content is."""
    told = json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return hashlib.sha256(told).hexdigest()[:CONTENT]


def _is_item(value: Any) -> bool:
    return isinstance(getattr(type(value), "modality", None), str)


def _is_pattern(path: str) -> bool:
    return any(letter in path for letter in _WILD)


def _dataset(dataset: Dataset, metadata: Mapping[str, Any]) -> Iterator[Source]:
    """Gives the samples of a dataset in groups."""
    told = dataset.describe()
    name = ":".join(str(told[key]) for key in ("name", "split") if told.get(key)) or type(dataset).__name__
    for start in range(0, len(dataset), GROUP):
        index = tuple(range(start, min(start + GROUP, len(dataset))))
        yield Source(name, metadata, dataset=dataset, index=index)


def _paths(path: str, metadata: Mapping[str, Any]) -> Iterator[Source]:
    """Gives the files that a path or pattern stands for."""
    if not os.path.lexists(path) and _is_pattern(path):
        for found in sorted(glob.glob(path, recursive=True)):
            if not os.path.isdir(found):
                yield from _paths(found, metadata)
    elif os.path.isdir(path):
        yield from _folder(Path(os.path.abspath(path)), metadata, ())
    else:
        absolute = Path(os.path.abspath(path))
        yield Source(str(absolute), metadata, path=absolute)


def _folder(folder: Path, metadata: Mapping[str, Any], tables: "tuple[_Table, ...]") -> Iterator[Source]:
    """Gives the files below a folder, without hidden ones and libraries; linked folders are not entered."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Source(str(folder), metadata, error=f"cannot be read: {error.strerror}")
        return
    if any(entry.name == HEADER for entry in entries):
        return
    if any(entry.name == METADATA for entry in entries):
        table = _Table(folder / METADATA)
        yield from (Source(place, {}, error=reason) for place, reason in table.problems)
        tables = (*tables, table)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == METADATA:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _folder(Path(entry.path), metadata, tables)
        elif not entry.is_dir():
            path = Path(entry.path)
            told: dict[str, Any] = {}
            for table in tables:
                told |= table.of(path)
            yield Source(str(path), {**told, **metadata}, path=path)


class _Table:
    """``metadata.jsonl``: what it says of each file; only the places of its lines are held in memory."""

    def __init__(self, path: Path) -> None:
        """Reads it once; lines that are no JSON objects are kept as problems."""
        self._path = path
        self._places: dict[str, int] = {}
        self.problems: list[tuple[str, str]] = []
        try:
            with open(path, "rb") as file:
                start = 0
                for number, line in enumerate(file, 1):
                    self._note(start, number, line)
                    start += len(line)
        except OSError as error:
            self.problems.append((str(path), f"cannot be read: {error.strerror}"))

    def _note(self, start: int, number: int, line: bytes) -> None:
        """Notes the files that one line tells about."""
        if not line.strip():
            return
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("it is no object")
            names = [value for key, value in row.items() if _names_file(key) and isinstance(value, str)]
            if not names:
                raise ValueError("it has no file_name")
        except (ValueError, RecursionError) as error:
            self.problems.append((f"{self._path}:{number}", f"is no line of metadata: {error}"))
            return
        for name in names:
            self._places[os.path.normpath(name)] = start

    def of(self, path: Path) -> dict[str, Any]:
        """Returns the columns of a file other than file names."""
        start = self._places.get(os.path.relpath(path, self._path.parent))
        if start is None:
            return {}
        with open(self._path, "rb") as file:
            file.seek(start)
            row = cast(dict[str, Any], json.loads(file.readline()))
        return {key: value for key, value in row.items() if not _names_file(key) and value is not None}


def _names_file(key: str) -> bool:
    """Returns whether a column holds paths, by the convention of folder datasets."""
    return key == "file_name" or key.endswith("_file_name")
