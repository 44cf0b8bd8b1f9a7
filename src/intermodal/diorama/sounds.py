"""Sounds: a scene as stereo sound, each object in turn, and the reader that hears the scene in it.

    colour   pitch: eight equal steps of an octave
    size     register: large 500 Hz to 917 Hz, small 1,100 Hz to 2,017 Hz
    shape    timbre: partials and envelope
    column   where it starts between left and right
    motion   still: stays; up and down: the pitch glides by three steps; left and right: it slides to that side

A sound holds its pitch and place for 0.12 s before it glides or slides, so that every attribute is heard on its own.
The registers start where one pitch step is as wide as one of 64 mel bands, and every partial stays below 8 kHz.
Nothing tells the row: see ``CARRIES``.
"""

from functools import cache

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import uniform
from intermodal.diorama.scene import COLOURS, OBJECTS, SHAPES, Scenes
from intermodal.errors import UnreadableMedia

RATE_HZ = 16000
SLOT_S = 0.4
"""Seconds from the start of one object to the start of the next."""
LENGTH = round(OBJECTS * SLOT_S * RATE_HZ)
"""Samples of every sound; scenes of fewer objects end in silence."""
NOISE = 0.002
"""Usual noise floor, the largest amplitude of an even noise."""

_SLOT = round(SLOT_S * RATE_HZ)
_TONE = round(0.34 * RATE_HZ)  # an object sounds this long, and starts up to 0.04 s late
_LATE = round(0.04 * RATE_HZ)
_HOLD = 0.12  # seconds before a glide or slide begins
_MOVED = 0.28  # seconds when it has arrived
_LOWEST_HZ = (1100.0, 500.0)  # of small and large
_STEPS = len(COLOURS)  # in an octave
_GLIDE = 3.0  # steps
_DETUNE = 0.12  # steps, either way
_QUIETEST = 0.5
_PANS_DB = (-12.0, 0.0, 12.0)  # right over left
_SLIDE_DB = 15.0
_TABLE = 4096  # entries of a wave table, which spans two periods so that a partial may be at 1.5
_PARTIALS: tuple[dict[float, float], ...] = (
    {1: 1.0},  # circle: a pure tone
    {1: 1.0, 3: 0.6},  # square: hollow, odd partials only
    {1: 1.0, 2: 0.5, 3: 0.25},  # triangle: plucked
    {1: 1.0, 2: 0.5},  # diamond: trembling
    {1: 1.0, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.5, 6: 0.4},  # star: bright
    {1: 1.0, 1.5: 0.7},  # cross: two tones, a fifth apart
)
_PLUCKED, _TREMBLING, _BRIGHT = (SHAPES.index(name) for name in ("triangle", "diamond", "star"))
_DECAY_S = 0.1
_TREMBLE_HZ = 10.0
_NOISE_TAPE = 1 << 18


def _progress() -> NDArray[np.float64]:
    """Returns 0 before a motion begins to 1 where it has ended, for each sample of a tone."""
    seconds = np.arange(_TONE) / RATE_HZ
    return np.clip((seconds - _HOLD) / (_MOVED - _HOLD), 0.0, 1.0)


@cache
def _waves() -> list[list[NDArray[np.float32]]]:
    """Returns the wave of each shape with 1, 2 ... 6 partials at the most, of peak 0.5."""
    angle = 2 * np.pi * np.arange(_TABLE) * 2 / _TABLE
    result = []
    for partials in _PARTIALS:
        waves = []
        for highest in range(1, 7):
            wave = sum(level * np.sin(angle * k) for k, level in partials.items() if k <= highest)
            waves.append((0.5 * wave / np.abs(wave).max()).astype(np.float32))
        result.append(waves)
    return result


@cache
def _phases() -> list[NDArray[np.float32]]:
    """Returns for each motion the table entries passed per Hz of pitch, for each sample."""
    result = []
    for steps in (0.0, 0.0, 0.0, _GLIDE, -_GLIDE):
        ratio = 2.0 ** (steps * _progress() / _STEPS)
        result.append(((np.cumsum(ratio) - ratio[0]) / RATE_HZ * _TABLE / 2).astype(np.float32))
    return result


