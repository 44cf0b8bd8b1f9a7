import struct
import wave
from io import BytesIO

import numpy as np
import pytest

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.sound import FORMATS, decode_sound, encode_sound, read_sound, resample
from intermodal.media.source import limited


def tones(rate: int, channels: int, seconds: float = 1.0) -> np.ndarray:
    """One tone per channel, faded in and out."""
    t = np.arange(int(rate * seconds)) / rate
    pitch = [220 * (i + 1) for i in range(channels)]
    return np.stack([0.5 * np.sin(2 * np.pi * f * t) * np.sin(np.pi * t / seconds) for f in pitch]).astype(np.float32)


def snr(clean: np.ndarray, noisy: np.ndarray) -> float:
    return float(10 * np.log10((clean**2).sum() / max(((clean - noisy) ** 2).sum(), 1e-20)))


def wav(tag: int, bits: int, body: bytes, channels: int = 1, rate: int = 8000, declared: int | None = None) -> bytes:
    """A wav file made by hand."""
    step = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * step, step, bits)
    size = len(body) if declared is None else declared
    chunks = b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4 & 0xFFFFFFFF) + b"WAVE" + chunks


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_lossless_formats_keep_every_sample(kind: str, channels: int, rate: int) -> None:
    samples = np.round(tones(rate, channels, 0.2) * 32768).astype(np.float32) / np.float32(32768)
    data = encode_sound(samples, rate, kind)
    again, again_rate = decode_sound(data)
    np.testing.assert_array_equal(again, samples)
    assert again_rate == rate
    assert len(data) < 2 * samples.size + 9_000  # 16 bits suffice, so 16 bits were used


def test_finer_samples_are_kept_too() -> None:
    samples = tones(16_000, 2)
    np.testing.assert_array_equal(decode_sound(encode_sound(samples, 16_000, "wav"))[0], samples)
    np.testing.assert_allclose(decode_sound(encode_sound(samples, 16_000, "flac"))[0], samples, atol=2**-23)
    short = encode_sound(samples, 16_000, "wav", sixteen_bit=True)
    assert len(short) < 2 * samples.size + 200
    np.testing.assert_allclose(decode_sound(short)[0], samples, atol=2**-16)
    with wave.open(BytesIO(short)) as file:  # another reader agrees
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 16_000, 2)
        heard = np.frombuffer(file.readframes(20_000), np.int16).reshape(-1, 2).T / 32768
    np.testing.assert_array_equal(heard.astype(np.float32), decode_sound(short)[0])


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("kind", "channels", "least_db"),
    [
        ("mp3", 1, 20),
        ("mp3", 2, 20),
        ("m4a", 1, 30),
        ("m4a", 2, 30),
        ("m4a", 6, 30),
        ("ogg", 1, 25),
        ("ogg", 2, 25),
        ("ogg", 6, 25),
        ("opus", 2, 25),
    ],
)
def test_lossy_formats_sound_the_same(kind: str, channels: int, least_db: float, rate: int) -> None:
    samples = tones(rate, channels)
    again, again_rate = decode_sound(encode_sound(samples, rate, kind))
    assert again_rate == (48_000 if kind in ("ogg", "opus") else rate)
    expected = resample(samples, rate, again_rate)
    assert again.shape == expected.shape  # neither delayed nor longer
    kept = [i for i in range(channels) if channels < 6 or i != 3]  # of 5.1 the fourth is for bass alone
    for i in kept:
        assert snr(expected[i], again[i]) > least_db


def test_a_rate_that_a_format_does_not_hold_becomes_the_next_one() -> None:
    for kind, rate, held in (
        ("mp3", 9000, 11_025),
        ("mp3", 96_000, 48_000),
        ("m4a", 44_101, 48_000),
        ("m4a", 5000, 8000),
    ):
        samples, got = decode_sound(encode_sound(tones(rate, 1), rate, kind))
        assert (kind, got) == (kind, held)
        assert samples.shape[1] == held


