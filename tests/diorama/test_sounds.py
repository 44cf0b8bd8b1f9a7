"""Sounds: the same in any batch, clean where that was asked for, read back exactly; noise never breaks the reader."""

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.scene import COLOURS, MOTIONS, SHAPES, SIZES, Scene, Scenes, Thing, draw_scenes
from intermodal.diorama.sounds import LENGTH, NOISE, RATE_HZ, SLOT_S, read_sound, render_sounds
from intermodal.errors import UnreadableMedia

SLOT = round(SLOT_S * RATE_HZ)


def _one(**attributes: int) -> Scenes:
    values = {"cell": 4, "shape": 0, "colour": 0, "size": 0, "motion": 0} | attributes
    return Scenes.of([Scene((Thing(**values),))])


def _check(split: str, count: int, noise: float) -> None:
    for first in range(0, count, 100):
        ids = np.arange(first, min(first + 100, count))
        scenes = draw_scenes(split, ids)
        for scene, sound in zip(scenes, render_sounds(scenes, ids, noise=noise), strict=True):
            assert read_sound(sound) == scene.seen_by("audio"), str(scene)


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_three_hundred_sounds_are_read_back(noise):
    _check("dev", 300, noise)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, NOISE])
@pytest.mark.parametrize("split", ["train", "compositional"])
def test_three_thousand_sounds_are_read_back(split, noise):
    _check(split, 3000, noise)


def test_every_attribute_value_is_read_back_alone():
    things = [
        Thing(cell, shape, colour, size, motion)
        for cell in (0, 4, 8)
        for shape in range(len(SHAPES))
        for colour in (0, len(COLOURS) - 1)
        for size in range(len(SIZES))
        for motion in range(len(MOTIONS))
    ]
    scenes = Scenes.of([Scene((thing,)) for thing in things])
    for scene, sound in zip(scenes, render_sounds(scenes, np.arange(len(things))), strict=True):
        assert read_sound(sound) == scene.seen_by("audio"), str(scene)


def test_a_scene_sounds_the_same_alone_and_in_any_batch():
    ids = np.arange(1000, 1064)
    scenes = draw_scenes("train", ids)
    batch = render_sounds(scenes, ids)
    assert batch.shape == (64, 2, LENGTH)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(render_sounds(scenes.take([5]), [1005])[0], batch[5])
    order = np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(render_sounds(scenes.take(order), ids[order]), batch[order])


def test_index_and_seed_vary_the_rendering_and_the_noise_is_what_was_asked_for():
    scenes = Scenes.of([draw_scenes("train", [3])[0]] * 2)
    a, b = render_sounds(scenes, [1, 2], noise=0)
    assert (a != b).any()
    assert (render_sounds(scenes, [1, 2], seed=1, noise=0)[0] != a).any()
    noise = render_sounds(scenes, [1, 2], noise=0.01)[0] - a
    assert 0.005 < np.abs(noise).max() <= 0.01 + 1e-6
    assert abs(float(noise.mean())) < 1e-4
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05


def test_sounds_stay_below_full_scale_and_absent_objects_are_silence_at_the_end():
    ids = np.arange(200)
    scenes = draw_scenes("train", ids)
    clean = render_sounds(scenes, ids, noise=0)
    assert 0.2 < np.abs(clean).max() < 0.6
    loudness = np.abs(clean).max(axis=1).reshape(200, 3, SLOT).max(axis=2)
    np.testing.assert_array_equal(loudness > 0, np.arange(3) < scenes.present.sum(axis=1)[:, None])


def test_the_order_of_the_objects_is_drawn_anew():
    ids = np.arange(600)
    scene = Scene((Thing(0, 0, 0, 0, 0), Thing(2, 0, 0, 0, 0)))
    clean = render_sounds(Scenes.of([scene] * 600), ids, noise=0)
    left_first = (clean[:, 0, :SLOT] ** 2).sum(axis=1) > (clean[:, 1, :SLOT] ** 2).sum(axis=1)
    assert left_first.mean() == pytest.approx(0.5, abs=0.07)


