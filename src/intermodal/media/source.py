"""Where media come from: reading bytes within limits, and saying what they are by their content.

Every reader of media starts here. Limits are checked before anything is decoded; a file's name decides only where its
content does not (a table of numbers is text too). Whatever is wrong with a source is raised as ``UnreadableMedia``.
"""

import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.signs import beginning, binary_format, is_table


@dataclass(frozen=True)
class Limits:
    """What is accepted at most; checked before decoding.

    Attributes:
        bytes_max: length of a file.
        pixels_max: pixels of a picture, or of one frame of a video.
        seconds_max: duration of sound or video.
        frames_max: frames of a video.
        values_max: numbers in a series, channels times samples.
        video_pixels_max: pixels of all frames of a video together.
    """

    bytes_max: int = 256 * 2**20
    pixels_max: int = 64_000_000
    seconds_max: float = 3600.0
    frames_max: int = 100_000
    values_max: int = 64_000_000
    video_pixels_max: int = 512_000_000

    def __post_init__(self) -> None:
        """Checks that every limit lets something through."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InvalidValue(f"the limit {field.name} is {value}; give a number above 0")


_DEFAULTS = Limits()
_LIMITS: ContextVar[Limits] = ContextVar("intermodal_limits", default=_DEFAULTS)


def limits() -> Limits:
    """Returns the limits in force."""
    return _LIMITS.get()


@contextmanager
def limited(**changes: Any) -> Iterator[Limits]:
    """Returns a context for ``with`` in which the given fields of ``Limits`` hold.

    A thread started inside the block begins with the defaults; hand it the block's by ``contextvars.copy_context()``.

    Raises:
        InvalidValue: a limit that does not exist, or one that lets nothing through.
    """
    known = [f.name for f in fields(Limits)]
    for name in changes:
        if name not in known:
            raise InvalidValue(f"there is no limit {name!r}; use one of: {', '.join(known)}")
    token = _LIMITS.set(replace(limits(), **changes))
    try:
        yield limits()
    finally:
        _LIMITS.reset(token)


def read_source(source: str | Path | bytes) -> tuple[bytes, str]:
    """Returns the bytes of a source and a name for messages (``photo.jpg`` or ``12 bytes``).

    Args:
        source: a path, or the bytes themselves.

    Raises:
        UnreadableMedia: the file is absent, empty, a folder or a device, too long, or not permitted.
        InvalidValue: ``source`` is neither a path nor bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), f"{len(source)} bytes"
    elif isinstance(source, str | os.PathLike):
        name = PurePath(source).name or str(source)
        data = _read_file(source, name)
    else:
        raise InvalidValue(f"a source is a path or bytes, not {type(source).__name__}")
    if not data:
        raise UnreadableMedia(f"{name} is empty: there are no bytes to read")
    if len(data) > limits().bytes_max:
        raise UnreadableMedia(_too_long(name, len(data)))
    return data, name


def _too_long(name: str, length: int) -> str:
    """Returns the message for a source over the limit."""
    most = limits().bytes_max
    return f"{name} has {length:,} bytes, more than the limit of {most:,}; raise it with limited(bytes_max=...)"


