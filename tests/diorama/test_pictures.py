"""Pictures and clips: the same in any batch, varied by index and seed, true to the scene, quick."""

import numpy as np
import pytest

from intermodal.diorama.pictures import (
    BRIGHTEST,
    DARKEST,
    FRAMES,
    SIDE,
    TRAVEL,
    hue_to_rgb,
    levels_of,
    render_images,
    render_videos,
    silhouettes,
)
from intermodal.diorama.scene import COLOURS, MOTIONS, Scene, Scenes, Thing, draw_scenes
from intermodal.errors import InvalidValue

RENDERERS = pytest.mark.parametrize("render", [render_images, render_videos])


def _one(cell: int, motion: int = 0, colour: int = 7) -> Scenes:
    return Scenes.of([Scene((Thing(cell=cell, shape=0, colour=colour, size=1, motion=motion),))])


def _middle(frame: np.ndarray) -> np.ndarray:
    """Returns the centre of mass (x, y) of what is bright."""
    mass = np.maximum(frame.max(axis=-1).astype(float) - 110, 0)
    along = np.arange(SIDE) + 0.5
    return np.array([mass.sum(axis=0) @ along, mass.sum(axis=1) @ along]) / mass.sum()


@RENDERERS
def test_a_scene_looks_the_same_alone_and_in_any_batch(render):
    ids = np.arange(1000, 1150)
    scenes = draw_scenes("train", ids)
    batch = render(scenes, ids)
    for i in (0, 1, 63, 64, 149):
        np.testing.assert_array_equal(render(scenes.take([i]), ids[[i]])[0], batch[i])
    order = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_array_equal(render(scenes.take(order), ids[order]), batch[order])


@RENDERERS
def test_index_and_seed_vary_the_rendering_and_noise_is_what_was_asked_for(render):
    scenes = Scenes.of([draw_scenes("train", [3])[0]] * 2)
    a, b = render(scenes, [1, 2], noise=0)
    assert (a != b).any()
    assert (render(scenes, [1, 2], seed=1, noise=0)[0] != a).any()
    for noise in (2.0, 5.0):
        left_over = render(scenes, [1, 2], noise=noise)[0].astype(float) - a
        assert left_over.std() == pytest.approx(noise, rel=0.05)
        assert abs(left_over.mean()) < 0.1
        assert np.abs(left_over).max() <= 3 * noise
    assert a.min() >= DARKEST
    assert a.max() <= BRIGHTEST


def test_the_frames_of_a_clip_have_noise_of_their_own():
    clip = render_videos(_one(4), [0]).astype(float)[0] - render_videos(_one(4), [0], noise=0)[0]
    correlation = np.corrcoef(clip.reshape(FRAMES, -1))
    assert np.abs(correlation - np.eye(FRAMES)).max() < 0.05


def test_the_variation_of_a_picture_tells_nothing_of_that_of_its_clip():
    ids = np.arange(400)
    scenes = Scenes.of([_one(4)[0]] * len(ids))
    image, video = render_images(scenes, ids, noise=0), render_videos(scenes, ids, noise=0)[:, 0]
    places = np.array([[_middle(a), _middle(b)] for a, b in zip(image, video, strict=True)])
    for axis in (0, 1):
        assert places[:, 0, axis].std() > 0.5
        assert abs(np.corrcoef(places[:, 0, axis], places[:, 1, axis])[0, 1]) < 0.15
    grounds = image[:, 0, 0, 0].astype(float), video[:, 0, 0, 0].astype(float)
    assert abs(np.corrcoef(*grounds)[0, 1]) < 0.15


