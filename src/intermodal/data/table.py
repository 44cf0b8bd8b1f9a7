"""The rows of ``metadata.jsonl``: found in one pass, read again by their place in the file.

A table keeps 18 bytes per row (which file, where, how long, which line), so a folder of a million files costs a few
megabytes whatever its lines hold. The convention is that of Hugging Face's folder datasets: one JSON object per line,
``file_name`` or ``<field>_file_name`` for media, further columns beside them. What is added here: a list of strings is
several texts of one item, objects and numbers are metadata, and ``split`` is a column as well as a sub-folder.
"""

import hashlib
import json
import os
import threading
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from intermodal.data.rows import BY_SUFFIX, FIRST, SPLIT_WORDS, Row
from intermodal.errors import InvalidData, InvalidValue, UnknownName, UnreadableMedia
from intermodal.media.source import modality_of
from intermodal.types import MODALITIES

METADATA = "metadata.jsonl"
LINE_BYTES_MAX = 1 << 24
REMEMBERED_MAX = 1 << 16


@dataclass(frozen=True)
class _File:
    """A metadata file; what is asked again for every row is remembered here, for as long as the table lives.

    Attributes:
        path: where it is, absolute.
        below: the folder it is in, which the paths in it are below; absolute, as the working folder may change.
        name: the part of its path that tells it from others, for messages.
        split: the split that the folder's name says.
    """

    path: Path
    below: str
    name: str
    split: str | None
    _real: dict[str, str] = field(default_factory=dict)
    _kinds: dict[str, tuple[str, str]] = field(default_factory=dict)

    def inside(self, path: str, place: str) -> str:
        """Returns the real path of a row's file.

        Raises:
            InvalidData: a link leads out of the folder.
            UnreadableMedia: no file can have that name.
        """
        try:
            parent, name = os.path.split(f"{self.below}{os.sep}{path}")
            real = f"{self._folder(parent)}{os.sep}{name}"
            if os.path.islink(real):
                real = os.path.realpath(real)
        except ValueError as error:  # half a surrogate pair, which JSON can hold
            raise UnreadableMedia(f"{path!r} cannot be a path: {error}") from error
        if not real.startswith(self._folder(self.below).rstrip(os.sep) + os.sep):
            raise InvalidData(f"{place}: {path} is a link that leaves the folder; put the file itself there")
        return real

    def content(self, path: str, place: str) -> tuple[str, str]:
        """Returns the modality that a file's content shows; or nothing, and why."""
        kind = self._kinds.get(path)
        if kind is None:
            _bound(self._kinds)
            try:
                kind = modality_of(self.inside(path, place)), ""
            except UnreadableMedia as error:
                kind = "", str(error)
            self._kinds[path] = kind
        return kind

    def _folder(self, path: str) -> str:
        """Returns the real path of a folder; many files share it."""
        real = self._real.get(path)
        if real is None:
            _bound(self._real)
            real = self._real[path] = os.path.realpath(path)
        return real


def _bound(remembered: dict[str, Any]) -> None:
    """Forgets everything where too much is remembered."""
    if len(remembered) >= REMEMBERED_MAX:
        remembered.clear()


@dataclass
class _Found:
    """What a pass over the lines has seen so far."""

    file: "array[int]" = field(default_factory=lambda: array("H"))
    offset: "array[int]" = field(default_factory=lambda: array("Q"))
    size: "array[int]" = field(default_factory=lambda: array("I"))
    line: "array[int]" = field(default_factory=lambda: array("I"))
    fields: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    splits: set[str] = field(default_factory=set)
    first: dict[str, list[int]] = field(default_factory=dict)
    left_out: int = 0

    def note(self, row: Row, file: _File) -> None:
        """Notes the fields and the split of a row, and checks that no column changes its kind.

        Raises:
            InvalidData: a column that is a text on one line and a number or a file of another modality on another.
        """
        for name, path in tuple(row.media.items()):
            kind, reason = name if name in MODALITIES else _by_suffix(path), ""
            if not kind:
                kind, reason = (self.fields[name], "") if name in self.fields else file.content(path, row.place)
            if kind:
                self._same(name, kind, row.place)
            else:
                row.unknown[path] = reason
                del row.media[name]
        for name in row.texts:
            self._same(name, "text", row.place)
        for name in row.extra:
            self._same(name, "metadata", row.place)
        if row.split is not None:
            self.splits.add(row.split)

    def _same(self, name: str, kind: str, place: str) -> None:
        """Notes that column ``name`` is of ``kind`` at ``place``."""
        if name in MODALITIES and kind not in (name, "metadata"):
            raise InvalidData(f"{place}: the column {name!r} holds {kind}; give it another name")
        before, first = self.kinds.setdefault(name, (kind, place))
        if before != kind:
            raise InvalidData(
                f"{place}: the column {name!r} holds {kind}, but {before} at {first}; keep one kind per column"
            )
        if kind != "metadata":
            self.fields.setdefault(name, kind)

    def keep(self, present: set[str], file: int, offset: int, size: int, line: int) -> None:
        """Adds a row to the table."""
        for name in present:
            if len(rows := self.first.setdefault(name, [])) < FIRST:
                rows.append(len(self.offset))
        self.counts.update(present)
        for column, value in zip(
            (self.file, self.offset, self.size, self.line), (file, offset, size, line), strict=True
        ):
            column.append(value)


