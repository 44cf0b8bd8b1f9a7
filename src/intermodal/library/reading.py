"""From a source to items ready for the model, in two steps that run in threads.

``prepare`` reads and names: it finds out what a source is by its content, whether the library has it, and how it is to
be cut. What it returns are the steps that decode, each a part of the source that fits into memory.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from intermodal.data.stream import reason
from intermodal.errors import UnreadableMedia
from intermodal.library.filters import kind_of
from intermodal.library.known import Known
from intermodal.library.sources import Dataset, Source, content_key
from intermodal.library.store import CONTENT, Row
from intermodal.library.windows import Piece, Plan, Windows, cut, decode, encode, numbered, plans
from intermodal.media.source import content_hash, read_source, sniff
from intermodal.types import Item, Sample

KEPT_BYTES = 32 * 2**20  # a longer file is read again for decoding rather than held


@dataclass(frozen=True, eq=False)
class Ready:
    """An item for the model, and what its row will say.

    Attributes:
        id: of the row.
        piece: the item and which part of the source it is.
        source: path or name.
        metadata: of the row.
        media: the item as a file, where it has none of its own.
    """

    id: str
    piece: Piece
    source: str
    metadata: Mapping[str, Any]
    media: bytes | None = None


@dataclass(frozen=True)
class Failure:
    """Something that cannot be added, and why."""

    source: str
    reason: str


Step = Callable[[], list[Ready | Failure]]


@dataclass(eq=False)
class Work:
    """A source on its way into the library.

    Attributes:
        source: what was given.
        steps: what gives its items.
        whole: True where its items go in all together or not at all, as the windows of a file do.
        skipped: how many of its contents the library has.
        failed: True once a part of it failed.
        rows: made so far.
        waiting: items given out and not embedded yet.
        last: True once the last step was done.
    """

    source: Source
    steps: list[Step] = dataclass_field(default_factory=list)
    whole: bool = True
    skipped: int = 0
    failed: bool = False
    rows: list[Row] = dataclass_field(default_factory=list)
    waiting: int = 0
    last: bool = False


class Reader:
    """Prepares sources; safe to use from several threads."""

    def __init__(
        self,
        known: Known,
        windows: Windows,
        folder: Path,
        keep_media: bool,
        at_least: tuple[int, int] | None = None,
    ) -> None:
        """Keeps what the library has, how it cuts, and a folder to write files in on their way into it.

        Args:
            known: what the library has.
            windows: how it cuts.
            folder: for files on their way into it.
            keep_media: keep a copy of items that have no file.
            at_least: a height and width that the model needs of a picture in a file; None for all there is.
        """
        self._known, self._windows, self._folder, self._keep_media = known, windows, folder, keep_media
        self._at_least = at_least
        self._dataset_lock = Lock()  # a dataset need not bear several threads

    def prepare(self, source: Source) -> Work:
        """Returns the work that a source is; whatever is wrong with it becomes a step that says so."""
        try:
            if source.error:
                raise UnreadableMedia(source.error)
            _check_metadata(source)
            if source.path is not None:
                return self._file(source, source.path)
            if source.dataset is not None:
                return self._group(source, source.dataset)
            return self._items(source, source.items or {})
        except Exception as error:
            failure = Failure(source.name, reason(error))
            return Work(source, [lambda: [failure]])

    def _file(self, source: Source, path: Path) -> Work:
        """Reads and hashes a file, finds out what it is and how to cut it."""
        data, name = read_source(path)
        key = content_hash("file", np.frombuffer(data, np.uint8))[:CONTENT]
        if not self._known.take(key):
            return Work(source, skipped=1)
        modality = sniff(data, name)[0]
        kept = data if len(data) <= KEPT_BYTES else None
        planned = plans(data, name, modality, self._windows)
        return Work(source, [partial(self._decode_file, source, key, (kept, modality), plan) for plan in planned])

    def _decode_file(
        self, source: Source, key: str, read: tuple[bytes | None, str], plan: Plan
    ) -> list[Ready | Failure]:
        """Returns the items of one step of a file."""
        data, modality = read
        try:
            data, name = (data, Path(source.name).name) if data is not None else read_source(source.name)
            pieces = decode(data, name, modality, plan, self._windows, self._at_least)
        except Exception as error:
            return [Failure(source.name, reason(error))]
        return [
            Ready(numbered(key, piece.number), piece, source.name, {**piece.metadata, **source.metadata})
            for piece in pieces
        ]

    def _items(self, source: Source, items: Sample) -> Work:
        """Names an item, or the items of a sample, by their content."""
        hashes = {field: item.content_hash()[:CONTENT] for field, item in items.items()}  # type: ignore[attr-defined]
        alone = tuple(hashes) == ("",)
        sample = "" if alone else content_key("sample", hashes)
        contents = hashes if alone else {field: content_key(sample, field) for field in hashes}
        if not self._known.take_any(contents.values()):
            return Work(source, skipped=1)
        return Work(source, [partial(self._decode_sample, source, items, contents, sample)])

    def _decode_sample(
        self, source: Source, items: Sample, contents: dict[str, str], sample: str
    ) -> list[Ready | Failure]:
        """Returns the pieces of an item, or of all items of a sample."""
        made: list[Ready | Failure] = []
        for field, item in items.items():
            told = {"sample": sample, "field": field} if sample else {}
            name = source.name or f"{item.modality} item"
            try:
                made += self._pieces(contents[field], item, source.name, {**told, **source.metadata})
            except Exception as error:
                return [Failure(f"{name} {contents[field]}", reason(error))]
        return made

    def _pieces(self, content: str, item: Item, name: str, told: Mapping[str, Any]) -> Iterator[Ready]:
        """Gives the pieces of an item that has no file."""
        for piece in cut(item, self._windows):
            media = encode(piece.item, self._folder) if self._keep_media else None
            yield Ready(numbered(content, piece.number), piece, name, {**piece.metadata, **told}, media)

    def _group(self, source: Source, dataset: Dataset) -> Work:
        """Finds out which of some samples of a dataset are new; their content is what the dataset says it is."""
        told, new, skipped = content_key(dataset.describe()), dict[tuple[int, str], str](), 0
        for number in source.index:
            contents = {field: content_key(told, number, field) for field in dataset.fields}
            taken = {(number, field): content for field, content in contents.items() if self._known.take(content)}
            skipped += not taken
            new |= taken
        steps: list[Step] = [partial(self._decode_group, source, dataset, new)] if new else []
        return Work(source, steps, whole=False, skipped=skipped)

    def _decode_group(self, source: Source, dataset: Dataset, new: dict[tuple[int, str], str]) -> list[Ready | Failure]:
        """Returns the new items of some samples, and what failed of them."""
        made: list[Ready | Failure] = []
        for number, sample in self._samples(dataset, sorted({number for number, _ in new})):
            name = f"{source.name}/{number}"
            if isinstance(sample, Failure):
                made.append(Failure(name, sample.reason))
                continue
            for field, item in sample.items():
                if (number, field) in new:
                    told = {"sample": name, "field": field, **source.metadata}
                    try:
                        made += self._pieces(new[number, field], item, f"{name}#{field}", told)
                    except Exception as error:
                        made.append(Failure(f"{name}#{field}", reason(error)))
        return made

    def _samples(self, dataset: Dataset, index: list[int]) -> list[tuple[int, Sample | Failure]]:
        """Returns samples; where they cannot be made together, each that can be made alone."""
        with self._dataset_lock:
            try:
                return list(zip(index, dataset.samples(index), strict=True))
            except Exception as error:
                if len(index) == 1:
                    return [(index[0], Failure("", reason(error)))]
        return [made for number in index for made in self._samples(dataset, [number])]


def _check_metadata(source: Source) -> None:
    """Checks that the store can hold what is said of a source.

    Raises:
        UnreadableMedia: a name that is no text, or metadata that are no JSON.
    """
    try:
        source.name.encode()
    except UnicodeEncodeError as error:
        raise UnreadableMedia("has a name that is no UTF-8; rename it") from error
    try:
        json.dumps(dict(source.metadata), allow_nan=False, ensure_ascii=False).encode()
        for key, value in source.metadata.items():
            if not isinstance(key, str) or (kind_of(value) == "num" and not math.isfinite(float(value))):
                raise ValueError(f"{key!r} is {value!r}")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableMedia(f"has metadata that JSON cannot hold: {error}") from error
