"""Questions: unambiguous, answered rightly by an independent look at the scene, balanced, giving no pair away."""

import re
from collections import Counter

import numpy as np
import pytest

from intermodal.diorama.questions import (
    ANSWERS,
    KINDS,
    NUMBERS,
    QUESTION_VOCABULARY,
    Question,
    draw_questions,
    kinds_answerable_from,
    questions,
)
from intermodal.diorama.scene import (
    CARRIES,
    CELLS,
    COLOURS,
    HELD_OUT,
    MOTIONS,
    SHAPES,
    SIZES,
    SPLITS,
    Scene,
    Scenes,
    Thing,
    draw_scenes,
)
from intermodal.errors import InvalidValue, UnknownName

MANY = 2000


@pytest.fixture(scope="module")
def asked() -> list[tuple[Scene, Question]]:
    """Returns many scenes with their questions."""
    scenes = draw_scenes("train", np.arange(MANY))
    return [(scene, question) for i, scene in enumerate(scenes) for question in questions(scene, i)]


def _matching(scene: Scene, words: str) -> list[Thing]:
    """Returns the things that a description such as "the small red thing" is true of; written anew, from the words."""
    found = list(scene.things)
    for word in words.split():
        for name, values in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES)):
            for value, said in enumerate(values):
                if word == said:
                    found = [thing for thing in found if getattr(thing, name) == value]
    return found


