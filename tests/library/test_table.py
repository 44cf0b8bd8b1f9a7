import logging
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from intermodal.errors import StoreError
from intermodal.library import table
from intermodal.library.table import LanceStore
from tests.library.rows import row, rows

ROOT = Path(__file__).parent.parent.parent

INSERT = """
import sys
from pathlib import Path
from intermodal.library.table import LanceStore
from tests.library.rows import rows
store = LanceStore(Path(sys.argv[1]))
print(sum(store.insert(rows(range(start, start + 20))) for start in range(0, 200, 10)))
"""


def test_processes_that_insert_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INSERT, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate(timeout=100)[0]) for process in running]
    found = LanceStore(tmp_path).snapshot().select(None, ["id"]).column("id").to_pylist()
    assert sum(counts) == len(found) == len(set(found)) == 210


def test_a_lock_that_is_held_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_LOCK_S", 0.05)
    store = LanceStore(tmp_path)
    with filelock.FileLock(tmp_path / "write.lock"), pytest.raises(StoreError, match="locked by another process"):
        store.insert([row(1)])
    assert store.insert([row(1)]) == 1


def test_another_store_object_sees_what_was_added(tmp_path: Path) -> None:
    one, other = LanceStore(tmp_path), LanceStore(tmp_path)
    assert other.snapshot().count() == 0
    one.insert(rows(range(3)))
    assert other.snapshot().count() == 3
    other.insert(rows(range(3, 5)))
    assert one.snapshot().count() == 5


@pytest.mark.parametrize(
    ("parts", "enough", "expected"),
    [
        ([100_000, *[1] * 16], 8, 1024),
        ([500_000, 20_000, *[1000] * 16], 8, 4096),
        ([1000] * 17, 8, 4096),
        ([1024] * 200, 8, 32_768),
        ([100_000, *[1] * 16], 1, 131_072),
        ([200_000] * 20, 8, 131_072),
        ([], 8, 1024),
    ],
)
def test_large_parts_are_not_merged_for_a_few_small_ones(parts: list[int], enough: int, expected: int) -> None:
    assert table._merged_below(parts, enough) == expected


def test_compacting_leaves_large_parts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_PART_ROWS_MIN", 8)
    store = LanceStore(tmp_path)
    store.insert(rows(range(100)))
    large = store.snapshot().parts()[0].name
    for number in range(100, 106):
        store.insert([row(number)])
    store.compact(0.0, 2)
    parts = store.snapshot().parts()
    assert [(part.rows, part.name == large) for part in parts] == [(100, True), (6, False)]
    store.compact(0.0)
    assert [part.rows for part in store.snapshot().parts()] == [106]


def test_an_insert_does_not_read_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceStore(tmp_path)
    store.insert(rows(range(20)))
    monkeypatch.setattr(table.LanceSnapshot, "select", lambda *_: pytest.fail("all rows were read"))
    assert store.insert(rows(range(20, 40))) == 20


def test_ids_are_a_declared_key(tmp_path: Path) -> None:
    import lance

    LanceStore(tmp_path).insert([row(1)])
    schema = lance.dataset(str(tmp_path / "items.lance")).schema
    assert schema.field("id").metadata == {b"lance-schema:unenforced-primary-key": b"true"}


def test_a_beginning_left_by_a_stopped_process_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "items.lance" / "data").mkdir(parents=True)
    (tmp_path / "items.lance" / "data" / "half.lance").write_bytes(b"half")
    (tmp_path / "items.lance" / "_versions").mkdir()
    store = LanceStore(tmp_path)
    assert store.snapshot().count() == 0
    assert store.insert(rows(range(3))) == 3


def test_nothing_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        store = LanceStore(tmp_path)
        store.insert(rows(range(3)))
        store.compact(0.0)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.peer
def test_lancedb_opens_it(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    LanceStore(tmp_path).insert(rows(range(3), metadata={"year": 3}))
    found = lancedb.connect(str(tmp_path)).open_table("items")
    assert len(found) == 3
    assert found.search(row(1).vector.tolist()).limit(1).to_list()[0]["id"] == row(1).id
