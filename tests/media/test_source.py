import contextvars
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal import catalog
from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import (
    Limits,
    content_hash,
    decode_text,
    frozen,
    limited,
    limits,
    modality_of,
    printable,
    read_source,
    sniff,
    suffix_of,
    write_file,
)
from tests.media.malformed import MODALITY, bombs, malformed_files, misnamed_files, valid_files

ITEMS = [catalog.module("modalities", name).ITEM for name in catalog.names("modalities")]


def test_limits_hold_inside_their_block_and_only_there() -> None:
    before = limits()
    with limited(pixels_max=10) as inner:
        assert limits() == inner == Limits(pixels_max=10)
        with limited(bytes_max=5):
            assert (limits().pixels_max, limits().bytes_max) == (10, 5)
        assert contextvars.copy_context().run(limits).pixels_max == 10
    assert limits() == before


def test_a_limit_that_does_not_exist_or_lets_nothing_through_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"pixels_maximum.*pixels_max"), limited(pixels_maximum=3):
        pass
    with pytest.raises(InvalidValue, match="bytes_max is 0"), limited(bytes_max=0):
        pass
    with pytest.raises(InvalidValue, match="seconds_max is nan"):
        Limits(seconds_max=float("nan"))


def test_reads_a_path_a_string_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a note.txt"
    path.write_bytes(b"hello")
    assert read_source(path) == read_source(str(path)) == (b"hello", "a note.txt")
    assert read_source(b"hello world!") == (b"hello world!", "12 bytes")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.png", "there is no file"),
        (".", "is a folder"),
        ("empty.png", "is empty"),
        ("large.png", "100 bytes, more than the limit of 99"),
        ("pipe", "device, pipe or socket"),
        ("loop", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("a\0b", "cannot be a path"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(bytes(100))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with limited(bytes_max=99), pytest.raises(UnreadableMedia, match=reason):
        read_source(f"{tmp_path}/{name}")


def test_devices_are_refused_and_endless_ones_not_read() -> None:
    with pytest.raises(UnreadableMedia, match="device"):
        read_source("/dev/zero")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("intermodal.media.source.os.stat", forbid)
    with pytest.raises(UnreadableMedia, match=r"secret\.png may not be read: permission denied"):
        read_source(tmp_path / "secret.png")


def test_bytes_have_the_same_limit() -> None:
    with limited(bytes_max=3), pytest.raises(UnreadableMedia, match="4 bytes"):
        read_source(b"four")
    with pytest.raises(UnreadableMedia, match="is empty"):
        read_source(b"")


def test_a_written_file_is_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    assert write_file(path, b"new") == path
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]
    with pytest.raises(InvalidValue, match="no folder"):
        write_file(tmp_path / "absent" / "a.bin", b"")
    with pytest.raises(InvalidValue, match="is a folder"):
        write_file(tmp_path, b"")


def test_suffixes() -> None:
    assert suffix_of("A.PNG", ("png", "jpg")) == "png"
    with pytest.raises(InvalidValue, match=r"'a\.doc'.*\.png, \.jpg"):
        suffix_of("folder/a.doc", ("png", "jpg"))


def test_frozen_arrays_share_nothing_that_can_change() -> None:
    array = np.arange(6).reshape(2, 3)
    copy = frozen(array)
    array[0, 0] = 9
    assert copy[0, 0] == 0
    assert not copy.flags.writeable
    assert frozen(copy) is copy
    assert frozen(copy.T).flags.c_contiguous


def test_hashes_differ_where_anything_differs() -> None:
    ones = np.ones((2, 3), np.float32)
    contents = [
        ("audio", ones, 1.0),
        ("video", ones, 1.0),
        ("audio", ones, 2.0),
        ("audio", ones.T, 1.0),
        ("audio", ones.view(np.int32), 1.0),
        ("audio", "ab", "c"),
        ("audio", "a", "bc"),
        ("audio", "abc"),
    ]
    assert len({content_hash(*parts) for parts in contents}) == len(contents)
    assert content_hash("audio", ones[:, ::2]) == content_hash("audio", ones[:, ::2].copy())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\tb\r\n", "a\tb\r\n"),
        ("\ufeffé".encode(), "é"),
        ("é\U0001f600".encode("utf-16"), "é\U0001f600"),
        (b"\xfe\xff\x00a", "a"),
    ],
)
def test_text_in_unicode(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("café".encode("latin-1"), "no UTF-8 text: byte 0xe9 at position 3"),
        (b"\xff\xfea", "no UTF-16 text"),
        (b"ab\x00c", r"'\\x00' at position 2"),
        (b"\x1b[31mred", r"'\\x1b' at position 0"),
        ("a".encode("utf-32"), "is no text"),
    ],
)
def test_other_encodings_and_control_characters_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        decode_text(data)


