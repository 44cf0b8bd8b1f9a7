"""Diorama as a source: any sample at any time, alone or in company, and what it shows is what its scene is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermodal.diorama import speech
from intermodal.diorama.picture_reader import read_image, read_video
from intermodal.diorama.scene import CARRIES, SPLITS
from intermodal.diorama.sentences import read_text
from intermodal.diorama.series import read_series
from intermodal.diorama.sounds import read_sound
from intermodal.diorama.source import FIELDS, TEST_SIZE, TRAIN_SIZE, Diorama
from intermodal.diorama.tasks import TASKS
from intermodal.errors import InvalidValue, MissingExtra, UnknownName
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES

needs_voice = pytest.mark.skipif(not speech.available(), reason="needs the package espeakng-loader")

READERS: dict[str, Callable[[Any], tuple[tuple[int, ...], ...]]] = {
    "text": lambda item: read_text(item.text).seen_by("text"),
    "image": lambda item: read_image(item.pixels).seen_by("image"),
    "video": lambda item: read_video(item.frames).seen_by("video"),
    "audio": lambda item: read_sound(item.samples),
    "timeseries": lambda item: read_series(item.values).seen_by("timeseries"),
}


def arrays(item: Any) -> list[np.ndarray]:
    return [value for value in vars(item).values() if isinstance(value, np.ndarray)]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path))
    speech._memory.clear()


def test_every_rendering_has_its_modality_and_what_it_carries() -> None:
    assert set(CARRIES) == {*MODALITIES, "speech"}
    assert set(FIELDS) == {*CARRIES, *TASKS}
    assert set(FIELDS.values()) == set(MODALITIES)
    source = Diorama("dev")
    assert source.fields == {name: name for name in MODALITIES}
    assert Diorama("dev", fields=("image", "text")).fields == {"image": "image", "text": "text"}
    for sample in source.samples(range(4)):
        assert {name: item.modality for name, item in sample.items()} == source.fields


@pytest.mark.parametrize("split", SPLITS)
def test_every_sample_reads_back_as_its_scene(split: str) -> None:
    source = Diorama(split, size=40)
    index = range(0, 40, 2)
    for scene, sample in zip(source.scenes(index), source.samples(index), strict=True):
        for name, read in READERS.items():
            assert read(sample[name]) == scene.seen_by(name), f"{name} of {scene}"


def test_splits_show_the_scenes_of_their_own() -> None:
    for split in SPLITS:
        assert Diorama(split).scenes(range(50)).belongs_to(split).all()


def test_keys_are_what_all_fields_tell() -> None:
    source = Diorama("test")
    scenes = list(source.scenes([5, 2]))
    assert source.keys([5, 2], "audio", "timeseries") == [s.seen_by("audio", "timeseries") for s in scenes]
    assert source.keys([5], "text") != source.keys([5], "timeseries")


def test_a_sample_is_the_same_alone_in_any_batch_and_from_another_source() -> None:
    batch = Diorama("train").samples([1, 3, 1])
    for sample in (Diorama("train").samples([3])[0], Diorama("train", fields=("video", "audio")).samples([3, 9])[0]):
        for name, item in sample.items():
            assert item.content_hash() == batch[1][name].content_hash()
    for name, item in batch[0].items():
        assert item.content_hash() == batch[2][name].content_hash() != batch[1][name].content_hash()


def test_seed_and_variation_change_what_they_say() -> None:
    first, other, again = (Diorama("dev", **how) for how in ({}, {"seed": 1}, {"variation": 1}))
    index = range(3)
    assert first.keys(index, "video") != other.keys(index, "video")
    assert first.keys(index, "video") == again.keys(index, "video")
    for name in first.fields:
        pairs = zip(first.samples(index), again.samples(index), strict=True)
        assert any(a[name].content_hash() != b[name].content_hash() for a, b in pairs), name
    assert [read_image(s["image"].pixels).seen_by("image") for s in again.samples(index)] == again.keys(index, "image")


def test_items_are_read_only_views() -> None:
    for item in Diorama("dev").samples([0])[0].values():
        for array in arrays(item):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


def test_sizes_and_numbers_beyond_them() -> None:
    assert (len(Diorama("train")), len(Diorama("test")), len(Diorama("dev", size=7))) == (TRAIN_SIZE, TEST_SIZE, 7)
    small = Diorama("dev", fields=("text",), size=7)
    assert small.samples([9])[0]["text"].text == small.samples([2])[0]["text"].text
    described = json.loads(json.dumps(Diorama("dev", fields=("text",), size=7, seed=3).describe()))
    assert described == {"name": "diorama", "split": "dev", "count": 7, "seed": 3, "fields": {"text": "text"}}


def test_its_vocabulary_knows_every_word() -> None:
    tokenizer = WordTokenizer(words=Diorama.vocabulary)
    for split in SPLITS:
        for sample in Diorama(split, fields=("text",)).samples(range(100)):
            assert tokenizer.unknown_id not in tokenizer.encode(sample["text"].text)


def test_fields_that_ask_for_something_are_given_where_they_are_asked_for():
    fields = ("restyled", "image", "mask", "answer", "clip_question", "tone")
    source = Diorama("dev", fields=fields, variation=2)
    assert tuple(source.fields) == fields
    batch = source.samples([4, 11])
    assert [tuple(sample) for sample in batch] == [fields, fields]
    assert {name: item.modality for name, item in batch[0].items()} == source.fields
    alone = Diorama("dev", fields=fields, variation=2).samples([11])[0]
    again = Diorama("dev", fields=fields, variation=3).samples([11])[0]
    for name in fields:
        assert alone[name].content_hash() == batch[1][name].content_hash()
    assert any(again[name].content_hash() != alone[name].content_hash() for name in ("answer", "clip_question"))
    assert again["tone"].content_hash() != alone["tone"].content_hash()


def test_the_truth_behind_them_can_be_had():
    fields = ("question", "answer", "clip_question", "clip_answer", "phrase", "mask", "restyled", "palette")
    source = Diorama("test", fields=fields, seed=2, variation=1)
    index = [7, 1003, 2]
    samples = source.samples(index)
    for field, answer in (("question", "answer"), ("clip_question", "clip_answer")):
        asked = source.asked(index, field)
        assert [(q.text, q.answer) for q in asked] == [(s[field].text, s[answer].text) for s in samples]
    for sample, one, scene in zip(samples, source.pointed(index), source.scenes(index), strict=True):
        x0, y0, x1, y1 = one.box
        white = sample["mask"].pixels == 255
        assert sample["phrase"].text == one.phrase
        assert one.thing in scene.things
        assert white[y0:y1, x0:x1].sum() == white.sum() > 0
    for name, truth in (("restyled", source.restyled_scenes(index)), ("palette", source.palette_scenes(index))):
        assert [read_image(s[name].pixels).seen_by("image") for s in samples] == [x.seen_by("image") for x in truth]
    with pytest.raises(UnknownName, match="'mask'; use one of: audio, image"):
        source.keys(index, "image", "mask")


def test_words_of_questions_are_in_the_vocabulary_where_there_are_questions():
    assert Diorama("dev").vocabulary == Diorama.vocabulary
    assert Diorama("dev", fields=("text", "mask")).vocabulary == Diorama.vocabulary
    source = Diorama("dev", fields=("text", "question", "answer", "phrase"))
    assert source.vocabulary[: len(Diorama.vocabulary)] == Diorama.vocabulary
    tokenizer = WordTokenizer(words=source.vocabulary)
    for sample in source.samples(range(50)):
        for item in sample.values():
            assert tokenizer.unknown_id not in tokenizer.encode(item.text)


def test_each_split_speaks_with_its_own_voices(monkeypatch):
    given = {}

    def keep(texts: list[str], ids: Any, seed: int, variants: tuple[str, ...]) -> list[np.ndarray]:
        given[split] = variants
        return [np.zeros((1, 8), np.float32)] * len(texts)

    monkeypatch.setattr(speech, "available", lambda: True)
    monkeypatch.setattr(speech, "render_speech", keep)
    for split in SPLITS:
        Diorama(split, fields=("speech",)).samples([0])
    assert given == {split: speech.variants_of(split) for split in SPLITS}


@needs_voice
def test_speech_is_given_where_it_is_asked_for(own_cache: None) -> None:
    source = Diorama("test", fields=("text", "speech"))
    assert source.fields == {"text": "text", "speech": "audio"}
    batch = source.samples([4, 1])
    assert batch[0]["speech"].sample_rate_hz == speech.SPEECH_RATE_HZ
    assert batch[0]["speech"].content_hash() == source.samples([4])[0]["speech"].content_hash()
    assert batch[0]["speech"].content_hash() != batch[1]["speech"].content_hash()


def test_speech_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "available", lambda: False)
    with pytest.raises(MissingExtra, match=r"intermodal\[speech\]"):
        Diorama("test", fields=("text", "speech"))
    assert "speech" not in Diorama("test").fields


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(UnknownName, match="'validation'; use one of: compositional, dev, test, train"):
        Diorama("validation")
    with pytest.raises(UnknownName, match="'smell'.*image, joint_answer.*speech, text"):
        Diorama("dev", fields=("text", "smell"))
    for size in (0, -3):
        with pytest.raises(InvalidValue, match=f"of {size} samples"):
            Diorama("dev", size=size)
