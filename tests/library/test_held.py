import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermodal.library.held import Holdings, _grown
from intermodal.library.store import CONTENT, Part, Row
from intermodal.library.table import LanceSnapshot, LanceStore
from tests.library.rows import row, rows


def windows(number: int, count: int) -> list[Row]:
    whole = row(number)
    return [Row(f"{whole.id}-{each:05d}", "audio", whole.vector, f"{number}.wav") for each in range(count)]


def contents(numbers: range) -> list[str]:
    return [row(number).id[:CONTENT] for number in numbers]


def test_what_is_held(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    assert store.held().has_content(contents(range(3))).tolist() == [False] * 3
    store.insert(rows(range(10)) + windows(20, 3))
    held = store.held()
    assert held.has_content(contents(range(8, 12))).tolist() == [True, True, False, False]
    assert held.has_content(contents(range(20, 22))).tolist() == [True, False]
    asked = [row(3).id, row(11).id, f"{row(20).id}-00002", f"{row(20).id}-00003", f"{row(3).id}-00000"]
    assert held.may_have_id(asked).tolist() == [True, False, True, False, False]
    assert held.may_have_source(["file 3", "20.wav", "21.wav", ""]).tolist() == [True, True, False, False]
    assert held.has_content([]).tolist() == []


def test_a_version_stays_as_it_is(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    store.insert(rows(range(5)))
    before = store.held()
    store.insert(rows(range(5, 10)))
    assert not before.has_content(contents(range(5, 10))).any()
    assert store.held().has_content(contents(range(10))).all()


def test_through_all_changes_by_whomever(tmp_path: Path) -> None:
    store, other = LanceStore(tmp_path), LanceStore(tmp_path)
    rng = np.random.default_rng(0)
    there: set[int] = set()
    for _ in range(25):
        by = store if rng.random() < 0.5 else other
        some = rng.integers(0, 60, 8).tolist()
        if rng.random() < 0.6:
            assert by.insert(rows(some)) == len(set(some) - there)
            there |= set(some)
        else:
            assert by.delete([row(number).id for number in some]) == len(set(some) & there)
            there -= set(some)
        if rng.random() < 0.2:
            by.compact(0.0)
        assert set(np.flatnonzero(store.held().has_content(contents(range(60)))).tolist()) == there


def test_only_new_parts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceStore(tmp_path)
    read: list[int] = []
    real = LanceSnapshot.read

    def noted(self: LanceSnapshot, part: Part, columns: list[str]) -> Iterator[Any]:
        read.append(part.number)
        return real(self, part, columns)

    monkeypatch.setattr(LanceSnapshot, "read", noted)
    for start in range(0, 30, 10):
        store.insert(rows(range(start, start + 10)))
        store.held()
        store.held()
    assert read == [0, 1, 2]
    store.delete([row(12).id])
    store.held()
    assert read == [0, 1, 2, 1]
    assert Holdings().of(store.snapshot()).has_content(contents(range(30))).sum() == 29
    assert read == [0, 1, 2, 1, 0, 1, 2]


def test_runs_are_few_and_hold_everything() -> None:
    rng = np.random.default_rng(1)
    added = [rng.integers(0, 10_000, 100) for _ in range(200)]
    runs: tuple[np.ndarray, ...] = ()
    for each in added:
        runs = _grown(runs, [each])
        assert all(len(long) >= 2 * len(short) for long, short in itertools.pairwise(runs))
    assert len(runs) <= 8
    assert set(np.concatenate(runs).tolist()) == set(np.concatenate(added).tolist())
    assert _grown((), []) == ()
    assert _grown((), [np.empty(0, np.int64)]) == ()
