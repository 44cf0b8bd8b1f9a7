"""Sound: bytes to samples and back, and another sample rate.

Samples are float32 in [-1, 1], channels first. Whole-number formats of up to 24 bits are read exactly. Decoders of
lossy formats overshoot a little; that is clipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import Float

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.containers import (
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
from intermodal.media.source import limits

CHANNELS_MAX = 8
RATES = (1_000, 768_000)
"""Sample rates in Hz that are accepted, from and to."""

_LAYOUTS = ("", "mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
_OVERSHOOT = 16.0  # a float file above this is not scaled to -1..1 at all
_VALUES_PER_S = 96_000  # stereo at 48 kHz: what an hour of sound may hold bounds its memory
_PADDING = 4_096  # samples: a codec's last packet may reach so far beyond the declared end
_PIECE = 65_536
_SEEK_S = 30.0  # nearer the beginning of a video all is decoded: an index leads to within a millisecond or so


@dataclass(frozen=True)
class SoundFormat:
    """How a format is written: container, codec, sample format, the rates it holds (none listed: all), channels."""

    container: str
    codec: str
    samples: str
    rates: tuple[int, ...] = ()
    channels_max: int = CHANNELS_MAX
    bit_rate_per_channel: int | None = None


_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OGG = SoundFormat("ogg", "libopus", "flt", (48000,), bit_rate_per_channel=96_000)
FORMATS = {
    "wav": SoundFormat("wav", "pcm_s16le", "s16"),
    "flac": SoundFormat("flac", "flac", "s16", channels_max=8),
    "ogg": _OGG,
    "opus": _OGG,
    "mp3": SoundFormat("mp3", "libmp3lame", "fltp", _AAC_RATES[:9], 2, 128_000),
    "m4a": SoundFormat("ipod", "aac", "fltp", _AAC_RATES, bit_rate_per_channel=160_000),
}
"""What can be written: wav and flac keep every sample, the others do not. Ogg holds Opus, which always is at 48 kHz."""


def decode_sound(
    data: bytes, start_s: float = 0.0, seconds: float | None = None, name: str = ""
) -> tuple[Float[np.ndarray, "C S"], int]:
    """Returns the samples of a sound file, or of the sound track of a video, and their rate in Hz.

    A file that the header says is longer than the limit can be read in parts; what comes before a part is decoded and
    dropped, so that memory depends on the part alone.

    Args:
        data: the file.
        start_s: seconds from the beginning.
        seconds: how much to read; None reads to the end.
        name: what to call the file in messages.

    Raises:
        UnreadableMedia: there is no sound in it, it is damaged or cut off, or it is over the limits.
        InvalidValue: the part is outside the file.
    """
    name = name or f"{len(data)} bytes"
    samples, rate = read_sound(data, start_s, seconds, name)
    if not samples.shape[1]:
        if start_s > 0:
            raise InvalidValue(f"start_s is {start_s}, at or after the end of {name}")
        raise UnreadableMedia(f"{name} has a sound track without a single sample")
    return samples, rate


def read_sound(
    data: bytes, start_s: float, seconds: float | None, name: str, origin_s: float | None = None, by_index: bool = True
) -> tuple[Float[np.ndarray, "C S"], int]:
    """Returns what ``decode_sound`` does, and no samples where there are none.

    Args:
        data: the file.
        start_s: seconds from the origin.
        seconds: how much to read; None reads to the end.
        name: what to call the file in messages.
        origin_s: time stamp that counts as 0, for sound beside a picture; None is the first sample.
        by_index: whether to go to a part far into a video by its index, rather than decode all before it.
    """
    check_window(start_s, seconds)
    with opened(data, name) as (container, found):
        stream = sound_track(container)
        if stream is None:
            raise UnreadableMedia(f"{name} ({found.format}) has no sound track")
        declared = _wav_seconds(data) if found.format == "wav" else track_seconds(container, stream)
        if found.format == "mp3" and not any(tag in data[: 2**18] for tag in (b"Xing", b"Info", b"VBRI")):
            declared = None  # a guess from the bit rate of the first packet
        check_seconds(name, expected_seconds(declared, start_s, seconds) or 0.0)
        by_index = by_index and origin_s is not None and start_s > _SEEK_S and has_index(picture_track(container))
        if by_index and origin_s is not None:
            container.seek(int((origin_s + start_s - 1) * 1e6))
        part = _window(container, stream, name, (start_s, seconds), origin_s)
        if not (by_index and part.late):
            samples = part.rows.joined(rows_last=True) if part.rows.count else _nothing(found.channels)
            track = part.track_at if declared is None else part.track_at + round(declared * part.rate)
            if found.format in ("mp4", "mov", "m4a") and 0 < part.end_at - track <= _PADDING and declared is not None:
                samples = samples[:, : max(samples.shape[1] - (part.end_at - track), 0)]
            if part.ended:  # a flac says exactly how much there is, and its decoder drops what is damaged
                got_s = (part.end_at - part.track_at) / part.rate
                check_complete(name, got_s, declared, 0.9999 if found.format == "flac" else 0.9)
            return _checked(samples, name), part.rate
    return read_sound(data, start_s, seconds, name, origin_s, by_index=False)  # the index leads beyond the part


def _nothing(channels: int | None) -> Float[np.ndarray, "C 0"]:
    """Returns no samples."""
    return np.zeros((channels or 1, 0), np.float32)


def _wav_seconds(data: bytes) -> float | None:
    """Returns the duration that the header of a wav declares; FFmpeg believes the length of the file instead.

    Writers that do not know the length beforehand put 0 or some number near the greatest.
    """
    at, bytes_per_s = 12, 0
    for _ in range(1000 if data[:4] == b"RIFF" else 0):
        mark, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if mark == b"fmt ":
            bytes_per_s = int.from_bytes(data[at + 16 : at + 20], "little")
        if mark == b"data":
            return size / bytes_per_s if bytes_per_s and 0 < size < 0x7FFF0000 else None
        at += 8 + size + size % 2
    return None


def _pieces(container: Any, stream: Any) -> Iterator[tuple[float | None, int, Float[np.ndarray, "S C"]]]:
    """Yields time stamp in seconds, rate and samples of each decoded frame, converted to float32."""
    convert = av.AudioResampler(format="flt")  # packed: PyAV reads beyond the planes of eight planar channels
    for frame in decoded(container, stream):
        for piece in convert.resample(frame):
            yield frame.time, piece.sample_rate, piece.to_ndarray().reshape(-1, piece.layout.nb_channels)


@dataclass
class _Part:
    """What was read of a track; positions are in samples from the origin.

    Attributes:
        rows: the samples kept, one per row.
        rate: in Hz.
        track_at: where the track begins.
        end_at: where what was kept ends, or where the track does.
        ended: whether the track ended before the window.
        late: whether what was decoded begins after the start of the window.
    """

    rows: Rows
    rate: int
    track_at: int = 0
    end_at: int = 0
    ended: bool = True
    late: bool = False


def _window(
    container: Any, stream: Any, name: str, window: tuple[float, float | None], origin_s: float | None
) -> _Part:
    """Returns the samples of a window, counted against the limits as they come."""
    start_s, seconds = window
    part = _Part(Rows(), 0)
    first, last = 0, float("inf")
    for time, rate, piece in _pieces(container, stream):
        if not part.rate:
            part.rate = _checked_rate(rate, piece.shape[1], name)
            first = round(start_s * rate)
            last = first + round(seconds * rate) if seconds is not None else last
            if origin_s is not None and time is not None:
                began_s = time if stream.start_time is None else float(stream.start_time * stream.time_base)
                part.track_at, part.end_at = (round((t - origin_s) * rate) for t in (began_s, time))
            part.late = first < part.end_at
            if part.late:
                silent = int(min(part.end_at, last)) - first
                check_seconds(name, silent / rate)
                part.rows.add(np.zeros((silent, piece.shape[1]), np.float32))
        at = part.end_at
        part.rows.add(piece[max(first - at, 0) : int(min(max(last - at, 0), len(piece)))])
        part.end_at = int(min(at + len(piece), last))
        check_seconds(name, part.rows.count / rate)
        if part.rows.count * piece.shape[1] > _VALUES_PER_S * limits().seconds_max:
            what = f"{part.rows.count:,} samples in {piece.shape[1]} channels"
            raise UnreadableMedia(f"{name} has over {what}, above the limit; read parts of it")
        if at + len(piece) >= last:
            part.ended = False
            break
    part.rate = part.rate or stream.codec_context.sample_rate or RATES[0]
    return part


def _checked_rate(rate: int, channels: int, name: str) -> int:
    """Returns the rate."""
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableMedia(f"{name} has a sample rate of {rate} Hz; {RATES[0]:,} to {RATES[1]:,} are read")
    if not 1 <= channels <= CHANNELS_MAX:
        raise UnreadableMedia(f"{name} has {channels} channels; 1 to {CHANNELS_MAX} are read")
    return rate


def _checked(samples: Float[np.ndarray, "C S"], name: str) -> Float[np.ndarray, "C S"]:
    """Returns the samples, clipped to [-1, 1]."""
    if not samples.size:
        return samples
    peak = float(max(-samples.min(), samples.max()))  # NaN comes through both
    if not np.isfinite(peak):
        raise UnreadableMedia(f"{name} has samples that are no numbers (NaN or infinite)")
    if peak > _OVERSHOOT:
        raise UnreadableMedia(f"{name} has samples up to {peak:.6g}, expected -1 to 1; divide them by their peak")
    return samples.clip(-1.0, 1.0, out=samples) if peak > 1 else samples


def resample(samples: Float[np.ndarray, "C S"], rate: int, new_rate: int) -> Float[np.ndarray, "C R"]:
    """Returns the same sound at another rate, ``round(S * new_rate / rate)`` samples (at least one), time aligned.

    FFmpeg's polyphase filter (32 taps, cut off at 0.97 of the lower Nyquist frequency); within one filter length of the
    ends it mirrors the sound.
    """
    if rate == new_rate:
        return samples
    channels, length = samples.shape
    layout = _LAYOUTS[channels]
    convert = av.AudioResampler(format="flt", layout=layout, rate=new_rate)
    frames = [f for piece in _sound_frames(samples, rate) for f in convert.resample(piece)] + convert.resample(None)
    packed = np.concatenate([f.to_ndarray().reshape(-1, channels) for f in frames] or [np.zeros((0, channels))])
    result = np.zeros((channels, max(round(length * new_rate / rate), 1)), np.float32)
    count = min(result.shape[1], len(packed))
    result[:, :count] = packed[:count].T
    return result.clip(-1.0, 1.0, out=result)


def _sound_frames(samples: Float[np.ndarray, "C S"], rate: int) -> Iterator[Any]:
    """Yields the samples as FFmpeg's frames, piece by piece."""
    for start in range(0, samples.shape[1], _PIECE):
        packed = np.ascontiguousarray(samples[:, start : start + _PIECE].T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=_LAYOUTS[len(samples)])
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


