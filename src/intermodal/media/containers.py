"""Sound and video files: opening them safely, and saying what they hold before anything of it is decoded.

FFmpeg, through PyAV, is the only decoder; ``sound`` and ``frames`` build on this file. What a file may not do:

- reach other files or the network: a demuxer is chosen by the content, and whatever it asks to open besides is refused;
- use up memory: declared sizes and durations are checked here, what really comes is counted while it is decoded;
- come out as anything but arrays or ``UnreadableMedia``: every fault of the decoder is turned into one sentence.

FFmpeg prints nothing: PyAV mutes it unless its logging is switched on.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import av
import av.error
import numpy as np
from jaxtyping import Shaped

from intermodal.errors import IntermodalError, InvalidValue, UnreadableMedia
from intermodal.media.source import limits, sniff

_DEMUXERS = {
    "wav": "wav",
    "flac": "flac",
    "mp3": "mp3",
    "ogg": "ogg",
    "m4a": "mov",
    "mp4": "mov",
    "mov": "mov",
    "webm": "matroska",
    "mkv": "matroska",
    "gif": "gif",
}
"""Format as sniffed -> FFmpeg's demuxer."""

_FAULTS = (
    av.error.FFmpegError,
    OSError,
    MemoryError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)
_EINVAL = -22
_BLOCK, _BLOCK_MAX = 2**20, 2**26  # bytes


@dataclass(frozen=True)
class Probe:
    """What the header of a file declares; None where it does not say, or where there is no such track.

    Attributes:
        modality: ``video`` where there is a moving picture (a cover is none), else ``audio``.
        format: wav, flac, mp3, ogg, m4a, mp4, mov, webm, mkv or gif.
        seconds: duration.
        frames: pictures in the video track.
        frames_per_s: their average rate.
        width: pixels, as stored: before a rotation that the file may ask for.
        height: pixels, as stored.
        sample_rate_hz: of the sound track.
        channels: of the sound track.
    """

    modality: str
    format: str
    seconds: float | None
    frames: int | None
    frames_per_s: float | None
    width: int | None
    height: int | None
    sample_rate_hz: int | None
    channels: int | None


class _Source:
    """Bytes as FFmpeg reads them.

    A file may ask to be read at a negative position: an exception here would be printed by PyAV's callback, so the
    answer is an error code.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, count: int) -> bytes:
        """Returns up to ``count`` bytes."""
        piece = bytes(self._data[self._at : self._at + max(count, 0)])
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Returns the new position, or an error code."""
        if whence not in (0, 1, 2):
            return _EINVAL
        at = offset + (0, self._at, len(self._data))[whence]
        if not 0 <= at < 2**62:
            return _EINVAL
        self._at = at
        return at


def _no_other_file(*_: Any) -> NoReturn:
    """Refuses whatever a file asks to open besides itself."""
    raise OSError("it asks for another file, which is never opened")


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turns every fault of the decoder into ``UnreadableMedia``.

    Args:
        name: what is being read, for the message.
    """
    try:
        yield
    except IntermodalError:
        raise
    except _FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableMedia(f"{name} cannot be decoded: {reason[:1].lower()}{reason[1:]}") from error


@contextmanager
def opened(data: bytes, name: str = "") -> Iterator[tuple[Any, Probe]]:
    """Yields the open container and what its header declares; faults inside the block become ``UnreadableMedia``.

    Args:
        data: the file.
        name: what to call it in messages.

    Raises:
        UnreadableMedia: it holds neither sound nor video, or its header is damaged or declares too much.
    """
    name = name or f"{len(data)} bytes"
    modality, kind = sniff(data, name)
    if kind not in _DEMUXERS:
        raise UnreadableMedia(f"{name} is {modality} ({kind}), not sound or video; open it as what it is")
    with refusing(name):
        container = av.open(
            _Source(data),
            "r",
            format=_DEMUXERS[kind],
            metadata_errors="replace",  # tags in old encodings are common
            io_open=_no_other_file,
            options={"max_pixels": str(limits().pixels_max)},  # for the frames decoded to fill in the header
        )
        try:
            yield container, _describe(container, kind, name)
        finally:
            container.close()


@contextmanager
def created(kind: str, muxer: str) -> Iterator[tuple[Any, io.BytesIO]]:
    """Yields a container to write to, and the file that holds its bytes once the block has ended.

    Args:
        kind: what to call the format in messages.
        muxer: FFmpeg's name of it.

    Raises:
        InvalidValue: the encoder does not take what it is given.
    """
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=muxer) as container:
            yield container, file
    except av.error.FFmpegError as error:
        raise InvalidValue(f"this cannot be written as {kind}: {error.strerror}; try another format") from error


def probe(data: bytes, name: str = "") -> Probe:
    """Returns what the header of a sound or video file declares; nothing is checked against the limits.

    Raises:
        UnreadableMedia: it holds neither sound nor video, or its header is damaged.
    """
    with opened(data, name) as (_, found):
        return found


def sound_track(container: Any) -> Any:
    """Returns the first sound stream that can be decoded, or None."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def picture_track(container: Any) -> Any:
    """Returns the first video stream that can be decoded and is no cover, or None."""
    cover = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if s.codec_context is not None and not s.disposition & cover), None)


def has_index(stream: Any) -> bool:
    """Returns whether a video stream can be entered elsewhere than at its beginning; GIF cannot."""
    return stream is not None and stream.codec_context.name != "gif" and len(stream.index_entries) > 1


