"""Fields that ask for something: what is asked for is given, in words that are known, and shared draws agree."""

import numpy as np
import pytest

from intermodal.diorama.picture_reader import read_image
from intermodal.diorama.pictures import render_images, silhouettes
from intermodal.diorama.pointing import choose, pointed
from intermodal.diorama.questions import KINDS
from intermodal.diorama.restyling import draw_restyling
from intermodal.diorama.scene import SPLITS, Scenes, draw_scenes
from intermodal.diorama.sounds import LENGTH, RATE_HZ
from intermodal.diorama.tasks import ASKING, TASK_VOCABULARY, TASKS, draw_asked, render_tasks
from intermodal.errors import UnknownName
from intermodal.tokenizers.word import WordTokenizer

IDS = np.arange(300)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes("test", IDS)


def test_every_field_is_given_in_its_modality(scenes):
    made = render_tasks(TASKS, "test", scenes, IDS, 3)
    assert {name: {item.modality for item in items} for name, items in made.items()} == {
        name: {modality} for name, modality in TASKS.items()
    }
    assert {len(items) for items in made.values()} == {len(IDS)}
    for name in ("mask", "palette", "restyled"):
        assert made[name][0].pixels.shape == (64, 64, 3)
    assert (made["tone"][0].samples.shape, made["tone"][0].sample_rate_hz) == ((2, LENGTH), RATE_HZ)


@pytest.mark.parametrize("name", TASKS)
def test_a_field_is_the_same_alone_with_others_and_in_another_batch(scenes, name):
    rows = [40, 8]
    alone = render_tasks((name, "text"), "test", scenes.take(rows), IDS[rows], 0)
    together = render_tasks(TASKS, "test", scenes.take(range(60)), IDS[:60], 0)[name]
    assert list(alone) == [name]
    assert [i.content_hash() for i in alone[name]] == [together[k].content_hash() for k in rows]
    again = render_tasks((name,), "test", scenes.take(range(60)), IDS[:60], 1)[name]
    assert any(a.content_hash() != b.content_hash() for a, b in zip(again, together, strict=True))


def test_questions_and_answers_belong_together_and_motion_is_asked_of_clips_alone(scenes):
    made = render_tasks(TASKS, "test", scenes, IDS, 0)
    for field, answer in (("question", "answer"), ("clip_question", "clip_answer")):
        asked = draw_asked(field, scenes, IDS, 0)
        assert [item.text for item in made[field]] == [question.text for question in asked]
        assert [item.text for item in made[answer]] == [question.answer for question in asked]
        assert {question.kind for question in asked} == set(ASKING[field])
        assert all(question.answerable_from("image" if field == "question" else "video") for question in asked)
    assert (ASKING["question"], ASKING["clip_question"]) == (KINDS[:-1], KINDS)
    with pytest.raises(UnknownName, match="'answer'; use one of: clip_question, joint_question, question"):
        draw_asked("answer", scenes, IDS, 0)


def test_phrase_mask_and_tone_are_of_one_object(scenes):
    made = render_tasks(("mask", "phrase"), "test", scenes, IDS, 0)
    masks = np.stack([item.pixels for item in made["mask"]])
    slot, _ = choose(scenes, IDS)
    np.testing.assert_array_equal(masks, silhouettes(scenes, slot, IDS)[..., None] * np.full(3, 255, np.uint8))
    assert [item.text for item in made["phrase"]] == [one.phrase for one in pointed(scenes, IDS)]
    bright = render_images(scenes, IDS).max(axis=-1) > 110
    assert (bright | (masks[..., 0] == 0)).mean(axis=(1, 2)).min() > 0.995  # what is masked stands out of the ground


def test_the_restyled_picture_is_the_scene_in_the_colour_of_the_palette(scenes):
    made = render_tasks(("restyled", "palette"), "test", scenes, IDS, 0)
    drawn = draw_restyling("test", scenes, IDS)
    for name, truth in (("restyled", drawn.restyled), ("palette", drawn.palettes)):
        for item, scene in zip(made[name][:50], truth, strict=False):
            assert read_image(item.pixels).seen_by("image") == scene.seen_by("image")


def test_its_vocabulary_is_the_words_it_says():
    said = set()
    tokenizer = WordTokenizer(words=TASK_VOCABULARY)
    for split in SPLITS:
        made = render_tasks(TASKS, split, draw_scenes(split, IDS), IDS, 0)
        for name in (name for name, modality in TASKS.items() if modality == "text"):
            for item in made[name]:
                ids = tokenizer.encode(item.text)
                assert tokenizer.unknown_id not in ids
                said.update(ids)
    assert len(said - {0, 1, 2}) == len(TASK_VOCABULARY)
