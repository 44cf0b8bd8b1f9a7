"""Questions about two renderings: right, asked of both, not answered by either alone; and the steps that are."""

from collections import Counter

import numpy as np
import pytest

from intermodal.diorama.joining import JOINT, KINDS, STEP_SHARE, draw_joined, guessed
from intermodal.diorama.questions import Question
from intermodal.diorama.scene import CELLS, COLOURS, MOTIONS, SHAPES, SPLITS, Scene, Scenes, Thing, draw_scenes
from intermodal.diorama.source import Diorama
from intermodal.diorama.tasks import CHOICES

IDS = np.arange(4_000)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes("test", IDS)


def truth(scene: Scene, text: str) -> set[str]:
    """Returns every answer that is right about a thing which fits the words; written apart from what asks."""
    words = text.removesuffix("?").split()
    said = {
        name: [values.index(word) for word in words if word in values]
        for name, values in (("colour", COLOURS), ("shape", SHAPES), ("motion", MOTIONS))
    }
    if "at" in words:  # left and right are no motions then
        said = {"cell": [i for i, cell in enumerate(CELLS) if f"at the {cell}" in text]}
    fits = [t for t in scene.things if all(not v or getattr(t, name) == v[0] for name, v in said.items())]
    assert fits
    if words[0] == "where":
        return {CELLS[t.cell] for t in fits}
    if words[0] == "what":
        return {COLOURS[t.colour] if words[1] == "colour" else SHAPES[t.shape] for t in fits}
    return {MOTIONS[t.motion] for t in fits}


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_is_right_and_the_only_one(split: str) -> None:
    scenes = draw_scenes(split, IDS)
    for scene, question in zip(scenes, draw_joined(scenes, IDS, 3), strict=True):
        assert truth(scene, question.text) == {question.answer}, (scene, question)
        assert question.answer in CHOICES["joint_answer"]
        assert question.answerable_from("video")
        alone = [question.answerable_from(name) for name in ("image", "timeseries")]
        assert sum(alone) == (0 if question.kind in JOINT else 1)


def test_all_kinds_and_all_answers_are_asked_for(scenes: Scenes) -> None:
    asked = draw_joined(scenes, IDS, 0)
    count = Counter(question.kind for question in asked)
    assert set(count) == set(KINDS)
    joint = sum(count[kind] for kind in JOINT)
    assert abs(joint / len(asked) - (1 - STEP_SHARE)) < 0.03
    assert 0.45 < count[JOINT[0]] / joint < 0.62  # nothing moves in a way of its own in some scenes
    steps = [question for question in asked if question.kind not in JOINT]
    assert 0.45 < np.mean([question.answerable_from("image") for question in steps]) < 0.65
    assert {question.answer for question in asked} == set(CHOICES["joint_answer"])
    assert asked[7:9] == draw_joined(scenes.take([7, 8]), IDS[7:9], 0)
    assert asked != draw_joined(scenes, IDS, 1)


def test_a_guess_from_one_of_them_is_as_good_as_the_scene_allows(scenes: Scenes) -> None:
    star = Thing(cell=0, shape=4, colour=5, size=0, motion=3)
    cross = Thing(cell=8, shape=5, colour=5, size=1, motion=0)
    pair = Scene((star, cross))
    follow = Question("how does the star move?", "up", "follow", frozenset(("motion", "shape")))
    find = Question("what colour is the thing moving up?", "blue", "find", frozenset(("motion", "colour")))
    assert [guessed(pair, follow, name) for name in ("image", "timeseries", "video")] == [0.0, 0.5, 1.0]
    assert [guessed(pair, find, name) for name in ("image", "timeseries", "video")] == [1.0, 0.0, 1.0]
    asked = zip(scenes, draw_joined(scenes, IDS, 0), strict=True)
    joint = [(scene, question) for scene, question in asked if question.kind in JOINT]
    for field in ("image", "timeseries"):
        found = np.mean([guessed(s, q, field) for s, q in joint])
        assert found < 0.45


def test_all_that_look_alike_are_asked_about_too() -> None:
    looks = {"shape": 1, "colour": 2, "size": 0}
    alike = [Thing(cell=cell, motion=motion, **looks) for cell, motion in ((0, 0), (4, 3), (8, 3))]
    still = [Thing(cell=cell, motion=0, **looks) for cell in (0, 4)]
    for things in (alike, still):
        arrays = {name: np.zeros((1, 3), np.int64) for name in ("shape", "colour", "size", "cell", "motion")}
        present = np.arange(3)[None] < len(things)
        for k, thing in enumerate(things):
            for name, column in arrays.items():
                column[0, k] = getattr(thing, name)
        scenes = Scenes(present=present, **arrays)
        for seed in range(20):
            (question,) = draw_joined(scenes, np.array([0]), seed)
            assert truth(scenes[0], question.text) == {question.answer}


def test_the_data_source_gives_them_together() -> None:
    source = Diorama("dev", fields=("image", "timeseries", "joint_question", "joint_answer"), size=20)
    samples = source.samples(range(20))
    asked = source.asked(range(20), "joint_question")
    assert [s["joint_question"].text for s in samples] == [q.text for q in asked]
    assert [s["joint_answer"].text for s in samples] == [q.answer for q in asked]
    assert source.choices("joint_answer") == CHOICES["joint_answer"]