class Table:
    """The rows of one split that hold what was asked for, in the order of the lines.

    Attributes:
        fields: every field of the whole folder -> modality, in the order of first appearance.
        counts: in how many rows of the table each field is present.
        first: a few rows that have each field.
        splits: the splits that the folder has.
        left_out: rows of the split that hold none of the fields asked for, or lack a required one.
        unknown: (place, path, reason) of each file that is of no modality.
        sha256: hash of the metadata as it was read.
        name: of the folder.
        about: the hash, for reports.
    """

    counts: Mapping[str, int]
    first: Mapping[str, Sequence[int]]

    def __init__(
        self, folder: Path, split: str | None = None, fields: Sequence[str] | None = None, require: Sequence[str] = ()
    ) -> None:
        """Reads every line once.

        Args:
            folder: holds ``metadata.jsonl``, or sub-folders that do and whose names are splits.
            split: keep the rows of this split; None keeps all.
            fields: keep the rows that have at least one of these; None stands for all fields.
            require: keep the rows that have all of these.

        Raises:
            InvalidData: no metadata, a line that is no row, a path that leaves the folder, or no row kept.
            UnknownName: a split or field that the folder does not have.
        """
        self._files = _metadata_files(folder)
        self._at = {file.below: file for file in self._files}
        self._lock = threading.Lock()
        self._handles: dict[int, BinaryIO] = {}
        weakref.finalize(self, _close, self._handles)
        self.unknown: list[tuple[str, str, str]] = []
        found, digest = _Found(), hashlib.sha256()
        wanted = None if split is None else SPLIT_WORDS.get(split, split)
        for number, file in enumerate(self._files):
            for offset, line, data in _lines(file):
                digest.update(data)
                row = _row(data, f"{file.name} line {line}", file)
                if row is None:
                    continue
                found.note(row, file)
                self.unknown += [(row.place, name, reason) for name, reason in row.unknown.items()]
                present = {*row.media, *row.texts}
                if wanted is not None and row.split != wanted:
                    continue
                chosen = bool(present) if fields is None else not present.isdisjoint(fields)
                if chosen and present.issuperset(require):
                    found.keep(present, number, offset, len(data), line)
                else:
                    found.left_out += 1
        for name in (*(fields or ()), *require):
            if name not in found.fields:
                raise UnknownName(f"field in {folder}", name, found.fields)
        if wanted is not None and wanted not in found.splits:
            raise UnknownName(f"split in {folder}", wanted, found.splits)
        if not found.offset:
            asked = _asked(split, fields, require)
            raise InvalidData(f"{folder} has no row with {asked}; write such lines into its {METADATA}")
        self._found = found
        self.fields, self.counts, self.first = found.fields, dict(found.counts), found.first
        self.splits, self.left_out, self.sha256 = frozenset(found.splits), found.left_out, digest.hexdigest()
        self.name = folder.resolve().name
        self.about: dict[str, Any] = {"metadata_sha256": self.sha256}

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._found.offset)

    def rows(self, index: Iterable[int]) -> list[Row]:
        """Returns the rows at ``index``, in that order.

        Raises:
            InvalidValue: an index outside the table.
            InvalidData: the metadata was changed since it was first read.
        """
        found, result = self._found, []
        for i in map(int, index):
            if not 0 <= i < len(self):
                raise InvalidValue(f"there is no row {i}; the rows are 0 to {len(self) - 1}")
            file = self._files[found.file[i]]
            place = f"{file.name} line {found.line[i]}"
            row = _row(self._bytes(found.file[i], found.offset[i], found.size[i]), place, file)
            if row is None:
                raise InvalidData(f"{place} is blank now; the file was changed while it was in use, open it again")
            result.append(row)
        return result

    def read(self, row: Row, path: str) -> str:
        """Returns the real path of a row's file.

        Raises:
            InvalidData: a link leads out of the folder.
            UnreadableMedia: no file can have that name.
        """
        return self._at[row.folder].inside(path, row.place)

    def metadata(self, row: Row) -> dict[str, Any]:
        """Returns the columns of a row that are no fields."""
        return row.extra

    def _bytes(self, file: int, offset: int, size: int) -> bytes:
        """Returns the bytes of one line."""
        with self._lock:
            handle = self._handles.get(file)
            if handle is None:
                handle = self._handles[file] = self._files[file].path.open("rb", buffering=0)
            handle.seek(offset)
            return handle.read(size)

    def close(self) -> None:
        """Closes the metadata files; the next read opens them again."""
        with self._lock:
            _close(self._handles)


