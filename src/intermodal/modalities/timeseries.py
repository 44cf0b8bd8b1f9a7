"""Time series: an item over channels of numbers, and its preprocessor to a grid of steps.

A series of another rate is resampled linearly; nothing is filtered, so downsampling keeps what is faster than half the
new rate as noise.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media import tables
from intermodal.media.source import content_hash, frozen, read_source, sniff, suffix_of, write_file
from intermodal.types import Batch, Grid

_COLOURS = ("#3b82c4", "#d9822b", "#3a9d5d", "#c9504a", "#9068be", "#8c6a4f", "#cf6fae", "#808080", "#a3a327")
"""Of middle brightness, so that they can be told on white and on black."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 200, 52, 24, 8
_POINTS = 600


@dataclass(frozen=True, eq=False, repr=False)
class TimeSeries:
    """Numbers measured at one rate in several channels.

    Attributes:
        values: float32 ``(C, S)``, finite: one row per channel, one column per sample. Not writeable: a writeable array
            is copied.
        channels: the name of each channel, each its own.
        sample_rate_hz: samples per second.
    """

    modality: ClassVar[str] = "timeseries"
    values: Float32[np.ndarray, "C S"]
    channels: tuple[str, ...]
    sample_rate_hz: float

    def __post_init__(self) -> None:
        """Checks all of it and makes the values read-only."""
        values, channels = self.values, tuple(self.channels)
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            what = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
            raise InvalidValue(f"values are a NumPy array of float32, not {what}; convert them first")
        if values.ndim != 2 or 0 in values.shape:
            raise InvalidValue(f"values have the shape {values.shape}; expected (channels, samples), each at least 1")
        if isinstance(self.channels, str) or len(channels) != len(values):
            raise InvalidValue(f"{len(values)} channels have the names {self.channels!r}; give a tuple of names")
        for name in channels:
            if not isinstance(name, str) or not name or not name.isprintable() or name != name.strip():
                raise InvalidValue(f"a channel is named {name!r}; give printable text without blanks around it")
        if len(set(channels)) < len(channels):
            raise InvalidValue(f"channels are named {channels}; give each its own name")
        low, high = tables.RATES_HZ
        if not low <= self.sample_rate_hz <= high:
            raise InvalidValue(f"sample_rate_hz is {self.sample_rate_hz}; give {low} to {high}")
        if not np.isfinite(values).all():
            channel, sample = map(int, np.argwhere(~np.isfinite(values))[0])
            where = f"channel {channels[channel]!r}, sample {sample}"
            raise InvalidValue(f"the value at {where} is {values[channel, sample]}; every value must be finite")
        object.__setattr__(self, "values", frozen(values))
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "sample_rate_hz", float(self.sample_rate_hz))

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return int(self.values.shape[1]) / self.sample_rate_hz

    @classmethod
    def open(cls, source: str | Path | bytes, name: str = "") -> Self:
        """Returns the series in a file or in bytes: csv, npz or parquet, laid out as ``media.tables`` says.

        Args:
            source: a path, or the bytes of a file.
            name: what bytes are called in messages; its suffix tells a table of one column from a text.

        Raises:
            UnreadableMedia: the source cannot be read, is no table of finite numbers, or is over the limits.
        """
        data, label = read_source(source)
        name = name or label
        modality, kind = sniff(data, name)
        if kind not in tables.FORMATS:
            raise UnreadableMedia(f"{name} is {modality} ({kind}), no time series")
        table = tables.decode(data, name, kind)
        return cls(table.values, table.channels, table.sample_rate_hz)

    def save(self, path: str | Path) -> Path:
        """Writes the series as the suffix says (.csv, .npz, .parquet) and returns the path; all three are exact.

        Raises:
            InvalidValue: another suffix, or a folder that does not exist.
        """
        kind = suffix_of(path, tables.FORMATS)
        return write_file(path, tables.encode(tables.Table(self.values, self.channels, self.sample_rate_hz), kind))

    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of the modality, the values, the names and the rate."""
        names = [part for name in self.channels for part in (name, "\n")]
        values = self.values + np.float32(0)  # -0.0 equals 0.0
        return content_hash(self.modality, values, *names, self.sample_rate_hz)

    def __eq__(self, other: object) -> bool:
        """Returns whether ``other`` is a series of the same values, names and rate."""
        if not isinstance(other, TimeSeries):
            return NotImplemented
        mine, its = (self.channels, self.sample_rate_hz), (other.channels, other.sample_rate_hz)
        return mine == its and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        """Returns a number that is equal for equal series."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[type[Self], tuple[np.ndarray, tuple[str, ...], float]]:
        """Returns how to make it again, so that a copy from another process is checked and read-only too."""
        return type(self), (self.values, self.channels, self.sample_rate_hz)

    def __repr__(self) -> str:
        """Returns its size and rate."""
        count, samples = self.values.shape
        return f"TimeSeries({count} channel{'s' * (count > 1)}, {samples} samples at {self.sample_rate_hz:g} Hz)"

    def _repr_html_(self) -> str:
        """Returns a plot as SVG: a line per channel over seconds, a legend below; of many channels the first nine."""
        shown = self.values[: len(_COLOURS)].astype(np.float64)
        low, high = float(shown.min()), float(shown.max())
        right, floor = _WIDTH - 8, _HEIGHT - _BOTTOM
        parts = [
            f'<path d="M{_LEFT} {_TOP}V{floor}H{right}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>',
            *(_label(_LEFT - 4, y, "end", f"{v:.4g}") for y, v in ((_TOP + 8, high), (floor, low))),
            *(
                _label(_LEFT + share * (right - _LEFT), _HEIGHT - 8, anchor, f"{share * self.seconds:.4g} s")
                for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
            ),
        ]
        for row, colour in zip(shown, _COLOURS, strict=False):
            x, y = _outline(row)
            across = _LEFT + (right - _LEFT) * x / len(row)
            down = floor - (floor - _TOP) * (y - low) / ((high - low) or 1.0)
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend = " ".join(
            f'<span style="white-space:nowrap"><span style="color:{colour}">&#9644;</span> {html.escape(name)}</span>'
            for name, colour in zip(self.channels, _COLOURS, strict=False)
        )
        left = len(self.channels) - len(_COLOURS)
        more = f" <em>and {left} more</em>" if left > 0 else ""
        return (
            f'<figure style="margin:0.5em 0;max-width:{_WIDTH}px"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" '
            f'role="img" aria-label="time series, {len(self.channels)} channels, {self.seconds:.4g} seconds">'
            f'{"".join(parts)}</svg><figcaption style="font:12px sans-serif">{legend}{more}</figcaption></figure>'
        )


