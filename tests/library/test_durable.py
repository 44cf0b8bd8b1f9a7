import os
from pathlib import Path

import pytest

from intermodal.errors import StoreError
from intermodal.library.durable import Repaired, manifests, newest_manifest, sync_tree, write_durably
from intermodal.library.table import LanceStore
from tests.library.rows import row, rows


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    made = LanceStore(tmp_path)
    for start in (0, 10, 20):
        made.insert(rows(range(start, start + 10), media=b"media"))
    return made


def sources(store: LanceStore) -> list[int]:
    names = store.snapshot().select(None, ["source"]).column("source").to_pylist()
    return sorted(int(name.split()[1]) for name in names)


def newest_data(store: LanceStore) -> Path:
    return max((store.table / "data").glob("*.lance"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("left", [0, 10, 200])
def test_a_newest_version_that_was_cut_off(store: LanceStore, left: int) -> None:
    newest = manifests(store.table)[0]
    os.truncate(newest, left)
    with pytest.raises(StoreError, match="does not open.*Library.repair_folder"):
        LanceStore(store.folder).snapshot()
    assert LanceStore(store.folder).repair() == Repaired((newest.name,), None, 0, 20)
    again = LanceStore(store.folder)
    assert sources(again) == list(range(20))
    assert [path.name for path in (store.folder / "damaged").iterdir()] == [f"{newest.name}.0"]
    again.insert(rows(range(20, 40)))
    assert sources(again) == list(range(40))
    assert LanceStore(store.folder).repair() == Repaired((), None, 0, 40)


def test_two_versions_that_were_cut_off(store: LanceStore) -> None:
    for path in manifests(store.table)[:2]:
        os.truncate(path, 0)
    assert store.repair().items == 10
    assert sources(store) == list(range(10))


def test_the_only_version_was_cut_off(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    store.insert([row(1)])
    for path in manifests(store.table):
        os.truncate(path, 0)
    assert store.repair().items == 0
    assert store.insert([row(1)]) == 1


def test_a_hint_that_was_cut_off_does_no_harm(store: LanceStore) -> None:
    (store.table / "_versions" / "latest_version_hint.json").write_bytes(b"")
    assert sources(LanceStore(store.folder)) == list(range(30))


@pytest.mark.parametrize("damage", ["short", "gone"])
def test_a_newest_file_that_was_cut_off(store: LanceStore, damage: str) -> None:
    path = newest_data(store)
    os.truncate(path, 50) if damage == "short" else path.unlink()
    found = store.repair()
    assert (found.lost, found.items, found.restored is not None) == (0, 20, True)
    assert sources(store) == list(range(20))
    assert store.insert(rows(range(20, 30))) == 10


def test_merged_files_that_were_cut_off_cost_nothing(store: LanceStore) -> None:
    store.compact(3600.0)
    os.truncate(newest_data(store), 50)
    found = store.repair()
    assert (found.lost, found.items) == (0, 30)
    assert sources(store) == list(range(30))


def test_an_old_file_that_is_gone_costs_its_rows_alone(store: LanceStore) -> None:
    min((store.table / "data").glob("*.lance"), key=lambda path: path.stat().st_mtime_ns).unlink()
    found = store.repair()
    assert (found.lost, found.items) == (10, 20)
    assert sources(store) == list(range(10, 30))
    assert store.insert(rows(range(30))) == 10


def test_what_no_repair_mends(store: LanceStore) -> None:
    for number in range(40, 43):
        store.insert([row(number)])
    for path in manifests(store.table):
        path.write_bytes(b"not a version " * 100 + b"LANC")
    with pytest.raises(StoreError, match="restore it from a copy"):
        store.repair()
    assert len(manifests(store.table)) >= 3


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names open files by /proc")
def test_every_file_of_a_commit_is_flushed(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def noted(handle: int) -> None:
        flushed.append(os.path.realpath(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    before = {str(path) for path in store.table.rglob("*") if path.is_file()}
    store.insert(rows(range(30, 35)))
    new = {str(path) for path in store.table.rglob("*") if path.is_file()} - before
    assert {Path(path).suffix for path in new} == {".lance", ".manifest", ".txn"}
    assert new <= set(flushed)
    assert {str(store.table), *(str(Path(path).parent) for path in new)} <= set(flushed)
    assert len(flushed) < 12


def test_what_was_flushed_is_not_flushed_again(store: LanceStore) -> None:
    done: set[str] = set()
    assert sync_tree(store.table, done) > 6
    assert sync_tree(store.table, done) <= 1


def test_a_small_file_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_durably(path, "old")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_durably(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    "versions",
    [
        [1],
        [2, 10, 9],
        [2**64 - 1 - 1],
        [2**64 - 1 - 3, 2**64 - 1 - 12, 2**64 - 1 - 9],
        [7, 2**64 - 1 - 3, 2**64 - 1 - 12],
        [99, 2**64 - 1 - 3],
    ],
)
def test_the_newest_version_is_found_among_names_of_both_schemes(versions: list[int], tmp_path: Path) -> None:
    assert newest_manifest(tmp_path) is None
    (tmp_path / "_versions").mkdir()
    assert newest_manifest(tmp_path) is None
    for version in versions:
        (tmp_path / "_versions" / f"{version}.manifest").touch()
    (tmp_path / "_versions" / "d123.manifest").touch()
    (tmp_path / "_versions" / "latest_version_hint.json").touch()
    assert newest_manifest(tmp_path) == str(manifests(tmp_path)[0])
