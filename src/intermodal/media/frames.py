"""Video: bytes to frames and back.

Frames are uint8 RGB, upright: a rotation that the file asks for is carried out. Not carried out: mirroring, pixels that
are not square, tone mapping of high dynamic range; transparent pixels of a GIF are white.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from jaxtyping import Float, UInt8
from PIL import Image as Pictures

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.containers import (
    Probe,
    Rows,
    check_complete,
    check_seconds,
    check_window,
    created,
    decoded,
    expected_seconds,
    has_index,
    opened,
    picture_track,
    sound_track,
    track_seconds,
)
from intermodal.media.sound import FORMATS as SOUND_FORMATS
from intermodal.media.sound import SoundFormat, SoundWriter, read_sound
from intermodal.media.source import limits

RATE_MAX = 1000
"""Frames per second that are accepted at most."""

_SCALE = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_TIME_STAMP_S = 0.0006  # Matroska rounds time stamps to milliseconds
_SEEK_S = 2.0  # a window that begins later is reached by the index rather than by decoding all before it
_GIF_RATE_MAX = 50  # frames that last 0.01 s or less are slowed down by every viewer


@dataclass(frozen=True)
class Clip:
    """A decoded video.

    Attributes:
        frames: RGB.
        frames_per_s: average rate.
        sound: samples in [-1, 1] and their rate in Hz, or None.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    frames_per_s: float
    sound: tuple[Float[np.ndarray, "C S"], int] | None


@dataclass(frozen=True)
class VideoFormat:
    """How a format is written: container, codec, pixel format, options of the codec, sound."""

    container: str
    codec: str
    pixels: str
    options: tuple[tuple[str, str], ...] = ()
    sound: SoundFormat | None = None


_H264 = ("libx264", "yuv420p", (("crf", "16"), ("preset", "medium")), SOUND_FORMATS["m4a"])
_VP9 = (("crf", "18"), ("b", "0"), ("deadline", "good"), ("cpu-used", "4"))
FORMATS = {
    "mp4": VideoFormat("mp4", *_H264),
    "mov": VideoFormat("mov", *_H264),
    "webm": VideoFormat("webm", "libvpx-vp9", "yuv420p", _VP9, SOUND_FORMATS["ogg"]),
    "mkv": VideoFormat("matroska", "ffv1", "bgr0", (), SoundFormat("matroska", "pcm_f32le", "flt")),
    "gif": VideoFormat("gif", "gif", "pal8"),
}
"""What can be written. Mkv keeps every pixel and sample (FFV1, float); mp4 plays everywhere; a gif has 256 colours per
frame and no sound."""


def decode_video(
    data: bytes, start_s: float = 0.0, seconds: float | None = None, frames_per_s: float | None = None, name: str = ""
) -> Clip:
    """Returns the frames of a video file, with its sound track if it has one.

    A file that is over the limits as a whole can be read in parts, or at a lower frame rate: only frames that are kept
    count. The average rate is that of the frames returned.

    Args:
        data: the file.
        start_s: seconds from the beginning.
        seconds: how much to read; None reads to the end.
        frames_per_s: take the frame on show every ``1 / frames_per_s`` seconds; None takes each frame once.
        name: what to call the file in messages.

    Raises:
        UnreadableMedia: there is no video in it, it is damaged or cut off, or it is over the limits.
        InvalidValue: the part is outside the file.
    """
    name = name or f"{len(data)} bytes"
    check_window(start_s, seconds)
    if frames_per_s is not None and not 0 < frames_per_s <= RATE_MAX:
        raise InvalidValue(
            f"frames_per_s is {frames_per_s}; give a number above 0 and up to {RATE_MAX}, or None for all"
        )
    with opened(data, name) as (container, found):
        stream = picture_track(container)
        if stream is None:
            raise UnreadableMedia(f"{name} ({found.format}) holds sound and no picture; open it as audio")
        if found.format == "gif" and not _gif_is_whole(data):
            raise UnreadableMedia(f"{name} is cut off: the mark that ends a gif is missing")
        _check_header(found, expected_seconds(found.seconds, start_s, seconds), frames_per_s, name)
        times = _Times(stream, start_s, seconds, found.frames_per_s)
        shown = _timed(container, stream, times)
        shown = _inside(shown, times) if frames_per_s is None else _paced(shown, times, frames_per_s)
        frames = _collected(shown, name)
        if times.reached_s < times.stop_s:
            check_complete(name, times.reached_s, track_seconds(container, stream), 0.9)
        if not len(frames) and start_s > 0:
            raise InvalidValue(f"no frame of {name} begins in the part from {start_s} s on")
        if not len(frames):
            raise UnreadableMedia(f"{name} has a video track without a single frame")
        rate = float(frames_per_s or times.average(len(frames)))
        has_sound = sound_track(container) is not None
    check_seconds(name, len(frames) / rate)
    if rate > RATE_MAX:
        raise UnreadableMedia(f"{name} has time stamps of {rate:,.0f} frames per second; up to {RATE_MAX} are read")
    sound = read_sound(data, start_s, seconds, f"the sound of {name}", times.origin_s) if has_sound else None
    return Clip(frames, rate, sound if sound is not None and sound[0].shape[1] else None)


