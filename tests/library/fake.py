"""A model that needs no training: items of the same kind point the same way, in every modality.

The kind of an item is a number in it: ``kind 7`` in a text, the mean of pixels, frames, samples or values elsewhere.
Each kind has a random direction; each item adds a little of its own; ``gap`` moves every modality along an axis that
nothing else uses, all of its items by as much.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermodal.errors import Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video

AXES = ("text", "image", "audio", "video", "timeseries")


class FakeModel:
    def __init__(self, width: int = 32, gap: float = 0.0, own: float = 0.3, name: str = "fake") -> None:
        self.width, self.gap, self.own, self.name = width, gap, own, name
        self.embedded = 0

    def embed(self, items: Sequence[Any]) -> Tensor:
        rows = []
        for item in items:
            if item.modality not in AXES:
                raise Unsupported(f"{item.modality} is not for this model")
            own = zlib.crc32(item.content_hash().encode())
            row = np.zeros(self.width)
            width = self.width - len(AXES)
            row[len(AXES) :] = _direction(kind_of(item), width) + self.own * _direction(own, width)
            axis = AXES.index(item.modality)
            row[axis] = self.gap * (3 if axis % 2 else 1)
            rows.append(row / np.linalg.norm(row))
        self.embedded += len(items)
        return torch.tensor(np.array(rows), dtype=torch.float32)


def _direction(seed: int, width: int) -> np.ndarray:
    row = np.random.default_rng(seed).standard_normal(width)
    return row / np.linalg.norm(row)


def kind_of(item: Any) -> int:
    if item.modality == "text":
        found = re.search(r"kind (\d+)", item.text)
        return int(found[1]) if found else 1000
    if item.modality == "image":
        return round(float(item.pixels.mean()))
    if item.modality == "video":
        return round(float(item.frames.mean()))
    if item.modality == "audio":
        return round(float(np.abs(item.samples).mean()) * 250)
    return round(float(item.values.mean()))


def text(kind: int, number: int = 0) -> Text:
    return Text(f"kind {kind}, number {number}")


def image(kind: int, number: int = 0) -> Image:
    pixels = np.full((8, 8, 3), kind, np.uint8)
    if number:
        pixels[0, number % 8, number // 8 % 3] ^= 1
    return Image(pixels)


def audio(kind: int, seconds: float = 1.0, number: int = 0) -> Audio:
    samples = np.full((1, round(seconds * 8000)), kind / 250, np.float32)
    samples[0, number] *= -1
    return Audio(samples, 8000)


def video(kind: int, frames: int = 4, number: int = 0) -> Video:
    pixels = np.full((frames, 16, 16, 3), kind, np.uint8)
    pixels[0, 0, number % 16, 0] ^= 1
    return Video(pixels, 4.0)


def series(kind: int, number: int = 0) -> TimeSeries:
    values = np.full((1, 16), kind, np.float32)
    values[0, number] += 0.25
    return TimeSeries(values, ("height",), 8.0)


MAKERS = {"text": text, "image": image, "audio": lambda k, n=0: audio(k, number=n),
          "video": lambda k, n=0: video(k, number=n), "timeseries": series}  # fmt: skip


class FakeDataset:
    """Samples with two fields, the second missing from every third."""

    def __init__(self, size: int = 40, seed: int = 0, broken: tuple[int, ...] = ()) -> None:
        self.fields = {"caption": "text", "picture": "image"}
        self.size, self.seed, self.broken, self.made = size, seed, broken, 0

    def __len__(self) -> int:
        return self.size

    def describe(self) -> dict[str, Any]:
        return {"name": "fake", "split": "test", "seed": self.seed}

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        self.made += len(index)
        if any(i in self.broken for i in index):
            raise ValueError("this sample cannot be made")
        return [{"caption": text(i)} | ({} if i % 3 == 2 else {"picture": image(i, i)}) for i in index]
