"""What every backend keeps; ``STORES`` names those there are."""

import threading
from pathlib import Path

import numpy as np
import pytest

from intermodal.errors import StoreError
from intermodal.library.filters import column, field
from intermodal.library.store import HIT_COLUMNS, Store
from intermodal.library.table import LanceStore
from tests.library.rows import row, rows

STORES = {"lance": LanceStore}


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made: Store = STORES[request.param](tmp_path)
    return made


def ids(store: Store) -> list[str]:
    found = store.snapshot().select(None, ["id"]).column("id").to_pylist()
    return sorted(found)


def test_empty(store: Store) -> None:
    now = store.snapshot()
    assert (now.count(), now.dimension(), now.parts(), now.columns(), now.indexed()) == (0, None, [], [], False)
    assert ids(store) == []
    assert now.media("x") is None
    assert store.insert([]) == 0
    assert store.delete(["x"]) == 0
    assert len(now.matching(column("modality") == "text")) == 0
    assert len(now.nearest(np.ones(4, np.float32), 3, None)) == 0
    store.index()
    store.compact(0.0)


def test_what_was_put_in_comes_out(store: Store) -> None:
    given = row(3, modality="audio", start_s=1.5, stop_s=2.5, metadata={"a": 1, "b": ["x", None]}, media=b"bytes")
    assert store.insert([given, row(4)]) == 2
    now = store.snapshot()
    assert (now.count(), now.dimension()) == (2, 8)
    told = now.select(column("id") == given.id, [*HIT_COLUMNS, "vector"]).to_pylist()[0]
    assert {key: told[key] for key in HIT_COLUMNS} == {
        "id": given.id, "modality": "audio", "source": "file 3", "start_s": 1.5, "stop_s": 2.5,
        "metadata": '{"a": 1, "b": ["x", null]}',
    }  # fmt: skip
    np.testing.assert_array_equal(np.array(told["vector"], np.float32), given.vector)
    assert now.media(given.id) == b"bytes"
    assert now.media(row(4).id) is None
    assert now.media("nothing") is None


def test_an_id_goes_in_once(store: Store) -> None:
    assert store.insert(rows(range(10))) == 10
    assert store.insert(rows(range(5, 15))) == 5
    assert store.insert([row(20), row(20)]) == 1
    assert ids(store) == sorted(each.id for each in rows([*range(15), 20]))


def test_vectors_of_another_length_are_refused(store: Store) -> None:
    store.insert([row(1)])
    with pytest.raises(StoreError, match="holds vectors of length 8, and these are of length 9"):
        store.insert([row(2, width=9)])
    with pytest.raises(StoreError, match="several lengths"):
        store.insert([row(2), row(3, width=9)])
    assert len(ids(store)) == 1


def test_metadata_keys_may_come_later(store: Store) -> None:
    store.insert(rows([1, 2]))
    store.insert(rows([3], metadata={"year": 1990, "a.b": "x", "Year": True}))
    store.insert(rows([4], metadata={"year": "old"}))
    yes = True
    asked = [field("year") == 1990, field("year") == "old", field("Year") == yes, field("a.b") == "x"]
    asked.append(~field("year").present())
    found = [store.snapshot().select(each, ["id"]).column("id").to_pylist() for each in asked]
    expected = [[row(3).id], [row(4).id], [row(3).id], [row(3).id], [row(1).id, row(2).id]]
    assert [sorted(each) for each in found] == [sorted(each) for each in expected]


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    store.insert(rows(range(10)))
    before = store.snapshot()
    store.insert(rows(range(10, 20)))
    store.delete([row(0).id])
    assert before.count() == 10
    assert sorted(before.select(None, ["id"]).column("id").to_pylist()) == sorted(r.id for r in rows(range(10)))
    assert store.snapshot().count() == 19


def test_the_stamp_differs_whenever_the_rows_do(store: Store) -> None:
    stamps = [store.stamp()]
    for change in (
        lambda: store.insert(rows([1, 2])),
        lambda: store.insert(rows([3])),
        lambda: store.delete([row(2).id]),
    ):
        change()
        stamps.append(store.stamp())
    assert len(set(stamps)) == 4
    assert store.stamp() == stamps[-1]


def test_parts_and_addresses(store: Store) -> None:
    store.insert(rows(range(5)))
    store.insert(rows(range(5, 9)))
    store.delete([row(1).id, row(6).id])
    now = store.snapshot()
    seen = {}
    for part in now.parts():
        live = now.live(part).tolist()
        read = [pair for batch in now.read(part, ["id"]) for pair in batch.to_pylist()]
        assert [pair["address"] for pair in read] == live == sorted(live)
        assert all(address >> 32 == part.number for address in live)
        seen |= {pair["address"]: pair["id"] for pair in read}
    assert sorted(seen.values()) == sorted(r.id for r in rows([0, 2, 3, 4, 5, 7, 8]))
    found = now.matching(column("id").is_in([row(2).id, row(7).id, row(6).id]))
    assert sorted(seen[address] for address in found.tolist()) == sorted([row(2).id, row(7).id])


def test_a_part_changes_its_name_only_with_its_rows(store: Store) -> None:
    store.insert(rows(range(5)))
    first = store.snapshot().parts()
    store.insert(rows(range(5, 9)))
    assert store.snapshot().parts()[:1] == first
    store.delete([row(1).id])
    changed = store.snapshot().parts()[0]
    assert (changed.name, changed.removed != first[0].removed) == (first[0].name, True)


def test_what_is_held_is_known(store: Store) -> None:
    assert not store.held().has_content([row(1).id]).any()
    store.insert(rows(range(10)))
    store.delete([row(4).id])
    held = store.held()
    assert [bool(held.has_content([row(number).id])[0]) for number in (3, 4, 10)] == [True, False, False]
    assert held.may_have_id([row(3).id, f"{row(3).id}-00001"]).tolist() == [True, False]
    assert held.may_have_source(["file 3", "file 10"]).tolist() == [True, False]
    assert store.insert([row(4), row(3)]) == 1


def test_compacting_keeps_every_row_and_its_media(store: Store) -> None:
    for number in range(8):
        store.insert([row(number, media=bytes([number]) * 3, metadata={"n": number})])
    store.delete([row(3).id])
    store.compact(0.0)
    now = store.snapshot()
    assert len(now.parts()) == 1
    assert ids(store) == sorted(row(n).id for n in range(8) if n != 3)
    assert now.media(row(5).id) == b"\x05\x05\x05"
    assert now.select(field("n") > 5, ["id"]).num_rows == 2


def test_nearest_with_and_without_an_index(store: Store) -> None:
    store.insert(rows(range(600), width=16))
    query = row(77, width=16).vector
    exact = sorted(range(600), key=lambda n: -float(row(n, width=16).vector @ query))[:5]
    for indexed in (False, True):
        if indexed:
            store.index()
        now = store.snapshot()
        assert now.indexed() == indexed
        found = now.nearest(query, 5, None)
        assert found.column("id").to_pylist() == [row(n).id for n in exact]
        some = now.nearest(query, 5, column("source").is_in(["file 77", "file 5"]))
        assert sorted(some.column("source").to_pylist()) == ["file 5", "file 77"]


def test_threads_that_insert_the_same(store: Store) -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(store.insert(rows(range(50))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 50
    assert len(ids(store)) == len(set(ids(store))) == 50
