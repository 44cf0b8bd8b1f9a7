"""Pointing: the phrase fits one object, the tone is its own, the box is that of its mask, and it is alone in both."""

import re

import numpy as np
import pytest

from intermodal.diorama.pictures import silhouettes
from intermodal.diorama.pointing import boxes, choose, phrases, pointed, render_tones
from intermodal.diorama.scene import CELLS, COLOURS, SHAPES, SIZES, Scene, Scenes, Thing, draw_scenes
from intermodal.diorama.sounds import NOISE, read_sound, render_sounds

IDS = np.arange(1500)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes("train", IDS)


def _fitting(scene: Scene, phrase: str) -> list[Thing]:
    """Returns the things that a phrase is true of, read from its words."""
    found = list(scene.things)
    if cell := re.fullmatch(r"the thing at the (.+)", phrase):
        return [thing for thing in found if CELLS[thing.cell] == cell[1]]
    article, *words = phrase.split()
    assert article == "the"
    for word in words:
        for name, values in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES)):
            if word in values:
                found = [thing for thing in found if values[getattr(thing, name)] == word]
    return found


def test_every_phrase_fits_its_object_and_no_other(scenes):
    told = pointed(scenes, IDS)
    slot, _ = choose(scenes, IDS)
    for i, (scene, one) in enumerate(zip(scenes, told, strict=True)):
        assert one.thing.cell == scenes.cell[i, slot[i]]
        assert _fitting(scene, one.phrase) == [one.thing], (str(scene), one)
    by_place = np.mean([" at the " in one.phrase for one in told])
    assert 0.2 < by_place < 0.35
    assert {word for one in told for word in one.phrase.split()} == {
        *("the", "thing", "at"),
        *(word for name in (*SIZES, *COLOURS, *SHAPES, *CELLS) for word in name.split()),
    }


def test_what_is_the_only_one_of_its_look_in_its_column_is_chosen_wherever_there_is_one(scenes):
    for scene, one in zip(scenes, pointed(scenes, IDS), strict=True):
        looks = [(t.shape, t.colour, t.size, t.column) for t in scene.things]
        own = (one.thing.shape, one.thing.colour, one.thing.size, one.thing.column)
        assert one.heard_alone == (looks.count(own) == 1)
        assert one.heard_alone or all(looks.count(look) > 1 for look in looks)


def test_twins_in_a_column_are_told_apart_by_their_place_and_not_by_their_sound():
    twins = Scenes.of([Scene((Thing(0, 2, 3, 0, 0), Thing(6, 2, 3, 0, 4)))] * 40)
    told = pointed(twins, np.arange(40))
    assert not any(one.heard_alone for one in told)
    assert {(one.thing.cell, one.phrase) for one in told} == {
        (0, "the thing at the top left"),
        (6, "the thing at the bottom left"),
    }
    third = Scene((Thing(0, 2, 3, 0, 0), Thing(6, 2, 3, 0, 4), Thing(3, 2, 3, 1, 1)))
    told = pointed(Scenes.of([third] * 40), np.arange(40))
    assert {(one.thing.cell, one.heard_alone) for one in told} == {(3, True)}


def test_objects_are_chosen_evenly(scenes):
    slot, _ = choose(scenes, IDS)
    for count in (2, 3):
        rows = scenes.present.sum(axis=1) == count
        shares = np.bincount(slot[rows], minlength=count) / rows.sum()
        np.testing.assert_allclose(shares, 1 / count, atol=0.06)


def test_a_tone_is_the_sound_of_its_object_alone(scenes):
    ids = IDS[:250]
    few = scenes.take(ids)
    slot, _ = choose(few, ids)
    for one, tone in zip(pointed(few, ids), render_tones(few, slot, ids), strict=True):
        thing = one.thing
        assert read_sound(tone) == ((thing.colour, thing.column, thing.motion, thing.shape, thing.size),)
    alone = Scenes.of([Scene((one.thing,)) for one in pointed(few, ids)])
    np.testing.assert_array_equal(render_tones(few, slot, ids), render_sounds(alone, ids, 0, NOISE))


def test_a_box_holds_its_mask_and_its_object_and_nothing_more(scenes):
    slot, _ = choose(scenes, IDS)
    masks = silhouettes(scenes, slot, IDS)
    for one, mask in zip(pointed(scenes, IDS), masks, strict=True):
        x0, y0, x1, y1 = one.box
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        for edge in (mask[y0, :], mask[y1 - 1, :], mask[:, x0], mask[:, x1 - 1]):
            assert edge.any()
        middle = np.array([one.thing.column + 0.5, one.thing.row + 0.5]) * 64 / 3
        assert x0 <= middle[0] < x1
        assert y0 <= middle[1] < y1
        assert x1 - x0 < 23
        assert y1 - y0 < 23


def test_boxes_by_hand():
    mask = np.zeros((2, 5, 7), bool)
    mask[0, 2:4, 1:6] = True
    mask[1, 4, 6] = True
    assert boxes(mask).tolist() == [[1, 2, 6, 4], [6, 4, 7, 5]]


def test_all_of_it_is_the_same_in_any_batch_and_changes_with_index_and_seed(scenes):
    rows = [30, 4, 900]
    few, ids = scenes.take(rows), IDS[rows]
    every = pointed(scenes, IDS)
    assert pointed(few, ids) == [every[i] for i in rows]
    slot, _ = choose(scenes, IDS)
    assert choose(few, ids)[0].tolist() == slot[rows].tolist()
    np.testing.assert_array_equal(render_tones(few, slot[rows], ids)[1], render_tones(scenes, slot, IDS)[4])
    assert phrases(few, slot[rows], ids) == [every[i].phrase for i in rows]
    for other in (pointed(scenes, IDS, seed=1), pointed(scenes, IDS + 5000)):
        same_thing = [a.thing == b.thing for a, b in zip(every, other, strict=True)]
        same_words = [a.phrase == b.phrase for a, b in zip(every, other, strict=True)]
        assert 0.3 < np.mean(same_thing) < 0.7
        assert np.mean(same_words) < 0.3
