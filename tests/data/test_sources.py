"""The names of the command line lead to sources, and wrong ones to a message that lists the right ones."""

from pathlib import Path

import pytest

from intermodal.data.folder import Folder
from intermodal.data.sources import Varies, open_source
from intermodal.errors import InvalidData, InvalidValue, UnknownName


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metadata.jsonl").write_text('{"text": "a", "split": "train"}\n{"text": "b", "label": "c"}\n')
    return tmp_path


def test_a_path_is_a_folder(folder: Path) -> None:
    source = open_source(str(folder), "train", fields=["text"])
    assert isinstance(source, Folder)
    assert isinstance(source, Varies)
    assert (len(source), source.fields) == (1, {"text": "text"})
    assert len(open_source(str(folder), None)) == 2


def test_diorama_is_diorama() -> None:
    source = open_source("diorama", "test", fields=["text"], size=7)
    assert (len(source), source.fields, source.describe()["split"]) == (7, {"text": "text"}, "test")
    assert not isinstance(source, Varies)


@pytest.mark.parametrize("name", ["dioramas", "s3://shards/a.tar", ""])
def test_another_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnknownName, InvalidData), match=r"metadata\.jsonl"):
        open_source(name, "train")


def test_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidValue, match="is a file; give the folder"):
        open_source(str(folder / "metadata.jsonl"), "train")


@pytest.mark.parametrize(("name", "option", "known"), [("", "size", "cache_bytes"), ("diorama", "require", "size")])
def test_an_unknown_option_is_refused(folder: Path, name: str, option: str, known: str) -> None:
    with pytest.raises(UnknownName, match=rf"'{option}'; use one of: .*{known}"):
        open_source(name or str(folder), "train", **{option: 3})


def test_shots_are_episodes() -> None:
    source = open_source("shots", "test", shots=1, size=3)
    assert (len(source), list(source.fields)) == (3, ["image_1", "text_1", "image", "text"])
