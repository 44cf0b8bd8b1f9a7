"""Tar files in the WebDataset layout as a data source: ``wds:shards/train-{000000..000009}.tar``.

    000017.jpg  000017.txt  000017.json     sample 000017: field image, field text, metadata
    000018.left.jpg  000018.right.jpg       sample 000018: fields left and right

A member's field is its name between the first dot and the suffix, or, without such a name, its modality (``cls`` and
the like keep their own). Where that would put two members of a sample, or two modalities, into one field, the suffix
tells them apart in the whole data: ``jpg`` and ``png``, ``speech_wav`` and ``speech_txt``. Texts in ``json`` named
``text`` or ``caption`` are the field ``text`` of samples that have no such member; ``question``, ``answer``,
``transcript`` and ``label`` are fields of their own; all else in it is metadata.

Headers are read once (``tars.py``). Samples are then read by their place, in any order and from any thread.
"""

import dataclasses
import hashlib
import json
import os
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from intermodal.data.decoding import Problem
from intermodal.data.folder import CACHE_BYTES, Folder, say
from intermodal.data.rows import FIRST, SPLIT_WORDS, Row, asked_name, check_names, renamed
from intermodal.data.shard_names import LABELS, named, paths_of
from intermodal.data.tars import Index, index_of, texts_of
from intermodal.errors import InvalidData, InvalidValue, UnknownName, UnreadableMedia
from intermodal.media.source import decode_text, limits

OPEN_MAX = 64
"""Shards that are held open; the least recently used is closed first."""


def shards(
    path: str | Path,
    split: str | None = None,
    fields: Sequence[str] | None = None,
    require: Sequence[str] = (),
    cache_bytes: int = CACHE_BYTES,
    seed: int = 0,
    report: Callable[[Problem], None] = say,
) -> Folder:
    """Returns the samples of one split of some shards; several texts of one are shown in turn, see ``Folder``.

    Args:
        path: of a shard, of a folder of them, or a pattern with ``{000..009}``, ``{a,b}``, ``*`` and ``{split}``; after
            it ``::new=old,...`` gives fields other names.
        split: the shards of this split, which stands where the pattern has ``{split}``, else in their names, else in
            that of their folder; those that name none are ``train``. None for all.
        fields: which fields the samples have; None for all. Samples that have none of them are left out.
        require: leave out the samples that lack one of these.
        cache_bytes: how much of what was decoded is kept in memory; the least recently used goes first.
        seed: of the draw among several texts.
        report: called with each problem, once; logs it by default. Threads may call it.

    Raises:
        InvalidData: shards are missing, packed, cut off or damaged, or no sample is left.
        UnknownName: a split or field that the shards do not have.
    """
    check_names(fields, require)
    return Folder(ShardTable(str(path), split, fields, require), split, fields, require, cache_bytes, seed, report)


