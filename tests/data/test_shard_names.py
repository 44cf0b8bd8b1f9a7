"""Patterns lead to shards and their splits, and keys to fields by one rule."""

from pathlib import Path

import pytest

from intermodal.data.shard_names import named, paths_of
from intermodal.errors import InvalidData, InvalidValue


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("train-000", "train-001", "val-000", "test/000", "test/001", "more/a"):
        (tmp_path / f"{name}.tar").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.tar").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("train-{000..001}.tar", {"train-000.tar": "train", "train-001.tar": "train"}),
        ("train-{001..000}.tar", {"train-001.tar": "train", "train-000.tar": "train"}),
        ("{train,val}-000.tar", {"train-000.tar": "train", "val-000.tar": "dev"}),
        ("*.tar", {"train-000.tar": "train", "train-001.tar": "train", "val-000.tar": "dev"}),
        ("test", {"test/000.tar": "test", "test/001.tar": "test"}),
        ("{split}-*.tar", {"train-000.tar": "train", "train-001.tar": "train", "val-000.tar": "dev"}),
        ("{split}/{000..001}.tar", {"test/000.tar": "test", "test/001.tar": "test"}),
        ("more/a.tar", {"more/a.tar": "train"}),
    ],
)
def test_a_pattern_stands_for_shards(place: Path, pattern: str, found: dict[str, str]) -> None:
    assert {path.as_posix(): split for path, split in paths_of(pattern).items()} == found


def test_a_folder_is_all_its_shards_and_those_one_below(place: Path) -> None:
    assert len(paths_of(str(place))) == 6
    assert sorted(paths_of(str(place)).values()) == ["dev", "test", "test", "train", "train", "train"]


def test_a_split_of_any_name_stands_in_the_pattern(place: Path) -> None:
    assert list(paths_of("{split}/*.tar", "more").values()) == ["test", "test", "more"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("train-{000..003}.tar", r"no tar file is at train-002\.tar, nor at 1 more of 4"),
        ("none-*.tar", r"no tar file is at none-\*\.tar; check the path"),
        ("none/{split}.tar", "stands for no shard, whatever the split"),
        ("{split}-{000..001}.tar", r"no tar file is at val-001\.tar"),
    ],
)
def test_shards_that_are_not_there_are_named(place: Path, pattern: str, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        paths_of(pattern)


def test_a_folder_of_packed_shards_gives_the_first(place: Path) -> None:
    (place / "packed").mkdir()
    (place / "packed" / "a.tar.gz").touch()
    assert [path.name for path in paths_of("packed")] == ["a.tar.gz"]


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"over 1,000,000 shards"):
        paths_of("{0..99999999}.tar")


def test_keys_become_fields() -> None:
    found, left = named([("jpg", "txt", "json", "json:caption", "json:label"), ("png", "cls", "npy"), ("left.wav",)])
    assert found == {
        "jpg": ("image", "image"),
        "txt": ("text", "text"),
        "png": ("image", "image"),
        "cls": ("cls", "text"),
        "left.wav": ("left", "audio"),
        "json:caption": ("text", "text"),
        "json:label": ("label", "text"),
    }
    assert list(left) == ["npy"]


@pytest.mark.parametrize(
    ("kinds", "fields"),
    [
        ([("jpg", "png"), ("jpg",)], ["jpg", "png"]),
        ([("left.jpg", "right.jpg")], ["left", "right"]),
        ([("speech.wav",), ("speech.txt",)], ["speech_wav", "speech_txt"]),
        ([("image.txt", "image.png")], ["image_txt", "image_png"]),
        ([("audio.txt",)], ["audio_txt"]),
        ([("rgb.left.jpg",)], ["rgb_left"]),
        ([("question.wav", "json:question", "json:answers")], ["question", "question_text", "answer"]),
    ],
)
def test_the_suffix_tells_apart_what_would_be_one_field(kinds: list[tuple[str, ...]], fields: list[str]) -> None:
    assert [field for field, _ in named(kinds)[0].values()] == fields