def _gif_is_whole(data: bytes) -> bool:
    """Returns whether the mark that ends a GIF comes after its blocks; FFmpeg does not miss it."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while at < len(data) and data[at] in (0x21, 0x2C):
        picture = data[at] == 0x2C
        packed = data[at + 9] if picture and at + 9 < len(data) else 0
        at += (11 if picture else 2) + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return at < len(data) and data[at] == 0x3B


def _check_header(found: Probe, seconds: float | None, frames_per_s: float | None, name: str) -> None:
    """Checks what the header declares against the limits."""
    width, height = found.width or 0, found.height or 0
    if width < 1 or height < 1:
        raise UnreadableMedia(
            f"{name} has no size that can be read, or one above the limit of {limits().pixels_max:,} pixels"
        )
    if width * height > limits().pixels_max:
        raise UnreadableMedia(f"{name} is {width} x {height} pixels, more than the limit of {limits().pixels_max:,}")
    check_seconds(name, seconds or 0.0)
    rate = frames_per_s or found.frames_per_s
    if seconds and rate:
        _check_frames(int(seconds * rate), width * height, name)


def _check_frames(count: int, pixels: int, name: str) -> None:
    """Checks a number of frames against the limits."""
    advice = "read it in parts or with fewer frames_per_s"
    if count > limits().frames_max:
        raise UnreadableMedia(
            f"{name} has {count:,} frames or more, above the limit of {limits().frames_max:,}; {advice}"
        )
    if count * pixels > limits().video_pixels_max:
        raise UnreadableMedia(
            f"{name} has {count:,} frames of {pixels:,} pixels or more, over the limit of "
            f"{limits().video_pixels_max:,} pixels in all; {advice}"
        )


class _Times:
    """The times of the frames of a stream, and of those that were asked for.

    Times count from the stream's start. The average rate is the header's where the time stamps agree with it (they are
    rounded, it is not), else what they say.
    """

    def __init__(self, stream: Any, start_s: float, seconds: float | None, header_rate: float | None) -> None:
        self.start_s = start_s
        self.stop_s = float("inf") if seconds is None else start_s + seconds
        self.origin_s = float((stream.start_time or 0) * stream.time_base)
        self.reached_s = 0.0
        self._span: tuple[float, float] | None = None
        self._rate = header_rate
        self._next = 0.0

    def of(self, frame: Any) -> float:
        """Returns when a frame begins; one without a time stamp follows the one before."""
        at = self._next if frame.time is None else frame.time - self.origin_s
        length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        self._next = at + (length if length > 0 else 1 / (self._rate or 25.0))
        self.reached_s = max(self.reached_s, self._next)
        return at

    def take(self, at: float) -> None:
        """Notes that the frame that was just read is among those asked for."""
        self._span = (at if self._span is None else self._span[0], self._next)

    def average(self, count: int) -> float:
        """Returns the average rate of the ``count`` frames taken."""
        span = 0.0 if self._span is None else self._span[1] - self._span[0]
        if span <= 0:
            return self._rate or 1.0
        slack = 0.01 + 2 * _TIME_STAMP_S / span
        return self._rate if self._rate and abs(self._rate * span / count - 1) < slack else count / span


def _timed(container: Any, stream: Any, times: _Times) -> Iterator[tuple[float, Any]]:
    """Yields time and frame, in order, up to the end of the window; begins near its start where there is an index."""
    if times.start_s > _SEEK_S and has_index(stream):
        container.seek(int((times.start_s + times.origin_s - 1) / stream.time_base), stream=stream)
    for frame in decoded(container, stream):
        at = times.of(frame)
        yield at, frame
        if at >= times.stop_s:
            return


def _inside(shown: Iterator[tuple[float, Any]], times: _Times) -> Iterator[Any]:
    """Yields the frames that begin inside the window."""
    start_s = times.start_s - _TIME_STAMP_S if times.start_s > 0 else -float("inf")
    for at, frame in shown:
        if start_s <= at < times.stop_s - _TIME_STAMP_S:
            times.take(at)
            yield frame


def _paced(shown: Iterator[tuple[float, Any]], times: _Times, rate: float) -> Iterator[Any]:
    """Yields the frame on show at each tick of ``rate`` inside the window."""
    held, tick = None, 0
    for at, frame in shown:
        while held is not None and times.start_s + tick / rate < min(at, times.stop_s) - _TIME_STAMP_S:
            yield held
            tick += 1
        held = frame
    while held is not None and times.start_s + tick / rate < min(times.reached_s, times.stop_s) - _TIME_STAMP_S:
        yield held
        tick += 1


def _collected(shown: Iterator[Any], name: str) -> UInt8[np.ndarray, "F H W 3"]:
    """Returns the frames as one array; all have the size of the first. Counts them against the limits as they come."""
    rows = Rows()
    size: tuple[int, ...] = (1, 1, 3)
    for picture in _upright(shown):
        if rows.count and picture.shape != size:
            raise UnreadableMedia(f"{name} changes its orientation in the middle")
        size = picture.shape
        _check_frames(rows.count + 1, size[0] * size[1], name)
        rows.add(picture[None])
    return rows.joined() if rows.count else np.zeros((0, *size), np.uint8)


def _upright(shown: Iterator[Any]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yields the pixels of each frame, at the size of the first; a frame that comes again is converted once."""
    convert = VideoReformatter()
    last, width, height = None, 0, 0
    for frame in shown:
        if frame is not last:
            width, height = width or frame.width, height or frame.height
            rgb = convert.reformat(frame, width, height, "rgb24", interpolation=_SCALE, threads=1).to_ndarray()
            last, turned = frame, np.rot90(rgb, round(frame.rotation / 90))
        yield turned