def _read_file(path: str | os.PathLike[str], name: str) -> bytes:
    """Returns the bytes of a regular file; its length is checked before it is read."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableMedia(f"{name} is a folder, not a file; open the files in it one by one")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMedia(f"{name} is no regular file but a device, pipe or socket; give a file")
        if status.st_size > limits().bytes_max:
            raise UnreadableMedia(_too_long(name, status.st_size))
        with open(path, "rb") as file:
            return file.read(limits().bytes_max + 1)  # it may have grown since
    except FileNotFoundError as error:
        raise UnreadableMedia(f"there is no file {os.fspath(path)!r}") from error
    except PermissionError as error:
        raise UnreadableMedia(f"{name} may not be read: permission denied") from error
    except (OSError, MemoryError) as error:
        raise UnreadableMedia(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnreadableMedia:
        raise
    except ValueError as error:  # a null or a surrogate in the path
        raise UnreadableMedia(f"{os.fspath(path)!r} cannot be a path: {error}") from error


def write_file(path: str | Path, data: bytes) -> Path:
    """Writes ``data`` beside ``path``, then renames it, so that the file is whole or absent; returns the path.

    Raises:
        InvalidValue: the folder does not exist, or ``path`` is a folder.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InvalidValue(f"there is no folder {str(target.parent)!r} to save {target.name} in; make it first")
    if target.is_dir():
        raise InvalidValue(f"{str(target)!r} is a folder; give the path of a file")
    beside = target.with_name(f".saving-{uuid.uuid4().hex}")
    try:
        with open(beside, "xb") as file:
            file.write(data)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def suffix_of(path: str | Path, known: tuple[str, ...]) -> str:
    """Returns the suffix of ``path`` without its dot, in lower case.

    Raises:
        InvalidValue: it is not one of ``known``.
    """
    suffix = PurePath(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        endings = ", ".join(f".{name}" for name in known)
        raise InvalidValue(f"{PurePath(path).name!r} does not name a format to save in; end it with one of: {endings}")
    return suffix


def frozen(array: np.ndarray) -> np.ndarray:
    """Returns the array, contiguous and not writeable: itself where it is so already, else a copy."""
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C", copy=True)
        array.setflags(write=False)
    return array


def content_hash(modality: str, *parts: np.ndarray | str | float) -> str:
    """Returns the SHA-256, in hex, of a modality and its parts; equal for equal content and for nothing else."""
    digest = hashlib.sha256(modality.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            head, body = f"{part.dtype.str}{part.shape}", np.ascontiguousarray(part).data
        else:
            text = part if isinstance(part, str) else float(part).hex()
            body = memoryview(text.encode("utf-8", "surrogatepass"))
            head = f"{type(part).__name__[0]}{len(body)}"
        digest.update(f"|{head}|".encode())
        digest.update(body)
    return digest.hexdigest()


UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
"""What no text holds: surrogates, and control characters but tab, line and form feed, carriage return, next line."""


def decode_text(data: bytes) -> str:
    """Returns the text in UTF-8 bytes, or in UTF-16 bytes that begin with a byte order mark; the mark is dropped.

    Raises:
        UnreadableMedia: another encoding, or control characters; the message begins with a verb, for a name before it.
    """
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        what = "UTF-16" if coding == "utf-16" else "UTF-8"
        raise UnreadableMedia(
            f"is no {what} text: byte 0x{data[error.start]:02x} at position {error.start}; save it as UTF-8"
        ) from error
    found = UNPRINTABLE.search(text)
    if found:
        raise UnreadableMedia(f"is no text: it has the control character {found[0]!r} at position {found.start()}")
    return text


def printable(text: str) -> str:
    """Returns ``text`` with everything that no text file may hold (control characters, surrogates) put as U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", text)


def sniff(data: bytes, name: str = "") -> tuple[str, str]:
    """Returns the modality and the format of ``data``, by content: ``("image", "png")``.

    A picture that moves in a GIF is a video; moving WebP and PNG count as pictures, of which the first frame is taken.
    Ogg, MP4 and Matroska files that hold only sound are audio. ``name`` decides only whether a table of numbers is a
    series (``.csv``) or a text (``.txt``, ``.md``); without a suffix a table is a series.

    Raises:
        UnreadableMedia: the content is of no known format; the message shows how it begins.
    """
    label = name or f"{len(data)} bytes"
    if not data:
        raise UnreadableMedia(f"{label} is empty: there are no bytes to read")
    try:
        text = decode_text(data)
    except UnreadableMedia:
        text = None
    found = binary_format(data) if text is None else _sniff_text(text, PurePath(name).suffix.lower())
    if found is None:
        raise UnreadableMedia(f"{label} is of no known format: it begins with {beginning(data)}")
    return found


def modality_of(source: str | Path | bytes) -> str:
    """Returns the modality of a file or of bytes: text, image, audio, video or timeseries.

    Raises:
        UnreadableMedia: the source cannot be read, or its content is of no known format.
    """
    return sniff(*read_source(source))[0]


def _sniff_text(text: str, suffix: str) -> tuple[str, str]:
    """Returns what a text is: a table of numbers or just text."""
    if suffix in (".txt", ".md") or (suffix not in (".csv", ".tsv") and not is_table(text)):
        return "text", "md" if suffix == ".md" else "txt"
    return "timeseries", "csv"