@given(st.text(st.characters()))
def test_printable_text_can_be_written_and_read(text: str) -> None:
    clean = printable(text)
    assert len(clean) == len(text)
    assert decode_text(b"\xef\xbb\xbf" + clean.encode()) == clean


@pytest.mark.parametrize("ending", MODALITY)
def test_each_format_is_known_by_its_content(ending: str) -> None:
    data = valid_files()[ending]
    kind = ending.rsplit(".", 1)[-1]
    assert sniff(data, f"a.{ending}") == (MODALITY[ending], kind)
    assert sniff(data, "nothing")[0] == sniff(data)[0] == MODALITY[ending]


def test_a_wrong_name_does_not_matter(tmp_path: Path) -> None:
    files = misnamed_files(tmp_path)
    assert {path: modality_of(path) for path in files} == files


def test_the_name_decides_between_a_table_and_a_text() -> None:
    table = b"1,2\n3,4\n"
    assert sniff(table, "a.csv") == sniff(table, "a") == ("timeseries", "csv")
    assert sniff(table, "a.txt") == sniff(table, "a.TXT") == ("text", "txt")
    assert sniff(b"A word, and another.\n", "a") == ("text", "txt")
    assert sniff(b"A word, and another.\n", "a.csv") == ("timeseries", "csv")


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"\x80\x04\x95pickle", "pickle"),
        (b"%PDF-1.7\xff", "PDF"),
        (b"PK\x03\x04\x00word/document.xml", "zip archive"),
        (b"\x00\x00\x00\x18ftypheic", "heic picture"),
        (b"\x93NUMPY\x01\x00", "npz"),
        (b"\x01\x02\x03", "01 02 03"),
    ],
)
def test_unknown_content_is_described(data: bytes, looks: str) -> None:
    with pytest.raises(UnreadableMedia, match=f"a.bin is of no known format.*{looks}"):
        sniff(data, "a.bin")


def opened(source: Path | bytes) -> list[object]:
    """Returns what the modalities make of a source; anything but an item and ``UnreadableMedia`` comes out."""
    made: list[object] = []
    for item in ITEMS:
        with suppress(UnreadableMedia):
            made.append(item.open(source))
    return made


def test_malformed_files_become_items_or_are_refused_soon(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    slow = {}
    paths = malformed_files(tmp_path, 400)
    for path in paths:
        start = time.process_time()
        opened(path)
        if time.process_time() - start > 2:
            slow[path.name] = time.process_time() - start
    capfd.readouterr()  # libtiff writes its complaints to stderr
    assert slow == {}


def test_bombs_are_refused() -> None:
    made = {name: opened(data) for name, data in bombs().items() if name.endswith((".png", ".npz", ".parquet"))}
    assert len(made) > 5
    assert {name: items for name, items in made.items() if items} == {}


MARKS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP", b"\xff\xfe")


@given(st.sampled_from(MARKS), st.binary(max_size=200))
def test_any_bytes_become_items_or_are_refused(mark: bytes, body: bytes) -> None:
    try:
        modality_of(mark + body)
    except UnreadableMedia:
        assert not opened(mark + body)
    else:
        opened(mark + body)
