import base64
import copy
import pickle
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.modalities.audio import Audio
from intermodal.modalities.video import ITEM, PREPROCESSOR, Video, VideoPreprocessor
from intermodal.types import Grid, Preprocessor


def noise(count: int = 8, height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def smooth(count: int = 10, height: int = 48, width: int = 62) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / 9 + i / 3 + c) * np.cos(y / 12) for i in range(count) for c in range(3)]
    return np.stack(waves).reshape(count, 3, height, width).transpose(0, 2, 3, 1).round().astype(np.uint8)


def hum(seconds: float, rate: int = 16_000) -> Audio:
    return Audio(0.3 * np.sin(np.arange(round(seconds * rate)) / 8), rate)


@pytest.fixture
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets wrong types reach the package, as they do outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("frames", "rate", "sound", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), 8.0, None, r"shape \(0, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), 8.0, None, r"shape \(4, 4, 3\); expected \(frames, height, width, 3\)"),
        (np.zeros((1, 4, 4, 4), np.uint8), 8.0, None, r"shape \(1, 4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3)), 8.0, None, "not an array of float64; scale to 0-255"),
        ([1], 8.0, None, "not list"),
        (noise(1), 0.0, None, "frames_per_s is 0"),
        (noise(1), float("nan"), None, "frames_per_s is nan"),
        (noise(1), "8", None, "frames_per_s is '8'"),
        (noise(1), 1001, None, "frames_per_s is 1001"),
        (noise(1), 8.0, "la", "an Audio or None, not str"),
    ],
)
@pytest.mark.usefixtures("_without_shape_checks")
def test_what_is_no_video_is_refused(frames: object, rate: object, sound: object, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Video(frames, rate, sound)  # type: ignore[arg-type]


def test_a_video_cannot_change() -> None:
    frames = noise()
    video = Video(frames, 8)
    frames[:] = 0
    assert video.frames.std() > 10
    assert type(video.frames_per_s) is float
    with pytest.raises(ValueError, match="read-only"):
        video.frames[0] = 1
    with pytest.raises(FrozenInstanceError):
        video.frames_per_s = 1.0  # type: ignore[misc]


def test_equal_videos_are_equal() -> None:
    video = Video(noise(), 8.0, hum(1.0))
    for twin in (Video(noise(), 8.0, hum(1.0)), copy.deepcopy(video), pickle.loads(pickle.dumps(video))):
        assert twin == video
        assert hash(twin) == hash(video)
        assert twin.content_hash() == video.content_hash()
        assert not twin.frames.flags.writeable
    others = [Video(noise(seed=1), 8.0), Video(noise(), 8.0), Video(noise(), 9.0), Video(noise(), 8.0, hum(0.9))]
    assert len({video, *others}) == 5
    assert re.fullmatch("[0-9a-f]{64}", video.content_hash())
    assert video != 1
    assert repr(others[0]) == "Video(8 frames of 64 x 64 pixels, 8 frames/s)"
    assert repr(video) == "Video(8 frames of 64 x 64 pixels, 8 frames/s, Audio(1.000 s, channels: 1, 16000 Hz))"


@pytest.mark.parametrize("sound", [None, hum(1.0)])
def test_saved_without_loss(tmp_path: Path, sound: Audio | None) -> None:
    video = Video(noise(10, 33, 45), 10.0, sound)
    path = video.save(tmp_path / "video.mkv")
    for source in (path, str(path), path.read_bytes()):
        assert Video.open(source) == video
    assert not Video.open(path).frames.flags.writeable


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm", "gif"])
def test_saved_with_loss(tmp_path: Path, kind: str) -> None:
    video = Video(smooth(), 10.0, None if kind == "gif" else hum(1.0))
    again = Video.open(video.save(tmp_path / f"video.{kind}"))
    assert (again.frames.shape, again.frames_per_s) == (video.frames.shape, 10.0)
    error = (again.frames.astype(float) - video.frames) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 30
    assert (again.sound is None) == (kind == "gif")
    assert again.sound is None or again.sound.seconds == pytest.approx(1.0)
    heard = None if kind == "gif" else Audio.open(tmp_path / f"video.{kind}")  # the track alone
    assert heard == again.sound


def test_what_cannot_be_opened_or_saved(tmp_path: Path) -> None:
    wav = hum(1.0).save(tmp_path / "x.wav")
    for source, message in (
        (wav, r"x\.wav \(wav\) holds sound and no picture; open it as audio"),
        (tmp_path / "absent.mp4", "no file"),
        (b"", "empty"),
        (b"some words", r"is text \(txt\), not sound or video"),
    ):
        with pytest.raises(UnreadableMedia, match=message):
            Video.open(source)
    video = Video(noise(2), 10.0, hum(0.2))
    with pytest.raises(InvalidValue, match=r"end it with one of: \.mp4, \.mov"):
        video.save(tmp_path / "video.avi")
    with pytest.raises(InvalidValue, match="a gif has no sound"):
        video.save(tmp_path / "video.gif")
    assert replace(video, sound=None).save(tmp_path / "video.gif").exists()


@settings(max_examples=50)
@given(data=st.binary(max_size=300))
def test_any_bytes_become_a_video_or_are_refused(data: bytes) -> None:
    for source in (
        data,
        b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff" + data,
        b"\0\0\0\x14ftypisom\0\0\0\0isom" + data,
    ):
        try:
            video = Video.open(source)
        except UnreadableMedia:
            continue
        assert video.frames.size


def test_cut() -> None:
    video = Video(noise(20), 10.0, hum(2.0))
    part = video.cut(0.5, 1.2)
    np.testing.assert_array_equal(part.frames, video.frames[5:12])
    assert part.sound == hum(2.0).cut(0.5, 1.2)
    assert part.frames_per_s == 10.0
    assert video.cut(0.0, 2.0) == video
    parts = [video.cut(at, at + 0.35).frames for at in (0.0, 0.35, 0.7, 1.05, 1.4, 1.75)]
    np.testing.assert_array_equal(np.concatenate(parts), video.frames)  # each frame in one part
    assert Video(noise(20), 10.0, hum(0.4)).cut(0.5, 1.0).sound is None
    for start_s, stop_s in (
        (2.0, 3.0),
        (-0.2, 1.0),
        (0.5, 0.5),
        (0.51, 0.54),
        (1.0, 0.5),
        (1.95, 9.0),
        (0.0, float("nan")),
    ):
        with pytest.raises(InvalidValue, match="no frame begins between"):
            video.cut(start_s, stop_s)


@pytest.mark.parametrize("size", [(64, 64), (33, 45), (2, 3), (600, 1000)])
def test_html_plays_the_video(size: tuple[int, int]) -> None:
    video = Video(smooth(4, *size), 10.0, hum(0.4))
    html = video._repr_html_()
    found = re.search(r'<video controls muted loop src="data:video/mp4;base64,([^"]+)"', html)
    assert found is not None
    data = base64.b64decode(found[1])
    assert b"avc1" in data
    shown = Video.open(data)
    assert len(shown.frames) == 4
    assert max(shown.frames.shape[1:3]) <= 512
    assert shown.frames.shape[1] / shown.frames.shape[2] == pytest.approx(size[0] / size[1], rel=0.1) or min(size) < 40
    assert shown.sound is not None
    width = re.search(r'width="(\d+)"', html)
    assert width is not None
    assert 90 <= int(width[1]) <= 512


def test_html_of_a_long_video_plays_its_beginning() -> None:
    html = Video(np.zeros((700, 2, 2, 3), np.uint8), 100.0)._repr_html_()
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    assert len(Video.open(base64.b64decode(data[1])).frames) == 600


# --- the preprocessor


def test_names_and_layout() -> None:
    assert (Video, VideoPreprocessor) == (ITEM, PREPROCESSOR)
    assert isinstance(VideoPreprocessor(), Preprocessor)
    assert VideoPreprocessor().layout == Grid(3, 3, (8, 8, 8))


def test_the_values_and_the_mask() -> None:
    preprocessor = VideoPreprocessor(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))
    videos = [Video(noise(), 8.0), None, Video(noise(seed=1), 8.0)]
    batch = preprocessor(videos)
    assert batch.values.shape == (3, 3, 8, 64, 64)
    assert batch.mask.sum(1).tolist() == [64, 0, 64]
    assert batch.values[1].abs().max() == 0
    expected = (noise() / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.5]
    np.testing.assert_allclose(batch.values[0], expected.transpose(3, 0, 1, 2), atol=1e-6)
    assert torch.equal(preprocessor([videos[2]]).values[0], batch.values[2])
    assert preprocessor([None]).mask.any().item() is False
    assert VideoPreprocessor(frames=4, patch=(2, 16, 32))([Video(noise(4), 8.0)]).mask.shape == (1, 2 * 4 * 2)


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.481, 0.457, 0.408)])
def test_invert_gives_the_same_pixels(mean: tuple[float, float, float]) -> None:
    preprocessor = VideoPreprocessor(mean=mean, std=(0.268, 0.261, 0.275), frames_per_s=6.0)
    every = (
        np.arange(256, dtype=np.uint8).repeat(3 * 8 * 64 * 64 // 256 // 3 * 3)[: 8 * 64 * 64 * 3].reshape(8, 64, 64, 3)
    )
    videos = [Video(noise(), 6.0), Video(every, 6.0)]
    assert preprocessor.invert(preprocessor(videos).values) == videos
    strange = torch.tensor([float("nan"), float("inf"), -9.0]).repeat(8 * 64 * 64).reshape(1, 3, 8, 64, 64)
    assert preprocessor.invert(strange)[0].frames.max() == 255


def test_frames_are_taken_evenly() -> None:
    def taken(count: int, frames: int) -> list[int]:
        pictures = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
        preprocessor = VideoPreprocessor(frames=frames, height=1, width=1, patch=(1, 1, 1))
        back = preprocessor.invert(preprocessor([Video(pictures, 8.0)]).values)
        return [int(f) for f in back[0].frames[:, 0, 0, 0]]

    assert taken(8, 8) == list(range(8))
    assert taken(16, 8) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert taken(24, 8) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert taken(5, 2) == [1, 3]
    assert taken(100, 1) == [50]
    assert taken(3, 6) == [0, 0, 1, 1, 2, 2]
    assert taken(1, 4) == [0, 0, 0, 0]


def test_other_sizes_are_resized() -> None:
    preprocessor = VideoPreprocessor()
    large = smooth(8, 128, 192)
    values = preprocessor([Video(large, 8.0)]).values
    halves = large.reshape(8, 64, 2, 64, 3, 3).mean(axis=(2, 4))
    assert np.abs(preprocessor.invert(values)[0].frames - halves).mean() < 2
    for frames in (smooth(8, 64, 64), smooth(3, 17, 200), smooth(20, 64, 65)):
        assert preprocessor([Video(frames, 8.0)]).values.shape == (1, 3, 8, 64, 64)
    mixed = preprocessor([Video(large, 8.0), Video(noise(), 8.0)])
    assert torch.equal(mixed.values[:1], values)
    assert torch.equal(mixed.values[1:], preprocessor([Video(noise(), 8.0)]).values)


def test_the_middle_is_cropped_where_nothing_may_be_stretched() -> None:
    frames = np.zeros((8, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = noise()
    assert VideoPreprocessor(stretch=False).invert(VideoPreprocessor(stretch=False)([Video(frames, 8.0)]).values)[
        0
    ] == Video(noise(), 8.0)
    tall = VideoPreprocessor(stretch=False, height=32, width=64)([Video(smooth(8, 90, 60), 8.0)])
    assert tall.values.shape == (1, 3, 8, 32, 64)


@pytest.mark.usefixtures("_without_shape_checks")
def test_settings_that_do_not_fit_are_refused() -> None:
    for settings_, message in (
        ({"height": 60}, r"\(8, 60, 64\) \(frames, height, width\) does not divide into patches of \(8, 8, 8\)"),
        ({"frames": 0}, "does not divide"),
        ({"patch": (8, 8)}, "does not divide"),
        ({"std": (0.1, 0.0, 0.1)}, "those of std above 0"),
        ({"mean": (0.1, 0.1)}, "three finite numbers"),
        ({"frames_per_s": 0.0}, "frames_per_s is 0"),
    ):
        with pytest.raises(InvalidValue, match=message):
            VideoPreprocessor(**settings_)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="give at least one"):
        VideoPreprocessor()([])
    with pytest.raises(InvalidValue, match="a video was expected, not Audio"):
        VideoPreprocessor()([hum(1.0)])  # type: ignore[list-item]


@pytest.mark.data("video_clips")
def test_real_videos(shared_data: Path) -> None:
    videos: list[Video | None] = [
        Video.open(p) for p in sorted((shared_data / "video_clips" / "video").iterdir())[::12]
    ]
    batch = VideoPreprocessor()([*videos, None])
    assert batch.values.shape == (len(videos) + 1, 3, 8, 64, 64)
    assert batch.present.tolist() == [True] * len(videos) + [False]
    assert batch.values[:-1].std() > 0.2