@cache
def _envelopes() -> NDArray[np.float32]:
    """Returns the loudness over time by shape, column, motion and side: ``(6, 3, 5, 2, tone)``."""
    seconds = np.arange(_TONE) / RATE_HZ
    edges = np.clip(seconds / 0.008, 0, 1) * np.clip((seconds[-1] - seconds) / 0.015, 0, 1)
    shapes = np.ones((len(SHAPES), _TONE))
    shapes[_PLUCKED] = np.exp(-seconds / _DECAY_S)
    shapes[_TREMBLING] = 0.55 + 0.45 * np.cos(2 * np.pi * _TREMBLE_HZ * seconds)
    slide = np.array([0.0, -_SLIDE_DB, _SLIDE_DB, 0.0, 0.0])
    pan = np.array(_PANS_DB)[:, None, None] + slide[:, None] * _progress()
    right = 1 / (1 + 10 ** (-pan / 10))  # the share of the power, so that no place is louder than another
    sides = np.sqrt(np.stack((1 - right, right), axis=2))
    envelopes: NDArray[np.float32] = (shapes[:, None, None, None] * edges * sides).astype(np.float32)
    return envelopes


@cache
def _noise_tape() -> NDArray[np.float32]:
    """Returns even noise in [-1, 1) that every sound takes its noise from."""
    u: NDArray[np.float64] = uniform(0, "sounds: tape", [0], _NOISE_TAPE + LENGTH)[0]
    return (2 * u - 1).astype(np.float32)


def render_sounds(
    scenes: Scenes, index: ArrayLike, seed: int = 0, noise: float = NOISE
) -> Float32[np.ndarray, "N 2 S"]:
    """Returns one stereo sound of ``LENGTH`` samples in [-1, 1] at ``RATE_HZ`` for each scene.

    Order of the objects, tuning, loudness, late starts and noise depend on ``seed`` and each index.

    Args:
        scenes: N scenes.
        index: N whole numbers, 0 or more.
        seed: another seed plays the same scenes otherwise.
        noise: largest amplitude of the noise floor; 0 is a clean sound.
    """
    u = uniform(seed, "sounds", index, 4 * OBJECTS + 3)
    order = np.argsort(u[:, :OBJECTS] + ~scenes.present, axis=1)
    shape, colour, size, cell, motion = (
        np.take_along_axis(a, order, axis=1)
        for a in (scenes.shape, scenes.colour, scenes.size, scenes.cell, scenes.motion)
    )
    detune, level, late = (u[:, k * OBJECTS : (k + 1) * OBJECTS] for k in (1, 2, 3))
    step = colour + _DETUNE * (2 * detune - 1)
    pitch = np.array(_LOWEST_HZ)[size] * 2.0 ** (step / _STEPS)
    highest = np.where(motion == 3, pitch * 2.0 ** (_GLIDE / _STEPS), pitch)
    partials = np.clip((0.5 * RATE_HZ / highest).astype(np.int64), 3, 6)
    start = np.arange(OBJECTS) * _SLOT + (late * _LATE).astype(np.int64)
    volume = _QUIETEST + (1 - _QUIETEST) * level

    out = np.zeros((len(scenes), 2, LENGTH), np.float32)
    if noise:
        _add_noise(out, u[:, -3:], noise)
    waves, phases, envelopes = _waves(), _phases(), _envelopes()
    rows, slots = np.nonzero(np.take_along_axis(scenes.present, order, axis=1))
    columns = [a[rows, slots].tolist() for a in (shape, partials, motion, cell % 3, start)]
    for row, form, top, move, side, begin, hz, loud in zip(
        rows.tolist(),
        *columns,
        pitch[rows, slots].astype(np.float32),
        volume[rows, slots].astype(np.float32),
        strict=True,
    ):
        at = (phases[move] * hz).astype(np.int32)
        at &= _TABLE - 1
        tone = waves[form][top - 1].take(at)
        tone *= loud
        out[row, :, begin : begin + _TONE] += envelopes[form, side, move] * tone
    return out


