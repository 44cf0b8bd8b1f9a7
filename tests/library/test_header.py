import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from intermodal.errors import StoreError, Unsupported
from intermodal.library.header import identity, make, read, remove, said
from intermodal.library.windows import Windows


def model_of(**told: object) -> SimpleNamespace:
    return SimpleNamespace(embed=len, **told)


def test_what_makes_no_vectors_makes_no_library(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="a painter does not embed, so it makes no library"):
        make(tmp_path / "a", SimpleNamespace(name="a painter"), Windows())
    assert not list(tmp_path.glob("a/*"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    make(tmp_path / "a" / "b", model_of(name="small", fingerprint="f00"), Windows(5.0, 1.0, 10))
    told = read(tmp_path / "a" / "b")
    assert told["model"] == {"name": "small", "identity": "f00"}
    assert Windows(**told["windows"]) == Windows(5.0, 1.0, 10)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="something else; give a new folder"):
        make(tmp_path, None, Windows())
    with pytest.raises(StoreError, match="something else"):
        make(tmp_path / "photo.jpg", None, Windows())
    make(tmp_path / "new", None, Windows())
    with pytest.raises(StoreError, match="a library; use Library.open"):
        make(tmp_path / "new", None, Windows())


def test_a_folder_with_what_a_stopped_process_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".library.json.123").write_text("{")
    make(tmp_path, None, Windows())
    assert read(tmp_path)["model"] == {"name": "", "identity": ""}


def test_what_is_no_library(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no library in .*; make one with Library.create"):
        read(tmp_path)
    (tmp_path / "library.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "library.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="has the format 99, and this version reads 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (None, "", ""),
        (model_of(), "", ""),
        (model_of(name="a"), "a", "a"),
        (model_of(name="a", fingerprint="b"), "a", "b"),
        (model_of(name=lambda: "a", fingerprint=lambda: 7), "a", "7"),
        (model_of(name=None, fingerprint=None), "", ""),
    ],
)
def test_what_a_model_says(model: object, name: str, expected: str) -> None:
    assert (said(model, "name"), identity(model)) == (name, expected)


def test_removing_leaves_what_is_not_of_the_library(tmp_path: Path) -> None:
    make(tmp_path / "x", None, Windows())
    for name in ("derived/a", "items.lance/b", "damaged/c", "write.lock", "mine.txt"):
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_text("x")
    remove(tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine.txt"]
