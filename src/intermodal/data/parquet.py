"""Parquet files in the layout of the hub as a data source: ``hf:FOLDER``, ``hf:owner/name@revision#config``.

Columns are fields of their own names. Which are is said by the features that the ``datasets`` library writes into the
schema; where there are none, by their types:

    Image, Audio, Video; a struct of ``bytes`` and ``path``, or bytes    a field of what is in it
    Value of strings                                                    a text
    a list of strings                                                   several texts of one field
    ClassLabel                                                          the class by its name, as a text
    numbers, booleans, times, other structs and lists                   metadata
    lists of pictures, and what else holds bytes                        left out, which is said

A sample whose value is null, an empty text or a class below 0 lacks that field.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intermodal.data.columns import Columns
from intermodal.data.decoding import Problem
from intermodal.data.folder import CACHE_BYTES, Folder, say
from intermodal.data.parquet_files import find
from intermodal.data.rows import FIRST, SPLIT_WORDS, Row, asked_name, check_names, renamed
from intermodal.errors import InvalidData, InvalidValue, UnknownName, UnreadableMedia
from intermodal.media.source import modality_of

MEDIA = {"Image": "image", "Audio": "audio", "Video": "video"}
"""Features whose values are files."""


def parquet(
    path: str | Path,
    split: str | None = None,
    fields: Sequence[str] | None = None,
    require: Sequence[str] = (),
    cache_bytes: int = CACHE_BYTES,
    seed: int = 0,
    report: Callable[[Problem], None] = say,
) -> Folder:
    """Returns the rows of one split of some parquet files; several texts of one are shown in turn, see ``Folder``.

    Args:
        path: a folder or file, or a data set of the hub, in its cache or fetched: ``owner/name@revision#config``, see
            ``parquet_files``; after it ``::new=old,...`` gives columns other names.
        split: that the files' names say; those that say none are ``train``. None for all.
        fields: which fields the samples have; None for all.
        require: leave out the rows that lack one of these.
        cache_bytes: how much of what was decoded is kept in memory; the least recently used goes first.
        seed: of the draw among several texts.
        report: called with each problem, once; logs it by default. Threads may call it.

    Raises:
        InvalidData: there are no such files, they cannot be read, or no row is left.
        UnknownName: a config, split or column that is not there.
        MissingExtra: a data set of the hub is asked for, and huggingface_hub is not installed.
    """
    check_names(fields, require)
    return Folder(ParquetTable(str(path), split, fields, require), split, fields, require, cache_bytes, seed, report)


@dataclass(frozen=True)
class Kind:
    """What a column is.

    Attributes:
        modality: of the field; nothing for metadata.
        names: of the classes, where it holds their numbers.
        why: it is left out.
    """

    modality: str = ""
    names: tuple[str, ...] = ()
    why: str = ""


class ParquetTable:
    """The rows of one split, in the order of the files; see ``rows.Rows``."""

    counts: Mapping[str, int]
    first: Mapping[str, Sequence[int]]

    def __init__(self, name: str, split: str | None, fields: Sequence[str] | None, require: Sequence[str]) -> None:
        """Reads the footers, and of columns of bytes whose kind no feature says the first value."""
        name, rename = asked_name(name)
        found = find(name)
        wanted = None if split is None else SPLIT_WORDS.get(split, split)
        if wanted is not None and wanted not in found.files.values():
            raise UnknownName(f"split in hf:{name}", wanted, set(found.files.values()))
        self._splits = {path: s for path, s in found.files.items() if wanted in (None, s)}
        self._columns = Columns(list(self._splits))
        kinds = kinds_of(self._columns)
        names = renamed({column: kind.modality for column, kind in kinds.items()}, rename, f"hf:{name}")
        self._kinds = {names[column]: (column, kind) for column, kind in kinds.items()}
        self.fields = {field: kind.modality for field, (_, kind) in self._kinds.items() if kind.modality}
        for field in (*(fields or ()), *require):
            if field not in self.fields:
                raise UnknownName(f"field in hf:{name}", field, self.fields)
        self.name = found.name
        self._asked = [field for field in self.fields if fields is None or field in fields]
        self._kept = self._having(require)
        self.left_out = len(self._columns) - len(self)
        if not len(self):
            asked = f" with {', '.join(require)}" if require else ""
            raise InvalidData(f"hf:{name} has no row{asked}{f' in the split {split!r}' if split else ''}")
        nulls = self._columns.nulls
        self.counts = {f: max(0, len(self) - nulls.get(self._kinds[f][0], 0)) for f in self.fields}
        self.first = {field: range(min(FIRST, len(self))) for field in self.fields}
        self.unknown = [(found.name, f, kind.why) for f, (_, kind) in self._kinds.items() if kind.why]
        self.about: dict[str, Any] = {"files": len(self._splits), "parquet_sha256": self._columns.sha256}
        self.about |= {"revision": found.revision} if found.revision else {}
        self.about |= {"renamed": rename} if rename else {}  # the same name may be another column

    def _having(self, require: Sequence[str]) -> np.ndarray | None:
        """Returns the rows that have all of some fields; None for all rows."""
        missing = np.zeros(len(self._columns), bool)
        for field in require:
            column, kind = self._kinds[field]
            if self._columns.nulls.get(column) == 0 and kind.modality != "text":
                continue
            start = 0
            for values in self._columns.chunks(column):
                there = [bool(self._texts(kind, v)) if kind.modality == "text" else _given(v) for v in values]
                missing[start : start + len(there)] |= ~np.array(there, bool)
                start += len(there)
        return np.flatnonzero(~missing) if missing.any() else None

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._columns) if self._kept is None else len(self._kept)

    def rows(self, index: Iterable[int]) -> list[Row]:
        """Returns the rows at ``index``, in that order; texts are read, media are not.

        Raises:
            InvalidValue: an index outside the rows.
            InvalidData: a file is damaged, or was changed since it was opened.
        """
        return [self._row(int(i)) for i in index]

    def _row(self, i: int) -> Row:
        """Returns one row."""
        if not 0 <= i < len(self):
            raise InvalidValue(f"there is no row {i}; the rows are 0 to {len(self) - 1}")
        i = i if self._kept is None else int(self._kept[i])
        path, number = self._columns.place(i)
        row = Row(f"{path.name} row {number}", f"{path}#{number}", {}, {}, {}, {}, self._splits[path], i)
        for field in self._asked:
            column, kind = self._kinds[field]
            if kind.modality != "text":
                row.media[field] = field
            elif texts := self._texts(kind, self._columns.cell(i, column)):
                row.texts[field] = texts
        return row

    def _texts(self, kind: Kind, value: Any) -> tuple[str, ...]:
        """Returns the texts that a value holds."""
        value = value.as_py() if hasattr(value, "as_py") else value
        if kind.names and isinstance(value, int):
            return (kind.names[value],) if 0 <= value < len(kind.names) else ()
        several = value if isinstance(value, list) else [value]
        return tuple(text for text in several if text)

    def read(self, row: Row, path: str) -> bytes | None:
        """Returns the bytes in a row's field, whose name is its path; None where there is no value.

        Raises:
            UnreadableMedia: there is only a path to a file elsewhere.
            InvalidData: a file is damaged, or was changed since it was opened.
        """
        value = self._columns.cell(row.where, self._kinds[path][0])
        data: bytes | None = value.get("bytes") if isinstance(value, Mapping) else value
        if data is None and isinstance(value, Mapping) and value.get("path"):
            raise UnreadableMedia(
                f"{path} holds no bytes but the path {value['path']!r}; write the data set with its files inside"
            )
        return data

    def metadata(self, row: Row) -> dict[str, Any]:
        """Returns the columns of a row that are no fields."""
        chosen = {field: column for field, (column, kind) in self._kinds.items() if not (kind.modality or kind.why)}
        return {field: self._columns.cell(row.where, column) for field, column in chosen.items()}

    def close(self) -> None:
        """Drops what is kept of the files."""
        self._columns.close()


def kinds_of(columns: Columns) -> dict[str, Kind]:
    """Returns what each column is, by the features in the schema's metadata, else by its type."""
    metadata = columns.schema.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        features = features if isinstance(features, dict) else {}
    except (ValueError, KeyError, TypeError):
        features = {}
    return {field.name: _kind(columns, field, features.get(field.name)) for field in columns.schema}