def _add_noise(out: NDArray[np.float32], u: NDArray[np.float64], noise: float) -> None:
    """Fills ``out`` with noise; ``u`` says for each sound where on the tape each side begins, and how loud it is."""
    tape = _noise_tape()
    begin = (u[:, :2] * _NOISE_TAPE).astype(np.int64).tolist()
    level = (noise * (0.5 + 0.5 * u[:, 2])).astype(np.float32)
    for row, (left, right) in enumerate(begin):
        np.multiply(tape[left : left + LENGTH], level[row], out=out[row, 0])
        np.multiply(tape[right : right + LENGTH], level[row], out=out[row, 1])


_FRAME = 80  # samples: the loudness is followed in steps of 5 ms
_SETTLED = 128  # samples after its onset that a tone has its full loudness
_HELD = 1664  # samples from there in which its pitch and place rest
_ARRIVED = round(0.285 * RATE_HZ)  # samples after the onset that motion has ended
_END = 800
_FOURIER = 8192
_SILENCE = 0.003  # root mean square; the usual noise stays under half of it
_QUIET = 0.15  # of the loudest object: less is no object
_TONAL = 30.0  # how far a tone stands out of the middle of its spectrum, in power; of noise nothing does
_NEAR = 0.06  # of a frequency: within two thirds of a step
_FEATURES = np.array(  # by shape: partials at 1.5, 2 and 3, decay, trembling; each about 1 where it is clearest
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.85, 0.0, 0.0],
        [0.0, 0.6, 0.35, 1.0, 0.4],
        [0.0, 0.6, 0.0, 0.0, 1.0],
        [0.0, 1.0, 1.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ]
)
_Spectrum = NDArray[np.float64]


def read_sound(samples: Shaped[np.ndarray, "C S"]) -> tuple[tuple[int, ...], ...]:
    """Returns what is heard of every object, as ``scene.seen_by("audio")`` does: colour, column, motion, shape, size.

    Exact for rendered sounds with the usual noise or none. Of other sounds, such as those that a model makes, it gives
    the nearest reading. Loudness does not matter; a sound that is too short is taken to end in silence.

    Args:
        samples: two sides at ``RATE_HZ``.

    Raises:
        UnreadableMedia: it is no stereo sound, it is silent, or an object has no pitch.
    """
    if samples.shape[0] != 2 or not np.isfinite(samples).all():
        raise UnreadableMedia(
            f"a sound of diorama has 2 sides of finite samples; this one has the shape {samples.shape}"
        )
    sides = np.zeros((2, LENGTH))
    sides[:, : samples.shape[1]] = samples[:, :LENGTH]
    slots = np.split(sides, OBJECTS, axis=1)
    loudness = [np.sqrt((slot**2).sum(axis=0).reshape(-1, _FRAME).mean(axis=1)) for slot in slots]
    peaks = [float(np.sort(frames)[-3]) for frames in loudness]  # not the very loudest: a click is no tone
    floor = max(_SILENCE, _QUIET * max(peaks))
    heard = [k for k, peak in enumerate(peaks) if peak >= floor]
    if not heard:
        raise UnreadableMedia(f"the sound is silent: its loudest part is {max(peaks):.4f} of full scale")
    return tuple(sorted(_read_tone(slots[k], loudness[k], k) for k in heard))