@pytest.mark.parametrize(
    ("tag", "bits", "body", "expected"),
    [
        (1, 8, bytes([0, 128, 192, 255]), [-1.0, 0.0, 0.5, 127 / 128]),
        (1, 16, np.array([-32768, 0, 16384, 32767], "<i2").tobytes(), [-1.0, 0.0, 0.5, 32767 / 32768]),
        (1, 24, b"\0\0\x80" b"\0\0\0" b"\0\0\x40" b"\xff\xff\x7f", [-1.0, 0.0, 0.5, 1 - 2**-23]),
        (1, 32, np.array([-(2**31), 0, 2**30, 2**31 - 128], "<i4").tobytes(), [-1.0, 0.0, 0.5, 1 - 2**-24]),
        (3, 32, np.array([-1, 0, 0.1, 1], "<f4").tobytes(), [-1.0, 0.0, 0.1, 1.0]),
        (3, 64, np.array([-1, 0, 0.1, 1], "<f8").tobytes(), [-1.0, 0.0, 0.1, 1.0]),
        (7, 8, bytes([0x00, 0xFF, 0x80, 0x7F]), [-32124 / 32768, 0.0, 32124 / 32768, 0.0]),  # mu-law
    ],
)  # fmt: skip
def test_every_sample_format_is_read_exactly(tag: int, bits: int, body: bytes, expected: list[float]) -> None:
    samples, rate = decode_sound(wav(tag, bits, body))
    np.testing.assert_array_equal(samples, np.array([expected], np.float32))
    assert (rate, samples.dtype) == (8000, np.float32)


def test_float_files_are_clipped_a_little_and_refused_where_they_are_no_sound() -> None:
    np.testing.assert_array_equal(
        decode_sound(wav(3, 32, np.array([1.5, -3, 0.5], "<f4").tobytes()))[0], [[1.0, -1.0, 0.5]]
    )
    with pytest.raises(UnreadableMedia, match="no numbers"):
        decode_sound(wav(3, 32, np.array([0.1, np.nan], "<f4").tobytes()))
    with pytest.raises(UnreadableMedia, match="no numbers"):
        decode_sound(wav(3, 32, np.array([0.1, -np.inf], "<f4").tobytes()))
    with pytest.raises(UnreadableMedia, match=r"up to 32000, expected -1 to 1"):
        decode_sound(wav(3, 32, np.array([0.1, -32000], "<f4").tobytes()))


def test_headers_that_lie_are_found_out() -> None:
    body = bytes(16_000)
    assert decode_sound(wav(1, 16, body))[0].shape == (1, 8000)
    with pytest.raises(UnreadableMedia, match=r"cut off or damaged: 1\.00 of 10\.00 s"):
        decode_sound(wav(1, 16, body, declared=160_000))
    with pytest.raises(UnreadableMedia, match="lasts 62,500 s or longer, more than the limit"):
        decode_sound(wav(1, 16, body, declared=1_000_000_000))
    for unknown in (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFF00):  # what writers put that do not know yet
        assert decode_sound(wav(1, 16, body, declared=unknown))[0].shape == (1, 8000)
    with pytest.raises(UnreadableMedia, match="has 9 channels; 1 to 8"):
        decode_sound(wav(1, 16, body, channels=9))
    with pytest.raises(UnreadableMedia, match="sample rate of 900 Hz; 1,000 to 768,000"):
        decode_sound(wav(1, 16, body, rate=900))
    with pytest.raises(UnreadableMedia, match="without a single sample"):
        decode_sound(wav(1, 16, b""))


