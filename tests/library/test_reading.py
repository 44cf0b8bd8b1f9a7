import math
from pathlib import Path
from typing import Any

import pytest

from intermodal.library.known import Known
from intermodal.library.reading import Failure, Reader, Ready
from intermodal.library.sources import Source, walk
from intermodal.library.store import Row
from intermodal.library.table import LanceStore
from intermodal.library.windows import Windows, load
from tests.library.fake import MAKERS, FakeDataset, FakeModel, audio, image, text

WINDOWS = Windows(2.0, 0.5, 40)


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    (tmp_path / "store").mkdir()
    return LanceStore(tmp_path / "store")


def reader(store: LanceStore, tmp_path: Path, keep_media: bool = True) -> Reader:
    return Reader(Known(store), WINDOWS, tmp_path, keep_media)


def read(reader: Reader, *given: Any, **metadata: Any) -> tuple[list[Ready], list[Failure], int]:
    """Returns what becomes of sources: items, failures, and how many were known."""
    ready: list[Ready] = []
    failures: list[Failure] = []
    skipped = 0
    for source in walk(given, metadata):
        work = reader.prepare(source)
        skipped += work.skipped
        for step in work.steps:
            for one in step():
                (failures if isinstance(one, Failure) else ready).append(one)  # type: ignore[arg-type]
    return ready, failures, skipped


def put(store: LanceStore, ready: list[Ready]) -> None:
    vectors = FakeModel(8).embed([one.piece.item for one in ready]).numpy()
    store.insert([Row(one.id, one.piece.item.modality, v, one.source) for one, v in zip(ready, vectors, strict=True)])


