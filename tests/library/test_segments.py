import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from intermodal.library import segments as module
from intermodal.library.segments import Block, Segments, members
from intermodal.library.table import LanceStore
from tests.library.rows import row, rows

MODALITIES = ("text", "image", "audio")


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "derived"


def add(store: LanceStore, numbers: range) -> None:
    store.insert([row(number, modality=MODALITIES[number % 3]) for number in numbers])


def held(blocks: tuple[Block, ...]) -> dict[int, str]:
    """Returns the live rows: number -> modality; checks that every row is whole."""
    found = {}
    for block in blocks:
        for place in block.live():
            told = block.table.slice(int(place), 1).to_pylist()[0]
            number = int(told["source"].split()[1])
            expected = row(number, modality=MODALITIES[number % 3])
            assert (told["id"], told["modality"]) == (expected.id, expected.modality) == (told["id"], block.modality)
            np.testing.assert_array_equal(block.rows.exact[place], expected.vector)
            restored = block.rows.centre + block.rows.coarse[place, :8] * block.rows.scale[place]
            assert np.linalg.norm(restored - expected.vector) <= block.rows.residual[place]
            assert number not in found
            found[number] = block.modality
    return found


def check(store: LanceStore, segments: Segments) -> tuple[Block, ...]:
    blocks = segments.blocks(store.snapshot())
    names = store.snapshot().select(None, ["source"]).column("source").to_pylist()
    assert sorted(held(blocks)) == sorted(int(name.split()[1]) for name in names)
    return blocks


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_empty(store: LanceStore, folder: Path) -> None:
    assert Segments(folder).blocks(store.snapshot()) == ()


def test_every_row_once_through_all_changes(store: LanceStore, folder: Path) -> None:
    segments = Segments(folder)
    for start in range(0, 60, 20):
        add(store, range(start, start + 20))
        check(store, segments)
    store.delete([row(n).id for n in (0, 1, 25, 59)])
    check(store, segments)
    store.compact(0.0)
    check(store, segments)
    add(store, range(60, 64))
    check(store, segments)
    store.delete([row(n).id for n in range(64)])
    assert check(store, segments) == ()
    add(store, range(3))
    check(store, Segments(folder))


def test_blocks_are_of_one_modality(store: LanceStore, folder: Path) -> None:
    add(store, range(30))
    blocks = check(store, Segments(folder))
    assert [block.modality for block in blocks] == ["audio", "image", "text"]
    assert [len(block.rows) for block in blocks] == [10, 10, 10]