def track_seconds(container: Any, stream: Any) -> float | None:
    """Returns the declared seconds of one track, or None; the file's are taken for those of its only track."""
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # Matroska: 00:00:01.200000000
    minutes, _, seconds = rest.partition(":")
    if hours.isdigit() and minutes.isdigit() and seconds.replace(".", "", 1).isdigit():
        return (int(hours) * 60 + int(minutes)) * 60 + float(seconds) or None
    alone = sound_track(container) is None or picture_track(container) is None
    return _file_seconds(container) if alone else None


def _file_seconds(container: Any) -> float | None:
    """Returns the declared seconds of the longest track, or None."""
    return container.duration / 1e6 if container.duration is not None and container.duration > 0 else None


def _describe(container: Any, kind: str, name: str) -> Probe:
    """Returns what the streams declare."""
    picture, sound = picture_track(container), sound_track(container)
    if picture is None and sound is None:
        raise UnreadableMedia(f"{name} ({kind}) has no sound or video track that can be decoded")
    main = sound if picture is None else picture
    if picture is None and kind in ("mp4", "mov"):
        kind = "m4a"
    rate = None if picture is None else picture.average_rate or picture.guessed_rate
    return Probe(
        modality="audio" if picture is None else "video",
        format=kind,
        seconds=_file_seconds(container) or track_seconds(container, main),
        frames=None if picture is None else picture.frames or None,
        frames_per_s=float(rate) if rate else None,
        width=None if picture is None else picture.codec_context.width,
        height=None if picture is None else picture.codec_context.height,
        sample_rate_hz=None if sound is None else sound.codec_context.sample_rate,
        channels=None if sound is None else sound.codec_context.layout.nb_channels,
    )


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yields the decoded frames of one stream, in order.

    MP3 marks the start of each packet, and files often hold something else between them: there, and only there, a
    packet that cannot be decoded is passed over; what is missing in the end is counted by ``check_complete``.
    """
    context = stream.codec_context
    context.thread_count = 1  # files are decoded side by side; results and memory do not depend on the machine
    context.options = {"max_pixels": str(limits().pixels_max)}
    if context.name == "flac":
        context.options |= {"err_detect": "crccheck+explode"}  # else its checksums are not looked at
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if container.format.name != "mp3":
                raise
            continue
        yield from frames


class Rows:
    """Rows of equal shape that come piece by piece, made into one array without holding them twice.

    They are copied into blocks; freeing a large block gives its memory back at once, which freeing many small arrays
    does not.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._free = 0
        self.count = 0

    def add(self, rows: Shaped[np.ndarray, "N ..."]) -> None:
        """Adds rows; all have the shape and type of the first."""
        done = 0
        while done < len(rows):
            if not self._free:
                row_bytes = max(rows[:1].nbytes, 1)
                self._free = max(min(_BLOCK << len(self._blocks), _BLOCK_MAX) // row_bytes, 1)
                self._blocks.append(np.empty((self._free, *rows.shape[1:]), rows.dtype))
            take = min(self._free, len(rows) - done)
            start = len(self._blocks[-1]) - self._free
            self._blocks[-1][start : start + take] = rows[done : done + take]
            self._free -= take
            done += take
        self.count += len(rows)

    def joined(self, rows_last: bool = False) -> Shaped[np.ndarray, "..."]:
        """Returns all rows, along the first axis or the last, and forgets them; there must be one."""
        first = self._blocks[0]
        shape = (*first.shape[1:], self.count) if rows_last else (self.count, *first.shape[1:])
        result = np.empty(shape, first.dtype)
        target = np.moveaxis(result, -1, 0) if rows_last else result
        at = 0
        while self._blocks:
            block = self._blocks.pop(0)
            part = target[at : at + len(block)]
            part[...] = block[: len(part)]
            at += len(part)
        return result


def check_window(start_s: float, seconds: float | None) -> None:
    """Checks what part of a file is asked for.

    Raises:
        InvalidValue: it begins before 0 or has no length.
    """
    if not 0 <= start_s < float("inf"):
        raise InvalidValue(f"start_s is {start_s}; give seconds from 0 on")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InvalidValue(f"seconds is {seconds}; give a number above 0, or None for all")


def check_seconds(name: str, found: float) -> None:
    """Checks a duration against the limits.

    Raises:
        UnreadableMedia: it is too long.
    """
    if found > limits().seconds_max:
        raise UnreadableMedia(
            f"{name} lasts {found:,.6g} s or longer, more than the limit of {limits().seconds_max:,.6g}; "
            "read it in parts, or raise it with limited(seconds_max=...)"
        )


def expected_seconds(declared: float | None, start_s: float, seconds: float | None) -> float | None:
    """Returns how much of a file should come from a window, as far as its header says."""
    if declared is None:
        return seconds
    rest = max(declared - start_s, 0.0)
    return rest if seconds is None else min(rest, seconds)


def check_complete(name: str, got_s: float, declared_s: float | None, least: float) -> None:
    """Checks that about as much came as the header declared.

    Args:
        name: what to call the file in messages.
        got_s: seconds decoded.
        declared_s: seconds declared, or None.
        least: what part of them suffices: headers of lossy formats round, and editors cut.

    Raises:
        UnreadableMedia: more is missing.
    """
    if declared_s is not None and got_s < least * declared_s:
        raise UnreadableMedia(f"{name} is cut off or damaged: {got_s:.2f} of {declared_s:.2f} s could be decoded")
