"""Where what is made of each input goes: names of files that never meet, derived from those of the inputs.

In a folder that was asked for, an output is called as its input, with the suffix of its kind; in the current folder
also the field is in the name. Inputs of a folder keep their places below it. Where two would be called alike
(``a.png`` and ``a.wav`` into text) both keep their suffixes: ``a.png.txt``, ``a.wav.txt``.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.cli.items import is_many, text_of
from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.types import Item

SUFFIXES = {"text": "txt", "image": "png", "audio": "wav", "video": "mp4", "timeseries": "csv"}
"""The format in which each modality is written where no file name says another."""

_WORDS = 40  # letters of a text that become a name


@dataclass(frozen=True)
class Job:
    """One input and the place of what is made of it.

    Attributes:
        name: what it is called in messages.
        source: a path, an item, or why it cannot be read.
        target: the file to write, without a suffix unless ``exact``; None to write none.
        exact: whether ``target`` was named by a person.
    """

    name: str
    source: Path | Item | UnreadableMedia
    target: Path | None = None
    exact: bool = False

    def opened(self) -> Item:
        """Returns the item.

        Raises:
            UnreadableMedia: it cannot be read.
        """
        from intermodal.items import open_item

        if isinstance(self.source, UnreadableMedia):
            raise self.source
        return open_item(self.source) if isinstance(self.source, Path) else self.source

    def paths(self, suffix: str, count: int) -> list[Path]:
        """Returns the files for ``count`` candidates, numbered where there are several; none if none is written.

        Raises:
            InvalidValue: one of them is the input itself.
        """
        if self.target is None:
            return []
        whole = self.target if self.exact else self.target.with_name(f"{self.target.name}.{suffix}")
        numbered = [whole.with_name(f"{whole.stem}-{n}{whole.suffix}") for n in range(1, count + 1)]
        found = numbered if count > 1 else [whole]
        if isinstance(self.source, Path) and any(p.exists() and p.samefile(self.source) for p in found):
            raise InvalidValue(f"the result would be written over its input {self.name}; give another --out")
        return found

    def exists(self, modality: str | None, count: int) -> bool:
        """Returns whether all that it asks for is there already."""
        suffixes = [SUFFIXES[modality]] if modality else SUFFIXES.values()
        asked = [self.paths(suffix, count) for suffix in suffixes]
        return any(paths and all(p.is_file() and p.stat().st_size for p in paths) for paths in asked)


def check_suffix(out: Path | None, to: str) -> None:
    """Checks, before anything is computed, that a file of this name can hold the field.

    Raises:
        InvalidValue: it cannot; lists the suffixes that can.
    """
    if out is None or _is_folder(out):
        return
    from intermodal.media import frames, pictures, sound, tables
    from intermodal.media.source import suffix_of

    formats: dict[str, Any] = {
        "text": ("txt", "md"),
        "image": pictures.FORMATS,
        "audio": tuple(sound.FORMATS),
        "video": tuple(frames.FORMATS),
        "timeseries": tables.FORMATS,
    }
    if to in formats:
        suffix_of(out, formats[to])


def jobs_of(inputs: Sequence[str], to: str, out: Path | None, written: bool) -> tuple[list[Job], bool]:
    """Returns the inputs with the places of their results, and whether they count as several.

    Args:
        inputs: as they were typed.
        to: the field that is made.
        out: the file or folder that was asked for.
        written: whether results are written even where no place was asked for.

    Raises:
        UnreadableMedia: the only input is neither a file nor words.
    """
    if len(inputs) == 1 and not is_many(inputs[0]):
        words = inputs[0]
        text = text_of(words)
        name = _slug(words) if text else Path(words).stem
        source = text or Path(words)
        if out is not None and not _is_folder(out):
            return [Job(words, source, out, exact=True)], False
        target = out / name if out is not None else Path(f"{name}-{to}") if written else None
        return [Job(words, source, target)], False
    found = [each for words in inputs for each in _listed(words, alone=len(inputs) == 1)]
    if out is None and written and len(inputs) == 1 and os.path.isdir(inputs[0]):
        out = Path(f"{Path(inputs[0]).resolve().name}-{to}")
    if out is not None and out.exists():
        own = out.resolve()
        roots = [Path(words).resolve() for words in inputs if os.path.isdir(words)]
        if any(own != root and own.is_relative_to(root) for root in roots):  # results of an earlier run are no inputs
            found = [f for f in found if not (isinstance(f[1], Path) and f[1].resolve().is_relative_to(own))]
    names = _apart([place for _, _, place in found])
    if out is None and not written:
        return [Job(name, source) for name, source, _ in found], True
    places = [out / name if out is not None else Path(f"{name}-{to}") for name in names]
    return [Job(name, source, place) for (name, source, _), place in zip(found, places, strict=True)], True


def _listed(words: str, alone: bool) -> list[tuple[str, Any, str]]:
    """Returns for each thing that ``words`` stand for its name, its source and its place, the suffix included."""
    if not is_many(words):
        try:
            text = text_of(words)
        except UnreadableMedia as error:
            return [(words, error, Path(words).name)]
        return [(words, text, _slug(words)) if text else (words, Path(words), Path(words).name)]
    from intermodal.library.sources import walk

    root = Path(words)
    while not root.is_dir():  # the part of a pattern that has no wildcard
        root = root.parent
    above = Path(os.path.abspath(root if alone or not os.path.isdir(words) else root.parent))
    return [
        (source.name, source.path or UnreadableMedia(source.error), os.path.relpath(source.name, above))
        for source in walk([words], {})
    ]


def _apart(places: Sequence[str]) -> list[str]:
    """Returns places without suffixes where that keeps them apart; else with them, and numbered at last."""
    stems = [os.path.splitext(place)[0] for place in places]
    alike = Counter(stems)
    taken: set[str] = set()
    result = []
    for place, stem in zip(places, stems, strict=True):
        name = first = stem if alike[stem] == 1 else place
        number = 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"
        taken.add(name)
        result.append(name)
    return result


def _slug(words: str) -> str:
    """Returns words as a name of a file."""
    return re.sub(r"[\W_]+", "-", words.lower()).strip("-")[:_WORDS].rstrip("-") or "text"


def _is_folder(out: Path) -> bool:
    """Returns whether ``--out`` names a folder: there is one, or it has no suffix."""
    return out.is_dir() or not out.suffix