class SoundWriter:
    """A sound track being written; feeds the encoder up to a time, so that tracks can be interleaved."""

    def __init__(self, container: Any, form: SoundFormat, samples: Float[np.ndarray, "C S"], rate: int) -> None:
        """Adds the stream; a rate that the format does not hold is resampled to the next one that it does."""
        if len(samples) > form.channels_max:
            raise InvalidValue(
                f"{form.container} holds {form.channels_max} channels, not {len(samples)}; mix them first"
            )
        held = (
            rate
            if not form.rates or rate in form.rates
            else min([r for r in form.rates if r > rate] or form.rates[-1:])
        )
        self._frames = _sound_frames(resample(samples, rate, held), held)
        self._container = container
        self._stream = container.add_stream(form.codec, rate=held, layout=_LAYOUTS[len(samples)])
        self._stream.codec_context.format = form.samples
        if form.bit_rate_per_channel:
            self._stream.bit_rate = form.bit_rate_per_channel * len(samples)

    def until(self, seconds: float) -> None:
        """Writes the frames that begin before ``seconds``."""
        for frame in self._frames:
            self._container.mux(self._stream.encode(frame))
            if frame.time >= seconds:
                return

    def finish(self) -> None:
        """Writes all that is left."""
        self.until(float("inf"))
        self._container.mux(self._stream.encode(None))


