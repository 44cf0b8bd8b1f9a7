"""Video: an item over frames with an optional sound track, and its preprocessor to a grid of patches.

The preprocessor sees the pictures alone: sound is a modality of its own.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from intermodal.errors import InvalidValue
from intermodal.media import frames as media
from intermodal.media.source import content_hash, frozen, read_source, suffix_of, write_file
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import line, placed
from intermodal.types import Batch, Grid

_SHOWN_SIDE = 512
_SHOWN_FRAMES = 600


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """Moving pictures.

    Attributes:
        frames: bytes ``(F, H, W, 3)``: red, green, blue, in rows from the top. Not writeable: a writeable array is
            copied.
        frames_per_s: rate at which they are shown, up to 1,000.
        sound: what is heard from the first frame on, or None.
    """

    modality: ClassVar[str] = "video"
    frames: UInt8[np.ndarray, "F H W 3"]
    frames_per_s: float
    sound: Audio | None = None

    def __post_init__(self) -> None:
        """Checks the frames and makes them read-only."""
        frames = self.frames
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            what = f"an array of {frames.dtype}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise InvalidValue(f"frames are a NumPy array of uint8, not {what}; scale to 0-255 and convert")
        if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise InvalidValue(
                f"frames have the shape {frames.shape}; expected (frames, height, width, 3), each at least 1"
            )
        rate = self.frames_per_s
        if not (isinstance(rate, int | float | np.number) and 0 < rate <= media.RATE_MAX):
            raise InvalidValue(f"frames_per_s is {rate!r}; give a number above 0 and up to {media.RATE_MAX}")
        if not (self.sound is None or isinstance(self.sound, Audio)):
            raise InvalidValue(f"the sound of a video is an Audio or None, not {type(self.sound).__name__}")
        object.__setattr__(self, "frames", frozen(frames))
        object.__setattr__(self, "frames_per_s", float(rate))

    @classmethod
    def open(cls, source: str | Path | bytes) -> Self:
        """Returns the video in a file or in bytes: mp4, mov, webm, mkv, ogg or gif, upright, with its sound.

        Args:
            source: a path, or the bytes of a file.

        Raises:
            UnreadableMedia: the source cannot be read, holds no video, is damaged or cut off, or is over the limits.
        """
        data, name = read_source(source)
        clip = media.decode_video(data, name=name)
        clip.frames.setflags(write=False)
        if clip.sound is None:
            return cls(clip.frames, clip.frames_per_s)
        clip.sound[0].setflags(write=False)
        return cls(clip.frames, clip.frames_per_s, Audio(*clip.sound))

    def save(self, path: str | Path) -> Path:
        """Writes the video in the format that the suffix names and returns the path.

        mkv keeps every pixel and sample; mp4, mov and webm do not, and mp4 and mov make height and width even; a gif
        has 256 colours per frame.

        Raises:
            InvalidValue: an unknown suffix, a folder that does not exist, or a gif with sound or over 50 frames per
                second.
        """
        return write_file(path, self._encoded(suffix_of(path, tuple(media.FORMATS))))

    def _encoded(self, kind: str) -> bytes:
        """Returns it as a file."""
        sound = None if self.sound is None else (self.sound.samples, self.sound.sample_rate_hz)
        return media.encode_video(self.frames, self.frames_per_s, kind, sound)

    @property
    def seconds(self) -> float:
        """Duration of the pictures."""
        return len(self.frames) / self.frames_per_s

    def cut(self, start_s: float, stop_s: float) -> "Video":
        """Returns the frames that begin between two times, with their sound; ``stop_s`` may lie beyond the end.

        The cut falls on whole frames, that of the sound beside them.

        Raises:
            InvalidValue: no frame begins between them.
        """
        first, last = 0, 0
        if 0 <= start_s < stop_s:
            first, last = (math.ceil(min(t, self.seconds) * self.frames_per_s - 1e-6) for t in (start_s, stop_s))
        if first >= last:
            raise InvalidValue(f"no frame begins between {start_s} and {stop_s} s in a video of {self.seconds:.3f} s")
        start_s, stop_s = first / self.frames_per_s, last / self.frames_per_s
        heard = self.sound is not None and round(start_s * self.sound.sample_rate_hz) < self.sound.samples.shape[1]
        sound = self.sound.cut(start_s, stop_s) if heard and self.sound is not None else None
        return Video(self.frames[first:last], self.frames_per_s, sound)

    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of the modality, the frames, their rate and the sound."""
        sound = "" if self.sound is None else self.sound.content_hash()
        return content_hash(self.modality, self.frames, self.frames_per_s, sound)

    def __eq__(self, other: object) -> bool:
        """Returns whether ``other`` is a video of the same frames, rate and sound."""
        if not isinstance(other, Video):
            return NotImplemented
        same = self.frames_per_s == other.frames_per_s and self.sound == other.sound
        return same and np.array_equal(self.frames, other.frames)

    def __hash__(self) -> int:
        """Returns a number that is equal for equal videos."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[type[Self], tuple[np.ndarray, float, Audio | None]]:
        """Returns how to make it again, so that a copy from another process is checked and read-only too."""
        return type(self), (self.frames, self.frames_per_s, self.sound)

    def __repr__(self) -> str:
        """Returns its size, rate and sound."""
        count, height, width, _ = self.frames.shape
        sound = "" if self.sound is None else f", {self.sound!r}"
        return f"Video({count} frames of {height} x {width} pixels, {self.frames_per_s:g} frames/s{sound})"

    def _repr_html_(self) -> str:
        """Returns HTML that plays the video: its first 600 frames, a large one made smaller, a tiny one larger."""
        shown = self.cut(0.0, _SHOWN_FRAMES / self.frames_per_s) if len(self.frames) > _SHOWN_FRAMES else self
        height, width = self.frames.shape[1:3]
        if max(height, width) > _SHOWN_SIDE:
            ratio = _SHOWN_SIDE / max(height, width)
            small = _resized(shown.frames, max(1, round(height * ratio)), max(1, round(width * ratio)))
            shown = Video(small, self.frames_per_s, shown.sound)
        data = base64.b64encode(shown._encoded("mp4")).decode()
        zoom = max(1, 128 // max(height, width))
        return (
            f'<video controls muted loop src="data:video/mp4;base64,{data}" '
            f'aria-label="video, {self.seconds:.2f} s" width="{shown.frames.shape[2] * zoom}" '
            f'height="{shown.frames.shape[1] * zoom}"></video>'
        )


def _resized(frames: UInt8[np.ndarray, "F H W 3"], height: int, width: int) -> UInt8[np.ndarray, "F h w 3"]:
    """Returns the frames at another size."""
    pictures = torch.from_numpy(np.array(frames, order="C")).permute(0, 3, 1, 2)
    fitted = F.interpolate(pictures, (height, width), mode="bilinear", antialias=True)
    result: np.ndarray = fitted.permute(0, 2, 3, 1).numpy()
    return result


@dataclass(frozen=True)
class VideoPreprocessor:
    """Videos to a number of frames of one size in normalised colours, and back.

    Attributes:
        frames: taken at even distances over the whole video, a multiple of the first of ``patch``; a video that has
            just so many is taken as it is, of a shorter one some are taken twice.
        height: rows, a multiple of the second of ``patch``.
        width: columns, a multiple of the third of ``patch``.
        patch: frames, rows and columns of the block that is one token.
        mean: subtracted from red, green and blue, which are 0 to 1.
        std: what they are divided by afterwards.
        stretch: True squeezes whole frames to the size, False takes the largest centred part of the right proportions.
        frames_per_s: the rate that ``invert`` gives; that of the videos is lost.
    """

    modality: ClassVar[str] = "video"
    frames: int = 8
    height: int = 64
    width: int = 64
    patch: tuple[int, int, int] = (8, 8, 8)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    stretch: bool = True
    frames_per_s: float = 8.0

    def __post_init__(self) -> None:
        """Checks that the sizes fit and nothing divides by zero."""
        patch = tuple(int(size) for size in self.patch)
        sizes = (self.frames, self.height, self.width)
        if len(patch) != 3 or min(*patch, *sizes) < 1 or any(n % p for n, p in zip(sizes, patch, strict=True)):
            raise InvalidValue(
                f"a video of {sizes} (frames, height, width) does not divide into patches of {self.patch}"
            )
        object.__setattr__(self, "patch", patch)
        for name in ("mean", "std"):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != 3 or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
                raise InvalidValue(f"{name} is {getattr(self, name)}; give three finite numbers, those of std above 0")
            object.__setattr__(self, name, values)
        if not 0 < self.frames_per_s <= media.RATE_MAX:
            raise InvalidValue(f"frames_per_s is {self.frames_per_s}; give a number above 0 and up to {media.RATE_MAX}")

    @property
    def layout(self) -> Grid:
        """Rank 3 (frames, rows, columns), three channels."""
        return Grid(3, 3, self.patch)

    def __call__(self, items: Sequence[Video | None]) -> Batch:
        """Returns ``(B, 3, frames, height, width)``; ``None`` gives a row of zeros whose mask is False.

        Raises:
            InvalidValue: an item is no video, or there is none.
        """
        if not items:
            raise InvalidValue("there are no videos to preprocess; give at least one")
        for item in items:
            if not (item is None or isinstance(item, Video)):
                raise InvalidValue(f"a video was expected, not {type(item).__name__}")
        there = [item is not None for item in items]
        arrays = [self._fit(item.frames) for item in items if item is not None]
        stack = torch.from_numpy(np.stack(arrays or [np.zeros((self.frames, self.height, self.width, 3), np.uint8)]))
        scale, shift = (v[:, None, None, None] for v in line(self.mean, self.std))
        values = stack.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
        tokens = (self.frames // self.patch[0]) * (self.height // self.patch[1]) * (self.width // self.patch[2])
        return placed(values.mul_(scale).add_(shift), there, tokens)

    def _fit(self, frames: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "f h w 3"]:
        """Returns the frames taken, cropped (where asked) and resized to the target."""
        count, rows, columns, _ = frames.shape
        if count != self.frames:
            frames = frames[(np.arange(self.frames) * 2 + 1) * count // (2 * self.frames)]
        if (rows, columns) == (self.height, self.width):
            return frames
        if not self.stretch:
            kept_rows = max(1, min(rows, round(columns * self.height / self.width)))
            kept_columns = max(1, min(columns, round(rows * self.width / self.height)))
            top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
            frames = frames[:, top : top + kept_rows, left : left + kept_columns]
        return _resized(frames, self.height, self.width)

    def invert(self, values: Float[Tensor, "B 3 F H W"]) -> list[Video]:
        """Returns the video of each row: exactly the pixels that ``__call__`` was given at this size."""
        mean, std = (torch.tensor(v)[:, None, None, None] for v in (self.mean, self.std))
        colours = ((values.detach().cpu().float() * std + mean) * 255).nan_to_num(0).round().clamp(0, 255)
        stack = colours.to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous().numpy()
        return [Video(row, self.frames_per_s) for row in stack]


ITEM = Video
PREPROCESSOR = VideoPreprocessor
