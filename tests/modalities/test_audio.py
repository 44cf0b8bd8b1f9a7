import base64
import copy
import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.spectrogram import SILENCE
from intermodal.modalities.audio import ITEM, PREPROCESSOR, Audio, AudioPreprocessor
from intermodal.types import Grid, Preprocessor

RATE = 16_000


def noise(samples: int = 8000, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, samples)).astype(np.float32)


def tone(hz: float, seconds: float = 1.2, rate: int = RATE, channels: int = 1) -> Audio:
    t = np.arange(round(seconds * rate)) / rate
    return Audio((0.4 * np.sin(2 * np.pi * hz * t)).astype(np.float32)[None].repeat(channels, axis=0), rate)


def pitch(sound: Audio, channel: int = 0) -> float:
    samples = sound.samples[channel]
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()) * sound.sample_rate_hz / len(samples)


def test_samples_become_float32_channels_first() -> None:
    for samples in (np.zeros(5), np.zeros((1, 5), np.float32), np.zeros(5, np.float16), np.zeros((1, 5), np.int16)):
        sound = Audio(samples, RATE)
        assert (sound.samples.shape, sound.samples.dtype) == ((1, 5), np.float32)
    np.testing.assert_array_equal(Audio(np.array([-32768, 16384], np.int16), RATE).samples, [[-1.0, 0.5]])
    np.testing.assert_array_equal(Audio(np.array([1.0005, -1.0005]), RATE).samples, [[1.0, -1.0]])
    assert Audio(np.zeros(8), 8000).seconds == 0.001


@pytest.mark.usefixtures("_without_shape_checks")
def test_a_rate_of_another_type_becomes_an_int() -> None:
    for rate in (np.int64(8000), 8000.0):
        assert type(Audio(np.zeros(8), rate).sample_rate_hz) is int  # type: ignore[arg-type]