def test_only_what_is_new_is_read(store: LanceStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = module._batches

    def noted(snapshot: object, parts: list[module.Part], columns: list[str]) -> object:
        read.extend(part.number for part in parts if columns == ["vector"])
        return real(snapshot, parts, columns)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_batches", noted)
    add(store, range(300))
    Segments(folder).blocks(store.snapshot())
    add(store, range(300, 310))
    read.clear()
    segments = Segments(folder)
    segments.blocks(store.snapshot())
    assert read == [1]
    segments.blocks(store.snapshot())
    Segments(folder).blocks(store.snapshot())
    assert read == [1]


def test_few_segments_however_many_commits(store: LanceStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNUSED_S", -1.0)
    segments = Segments(folder)
    for start in range(24):
        add(store, range(start * 3, start * 3 + 3))
        check(store, segments)
    assert len(names(folder)) <= 6


def test_removed_rows_are_masked_and_then_left_out(store: LanceStore, folder: Path) -> None:
    add(store, range(60))
    segments = Segments(folder)
    check(store, segments)
    store.delete([row(n).id for n in range(4)])
    blocks = check(store, segments)
    assert sum(len(block.rows) for block in blocks) == 60
    store.delete([row(n).id for n in range(30)])
    blocks = check(store, segments)
    assert sum(len(block.rows) for block in blocks) == 30
    assert all(block.mask is None for block in blocks)


@pytest.mark.parametrize("file", ["vectors.i8", "vectors.f32", "rows.arrow", "segment.json"])
@pytest.mark.parametrize("damage", ["short", "gone", "empty", "flipped"])
def test_a_damaged_segment_is_never_used(store: LanceStore, folder: Path, file: str, damage: str) -> None:
    add(store, range(60))
    check(store, Segments(folder))
    path = folder / next(iter(names(folder))) / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x55
        path.write_bytes({"short": data[:-7], "empty": b"", "flipped": bytes(data)}[damage])
    if (file, damage) != ("vectors.f32", "flipped"):  # the scan itself notices those
        check(store, Segments(folder))


def test_a_segment_of_another_store_or_format_is_not_used(store: LanceStore, folder: Path, tmp_path: Path) -> None:
    add(store, range(30))
    check(store, Segments(folder))
    name = next(iter(names(folder)))
    header = json.loads((folder / name / "segment.json").read_text())
    for key, value in (("format", 0), ("dimension", 9), ("rows", 29), ("parts", [])):
        (folder / name / "segment.json").write_text(json.dumps({**header, key: value}))
        check(store, Segments(folder))
    (tmp_path / "other").mkdir()
    other = LanceStore(tmp_path / "other")
    add(other, range(100, 130))
    shutil.copytree(folder, tmp_path / "other" / "derived")
    check(other, Segments(tmp_path / "other" / "derived"))


def test_a_restored_version_is_not_answered_from_a_newer_one(store: LanceStore, folder: Path) -> None:
    add(store, range(20))
    add(store, range(20, 40))
    segments = Segments(folder)
    check(store, segments)
    newest = max((store.table / "_versions").glob("*.manifest"), key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, 0)
    store.repair()
    check(store, segments)
    add(store, range(50, 70))  # the same part number as before, with other rows
    check(store, segments)


def test_rows_that_come_back_are_found(store: LanceStore, folder: Path) -> None:
    import lance

    add(store, range(20))
    store.delete([row(3).id])
    segments = Segments(folder)
    assert 3 not in held(check(store, segments))
    lance.dataset(str(store.table), version=2).restore()
    assert 3 in held(check(store, segments))


def test_two_that_make_the_same_segment(store: LanceStore, folder: Path) -> None:
    one, other = Segments(folder), Segments(folder)
    add(store, range(30))
    assert held(one.blocks(store.snapshot())) == held(other.blocks(store.snapshot()))
    assert len(names(folder)) == 1
    add(store, range(30, 33))
    first = one.blocks(store.snapshot())
    shutil.rmtree(folder)
    folder.mkdir()
    assert held(first) == held(one.blocks(store.snapshot())) == held(other.blocks(store.snapshot()))


def test_what_a_stopped_process_left_is_removed_in_time(store: LanceStore, folder: Path) -> None:
    folder.mkdir()
    for name, age in ((".making-old", 7200), (".making-new", 10), ("unused-old", 120), ("unused-new", 10)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    add(store, range(5))
    Segments(folder).blocks(store.snapshot())
    assert {".making-new", "unused-new"} < names(folder)
    assert not names(folder) & {".making-old", "unused-old"}


def test_a_folder_that_cannot_be_written(store: LanceStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    add(store, range(20))
    check(store, Segments(tmp_path / "file"))


def test_forget(store: LanceStore, folder: Path) -> None:
    segments = Segments(folder)
    add(store, range(20))
    check(store, segments)
    segments.forget()
    assert names(folder) == set()
    check(store, segments)


def test_addresses_ascend_through_all_changes(store: LanceStore, folder: Path) -> None:
    segments = Segments(folder)
    for start in (0, 40, 43, 80):
        add(store, range(start, start + 37))
        if start == 43:
            store.compact(0.0)
        for block in check(store, segments):
            assert (np.diff(block.address.astype(np.int64)) > 0).all()


def test_members() -> None:
    def array(*numbers: int) -> np.ndarray:
        return np.array(numbers, np.uint64)

    assert members(array(0, 1, 5, 9), array(1, 2, 9, 12)).tolist() == [False, True, False, True]
    assert members(array(3, 5), array(1, 2)).tolist() == [False, False]
    assert members(array(5), array()).tolist() == [False]
    assert members(array(), array(1)).tolist() == []


def test_rows_are_drawn_by_their_ids_alone(tmp_path: Path) -> None:
    drawn = []
    for number, order in enumerate((range(40), range(39, -1, -1))):
        (tmp_path / str(number)).mkdir()
        store = LanceStore(tmp_path / str(number))
        store.insert(rows(list(order)))
        block = Segments(tmp_path / str(number) / "derived").blocks(store.snapshot())[0]
        drawn.append(dict(zip(block.table.column("id").to_pylist(), block.draw.tolist(), strict=True)))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0].values())) == 40