def encode_sound(samples: Float[np.ndarray, "C S"], rate: int, kind: str, sixteen_bit: bool = False) -> bytes:
    """Returns a sound file.

    Wav and flac hold 16 bits where that is exact, else wav holds 32-bit floats and flac 24 bits. The lossy formats
    resample to the next rate that they hold; in five or more channels they low-pass the one meant for bass.

    Args:
        samples: in [-1, 1].
        rate: in Hz.
        kind: one of ``FORMATS``.
        sixteen_bit: rounds wav and flac to 16 bits in any case: half as long, and every player reads it.

    Raises:
        InvalidValue: the format is not known or cannot hold so many channels.
    """
    if kind not in FORMATS:
        raise InvalidValue(f"{kind!r} is no format that sound is written in; use one of: {', '.join(FORMATS)}")
    form = FORMATS[kind]
    if kind in ("wav", "flac") and not sixteen_bit and not _fits_16_bits(samples):
        codec, held = ("pcm_f32le", "flt") if kind == "wav" else ("flac", "s32")
        form = SoundFormat(form.container, codec, held)
    with created(kind, form.container) as (container, file):
        SoundWriter(container, form, samples, rate).finish()
    return file.getvalue()


def _fits_16_bits(samples: Float[np.ndarray, "C S"]) -> bool:
    """Returns whether 16 bits hold every sample exactly."""
    scaled = samples * np.float32(32768)
    return bool((np.rint(scaled) == scaled).all() and scaled.max() < 32768)