@pytest.mark.parametrize("cell", range(9))
def test_an_object_is_in_its_cell(cell):
    truth = (np.array([cell % 3, cell // 3]) + 0.5) * SIDE / 3
    for index in range(5):
        assert np.abs(_middle(render_images(_one(cell), [index])[0]) - truth).max() < 1.7


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
def test_an_object_glides_the_promised_way(motion):
    frames = render_videos(_one(4, motion), [0], noise=0)[0]
    path = np.array([_middle(frame) for frame in frames])
    way = {"still": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[MOTIONS[motion]]
    np.testing.assert_allclose(path - path[0], np.linspace(0, TRAVEL, FRAMES)[:, None] * way, atol=0.3)


def test_an_object_may_leave_through_any_edge():
    for cell, motion in ((0, 1), (2, 2), (0, 3), (8, 4)):
        frames = render_videos(_one(cell, motion), [0], noise=0)[0].astype(int)
        bright = (frames.max(axis=-1) > 130).sum(axis=(1, 2))
        assert 0.3 * bright[0] < bright[-1] < bright[0]


def test_colours_look_like_their_names():
    scenes = Scenes.of([_one(4, colour=colour)[0] for colour in range(len(COLOURS))])
    pixels = render_images(scenes, np.arange(len(COLOURS)), noise=0)[:, 32, 32].astype(int)
    named = dict(zip(COLOURS, pixels.tolist(), strict=True))
    high = {name: [channel for channel in range(3) if rgb[channel] > 0.6 * max(rgb)] for name, rgb in named.items()}
    assert high["red"] == [0]
    assert high["green"] == [1]
    assert high["blue"] == [2]
    assert high["yellow"] == [0, 1]
    assert high["cyan"] == [1, 2]
    assert high["purple"] == [0, 2]
    assert high["white"] == [0, 1, 2]
    assert named["red"][1] + 40 < named["orange"][1] < named["yellow"][1] - 40


def test_hues_follow_the_colour_circle():
    hue, one = np.array([0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0]), np.ones(7)
    truth = [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)]
    np.testing.assert_allclose(hue_to_rgb(hue, one, one), truth, atol=1e-12)
    np.testing.assert_allclose(hue_to_rgb(hue, 0 * one, one), 1)


@RENDERERS
def test_no_scenes_give_no_pictures_and_wrong_arguments_are_refused(render):
    scenes = draw_scenes("train", range(2))
    assert len(render(scenes.take(np.zeros(2, bool)), [])) == 0
    with pytest.raises(InvalidValue, match="2 scenes came with 3 indices"):
        render(scenes, [0, 1, 2])
    for noise in (-1.0, 5.1, float("nan")):
        with pytest.raises(InvalidValue, match="0 to 5 grey levels"):
            render(scenes, [0, 1], noise=noise)


def test_a_silhouette_is_where_the_picture_changes_when_the_object_goes():
    """The independent mask: half of the colour's way from the ground, in the picture with it and without it."""
    ids = np.arange(300)
    scenes = draw_scenes("train", ids)
    slot = np.arange(len(ids)) % scenes.present.sum(axis=1)
    rows = np.arange(len(ids))
    found = silhouettes(scenes, slot, ids)
    present = scenes.present.copy()
    present[rows, slot] = False
    gone = Scenes(present, scenes.shape, scenes.colour, scenes.size, scenes.cell, scenes.motion)
    without = render_images(gone, ids, noise=0).astype(float)
    change = np.abs(render_images(scenes, ids, noise=0) - without)
    shade = levels_of(scenes, ids)[rows, slot][:, None, None]
    channel = np.abs(shade - without).mean(axis=(1, 2)).argmax(axis=1)
    way = np.abs(shade - without)[rows, :, :, channel]
    expected = (change[rows, :, :, channel] >= 0.5 * way) & (way > 0)
    both, either = (found & expected).sum(axis=(1, 2)), (found | expected).sum(axis=(1, 2))
    assert (both / either).min() > 0.9
    assert (both / either).mean() > 0.99
    np.testing.assert_array_equal(silhouettes(scenes.take([9, 4]), slot[[9, 4]], ids[[9, 4]]), found[[9, 4]])
    assert (silhouettes(scenes, slot, ids, seed=1) != found).any()


def test_pictures_are_painted_in_the_levels_that_are_given():
    ids = np.arange(70)
    scenes = draw_scenes("train", ids)
    own = levels_of(scenes, ids)
    np.testing.assert_array_equal(render_images(scenes, ids, levels=own), render_images(scenes, ids))
    given = np.full_like(own, 200)
    painted = render_images(scenes, ids, noise=0, levels=given)
    inside = silhouettes(scenes, np.zeros(70, np.int64), ids)
    assert (painted[inside] > 110).all()
    assert (painted.max(axis=(1, 2, 3)) == 200).all()
    np.testing.assert_array_equal(render_images(scenes.take([66]), ids[[66]], 0, 0, given[[66]])[0], painted[66])