def _kind(columns: Columns, field: Any, feature: Any) -> Kind:
    """Returns what one column is."""
    told = feature.get("_type") if isinstance(feature, dict) else None
    if told in MEDIA and (_is_bytes(field.type) or _is_file(field.type)):
        return Kind(MEDIA[told])
    if told == "ClassLabel" and isinstance(feature.get("names"), list):
        return Kind("text", tuple(map(str, feature["names"])))
    if _is_text(field.type) or (_is_list(field.type) and _is_text(field.type.value_type)):
        return Kind("text")
    if _is_bytes(field.type) or _is_file(field.type):
        return _by_content(columns, field.name)
    if "binary" in str(field.type):
        return Kind(why=f"a column of {str(field.type)[:60]} is no field; give pictures and sounds a column each")
    return Kind()


def _by_content(columns: Columns, name: str) -> Kind:
    """Returns what the bytes of a column are, by the first that are something."""
    why = "no value of this column of bytes is of a modality that this package reads"
    for i in range(min(FIRST, len(columns))):
        value = columns.cell(i, name)
        data = value.get("bytes") if isinstance(value, Mapping) else value
        try:
            if data:
                return Kind(modality_of(data))
        except UnreadableMedia as error:
            why = f"its first values are no media: {error}"
    return Kind(why=why)


def _given(value: Any) -> bool:
    """Returns whether a value of a column of media is there."""
    found = value.as_py()
    return (found.get("bytes") if isinstance(found, Mapping) else found) is not None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_file(kind: Any) -> bool:
    """Returns whether a type is a struct of bytes and, maybe, a path."""
    import pyarrow as pa

    names = {kind.field(i).name for i in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    return "bytes" in names and names <= {"bytes", "path"} and _is_bytes(kind.field("bytes").type)