class ShardTable:
    """The samples of one split that hold what was asked for, in the order of the shards; see ``rows.Rows``."""

    counts: Mapping[str, int]
    first: Mapping[str, Sequence[int]]

    def __init__(self, pattern: str, split: str | None, fields: Sequence[str] | None, require: Sequence[str]) -> None:
        """Reads the headers of all shards, or what is kept of them."""
        pattern, rename = asked_name(pattern)
        self.name = "/".join(Path(pattern).parts[-2:])
        paths = paths_of(pattern, split)
        wanted = None if split is None else SPLIT_WORDS.get(split, split)
        if wanted is not None and wanted not in paths.values():
            raise UnknownName(f"split in {pattern}", wanted, set(paths.values()))
        indices = [_without(index_of(path)) for path in paths]
        keys, ignored = named(kind for index in indices for kind in index.kinds)
        names = renamed(dict(keys.values()), rename, pattern)
        self._keys = {key: names[field] for key, (field, _) in keys.items()}
        self.fields = {names[field]: modality for field, modality in keys.values()}
        for name in (*(fields or ()), *require):
            if name not in self.fields:
                raise UnknownName(f"field in {pattern}", name, self.fields)
        self._require, self._asked = frozenset(require), None if fields is None else frozenset(fields)
        self._indices = [(index, s) for index, s in zip(indices, paths.values(), strict=True) if wanted in (None, s)]
        self._kinds = [[self._of_kind(kind) for kind in index.kinds] for index, _ in self._indices]
        self._count(pattern, split)
        self.unknown = [(self.name, f"*.{key}", why) for key, why in ignored.items()]
        told = [(index.path.name, index.size, index.mtime_ns) for index, _ in self._indices]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        self.about: dict[str, Any] = {"shards": len(told), "shards_sha256": digest}
        self.about |= {"renamed": rename} if rename else {}  # the same name may be another field
        self._open = OrderedDict[int, _Shard]()
        self._lock = threading.Lock()
        self.first = {name: self._first(name) for name in self.fields}

    def _of_kind(self, kind: Sequence[str]) -> dict[str, str] | None:
        """Returns field -> key of the samples of a kind; None where they are left out."""
        found: dict[str, str] = {}
        for key in kind:  # members before what their json says
            if key in self._keys:
                found.setdefault(self._keys[key], key)
        chosen = bool(found) if self._asked is None else not self._asked.isdisjoint(found)
        return found if chosen and self._require.issubset(found) else None

    def _count(self, pattern: str, split: str | None) -> None:
        """Counts the samples that are kept, shard by shard and field by field."""
        counts, sizes, self.left_out = Counter[str](), [], 0
        for (index, _), kinds in zip(self._indices, self._kinds, strict=True):
            size = 0
            for found, count in zip(kinds, index.counts, strict=True):
                size += count if found is not None else 0
                self.left_out += count if found is None else 0
                counts.update(dict.fromkeys(found or (), count))
            sizes.append(size)
        self.counts, self._starts = dict(counts), list(accumulate(sizes, initial=0))
        if not len(self):
            asked = f" of the split {split!r}" if split is not None else ""
            asked += f" with {', '.join(sorted((self._asked or set()) | self._require))}" if self._asked else ""
            raise InvalidData(f"{pattern} has no sample{asked}; members are named like 000001.jpg and 000001.txt")

    def _first(self, name: str) -> list[int]:
        """Returns a few rows that have a field."""
        rows: list[int] = []
        for number, kinds in enumerate(self._kinds):
            having = [i for i, found in enumerate(kinds) if found is not None and name in found]
            if having:
                shard = self._shard(number)
                places = np.flatnonzero(np.isin(shard.kinds(), having))[: FIRST - len(rows)]
                rows += (places + self._starts[number]).tolist()
            if len(rows) >= FIRST:
                break
        return rows

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._starts[-1]

    def rows(self, index: Iterable[int]) -> list[Row]:
        """Returns the rows at ``index``, in that order; texts are read, media are not.

        Raises:
            InvalidValue: an index outside the rows.
            InvalidData: a shard was changed or moved since it was indexed.
        """
        result = []
        for i in map(int, index):
            if not 0 <= i < len(self):
                raise InvalidValue(f"there is no row {i}; the rows are 0 to {len(self) - 1}")
            number = bisect_right(self._starts, i) - 1
            result.append(self._row(number, self._shard(number), i - self._starts[number]))
        return result

    def _row(self, number: int, shard: "_Shard", place: int) -> Row:
        """Returns one row of a shard."""
        i = place if shard.kept is None else int(shard.kept[place])
        index, sample = shard.index, shard.index.names[i].as_py()
        members, found = index.members(i), self._kinds[number][int(index.kind[i])] or {}
        where = number, {f"{sample}.{key}": place for key, place in members.items()}
        name = "/".join(index.path.parts[-2:])
        row = Row(name, str(index.path), {}, {}, {"key": sample}, {}, self._indices[number][1], where)
        told = _json(shard, row, sample, [key for key in members if f".{key}".endswith(".json")])
        for field, key in found.items():
            if key.startswith("json:"):
                if texts := texts_of(told.pop(key.removeprefix("json:"), None)):
                    row.texts[field] = texts
            elif self.fields[field] != "text":
                row.media[field] = f"{sample}.{key}"
            elif text := _text(shard, row, f"{sample}.{key}"):
                row.texts[field] = (text,)
        row.extra.update(told)
        return row

    def read(self, row: Row, path: str) -> bytes:
        """Returns the bytes of a member.

        Raises:
            UnreadableMedia: it is empty or over the limit.
            InvalidData: the shard was changed or moved since it was indexed.
        """
        number, where = row.where
        data = self._shard(number).read(path, *where[path])
        if not data:
            raise UnreadableMedia(f"{path} is empty: there are no bytes to read")
        return data

    def metadata(self, row: Row) -> dict[str, Any]:
        """Returns the columns of a row that are no fields."""
        return row.extra

    def _shard(self, number: int) -> "_Shard":
        """Returns a shard, open."""
        with self._lock:
            found = self._open.get(number)
            if found is None:
                found = self._open[number] = _Shard(self._indices[number][0], self._kinds[number])
            self._open.move_to_end(number)
            while len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)  # closed when the last thread that reads from it is done
            return found

    def close(self) -> None:
        """Closes the shards; the next read opens them again."""
        with self._lock:
            self._open.clear()


