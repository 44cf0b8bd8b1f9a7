import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.errors import InvalidValue, StoreError
from intermodal.library import ingest as module
from intermodal.library.ingest import Added, Ingest, Watch
from intermodal.library.reading import Reader
from intermodal.library.sources import Source, walk
from intermodal.library.table import LanceStore
from intermodal.library.windows import Windows
from intermodal.media.source import limited
from tests.library.fake import FakeDataset, FakeModel, audio, image, text

WINDOWS = Windows(2.0, 0.5, 40)


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    (tmp_path / "store").mkdir()
    return LanceStore(tmp_path / "store")


def add(store: LanceStore, folder: Path, *given: Any, model: Any = None, watch: Watch | None = None) -> Added:
    run = Ingest(store, model or FakeModel(), watch or Watch())
    return run.run(walk(given, {}), Reader(run.known, WINDOWS, folder, True))


def ids(store: LanceStore) -> list[str]:
    found: list[str] = store.snapshot().select(None, ["id"]).column("id").to_pylist()
    return sorted(found)


def texts(count: int) -> list[Any]:
    return [text(n) for n in range(count)]


def test_everything_goes_in_once(store: LanceStore, tmp_path: Path) -> None:
    done = add(store, tmp_path, texts(100))
    assert (done.added, done.skipped, done.failed) == (100, 0, ())
    assert done.seconds > 0
    done = add(store, tmp_path, texts(150))
    assert (done.added, done.skipped, done.failed) == (50, 100, ())
    assert len(set(ids(store))) == 150


def test_equal_items_in_one_run_go_in_once(store: LanceStore, tmp_path: Path) -> None:
    done = add(store, tmp_path, texts(10) * 3)
    assert (done.added, done.skipped) == (10, 20)


def test_what_is_in_is_not_embedded_again(store: LanceStore, tmp_path: Path) -> None:
    add(store, tmp_path, texts(50))
    model = FakeModel()
    add(store, tmp_path, texts(60), model=model)
    assert model.embedded == 10


