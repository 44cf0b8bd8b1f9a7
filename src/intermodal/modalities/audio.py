"""Audio: an item over samples, and its preprocessor to a grid of log-mel magnitudes.

Left out: phases. ``invert`` finds some that fit, so that it gives back the sound as heard, not its samples.
"""

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Float32, Num
from torch import Tensor

from intermodal.errors import InvalidValue
from intermodal.media import sound
from intermodal.media.source import content_hash, frozen, read_source, suffix_of, write_file
from intermodal.media.spectrogram import SILENCE, frame_count, from_log_mel, log_mel, mel_filters
from intermodal.types import Batch, Grid

_ROUNDING = 1e-3  # so far above 1 a sample is clipped; further above it is a mistake in scale
_SHOWN_S = 60.0
_SHOWN_RATES = (8_000, 96_000)  # what browsers play
_COLUMNS = 240


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """A sound.

    Attributes:
        samples: float32 ``(C, S)`` in [-1, 1], 1 to 8 channels; not writeable: a writeable array is copied. Given as
            ``(S,)`` it becomes one channel, given as int16 or another float type it is converted.
        sample_rate_hz: samples per second and channel, 1,000 to 768,000.
    """

    modality: ClassVar[str] = "audio"
    samples: Num[np.ndarray, "*C S"]  # what is accepted; once made it is Float32 "C S"
    sample_rate_hz: int

    def __post_init__(self) -> None:
        """Checks the samples and makes them read-only."""
        (low, high), rate = sound.RATES, self.sample_rate_hz
        if not (isinstance(rate, int | float | np.number) and low <= rate <= high and rate == int(rate)):
            raise InvalidValue(f"sample_rate_hz is {rate!r}; give a whole number from {low:,} to {high:,}")
        object.__setattr__(self, "sample_rate_hz", int(rate))
        object.__setattr__(self, "samples", frozen(_checked(self.samples)))

    @classmethod
    def open(cls, source: str | Path | bytes) -> Self:
        """Returns the sound in a file or in bytes: wav, flac, mp3, ogg (Vorbis, Opus), m4a, or the track of a video.

        Args:
            source: a path, or the bytes of a file.

        Raises:
            UnreadableMedia: the source cannot be read, has no sound, is damaged or cut off, or is over the limits.
        """
        data, name = read_source(source)
        samples, rate = sound.decode_sound(data, name=name)
        samples.setflags(write=False)
        return cls(samples, rate)

    def save(self, path: str | Path) -> Path:
        """Writes the sound in the format that the suffix names and returns the path.

        wav keeps every sample, flac up to 24 bits of it; ogg, opus, mp3 and m4a do not. Ogg and opus are at 48 kHz.

        Raises:
            InvalidValue: an unknown suffix, a folder that does not exist, or more channels than the format holds.
        """
        kind = suffix_of(path, tuple(sound.FORMATS))
        return write_file(path, sound.encode_sound(self.samples, self.sample_rate_hz, kind))

    @property
    def seconds(self) -> float:
        """Duration."""
        return float(self.samples.shape[1] / self.sample_rate_hz)

    def cut(self, start_s: float, stop_s: float) -> "Audio":
        """Returns the part between two times; ``stop_s`` may lie beyond the end.

        Raises:
            InvalidValue: there is no sample between them.
        """
        rate, length = self.sample_rate_hz, self.samples.shape[1]
        if not (0 <= start_s < stop_s and round(start_s * rate) < min(round(min(stop_s, self.seconds) * rate), length)):
            raise InvalidValue(f"there is nothing between {start_s} and {stop_s} s in a sound of {self.seconds:.3f} s")
        part = self.samples[:, round(start_s * rate) : round(min(stop_s, self.seconds) * rate)]
        return Audio(part, rate)

    def resampled(self, sample_rate_hz: int) -> "Audio":
        """Returns the same sound at another rate; itself where it has that rate."""
        if sample_rate_hz == self.sample_rate_hz:
            return self
        low, high = sound.RATES
        if not low <= sample_rate_hz <= high:
            raise InvalidValue(f"sample_rate_hz is {sample_rate_hz}; give a whole number from {low:,} to {high:,}")
        return Audio(sound.resample(self.samples, self.sample_rate_hz, sample_rate_hz), sample_rate_hz)

    def mixed(self, channels: int) -> "Audio":
        """Returns the sound in one channel (the mean) or two; itself where it has so many.

        One channel becomes two equal ones. Of three and more, the first is left, the second right, and the mean of the
        others is on both sides, as loud as they.

        Raises:
            InvalidValue: neither one nor two channels were asked for.
        """
        if channels not in (1, 2):
            raise InvalidValue(f"channels is {channels}; a sound is mixed to 1 or 2")
        return self if channels == len(self.samples) else Audio(_mix(self.samples, channels), self.sample_rate_hz)

    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of the modality, the samples and their rate."""
        return content_hash(self.modality, self.samples, self.sample_rate_hz)

    def __eq__(self, other: object) -> bool:
        """Returns whether ``other`` is a sound of the same samples at the same rate."""
        if not isinstance(other, Audio):
            return NotImplemented
        return self.sample_rate_hz == other.sample_rate_hz and np.array_equal(self.samples, other.samples)

    def __hash__(self) -> int:
        """Returns a number that is equal for equal sounds."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[type[Self], tuple[np.ndarray, int]]:
        """Returns how to make it again, so that a copy from another process is checked and read-only too."""
        return type(self), (self.samples, self.sample_rate_hz)

    def __repr__(self) -> str:
        """Returns its duration, channels and rate."""
        return f"Audio({self.seconds:.3f} s, channels: {len(self.samples)}, {self.sample_rate_hz} Hz)"

    def _repr_html_(self) -> str:
        """Returns HTML that plays the sound (its first minute) and draws its waveform."""
        shown = self.cut(0.0, _SHOWN_S)
        shown = shown.mixed(2) if len(shown.samples) > 2 else shown
        rate = min(max(shown.sample_rate_hz, _SHOWN_RATES[0]), _SHOWN_RATES[1])
        shown = shown.resampled(rate)
        data = base64.b64encode(sound.encode_sound(shown.samples, rate, "wav", sixteen_bit=True)).decode()
        label = f"sound, {self.seconds:.2f} s" + (f", first {_SHOWN_S:.0f} s" if self.seconds > _SHOWN_S else "")
        return (
            f'<div style="max-width:320px">{_waveform(shown.samples, label)}'
            f'<audio controls src="data:audio/wav;base64,{data}" aria-label="{label}" style="width:100%"></audio></div>'
        )


