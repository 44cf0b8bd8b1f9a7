from pathlib import Path

from intermodal.library.known import Known
from intermodal.library.store import CONTENT
from intermodal.library.table import LanceStore
from tests.library.rows import row, rows


def key(number: int) -> str:
    return row(number).id[:CONTENT]


def test_what_is_in_is_known(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    store.insert(rows(range(100)))
    known = Known(store)
    assert not any(known.take(key(number)) for number in range(100))
    assert all(known.take(key(number)) for number in range(100, 150))
    assert not any(known.take(key(number)) for number in range(150))
    LanceStore(tmp_path).insert(rows(range(150, 300)))
    assert known.take(key(150))
    known.refresh()
    assert not any(known.take(key(number)) for number in range(300))


def test_what_was_removed_is_new_again(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    store.insert(rows(range(10)))
    known = Known(store)
    store.delete([row(3).id])
    assert not known.take(key(3))
    known.refresh()
    assert [number for number in range(10) if known.take(key(number))] == [3]


def test_the_windows_of_a_content_are_one(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    whole = row(1)
    store.insert([type(whole)(f"{whole.id}-00003", "audio", whole.vector, "a.wav")])
    assert not Known(store).take(whole.id)


def test_take_any(tmp_path: Path) -> None:
    known = Known(LanceStore(tmp_path))
    assert known.take_any([key(1), key(2)])
    assert known.take_any([key(2), key(3)])
    assert not known.take_any([key(1), key(2), key(3)])
    assert not known.take_any([])


def test_what_is_on_its_way_is_forgotten_once_it_is_in(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    known = Known(store)
    for number in range(50):
        known.take(key(number))
    store.insert(rows(range(40)))
    known.refresh()
    assert len(known._taken) == 10