def test_commits_are_told_and_hold(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_ROWS", 64)
    told: list[str] = []
    shares: list[float] = []

    def committed(names: tuple[str, ...]) -> None:
        told.extend(names)
        assert set(told) == set(ids(store))

    add(store, tmp_path, texts(200), watch=Watch(lambda share, text: shares.append(share), committed, 200))
    assert sorted(told) == ids(store)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 4


def test_the_share_of_an_unknown_total_is_nought(store: LanceStore, tmp_path: Path) -> None:
    shares: list[tuple[float, str]] = []
    add(store, tmp_path, texts(3), watch=Watch(lambda *told: shares.append(told)))
    assert set(shares) == {(0.0, "3 new, 0 in already, 0 failed")}


def test_a_slow_run_commits_by_time(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_S", 0.0)
    commits: list[int] = []
    add(store, tmp_path, texts(100), watch=Watch(committed=lambda names: commits.append(len(names))))
    assert commits == [32, 32, 32, 4]


def test_a_file_goes_in_whole_or_not_at_all(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_ROWS", 1)
    monkeypatch.setattr(module, "BATCH", 2)

    class Fails(FakeModel):
        def embed(self, items: Sequence[Any]) -> torch.Tensor:
            if any(item.modality == "audio" and abs(item.samples[0, 0]) > 0.9 for item in items):
                raise RuntimeError("too loud")
            return super().embed(items)

    long = audio(3, 9.0)
    samples = long.samples.copy()
    samples[0, 8000 * 5 :] = 0.95
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    long.save(good)
    type(long)(samples, 8000).save(bad)
    done = add(store, tmp_path, bad, texts(5), good, model=Fails())
    assert done.failed == ((str(bad), "RuntimeError: too loud"),)
    assert done.added == 5 + 6
    assert {row["source"] for row in store.snapshot().select(None, ["source"]).to_pylist()} == {"", str(good)}
    assert add(store, tmp_path, bad, good).added == 6


class Picky(FakeModel):
    """Refuses pictures, and gives nothing for every seventh text."""

    def embed(self, items: Sequence[Any]) -> torch.Tensor:
        if any(item.modality == "image" for item in items):
            raise InvalidValue("this model knows no pictures")
        rows = super().embed(items)
        for row, item in zip(rows, items, strict=True):
            if "kind 7," in item.text:
                row[:] = float("nan")
        return rows


def test_items_that_the_model_refuses_cost_themselves_alone(store: LanceStore, tmp_path: Path) -> None:
    done = add(store, tmp_path, [*texts(10), image(3)], model=Picky())
    assert done.added == 9
    assert sorted(reason for _, reason in done.failed) == [
        "a vector has no direction: it is zero or not finite", "this model knows no pictures",
    ]  # fmt: skip
    done = add(store, tmp_path, texts(10))
    assert (done.added, done.skipped) == (1, 9)


def test_a_mistake_in_the_model_is_not_hidden(store: LanceStore, tmp_path: Path) -> None:
    class Broken(FakeModel):
        def embed(self, items: Sequence[Any]) -> torch.Tensor:
            raise AttributeError("no such attribute")

    with pytest.raises(AttributeError):
        add(store, tmp_path, texts(10), model=Broken())


def test_another_model_is_refused_at_the_first_commit(store: LanceStore, tmp_path: Path) -> None:
    add(store, tmp_path, texts(3))
    with pytest.raises(StoreError, match="vectors of length 32, and these are of length 16"):
        add(store, tmp_path, texts(10), model=FakeModel(16))


def test_a_stopped_run_goes_on(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_ROWS", 32)

    def until(number: int) -> Iterator[Any]:
        yield from texts(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(store, tmp_path, until(200))
    held = len(ids(store))
    assert 100 < held < 200
    done = add(store, tmp_path, texts(300))
    assert (done.added, done.skipped) == (300 - held, held)


def test_decoding_runs_ahead_but_not_far(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    torch.set_num_threads(2)
    given, embedded, most = 0, 0, 0

    def stream() -> Iterator[Any]:
        nonlocal given, most
        for one in texts(200):
            given += 1
            most = max(most, given - embedded)
            yield one

    class Slow(FakeModel):
        def embed(self, items: Sequence[Any]) -> torch.Tensor:
            nonlocal embedded
            time.sleep(0.001)
            embedded += len(items)
            return super().embed(items)

    assert add(store, tmp_path, stream(), model=Slow()).added == 200
    assert 4 < most <= 4 + 2 * 2 + (2 + 2) + (2 + 1) * 4 + 2


def test_batches_are_bounded_in_bytes(store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 40_000)
    sizes: list[int] = []

    class Counts(FakeModel):
        def embed(self, items: Sequence[Any]) -> torch.Tensor:
            sizes.append(len(items))
            return super().embed(items)

    add(store, tmp_path, [audio(3, 0.5, n) for n in range(9)], model=Counts())
    assert sizes == [3, 3, 3]


def test_limits_hold_in_the_threads(store: LanceStore, tmp_path: Path) -> None:
    image(3).save(tmp_path / "a.png")
    with limited(pixels_max=10):
        done = add(store, tmp_path, tmp_path / "a.png")
    assert "more than the limit of 10" in done.failed[0][1]


def test_two_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_ROWS", 16)
    (tmp_path / "store").mkdir()
    done: list[Added] = []

    def once() -> None:
        done.append(add(LanceStore(tmp_path / "store"), tmp_path, texts(200)))

    runs = [threading.Thread(target=once) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    found = ids(LanceStore(tmp_path / "store"))
    assert len(found) == len(set(found)) == 200
    assert sum(one.added for one in done) == 200


def test_a_changed_file_replaces_what_it_was(store: LanceStore, tmp_path: Path) -> None:
    path, other = audio(3, 5.0).save(tmp_path / "a.wav"), text(1).save(tmp_path / "b.txt")
    assert add(store, tmp_path, path, other).added == 4
    before = ids(store)
    audio(7, 3.0).save(path)
    done = add(store, tmp_path, path, other)
    assert (done.added, done.replaced, done.skipped) == (2, 3, 1)
    assert len(set(ids(store)) & set(before)) == 1
    assert add(store, tmp_path, path, other).replaced == 0


def test_a_dataset_with_holes(store: LanceStore, tmp_path: Path) -> None:
    done = add(store, tmp_path, FakeDataset(40, broken=(5,)))
    assert done.failed == (("fake:test/5", "ValueError: this sample cannot be made"),)
    assert done.added == 39 + 27  # captions and pictures
    assert add(store, tmp_path, FakeDataset(40)).added == 1


def test_sources_with_errors_are_reported(store: LanceStore, tmp_path: Path) -> None:
    run = Ingest(store, FakeModel(), Watch())
    done = run.run([Source("x", {}, error="is odd")], Reader(run.known, WINDOWS, tmp_path, True))
    assert done.failed == (("x", "is odd"),)
