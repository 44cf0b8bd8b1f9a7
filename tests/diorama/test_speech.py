"""Speech: a clip depends on its text and voice alone, is kept on disk, and is understood by a recogniser mostly."""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

from intermodal.diorama import speech
from intermodal.diorama.scene import SPLITS, draw_scenes
from intermodal.diorama.sentences import read_text, render_texts
from intermodal.diorama.speech import (
    ACCENTS,
    SPEECH_RATE_HZ,
    UNHEARD,
    VARIANTS,
    available,
    read_speech,
    render_speech,
    resample,
    variants_of,
)
from intermodal.errors import InvalidValue, MissingExtra, UnreadableMedia

TEXTS = ("a small red star at the top", "a large blue circle on the left", "tiny cyan cross in the centre")

needs_voice = pytest.mark.skipif(not available(), reason="needs the package espeakng-loader")
needs_ear = pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="needs the package pocketsphinx"
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(shelf))
    speech._memory.clear()


@needs_voice
def test_a_clip_is_the_same_from_another_process_in_another_order_at_another_time(tmp_path, monkeypatch):
    together = render_speech(TEXTS, [1, 2, 3])
    time.sleep(1.1)  # the library would seed its noise with the second
    for name, order in (("a", (2, 0, 1)), ("b", (1,))):
        monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / name))
        speech._memory.clear()
        again = render_speech([TEXTS[i] for i in order], [i + 1 for i in order])
        for i, clip in zip(order, again, strict=True):
            np.testing.assert_array_equal(clip, together[i])


@needs_voice
def test_clips_are_sound_in_range_and_as_long_as_their_sentence():
    clips = render_speech([TEXTS[0], f"{TEXTS[0]}, {TEXTS[1]} and {TEXTS[2]}"], [5, 5])
    for clip in clips:
        assert clip.dtype == np.float32
        assert clip.shape[0] == 1
        assert 0.35 < np.abs(clip).max() <= 0.91
    assert 1 < clips[0].shape[1] / SPEECH_RATE_HZ < 4
    assert clips[1].shape[1] > 2 * clips[0].shape[1]


@needs_voice
def test_index_and_seed_vary_the_voice():
    clips = render_speech([TEXTS[0]] * 20, np.arange(20))
    assert len({clip.tobytes() for clip in clips}) == 20
    assert render_speech([TEXTS[0]], [0], seed=1)[0].shape != clips[0].shape


def test_training_never_hears_the_voices_of_the_other_splits():
    voices = {split: set(variants_of(split)) for split in SPLITS}
    assert set.union(*voices.values()) == set(VARIANTS)
    assert voices["test"] == voices["compositional"] == set(UNHEARD["test"])
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert voices[one].isdisjoint(voices[other])
    assert len(voices["train"]) >= 9
    assert {name[0] for name in voices["test"]} >= {"m", "f"}


def test_a_clip_is_spoken_by_one_of_the_voices_that_are_given(monkeypatch):
    asked: list[tuple[str, str, int, int]] = []

    def keep(requests: list[tuple[str, str, int, int]]) -> list[np.ndarray]:
        asked.extend(requests)
        return [np.zeros(4, np.int16)] * len(requests)

    monkeypatch.setattr(speech, "available", lambda: True)
    monkeypatch.setattr(speech, "_clips", keep)
    render_speech([TEXTS[0]] * 200, np.arange(200), variants=("m3", "f2"))
    assert {voice for _, voice, _, _ in asked} == {f"{a}+{v}" for a in set(ACCENTS) for v in ("m3", "f2")}
    asked.clear()
    render_speech([TEXTS[0]] * 400, np.arange(400))
    assert {voice.split("+")[1] for _, voice, _, _ in asked} == set(VARIANTS)