def _close(handles: dict[int, BinaryIO]) -> None:
    """Closes files and forgets them."""
    while handles:
        handles.popitem()[1].close()


def _asked(split: str | None, fields: Sequence[str] | None, require: Sequence[str]) -> str:
    """Returns in words what rows were asked for."""
    words = [f"split {split!r}"] if split is not None else []
    words += [f"one of the fields {', '.join(fields)}"] if fields is not None else []
    words += [f"all of the fields {', '.join(require)}"] if require else []
    return " and ".join(words) or "a text or a file"


def _metadata_files(folder: Path) -> list[_File]:
    """Returns each metadata file of a folder."""
    if not folder.is_dir():
        raise InvalidData(f"{folder} is not a folder; give one that holds {METADATA}")
    there = folder.absolute()
    if (there / METADATA).is_file():
        return [_File(there / METADATA, str(there), f"{there.name}/{METADATA}", None)]
    below = [path for path in sorted(there.iterdir()) if (path / METADATA).is_file()]
    if below:
        splits = [SPLIT_WORDS.get(path.name, path.name) for path in below]
        return [_File(p / METADATA, str(p), f"{p.name}/{METADATA}", s) for p, s in zip(below, splits, strict=True)]
    example = {"file_name": _first_media(folder) or "first.png", "text": "what it shows", "split": "train"}
    raise InvalidData(f"{folder} has no {METADATA}; write one with a line per item, for example {json.dumps(example)}")


def _first_media(folder: Path) -> str | None:
    """Returns the path, below ``folder``, of a file that looks like media; looks into 100 folders at most."""
    for number, (parent, folders, files) in enumerate(os.walk(folder)):
        folders.sort()
        for name in sorted(files):
            if _by_suffix(name):
                return (Path(parent) / name).relative_to(folder).as_posix()
        if number == 100:
            break
    return None


def _lines(metadata: _File) -> Iterator[tuple[int, int, bytes]]:
    """Yields offset, line number (from 1) and bytes of each line."""
    offset = number = 0
    try:
        with metadata.path.open("rb") as file:
            while data := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(data) > LINE_BYTES_MAX:
                    raise InvalidData(f"{metadata.name} line {number} has over {LINE_BYTES_MAX:,} bytes; split it up")
                yield offset, number, data
                offset += len(data)
    except OSError as error:
        raise InvalidData(f"{metadata.path} cannot be read: {error.strerror or error}") from error


def _row(data: bytes, place: str, file: _File) -> Row | None:
    """Returns a line taken apart; None for a blank one."""
    if not data.strip():
        return None
    try:
        columns = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{place} is not JSON ({error}); write one JSON object per line") from error
    if not isinstance(columns, dict):
        raise InvalidData(f'{place} holds a {type(columns).__name__}; write a JSON object: {{"text": "...", ...}}')
    row = Row(place, file.below, {}, {}, {}, {}, _split(columns.pop("split", None), place) or file.split)
    for column, value in columns.items():
        if value is None or value in ("", []):
            continue
        if column == "file_name" or column.endswith("_file_name"):
            _media(row, column, value, file)
        elif isinstance(value, str):
            row.texts[column] = (value,)
        elif isinstance(value, list) and all(isinstance(v, str) for v in value):
            if texts := tuple(v for v in value if v):
                row.texts[column] = texts
        else:
            row.extra[column] = value
    for name in row.media:
        if name in row.texts:
            raise InvalidData(f"{place} gives the field {name!r} twice; keep the file or the text")
    return row


def _split(value: Any, place: str) -> str | None:
    """Returns the split that a row names, in this package's words."""
    if value is not None and not isinstance(value, str):
        raise InvalidData(f'{place}: split is {value!r}; write a word such as "train"')
    return SPLIT_WORDS.get(value, value) if value else None


def _media(row: Row, column: str, value: Any, file: _File) -> None:
    """Adds the file that ``column`` names to the row."""
    if not isinstance(value, str):
        raise InvalidData(f"{row.place}: {column} is {value!r}; write the path of a file below the folder")
    parts = value.split("/")  # and not PurePosixPath, which takes most of the time of reading a line
    if not parts[0] or ".." in parts or "\\" in value or "\0" in value or ":" in parts[0]:
        raise InvalidData(
            f"{row.place}: {column} is {value!r}, which may leave the folder; write a path below it, with / and no .."
        )
    name = column.removesuffix("file_name").removesuffix("_")
    if not name:
        name, reason = _by_suffix(value), ""
        if not name:
            name, reason = file.content(value, row.place)
        if not name:
            row.unknown[value] = reason
            return
    if name in row.media:
        raise InvalidData(f"{row.place} gives the field {name!r} twice; keep one of the files")
    row.media[name] = value


def _by_suffix(path: str) -> str:
    """Returns the modality that the suffix of ``path`` says, or nothing."""
    return BY_SUFFIX.get(os.path.splitext(path)[1].lower(), "")