def _checked(samples: object) -> Float32[np.ndarray, "C S"]:
    """Returns samples as float32 ``(C, S)``.

    Raises:
        InvalidValue: they are of another kind, empty, not finite, or beyond [-1, 1].
    """
    if not isinstance(samples, np.ndarray) or not (samples.dtype.kind == "f" or samples.dtype == np.int16):
        what = f"an array of {samples.dtype}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise InvalidValue(f"samples are a NumPy array of float32 in -1 to 1 (or int16), not {what}")
    array = samples[None] if samples.ndim == 1 else samples
    if array.ndim != 2 or not 1 <= array.shape[0] <= sound.CHANNELS_MAX or not array.shape[1]:
        raise InvalidValue(
            f"samples have the shape {samples.shape}; expected (channels, samples) with 1 to {sound.CHANNELS_MAX} "
            "channels and at least one sample"
        )
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidValue("samples hold NaN or infinite numbers; sound is finite, in -1 to 1")
    if max(-low, high) > 1 + _ROUNDING:
        raise InvalidValue(
            f"samples reach {max(-low, high):.6g}, expected -1 to 1; divide them by their peak or clip them"
        )
    array = array.clip(-1.0, 1.0) if max(-low, high) > 1 else array
    return array.astype(np.float32, copy=False)


def _mix(samples: Float32[np.ndarray, "C S"], channels: int) -> Float32[np.ndarray, "K S"]:
    """Returns one or two channels."""
    mixed: np.ndarray
    if channels == 1:
        mixed = samples.mean(axis=0, keepdims=True)
    elif len(samples) == 1:
        mixed = samples.repeat(2, axis=0)
    else:
        mixed = (samples[:2] + samples[2:].mean(axis=0)) * np.float32(0.5)
    return mixed


def _waveform(samples: Float32[np.ndarray, "C S"], label: str) -> str:
    """Returns an SVG of the lowest and highest sample in each of some columns."""
    columns = min(_COLUMNS, samples.shape[1])
    starts = np.arange(columns) * samples.shape[1] // columns
    top = 20 - 19 * np.maximum.reduceat(samples.max(axis=0), starts)
    bottom = 20 - 19 * np.minimum.reduceat(samples.min(axis=0), starts)
    ends = [
        *zip(range(columns), top - 0.5, strict=True),
        *zip(range(columns - 1, -1, -1), bottom[::-1] + 0.5, strict=True),
    ]
    outline = " ".join(f"{x},{y:.1f}" for x, y in ends)
    return (
        f'<svg viewBox="0 0 {columns} 40" preserveAspectRatio="none" role="img" aria-label="{label}" '
        f'style="width:100%;height:40px;display:block"><polygon points="{outline}" fill="currentColor"/></svg>'
    )


