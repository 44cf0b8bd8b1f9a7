"""Items made small, for lists that show many: a picture of a few kilobytes, an outline of a sound or of a series.

An outline has for each of some columns the lowest and the highest value in it, so that it is drawn without the file.
"""

import io
import json
from typing import Any

import numpy as np
from jaxtyping import Float32

from intermodal.media.pictures import thumbnail

CHANNELS_MAX = 12  # of a series that are drawn
TEXT_MAX = 2000  # letters
LOSSLESS_MAX = 128  # pixels of the longest side
_DIGITS = 5
EXAMPLE = {
    "modality": "audio",
    "seconds": 1.5,
    "channels": [{"name": "sound", "low": [-0.1, -0.4], "high": [0.2, 0.5]}],
    "left_out": 0,
}


def made(item: Any, size: int) -> tuple[bytes, str]:
    """Returns an item made small, and its media type: a picture, or JSON as ``EXAMPLE``.

    Args:
        item: of any modality; of a video the first frame is taken.
        size: longest side of a picture in pixels, or columns of an outline.
    """
    if item.modality in ("image", "video"):
        pixels = item.pixels if item.modality == "image" else item.frames[0]
        return _picture(thumbnail(pixels, size)), "image/webp"
    told: dict[str, Any] = {"modality": item.modality}
    if item.modality == "text":
        told |= {"text": item.text[:TEXT_MAX], "left_out": max(0, len(item.text) - TEXT_MAX)}
    else:
        sound = item.modality == "audio"
        values, names = (item.samples, ["sound"]) if sound else (item.values, list(item.channels))
        low, high = outline(values[:CHANNELS_MAX], size)
        if sound:  # all channels of a sound in one
            low, high = low.min(0, keepdims=True), high.max(0, keepdims=True)
        told["seconds"] = values.shape[1] / item.sample_rate_hz
        told["channels"] = [
            {"name": name, "low": a, "high": b} for name, a, b in zip(names, _short(low), _short(high), strict=False)
        ]
        told["left_out"] = 0 if sound else max(0, len(names) - CHANNELS_MAX)
    return json.dumps(told).encode(), "application/json"


def outline(
    values: Float32[np.ndarray, "C S"], columns: int
) -> tuple[Float32[np.ndarray, "C N"], Float32[np.ndarray, "C N"]]:
    """Returns the lowest and the highest value of each channel in each of at most ``columns`` equal stretches."""
    count = min(columns, values.shape[1])
    starts = np.arange(count) * values.shape[1] // count
    return np.minimum.reduceat(values, starts, axis=1), np.maximum.reduceat(values, starts, axis=1)


def _picture(pixels: np.ndarray) -> bytes:
    """Returns a picture as webp; a very small one keeps every pixel."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=max(pixels.shape[:2]) <= LOSSLESS_MAX, quality=82)
    return buffer.getvalue()


def _short(values: np.ndarray) -> list[list[float]]:
    """Returns numbers with as many digits as a drawing shows."""
    return [[float(f"{v:.{_DIGITS}g}") for v in row] for row in values.tolist()]