def encode_video(
    frames: UInt8[np.ndarray, "F H W 3"],
    frames_per_s: float,
    kind: str,
    sound: tuple[Float[np.ndarray, "C S"], int] | None = None,
    tags: Mapping[str, str] | None = None,
) -> bytes:
    """Returns a video file.

    Args:
        frames: RGB; H.264 (mp4, mov) needs an even height and width: there an odd last row or column is doubled.
        frames_per_s: rate.
        kind: one of ``FORMATS``.
        sound: samples in [-1, 1] and their rate in Hz, or None.
        tags: what the container says of itself, such as a comment.

    Raises:
        InvalidValue: the format is not known, has no sound, or cannot hold the frames.
    """
    if kind not in FORMATS:
        raise InvalidValue(f"{kind!r} is no format that video is written in; use one of: {', '.join(FORMATS)}")
    form = FORMATS[kind]
    if sound is not None and form.sound is None:
        raise InvalidValue(f"a {kind} has no sound; leave the sound away, or use mp4, mov, webm or mkv")
    if kind == "gif" and frames_per_s > _GIF_RATE_MAX:
        raise InvalidValue(f"a gif shows at most {_GIF_RATE_MAX} frames per second, not {frames_per_s:g}; use mp4")
    if form.codec == "libx264":
        _, height, width, _ = frames.shape
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with created(kind, form.container) as (container, file):
        container.metadata.update(tags or {})
        rate = Fraction(frames_per_s).limit_denominator(10_000)
        stream = _picture_stream(container, form, frames.shape[1:3], rate)
        track = SoundWriter(container, form.sound, *sound) if sound is not None and form.sound is not None else None
        convert = VideoReformatter()
        for i, picture in enumerate(frames):
            frame = _paletted(picture) if form.pixels == "pal8" else av.VideoFrame.from_ndarray(picture, format="rgb24")
            if form.pixels != "pal8":
                frame = convert.reformat(
                    frame, format=form.pixels, dst_colorspace=Colorspace.ITU601, interpolation=_SCALE, threads=1
                )
            frame.pts, frame.time_base = i, 1 / rate
            container.mux(stream.encode(frame))
            if track is not None:
                track.until((i + 1) / frames_per_s)
        container.mux(stream.encode(None))
        if track is not None:
            track.finish()
    return file.getvalue()


def _picture_stream(container: Any, form: VideoFormat, size: tuple[int, ...], rate: Fraction) -> Any:
    """Returns the new video stream; colours are tagged, so that readers need not guess."""
    stream = container.add_stream(form.codec, rate=rate, options=dict(form.options))
    stream.height, stream.width = size
    stream.pix_fmt = form.pixels
    context = stream.codec_context
    context.thread_count = 1
    if form.pixels.startswith("yuv"):
        context.colorspace, context.color_range = 5, 1  # BT.601, 16 to 235
        context.color_primaries, context.color_trc = 5, 6
    return stream


def _paletted(picture: UInt8[np.ndarray, "H W 3"]) -> Any:
    """Returns a frame with its own 256 colours, the median cut of those it has."""
    few = Pictures.fromarray(picture).quantize(256, dither=Pictures.Dither.NONE)
    palette = np.zeros((256, 4), np.uint8)
    colours = np.array(few.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[:, 0], palette[: len(colours), 1:] = 255, colours  # alpha first
    return av.VideoFrame.from_ndarray((np.asarray(few), palette), format="pal8")  # type: ignore[arg-type]
