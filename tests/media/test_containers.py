import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.containers import created, probe
from intermodal.media.frames import FORMATS as VIDEO_FORMATS
from intermodal.media.frames import decode_video, encode_video
from intermodal.media.sound import FORMATS as SOUND_FORMATS
from intermodal.media.sound import SoundWriter, decode_sound, encode_sound
from intermodal.media.source import limited

RATE = 16_000


def noise(seconds: float = 1.0, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (channels, int(seconds * RATE))).astype(np.float32)


def pictures(count: int = 12) -> np.ndarray:
    y, x = np.mgrid[:48, :62]
    return np.stack([np.stack([x * 4, y * 5, (x + y + 9 * i) % 256], axis=-1) for i in range(count)]).astype(np.uint8)


SOUNDS = {kind: encode_sound(noise(), RATE, kind) for kind in SOUND_FORMATS}
VIDEOS = {kind: encode_video(pictures(), 12.0, kind) for kind in VIDEO_FORMATS}
WITH_SOUND = {kind: encode_video(pictures(), 12.0, kind, (noise(), RATE)) for kind in VIDEO_FORMATS if kind != "gif"}


def decode(data: bytes) -> np.ndarray:
    """Decodes whatever it is; the result has something in it."""
    if probe(data).modality == "video":
        return decode_video(data).frames
    return decode_sound(data)[0]


def attempt(data: bytes, read: Callable[[bytes], object] = decode) -> tuple[bool, str]:
    """Returns whether something usable came out, and else the message; every other error comes through."""
    try:
        result = read(data)
    except UnreadableMedia as error:
        return False, str(error)
    return not isinstance(result, np.ndarray) or bool(result.size and np.isfinite(result).all()), ""


@pytest.mark.parametrize("kind", SOUND_FORMATS)
def test_probe_reads_the_header_of_sound(kind: str) -> None:
    found = probe(SOUNDS[kind])
    assert (found.modality, found.format) == ("audio", "ogg" if kind == "opus" else kind)
    assert found.seconds == pytest.approx(1.0, abs=0.01)
    assert (found.channels, found.sample_rate_hz) == (2, 48_000 if kind in ("ogg", "opus") else RATE)
    assert (found.frames, found.width, found.height, found.frames_per_s) == (None, None, None, None)


@pytest.mark.parametrize("kind", VIDEO_FORMATS)
def test_probe_reads_the_header_of_video(kind: str) -> None:
    found = probe(VIDEOS[kind])
    assert (found.modality, found.format, found.width, found.height) == ("video", kind, 62, 48)
    assert found.seconds == pytest.approx(1.0, abs=0.05)
    assert found.frames_per_s == pytest.approx(12.0, rel=0.05)
    assert found.frames in (None, 12)
    assert found.channels is None
    if kind in WITH_SOUND:
        assert probe(WITH_SOUND[kind]).channels == 2


@pytest.mark.parametrize(
    ("muxer", "form", "kind"), [("mp4", "m4a", "m4a"), ("mov", "m4a", "m4a"), ("webm", "ogg", "webm")]
)
def test_video_containers_that_hold_only_sound_are_audio(muxer: str, form: str, kind: str) -> None:
    with created("x", muxer) as (container, file):
        SoundWriter(container, SOUND_FORMATS[form], noise(0.6, 1), RATE).finish()
    found = probe(file.getvalue())
    assert (found.modality, found.format) == ("audio", kind)
    assert decode_sound(file.getvalue())[0].shape[1] == (9600 if kind == "m4a" else 28_800)
    with pytest.raises(UnreadableMedia, match="holds sound and no picture; open it as audio"):
        decode_video(file.getvalue())