@needs_voice
def test_a_clip_is_spoken_once_and_then_kept_in_memory_and_on_disk(monkeypatch):
    first = render_speech(TEXTS, [11, 12, 13])

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("spoken again")

    with monkeypatch.context() as silent:
        silent.setattr(speech.subprocess, "run", refuse)
        for forget in (False, True):
            if forget:
                speech._memory.clear()
            for clip, known in zip(render_speech(TEXTS, [11, 12, 13]), first, strict=True):
                np.testing.assert_array_equal(clip, known)
        with pytest.raises(RuntimeError, match="spoken again"):
            render_speech(TEXTS, [99, 12, 13])


@needs_voice
@pytest.mark.parametrize("keep", [0, 20, 1000])
def test_a_damaged_file_is_spoken_anew(tmp_path, monkeypatch, keep):
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path))
    first = render_speech(TEXTS[:1], [1])[0]
    (file,) = tmp_path.rglob("*.wav")
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    speech._memory.clear()
    np.testing.assert_array_equal(render_speech(TEXTS[:1], [1])[0], first)
    assert file.read_bytes() == whole
    assert not list(tmp_path.rglob("*.tmp"))


@needs_voice
def test_every_voice_speaks_and_sounds_like_no_other():
    voices = sorted({f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS})
    clips = speech._clips([(TEXTS[0], voice, 170, 50) for voice in voices])
    assert all(clip.size > SPEECH_RATE_HZ for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == len(voices)


@needs_voice
def test_what_cannot_be_spoken_is_refused():
    with pytest.raises(InvalidValue, match=r"nothing to say in ' \. '"):
        render_speech(["a star", " . "], [0, 1])
    with pytest.raises(InvalidValue, match="2 texts came with 1 indices"):
        render_speech(["a", "b"], [0])
    with pytest.raises(InvalidValue, match="espeak_SetVoiceByName"):
        speech._clips([("a star", "en-us+m1", 170, 50), ("a star", "elvish", 170, 50)])


def test_an_absent_synthesiser_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not available()
    with pytest.raises(MissingExtra, match=r"pip install 'intermodal\[speech\]'"):
        render_speech(["a star"], [0])


def test_resampling_keeps_a_tone():
    def tone(rate_hz: int) -> np.ndarray:
        seconds = np.arange(rate_hz // 2) / rate_hz
        return np.sin(2 * np.pi * 440 * seconds) * np.sin(np.pi * seconds / 0.5) ** 2

    for rate_hz, to_hz in ((22050, 16000), (8000, 16000), (16000, 16000), (44100, 16000)):
        expected = tone(to_hz)
        got = resample(tone(rate_hz), rate_hz, to_hz)
        assert got.size >= expected.size
        np.testing.assert_allclose(got[: expected.size], expected, atol=1e-4)
        assert np.abs(got[expected.size :]).max(initial=0) < 1e-4


@needs_voice
@needs_ear
def test_the_recogniser_understands_a_short_sentence_at_any_rate():
    text = "a large green star at the bottom right moving up"
    clip = speech._clips([(text, "en-us+m3", 160, 50)])[0] / np.float32(32768)
    assert read_speech(clip[None]) == read_text(text)
    again = resample(clip.astype(np.float64), SPEECH_RATE_HZ, 22050).astype(np.float32)
    assert read_speech(again[None], rate_hz=22050) == read_text(text)


@needs_ear
def test_the_recogniser_refuses_what_is_no_speech():
    for samples in (
        np.zeros((1, 0), np.float32),
        np.zeros((1, 8000), np.float32),
        np.full((1, 99), np.nan, np.float32),
    ):
        with pytest.raises(UnreadableMedia):
            read_speech(samples)


@needs_voice
@needs_ear
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recogniser_understands_most_sentences():
    ids = np.arange(50)
    scenes = draw_scenes("test", ids)
    right = 0
    for scene, clip in zip(scenes, render_speech(render_texts(scenes, ids), ids), strict=True):
        try:
            right += read_speech(clip) == scene
        except UnreadableMedia:
            continue
    assert right >= 38
