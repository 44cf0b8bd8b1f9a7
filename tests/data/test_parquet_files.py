"""The files of a data set are found by its layout, in a folder or in the cache of the hub; nothing is fetched."""

import os
from pathlib import Path
from typing import Any

import pytest

from intermodal.data.parquet_files import find, of_folder
from intermodal.errors import InvalidData, UnknownName

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "config", "found"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], "", ["train", "train"]),
        (["data/validation-00000-of-00001-0123abcd.parquet"], "default", ["dev"]),
        (["train/0000.parquet", "test/0000.parquet"], "", ["test", "train"]),
        (["data/train/a.parquet", "data/val/a.parquet"], "", ["train", "dev"]),
        (["all/auxiliary_train-00000-of-00001.parquet"], "", ["auxiliary_train"]),
        (["default/train/0000.parquet", "default/extra/0000.parquet"], "", ["extra", "train"]),
        (["de/train-00000-of-00001.parquet", "fr/test-00000-of-00001.parquet"], "fr", ["test"]),
        (["data/de/train-00000-of-00001.parquet", "data/fr/test.parquet"], "fr", ["test"]),
        (["de/train.parquet", "train.parquet"], "", ["train"]),
        (["some.parquet", ".cache/test.parquet"], "", ["train"]),
    ],
)
def test_the_layout_says_config_and_split(tmp_path: Path, names: list[str], config: str, found: list[str]) -> None:
    assert list(of_folder(touch(tmp_path, *names), config, "x").values()) == found


def test_a_config_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    folder = touch(tmp_path / "x", "de/train-00000-of-00001.parquet", "fr/train-00000-of-00001.parquet")
    with pytest.raises(UnknownName, match=r"no config of hf:.*#CONFIG, named '\(none given\)'; use one of: de, fr"):
        find(str(folder))
    with pytest.raises(UnknownName, match=r"named 'it'; use one of: de, fr"):
        find(f"{folder}#it")
    assert [path.parent.name for path in find(f"{folder}#de").files] == ["de"]
    assert find(f"{folder}#de").name == "x#de"


def test_a_file_is_a_data_set(tmp_path: Path) -> None:
    path = touch(tmp_path, "my-test.parquet") / "my-test.parquet"
    assert find(str(path)).files == {path: "test"}


def test_other_names_are_refused(tmp_path: Path) -> None:
    for name in ("mnist", "a/b/c", "../x", "", "a/b@", str(tmp_path / "none")):
        with pytest.raises(InvalidData, match=r"is neither a folder nor a parquet file nor a name of the hub"):
            find(name)
    with pytest.raises(InvalidData, match="holds no parquet files"):
        find(str(touch(tmp_path, "train.csv")))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the cache of the hub; the machine is without a network."""
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def put(hub: Path, repo: str, *names: str) -> Path:
    """Puts files where the library keeps those of a data set."""
    place = hub / f"datasets--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "blobs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for number, name in enumerate(names):
        path = place / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (place / "blobs" / str(number)).touch()
        path.symlink_to(os.path.relpath(place / "blobs" / str(number), path.parent))
    return place / "snapshots" / COMMIT


def test_a_data_set_of_the_hub_is_found_in_its_cache(hub: Path) -> None:
    folder = put(hub, "some/set", "de/train-00000-of-00001.parquet", "fr/test-00000-of-00001.parquet", "README.md")
    for name in ("some/set#fr", "some/set@main#fr", f"some/set@{COMMIT}#fr"):
        found = find(name)
        assert found.files == {folder / "fr" / "test-00000-of-00001.parquet": "test"}
        assert (found.name, found.revision) == ("some/set#fr", COMMIT)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other/set", "is not on this machine and cannot be fetched .*check the name"),
        ("some/set@v2", "is not on this machine and cannot be fetched .*check the name"),
        ("some/set", r"cannot be fetched whole: it lacks data/train-00001-of-00002\.parquet; either the network went"),
    ],
)
def test_what_is_not_whole_is_told_in_one_sentence(hub: Path, name: str, message: str) -> None:
    put(hub, "some/set", "data/train-00000-of-00002.parquet")
    with pytest.raises(InvalidData, match=f"hf:{name} {message}"):
        find(name)


def test_what_was_interrupted_is_asked_for_again(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("huggingface_hub")
    asked: list[dict[str, Any]] = []

    def interrupted(repo: str, **about: Any) -> str:
        asked.append(about)
        if about["local_files_only"] and len(asked) == 1:
            raise FileNotFoundError
        if not about["local_files_only"] and len(asked) == 2:
            put(hub, "some/set", "data/train-00000-of-00001.parquet")
            raise KeyboardInterrupt
        return str(hub / "datasets--some--set" / "snapshots" / COMMIT)

    monkeypatch.setattr(library, "snapshot_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find("some/set")
    assert list(find("some/set").files.values()) == ["train"]  # half of it was there: asked again
    assert list(find("some/set").files.values()) == ["train"]  # and now it is known to be whole
    assert [about["local_files_only"] for about in asked] == [True, False, True, False, True]
    assert asked[0]["repo_type"] == "dataset"
    assert asked[0]["allow_patterns"] == ["README.md", "*.parquet", "*/*.parquet"]