def test_a_cover_is_no_video_and_tags_in_any_encoding_are_passed_over() -> None:
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
        "0000000049454e44ae426082"
    )
    frames = [(b"TIT2", b"\x03caf\xe9 \xff\xfe"), (b"APIC", b"\x00image/png\x00\x03\x00" + png)]
    body = b"".join(mark + struct.pack(">IH", len(data), 0) + data for mark, data in frames)
    plain = SOUNDS["mp3"][SOUNDS["mp3"].index(b"\xff", 10) :]
    tag = b"ID3\x03\x00\x00" + bytes(
        [len(body) >> 21 & 127, len(body) >> 14 & 127, len(body) >> 7 & 127, len(body) & 127]
    )
    data = tag + body + plain
    assert (probe(data).modality, probe(data).format) == ("audio", "mp3")
    assert decode_sound(data)[0].shape[1] == pytest.approx(RATE, rel=0.1)


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_lists_of_other_files_are_not_followed(data: bytes) -> None:
    for read in (probe, decode_sound, decode_video):
        with pytest.raises(UnreadableMedia, match="not sound or video"):
            read(data)


def test_other_files_are_refused_as_what_they_are() -> None:
    with pytest.raises(UnreadableMedia, match=r"image \(png\), not sound or video"):
        decode_sound(b"\x89PNG\r\n\x1a\n" + bytes(30))
    with pytest.raises(UnreadableMedia, match=r"a\.bin is of no known format"):
        decode_video(b"\x00\x01\x02" * 30, name="a.bin")


def test_a_video_without_sound_has_none() -> None:
    with pytest.raises(UnreadableMedia, match=r"\(mp4\) has no sound track"):
        decode_sound(VIDEOS["mp4"])


@pytest.mark.parametrize("kind", [*SOUND_FORMATS, *VIDEO_FORMATS])
@pytest.mark.parametrize("part", [0.8, 0.5, 0.1])
def test_a_file_that_is_cut_off_is_refused(kind: str, part: float) -> None:
    data = (WITH_SOUND | {"gif": VIDEOS["gif"]} | SOUNDS)[kind]
    with pytest.raises(UnreadableMedia, match=r"cut off|cannot be decoded|of no known format|no sound or video track"):
        decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", [*SOUND_FORMATS, *VIDEO_FORMATS])
def test_zeros_where_the_media_should_be(kind: str) -> None:
    data = (WITH_SOUND | {"gif": VIDEOS["gif"]} | SOUNDS)[kind]
    with pytest.raises(UnreadableMedia):
        decode(bytes(len(data)))
    if kind != "wav":  # there zeros are silence
        blank = data[: len(data) // 4] + bytes(len(data) // 2) + data[-(len(data) // 4) :]
        decoded, message = attempt(blank)
        assert message or decoded


ALL = [*SOUNDS.values(), *WITH_SOUND.values(), VIDEOS["gif"]]


@settings(max_examples=60)
@given(
    data=st.sampled_from(ALL),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_file_gives_media_or_is_refused(data: bytes, flips: list[tuple[float, int]]) -> None:
    damaged = bytearray(data)
    for at, value in flips:
        damaged[int(at * len(data)) if value % 2 else int(at * min(600, len(data)))] = value
    with limited(pixels_max=100_000, frames_max=100, seconds_max=60.0):
        decoded, message = attempt(bytes(damaged))
    assert decoded or (0 < len(message) < 250 and "\n" not in message)


@settings(max_examples=60)
@given(
    head=st.sampled_from(
        [
            b"",
            b"fLaC",
            b"OggS",
            b"ID3",
            b"\xff\xfb\x90",
            b"\x1aE\xdf\xa3",
            b"GIF89a",
            b"RIFF????WAVE",
            b"\0\0\0\x20ftypisom",
        ]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_media_or_are_refused(head: bytes, rest: bytes) -> None:
    for read in (decode_sound, decode_video, probe):
        decoded, message = attempt(head + rest, read)
        assert decoded or message


def test_the_decoder_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for data in ALL:
        for damaged in (data[: len(data) // 2], data[:100] + b"\xff" * 50 + data[150:], data[:60] + data[200:]):
            attempt(damaged)
    assert capfd.readouterr() == ("", "")


def test_what_an_encoder_refuses_is_an_invalid_value() -> None:
    with pytest.raises(InvalidValue, match="cannot be written as mkv"):
        encode_video(np.zeros((1, 4, 1, 3), np.uint8), 1.0, "mkv")
