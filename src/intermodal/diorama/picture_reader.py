"""Scenes read back from pictures and clips by analysis, with nothing learnt.

The ground is a plane fitted per channel to the pixels that look like it. What stands out of it in a cell is an
object: its colour is the nearest hue of its most solid pixels, its shape and size are those of the sprite that
explains its coverage best, and its motion is the direction in which that sprite explains the later frames best.
Exact on what ``pictures`` renders; on other pictures it is the best reading, or none.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from intermodal.diorama.pictures import DIRECTIONS, FRAMES, HUES, SIDE, TRAVEL, window_corner
from intermodal.diorama.scene import COLOURS, MOTIONS, OBJECTS, SIZES, Scene, Thing
from intermodal.diorama.shapes import OPAQUE, SCALES, STEPS, WINDOW, sprite_alpha, sprites
from intermodal.errors import InvalidValue, UnreadableMedia

_CHUNK = 64
_AREA = WINDOW * WINDOW
_TINY = 1e-6  # keeps a division by nothing finite
_STANDS_OUT = 40.0  # grey levels by which an object differs from the ground, in its strongest channel
_PIXELS_MIN = 8  # fewer pixels that stand out in a cell are no object
_SOLID = 0.8  # a pixel is solid from this share of the difference of the cell's strongest pixels on
_FAINT = 0.2  # less coverage than this does not move the centre of mass
_SOFTNESS = 4  # how many degrees of blur an object is compared at, none included
_GREY = 0.4  # saturation below which a colour is white
_EDGES = np.array([0, 21, 43, 64])  # of the cells, in pixels: pixel i lies in cell floor((i + 0.5) * 3 / 64)
_MEMBER = np.searchsorted(_EDGES, np.arange(SIDE), side="right")[:, None] == np.arange(1, 4)  # (pixel, cell)
_RAMP = np.linspace(-1, 1, SIDE)
_BASIS = np.stack([np.ones((SIDE, SIDE)), *np.meshgrid(_RAMP, _RAMP)], axis=-1).astype(np.float32)  # a plane
_SAMPLED = _BASIS[::2, ::2].reshape(-1, 3)  # a quarter of the pixels is plenty for three numbers
_SQUARES = (_SAMPLED[:, :, None] * _SAMPLED[:, None, :]).reshape(-1, 9)


@dataclass(frozen=True)
class _Found:
    """The M objects found in N pictures."""

    picture: NDArray[np.int64]  # which picture each is in (M,)
    cell: NDArray[np.int64]
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    size: NDArray[np.int64]
    sprite: NDArray[np.int64]
    place: NDArray[np.int64]  # the centre (M, 2), in steps
    levels: NDArray[np.float32]  # of its solid pixels (M, 3)
    ground: NDArray[np.float32]  # the empty pictures (N, SIDE, SIDE, 3)


def _over_channels(combine: np.ufunc, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``combine.reduce`` over the last axis, of length 3: many times faster when written out."""
    result: NDArray[np.float32] = combine(combine(values[..., 0], values[..., 1]), values[..., 2])
    return result