def test_nothing_folds_back_from_above_half_the_rate():
    """The highest tone of the brightest shape: all its power lies at whole multiples of its own pitch."""
    star = SHAPES.index("star")
    for colour in (0, 7):
        sound = render_sounds(_one(shape=star, colour=colour), [0], noise=0)[0, 0, 1200:2224].astype(float)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(1024), 16384)) ** 2
        hz = np.arange(spectrum.size) * RATE_HZ / 16384
        pitch = hz[np.argmax(spectrum * (hz < 2200))]
        off = np.abs(hz / pitch - np.rint(hz / pitch)) * pitch > 60
        assert spectrum[off].sum() < 1e-3 * spectrum.sum()


def test_pitch_rises_and_falls_and_places_slide():
    def early_and_late(motion: int) -> tuple[np.ndarray, np.ndarray]:
        sound = render_sounds(_one(motion=motion), [0], noise=0)[0].astype(float)
        tone = sound[:, np.flatnonzero(sound[0])[0] :]
        return tone[:, 200:1800], tone[:, 4600:5200]

    def crossings(part: np.ndarray) -> float:
        return float((np.diff(np.sign(part.sum(axis=0))) != 0).mean())

    ratios = {
        motion: crossings(early_and_late(motion)[1]) / crossings(early_and_late(motion)[0]) for motion in (0, 3, 4)
    }
    assert ratios[0] == pytest.approx(1, abs=0.02)
    assert ratios[3] == pytest.approx(2 ** (3 / 8), abs=0.05)
    assert ratios[4] == pytest.approx(2 ** (-3 / 8), abs=0.05)
    for motion, sign in ((1, -1), (2, 1)):
        _, late = early_and_late(motion)
        power = (late**2).sum(axis=1)
        assert sign * 10 * np.log10(power[1] / power[0]) > 12


def test_the_row_makes_no_difference():
    for cell in (1, 7):
        np.testing.assert_array_equal(render_sounds(_one(cell=cell), [0]), render_sounds(_one(cell=4), [0]))


def test_the_reader_does_not_mind_loudness_or_number_format():
    scenes = draw_scenes("dev", np.arange(20))
    for scene, sound in zip(scenes, render_sounds(scenes, np.arange(20)), strict=True):
        assert read_sound(sound * np.float32(0.2)) == scene.seen_by("audio")
        assert read_sound((sound * 32767).astype(np.int16)) == scene.seen_by("audio")
        assert read_sound(sound[:, :-200].astype(np.float64)) == scene.seen_by("audio")


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((2, LENGTH), np.float32), "silent"),
        (np.zeros((2, 0), np.float32), "silent"),
        (np.full((2, LENGTH), np.nan, np.float32), "finite"),
        (np.ones((1, LENGTH), np.float32), "2 sides"),
        (np.ones((2, LENGTH), np.float32), "no tone"),
        (np.random.default_rng(0).normal(0, 0.2, (2, LENGTH)), "no tone"),
    ],
)
def test_what_is_no_sound_of_diorama_is_refused(samples, reason):
    with pytest.raises(UnreadableMedia, match=reason):
        read_sound(samples)


@given(st.integers(0, 2**32 - 1), st.integers(0, LENGTH + 500), st.floats(0.001, 1))
def test_any_samples_are_a_reading_or_are_refused(seed, length, level):
    rng = np.random.default_rng(seed)
    sound = np.cumsum(rng.normal(0, level, (2, length)), axis=1) * np.sin(np.arange(length) * rng.uniform(0, 1.5))
    heard: tuple[tuple[int, ...], ...] = ()
    with suppress(UnreadableMedia):
        heard = read_sound(sound)
        assert 1 <= len(heard) <= 3
    for thing in heard:
        assert all(0 <= value < top for value, top in zip(thing, (8, 3, 5, 6, 2), strict=True))


def test_a_thousand_sounds_take_less_than_a_second():
    ids = np.arange(250)
    scenes = draw_scenes("train", ids)
    render_sounds(scenes, ids)
    started = time.perf_counter()
    render_sounds(scenes, ids)
    assert time.perf_counter() - started < 0.25
