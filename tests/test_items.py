"""Files and bytes of any kind to the item that they hold."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from intermodal.diorama.source import Diorama
from intermodal.errors import UnreadableMedia
from intermodal.items import open_item
from intermodal.modalities.image import Image

SUFFIXES = {"text": "txt", "image": "png", "audio": "wav", "video": "mp4", "timeseries": "csv"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("media")
    sample = Diorama("test").samples([0])[0]
    return {name: sample[name].save(folder / f"item.{suffix}") for name, suffix in SUFFIXES.items()}


@pytest.mark.parametrize("modality", SUFFIXES)
def test_content_tells_the_modality(files: dict[str, Path], modality: str, tmp_path: Path) -> None:
    path = files[modality]
    item = open_item(path)
    assert item.modality == modality
    bare = tmp_path / "item"  # a name without a suffix says nothing
    bare.write_bytes(path.read_bytes())
    for same in (open_item(str(path)), open_item(path.read_bytes()), open_item(bare)):
        assert same.modality == modality
        assert same.content_hash() == item.content_hash()  # type: ignore[attr-defined]


def test_item_is_what_was_saved(files: dict[str, Path]) -> None:
    sample = Diorama("test").samples([0])[0]
    for name in ("text", "image"):  # the formats that lose nothing
        assert open_item(files[name]).content_hash() == sample[name].content_hash()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x02\x03", b"\x89PNG\r\n\x1a\n" + bytes(20), b"RIFF\x04\x00\x00\x00WAVE"]
)
def test_bytes_of_no_item_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        open_item(data)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="missing.jpg"):
        open_item(tmp_path / "missing.jpg")


def test_member_of_an_archive_is_opened_and_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("words/a.txt", "1,2\n3,4\n")
        archive.writestr("bad.png", b"\x89PNG\r\n\x1a\n" + bytes(20))
    inside = zipfile.Path(tmp_path / "a.zip")
    assert open_item(inside / "words" / "a.txt").text == "1,2\n3,4\n"  # type: ignore[attr-defined]
    with pytest.raises(UnreadableMedia, match=r"^bad\.png is no readable png"):
        open_item(inside / "bad.png")


def test_a_large_jpg_may_be_decoded_smaller(tmp_path: Path) -> None:
    path = Image(np.zeros((480, 640, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert open_item(path).pixels.shape == (480, 640, 3)  # type: ignore[attr-defined]
    assert open_item(path, (100, 100)).pixels.shape == (120, 160, 3)  # type: ignore[attr-defined]
