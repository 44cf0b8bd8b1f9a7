import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama import speech
from intermodal.diorama.scene import CARRIES, COLOURS, MOTIONS, SHAPES, SIZES, Scene, Thing
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnknownName
from intermodal.evaluation.scenes import attributes_shared, read_back, scene_right, translation_accuracy
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries

FIELDS = ("text", "image", "audio", "video", "timeseries")
DIRECTIONS = list(itertools.permutations(FIELDS, 2))
ALL = ("shape", "colour", "size", "cell", "motion")
COUNTS = {"shape": len(SHAPES), "colour": len(COLOURS), "size": len(SIZES), "cell": 9, "motion": len(MOTIONS)}

# plain numbers, made a scene inside the test: the checks of shapes draw at random, which a strategy may not
OBJECT = st.tuples(*(st.integers(0, highest) for highest in (8, 5, 7, 1, 4)))
OBJECTS = st.lists(OBJECT, min_size=1, max_size=3, unique_by=lambda values: values[0])


def scene_of(objects):
    return Scene(tuple(Thing(*values) for values in objects))


def seen(scene, target):
    """Returns what the reader of ``target`` would give: of a sound no scene, but what is heard of each object."""
    return scene.seen_by("audio") if target == "audio" else scene


@pytest.fixture(scope="module")
def dataset():
    """Returns scenes and what is read back from their renderings."""
    source = Diorama("test", FIELDS, size=60)
    samples = source.samples(range(60))
    return list(source.scenes(range(60))), {f: read_back(f, [sample[f] for sample in samples]) for f in FIELDS}


def test_what_two_sides_share():
    assert attributes_shared("text", "video") == ALL
    assert attributes_shared("video", "image") == ("shape", "colour", "size", "cell")
    assert attributes_shared("text", "audio") == ("shape", "colour", "size", "column", "motion")
    assert attributes_shared("audio", "image") == ("shape", "colour", "size", "column")
    assert attributes_shared("timeseries", "image") == ("size", "cell")
    assert attributes_shared("audio", "timeseries") == ("size", "column", "motion")
    for a, b in itertools.permutations(CARRIES, 2):
        assert attributes_shared(a, b) == attributes_shared(b, a)


def test_several_sources_add_up():
    assert attributes_shared(("image", "timeseries"), "text") == ALL
    assert attributes_shared(["audio", "image"], "video") == ALL
    assert attributes_shared(("image",), "text") == attributes_shared("image", "text")


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_a_rendering_read_back_is_all_right_in_every_direction(dataset, source, target):
    truth, found = dataset
    result = translation_accuracy(truth, found[target], source, target)
    names = attributes_shared(source, target)
    assert [result[f"{name}_accuracy"] for name in names] == [1.0] * len(names)
    assert (result["scene_accuracy"], result["attribute_accuracy"]) == (1.0, 1.0)
    assert (result["count"], result["objects"]) == (60.0, float(sum(len(s.things) for s in truth)))
    assert result["missing"] == result["extra"] == result["unreadable"] == 0.0
    assert scene_right(truth, found[target], source, target).all()


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_the_translations_of_other_scenes_are_mostly_wrong(dataset, source, target):
    truth, found = dataset
    result = translation_accuracy(truth, found[target][1:] + found[target][:1], source, target)
    assert result["scene_accuracy"] < 0.1
    assert 0.0 < result["attribute_accuracy"] < 0.6