@dataclass(frozen=True)
class AudioPreprocessor:
    """Sounds to log-mel magnitudes, and back.

    Attributes:
        sample_rate_hz: sounds are resampled to it.
        channels: 1 or 2; sounds are mixed to it.
        mels: filters, up to half the sample rate.
        window: length of the Hann window, in samples.
        hop: samples from one frame to the next, at most half the window.
        patch_frames: frames per token; a token spans all mels.
        seconds_max: longer sounds are cut there.
    """

    modality: ClassVar[str] = "audio"
    sample_rate_hz: int = 16_000
    channels: int = 1
    mels: int = 64
    window: int = 400
    hop: int = 160
    patch_frames: int = 4
    seconds_max: float = 10.0

    def __post_init__(self) -> None:
        """Checks that the numbers fit together."""
        low, high = sound.RATES
        if not low <= self.sample_rate_hz <= high:
            raise InvalidValue(f"sample_rate_hz is {self.sample_rate_hz}; give a whole number from {low:,} to {high:,}")
        if self.channels not in (1, 2):
            raise InvalidValue(f"channels is {self.channels}; sounds are mixed to 1 or 2")
        if self.window < 2 or not 1 <= self.hop <= self.window // 2:
            raise InvalidValue(
                f"hop is {self.hop} and window {self.window}; hop is at least 1, at most half the window"
            )
        if self.mels < 1 or self.patch_frames < 1 or not 0 < self.seconds_max < float("inf"):
            raise InvalidValue(
                f"mels={self.mels}, patch_frames={self.patch_frames}, seconds_max={self.seconds_max}; all are above 0"
            )
        mel_filters(self.sample_rate_hz, self.window, self.mels)

    @property
    def layout(self) -> Grid:
        """Rank 2 (mels, frames); a patch spans all mels, so that tokens follow each other in time."""
        return Grid(2, self.channels, (self.mels, self.patch_frames))

    def __call__(self, items: Sequence[Audio | None]) -> Batch:
        """Returns ``(B, channels, mels, frames)``; ``None`` gives a row of silence whose mask is False.

        A sound fills whole tokens, the last one with silence; where others are longer, silence whose mask is False
        follows.

        Raises:
            InvalidValue: an item is no sound, or there is none.
        """
        if not items:
            raise InvalidValue("there are no sounds to preprocess; give at least one")
        for item in items:
            if not (item is None or isinstance(item, Audio)):
                raise InvalidValue(f"a sound was expected, not {type(item).__name__}")
        rows: dict[int, list[int]] = defaultdict(list)  # length in samples -> rows, to compute equal lengths at once
        fitted = {i: self._fit(item) for i, item in enumerate(items) if item is not None}
        tokens = torch.zeros(len(items), dtype=torch.long)
        for i, samples in fitted.items():
            rows[samples.shape[1]].append(i)
            tokens[i] = -(-frame_count(samples.shape[1], self.hop) // self.patch_frames)
        longest = max(int(tokens.max()), 1)
        shape = (len(items), self.channels, self.mels, longest * self.patch_frames)
        grids = [(group, self._grids([fitted[i] for i in group], int(tokens[group[0]]))) for group in rows.values()]
        if len(grids) == 1 and grids[0][1].shape == shape:
            values = grids[0][1]
        else:
            values = torch.full(shape, SILENCE)
            for group, grid in grids:
                values[group, :, :, : grid.shape[3]] = grid
        return Batch(values, torch.arange(longest) < tokens[:, None])

    def _grids(self, sounds: Sequence[Float32[np.ndarray, "C S"]], tokens: int) -> Float32[Tensor, "N C M F"]:
        """Returns the log-mel magnitudes of fitted sounds of equal length."""
        frames = tokens * self.patch_frames
        flat = torch.from_numpy(np.concatenate(sounds))
        grid = log_mel(flat, self.sample_rate_hz, self.window, self.hop, self.mels, frames)
        return grid.reshape(len(sounds), self.channels, self.mels, frames)

    def _fit(self, item: Audio) -> Float32[np.ndarray, "C S"]:
        """Returns the samples cut, mixed and resampled as needed."""
        if item.seconds > self.seconds_max:
            item = item.cut(0.0, self.seconds_max)
        fitted: np.ndarray = item.mixed(self.channels).resampled(self.sample_rate_hz).samples
        return fitted

    def invert(self, values: Float[Tensor, "B C M F"]) -> list[Audio]:
        """Returns a sound of ``frames * hop`` samples for each row; its magnitudes are close to ``values``."""
        B, C, M, frames = values.shape
        flat = values.detach().cpu().float().nan_to_num(SILENCE).reshape(B * C, M, frames)
        samples = from_log_mel(flat, self.sample_rate_hz, self.window, self.hop).clamp_(-1.0, 1.0)
        return [Audio(row, self.sample_rate_hz) for row in samples.reshape(B, C, -1).numpy()]


ITEM = Audio
PREPROCESSOR = AudioPreprocessor
