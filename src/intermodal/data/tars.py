"""The samples in a tar file: found in one pass over its headers, kept on disk, and read by their place ever after.

The convention is that of WebDataset: members whose paths are equal up to the first dot of the file's name are one
sample, and what follows the dot, in lower case, is the key: ``000017.left.jpg`` is the key ``left.jpg`` of ``000017``.
Members without a key (folders, links, hidden files) are passed over. Of a member ``json`` the names that may hold texts
are noted too, so that nothing has to be opened to know which samples have which fields.
"""

import hashlib
import json
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int32, Int64

from intermodal import runtime
from intermodal.errors import InvalidData

VERSION = 1
BLOCK = 512
JSON_BYTES_MAX = 1 << 24
TEXT_NAMES = ("text", "texts", "caption", "captions")
"""What the text of a sample is called in its json; the first that is there counts."""
TOLD_NAMES = ("question", "questions", "answer", "answers", "transcript", "label")
"""Other texts of a json."""

_KEY = re.compile(r"((?:.*/|)[^.]+)\.([^/]+)")
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"PK\x03\x04": "zip"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Index:
    """Where the samples of one tar file are.

    Attributes:
        path: of the tar file.
        size: of it in bytes, when it was indexed.
        mtime_ns: when it had been written.
        kinds: the keys that a sample has, in the order of its members, then ``json:NAME`` for each text in its json.
        counts: how many samples are of each kind.
        names: of the samples, as an Arrow array of strings.
        kind: the kind of each.
        starts: its first place in the two that follow; one more place at the end.
        offsets: where each member's content begins.
        sizes: how many bytes it has.
    """

    path: Path
    size: int
    mtime_ns: int
    kinds: tuple[tuple[str, ...], ...]
    counts: tuple[int, ...]
    names: Any
    kind: Int32[np.ndarray, " N"]
    starts: Int64[np.ndarray, " N1"]
    offsets: Int64[np.ndarray, " M"]
    sizes: Int64[np.ndarray, " M"]

    def members(self, i: int) -> dict[str, tuple[int, int]]:
        """Returns key -> (offset, size) of the members of sample ``i``."""
        first, last = int(self.starts[i]), int(self.starts[i + 1])
        places = zip(self.offsets[first:last].tolist(), self.sizes[first:last].tolist(), strict=True)
        return dict(zip(self.kinds[int(self.kind[i])], places, strict=False))  # names of a json's texts have no place


def index_of(path: Path) -> Index:
    """Returns the index of a tar file: kept from before where the file has the same size and time, else made and kept.

    Raises:
        InvalidData: it is absent, packed, cut off or damaged, or holds a member twice.
    """
    try:
        told = path.stat()
        folder = runtime.cache_folder() / "shards"
        folder.mkdir(exist_ok=True)
        place = folder / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.arrow"
        found = _kept(place, path, told)
        if found is None:
            with path.open("rb") as file:
                samples = _scanned(file, told.st_size, path.name)
            _keep(place, samples, told)
            found = _kept(place, path, told)
    except OSError as error:
        raise InvalidData(f"{path} cannot be read or indexed: {error.strerror or error}") from error
    if found is None:
        raise InvalidData(f"the index of {path} was written to {place} and cannot be read there; remove that file")
    return found


# ---- What is kept


def _keep(place: Path, samples: "_Samples", told: os.stat_result) -> None:
    """Writes an index, whole or not at all."""
    import pyarrow as pa

    counts = Counter(samples.kind)
    about = {
        "version": VERSION,
        "size": told.st_size,
        "mtime_ns": told.st_mtime_ns,
        "kinds": list(samples.kinds),
        "counts": [counts[i] for i in range(len(samples.kinds))],
    }
    places = pa.list_(pa.int64())
    columns = {
        "name": pa.array(list(samples.members), pa.string()),
        "kind": pa.array(samples.kind, pa.int32()),
        "offset": pa.array([[m[1] for m in one] for one in samples.members.values()], places),
        "size": pa.array([[m[2] for m in one] for one in samples.members.values()], places),
    }
    batch = pa.RecordBatch.from_pydict(columns, metadata={"index": json.dumps(about)})
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    os.replace(beside, place)