class _Shard:
    """A shard that is open for reading, from any number of threads."""

    def __init__(self, index: Index, kinds: Sequence[dict[str, str] | None]) -> None:
        """Opens it; ``kinds`` is None for each kind of samples that is left out."""
        self.index = index_of(index.path)
        chosen = np.array([kind is not None for kind in kinds], bool)
        self.kept: Int64[np.ndarray, " K"] | None = None
        if (self.index.size, self.index.mtime_ns) != (index.size, index.mtime_ns):
            raise InvalidData(f"{index.path} was changed while it was in use; open the data again")
        if not chosen.all():
            self.kept = np.flatnonzero(chosen[self.index.kind])
        self._handle = os.open(index.path, os.O_RDONLY)

    def kinds(self) -> np.ndarray:
        """Returns the kind of each sample that is kept."""
        return self.index.kind if self.kept is None else self.index.kind[self.kept]

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Returns the bytes of a member.

        Raises:
            UnreadableMedia: over the limit.
            InvalidData: they are no longer there.
        """
        most = limits().bytes_max
        if size > most:
            raise UnreadableMedia(
                f"{path} has {size:,} bytes, more than the limit of {most:,}; raise it with limited(bytes_max=...)"
            )
        try:
            data = os.pread(self._handle, size, offset)
        except OSError as error:
            raise InvalidData(f"{self.index.path} cannot be read: {error.strerror or error}") from error
        if len(data) < size:
            raise InvalidData(f"{self.index.path} was cut off while it was in use; open the data again")
        return data

    def __del__(self) -> None:
        """Closes it."""
        if hasattr(self, "_handle"):
            os.close(self._handle)


def _text(shard: _Shard, row: Row, path: str) -> str:
    """Returns the text in a member; nothing where it cannot be read, which the row then says."""
    try:
        data = shard.read(path, *row.where[1][path])
    except UnreadableMedia as error:
        row.unknown[path] = str(error)
        return ""
    try:
        text = decode_text(data)
    except UnreadableMedia as error:
        row.unknown[path] = f"{path} {error}"
        return ""
    return text.strip() if path.rpartition(".")[2] in LABELS else text


def _json(shard: _Shard, row: Row, sample: str, keys: Iterable[str]) -> dict[str, Any]:
    """Returns what the json members of a sample say; what is in one that has a name is below that name."""
    told: dict[str, Any] = {}
    for key in keys:
        path, name = f"{sample}.{key}", key.rpartition(".")[0]
        try:
            value = json.loads(shard.read(path, *row.where[1][path]))
        except UnreadableMedia as error:
            row.unknown[path] = str(error)
            continue
        except (ValueError, RecursionError) as error:
            row.unknown[path] = f"{path} is not JSON ({error})"
            continue
        if name or isinstance(value, dict):
            told |= {name: value} if name else value
        else:
            row.unknown[path] = f"{path} holds a {type(value).__name__}, not a JSON object"
    return told


def _without(index: Index) -> Index:
    """Returns an index without its arrays, which lie in a mapped file: only shards that are open keep theirs."""
    none = np.zeros(0, np.int64)
    return dataclasses.replace(index, names=None, kind=none.astype(np.int32), starts=none, offsets=none, sizes=none)