def test_a_flac_with_one_wrong_bit_is_refused() -> None:
    data = bytearray(encode_sound(tones(16_000, 2), 16_000, "flac"))
    data[len(data) // 2] ^= 1
    with pytest.raises(UnreadableMedia, match=r"cannot be decoded|cut off or damaged"):
        decode_sound(bytes(data))


def test_what_comes_is_counted_where_the_header_says_nothing() -> None:
    data = bytearray(encode_sound(tones(16_000, 2), 16_000, "flac"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples: unknown
    assert decode_sound(bytes(data))[0].shape == (2, 16_000)
    with (
        limited(seconds_max=0.5),
        pytest.raises(UnreadableMedia, match=r"more than the limit of 0\.5; read it in parts"),
    ):
        decode_sound(bytes(data))
    eight = encode_sound(np.zeros((8, 96_000), np.float32), 48_000, "flac")
    with (
        limited(seconds_max=2.5),
        pytest.raises(UnreadableMedia, match="in 8 channels, above the limit; read parts of it"),
    ):
        decode_sound(eight)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_part_is_what_the_whole_has_there(kind: str) -> None:
    data = encode_sound(tones(16_000, 2), 16_000, kind)
    whole, rate = decode_sound(data)
    for start_s, seconds in ((0.0, 0.25), (0.3, 0.2), (0.75, None), (0.9, 5.0)):
        part, part_rate = decode_sound(data, start_s, seconds)
        stop = None if seconds is None else round(start_s * rate) + round(seconds * rate)
        np.testing.assert_array_equal(part, whole[:, round(start_s * rate) : stop])
        assert part_rate == rate
    with limited(seconds_max=0.5):
        with pytest.raises(
            UnreadableMedia, match=r"lasts 1.* s or longer, more than the limit of 0\.5; read it in parts"
        ):
            decode_sound(data)
        assert decode_sound(data, 0.5, 0.4)[0].shape[1] == round(0.4 * rate)


def test_parts_outside_the_sound() -> None:
    data = encode_sound(tones(16_000, 1), 16_000, "wav")
    with pytest.raises(InvalidValue, match=r"start_s is 1\.0, at or after the end"):
        decode_sound(data, 1.0)
    with pytest.raises(InvalidValue, match="start_s is -1; give seconds from 0 on"):
        decode_sound(data, -1)
    with pytest.raises(InvalidValue, match="seconds is 0"):
        decode_sound(data, 0.0, 0.0)


def test_sound_that_begins_after_its_origin_is_preceded_by_silence() -> None:
    data = encode_sound(tones(16_000, 1), 16_000, "flac")
    whole = decode_sound(data)[0]
    late, _ = read_sound(data, 0.0, None, "x", origin_s=-0.5)
    np.testing.assert_array_equal(late, np.pad(whole, ((0, 0), (8000, 0))))
    early, _ = read_sound(data, 0.0, None, "x", origin_s=0.25)
    np.testing.assert_array_equal(early, whole[:, 4000:])
    part, _ = read_sound(data, 0.4, 0.2, "x", origin_s=-0.5)
    np.testing.assert_array_equal(part, np.pad(whole, ((0, 0), (1600, 0)))[:, :3200])
    before, _ = read_sound(data, 0.1, 0.2, "x", origin_s=-0.5)
    np.testing.assert_array_equal(before, np.zeros((1, 3200), np.float32))


@pytest.mark.parametrize(
    ("rate", "new_rate"),
    [(44_100, 16_000), (16_000, 44_100), (8000, 16_000), (22_050, 16_000), (44_101, 16_000), (16_000, 8000)],
)
def test_resampling_keeps_a_tone_where_it_is(rate: int, new_rate: int) -> None:
    def tone(at: int) -> np.ndarray:
        t = np.arange(round(0.6 * at)) / at
        return np.stack([0.5 * np.sin(2 * np.pi * 440 * t), 0.3 * np.cos(2 * np.pi * 1500 * t)]).astype(np.float32)

    again = resample(tone(rate), rate, new_rate)
    expected = tone(new_rate)
    assert again.shape == expected.shape
    inner = slice(new_rate // 50, -(new_rate // 50))
    assert snr(expected[:, inner], again[:, inner]) > 80


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    t = np.arange(44_100) / 44_100
    again = resample(np.sin(2 * np.pi * 10_000 * t, dtype=np.float32)[None], 44_100, 16_000)
    assert np.abs(again[:, 400:-400]).max() < 1e-3


def test_resampling_of_very_short_and_very_loud_sound() -> None:
    assert resample(np.ones((2, 1), np.float32), 44_100, 8000).shape == (2, 1)
    square = np.sign(np.sin(np.arange(16_000) / 9)).astype(np.float32)[None]
    assert np.abs(resample(square, 16_000, 44_100)).max() == 1.0
    assert resample(square, 16_000, 16_000) is square


def test_formats_that_do_not_exist_or_are_too_narrow() -> None:
    with pytest.raises(InvalidValue, match="'aiff' is no format that sound is written in; use one of: wav, flac"):
        encode_sound(tones(8000, 1), 8000, "aiff")
    with pytest.raises(InvalidValue, match="mp3 holds 2 channels, not 6; mix them first"):
        encode_sound(tones(8000, 6), 8000, "mp3")


@pytest.mark.data("esc10", "ljspeech_mini")
def test_real_recordings(shared_data) -> None:  # type: ignore[no-untyped-def]
    for folder, rate, seconds in (("esc10", 16_000, 5.0), ("ljspeech_mini", 22_050, None)):
        for path in sorted((shared_data / folder / "audio").iterdir())[::40]:
            samples, got = decode_sound(path.read_bytes(), name=path.name)
            assert got == rate
            assert 0.001 < np.abs(samples).max() <= 1
            assert seconds is None or samples.shape[1] == pytest.approx(seconds * rate, rel=0.01)