def _kept(place: Path, path: Path, told: os.stat_result) -> Index | None:
    """Returns the index that is kept; None where there is none of this very file."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(pa.memory_map(str(place)))
        about = json.loads(reader.schema.metadata[b"index"])
        if (about["version"], about["size"], about["mtime_ns"]) != (VERSION, told.st_size, told.st_mtime_ns):
            return None
        batch = reader.get_batch(0)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    offset, size = batch.column("offset"), batch.column("size")
    return Index(
        path,
        told.st_size,
        told.st_mtime_ns,
        tuple(map(tuple, about["kinds"])),
        tuple(about["counts"]),
        batch.column("name"),
        batch.column("kind").to_numpy(),
        offset.offsets.to_numpy().astype(np.int64),
        offset.values.to_numpy(),
        size.values.to_numpy(),
    )


# ---- The pass over the headers


@dataclass
class _Samples:
    """The samples of a tar file.

    Attributes:
        members: name -> key, offset and size of each member.
        kind: number of the kind of each.
        kinds: the kinds, numbered in the order of their first sample.
    """

    members: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    kind: list[int] = field(default_factory=list)
    kinds: dict[tuple[str, ...], int] = field(default_factory=dict)


def _scanned(file: BinaryIO, size: int, shard: str) -> _Samples:
    """Returns the samples in a tar file.

    Raises:
        InvalidData: it is no tar file, or damaged, or holds a member twice.
    """
    found, told = _Samples(), dict[str, tuple[str, ...]]()
    for path, offset, length in _files(file, size, shard):
        match = _KEY.fullmatch(path)
        if match is None:
            continue
        name, key = match[1], match[2].lower()
        members = found.members.setdefault(name, [])
        if any(key == one[0] for one in members):
            raise InvalidData(f"{shard} holds the member {path} twice; write each member of a sample once")
        members.append((key, offset, length))
        if key == "json" and length <= JSON_BYTES_MAX:
            file.seek(offset)
            told[name] = _texts_in(file.read(length))
    for name, members in found.members.items():
        kind = (*(one[0] for one in members), *told.get(name, ()))
        found.kind.append(found.kinds.setdefault(kind, len(found.kinds)))
    return found


def _texts_in(data: bytes) -> tuple[str, ...]:
    """Returns the names of the texts in a json, as the keys ``json:NAME``."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):  # said when the sample is read
        return ()
    if not isinstance(told, dict):
        return ()
    return tuple(f"json:{name}" for name in (*TEXT_NAMES, *TOLD_NAMES) if texts_of(told.get(name)))


def texts_of(value: Any) -> tuple[str, ...]:
    """Returns the texts in a value of a json: a string, or a list of nothing but strings; those that are not empty."""
    several = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(text for text in several if text) if all(isinstance(text, str) for text in several) else ()


def _files(file: BinaryIO, size: int, shard: str) -> Iterator[tuple[str, int, int]]:
    """Yields path, offset and size of each regular file in a tar file.

    Raises:
        InvalidData: it is no tar file, or damaged.
    """
    _check_beginning(file.read(BLOCK), shard)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # else it keeps all of them
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
                    yield member.name, member.offset_data, member.size
            end = archive.offset
    except tarfile.ReadError as error:
        raise InvalidData(
            f"{shard} is cut off, or no tar archive in the WebDataset layout ({error}); copy or download it again"
        ) from error
    file.seek(end)
    mark = file.read(BLOCK)
    if any(mark):  # the library takes a damaged header for the end
        raise InvalidData(
            f"{shard} is damaged or cut off: no header at byte {end:,} of {size:,}; copy or download it again"
        )
    if not mark:
        logger.warning("%s has no end mark; was it cut off between two members?", shard)


def _check_beginning(header: bytes, shard: str) -> None:
    """Raises InvalidData where a file begins like something else than a tar file."""
    if not header:
        raise InvalidData(f"{shard} is empty; copy or download it again")
    for mark, what in _PACKED.items():
        if header.startswith(mark):
            raise InvalidData(
                f"{shard} is packed ({what}); unpack it to a plain .tar first, since samples are read by their place"
            )
