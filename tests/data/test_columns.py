"""Columns are those of the files, kept in memory or unpacked onto disk, and damage is said."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from intermodal.data import columns as module
from intermodal.data.columns import Columns
from intermodal.errors import InvalidData
from tests.data_files import FILE, write_parquet

TYPES = {"t": pa.string(), "n": pa.int64(), "f": FILE, "l": pa.list_(pa.string())}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two files of 10 and 5 rows in row groups of 4."""
    made = []
    for name, low, high in (("a", 0, 10), ("b", 10, 15)):
        rows = range(low, high)
        values = {
            "t": [None if i % 4 == 1 else f"t{i}" for i in rows],
            "n": list(rows),
            "f": [{"bytes": bytes([i] * 100), "path": None} for i in rows],
            "l": [[f"l{i}"] for i in rows],
        }
        made.append(write_parquet(tmp_path / f"{name}.parquet", values, TYPES))
    return made


@pytest.mark.parametrize("memory", [module.MEMORY_BYTES, 0, 700])
def test_cells_are_those_of_the_files(paths: list[Path], memory: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # the second time from what was unpacked
            columns = Columns(paths, memory)
            assert len(columns) == 15
            for i in np.random.default_rng(0).permutation(15).tolist():
                assert columns.cell(i, "n") == i
                assert columns.cell(i, "t") == (None if i % 4 == 1 else f"t{i}")
                assert columns.cell(i, "f") == {"bytes": bytes([i] * 100), "path": None}
                assert columns.cell(i, "l") == [f"l{i}"]
            columns.close()
            assert columns.cell(14, "n") == 14
    assert ("it is unpacked into" in caplog.text) == (memory < 10_000)
    assert columns.place(3) == (paths[0], 3)
    assert columns.place(14) == (paths[1], 4)
    assert columns.nulls == {"t": 4, "n": 0, "f": 0}
    assert [v.as_py() for part in columns.chunks("n") for v in part] == list(range(15))


def test_of_what_is_mapped_only_the_last_is_held(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAPPED_MAX", 2)
    columns = Columns(paths, 0)
    assert [columns.cell(i, "n") for i in range(15)] == list(range(15))
    assert len(columns._held) == 2


def test_threads_read_the_same(paths: list[Path]) -> None:
    for memory in (module.MEMORY_BYTES, 0):
        columns = Columns(paths, memory)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(columns.cell, [i % 15 for i in range(60)], ["n"] * 60)) == list(range(15)) * 4


def test_the_hash_tells_files_apart(paths: list[Path]) -> None:
    first = Columns(paths).sha256
    assert Columns(paths).sha256 == first
    assert Columns(paths[::-1]).sha256 != first
    rows = {"t": ["other"], "n": [1], "f": [None], "l": [[]]}
    write_parquet(paths[1], rows, TYPES)
    assert Columns(paths).sha256 != first


def test_a_file_that_is_none_or_cut_off_is_an_error(paths: list[Path]) -> None:
    data = paths[1].read_bytes()
    for wrong in (data[:-20], b"no parquet", b""):
        paths[1].write_bytes(wrong)
        with pytest.raises(InvalidData, match=r"b\.parquet cannot be read as a parquet file: .*download it again"):
            Columns(paths)


def test_a_damaged_row_group_is_an_error_when_it_is_read(paths: list[Path]) -> None:
    data = bytearray(paths[0].read_bytes())
    data[4:600] = bytes(596)
    paths[0].write_bytes(data)
    columns = Columns(paths)
    with pytest.raises(InvalidData, match=r"a\.parquet is damaged or was changed: row group 0 cannot be read"):
        columns.cell(0, "t")


def test_files_of_other_columns_are_refused(paths: list[Path]) -> None:
    write_parquet(paths[1], {"n": [1]}, {"n": pa.int64()})
    with pytest.raises(InvalidData, match=r"b\.parquet lacks the columns f, l, t that a\.parquet has"):
        Columns(paths)
