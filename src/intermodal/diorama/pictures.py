"""Scenes as pictures and as short clips.

A picture is a dark, slowly varying ground with one sprite per object in its cell of the 3 x 3 grid; a clip is eight
of them in which objects glide. Place, scale, hue, brightness, ground and pixel noise vary from scene to scene, drawn
by counter, so a scene looks the same alone and in any batch. Only a small window per object is computed.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int16, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import uniform
from intermodal.diorama.scene import COLOURS, OBJECTS, Scenes
from intermodal.diorama.shapes import OPAQUE, SCALES, STEPS, WINDOW, sprite_alpha, sprite_number
from intermodal.errors import InvalidValue

SIDE = 64
FRAMES = 8
FRAMES_PER_S = 4.0
TRAVEL = 8.0
"""Pixels that a moving object covers from the first to the last frame."""

DIRECTIONS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
"""Unit step (x right, y down) of each motion, in the order of ``MOTIONS``."""

JITTER = 1.5
"""Pixels by which an object may be off the centre of its cell, along each axis."""

NOISE = 2.0
"""Default standard deviation of the pixel noise, in grey levels."""

NOISE_MAX = 5.0
DARKEST, BRIGHTEST = 16, 239
"""Levels before noise; what is left on both sides is room for three standard deviations of the loudest noise."""

HUES = (0.0, 30.0, 56.0, 125.0, 180.0, 222.0, 285.0, 0.0)
"""Nominal hue of each colour in degrees; white has none."""

HUE_JITTER = 7.0
_SATURATION = (0.78, 0.95)
_VALUE = (0.84, 1.0)
_GROUND = (36.0, 60.0)
_TINT, _SLOPE = 5.0, 6.0
_CHUNK = 64  # frames painted at once, so that they stay in the processor's cache
_BANK = 1 << 18
_Levels = Int16[np.ndarray, "N 3 3"]  # of each object: red, green, blue


@lru_cache(maxsize=8)
def _noise_bank(noise: float) -> NDArray[np.uint8]:
    """Returns a view of every window of one frame's length over a bank of normal noise, as bytes that wrap round."""
    u = uniform(0, "pixel noise", np.arange(_BANK // 2), 2)
    radius = np.sqrt(-2 * np.log1p(-u[:, 0]))
    normal = np.concatenate((radius * np.cos(2 * np.pi * u[:, 1]), radius * np.sin(2 * np.pi * u[:, 1])))
    bank = np.rint(normal.clip(-3, 3) * noise).astype(np.int8).view(np.uint8)
    return sliding_window_view(bank, SIDE * SIDE * 3)


def hue_to_rgb(
    hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns ``(..., 3)`` red, green, blue in the unit of ``value``, from hue in degrees and saturation in [0, 1]."""
    sector = (hue[..., None] / 60 + np.array([5.0, 3.0, 1.0])) % 6
    share = saturation[..., None] * np.minimum(sector, 4 - sector).clip(0, 1)
    return np.asarray(value[..., None] * (1 - share), np.float64)


def _colours(colour: NDArray[np.int64], u: NDArray[np.float64]) -> NDArray[np.int16]:
    """Returns the levels ``(N, 3, 3)`` of each object, with hue, saturation and value varied by ``u`` (N, 9)."""
    hue = np.asarray(HUES)[colour] + (2 * u[:, 0:3] - 1) * HUE_JITTER
    saturation = _SATURATION[0] + (_SATURATION[1] - _SATURATION[0]) * u[:, 3:6]
    saturation = np.where(colour == COLOURS.index("white"), 0.0, saturation)
    value = BRIGHTEST * (_VALUE[0] + (_VALUE[1] - _VALUE[0]) * u[:, 6:9])
    return np.rint(hue_to_rgb(hue, saturation, value)).clip(DARKEST, BRIGHTEST).astype(np.int16)


def _grounds(u: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns the empty pictures ``(N, SIDE, SIDE * 3)``: a level, a tint, a slope along both axes, by ``u`` (N, 6)."""
    ramp = np.linspace(-1, 1, SIDE)
    level = _GROUND[0] + (_GROUND[1] - _GROUND[0]) * u[:, 0, None] + (2 * u[:, 1:4] - 1) * _TINT
    slope = (2 * u[:, 4:6] - 1) * _SLOPE
    across = level[:, None, :] + (slope[:, 0, None] * ramp)[:, :, None]  # (N, x, channel)
    columns = (256 * across).astype(np.uint16).reshape(len(u), 1, 3 * SIDE)
    down = (256 * (slope[:, 1, None] * ramp + _SLOPE)).astype(np.uint16)[:, :, None]
    return ((columns + down - np.uint16(256 * _SLOPE)) >> np.uint16(8)).astype(np.uint8)


def window_corner(place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the upper left pixel (..., 2) of the window around ``place`` that lies wholly inside the picture."""
    return (place // STEPS - WINDOW // 2).clip(0, SIDE - WINDOW)


def _paint(
    frames: NDArray[np.uint8], sprite: NDArray[np.int64], place: NDArray[np.int64], colour: NDArray[np.int16]
) -> None:
    """Paints one object into each of ``frames`` (N, SIDE, SIDE * 3), in place.

    Args:
        frames: pictures with their channels interleaved.
        sprite: which shape, size and scale (N,).
        place: the centre (N, 2), x and y, in steps of 1 / ``STEPS`` pixel.
        colour: levels (N, 3).
    """
    corner = window_corner(place)
    alpha = sprite_alpha(sprite, place, corner, channels=3).astype(np.int16)
    views = sliding_window_view(frames, (WINDOW, 3 * WINDOW), axis=(1, 2), writeable=True)
    where = (np.arange(len(frames)), corner[:, 1], 3 * corner[:, 0])
    below = views[where].astype(np.int16)
    change = np.tile(colour, WINDOW)[:, None, :] - below
    change *= alpha
    change += OPAQUE // 2
    change //= OPAQUE
    below += change
    views[where] = below


def _placed(
    scenes: Scenes, u: NDArray[np.float64], times: int
) -> tuple[Int64[np.ndarray, "N 3"], Int64[np.ndarray, "N F 3 2"]]:
    """Returns which sprite each object is and its centre over time, in steps, varied by columns 9 to 17 of ``u``."""
    scale = (u[:, 9:12] * len(SCALES)).astype(np.int64)
    cell = np.stack((scenes.cell % 3, scenes.cell // 3), axis=-1)  # (N, OBJECTS, 2)
    start = (cell + 0.5) * (SIDE / 3) + (2 * u[:, 12:18].reshape(len(u), OBJECTS, 2) - 1) * JITTER
    moved = TRAVEL * np.linspace(0, 1, times)[:, None, None] * DIRECTIONS[scenes.motion][:, None]  # (N, F, OBJECTS, 2)
    place = np.rint((start[:, None] + moved) * STEPS).astype(np.int64)
    return sprite_number(scenes.shape, scenes.size, scale), place


def _render(
    scenes: Scenes, ids: NDArray[np.int64], seed: int, noise: float, clip: bool, levels: _Levels | None = None
) -> UInt8[np.ndarray, "N F 64 64 3"]:
    """Returns the clips (``clip``) or the one-frame pictures of the scenes, painted in ``levels`` where given."""
    n, stream, times = len(scenes), ("video" if clip else "image"), (FRAMES if clip else 1)
    u = uniform(seed, stream, ids, 24 + times)
    colour = _colours(scenes.colour, u[:, 0:9]) if levels is None else levels
    sprite, place = _placed(scenes, u, times)
    frames = np.repeat(_grounds(u[:, 18:24])[:, None], times, axis=1)
    for k in range(OBJECTS):
        rows = np.flatnonzero(scenes.present[:, k])
        if rows.size:
            part = frames[rows].reshape(-1, SIDE, 3 * SIDE)
            _paint(
                part,
                sprite[rows, k].repeat(times),
                place[rows, :, k].reshape(-1, 2),
                colour[rows, k].repeat(times, axis=0),
            )
            frames[rows] = part.reshape(len(rows), times, SIDE, 3 * SIDE)
    if noise:
        offset = (u[:, 24:] * (_BANK - 3 * SIDE * SIDE)).astype(np.int64)
        frames.reshape(n, times, -1)[...] += _noise_bank(noise)[offset]
    return frames.reshape(n, times, SIDE, SIDE, 3)


def _chunks(
    scenes: Scenes, index: ArrayLike, seed: int, noise: float, clip: bool, levels: _Levels | None = None
) -> UInt8[np.ndarray, "N F 64 64 3"]:
    """Returns what ``_render`` does, a few scenes at a time."""
    ids = np.asarray(index, dtype=np.int64).reshape(-1)
    if len(ids) != len(scenes):
        raise InvalidValue(f"{len(scenes)} scenes came with {len(ids)} indices; give one index for each scene")
    if not 0 <= noise <= NOISE_MAX:
        raise InvalidValue(f"pixel noise is {noise}; give a standard deviation from 0 to {NOISE_MAX:g} grey levels")
    times = FRAMES if clip else 1
    out = np.empty((len(ids), times, SIDE, SIDE, 3), np.uint8)
    step = max(1, _CHUNK // times)
    for first in range(0, len(ids), step):
        rows = np.arange(first, min(first + step, len(ids)))
        own = None if levels is None else levels[rows]
        out[rows] = _render(scenes.take(rows), ids[rows], seed, float(noise), clip, own)
    return out


def render_images(
    scenes: Scenes, index: ArrayLike, seed: int = 0, noise: float = NOISE, levels: _Levels | None = None
) -> UInt8[np.ndarray, "N 64 64 3"]:
    """Returns one picture per scene: its first moment.

    Args:
        scenes: N scenes.
        index: N whole numbers that natural variation is drawn from: the same number, the same picture.
        seed: another seed is another variation of all scenes.
        noise: standard deviation of the pixel noise in grey levels, 0 (clean) to 5.
        levels: what the objects are painted in, as ``levels_of`` gives it; default: their own colours.

    Raises:
        InvalidValue: ``index`` has another length, or ``noise`` is out of range.
    """
    return _chunks(scenes, index, seed, noise, clip=False, levels=levels)[:, 0]


def levels_of(scenes: Scenes, index: ArrayLike, seed: int = 0) -> _Levels:
    """Returns red, green and blue of each object as ``render_images`` paints it, ``DARKEST`` to ``BRIGHTEST``."""
    return _colours(scenes.colour, uniform(seed, "image", index, 9))


def silhouettes(
    scenes: Scenes, slot: Int64[np.ndarray, " N"], index: ArrayLike, seed: int = 0
) -> Bool[np.ndarray, "N 64 64"]:
    """Returns the pixels of each picture of which one object covers half or more, as ``render_images`` paints it.

    Args:
        scenes: N scenes.
        slot: which object of each scene.
        index: as given to ``render_images``.
        seed: as given to ``render_images``.
    """
    sprite, place = _placed(scenes, uniform(seed, "image", index, 18), 1)
    rows = np.arange(len(scenes))
    centre = place[rows, 0, slot]
    corner = window_corner(centre)
    covered = np.zeros((len(scenes), SIDE, SIDE), np.bool_)
    views = sliding_window_view(covered, (WINDOW, WINDOW), axis=(1, 2), writeable=True)
    views[rows, corner[:, 1], corner[:, 0]] = 2 * sprite_alpha(sprite[rows, slot], centre, corner).astype(int) >= OPAQUE
    return covered


def render_videos(
    scenes: Scenes, index: ArrayLike, seed: int = 0, noise: float = NOISE
) -> UInt8[np.ndarray, "N 8 64 64 3"]:
    """Returns one clip per scene, ``FRAMES`` frames at ``FRAMES_PER_S``; moving objects glide ``TRAVEL`` pixels in all.

    Args:
        scenes: N scenes.
        index: N whole numbers that natural variation is drawn from: the same number, the same clip.
        seed: another seed is another variation of all scenes.
        noise: standard deviation of the pixel noise in grey levels, 0 (clean) to 5.

    Raises:
        InvalidValue: ``index`` has another length, or ``noise`` is out of range.
    """
    return _chunks(scenes, index, seed, noise, clip=True)
