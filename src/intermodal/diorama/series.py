"""Scenes as the channels of a tracker: where each object is and how far it extends, over two seconds.

Three tracks in a drawn order give x, y and extent at 32 Hz, in fractions of the picture's side (x to the right, y
down). Objects glide; the tracker drifts slowly and has sensor noise. A track with no object stays at zero in all
three channels, apart from that noise. The reader fits a line to each channel and names what it finds.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import uniform
from intermodal.diorama.pictures import DIRECTIONS, JITTER, SIDE
from intermodal.diorama.pictures import TRAVEL as TRAVEL_PX
from intermodal.diorama.scene import OBJECTS, Scene, Scenes, Thing
from intermodal.diorama.shapes import RADII
from intermodal.errors import InvalidValue, UnreadableMedia

RATE_HZ = 32.0
SAMPLES = 64
CHANNELS = tuple(f"object{k + 1}.{name}" for k in range(OBJECTS) for name in ("x", "y", "extent"))
TRAVEL = TRAVEL_PX / SIDE
"""How far a moving object gets in the clip, in sides of the picture: as far as in the video."""

NOISE = 0.004
"""Default standard deviation of the sensor noise."""

NOISE_MAX = 0.02
EXTENTS = tuple(2 * radius / SIDE for radius in RADII)
"""Nominal extent of a small and a large object."""

_SCALE = 0.08
_DRIFT = 0.008  # amplitude of the slow drift of a channel
_BANK = 1 << 16
_LINE = np.linalg.pinv(np.stack((np.ones(SAMPLES), np.linspace(0, 1, SAMPLES)), axis=1)).T  # least squares


@lru_cache(maxsize=8)
def _noise_bank(noise: float) -> NDArray[np.float32]:
    """Returns a view of every window of one clip's length over a bank of normal noise."""
    u = uniform(0, "sensor noise", np.arange(_BANK // 2), 2)
    radius = noise * np.sqrt(-2 * np.log1p(-u[:, 0]))
    bank = np.concatenate((radius * np.cos(2 * np.pi * u[:, 1]), radius * np.sin(2 * np.pi * u[:, 1])))
    return sliding_window_view(bank.astype(np.float32), 3 * OBJECTS * SAMPLES)


def render_series(
    scenes: Scenes, index: ArrayLike, seed: int = 0, noise: float = NOISE
) -> Float32[np.ndarray, "N 9 64"]:
    """Returns the tracker's channels (``CHANNELS``) of each scene, ``SAMPLES`` samples at ``RATE_HZ``, about 0 to 1.

    Args:
        scenes: N scenes.
        index: N whole numbers that natural variation is drawn from: the same number, the same series.
        seed: another seed is another variation of all scenes.
        noise: standard deviation of the sensor noise, 0 (clean) to 0.02.

    Raises:
        InvalidValue: ``index`` has another length, or ``noise`` is out of range.
    """
    ids = np.asarray(index, dtype=np.int64).reshape(-1)
    n = len(scenes)
    if len(ids) != n:
        raise InvalidValue(f"{n} scenes came with {len(ids)} indices; give one index for each scene")
    if not 0 <= noise <= NOISE_MAX:
        raise InvalidValue(f"sensor noise is {noise}; give a standard deviation from 0 to {NOISE_MAX:g}")
    u = uniform(seed, "timeseries", ids, 40)
    order = np.argsort(u[:, 0:3], axis=1)
    rows = np.arange(n)[:, None]
    present, cell = scenes.present[rows, order], scenes.cell[rows, order]
    size, motion = scenes.size[rows, order], scenes.motion[rows, order]
    grid = np.stack((cell % 3, cell // 3), axis=-1)
    start = (grid + 0.5) / 3 + (2 * u[:, 3:9].reshape(n, OBJECTS, 2) - 1) * JITTER / SIDE
    extent = np.asarray(EXTENTS)[size] * (1 + (2 * u[:, 9:12] - 1) * _SCALE)
    level = np.concatenate((start, extent[..., None]), axis=-1)
    speed = np.concatenate((TRAVEL * DIRECTIONS[motion], np.zeros((n, OBJECTS, 1))), axis=-1)
    # a drift is one slow wave of drawn phase; the extent, being smaller, drifts less
    phase = 2 * np.pi * u[:, 12:21].reshape(n, OBJECTS, 3)
    drift = _DRIFT * u[:, 21:30].reshape(n, OBJECTS, 3) * np.array([1.0, 1.0, 0.5])
    time = np.linspace(0, 1, SAMPLES, dtype=np.float32)
    basis = (np.ones_like(time), time, np.cos(np.pi * time), np.sin(np.pi * time))
    values = np.zeros((n, 3 * OBJECTS, SAMPLES), np.float32)
    for weight, wave in zip((level, speed, drift * np.cos(phase), drift * np.sin(phase)), basis, strict=True):
        # not a matrix product: its rounding would depend on the size of the batch
        values += (weight * present[:, :, None]).astype(np.float32).reshape(n, 3 * OBJECTS, 1) * wave
    if noise:
        offset = (u[:, 30] * (_BANK - 3 * OBJECTS * SAMPLES)).astype(np.int64)
        values += _noise_bank(float(noise))[offset].reshape(values.shape)
    return values


def _tracks(values: NDArray[np.float64]) -> list[tuple[float, Thing]]:
    """Returns each track that holds an object, with how far it starts from the middle of its cell."""
    lines = (values @ _LINE).reshape(OBJECTS, 3, 2)  # (track, channel, start and change)
    found = []
    for start, change in zip(lines[:, :, 0], lines[:, :, 1], strict=True):
        extent = start[2] + change[2] / 2
        if extent < EXTENTS[0] / 2:
            continue
        # a track moves the way that explains its change best, standing still included
        motion = int(np.square(change[:2] - TRAVEL * DIRECTIONS).sum(axis=1).argmin())
        column, row = np.floor(start[:2] * 3).clip(0, 2).astype(int).tolist()
        away = float(np.hypot(start[0] - (column + 0.5) / 3, start[1] - (row + 0.5) / 3))
        size = int(extent > (EXTENTS[0] * EXTENTS[1]) ** 0.5)
        found.append((away, Thing(cell=3 * row + column, shape=0, colour=0, size=size, motion=motion)))
    return found


def read_series(values: Float32[np.ndarray, "C S"]) -> Scene:
    """Returns the scene in a tracker's channels; shapes and colours are 0, a series does not tell them.

    Of two tracks that start in one cell, which no rendering has, the one nearer to its middle is kept.

    Raises:
        InvalidValue: the series is not 9 channels of 64 samples.
        UnreadableMedia: a value is not finite, or no track holds an object.
    """
    if values.shape != (3 * OBJECTS, SAMPLES):
        raise InvalidValue(f"a series of shape {values.shape}; give {3 * OBJECTS} channels of {SAMPLES} samples")
    if not np.isfinite(values).all():
        raise UnreadableMedia("a series with values that are not finite; give one with numbers only")
    things: dict[int, Thing] = {}
    for _, thing in sorted(_tracks(values.astype(np.float64)), key=lambda track: track[0]):
        things.setdefault(thing.cell, thing)
    if not things:
        raise UnreadableMedia(f"no track reaches an extent of {EXTENTS[0] / 2:g}; give a series with an object in it")
    return Scene(tuple(things.values()))
