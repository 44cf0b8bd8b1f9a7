"""Sentences: short, varied, the same in any batch, read back exactly; what cannot be read is refused with a reason."""

import re
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.scene import MOTIONS, SHAPES, Scene, Scenes, Thing, draw_scenes
from intermodal.diorama.sentences import VOCABULARY, describe, jsgf, read_text, render_texts
from intermodal.errors import UnreadableMedia


def _symbols(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[^a-z ]", text)


def _check(count: int) -> None:
    ids = np.arange(count)
    scenes = draw_scenes("train", ids)
    for scene, text in zip(scenes, render_texts(scenes, ids), strict=True):
        assert read_text(text) == scene, text
        assert read_text(describe(scene)) == scene


def test_a_thousand_sentences_are_read_back():
    _check(1000)


@pytest.mark.slow
def test_thirty_thousand_sentences_are_read_back():
    _check(30_000)


def test_a_scene_reads_the_same_alone_and_in_any_batch_and_seeds_word_it_otherwise():
    ids = np.arange(500, 600)
    scenes = draw_scenes("test", ids)
    batch = render_texts(scenes, ids)
    assert render_texts(scenes.take([7]), [507]) == [batch[7]]
    order = np.random.default_rng(0).permutation(100)
    assert render_texts(scenes.take(order), ids[order]) == [batch[i] for i in order]
    assert sum(a != b for a, b in zip(batch, render_texts(scenes, ids, seed=1), strict=True)) > 90
    assert sum(a != b for a, b in zip(batch, render_texts(scenes, ids + 1), strict=True)) > 90


def test_the_vocabulary_is_exactly_what_occurs():
    ids = np.arange(6000)
    occurring = {symbol for text in render_texts(draw_scenes("train", ids), ids) for symbol in _symbols(text)}
    scenes = draw_scenes("compositional", ids[:2000])  # shows the pairs that the train split leaves out
    occurring |= {symbol for text in render_texts(scenes, ids[:2000]) for symbol in _symbols(text)}
    assert tuple(sorted(occurring)) == VOCABULARY
    assert len(VOCABULARY) <= 120
    assert all(re.fullmatch(r"[a-z]+|[,;]", symbol) for symbol in VOCABULARY)


def test_sentences_are_short():
    ids = np.arange(5000)
    scenes = draw_scenes("train", ids)
    lengths = np.array([len(_symbols(text)) for text in render_texts(scenes, ids)])
    assert lengths.max() <= 32
    assert lengths.mean() < 25
    assert (lengths[scenes.present.sum(axis=1) == 1] <= 10).all()


def test_the_order_of_the_objects_is_drawn_anew():
    ids = np.arange(3000)
    scenes = draw_scenes("train", ids)
    three = np.flatnonzero(scenes.present.all(axis=1))
    texts = render_texts(scenes, ids)
    first_is_first = []
    for i in three:
        cells = [int(c) for c in scenes.cell[i]]
        pieces = re.split(r" and |, | with |; ", texts[i])
        first_is_first.append(read_text(pieces[0]).things[0].cell == cells[0])
    assert np.mean(first_is_first) == pytest.approx(1 / 3, abs=0.05)


def test_motion_and_stillness_have_several_wordings():
    for motion in range(len(MOTIONS)):
        scene = Scene((Thing(cell=4, shape=0, colour=0, size=0, motion=motion),))
        texts = render_texts(Scenes.of([scene] * 300), np.arange(300))
        assert len(set(texts)) > 50
        assert all(read_text(text) == scene for text in texts)


def test_describe_is_plain_english():
    scene = Scene((Thing(0, 0, 0, 0, 3), Thing(4, 4, 5, 1, 0), Thing(7, 3, 6, 1, 1)))
    assert describe(scene) == (
        "a small red circle at the top left moving up, a large blue star in the centre "
        "and a large purple diamond at the bottom moving left"
    )


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("a red circle, small, in the top left corner moving up", Thing(0, 0, 0, 0, 3)),
        ("  SMALL   Red circle:  Top-Left!! moving UP. ", Thing(0, 0, 0, 0, 3)),
        ("There is a tiny violet plus; it is in the center, and it is not moving", Thing(4, 5, 6, 0, 0)),
        ("at the bottom a huge, white, rhombus heading to the top", Thing(7, 3, 7, 1, 3)),
        ("a big green square that moves towards the right on the left side", Thing(3, 1, 3, 1, 2)),
        ("moving down: a little cyan triangle at the upper right", Thing(2, 2, 4, 0, 4)),
        ("an orange star which is large stands still in the middle of the picture", Thing(4, 4, 1, 1, 0)),
    ],
)
def test_people_may_say_it_otherwise(text, thing):
    assert read_text(text) == Scene((thing,))


def test_objects_are_told_apart_without_joiners_and_with_commas_inside():
    one, other = Thing(0, 0, 0, 0, 3), Thing(5, 4, 5, 1, 0)
    for text in (
        "small red circle top left moving up large blue star on the right",
        "a small red circle, at the top left, moving up, and a large blue star, on the right",
        "a circle, small, red, top left, moving up; a star, large, blue, on the right",
        "at top left a small red circle moving up a large blue star on the right",
    ):
        assert read_text(text) == Scene((one, other)), text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a small red circle", "no place is named for the small red circle"),
        ("a small circle at the top", "no colour is named for the small circle"),
        ("a red circle at the top", "no size is named for the red circle"),
        ("a small red thing at the top", "the word 'thing' is not known"),
        ("a small red at the top", "0 shapes are named"),
        ("", "0 shapes are named"),
        ("a pink circle at the top", "the word 'pink' is not known"),
        ("a small red circle moving at the top", "no direction is named after 'moving'"),
        ("a small red circle at the top bottom", "in two cells at once"),
        ("a small large red circle at the top", "more than one size is named"),
        ("a small red circle at the top moving left and moving up", "more than one motion is named"),
        ("a small red circle at the top and a small red star at the top", "two objects stand at the top centre"),
        (", ".join(f"a small red {shape} at the top" for shape in SHAPES[:4]), "4 shapes are named"),
        ("a small red circle " + ", " * 5000 + " star", "5004 words|has 5005 words"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text, reason):
    with pytest.raises(UnreadableMedia, match=reason):
        read_text(text)


@given(st.lists(st.sampled_from((*VOCABULARY, "circle", "star", "not", "bird")), max_size=40))
def test_any_words_are_a_scene_or_are_refused(words):
    with suppress(UnreadableMedia):
        scene = read_text(" ".join(words))
        assert read_text(describe(scene)) == scene


@given(st.text(max_size=60))
def test_any_text_without_a_shape_is_refused(text):
    if not any(name in text.lower() for name in (*SHAPES, "disc", "plus", "rhombus")):
        with pytest.raises(UnreadableMedia):
            read_text(text)


def test_five_thousand_sentences_take_less_than_a_second():
    ids = np.arange(5000)
    scenes = draw_scenes("train", ids)
    started = time.perf_counter()
    render_texts(scenes, ids)
    assert time.perf_counter() - started < 1


def test_the_recognisers_grammar_has_every_word_and_no_other():
    spoken = {word for word in VOCABULARY if word.isalpha()}
    rules = jsgf().split("grammar diorama;")[1]
    words = set(re.findall(r"[a-z]+", re.sub(r"<[a-z]+>|public", "", rules)))
    assert words == spoken