@pytest.fixture
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets wrong types reach the package, as they do outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((1, 0)), RATE, r"shape \(1, 0\)"),
        (np.zeros((9, 4)), RATE, r"shape \(9, 4\); expected \(channels, samples\) with 1 to 8 channels"),
        (np.zeros((1, 2, 3)), RATE, r"shape \(1, 2, 3\)"),
        (np.array([0.0, np.nan]), RATE, "NaN or infinite"),
        (np.array([0.0, -np.inf]), RATE, "NaN or infinite"),
        (np.array([0.0, 3.5]), RATE, r"reach 3\.5, expected -1 to 1; divide them by their peak"),
        (np.zeros(4, np.int32), RATE, "not an array of int32"),
        ([0.0, 0.1], RATE, "not list"),
        (np.zeros(4), 999, "sample_rate_hz is 999"),
        (np.zeros(4), "8000", "sample_rate_hz is '8000'"),
        (np.zeros(4), float("nan"), "sample_rate_hz is nan"),
        (np.zeros(4), 8000.5, r"sample_rate_hz is 8000\.5"),
    ],
)
@pytest.mark.usefixtures("_without_shape_checks")
def test_what_is_no_sound_is_refused(samples: object, rate: object, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Audio(samples, rate)  # type: ignore[arg-type]


def test_a_sound_cannot_change() -> None:
    samples = noise()
    sound = Audio(samples, RATE)
    samples[:] = 0
    assert sound.samples.std() > 0.1
    with pytest.raises(ValueError, match="read-only"):
        sound.samples[0, 0] = 1
    with pytest.raises(FrozenInstanceError):
        sound.sample_rate_hz = 1  # type: ignore[misc]
    fixed = noise()
    fixed.setflags(write=False)
    assert Audio(fixed, RATE).samples is fixed  # no copy


def test_equal_sounds_are_equal() -> None:
    sound = Audio(noise(), RATE)
    for twin in (Audio(noise(), RATE), copy.deepcopy(sound), pickle.loads(pickle.dumps(sound))):
        assert twin == sound
        assert hash(twin) == hash(sound)
        assert twin.content_hash() == sound.content_hash()
        assert not twin.samples.flags.writeable
    others = [
        Audio(noise(seed=1), RATE),
        Audio(noise(), 8000),
        Audio(noise(channels=2), RATE),
        Audio(noise(7999), RATE),
    ]
    assert len({sound, *others}) == 5
    assert re.fullmatch("[0-9a-f]{64}", sound.content_hash())
    assert sound != "sound"
    assert repr(sound) == "Audio(0.500 s, channels: 1, 16000 Hz)"


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_saved_without_loss(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    sound = Audio((noise(4000, channels) * 32767).astype(np.int16), rate)
    path = sound.save(tmp_path / f"sound.{kind}")
    assert Audio.open(path) == sound
    assert Audio.open(path.read_bytes()) == sound
    assert Audio.open(str(path)).content_hash() == sound.content_hash()
    assert not Audio.open(path).samples.flags.writeable


@pytest.mark.parametrize("kind", ["mp3", "ogg", "opus", "m4a"])
def test_saved_with_loss(tmp_path: Path, kind: str) -> None:
    sound = Audio.open(tone(440, channels=2).save(tmp_path / f"sound.{kind.upper()}"))
    assert sound.seconds == pytest.approx(1.2)
    assert len(sound.samples) == 2
    assert pitch(sound, 1) == pytest.approx(440, abs=1)


def test_what_cannot_be_opened_or_saved(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFF\x10\0\0\0WAVEfmt ")
    for source, message in (
        (tmp_path / "x.wav", r"x\.wav cannot be decoded"),
        (tmp_path / "absent.wav", "no file"),
        (b"", "empty"),
        (b"some words", r"is text \(txt\), not sound or video"),
    ):
        with pytest.raises(UnreadableMedia, match=message):
            Audio.open(source)
    with pytest.raises(InvalidValue, match=r"end it with one of: \.wav, \.flac"):
        tone(440).save(tmp_path / "sound.aiff")


@settings(max_examples=50)
@given(data=st.binary(max_size=300))
def test_any_bytes_become_a_sound_or_are_refused(data: bytes) -> None:
    for source in (data, b"RIFF\xff\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data" + data):
        try:
            sound = Audio.open(source)
        except UnreadableMedia:
            continue
        assert sound.samples.size


def test_cut() -> None:
    sound = Audio(noise(16_000), RATE)
    np.testing.assert_array_equal(sound.cut(0.25, 0.5).samples, sound.samples[:, 4000:8000])
    np.testing.assert_array_equal(sound.cut(0.75, 99.0).samples, sound.samples[:, 12_000:])
    assert sound.cut(0.0, 1.0) == sound
    for start_s, stop_s in ((1.0, 2.0), (-0.1, 0.5), (0.5, 0.5), (0.5, 0.2), (0.1, 0.10001), (float("nan"), 1.0)):
        with pytest.raises(InvalidValue, match="there is nothing between"):
            sound.cut(start_s, stop_s)


def test_resampled() -> None:
    sound = tone(440)
    other = sound.resampled(44_100)
    assert (other.sample_rate_hz, other.samples.shape) == (44_100, (1, 52_920))
    assert pitch(other) == pytest.approx(440, abs=1)
    assert sound.resampled(RATE) is sound
    with pytest.raises(InvalidValue, match="sample_rate_hz is 10"):
        sound.resampled(10)


def test_mixed() -> None:
    left, right, back = noise(100, 3)
    stereo = Audio(np.stack([left, right]), RATE)
    np.testing.assert_allclose(stereo.mixed(1).samples, [(left + right) / 2], atol=1e-7)
    np.testing.assert_array_equal(Audio(left, RATE).mixed(2).samples, [left, left])
    three = Audio(np.stack([left, right, back]), RATE).mixed(2)
    np.testing.assert_allclose(three.samples, [(left + back) / 2, (right + back) / 2], atol=1e-7)
    assert stereo.mixed(2) is stereo
    with pytest.raises(InvalidValue, match="channels is 3; a sound is mixed to 1 or 2"):
        stereo.mixed(3)


@pytest.mark.parametrize("sound", [tone(440), Audio(noise(70, 6), 1000), Audio(noise(3), 192_000)])
def test_html_plays_the_sound(sound: Audio) -> None:
    html = sound._repr_html_()
    found = re.search(r'<audio controls src="data:audio/wav;base64,([^"]+)"', html)
    assert found is not None
    played = Audio.open(base64.b64decode(found[1]))
    assert played.seconds == pytest.approx(sound.seconds, rel=0.4)
    assert 8000 <= played.sample_rate_hz <= 96_000
    assert "<svg" in html
    assert "nan" not in html


def test_html_of_a_long_sound_plays_its_first_minute() -> None:
    html = Audio(np.zeros((1, 100_000), np.float32), 1000)._repr_html_()
    assert "first 60 s" in html
    assert len(html) < 1_500_000


# --- the preprocessor


def test_names_and_layout() -> None:
    assert (Audio, AudioPreprocessor) == (ITEM, PREPROCESSOR)
    preprocessor = AudioPreprocessor(channels=2)
    assert isinstance(preprocessor, Preprocessor)
    assert preprocessor.layout == Grid(2, 2, (64, 4))


def test_the_grid_and_the_mask() -> None:
    preprocessor = AudioPreprocessor(channels=2)
    batch = preprocessor([tone(440, 1.2), None, tone(440, 0.5), tone(440, 0.001)])
    assert batch.values.shape == (4, 2, 64, 120)
    assert batch.mask.sum(1).tolist() == [30, 0, 13, 1]  # 0.5 s are 50 frames, filled up to 52
    assert batch.mask[2, :13].all()
    silent = torch.full((), SILENCE)
    assert torch.equal(batch.values[1], silent.expand(2, 64, 120))
    assert torch.equal(batch.values[2, :, :, 52:], silent.expand(2, 64, 68))
    assert (batch.values[2, :, :, :49] > SILENCE + 1).any(dim=1).all()
    assert preprocessor([None, None]).mask.tolist() == [[False], [False]]


def test_the_loudest_mel_follows_the_pitch() -> None:
    preprocessor = AudioPreprocessor()
    values = preprocessor([tone(hz) for hz in (200, 400, 800, 1600, 3200, 6400)]).values
    loudest = values[:, 0, :, 60].argmax(dim=1)
    assert (loudest.diff() > 0).all()
    assert loudest.tolist() == [3, 8, 16, 30, 45, 59]


def test_values_have_about_zero_mean_and_unit_range() -> None:
    values = AudioPreprocessor()(
        [tone(440), Audio(noise(16_000) * 0.3, RATE), Audio(noise(16_000) * 0.01, RATE)]
    ).values
    assert values.abs().max() < 3.3
    assert abs(values.mean()) < 1
    assert 0.3 < values.std() < 2


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_has_the_same_values_alone_and_in_any_batch(channels: int) -> None:
    preprocessor = AudioPreprocessor(channels=channels)
    lengths = (16_000, 16_000, 15_999, 300, 9600, 16_000, 40_000)
    sounds: list[Audio | None] = [
        Audio(noise(n, 1 + i % 2, seed=i), 22_050 if i == 4 else RATE) for i, n in enumerate(lengths)
    ]
    sounds.insert(3, None)
    together = preprocessor(sounds)
    for i, sound in enumerate(sounds):
        alone = preprocessor([sound])
        tokens = int(alone.mask.sum())
        assert int(together.mask[i].sum()) == tokens
        frames = 4 * tokens
        torch.testing.assert_close(together.values[i, :, :, :frames], alone.values[0, :, :, :frames], atol=1e-6, rtol=0)
    assert torch.equal(preprocessor(sounds).values, together.values)


def test_rate_and_channels_are_converted() -> None:
    preprocessor = AudioPreprocessor()
    plain = preprocessor([tone(440)]).values
    for other in (tone(440, rate=44_100), tone(440, channels=2), tone(440, rate=48_000, channels=6)):
        values = preprocessor([other]).values
        assert values.shape == plain.shape
        loud = plain > 0
        assert (values - plain)[..., 3:-3][loud[..., 3:-3]].abs().max() < 0.05


def test_long_sounds_are_cut() -> None:
    batch = AudioPreprocessor(seconds_max=0.4)([tone(440, 3.0), tone(440, 0.4)])
    assert batch.values.shape[3] == 40
    torch.testing.assert_close(batch.values[0], batch.values[1], atol=1e-6, rtol=0)


def test_inverted_sounds_have_the_pitch_and_nearly_the_same_values() -> None:
    preprocessor = AudioPreprocessor(channels=2)
    stereo = Audio(np.concatenate([tone(440).samples, tone(900).samples * 0.5]), RATE)
    values = preprocessor([stereo, tone(1500)]).values
    back = preprocessor.invert(values)
    assert [b.samples.shape for b in back] == [(2, 19_200)] * 2
    assert pitch(back[0], 0) == pytest.approx(440, abs=2)
    assert pitch(back[0], 1) == pytest.approx(900, abs=2)
    assert pitch(back[1], 1) == pytest.approx(1500, rel=0.02)
    loud = values > SILENCE + 2
    assert (preprocessor(back).values - values)[loud].abs().mean() < 0.15
    assert np.sqrt((back[0].samples[0] ** 2).mean() / (back[0].samples[1] ** 2).mean()) == pytest.approx(2, rel=0.1)
    assert preprocessor.invert(torch.full((1, 2, 64, 4), torch.nan))[0].samples.shape == (2, 640)
    assert preprocessor.invert(torch.full((1, 2, 64, 4), 50.0, dtype=torch.bfloat16))[0].samples.max() <= 1


@pytest.mark.usefixtures("_without_shape_checks")
def test_settings_that_do_not_fit_are_refused() -> None:
    for settings_, message in (
        ({"channels": 3}, "channels is 3"),
        ({"hop": 201}, "hop is 201 and window 400"),
        ({"mels": 400}, "too many"),
        ({"patch_frames": 0}, "patch_frames=0"),
        ({"seconds_max": 0.0}, "seconds_max=0"),
        ({"sample_rate_hz": 10}, "sample_rate_hz is 10"),
    ):
        with pytest.raises(InvalidValue, match=message):
            AudioPreprocessor(**settings_)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="give at least one"):
        AudioPreprocessor()([])
    with pytest.raises(InvalidValue, match="a sound was expected, not str"):
        AudioPreprocessor()(["boo"])  # type: ignore[list-item]


@pytest.mark.data("fsdd")
def test_real_speech_survives_the_way_there_and_back(shared_data: Path) -> None:
    import zipfile

    with zipfile.ZipFile(shared_data / "fsdd" / "audio.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".flac")][::600]
        sounds = [Audio.open(archive.read(n)) for n in names]
    preprocessor = AudioPreprocessor(sample_rate_hz=8000, window=256, hop=80, mels=48)
    batch = preprocessor(sounds)
    back = preprocessor.invert(batch.values)
    loud = (batch.values > SILENCE + 2) & batch.mask.repeat_interleave(4, dim=1)[:, None, None]
    assert (preprocessor(back).values - batch.values)[loud].abs().mean() < 0.06