def _label(x: float, y: float, anchor: str, text: str) -> str:
    """Returns one label of an axis."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" font-family="sans-serif" '
        f'fill="currentColor">{text}</text>'
    )


def _outline(row: Float[np.ndarray, " S"]) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Returns sample numbers and values to draw: all of a short row, the extremes of each part of a long one."""
    if len(row) <= 2 * _POINTS:
        return np.arange(len(row), dtype=np.float64), row
    starts = np.linspace(0, len(row), _POINTS, endpoint=False).astype(np.int64)
    low, high = np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts)
    return np.repeat(starts, 2).astype(np.float64), np.stack((low, high), axis=1).reshape(-1)


@dataclass(frozen=True)
class TimeSeriesPreprocessor:
    """Series to one rate, one number of channels and patches of samples, and back.

    Attributes:
        channels: rows of every grid. A series that has fewer gets zeros, one that has more is refused.
        sample_rate_hz: series of another rate are resampled linearly.
        patch: samples per token.
        seconds_max: what is longer is cut.
        names: where given, one per channel: channels go to the row of their name; else to rows in their order.
        offset: subtracted from every value.
        scale: what values are divided by afterwards.
        sensors: that the channels are of, equally many of each, one sensor's channels after the other's. With more than
            one every token is of a single sensor, and a grid has an axis for them.
    """

    modality: ClassVar[str] = "timeseries"
    channels: int = 9
    sample_rate_hz: float = 32.0
    patch: int = 4
    seconds_max: float = 30.0
    names: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    sensors: int = 1

    def __post_init__(self) -> None:
        """Checks that every number is usable."""
        for name in ("channels", "sample_rate_hz", "patch", "seconds_max", "scale"):
            if not 0 < getattr(self, name) < np.inf:
                raise InvalidValue(f"{name} is {getattr(self, name)}; give a finite number above 0")
        if self.sensors < 1 or self.channels % self.sensors:
            raise InvalidValue(
                f"{self.channels} channels cannot be of {self.sensors} sensors, equally many of each; give another"
            )
        if not np.isfinite(self.offset):
            raise InvalidValue(f"offset is {self.offset}; give a finite number")
        if round(self.seconds_max * self.sample_rate_hz) < 1:
            raise InvalidValue(f"seconds_max is {self.seconds_max}, which is no sample at {self.sample_rate_hz} Hz")
        if self.names and (len(self.names) != self.channels or len(set(self.names)) < self.channels):
            raise InvalidValue(f"{self.channels} channels have the names {self.names}; give one name for each, or none")

    @property
    def layout(self) -> Grid:
        """Rank 1, patches of samples; of several sensors rank 2, sensors and patches of samples."""
        if self.sensors > 1:
            return Grid(2, self.channels // self.sensors, (1, self.patch))
        return Grid(1, self.channels, (self.patch,))

    def __call__(self, items: Sequence[TimeSeries | None]) -> Batch:
        """Returns ``(B, C, S)``, padded with zeros to the longest of the batch; ``None`` gives a row of zeros.

        Of several sensors it is ``(B, channels of each, sensors, S)``.

        Raises:
            InvalidValue: an item is no series, has a channel that has no row, or there is none.
        """
        if not items:
            raise InvalidValue("there are no series to preprocess; give at least one")
        rows = [None if item is None else self._resampled(item) for item in items]
        counts = [0 if row is None else row.shape[1] for row in rows]
        tokens = max(1, -(-max(counts) // self.patch))
        values = np.zeros((len(items), self.channels, tokens * self.patch), np.float32)
        for out, item, row in zip(values, items, rows, strict=True):
            if item is not None and row is not None:
                out[self._places(item), : row.shape[1]] = _narrow((row - self.offset) / self.scale)
        lengths = torch.tensor([-(-count // self.patch) for count in counts])
        made, mask = torch.from_numpy(values), torch.arange(tokens) < lengths[:, None]
        if self.sensors > 1:
            made = made.view(len(made), self.sensors, -1, made.shape[2]).transpose(1, 2)
            mask = mask.repeat(1, self.sensors)
        return Batch(made, mask)

    def _places(self, item: TimeSeries) -> list[int]:
        """Returns the row of each channel."""
        if self.names:
            unknown = [name for name in item.channels if name not in self.names]
            if unknown:
                raise InvalidValue(f"the series has a channel {unknown[0]!r}; expected any of: {', '.join(self.names)}")
            return [self.names.index(name) for name in item.channels]
        if len(item.channels) > self.channels:
            count = len(item.channels)
            raise InvalidValue(f"the series has {count} channels, more than the {self.channels} that fit; choose some")
        return list(range(len(item.channels)))

    def _resampled(self, item: TimeSeries) -> Float[np.ndarray, "C S"]:
        """Returns the values at this rate, at most ``seconds_max`` of them."""
        if not isinstance(item, TimeSeries):
            raise InvalidValue(f"a time series was expected, not {type(item).__name__}")
        most = round(self.seconds_max * self.sample_rate_hz)
        if item.sample_rate_hz == self.sample_rate_hz:
            return item.values[:, :most].astype(np.float64)
        step = item.sample_rate_hz / self.sample_rate_hz
        count = max(1, min(most, round(item.values.shape[1] / step)))
        at = np.arange(count) * step
        known = min(item.values.shape[1], int(at[-1]) + 2)
        positions = np.arange(known)
        return np.stack([np.interp(at, positions, row[:known]) for row in item.values])

    def invert(self, values: Float[Tensor, "B C *sensors S"]) -> list[TimeSeries]:
        """Returns the series of each row, all its channels and samples, padding among them."""
        if self.sensors > 1:
            values = values.transpose(1, 2).flatten(1, 2)
        numbers = _narrow(values.detach().cpu().double().numpy() * self.scale + self.offset)
        names = self.names or tuple(f"channel{i}" for i in range(1, self.channels + 1))
        return [TimeSeries(row, names, self.sample_rate_hz) for row in numbers]


def _narrow(numbers: Float[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Returns the numbers as finite float32: what is too large becomes the largest, what is no number 0."""
    largest = float(np.finfo(np.float32).max)
    narrow: np.ndarray = np.nan_to_num(numbers).clip(-largest, largest).astype(np.float32)
    return narrow


ITEM = TimeSeries
PREPROCESSOR = TimeSeriesPreprocessor