def _ground(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the pictures (N, SIDE, SIDE, 3) without their objects: a plane per channel, fitted twice."""
    sampled = np.moveaxis(pixels[:, ::2, ::2], 3, 1).reshape(len(pixels), 3, -1)  # (N, channel, pixel)
    plane = np.zeros((len(pixels), 3, 3), np.float32)  # (N, channel, term)
    plane[:, :, 0] = np.median(sampled, axis=2)
    for limit in (30.0, 20.0):
        left_over = sampled - plane @ _SAMPLED.T
        like = (np.abs(left_over).max(axis=1) < limit).astype(np.float32)
        left = (like @ _SQUARES).reshape(-1, 3, 3) + 1e-3 * np.eye(3, dtype=np.float32)  # for too few pixels
        right = (left_over * like[:, None]) @ _SAMPLED
        plane += np.swapaxes(np.linalg.solve(left, np.swapaxes(right, 1, 2)), 1, 2)
    ground: NDArray[np.float32] = _BASIS.reshape(-1, 3) @ np.swapaxes(plane, 1, 2)
    return ground.reshape(pixels.shape)


def _strongest_cells(stands_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which of the 9 cells (N, 9) hold an object: those with enough pixels, the first three by their number."""
    counts = np.einsum("nyx,yr,xc->nrc", stands_out.astype(np.float32), _MEMBER, _MEMBER, optimize=True).reshape(-1, 9)
    rank = np.argsort(np.argsort(-counts, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray((counts >= _PIXELS_MIN) & (rank < OBJECTS))


def _name_colours(levels: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the colour index of each row of ``levels`` (M, 3): white if there is little hue, else the nearest."""
    red, green, blue = levels.T.astype(np.float64)
    high, low = levels.max(axis=1), levels.min(axis=1)
    hue = np.degrees(np.arctan2(3**0.5 * (green - blue), 2 * red - green - blue))
    # on the colour circle of the renderer (a hexagon) the angle differs by about a degree from this one
    away = np.abs((hue[:, None] - np.asarray(HUES)[: COLOURS.index("white")] + 180) % 360 - 180)
    return np.where(high - low < _GREY * high, COLOURS.index("white"), away.argmin(axis=1))


def _softened(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``(..., y, x, channel)`` values blurred a little (weights 1, 2, 1 along both axes; edges repeated)."""
    for axis in (-3, -2):
        padded = np.pad(
            values, [(1, 1) if a == values.ndim + axis else (0, 0) for a in range(values.ndim)], mode="edge"
        )
        n = values.shape[axis]
        left, centre, right = (padded.take(np.arange(n) + k, axis=axis) for k in range(3))
        values = (left + 2 * centre + right) / np.float32(4)
    return values


@lru_cache(maxsize=1)
def _models() -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Returns each sprite's centre of mass from the middle of its window (K, 2) and its norm (K, STEPS, STEPS, S).

    The norm is that of the sprite at each step down and across, and at each softness.
    """
    table = sprites().reshape(-1, STEPS, STEPS, WINDOW, WINDOW).astype(np.float32)
    along = np.arange(WINDOW) + 0.5 - WINDOW / 2
    whole = table[:, 0, 0]
    weight = whole.sum(axis=(1, 2))
    centre = np.stack((whole.sum(axis=1) @ along, whole.sum(axis=2) @ along), axis=1) / weight[:, None]
    norms, soft = [], np.pad(table, [(0, 0)] * 3 + [(_SOFTNESS, _SOFTNESS)] * 2)[..., None]
    for _ in range(_SOFTNESS):
        norms.append(np.sqrt(np.square(soft).sum(axis=(3, 4, 5))))
        soft = _softened(soft)
    return centre, np.stack(norms, axis=-1)


def _match(cover: NDArray[np.float32], corner: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the sprite (M,) most like the coverage (M, WINDOW, WINDOW), and its centre (M, 2) in steps.

    Each sprite is laid so that its centre of mass is that of the coverage; likeness is the cosine between the two, at
    the softness (how often the sprite is blurred) where it is highest. Blurring is symmetric: it is the coverage that
    is blurred, once for all sprites.
    """
    along = np.arange(WINDOW) + 0.5
    mass = np.where(cover > _FAINT, cover, 0).astype(np.float64)
    total = _TINY + mass.sum(axis=(1, 2))[:, None]
    middle = np.stack(((mass.sum(axis=1) @ along), (mass.sum(axis=2) @ along)), axis=1) / total
    own, norms = _models()
    centre = (middle[:, None] - own).clip(0, WINDOW)  # (M, K, 2)
    place = np.rint((corner[:, None] + centre) * STEPS).astype(np.int64)
    number = np.broadcast_to(np.arange(len(own)), place.shape[:2])
    alpha = sprite_alpha(number, place, corner[:, None]).reshape(*number.shape, _AREA).astype(np.float32)
    soft = [cover[..., None]]
    while len(soft) < _SOFTNESS:
        soft.append(_softened(soft[-1]))
    likeness = alpha @ np.concatenate(soft, axis=-1).reshape(-1, _AREA, _SOFTNESS)  # (M, K, S)
    likeness /= norms[number, place[..., 1] % STEPS, place[..., 0] % STEPS]
    best = likeness.max(axis=2).argmax(axis=1)
    return best, place[np.arange(len(place)), best]


def _find(pixels: UInt8[np.ndarray, "N 64 64 3"]) -> _Found:
    """Returns all objects of the pictures."""
    values = pixels.astype(np.float32)
    ground = _ground(values)
    difference = values - ground
    stands_out = _over_channels(np.maximum, np.abs(_softened(difference))) > _STANDS_OUT
    picture, cell = np.nonzero(_strongest_cells(stands_out))
    row, column = cell // 3, cell % 3
    corner = np.stack((_EDGES[column], _EDGES[row]), axis=1).clip(0, SIDE - WINDOW)
    y, x = (corner[:, axis, None] + np.arange(WINDOW) for axis in (1, 0))
    inside = (_MEMBER[y, row[:, None]][:, :, None] & _MEMBER[x, column[:, None]][:, None, :])[..., None]
    where = (picture[:, None, None], y[:, :, None], x[:, None, :])
    change = (difference[where] * inside).reshape(-1, _AREA, 3)
    strength = _over_channels(np.maximum, np.abs(change))
    strong = np.partition(strength, -_PIXELS_MIN, axis=1)[:, -_PIXELS_MIN, None]
    solid = (strength >= _SOLID * strong).astype(np.float32)[:, :, None]
    step = (change * solid).sum(axis=1) / solid.sum(axis=1)
    levels = (values[where].reshape(-1, _AREA, 3) * solid).sum(axis=1) / solid.sum(axis=1)
    cover = (change @ (step / (_TINY + (step * step).sum(axis=1, keepdims=True)))[:, :, None])[..., 0]
    sprite, place = _match(cover.clip(0, 1.2).reshape(-1, WINDOW, WINDOW), corner)
    return _Found(
        picture=picture,
        cell=cell,
        shape=sprite // (len(SIZES) * len(SCALES)),
        colour=_name_colours(levels),
        size=sprite // len(SCALES) % len(SIZES),
        sprite=sprite,
        place=place,
        levels=levels,
        ground=ground,
    )


def _motions(frames: NDArray[np.uint8], found: _Found) -> NDArray[np.int64]:
    """Returns the motion (M,) that explains the frames (N, F, SIDE, SIDE, 3) after the first one best.

    The gain of a motion is how much less error its sprite leaves than the bare ground, pixel by pixel, each error
    capped at the sprite's contrast so that another object in the way counts little.
    """
    flat = frames.reshape(*frames.shape[:3], 3 * SIDE)
    ground = found.ground.reshape(len(frames), SIDE, 3 * SIDE)
    pictures = sliding_window_view(flat, (WINDOW, 3 * WINDOW), axis=(2, 3))
    grounds = sliding_window_view(ground, (WINDOW, 3 * WINDOW), axis=(1, 2))
    middle = found.ground[found.picture, SIDE // 2, SIDE // 2]
    contrast = _TINY + np.square(found.levels - middle).sum(axis=1)
    level = np.tile(found.levels, WINDOW)[:, None, :]
    gain = np.zeros((len(found.cell), len(MOTIONS)), np.float32)
    for motion, direction in enumerate(DIRECTIONS):
        for time in range(1, FRAMES):
            moved = np.rint(TRAVEL * time / (FRAMES - 1) * STEPS * direction).astype(np.int64)
            place = found.place + moved
            corner = window_corner(place)
            x, y = 3 * corner[:, 0], corner[:, 1]
            alpha = sprite_alpha(found.sprite, place, corner, channels=3).astype(np.float32) / OPAQUE
            seen, empty = pictures[found.picture, time, y, x].astype(np.float32), grounds[found.picture, y, x]
            bare, drawn = seen - empty, seen - empty - alpha * (level - empty)
            for error, sign in ((bare, 1), (drawn, -1)):
                pixel = _over_channels(np.add, np.square(error).reshape(-1, _AREA, 3)) / contrast[:, None]
                gain[:, motion] += sign * np.minimum(pixel, 1).sum(axis=1)
    return np.asarray(gain.argmax(axis=1), np.int64)


def _scenes(found: _Found, motion: NDArray[np.int64], count: int) -> list[Scene | None]:
    """Returns the scene of each of ``count`` pictures, None where nothing was found."""
    things: list[list[Thing]] = [[] for _ in range(count)]
    columns = (found.cell, found.shape, found.colour, found.size, motion)
    for picture, values in zip(found.picture.tolist(), np.stack(columns, axis=1).tolist(), strict=True):
        things[picture].append(Thing(*values))
    return [Scene(tuple(each)) if each else None for each in things]


def read_images(pixels: UInt8[np.ndarray, "N H W 3"]) -> list[Scene | None]:
    """Returns the scene in each picture, None where nothing is found; all motions are 0, a picture does not tell them.

    Raises:
        InvalidValue: the pictures are not 64 x 64.
    """
    if pixels.shape[1:3] != (SIDE, SIDE):
        raise InvalidValue(f"pictures of {pixels.shape[1]} x {pixels.shape[2]} pixels; resize them to {SIDE} x {SIDE}")
    scenes: list[Scene | None] = []
    for first in range(0, len(pixels), _CHUNK):
        part = pixels[first : first + _CHUNK]
        found = _find(part)
        scenes += _scenes(found, np.zeros_like(found.cell), len(part))
    return scenes


def read_videos(frames: UInt8[np.ndarray, "N F H W 3"]) -> list[Scene | None]:
    """Returns the scene in each clip, None where nothing is found in its first frame.

    Raises:
        InvalidValue: the clips are not 8 frames of 64 x 64.
    """
    if frames.shape[1:4] != (FRAMES, SIDE, SIDE):
        raise InvalidValue(
            f"clips of {frames.shape[1]} frames of {frames.shape[2]} x {frames.shape[3]} pixels; "
            f"give {FRAMES} frames of {SIDE} x {SIDE}"
        )
    scenes: list[Scene | None] = []
    for first in range(0, len(frames), _CHUNK):
        part = frames[first : first + _CHUNK]
        found = _find(part[:, 0])
        scenes += _scenes(found, _motions(part, found), len(part))
    return scenes


def read_image(pixels: UInt8[np.ndarray, "H W 3"]) -> Scene:
    """Returns the scene in a picture; all motions are 0, a picture does not tell them.

    Raises:
        InvalidValue: the picture is not 64 x 64.
        UnreadableMedia: nothing stands out of its ground.
    """
    scene = read_images(pixels[None])[0]
    if scene is None:
        raise UnreadableMedia("nothing stands out of the ground of this picture; give one with an object in it")
    return scene


def read_video(frames: UInt8[np.ndarray, "F H W 3"]) -> Scene:
    """Returns the scene in a clip: what is there from its first frame, how it moves from the others.

    Raises:
        InvalidValue: the clip is not 8 frames of 64 x 64.
        UnreadableMedia: nothing stands out of the ground of the first frame.
    """
    scene = read_videos(frames[None])[0]
    if scene is None:
        raise UnreadableMedia("nothing stands out of the ground of the first frame; give a clip with an object in it")
    return scene
