"""The six shapes as outlines, and the table of sprites that pictures are painted with and read by.

An outline is a polygon (or the circle) around the origin; the share of each pixel that it covers gives
smooth edges. All positions (in quarters of a pixel) and scales are made once: painting is copying a window.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from intermodal.diorama.scene import SHAPES, SIZES

RADII = (4.0, 7.0)
"""Nominal radius in pixels of a small and a large object."""

SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
"""Natural variation of the radius."""

STEPS = 4
"""Positions per pixel."""

WINDOW = 22
"""Side in pixels of the window that holds any sprite: a cell of the picture fits in it, and no object is larger."""

OPAQUE = 128
"""Alpha of a fully covered pixel: 128 x 255 still fits 16 bits with a sign."""


_PAD = WINDOW  # margin around a sprite: how far a window may lie beside it


def _regular(corners: int, radii: tuple[float, ...], turn: float) -> NDArray[np.float64]:
    """Returns ``corners`` points around the origin, their radii taken in turn, the first ``turn`` radians from up."""
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    radius = np.resize(np.asarray(radii), corners)
    return np.stack((radius * np.sin(angle), -radius * np.cos(angle)), axis=1)


def _centred(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the outline moved so that its bounding box is centred on the origin."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray(points - (low + high) / 2, np.float64)


def _cross(length: float, width: float) -> NDArray[np.float64]:
    """Returns the outline of an upright cross with arms of half-``length`` and half-``width``."""
    arm = np.array([(-width, -length), (width, -length), (width, -width)])
    turns = [np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), k) for k in range(4)]
    return np.concatenate([arm @ turn for turn in turns])


_CIRCLE_RADIUS = 0.95
_OUTLINES = {
    "square": _regular(4, (0.84 * 2**0.5,), np.pi / 4),
    "triangle": _centred(_regular(3, (1.25,), 0.0)),
    "diamond": _regular(4, (1.1,), 0.0),
    "star": _centred(_regular(10, (1.2, 0.5), 0.0)),
    "cross": _cross(1.0, 0.34),
}
"""Corners (x right, y down) for a radius of 1."""


def outline_distance(
    x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."], corners: Float[np.ndarray, "K 2"]
) -> Float[np.ndarray, "..."]:
    """Returns the signed distance of each point to the polygon, negative inside, in the unit of the points."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        dx, dy = bx - ax, by - ay
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clip(0, 1)
        nearest = np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
        if dy:
            crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) * dx / dy)
            inside ^= crosses
    return np.asarray(np.where(inside, -1.0, 1.0) * np.sqrt(nearest))


def shape_distance(
    shape: str, x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."], radius: float
) -> Float[np.ndarray, "..."]:
    """Returns the signed distance in pixels of each point (pixels from the centre, y down) to the edge of a shape."""
    if shape == "circle":
        return np.asarray(np.hypot(x, y) - _CIRCLE_RADIUS * radius)
    return outline_distance(x, y, _OUTLINES[shape] * radius)


@lru_cache(maxsize=1)
def sprites() -> UInt8[np.ndarray, "shape size scale y_step x_step height width"]:
    """Returns the alpha (0 to ``OPAQUE``) of every sprite in a ``WINDOW`` x ``WINDOW`` window.

    Step s puts the centre of the object s / ``STEPS`` pixels right of (or below) the corner at ``WINDOW`` / 2. Alpha is
    the mean over ``STEPS`` x ``STEPS`` points per pixel, whose grid is the same at every step: each is computed once.
    """
    fine = (np.arange(STEPS * WINDOW + STEPS - 1) - (STEPS - 1) + 0.5) / STEPS - WINDOW / 2
    x, y = np.meshgrid(fine, fine)
    table = np.empty((len(SHAPES), len(SIZES), len(SCALES), STEPS, STEPS, WINDOW, WINDOW), np.uint8)
    for i, shape in enumerate(SHAPES):
        for j, radius in enumerate(RADII):
            for k, scale in enumerate(SCALES):
                covered = (0.5 - STEPS * shape_distance(shape, x, y, radius * scale)).clip(0, 1)
                for down, across in np.ndindex(STEPS, STEPS):
                    rows, columns = (slice(STEPS - 1 - s, STEPS - 1 - s + STEPS * WINDOW) for s in (down, across))
                    pixel = covered[rows, columns].reshape(WINDOW, STEPS, WINDOW, STEPS).mean(axis=(1, 3))
                    table[i, j, k, down, across] = np.rint(pixel * OPAQUE)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=2)
def _cuts(channels: int) -> NDArray[np.uint8]:
    """Returns a view ``(sprite, y, x, WINDOW, WINDOW * channels)`` of all windows over all padded sprites."""
    padded = np.pad(sprites().reshape(-1, WINDOW, WINDOW), ((0, 0), (_PAD, _PAD), (_PAD, _PAD)))
    repeated = np.repeat(padded, channels, axis=2)
    cuts: NDArray[np.uint8] = sliding_window_view(repeated, (WINDOW, channels * WINDOW), axis=(1, 2))
    return cuts


def sprite_number(shape: NDArray[np.int64], size: NDArray[np.int64], scale: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the number by which ``sprite_alpha`` knows a shape of a size at a scale (indices, any equal shapes)."""
    return (shape * len(SIZES) + size) * len(SCALES) + scale


def sprite_alpha(
    number: NDArray[np.int64], place: NDArray[np.int64], corner: NDArray[np.int64], channels: int = 1
) -> NDArray[np.uint8]:
    """Returns the alpha ``(..., WINDOW, WINDOW * channels)`` of sprites as seen in windows of a picture.

    Args:
        number: which sprites (...,), from ``sprite_number``.
        place: their centres (..., 2), x and y from the corner of the picture, in steps of 1 / ``STEPS`` pixel.
        corner: the upper left pixels (..., 2) of the windows, x and y, at most ``WINDOW`` pixels beside the sprite's.
        channels: how often each value is repeated, so that it meets pictures with interleaved channels.
    """
    whole, part = place // STEPS, place % STEPS
    cut = _PAD + corner - (whole - WINDOW // 2)
    row = (number * STEPS + part[..., 1]) * STEPS + part[..., 0]
    alpha: NDArray[np.uint8] = _cuts(channels)[row, cut[..., 1], channels * cut[..., 0]]
    return alpha
