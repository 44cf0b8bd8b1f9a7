"""Restyling: the scene in the palette's colour and nothing else changed, and no held-out pair where none may be."""

import numpy as np
import pytest

from intermodal.diorama.picture_reader import read_images
from intermodal.diorama.pictures import levels_of, render_images
from intermodal.diorama.restyling import draw_restyling, render_palettes, render_restyled
from intermodal.diorama.scene import COLOURS, HELD_OUT, SPLITS, Scene, Scenes, Thing, draw_scenes

IDS = np.arange(1000)


def _without_motion(scene: Scene) -> Scene:
    return Scene(tuple(Thing(t.cell, t.shape, t.colour, t.size, 0) for t in scene.things))


@pytest.mark.parametrize("split", SPLITS)
def test_the_restyled_scene_is_the_scene_in_the_colour_of_the_palette(split):
    scenes = draw_scenes(split, IDS)
    drawn = draw_restyling(split, scenes, IDS)
    for scene, palette, restyled in zip(scenes, drawn.palettes, drawn.restyled, strict=True):
        (thing,) = palette.things
        wanted = tuple(Thing(t.cell, t.shape, thing.colour, t.size, t.motion) for t in scene.things)
        assert restyled == Scene(wanted) != scene
        assert palette != scene


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_pictures_read_back_as_what_they_show(split):
    scenes = draw_scenes(split, IDS)
    drawn = draw_restyling(split, scenes, IDS)
    for truth, pixels in ((drawn.restyled, render_restyled(drawn, IDS)), (drawn.palettes, render_palettes(drawn, IDS))):
        assert read_images(pixels) == [_without_motion(scene) for scene in truth]


def test_a_restyled_picture_differs_from_the_scenes_own_in_the_shade_of_its_objects_alone():
    ids = IDS[:200]
    scenes = draw_scenes("train", ids)
    drawn = draw_restyling("train", scenes, ids)
    own, restyled = render_images(scenes, ids), render_restyled(drawn, ids)
    clean = render_images(scenes, ids, noise=0).astype(int)
    noise = own.astype(int) - clean
    paints = (np.full((len(ids), 3, 3), level, np.int16) for level in (16, 239))
    dark, bright = (render_images(scenes, ids, noise=0, levels=paint) for paint in paints)
    ground = (dark == bright).all(axis=-1)  # no paint gets there
    np.testing.assert_array_equal(restyled[ground], own[ground])
    assert 0.5 < ground.mean() < 0.95
    shade = levels_of(drawn.palettes, ids, 1)[:, 0]
    solid = ((dark == 16) & (bright == 239)).all(axis=-1)  # nothing but paint
    assert solid.any(axis=(1, 2)).all()
    away = restyled.astype(int) - noise - shade[:, None, None]
    assert not away[solid].any()
    palettes = render_palettes(drawn, ids).astype(int)
    assert (np.abs(palettes - shade[:, None, None]).max(axis=-1).min(axis=(1, 2)) <= 4).all()  # noise besides


def _pairs(scenes: Scenes) -> np.ndarray:
    """Returns which scenes hold a pair that is held out; by the names of the pairs, one by one."""
    return np.array([any((t.shape, t.colour) in HELD_OUT for t in scene.things) for scene in scenes])


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_no_held_out_pair_is_shown_and_train_stays_among_its_own(split):
    scenes = draw_scenes(split, IDS)
    drawn = draw_restyling(split, scenes, IDS)
    assert not _pairs(drawn.restyled).any()
    assert not _pairs(drawn.palettes).any()
    assert drawn.palettes.belongs_to(split).all()
    if split == "train":
        assert drawn.restyled.belongs_to("train").mean() > 0.998


def test_the_compositional_split_asks_for_held_out_pairs_and_does_not_show_them_in_the_palette():
    scenes = draw_scenes("compositional", IDS)
    drawn = draw_restyling("compositional", scenes, IDS)
    novel = _pairs(drawn.restyled)
    assert not _pairs(drawn.palettes).any()
    assert 0.9 < novel.mean() < 1
    colours = dict(HELD_OUT)
    for scene in scenes.take(np.flatnonzero(~novel)):  # what could be held out is what is there already
        assert all(thing.colour == colours[scene.things[0].shape] for thing in scene.things)


def test_every_colour_is_asked_for():
    scenes = draw_scenes("train", IDS)
    drawn = draw_restyling("train", scenes, IDS)
    shares = np.bincount(drawn.restyled.colour[:, 0], minlength=len(COLOURS)) / len(IDS)
    assert shares.min() > 0.07  # two colours are in no held-out pair and so never refused
    assert shares.max() < 0.22


def test_it_is_the_same_in_any_batch_and_changes_with_index_and_seed():
    scenes = draw_scenes("test", IDS)
    rows = [17, 3]
    few, all_of_it = (
        draw_restyling("test", some, ids) for some, ids in ((scenes.take(rows), IDS[rows]), (scenes, IDS))
    )
    assert list(few.restyled) == [all_of_it.restyled[i] for i in rows]
    assert list(few.palettes) == [all_of_it.palettes[i] for i in rows]
    for render in (render_palettes, render_restyled):
        np.testing.assert_array_equal(render(few, IDS[rows]), render(all_of_it, IDS)[rows])
        assert (render(few, IDS[rows], 5) != render(few, IDS[rows])).any()
    for other in (draw_restyling("test", scenes, IDS, 1), draw_restyling("test", scenes, IDS + 4000)):
        assert (other.restyled.colour[:, 0] == all_of_it.restyled.colour[:, 0]).mean() < 0.3
        assert (other.palettes.cell[:, 0] == all_of_it.palettes.cell[:, 0]).mean() < 0.3