def _read_tone(sides: _Spectrum, loudness: _Spectrum, slot: int) -> tuple[int, ...]:
    """Returns colour, column, motion, shape and size of the one tone in a slot."""
    late = _LATE // _FRAME + 2
    onset = int(np.argmax(loudness[:late] > 0.5 * np.sort(loudness)[-3]))
    start = onset * _FRAME
    held = _spectra(sides[:, start + _SETTLED : start + _SETTLED + _HELD])
    ended = _spectra(sides[:, start + _ARRIVED : start + _ARRIVED + _END])
    pitch = _pitch(held.sum(axis=0), slot)
    steps = _STEPS * np.log2(pitch / np.array(_LOWEST_HZ))
    size = int(np.argmin(np.abs(steps - (_STEPS - 1) / 2)))
    colour = int(np.clip(np.rint(steps[size]), 0, _STEPS - 1))
    column = int(np.argmin(np.abs(_balance(held, pitch) - np.array(_PANS_DB))))

    ratios = 2.0 ** (np.array([0.0, _GLIDE, -_GLIDE]) / _STEPS)
    glide = int(np.argmax([_power(ended.sum(axis=0), pitch * ratio) for ratio in ratios]))
    slide = _balance(ended, pitch * ratios[glide]) - _balance(held, pitch)
    slid = 0 if abs(slide) < _SLIDE_DB / 2 else 1 if slide < 0 else 2
    motion = 2 + glide if glide else slid
    features = _features(held.sum(axis=0), pitch, loudness[onset:])
    shape = int(np.argmin(((_FEATURES - features) ** 2).sum(axis=1)))
    return colour, column, motion, shape, size


def _spectra(sides: _Spectrum) -> _Spectrum:
    """Returns the power spectrum of each side of a cut; what was cut short counts as silence."""
    length = sides.shape[1]
    spectra: _Spectrum = np.abs(np.fft.rfft(sides * np.hanning(length), _FOURIER, axis=1)) ** 2
    return spectra


def _bins(low_hz: float, high_hz: float) -> slice:
    """Returns the bins of a spectrum from one frequency to another."""
    return slice(round(low_hz * _FOURIER / RATE_HZ), round(high_hz * _FOURIER / RATE_HZ) + 1)


def _power(spectrum: _Spectrum, hz: float) -> float:
    """Returns the largest power close to a frequency."""
    return float(spectrum[_bins(hz * (1 - _NEAR), hz * (1 + _NEAR))].max(initial=0.0))


def _pitch(spectrum: _Spectrum, slot: int) -> float:
    """Returns the frequency in Hz of the lowest of the strong partials."""
    step = 2.0 ** (1 / _STEPS)
    span = _bins(_LOWEST_HZ[1] / step, 2 * _LOWEST_HZ[0])
    part = spectrum[span]
    if part.max() <= max(_TONAL * np.median(spectrum), 0.1 * spectrum.max()):
        raise UnreadableMedia(
            f"there is a noise but no tone of diorama {slot * SLOT_S:.1f} s after the start of the sound"
        )
    inner = part[1:-1]
    tops = (inner >= part[:-2]) & (inner > part[2:]) & (inner > 0.25 * part.max())
    if not tops.any():
        return float(span.start + np.argmax(part)) * RATE_HZ / _FOURIER
    return float(span.start + 1 + np.argmax(tops)) * RATE_HZ / _FOURIER


def _balance(spectra: _Spectrum, hz: float) -> float:
    """Returns how much louder the right side is than the left one around a frequency, in dB."""
    left, right = (_power(side, hz) + 1e-12 for side in spectra)
    return float(10 * np.log10(right / left))


def _features(spectrum: _Spectrum, pitch: float, loudness: _Spectrum) -> _Spectrum:
    """Returns what tells the shapes apart, on the scale of ``_FEATURES``."""
    partials = [(_power(spectrum, ratio * pitch) / _power(spectrum, pitch)) ** 0.5 for ratio in (1.5, 2.0, 3.0)]
    tone = loudness[2 : 2 + round(3 / _TREMBLE_HZ * RATE_HZ / _FRAME)]  # three tremblings
    end = np.sqrt((tone[-12:] ** 2).mean() / (tone[:12] ** 2).mean() + 1e-9)
    wave = np.exp(2j * np.pi * _TREMBLE_HZ * np.arange(len(tone)) * _FRAME / RATE_HZ)
    tremble = np.abs((tone * wave).mean()) / tone.mean()
    return np.array([*(np.array(partials) / (0.7, 0.8, 0.7)), np.clip(-20 * np.log10(end) / 20, 0, 1), tremble / 0.41])
