"""Images: an item over pixels, and its preprocessor to a grid of patches.

Resizing is torch's antialiased bicubic or bilinear on bytes, or Pillow's. They take the same samples; torch's weights
have 15 bits, Pillow's 22: three values in a thousand differ by one level, one in a million by two, and torch takes a
fifth of the time.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Shaped, UInt8
from PIL import Image as Pillow
from torch import Tensor

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media import pictures
from intermodal.media.source import content_hash, frozen, read_source, sniff, suffix_of, write_file
from intermodal.types import Batch, Grid

FITS = ("crop_first", "resize_first", "squeeze")
RESIZES = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}
RESIZERS = ("torch", "pillow")
_LONG = 8  # a picture so many times as long as it is wide is not resized as a whole, only what is kept of it
_SHOWN_SIDE = 768


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """A picture.

    Attributes:
        pixels: bytes ``(H, W, 3)``: red, green, blue, in rows from the top. Not writeable: a writeable array is copied.
    """

    modality: ClassVar[str] = "image"
    pixels: UInt8[np.ndarray, "H W 3"]

    def __post_init__(self) -> None:
        """Checks the pixels and makes them read-only."""
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            what = f"an array of {pixels.dtype}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise InvalidValue(f"pixels are a NumPy array of uint8, not {what}; scale to 0-255 and convert")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise InvalidValue(f"pixels have the shape {pixels.shape}; expected (height, width, 3), each at least 1")
        object.__setattr__(self, "pixels", frozen(pixels))

    @classmethod
    def open(cls, source: str | Path | bytes, at_least: tuple[int, int] | None = None) -> Self:
        """Returns the picture in a file or in bytes: jpg, png, webp, gif, bmp or tiff.

        It stands upright, transparency lies on white; of a moving picture the first is taken, and the log says so.

        Args:
            source: a path, or the bytes of a file.
            at_least: a height and width that suffice; a larger jpg is then decoded at a half, a quarter or an eighth of
                its size, which is faster.

        Raises:
            UnreadableMedia: the source cannot be read, is no picture, is damaged, or is over the limits.
        """
        data, name = read_source(source)
        modality, kind = sniff(data, name)
        if kind not in pictures.READS:
            raise UnreadableMedia(f"{name} is {modality} ({kind}), no picture")
        return cls(pictures.decode(data, name, kind, at_least))

    def save(self, path: str | Path) -> Path:
        """Writes the picture in the format that the suffix names and returns the path.

        png, webp, bmp and tiff keep every pixel, gif does up to 256 colours, jpg does not.

        Raises:
            InvalidValue: an unknown suffix, a folder that does not exist, or a size that the format cannot hold.
        """
        return write_file(path, pictures.encode(self.pixels, suffix_of(path, pictures.FORMATS)))

    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of the modality, the size and the pixels."""
        return content_hash(self.modality, self.pixels)

    def __eq__(self, other: object) -> bool:
        """Returns whether ``other`` is a picture of the same pixels."""
        return np.array_equal(self.pixels, other.pixels) if isinstance(other, Image) else NotImplemented

    def __hash__(self) -> int:
        """Returns a number that is equal for equal pictures."""
        return hash(self.content_hash())

    def __reduce__(self) -> tuple[type[Self], tuple[np.ndarray]]:
        """Returns how to make it again, so that a copy from another process is checked and read-only too."""
        return type(self), (self.pixels,)

    def __repr__(self) -> str:
        """Returns its size."""
        return f"Image({self.pixels.shape[0]} x {self.pixels.shape[1]} pixels)"

    def _repr_html_(self) -> str:
        """Returns the picture as PNG inside an HTML element; a large one is made smaller, a tiny one larger."""
        height, width = self.pixels.shape[:2]
        shown = pictures.thumbnail(self.pixels, _SHOWN_SIDE)
        data = base64.b64encode(pictures.encode(shown, "png")).decode()
        zoom = max(1, 128 // max(height, width))
        style = ' style="image-rendering:pixelated"' if zoom > 1 else ""
        return (
            f'<img src="data:image/png;base64,{data}" alt="image, {height} x {width} pixels" '
            f'width="{shown.shape[1] * zoom}" height="{shown.shape[0] * zoom}"'
            f"{style}>"
        )


@dataclass(frozen=True)
class ImagePreprocessor:
    """Pictures to one size in normalised colours, and back.

    Attributes:
        height: rows, a multiple of ``patch``.
        width: columns, a multiple of ``patch``.
        patch: side of the square that is one token.
        mean: subtracted from red, green and blue, which are 0 to 1.
        std: what they are divided by afterwards.
        fit: how a picture gets the target's proportions. ``crop_first`` takes the largest centred part that has them
            and resizes it; ``resize_first`` resizes the whole so that its shorter side fits, then takes the middle: a
            fraction of a pixel beside it (published CLIP weights; square targets); ``squeeze`` resizes the whole.
        resize: bicubic or bilinear.
        resize_by: torch, which is fast, or pillow, which gives the very bytes that published weights were trained with.
    """

    modality: ClassVar[str] = "image"
    height: int = 64
    width: int = 64
    patch: int = 8
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fit: str = "crop_first"
    resize: str = "bicubic"
    resize_by: str = "torch"

    def __post_init__(self) -> None:
        """Checks that the sizes fit and nothing divides by zero."""
        if self.patch < 1 or min(self.height, self.width) < 1 or self.height % self.patch or self.width % self.patch:
            size = f"{self.height} x {self.width}"
            raise InvalidValue(
                f"a picture of {size} does not divide into patches of {self.patch}; give multiples of it"
            )
        for name in ("mean", "std"):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != 3 or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
                raise InvalidValue(f"{name} is {getattr(self, name)}; give three finite numbers, those of std above 0")
            object.__setattr__(self, name, values)
        for name, known in (("resize", RESIZES), ("fit", FITS), ("resize_by", RESIZERS)):
            if getattr(self, name) not in known:
                raise InvalidValue(f"{name} is {getattr(self, name)!r}; use {' or '.join(known)}")
        if self.fit == "resize_first" and self.height != self.width:
            raise InvalidValue(
                f"fit is 'resize_first' with a target of {self.height} x {self.width}; that has no shorter side: "
                "give a square, or use crop_first"
            )

    @property
    def layout(self) -> Grid:
        """Rank 2, three channels, square patches."""
        return Grid(2, 3, (self.patch, self.patch))

    @property
    def decoded(self) -> tuple[int, int]:
        """The height and width to decode a picture at least in (``Image.open(at_least=...)``): twice what is needed.

        What a JPEG decoder leaves out differs from what the resize would; at twice the size the difference is about
        that between two ways of resizing, two levels in the mean, and at the size itself five.
        """
        return 2 * self.height, 2 * self.width

    def __call__(self, items: Sequence[Image | None]) -> Batch:
        """Returns ``(B, 3, height, width)``; ``None`` gives a row of zeros whose mask is False.

        Raises:
            InvalidValue: an item is no picture, or there is none.
        """
        return self._batch(items, self._normalised)

    def raw(self, items: Sequence[Image | None]) -> Batch:
        """Returns the same as bytes, of which ``colours`` makes what ``__call__`` gives."""
        return self._batch(items, lambda pixels: torch.from_numpy(pixels).permute(0, 3, 1, 2))

    @property
    def colours(self) -> tuple[Float32[Tensor, " 3"], Float32[Tensor, " 3"]]:
        """Per channel what a byte is multiplied by and what is then added: ``(x / 255 - mean) / std``."""
        return line(self.mean, self.std)

    def _batch(self, items: Sequence[Image | None], values_of: Callable[[np.ndarray], Tensor]) -> Batch:
        """Returns the fitted pictures as ``values_of`` makes them of their bytes."""
        if not items:
            raise InvalidValue("there are no pictures to preprocess; give at least one")
        for item in items:
            if not (item is None or isinstance(item, Image)):
                raise InvalidValue(f"a picture was expected, not {type(item).__name__}")
        there = [item is not None for item in items]
        arrays = self._fitted([item.pixels for item in items if item])
        values = values_of(np.stack(arrays or [np.zeros((self.height, self.width, 3), np.uint8)]))
        return placed(values, there, (self.height // self.patch) * (self.width // self.patch))

    def _normalised(self, pixels: UInt8[np.ndarray, "B H W 3"]) -> Float32[Tensor, "B 3 H W"]:
        """Returns ``(x / 255 - mean) / std``, a few pictures at a time: they stay in the processor's cache."""
        scale, shift = (v[:, None, None] for v in self.colours)
        stack = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        values = torch.empty(stack.shape)
        few = max(1, 65_536 // (self.height * self.width))
        for start in range(0, len(stack), few):
            values[start : start + few].copy_(stack[start : start + few]).mul_(scale).add_(shift)
        return values

    def _fitted(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """Returns each picture in the target's size; those of one size are resized together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, pixels in enumerate(pictures):
            groups.setdefault(pixels.shape, []).append(i)
        result = list(pictures)
        for shape, index in groups.items():
            if shape != (self.height, self.width, 3):
                for i, pixels in zip(index, self._fit(np.stack([pictures[i] for i in index])), strict=True):
                    result[i] = pixels
        return result

    def _fit(self, pixels: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "N h w 3"]:
        """Returns pictures of one size fitted to the target."""
        rows, columns = pixels.shape[1:3]
        high, wide = self.height, self.width
        if self.fit == "crop_first":
            kept_rows = max(1, min(rows, round(columns * self.height / self.width)))
            kept_columns = max(1, min(columns, round(rows * self.width / self.height)))
            top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
            pixels = pixels[:, top : top + kept_rows, left : left + kept_columns]
        elif self.fit == "resize_first":
            short = min(rows, columns)
            high, wide = int(high * rows / short), int(wide * columns / short)  # cut, not rounded, as published
        top, left = (high - self.height) // 2, (wide - self.width) // 2
        if self.resize_by == "torch" and max(high, wide) <= _LONG * min(high, wide):
            return self._by_torch(pixels, (high, wide), (top, left))
        return np.stack([self._by_pillow(one, (high, wide), (top, left)) for one in pixels])

    def _by_torch(
        self, pixels: UInt8[np.ndarray, "N H W 3"], size: tuple[int, int], corner: tuple[int, int]
    ) -> UInt8[np.ndarray, "N h w 3"]:
        """Returns the part of the target's size at ``corner`` of the pictures resized to ``size``.

        Along the rows first, as torch does it by itself, so that only the columns that are kept go on.
        """
        (high, wide), (top, left) = size, corner
        stack = torch.from_numpy(np.array(pixels, order="C")).permute(0, 3, 1, 2)
        if wide != self.width:
            stack = F.interpolate(stack, (stack.shape[2], wide), mode=self.resize, antialias=True)
            stack = stack[..., left : left + self.width].contiguous(memory_format=torch.channels_last)
        fitted = F.interpolate(stack, (high, self.width), mode=self.resize, antialias=True)
        result: np.ndarray = fitted[:, :, top : top + self.height].permute(0, 2, 3, 1).numpy()
        return result

    def _by_pillow(
        self, pixels: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], corner: tuple[int, int]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the same part of one picture."""
        (high, wide), (top, left) = size, corner
        picture, method = Pillow.fromarray(np.ascontiguousarray(pixels)), RESIZES[self.resize]
        if max(high, wide) <= _LONG * min(high, wide):
            whole = np.asarray(picture.resize((wide, high), method))
            return whole[top : top + self.height, left : left + self.width]
        down, across = picture.height / high, picture.width / wide  # a box may end between pixels, to seven digits
        right, bottom = (left + self.width) * across, (top + self.height) * down
        box = (left * across, top * down, min(right, picture.width), min(bottom, picture.height))
        return np.asarray(picture.resize((self.width, self.height), method, box))

    def invert(self, values: Float[Tensor, "B 3 H W"]) -> list[Image]:
        """Returns the picture of each row: exactly the pixels that ``__call__`` was given at this size."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        colours = ((values.detach().cpu().float() * std + mean) * 255).nan_to_num(0).round().clamp(0, 255)
        return [Image(row) for row in colours.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()]


def line(mean: Sequence[float], std: Sequence[float]) -> tuple[Float32[Tensor, " C"], Float32[Tensor, " C"]]:
    """Returns scale and shift of byte to value, per channel: ``(x / 255 - mean) / std`` is ``x * scale + shift``."""
    middle, spread = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return (1 / (255 * spread)).float(), (-middle / spread).float()


def placed(values: Shaped[Tensor, "N ..."], there: Sequence[bool], tokens: int) -> Batch:
    """Returns the values as a batch: one row per item, zeros and a mask that is False where it is not there.

    Args:
        values: a row for each item that is there; where none is, a row that stands for the shape alone.
        there: which items are.
        tokens: of a row.
    """
    present = torch.tensor(there)
    if not all(there):
        fitted, values = values, values.new_zeros(len(there), *values.shape[1:])
        values[present] = fitted[: sum(there)]
    return Batch(values, present[:, None].repeat(1, tokens))


ITEM = Image
PREPROCESSOR = ImagePreprocessor
