import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.media.signs import beginning, binary_format, is_table
from tests.media.malformed import valid_files


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("1,2\n3,4\n", True),
        ("time,a\n0,1\n", True),
        ("a\tb\n1\t2", True),
        ("a;b\n1;2", True),
        ("# sample_rate_hz=3\na,b\n1,2\n", True),
        ("1\n2\n3\n", False),
        ("1,2\n", False),
        ("a,b\n1,x\n", False),
        ("a,b\n1\n", False),
        ("Dear all,\nyes, no\n", False),
        ("", False),
        ("\n\n", False),
        ("a,b\n" + "1,2\n" * 20_000, True),
        ('a,"\n1,2', False),
    ],
)
def test_tables(text: str, table: bool) -> None:
    assert is_table(text) is table


def test_a_gif_moves_with_its_second_picture() -> None:
    moves, still = valid_files()["gif"], valid_files()["still.gif"]
    assert binary_format(moves) == ("video", "gif")
    assert binary_format(still) == ("image", "gif")
    assert binary_format(moves[: len(moves) // 5]) == ("image", "gif")


def test_a_picture_needs_more_than_two_letters() -> None:
    assert binary_format(valid_files()["bmp"]) == ("image", "bmp")
    assert binary_format(b"BM" + bytes(100)) is None


@pytest.mark.parametrize("head", [b"\xff\xfb\x90\x00", b"\xff\xf3\x40\xc0", b"\xff\xe3\x18\x00"])
def test_sound_of_layer_three_without_a_tag(head: bytes) -> None:
    assert binary_format(head + bytes(50)) == ("audio", "mp3")


@pytest.mark.parametrize("head", [b"\xff\xfe\x90\x00", b"\xff\xfb\xf0\x00", b"\xff\xfb\x9c\x00", b"\xff\xfb"])
def test_what_only_resembles_layer_three(head: bytes) -> None:
    assert binary_format(head + bytes(50 if len(head) > 2 else 0)) is None


def test_a_tag_before_flac() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x05" + bytes(5)
    assert binary_format(tag + valid_files()["flac"]) == ("audio", "flac")
    assert binary_format(tag + b"\xff\xfb\x90\x00") == ("audio", "mp3")


def ogg_page(body: bytes, first: bool = True) -> bytes:
    """Returns one page of an Ogg stream without its checksum."""
    return b"OggS\0" + bytes([2 if first else 0]) + bytes(20) + bytes([1, len(body)]) + body


def test_ogg_is_video_where_any_stream_is() -> None:
    sound, motion = ogg_page(b"\x01vorbis" + bytes(20)), ogg_page(b"\x80theora" + bytes(20))
    assert binary_format(sound) == ("audio", "ogg")
    assert binary_format(sound + motion) == ("video", "ogg")
    assert binary_format(sound + ogg_page(b"data", first=False) + motion) == ("audio", "ogg")


def box(kind: bytes, body: bytes) -> bytes:
    """Returns one box of an MP4."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def track(kind: bytes) -> bytes:
    """Returns the box that says what a track is."""
    return box(b"trak", box(b"hdlr", bytes(8) + kind + bytes(12)))


@pytest.mark.parametrize(
    ("brand", "tracks", "found"),
    [
        (b"isom", (b"soun",), ("audio", "m4a")),
        (b"isom", (b"soun", b"vide"), ("video", "mp4")),
        (b"isom", (b"vide",), ("video", "mp4")),
        (b"qt  ", (b"vide",), ("video", "mov")),
        (b"M4A ", (b"soun", b"vide"), ("audio", "m4a")),
        (b"avif", (), None),
        (b"isom", (), ("video", "mp4")),
    ],
)
def test_mp4_by_its_brand_and_tracks(brand: bytes, tracks: tuple[bytes, ...], found: tuple[str, str] | None) -> None:
    head = box(b"ftyp", brand + bytes(4))
    listed = box(b"moov", b"".join(track(kind) for kind in tracks))
    large = struct.pack(">I4sQ", 1, b"mdat", 36) + bytes(20)
    assert binary_format(head + listed + large) == found
    assert binary_format(head + large + listed) == found


def test_matroska_by_the_codecs_it_names() -> None:
    motion = valid_files()["mkv"]
    assert binary_format(motion) == ("video", "mkv")
    head = motion[: motion.index(b"\x86") + 2]
    assert binary_format(head + b"A_OPUS") == ("audio", "mkv")
    assert binary_format(valid_files()["webm"]) == ("video", "webm")


def test_strangers_are_named() -> None:
    assert "gzip" in beginning(b"\x1f\x8b\x08")
    assert "avif picture" in beginning(b"\0\0\0\x20ftypavif")
    assert beginning(b"\x01\x02") == "01 02"


@given(
    st.sampled_from([b"", b"GIF89a", b"OggS", b"\x1a\x45\xdf\xa3", b"ID3", b"RIFF", b"\0\0\0\0ftyp", b"PK\x03\x04"]),
    st.binary(max_size=80),
)
def test_any_bytes_have_an_answer(mark: bytes, body: bytes) -> None:
    found = binary_format(mark + body)
    assert found is None or found[0] in ("image", "audio", "video", "timeseries")
    assert beginning(mark + body) or not mark + body