def _answer(scene: Scene, question: Question) -> str:
    """Returns the answer, found by reading the question and looking at the scene."""
    text = question.text
    if text.startswith("how many"):
        singular = re.sub(r"(circle|square|triangle|diamond|star|cross)e?s\b", r"\1", text)
        return NUMBERS[len(_matching(scene, singular.rstrip("?")))]
    if text.startswith("is there"):
        return "yes" if _matching(scene, text.rstrip("?")) else "no"
    if relation := re.fullmatch(r"is (.*) (to the left of|to the right of|above|below) (.*)\?", text):
        one, other = (_matching(scene, relation[k]) for k in (1, 3))
        assert len(one) == len(other) == 1, text
        a, b = one[0], other[0]
        holds = {
            "to the left of": a.column < b.column,
            "to the right of": a.column > b.column,
            "above": a.row < b.row,
            "below": a.row > b.row,
        }[relation[2]]
        return "yes" if holds else "no"
    (thing,) = _matching(scene, re.sub(r"what (size|colour|shape)", "", text).rstrip("?"))
    if text.startswith("where"):
        return CELLS[thing.cell]
    if "move" in text:
        return MOTIONS[thing.motion]
    asked = re.match(r"what (size|colour|shape)", text)
    assert asked
    return {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[asked[1]][getattr(thing, asked[1])]


def test_every_answer_is_right(asked):
    for scene, question in asked:
        assert _answer(scene, question) == question.answer, (str(scene), question)


def test_every_kind_is_asked_and_every_answer_given(asked):
    assert {question.kind for _, question in asked} == set(KINDS)
    assert {question.answer for _, question in asked} == set(ANSWERS)
    assert len(set(ANSWERS)) == len(ANSWERS)
    words = {word for _, question in asked for word in re.findall(r"[a-z]+|\?", question.text)}
    assert words == set(QUESTION_VOCABULARY)


def test_yes_and_no_are_equally_likely_whatever_the_scene(asked):
    for kind in ("existence", "relation"):
        by_count: dict[int, list[bool]] = {}
        for scene, question in asked:
            if question.kind == kind:
                by_count.setdefault(len(scene.things), []).append(question.answer == "yes")
        for answers in by_count.values():
            sigmas = abs(sum(answers) - len(answers) / 2) / (len(answers) ** 0.5 / 2)
            assert sigmas < 3.5


def test_the_words_of_a_question_do_not_tell_its_answer(asked):
    """Nothing to learn from the question alone: beyond chance, each word goes with yes as often as with no."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for _, question in asked:
        if question.kind in ("existence", "relation"):
            for word in set(question.text.split()):
                counts.setdefault((question.kind, word), Counter())[question.answer] += 1
    assert len(counts) > 30
    for key, answers in counts.items():
        assert abs(answers["yes"] - answers["no"]) < 4 * answers.total() ** 0.5, (key, answers)


def test_numbers_and_directions_are_balanced(asked):
    for kind, options in (("count", NUMBERS), ("motion", MOTIONS)):
        answers = Counter(question.answer for _, question in asked if question.kind == kind)
        for option in options:
            assert answers[option] / answers.total() == pytest.approx(1 / len(options), abs=0.03)


def test_the_same_numbers_give_the_same_questions_whatever_kinds_are_asked():
    scene = draw_scenes("dev", [4])[0]
    every = questions(scene, 9)
    assert questions(scene, 9) == every
    assert [q for kind in KINDS for q in questions(scene, 9, kinds=(kind,))] == every
    assert len({tuple(questions(scene, i)) for i in range(50)}) > 45
    assert questions(scene, 9, seed=1) != every


def test_things_that_cannot_be_told_apart_are_not_asked_about():
    twins = Scene((Thing(0, 0, 0, 0, 1), Thing(8, 0, 0, 0, 2)))
    for i in range(50):
        assert {q.kind for q in questions(twins, i)} <= {"count", "existence"}
    side_by_side = Scene((Thing(0, 0, 0, 0, 1), Thing(1, 1, 0, 0, 2)))
    for i in range(50):
        assert not re.search("above|below", " ".join(q.text for q in questions(side_by_side, i)))


def test_what_an_answer_needs_is_named():
    scenes = draw_scenes("train", np.arange(300))
    for i, scene in enumerate(scenes):
        for question in questions(scene, i):
            assert question.answerable_from("text")
            assert question.answerable_from("image") == ("motion" not in question.carries)
            assert question.answerable_from("audio") == ("row" not in question.carries)
            assert ("motion" in question.carries) == (question.kind == "motion")
            for name, values in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES)):
                if set(re.findall("[a-z]+", question.text)) & {name, *values}:
                    assert name in question.carries
    with pytest.raises(UnknownName, match="smell"):
        question.answerable_from("smell")
    assert set(CARRIES) >= {"text", "image", "audio"}


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_pairs_are_named_only_where_they_are(split):
    pairs = [(SHAPES[shape], COLOURS[colour]) for shape, colour in HELD_OUT]
    named = 0
    for i, scene in enumerate(draw_scenes(split, np.arange(800))):
        there = {(SHAPES[thing.shape], COLOURS[thing.colour]) for thing in scene.things}
        for question in questions(scene, i):
            for shape, colour in pairs:
                if f"{colour} {shape}" in question.text:
                    named += 1
                    assert (shape, colour) in there
    assert (named > 0) == (split == "compositional")


@pytest.mark.parametrize("kinds", [KINDS, kinds_answerable_from("image")])
def test_one_question_of_each_scene_in_balance_and_right(kinds):
    ids = np.arange(4000)
    scenes = draw_scenes("train", ids)
    drawn = draw_questions(scenes, ids, kinds=kinds)
    counts = Counter(question.kind for question in drawn)
    for kind in kinds:
        assert counts[kind] / len(ids) == pytest.approx(1 / len(kinds), rel=0.1)
    assert counts.keys() == set(kinds)
    for scene, question in zip(scenes, drawn, strict=True):
        assert _answer(scene, question) == question.answer, (str(scene), question)
    by_kind = {kind: Counter(q.answer for q in drawn if q.kind == kind) for kind in kinds}
    for kind, options in (("count", NUMBERS), ("motion", MOTIONS), ("existence", "yes no"), ("relation", "yes no")):
        answers = options.split() if isinstance(options, str) else options
        for answer in answers if kind in kinds else ():
            share = by_kind[kind][answer] / by_kind[kind].total()
            assert share == pytest.approx(1 / len(answers), abs=0.06), (kind, answer)


def test_one_question_is_the_same_in_any_batch_and_another_with_seed_index_and_kinds():
    ids = np.arange(60)
    scenes = draw_scenes("dev", ids)
    drawn = draw_questions(scenes, ids)
    assert draw_questions(scenes.take([7, 3]), ids[[7, 3]]) == [drawn[7], drawn[3]]
    for other in (draw_questions(scenes, ids, seed=1), draw_questions(scenes, ids + 1000)):
        assert sum(a == b for a, b in zip(drawn, other, strict=True)) < 20
    picture = draw_questions(scenes, ids, kinds=KINDS[:4])
    assert sum(a == b for a, b in zip(drawn, picture, strict=True)) < 20
    alike = Scenes.of([Scene((Thing(0, 0, 0, 0, 1), Thing(8, 0, 0, 0, 2)))] * 40)  # nothing else can be asked
    assert {question.kind for question in draw_questions(alike, ids[:40])} == {"count", "existence"}


def test_what_can_always_be_answered_is_what_no_question_asks_more_of(asked):
    need = {kind: frozenset().union(*(q.carries for _, q in asked if q.kind == kind)) for kind in KINDS}
    for field, carried in CARRIES.items():
        assert kinds_answerable_from(field) == tuple(kind for kind in KINDS if need[kind] <= carried), field
    assert kinds_answerable_from("image") == KINDS[:4]
    assert kinds_answerable_from("video") == KINDS
    with pytest.raises(UnknownName, match="smell"):
        kinds_answerable_from("smell")


def test_questions_that_cannot_be_drawn_are_refused():
    scenes = draw_scenes("dev", [0, 1])
    with pytest.raises(UnknownName, match="riddle"):
        draw_questions(scenes, [0, 1], kinds=("count", "riddle"))
    with pytest.raises(InvalidValue, match="relation, motion leave scenes without"):
        draw_questions(scenes, [0, 1], kinds=("relation", "motion"))
    with pytest.raises(InvalidValue, match="2 scenes came with 1 indices"):
        draw_questions(scenes, [0])


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match="'riddle'.*attribute, count, existence, motion, relation"):
        questions(draw_scenes("dev", [0])[0], kinds=("riddle",))