@given(OBJECTS, st.sampled_from(ALL), st.integers(0, 2), st.integers(1, 8), st.sampled_from(DIRECTIONS))
def test_one_wrong_attribute_costs_just_that(objects, name, which, step, direction):
    scene, (source, target) = scene_of(objects), direction
    which %= len(scene.things)
    thing = scene.things[which]
    value = (getattr(thing, name) + 1 + step % (COUNTS[name] - 1)) % COUNTS[name]
    if name == "cell" and value in {t.cell for t in scene.things}:
        return
    wrong = replace(thing, **{name: value})
    others = scene.things[:which] + scene.things[which + 1 :]
    shared = attributes_shared(source, target)
    broken = {a for a in shared if getattr(wrong, a) != getattr(thing, a)}
    result = translation_accuracy([scene], [seen(Scene((*others, wrong)), target)], source, target)
    for attribute in shared:
        expected = 1.0 - (attribute in broken) / len(scene.things)
        assert result[f"{attribute}_accuracy"] == pytest.approx(expected)
    assert result["scene_accuracy"] == float(not broken)
    assert result["missing"] == result["extra"] == 0.0


@given(OBJECTS.filter(lambda objects: len(objects) > 1), st.sampled_from(DIRECTIONS), st.integers(0, 2))
def test_a_missing_object_and_one_too_many_are_wrong_in_everything(objects, direction, left_out):
    scene, (source, target) = scene_of(objects), direction
    left_out %= len(scene.things)
    fewer = Scene(scene.things[:left_out] + scene.things[left_out + 1 :])
    for truth, found, count in ((scene, fewer, "missing"), (fewer, scene, "extra")):
        result = translation_accuracy([truth], [seen(found, target)], source, target)
        expected = 1 - 1 / len(scene.things)
        assert all(result[f"{name}_accuracy"] == pytest.approx(expected) for name in attributes_shared(source, target))
        assert result["objects"] == len(scene.things)
        assert (result[count], result["missing"] + result["extra"], result["scene_accuracy"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_what_cannot_be_read_is_all_wrong(dataset, source, target):
    truth, found = dataset
    result = translation_accuracy(truth, [None] * 30 + found[target][30:], source, target)
    unread = sum(len(scene.things) for scene in truth[:30])
    objects = sum(len(scene.things) for scene in truth)
    assert (result["scene_accuracy"], result["unreadable"], result["missing"]) == (0.5, 30.0, float(unread))
    for name in attributes_shared(source, target):
        assert result[f"{name}_accuracy"] == pytest.approx(1 - unread / objects)
    assert scene_right(truth, [None] * 60, source, target).sum() == 0


def test_swapped_colours_are_two_wrong_colours():
    red, blue = Thing(0, 1, 0, 0, 0), Thing(8, 1, 5, 0, 0)
    swapped = Scene((replace(red, colour=5), replace(blue, colour=0)))
    result = translation_accuracy([Scene((red, blue))], [swapped], "text", "image")
    assert (result["colour_accuracy"], result["cell_accuracy"], result["shape_accuracy"]) == (0.0, 1.0, 1.0)
    # by column alone, as in a sound, it is the same
    result = translation_accuracy([Scene((red, blue))], [swapped.seen_by("audio")], "text", "audio")
    assert (result["colour_accuracy"], result["column_accuracy"]) == (0.0, 1.0)


def test_objects_in_one_column_are_matched_by_what_they_are():
    upper, lower = Thing(0, 1, 0, 0, 0), Thing(6, 3, 5, 1, 2)
    turned = Scene((replace(upper, cell=6), replace(lower, cell=0)))
    assert translation_accuracy([Scene((upper, lower))], [turned], "audio", "image")["scene_accuracy"] == 1.0
    assert translation_accuracy([Scene((upper, lower))], [turned], "text", "image")["cell_accuracy"] == 1.0
    assert translation_accuracy([Scene((upper, lower))], [turned], "text", "image")["shape_accuracy"] == 0.0


def test_attributes_that_the_source_does_not_carry_are_free():
    scene = Scene((Thing(0, 1, 0, 0, 3), Thing(4, 2, 2, 1, 0)))
    still = Scene(tuple(replace(thing, motion=0) for thing in scene.things))
    assert translation_accuracy([scene], [still], "image", "text")["scene_accuracy"] == 1.0
    assert translation_accuracy([scene], [still], "video", "text")["motion_accuracy"] == 0.5
    assert translation_accuracy([scene], [still], ("image", "audio"), "text")["motion_accuracy"] == 0.5


def test_the_figures_by_hand():
    scene = Scene((Thing(0, 1, 0, 0, 3), Thing(4, 2, 2, 1, 0)))
    other = Scene((Thing(0, 1, 0, 0, 3), Thing(4, 2, 3, 1, 1)))
    result = translation_accuracy([scene, scene], [scene, other], "text", "video")
    assert {name: result[f"{name}_accuracy"] for name in ALL} == (
        {"shape": 1.0, "colour": 0.75, "size": 1.0, "cell": 1.0, "motion": 0.75}
    )
    assert (result["scene_accuracy"], result["attribute_accuracy"]) == (0.5, pytest.approx(0.9))
    assert 0.09 < result["scene_accuracy_low"] < 0.1
    assert 0.9 < result["scene_accuracy_high"] < 0.91


@given(OBJECTS, OBJECTS, st.booleans(), st.sampled_from(DIRECTIONS))
def test_a_scene_is_right_just_where_both_look_the_same(objects, others, alike, direction):
    truth, found = scene_of(objects), scene_of(others)
    if alike:  # but for what only some directions carry
        found = Scene(tuple(replace(thing, motion=0, colour=0) for thing in truth.things))
    expected = truth.seen_by(*direction) == found.seen_by(*direction)
    assert scene_right([truth], [seen(found, direction[1])], *direction)[0] == expected


def test_unreadable_items_are_none():
    grey = Image(np.full((64, 64, 3), 90, np.uint8))
    assert read_back("text", [Text("a purple elephant"), Text("")]) == [None, None]
    assert read_back("image", [grey]) == [None]
    assert read_back("audio", [Audio(np.zeros((2, 19200), np.float32), 16000)]) == [None]
    nothing = TimeSeries(np.zeros((9, 64), np.float32), tuple(map(str, range(9))), 32.0)
    assert read_back("timeseries", [nothing]) == [None]
    assert read_back("video", []) == []


@pytest.mark.skipif(not speech.available(), reason="needs the synthesiser of speech")
def test_speech_is_read_by_the_recogniser():
    pytest.importorskip("pocketsphinx")
    source = Diorama("test", ["speech"], size=4)
    found = read_back("speech", [sample["speech"] for sample in source.samples(range(4))])
    result = translation_accuracy(list(source.scenes(range(4))), found, "text", "speech")
    assert result["attribute_accuracy"] > 0.8
    assert read_back("speech", [Audio(np.zeros((1, 4000), np.float32), 16000)]) == [None]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: attributes_shared("text", "smell"), UnknownName, "'smell'"),
        (lambda: attributes_shared(["text", "taste"], "image"), UnknownName, "'taste'"),
        (lambda: attributes_shared((), "image"), InvalidValue, "no source"),
        (lambda: read_back("smell", []), UnknownName, "'smell'"),
        (lambda: read_back("image", [Text("a red circle")]), InvalidValue, "of the modality text"),
        (lambda: read_back("image", [Image(np.zeros((32, 32, 3), np.uint8))]), InvalidValue, "32 x 32"),
        (
            lambda: read_back("image", [Image(np.zeros((n, 64, 3), np.uint8)) for n in (32, 64)]),
            InvalidValue,
            "one shape",
        ),
        (lambda: read_back("audio", [Audio(np.zeros((2, 9), np.float32), 8000)]), InvalidValue, "8000 Hz"),
        (lambda: translation_accuracy([], [], "text", "image"), InvalidValue, "0 scenes"),
        (lambda: translation_accuracy([Scene((Thing(0, 0, 0, 0, 0),))], [], "text", "image"), InvalidValue, "1 scenes"),
        (
            lambda: translation_accuracy([Scene((Thing(0, 0, 0, 0, 0),))], [((1, 2),)], "text", "audio"),
            InvalidValue,
            "audio tells of each: colour, column, motion, shape, size",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
