"""Rows are found, taken apart and refused as the folder convention says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intermodal as im
from intermodal.data import table
from intermodal.data.table import Table
from intermodal.errors import InvalidData, InvalidValue, UnknownName

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*rows: dict[str, Any] | str, into: str = ".") -> Path:
        folder = tmp_path / into
        folder.mkdir(exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path

    return written


def test_columns_become_fields_and_metadata(write: Write) -> None:
    folder = write(
        {"file_name": "a/1.png", "text": ["one", "", "two"], "speech_file_name": "1.WAV", "split": "val", "width": 3},
        {"file_name": "2.mp4", "box": [1, 2], "tag": {"name": "x"}, "good": True, "text": None},
        "",
        {"text": "three", "speech_file_name": None, "image_file_name": "3.dat"},
    )
    found = Table(folder)
    assert found.fields == {"image": "image", "speech": "audio", "text": "text", "video": "video"}
    assert found.counts == {"image": 2, "speech": 1, "text": 2, "video": 1}
    assert found.splits == {"dev"}
    first, second, third = found.rows([0, 1, 2])
    assert first.media == {"image": "a/1.png", "speech": "1.WAV"}
    assert first.texts == {"text": ("one", "two")}
    assert first.extra == {"width": 3}
    assert first.split == "dev"
    assert (second.media, second.texts) == ({"video": "2.mp4"}, {})
    assert second.extra == {"box": [1, 2], "tag": {"name": "x"}, "good": True}
    assert (third.media, third.texts, third.split) == ({"image": "3.dat"}, {"text": ("three",)}, None)
    assert third.place.endswith("metadata.jsonl line 4")


def test_rows_come_in_any_order_and_as_often_as_asked(write: Write) -> None:
    found = Table(write(*[{"text": f"number {i}"} for i in range(100)]))
    assert [r.texts["text"] for r in found.rows([99, 0, 99, 50])] == [(f"number {i}",) for i in (99, 0, 99, 50)]
    found.close()
    assert found.rows([7])[0].texts["text"] == ("number 7",)
    for wrong in (-1, 100):
        with pytest.raises(InvalidValue, match="0 to 99"):
            found.rows([wrong])


def test_a_split_keeps_its_rows_and_the_fields_of_all(write: Write) -> None:
    folder = write(
        {"text": "a", "split": "train"}, {"label": "b", "split": "test"}, {"text": "c", "split": "train"}, {"text": "d"}
    )
    train = Table(folder, "train")
    assert [r.texts["text"][0] for r in train.rows(range(len(train)))] == ["a", "c"]
    assert train.fields == {"text": "text", "label": "text"}
    assert len(Table(folder)) == 4
    with pytest.raises(UnknownName, match=r"'dev'.*test, train"):
        Table(folder, "validation")


def test_sub_folders_are_splits(write: Write) -> None:
    write({"text": "a"}, into="train")
    folder = write({"text": "b"}, {"image_file_name": "c.png"}, into="validation")
    assert [len(Table(folder, split)) for split in (None, "train", "dev", "val")] == [3, 1, 2, 2]
    assert Table(folder, "dev").rows([1])[0].folder == str(folder / "validation")


def test_rows_without_what_is_asked_for_are_left_out(write: Write) -> None:
    folder = write({"text": "a", "label": "b"}, {"text": "c"}, {"label": "d"}, {"number": 1})
    assert (len(Table(folder)), Table(folder).left_out) == (3, 1)
    assert (len(Table(folder, fields=["label"])), Table(folder, fields=["label"]).left_out) == (2, 2)
    assert len(Table(folder, require=["text", "label"])) == 1
    with pytest.raises(UnknownName, match=r"'image'.*label, text"):
        Table(folder, fields=["image"])
    with pytest.raises(UnknownName, match="'number'"):
        Table(folder, require=["number"])


def test_a_file_without_a_known_suffix_is_looked_into(write: Write, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("just words")
    (tmp_path / "two").write_bytes(b"\0\1\2\3")
    folder = write(
        {"file_name": "one"}, {"file_name": "two", "label": "x"}, {"file_name": "three"},
        {"note_file_name": "two"}, {"note_file_name": "one"}, {"note_file_name": "two"},
    )  # fmt: skip
    found = Table(folder)
    assert found.fields == {"text": "text", "label": "text", "note": "text"}
    assert [(place.split()[-1], path) for place, path, _ in found.unknown] == [
        ("2", "two"),
        ("3", "three"),
        ("4", "two"),
    ]
    assert "known format" in found.unknown[0][2]
    assert [r.place.split()[-1] for r in found.rows(range(len(found)))] == ["1", "2", "5", "6"]


@pytest.mark.parametrize(
    "path",
    ["../a.png", "a/../../b.png", "/etc/a.png", "a\\..\\b.png", "C:/a.png", "a\0.png", "file:///a.png", ".."],
)
@pytest.mark.parametrize("column", ["file_name", "image_file_name"])
def test_paths_may_not_leave_the_folder(write: Write, path: str, column: str) -> None:
    folder = write({"text": "fine"}, {column: path})
    with pytest.raises(InvalidData, match=r"line 2: \w*file_name is .* leave the folder"):
        Table(folder)


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "inside2"
    inside.mkdir(), outside.mkdir()
    for folder in (inside, outside):
        (folder / "a.txt").write_text("words")
    (inside / "same").symlink_to(inside / "a.txt")
    (inside / "other").symlink_to(outside / "a.txt")
    (inside / "away").symlink_to(outside)
    (inside / "deep").mkdir()
    (inside / "deep" / "up").symlink_to(inside)
    files = ("same", "deep/up/a.txt", "other", "away/a.txt")
    (inside / "metadata.jsonl").write_text("".join(f'{{"image_file_name": "{name}"}}\n' for name in files))
    found = Table(inside)
    same, deep, other, away = found.rows(range(4))
    for row in (same, deep):
        assert Path(found.read(row, row.media["image"])).read_text() == "words"
    for row in (other, away):
        with pytest.raises(InvalidData, match=r"line \d: .* link that leaves"):
            found.read(row, row.media["image"])
    (inside / "metadata.jsonl").write_text('{"file_name": "other"}\n')
    with pytest.raises(InvalidData, match="line 1: other is a link"):
        Table(inside)


def test_a_relative_folder_is_the_one_it_was_when_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, kind in (("first", im.Text("words")), ("second", im.Image(np.zeros((4, 4, 3), np.uint8)))):
        (tmp_path / place / "pairs").mkdir(parents=True)
        file = tmp_path / place / "pairs" / ("a.txt" if place == "first" else "a.png")
        file.write_text(kind.text) if isinstance(kind, im.Text) else kind.save(file)
        file.rename(file.with_suffix(".dat"))
        (file.parent / "metadata.jsonl").write_text('{"file_name": "a.dat"}\n')
    monkeypatch.chdir(tmp_path / "first")
    words = Table(Path("pairs"))
    assert words.name == "pairs"
    monkeypatch.chdir(tmp_path / "second")
    picture = Table(Path("pairs"))
    assert dict(picture.fields) == {"image": "image"}
    for found, place in ((words, "first"), (picture, "second")):
        for row in found.rows([0]):
            for path in (*row.media.values(), *row.unknown):
                assert found.read(row, path) == str((tmp_path / place / "pairs" / "a.dat").resolve())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{bad", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1]", "line 2 holds a list"),
        ("3", "line 2 holds a int"),
        ('{"file_name": 3}', "line 2: file_name is 3"),
        ('{"split": 1, "text": "a"}', "line 2: split is 1"),
        ('{"file_name": "a.png", "image_file_name": "b.png"}', "line 2 gives the field 'image' twice"),
        ('{"image_file_name": "b.png", "image": "c"}', "line 2 gives the field 'image' twice"),
        ('{"text": 5}', r"line 2: the column 'text' holds metadata, but text at .* line 1"),
        ('{"audio": "a"}', "line 2: the column 'audio' holds text; give it another name"),
        ('{"clip_file_name": "a.png"}', r"line 2: the column 'clip' holds image, but video at .* line 1"),
    ],
)
def test_a_line_that_is_no_row_is_named(write: Write, row: str, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        Table(write({"text": "fine", "clip_file_name": "a.mp4"}, row))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(InvalidData, match="line 2 is not JSON"):
        Table(tmp_path)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LINE_BYTES_MAX", 100)
    (tmp_path / "metadata.jsonl").write_text('{"text": "a"}\n{"text": "' + 500 * "x")
    with pytest.raises(InvalidData, match="line 2 has over 100 bytes"):
        Table(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}')
    found = Table(tmp_path)
    assert [r.texts["text"] for r in found.rows([0, 1])] == [("a",), ("b",)]


def test_a_folder_without_metadata_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r'has no metadata.jsonl; .*\{"file_name": "first.png", "text"'):
        Table(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.flac").touch()
    with pytest.raises(InvalidData, match=r'"file_name": "b/x.flac"'):
        Table(tmp_path)
    with pytest.raises(InvalidData, match="is not a folder"):
        Table(tmp_path / "absent")


def test_metadata_without_a_usable_row_is_refused(write: Write) -> None:
    with pytest.raises(InvalidData, match="no row with a text or a file"):
        Table(write({"number": 1}, "", {"text": "", "label": []}))
    folder = write({"text": "a", "split": "train"}, {"label": "b", "split": "test"})
    with pytest.raises(InvalidData, match="no row with split 'test' and all of the fields text"):
        Table(folder, "test", require=["text"])


def test_a_file_that_changes_while_in_use_is_noticed(write: Write) -> None:
    folder = write({"text": "a"}, {"text": "b"})
    found = Table(folder)
    (folder / "metadata.jsonl").write_text(" " * 40)
    with pytest.raises(InvalidData, match="line 2 is blank now"):
        found.rows([1])


def test_many_rows_take_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "metadata.jsonl").open("w") as file:
        file.writelines(json.dumps({"file_name": f"{i}.png", "text": "words " * 20}) + "\n" for i in range(20_000))
    found = Table(tmp_path)
    state = vars(found._found)
    held = sum(len(state[name]) * state[name].itemsize for name in ("file", "offset", "size", "line"))
    assert held == 20_000 * 18
    assert found.rows([19_999])[0].media == {"image": "19999.png"}