def test_files_of_every_modality(store: LanceStore, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    endings = {"text": "txt", "image": "png", "audio": "wav", "video": "mkv", "timeseries": "npz"}
    paths = {modality: make(3).save(folder / f"{modality}.{endings[modality]}") for modality, make in MAKERS.items()}
    ready, failures, skipped = read(reader(store, tmp_path), folder, year=3)
    assert (failures, skipped) == ([], 0)
    assert {one.piece.item.modality: one.source for one in ready} == {m: str(path) for m, path in paths.items()}
    assert all(one.piece.item == MAKERS[one.piece.item.modality](3) for one in ready)
    assert all(one.media is None and one.metadata["year"] == 3 for one in ready)
    put(store, ready)
    assert read(reader(store, tmp_path), folder) == ([], [], 5)


def test_a_file_is_known_by_its_content_before_it_is_decoded(store: LanceStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "b.md").write_text("the same")
    (tmp_path / "c.txt").write_text("another")
    once = reader(store, tmp_path)
    ready, _, skipped = read(once, tmp_path / "a.txt", tmp_path / "b.md", tmp_path / "c.txt")
    assert ([one.source[-5:] for one in ready], skipped) == (["a.txt", "c.txt"][:2] and ["a.txt", "c.txt"], 1)
    put(store, ready)
    (tmp_path / "c.txt").write_text("the same")
    assert once.prepare(Source(str(tmp_path / "c.txt"), {}, path=tmp_path / "c.txt")).steps == []


def test_windows_of_a_file_have_their_numbers(store: LanceStore, tmp_path: Path) -> None:
    path = audio(3, 5.0).save(tmp_path / "long.wav")
    ready, _, _ = read(reader(store, tmp_path), path)
    assert [one.id[32:] for one in ready] == ["-00000", "-00001", "-00002"]
    assert len({one.id[:32] for one in ready}) == 1
    assert [(one.piece.start_s, one.piece.stop_s) for one in ready] == [(0.0, 2.0), (1.5, 3.5), (3.0, 5.0)]


def test_a_long_file_is_read_again_rather_than_held(
    store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intermodal.library.reading.KEPT_BYTES", 100)
    path = audio(3, 5.0).save(tmp_path / "long.wav")
    assert len(read(reader(store, tmp_path), path)[0]) == 3
    work = reader(store, tmp_path).prepare(Source(str(path), {}, path=path))
    path.unlink()
    assert [type(one) for step in work.steps for one in step()] == [Failure]


def test_items_keep_their_media(store: LanceStore, tmp_path: Path) -> None:
    given = [make(5) for make in MAKERS.values()]
    ready, failures, _ = read(reader(store, tmp_path), given)
    assert failures == []
    assert [load(one.media or b"", "x", one.piece.item.modality, {}) for one in ready] == given
    assert [one.source for one in ready] == [""] * 5
    assert all(one.media is None for one in read(reader(store, tmp_path, keep_media=False), given)[0])
    put(store, ready)
    assert read(reader(store, tmp_path), given)[2] == 5


def test_a_long_item_keeps_the_media_of_each_window(store: LanceStore, tmp_path: Path) -> None:
    item = audio(5, 5.0)
    ready, _, _ = read(reader(store, tmp_path), item)
    kept = [load(one.media or b"", "x", "audio", {}) for one in ready]
    assert kept == [item.cut(0, 2), item.cut(1.5, 3.5), item.cut(3, 5)]


def test_the_items_of_a_sample_are_linked(store: LanceStore, tmp_path: Path) -> None:
    one = reader(store, tmp_path)
    first, _, _ = read(one, {"caption": text(1), "photo": image(1)}, year=3)
    other, _, _ = read(one, {"caption": text(1), "photo": image(2)})
    assert [ready.metadata["field"] for ready in first] == ["caption", "photo"]
    assert len({ready.metadata["sample"] for ready in first}) == 1
    assert len({ready.id for ready in first + other}) == 4
    put(store, first)
    assert read(reader(store, tmp_path), {"photo": image(1), "caption": text(1)})[2] == 1


def test_a_dataset_is_known_before_its_samples_are_made(store: LanceStore, tmp_path: Path) -> None:
    dataset = FakeDataset(20)
    ready, failures, _ = read(reader(store, tmp_path), dataset)
    assert (len(ready), failures) == (34, [])
    assert ready[0].source == "fake:test/0#caption"
    assert ready[0].metadata == {"sample": "fake:test/0", "field": "caption"}
    put(store, ready)
    again = FakeDataset(20)
    left, _, skipped = read(reader(store, tmp_path), again)
    assert left == []
    assert skipped + again.made == 20
    assert len(read(reader(store, tmp_path), FakeDataset(20, seed=1))[0]) == 34


def test_samples_that_cannot_be_made_cost_themselves_alone(store: LanceStore, tmp_path: Path) -> None:
    ready, failures, _ = read(reader(store, tmp_path), FakeDataset(20, broken=(3, 17)))
    assert failures == [Failure(f"fake:test/{n}", "ValueError: this sample cannot be made") for n in (3, 17)]
    assert len({one.metadata["sample"] for one in ready}) == 18


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n ", "nothing but white space"),
        ("noise.jpg", b"\x00\x01\x02 no picture", "no known format"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", "cut.png"),
    ],
)
def test_files_that_cannot_be_read(store: LanceStore, tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    ready, failures, _ = read(reader(store, tmp_path), tmp_path / name)
    assert ready == []
    assert [failure.source for failure in failures] == [str(tmp_path / name)]
    assert expected in failures[0].reason


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, object(), b"x", "\ud800", {"a": math.nan}])
def test_metadata_that_no_store_holds(store: LanceStore, tmp_path: Path, value: Any) -> None:
    ready, failures, _ = read(reader(store, tmp_path), text(1), key=value)
    assert ready == []
    assert "metadata that JSON cannot hold" in failures[0].reason


def test_a_name_that_is_no_text(store: LanceStore, tmp_path: Path) -> None:
    failures = read(reader(store, tmp_path), [Path(f"{tmp_path}/a\udcff.txt")])[1]
    assert "no UTF-8" in failures[0].reason


def test_a_source_with_an_error(store: LanceStore, tmp_path: Path) -> None:
    work = reader(store, tmp_path).prepare(Source("x", {}, error="is odd"))
    assert work.steps[0]() == [Failure("x", "is odd")]
