"""What every table of rows gives, whatever file its rows are in, and what names of files say of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from intermodal.errors import InvalidData, InvalidValue, UnknownName

FIRST = 16
"""Of each field, so many rows that have it are remembered, to try whether its files can be read."""

SPLIT_WORDS = {"training": "train", "validation": "dev", "valid": "dev", "val": "dev", "testing": "test"}
"""Other words for the splits of this package."""

SUFFIXES = {
    "text": (".txt", ".md"),
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"),
    "video": (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg"),
    "timeseries": (".csv", ".tsv", ".npz", ".parquet"),
}
BY_SUFFIX = {suffix: modality for modality, suffixes in SUFFIXES.items() for suffix in suffixes}
"""The modality that a suffix says, in lower case and with its dot."""

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|dev|test|" + "|".join(SPLIT_WORDS) + r")(?![a-z])", re.IGNORECASE)
_RENAMED = re.compile(r"[\w-]+=[^=,]+(,[\w-]+=[^=,]+)*")


@dataclass(frozen=True)
class Row:
    """One row, taken apart.

    Attributes:
        place: the file and line, or whatever finds the row again, for messages.
        folder: the folder or file that the paths are below.
        media: field -> path of its file below ``folder``.
        texts: field -> its texts, at least one.
        extra: every other column, where they are read with the row: numbers, booleans, objects, lists of them.
        unknown: path of a file that cannot be used -> why.
        split: the split it belongs to, if it says one.
        where: by what its table finds its media; nobody else reads it.
    """

    place: str
    folder: str
    media: dict[str, str]
    texts: dict[str, tuple[str, ...]]
    extra: dict[str, Any]
    unknown: dict[str, str]
    split: str | None
    where: Any = None


class Rows(Protocol):
    """The rows of one split that hold what was asked for; the same number gives the same row always.

    Attributes:
        name: of the data, for reports.
        fields: every field of the whole data -> modality.
        counts: in how many rows each field is present, as far as that is known without opening media.
        first: a few rows that have each field.
        left_out: rows of the split that hold none of the fields asked for, or lack a required one.
        unknown: (place, path, reason) of what is known not to be readable.
        about: what a report should say besides: at least what tells these data from others.
    """

    name: str
    fields: dict[str, str]
    counts: Mapping[str, int]
    first: Mapping[str, Sequence[int]]
    left_out: int
    unknown: list[tuple[str, str, str]]
    about: dict[str, Any]

    def __len__(self) -> int:
        """Returns the number of rows."""
        ...

    def rows(self, index: Iterable[int]) -> list[Row]:
        """Returns the rows at ``index``, in that order."""
        ...

    def read(self, row: Row, path: str) -> str | bytes | None:
        """Returns the path or the bytes of a row's file; None where the row turns out to have none.

        Raises:
            UnreadableMedia: it cannot be read.
            InvalidData: the data were changed, or a link leaves their folder.
        """
        ...

    def metadata(self, row: Row) -> dict[str, Any]:
        """Returns the columns of a row that are no fields."""
        ...

    def close(self) -> None:
        """Closes the files; the next read opens them again."""
        ...


def check_names(fields: Sequence[str] | None, require: Sequence[str]) -> None:
    """Raises InvalidValue where a string is given for names: its letters would be taken for them."""
    for name, value in (("fields", fields), ("require", require)):
        if isinstance(value, str):
            raise InvalidValue(f"{name} is the string {value!r}; give a tuple of names")


def split_of(path: PurePath) -> str:
    """Returns the split that a file's name says, else that of a folder named so; ``train`` where neither does."""
    found = _SPLIT_WORD.search(path.name) or _SPLIT_WORD.fullmatch(path.parent.name)
    word = found[0].lower() if found else "train"
    return SPLIT_WORDS.get(word, word)


def asked_name(name: str) -> tuple[str, dict[str, str]]:
    """Returns the name of a source without ``::new=old,...`` at its end, and that: new name of a field -> its own."""
    before, mark, after = name.rpartition("::")
    if not mark or not _RENAMED.fullmatch(after):
        return name, {}
    return before, dict(pair.split("=") for pair in after.split(","))


def renamed(fields: Mapping[str, str], rename: Mapping[str, str], what: str) -> dict[str, str]:
    """Returns each field's own name -> the one it gets.

    Args:
        fields: own name of each field -> modality.
        rename: new name -> own name.
        what: the data, for messages.

    Raises:
        UnknownName: a field that is not there.
        InvalidData: two fields would have one name.
    """
    new = {name: name for name in fields}
    for name, own in rename.items():
        if own not in fields:
            raise UnknownName(f"field in {what}", own, fields)
        new[own] = name
    if len(set(new.values())) < len(new):
        twice = next(n for n in new.values() if list(new.values()).count(n) > 1)
        raise InvalidData(
            f"two fields of {what} would be named {twice!r}; give the other one a new name too: "
            f"::{twice}={rename.get(twice, twice)},other_{twice}={twice}"
        )
    return new
