from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from intermodal.errors import StoreError
from intermodal.library.hits import as_hit
from intermodal.library.store import HIT_COLUMNS, Row
from intermodal.library.table import LanceStore
from intermodal.library.windows import encode
from tests.library.fake import audio, image, text
from tests.library.rows import row

KEY = "ab" * 16


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    (tmp_path / "store").mkdir()
    return LanceStore(tmp_path / "store")


def hit(store: LanceStore, given: Row, score: float = 1.0, cosine: float = 0.5):  # type: ignore[no-untyped-def]
    store.insert([given])
    told = store.snapshot().select(None, HIT_COLUMNS).to_pylist()
    return as_hit(next(one for one in told if one["id"] == given.id), score, cosine, store)


def test_what_a_hit_says(store: LanceStore) -> None:
    found = hit(store, Row(KEY, "text", row(1).vector, "a.txt", metadata={"year": 3}), 2.5, 0.25)
    assert (found.id, found.modality, found.score, found.cosine, found.source) == (KEY, "text", 2.5, 0.25, "a.txt")
    assert (found.start_s, found.stop_s, found.metadata) == (None, None, {"year": 3})
    assert "_load" not in repr(found)
    with pytest.raises(FrozenInstanceError):
        found.score = 3.0


def test_a_cosine_is_at_most_one(store: LanceStore) -> None:
    given = Row(KEY, "text", row(1).vector, "")
    assert hit(store, given, 1.0, 1.0000001).cosine == 1.0
    assert hit(store, given, 1.0, -1.0000001).cosine == -1.0


def test_an_item_that_is_kept(store: LanceStore, tmp_path: Path) -> None:
    given = Row(KEY, "image", row(1).vector, "", media=encode(image(3), tmp_path))
    assert hit(store, given).item == image(3)


def test_an_item_in_a_file(store: LanceStore, tmp_path: Path) -> None:
    path = image(3).save(tmp_path / "a.png")
    found = hit(store, Row(KEY, "image", row(1).vector, str(path)))
    assert found.item == image(3)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read from .*a.png.* any more: there is no file"):
        found.item  # noqa: B018
    path.write_bytes(b"no picture")
    with pytest.raises(StoreError, match="any more"):
        found.item  # noqa: B018


def test_a_window_of_a_file(store: LanceStore, tmp_path: Path) -> None:
    item = audio(3, 5.0, 17)
    path = item.save(tmp_path / "a.wav")
    found = hit(store, Row(f"{KEY}-00001", "audio", row(1).vector, str(path), 1.0, 3.0))
    assert found.item == item.cut(1.0, 3.0)


def test_a_paragraph_of_a_file(store: LanceStore, tmp_path: Path) -> None:
    path = text(3).save(tmp_path / "a.txt")
    told = {"start_char": 5, "stop_char": 9, "start_s": "of the user"}
    found = hit(store, Row(f"{KEY}-00001", "text", row(1).vector, str(path), metadata=told))
    assert found.item.text == text(3).text[5:9]


def test_an_item_that_was_not_kept(store: LanceStore) -> None:
    found = hit(store, Row(KEY, "text", row(1).vector, "fake:test/3#caption"))
    with pytest.raises(StoreError, match="kept no copy .*; add with keep_media=True"):
        found.item  # noqa: B018
