"""Pictures and clips read back: exact on renderings, robust on worse pictures, never a crash."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from intermodal.diorama.picture_reader import read_image, read_images, read_video, read_videos
from intermodal.diorama.pictures import FRAMES, SIDE, render_images, render_videos
from intermodal.diorama.scene import Scene, Scenes, Thing, draw_scenes
from intermodal.errors import InvalidValue, UnreadableMedia

SPLIT_AND_NOISE = pytest.mark.parametrize(
    ("split", "noise"), [("train", 0.0), ("test", 2.0), ("compositional", 0.0), ("compositional", 5.0)]
)


def _wrong_images(split: str, noise: float, ids: range) -> list[str]:
    scenes = draw_scenes(split, ids)
    readings = read_images(render_images(scenes, ids, noise=noise))
    pairs = zip(scenes, readings, strict=True)
    return [f"{a} | {b}" for a, b in pairs if b is None or a.seen_by("image") != b.seen_by("image")]


def _wrong_videos(split: str, noise: float, ids: range) -> list[str]:
    scenes = draw_scenes(split, ids)
    readings = read_videos(render_videos(scenes, ids, noise=noise))
    return [f"{a} | {b}" for a, b in zip(scenes, readings, strict=True) if a != b]


@SPLIT_AND_NOISE
def test_images_are_read_exactly(split, noise):
    assert _wrong_images(split, noise, range(300)) == []


@SPLIT_AND_NOISE
def test_videos_are_read_exactly(split, noise):
    assert _wrong_videos(split, noise, range(100)) == []


@pytest.mark.slow
@SPLIT_AND_NOISE
def test_thousands_of_images_are_read_exactly(split, noise):
    assert _wrong_images(split, noise, range(300, 3300)) == []


@pytest.mark.slow
@SPLIT_AND_NOISE
def test_a_thousand_videos_are_read_exactly(split, noise):
    assert _wrong_videos(split, noise, range(300, 1300)) == []


def test_objects_that_meet_are_still_read():
    scenes = []
    for shape in range(6):
        for a, b, towards, back in ((3, 4, 2, 1), (4, 7, 4, 3), (1, 2, 2, 1)):
            first = Thing(cell=a, shape=shape, colour=shape, size=1, motion=towards)
            scenes.append(Scene((first, Thing(cell=b, shape=(shape + 1) % 6, colour=shape, size=1, motion=back))))
    for seed in range(3):
        assert read_videos(render_videos(Scenes.of(scenes), range(len(scenes)), seed=seed)) == scenes


def _blurred(pixels: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        for axis in (1, 2):
            pixels = (np.roll(pixels, 1, axis) + 2 * pixels + np.roll(pixels, -1, axis)) / 4
    return pixels


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pixels, rng: _blurred(pixels, 2),
        lambda pixels, rng: 0.7 * pixels,
        lambda pixels, rng: np.roll(pixels, (1, -2), axis=(1, 2)),
        lambda pixels, rng: pixels + rng.normal(0, 15, pixels.shape),
        lambda pixels, rng: _blurred(pixels, 1) + rng.normal(0, 8, pixels.shape) + 20,
    ],
    ids=["blurred", "dim", "shifted", "noisy", "all of it"],
)
def test_spoilt_pictures_are_read_too(spoil):
    ids = np.arange(200)
    scenes = draw_scenes("test", ids)
    pixels = spoil(render_images(scenes, ids).astype(float), np.random.default_rng(0))
    readings = read_images(pixels.clip(0, 255).astype(np.uint8))
    right = [b is not None and a.seen_by("image") == b.seen_by("image") for a, b in zip(scenes, readings, strict=True)]
    assert np.mean(right) >= 0.99


def test_a_reading_does_not_depend_on_the_batch():
    ids = np.arange(70)
    scenes = draw_scenes("dev", ids)
    images, videos = render_images(scenes, ids), render_videos(scenes.take(range(10)), ids[:10])
    assert [read_image(pixels) for pixels in images] == read_images(images)
    assert [read_video(frames) for frames in videos] == read_videos(videos)
    assert all(thing.motion == 0 for pixels in images for thing in read_image(pixels).things)


def test_an_empty_picture_is_unreadable_alone_and_none_in_a_batch():
    scenes = draw_scenes("dev", [0])
    images = np.concatenate((np.full((1, SIDE, SIDE, 3), 40, np.uint8), render_images(scenes, [0])))
    assert [scene is None for scene in read_images(images)] == [True, False]
    with pytest.raises(UnreadableMedia, match="nothing stands out"):
        read_image(images[0])
    clips = np.repeat(images[:, None], FRAMES, axis=1)
    assert [scene is None for scene in read_videos(clips)] == [True, False]
    with pytest.raises(UnreadableMedia, match="nothing stands out"):
        read_video(clips[0])
    assert read_images(images[:0]) == []
    assert read_videos(clips[:0]) == []


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 40, 120, 255]), st.integers(1, 32))
def test_noise_of_any_kind_gives_a_scene_or_none(seed, loudness, grain):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, loudness + 1, (2, FRAMES, SIDE // grain + 1, SIDE // grain + 1, 3))
    clips = coarse.repeat(grain, axis=2).repeat(grain, axis=3)[:, :, :SIDE, :SIDE].astype(np.uint8)
    for reading in (*read_images(clips[:, 0]), *read_videos(clips)):
        assert reading is None or 1 <= len(reading.things) <= 3


@given(arrays.arrays(np.uint8, (1, SIDE, SIDE, 3), fill=st.integers(0, 255)))
def test_extreme_pictures_give_a_scene_or_none(pixels):
    reading = read_images(pixels)[0]
    assert reading is None or 1 <= len(reading.things) <= 3


def test_other_sizes_are_refused():
    with pytest.raises(InvalidValue, match="32 x 64 pixels; resize them to 64 x 64"):
        read_images(np.zeros((1, 32, 64, 3), np.uint8))
    with pytest.raises(InvalidValue, match="4 frames of 64 x 64"):
        read_videos(np.zeros((1, 4, SIDE, SIDE, 3), np.uint8))
