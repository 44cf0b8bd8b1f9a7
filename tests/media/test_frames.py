import struct
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.containers import created
from intermodal.media.frames import FORMATS, decode_video, encode_video
from intermodal.media.source import limited


def clip(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours that move, each frame different."""
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack(
            [128 + 90 * np.sin(x / 9 + i / 3), 128 + 90 * np.cos(y / 8 - i / 4), np.full(x.shape, 20 + 15 * (i % 14))],
            -1,
        )
        for i in range(count)
    ]
    return np.stack(frames).round().astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b) ** 2).mean(), 1e-9)))


def mkv(frames: np.ndarray, times_ms: list[int], rotation: float = 0) -> bytes:
    """A lossless file with a time stamp for each frame."""
    with created("x", "matroska") as (container, file):
        stream = container.add_stream("ffv1", rate=1000)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        if rotation:
            stream.set_display_rotation(rotation)
        for picture, at in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (2, int(seconds * rate))).astype(np.float32)


def test_mkv_keeps_every_pixel_and_sample() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 33, 45, 3), np.uint8)
    sound = noise(0.7)
    again = decode_video(encode_video(frames, 10.0, "mkv", (sound, 16_000)))
    np.testing.assert_array_equal(again.frames, frames)
    assert again.sound is not None
    np.testing.assert_array_equal(again.sound[0], sound)
    assert (again.frames_per_s, again.sound[1]) == (10.0, 16_000)


@pytest.mark.parametrize("kind", [k for k in FORMATS if k != "mkv"])
@pytest.mark.parametrize("rate", [8.0, 12.5, 29.97, 30.0])
def test_other_formats_look_the_same(kind: str, rate: float) -> None:
    frames = clip()
    again = decode_video(encode_video(frames, rate, kind))
    assert again.frames.shape == frames.shape
    assert again.sound is None
    assert psnr(frames, again.frames) > 34
    for i in range(len(frames)):  # and in order
        assert psnr(frames[i], again.frames[i]) > 30
    assert again.frames_per_s == pytest.approx(rate, rel=0.02 if kind == "gif" else 1e-4)


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm", "mkv"])
def test_sound_stays_beside_the_pictures(kind: str) -> None:
    t = np.arange(48_000) / 16_000
    beep = np.zeros((1, 48_000), np.float32)
    for at in (4000, 21_000, 40_000):
        beep[0, at : at + 1600] = 0.5 * np.sin(2 * np.pi * 1000 * t[:1600]) * np.hanning(1600)
    again = decode_video(encode_video(clip(36), 12.0, kind, (beep, 16_000)))
    assert again.sound is not None
    heard, rate = again.sound
    assert heard.shape[1] == 3 * rate
    step = rate // 1000  # loudness per millisecond
    before, after = ((x[0].reshape(-1, n) ** 2).mean(1) for x, n in ((beep, 16), (heard, step)))
    lag = np.argmax(np.correlate(after, before, "full")) - (len(before) - 1)
    assert lag == 0
    assert np.corrcoef(before, after)[0, 1] > 0.99


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 3), (17, 31), (64, 64)])
@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_any_size(kind: str, size: tuple[int, int]) -> None:
    frames = clip(3, *size)
    again = decode_video(encode_video(frames, 10.0, kind)).frames
    even = [n + n % 2 for n in size] if kind == "mp4" else size
    assert again.shape == (3, *even, 3)
    assert psnr(frames, again[:, : size[0], : size[1]]) > 24


@pytest.mark.parametrize("kind", FORMATS)
def test_a_single_frame(kind: str) -> None:
    again = decode_video(encode_video(clip(1), 5.0, kind))
    assert again.frames.shape == (1, 48, 64, 3)
    assert again.frames_per_s == pytest.approx(5.0)


def test_colours_are_those_that_were_saved() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0), (128, 128, 128)]
    frames = np.stack([np.full((32, 32, 3), c, np.uint8) for c in colours])
    for kind in FORMATS:
        again = decode_video(encode_video(frames, 5.0, kind)).frames
        assert np.abs(again.astype(int) - frames).max() <= (0 if kind in ("mkv", "gif") else 3), kind


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_frames_are_upright(rotation: int, turns: int) -> None:
    frames = clip(2, 20, 30)
    again = decode_video(mkv(frames, [0, 100], rotation))
    np.testing.assert_array_equal(again.frames, np.rot90(frames, turns, axes=(1, 2)))


def test_the_rate_of_uneven_frames_is_their_average() -> None:
    again = decode_video(mkv(clip(5), [0, 100, 500, 600, 900]))
    assert again.frames.shape[0] == 5
    assert again.frames_per_s == pytest.approx(5 / 1.0, rel=0.12)  # the length of the last frame is not written


def test_a_gif_of_another_writer() -> None:
    pictures = [Pictures.fromarray(p) for p in clip(4)]
    file = BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=[100, 300, 200, 200], loop=0)
    again = decode_video(file.getvalue())
    assert again.frames.shape == (4, 48, 64, 3)
    assert again.frames_per_s == pytest.approx(4 / 0.8)
    assert psnr(clip(4), again.frames) > 30
    ticks = decode_video(file.getvalue(), frames_per_s=10.0)
    difference = (ticks.frames[:, None].astype(int) - again.frames[None]) ** 2
    assert difference.sum(axis=(2, 3, 4)).argmin(axis=1).tolist() == [0, 1, 1, 1, 2, 2, 3, 3]


def test_transparent_pixels_are_white() -> None:
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:4] = (200, 30, 30, 255)
    moved = picture[::-1].copy()
    file = BytesIO()
    Pictures.fromarray(picture).save(
        file, "GIF", save_all=True, append_images=[Pictures.fromarray(moved)], duration=100, disposal=2
    )
    frames = decode_video(file.getvalue()).frames
    assert frames.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(frames[0, 4:], np.full((4, 8, 3), 255))
    np.testing.assert_array_equal(frames[0, :4], np.broadcast_to([200, 30, 30], (4, 8, 3)))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_part_is_what_the_whole_has_there(kind: str) -> None:
    sound = None if kind == "gif" else (noise(6.0), 16_000)
    data = encode_video(clip(60), 10.0, kind, sound)
    whole = decode_video(data)
    for start_s, seconds, first, last in (
        (0.0, 0.5, 0, 5),
        (0.3, 1.0, 3, 13),
        (4.1, 0.7, 41, 48),
        (5.5, None, 55, 60),
        (5.5, 9, 55, 60),
    ):
        part = decode_video(data, start_s, seconds)
        np.testing.assert_array_equal(part.frames, whole.frames[first:last])
        assert part.frames_per_s == pytest.approx(10.0)
        assert (part.sound is None) == (kind == "gif")
        if part.sound is not None and whole.sound is not None:
            rate = part.sound[1]
            np.testing.assert_array_equal(
                part.sound[0], whole.sound[0][:, round(start_s * rate) :][:, : (last - first) * rate // 10]
            )


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv"])
def test_a_part_far_into_a_video_is_reached_by_its_index(kind: str) -> None:
    t = np.arange(45 * 8000) / 8000
    hum = (0.4 * np.sin(2 * np.pi * 500 * t) * np.sin(2 * np.pi * 1.7 * t)).astype(np.float32)[None]
    data = encode_video(clip(90, 16, 16), 2.0, kind, (hum, 8000))
    whole = decode_video(data)
    part = decode_video(data, 35.5, 8.0)
    np.testing.assert_array_equal(part.frames, whole.frames[71:87])
    assert part.sound is not None
    assert whole.sound is not None
    heard, rate = part.sound
    expected = whole.sound[0][:, round(35.5 * rate) : round(43.5 * rate)]
    assert heard.shape == expected.shape
    assert np.corrcoef(heard[0], expected[0])[0, 1] > 0.99
    assert len(decode_video(data, 44.0, 5.0).frames) == 2


def test_sound_that_begins_late_stays_late() -> None:
    with created("x", "matroska") as (container, file):
        picture = container.add_stream("ffv1", rate=2)
        picture.height, picture.width, picture.pix_fmt = 16, 16, "bgr0"
        track = container.add_stream("pcm_f32le", rate=8000, layout="mono")
        for i, pixels in enumerate(np.repeat(clip(14, 16, 16), 10, axis=0)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = i, Fraction(1, 2)
            container.mux(picture.encode(frame))
            if i >= 120:
                heard = av.AudioFrame.from_ndarray(np.full((1, 4000), 0.25, np.float32), format="flt", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 8000, i * 4000, Fraction(1, 8000)
                container.mux(track.encode(heard))
        container.mux(picture.encode(None))
        container.mux(track.encode(None))
    for start_s, silent_s, heard_s in ((0.0, 60.0, 10.0), (40.0, 20.0, 5.0), (62.0, 0.0, 8.0)):
        sound = decode_video(file.getvalue(), start_s, None if start_s == 0 else silent_s + heard_s).sound
        assert sound is not None
        np.testing.assert_array_equal(sound[0], [[0.0] * round(silent_s * 8000) + [0.25] * round(heard_s * 8000)])


def test_frames_at_a_lower_and_a_higher_rate() -> None:
    data = encode_video(clip(60), 10.0, "mkv")
    whole = decode_video(data).frames
    slow = decode_video(data, frames_per_s=2.5)
    np.testing.assert_array_equal(slow.frames, whole[::4])
    assert slow.frames_per_s == 2.5
    np.testing.assert_array_equal(
        decode_video(data, 3.0, 1.0, frames_per_s=20.0).frames, whole[30:40].repeat(2, axis=0)
    )
    np.testing.assert_array_equal(decode_video(data, 3.05, 1.0, frames_per_s=5.0).frames, whole[30:40:2])
    np.testing.assert_array_equal(decode_video(data, 5.0, None, frames_per_s=4.0).frames, whole[[50, 52, 55, 57]])


def test_long_videos_are_refused_whole_and_read_in_parts() -> None:
    data = encode_video(clip(60), 10.0, "mp4", (noise(6.0), 16_000))
    with limited(seconds_max=2.0):
        with pytest.raises(UnreadableMedia, match=r"lasts 6 s or longer, more than the limit of 2; read it in parts"):
            decode_video(data)
        part = decode_video(data, 3.0, 1.5)
        assert len(part.frames) == 15
    with limited(frames_max=20):
        with pytest.raises(UnreadableMedia, match="has 60 frames or more, above the limit of 20"):
            decode_video(data)
        assert len(decode_video(data, frames_per_s=3.0).frames) == 18
    with (
        limited(pixels_max=48 * 63),
        pytest.raises(UnreadableMedia, match="64 x 48 pixels, more than the limit of 3,024"),
    ):
        decode_video(data)
    with (
        limited(video_pixels_max=59 * 48 * 64),
        pytest.raises(UnreadableMedia, match="60 frames of 3,072 pixels or more"),
    ):
        decode_video(data)


def test_headers_that_lie_are_found_out() -> None:
    data = encode_video(clip(60), 10.0, "mkv")
    at = data.index(b"\x44\x89\x88") + 3  # the duration, in ms
    tag = data.index(b"00:00:0")  # the duration of the track, in words
    short = data[:at] + struct.pack(">d", 100.0) + data[at + 8 : tag] + b"00:00:00.100" + data[tag + 12 :]
    assert len(decode_video(short).frames) == 60
    with limited(frames_max=20), pytest.raises(UnreadableMedia, match="has 21 frames or more"):
        decode_video(short)
    with (
        limited(video_pixels_max=9 * 48 * 64),
        pytest.raises(UnreadableMedia, match="10 frames of 3,072 pixels or more"),
    ):
        decode_video(short)
    long = data[:at] + struct.pack(">d", 1e9) + data[at + 8 :]
    with pytest.raises(UnreadableMedia, match="lasts 1e\\+06 s or longer, more than the limit"):
        decode_video(long)
    longer = data[:at] + struct.pack(">d", 8000.0) + data[at + 8 : tag] + b"00:00:08.000" + data[tag + 12 :]
    with pytest.raises(UnreadableMedia, match=r"cut off or damaged: 6\.00 of 8\.00 s"):
        decode_video(longer)
    gif = encode_video(clip(2), 10.0, "gif")
    with pytest.raises(UnreadableMedia, match="one above the limit of 64,000,000 pixels"):
        decode_video(gif[:6] + b"\xff\xff\xff\xff" + gif[10:])


def test_a_gif_without_its_last_byte_is_cut_off() -> None:
    data = encode_video(clip(3), 10.0, "gif")
    assert len(decode_video(data + b"more").frames) == 3
    with pytest.raises(UnreadableMedia, match="the mark that ends a gif is missing"):
        decode_video(data[:-1])


def test_what_cannot_be_asked() -> None:
    data = encode_video(clip(10), 10.0, "mkv")
    with pytest.raises(InvalidValue, match=r"no frame of .* begins in the part from 2\.0 s on"):
        decode_video(data, 2.0)
    with pytest.raises(InvalidValue, match="frames_per_s is 0"):
        decode_video(data, frames_per_s=0)
    with pytest.raises(InvalidValue, match="'avi' is no format that video is written in"):
        encode_video(clip(2), 10.0, "avi")
    with pytest.raises(InvalidValue, match="a gif has no sound"):
        encode_video(clip(2), 10.0, "gif", (noise(0.2), 16_000))
    with pytest.raises(InvalidValue, match="at most 50 frames per second, not 60; use mp4"):
        encode_video(clip(2), 60.0, "gif")


@pytest.mark.data("video_clips")
def test_real_videos(shared_data) -> None:  # type: ignore[no-untyped-def]
    for path in sorted((shared_data / "video_clips" / "video").iterdir())[::8]:
        whole = decode_video(path.read_bytes(), name=path.name)
        assert whole.frames.shape[0] > 10
        assert whole.frames.std() > 10
        assert 5 < whole.frames_per_s < 61
