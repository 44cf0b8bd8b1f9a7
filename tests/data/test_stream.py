"""A stream gives every source its vector in order, takes no more than it needs, and goes on after what is bad."""

import io
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from intermodal.data import stream as module
from intermodal.data.stream import (
    CHUNK,
    TEXTS,
    Embedded,
    ahead,
    crew,
    members,
    picture_size,
    reason,
    stream,
    unit_rows,
)
from intermodal.errors import InvalidValue, UnreadableMedia, Unsupported
from intermodal.media.source import limited
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text
from intermodal.saving import load_model


class Levels:
    """A model whose vector says the mean level of a picture and how long a text is."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.sizes: list[tuple[int, ...]] = []
        self.preprocessors = {"photo": ImagePreprocessor(16, 32, 4)}

    def field_of(self, modality: str) -> str:
        if modality == "timeseries":
            raise Unsupported("no tower for series")
        return modality

    def embed(self, items: Sequence[Any], precision: str = "fp32") -> Tensor:
        self.calls.append(len(items))
        self.threads.add(torch.get_num_threads())
        rows = []
        for item in items:
            if item.modality == "text":
                if "poison" in item.text:
                    raise ValueError("it is poisonous")
                rows.append([1.0, len(item.text), float(precision == "int8")])
            else:
                self.sizes.append(item.pixels.shape[:2])
                rows.append([2.0, float(item.pixels.mean()), 0.0])
        return torch.tensor(rows)


def expected(*values: float) -> np.ndarray:
    row = np.array(values)
    return row / np.linalg.norm(row)


def jpg(level: int, height: int = 8, width: int = 8) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_source_gets_its_vector_in_order(tmp_path: Path) -> None:
    sources: list[Any] = []
    for level in range(100):
        path = tmp_path / f"{level}.jpg"
        path.write_bytes(jpg(level))
        sources.append([str(path), path, path.read_bytes(), Image.open(path)][level % 4])
    found = list(stream(Levels(), sources))
    assert [one.source for one in found] == sources
    assert {one.modality for one in found} == {"image"}
    for level, one in enumerate(found):
        assert one.vector is not None
        np.testing.assert_allclose(one.vector, expected(2, level, 0), atol=0.02)


def test_what_is_bad_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(jpg(3)[:100])
    (tmp_path / "series.csv").write_text("1,2\n3,4\n5,6\n")
    sources = [Text("one"), tmp_path / "broken.jpg", tmp_path / "absent.jpg", tmp_path / "series.csv", b"", 7, jpg(9)]
    found = list(stream(Levels(), sources))  # type: ignore[arg-type]
    assert [one.vector is not None for one in found] == [True, False, False, False, False, False, True]
    assert found[1].error.startswith("broken.jpg is no readable jpg picture")
    assert "there is no file" in found[2].error
    assert (found[3].modality, found[3].error) == ("timeseries", "no tower for series")
    assert found[5].error
    assert found[0].error == ""


def test_an_item_that_fails_in_the_model_fails_alone() -> None:
    words = ["a", "poison", "ccc", "dddd"]
    found = list(stream(Levels(), [Text(word) for word in words]))
    assert [one.error for one in found] == ["", "ValueError: it is poisonous", "", ""]
    np.testing.assert_allclose(found[3].vector, expected(1, 4, 0), atol=1e-6)  # type: ignore[arg-type]


def test_members_of_an_archive_are_sources(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.mkdir("photos")
        for level in range(70):
            archive.writestr(f"photos/{level}.jpg", jpg(level))
        archive.writestr("photos/words.txt", "words")
        archive.writestr("photos/bad.jpg", b"\xff\xd8\xff nothing")
        archive.writestr("photos/.hidden.jpg", b"")
        archive.writestr("huge.txt", b"a" * 100_000, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive, limited(bytes_max=50_000):
        found = {one.source.name: one for one in stream(Levels(), members(archive))}
    assert len(found) == 73
    assert found["photos/bad.jpg"].error.startswith("photos/bad.jpg ")
    assert "huge.txt has 100,000 bytes, more than the limit of 50,000" in found["huge.txt"].error
    for level in range(70):
        np.testing.assert_allclose(found[f"photos/{level}.jpg"].vector, expected(2, level, 0), atol=0.02)  # type: ignore[arg-type]
    np.testing.assert_allclose(found["photos/words.txt"].vector, expected(1, 5, 0), atol=1e-6)  # type: ignore[arg-type]


def test_damaged_members_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "words that are here")
        archive.writestr("b.txt", "other words")
    path.write_bytes(path.read_bytes().replace(b"words that", b"words_that", 1))
    with zipfile.ZipFile(path) as archive:
        first, second = stream(Levels(), members(archive))
    assert "a.txt cannot be read from its archive: Bad CRC-32" in first.error
    assert second.vector is not None


def test_sources_are_taken_as_they_are_needed_and_closing_ends_it() -> None:
    taken = 0

    def endless() -> Iterator[Text]:
        nonlocal taken
        while True:
            taken += 1
            yield Text("word")

    before = threading.active_count()
    found = stream(Levels(), endless())
    for _ in range(10 * TEXTS):
        next(found)
    assert taken <= (10 + 5) * TEXTS
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before  # those of others may have ended meanwhile


def test_workers_share_a_network_and_the_number_of_threads_is_put_back() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.threads: set[int] = set()
            self.now = self.most = self.calls = 0
            self.counting = threading.Lock()

        def embed(self, items: Sequence[Any]) -> Tensor:
            with self.counting:
                self.now, self.calls = self.now + 1, self.calls + 1
                self.most = max(self.most, self.now)
                assert self.calls > 1 or self.now == 1
            time.sleep(0.05)
            with self.counting:
                self.threads.add(torch.get_num_threads())
                self.now -= 1
            return torch.ones(len(items), 4)

    model = Network()
    list(stream(model, [Text("x")] * 1500))
    assert (model.threads, model.most) == ({1}, 2)
    assert torch.get_num_threads() == 2
    seen: list[int] = []
    late = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert seen == [2]


def test_another_model_is_asked_by_one_worker_at_a_time() -> None:
    class Careful(Levels):
        now = 0

        def embed(self, items: Sequence[Any], precision: str = "fp32") -> Tensor:
            self.now += 1
            assert self.now == 1
            time.sleep(0.01)
            self.now -= 1
            return super().embed(items, precision)

    model = Careful()
    assert all(one.vector is not None for one in stream(model, [Text("x")] * 1500))
    assert model.threads == {2}


def test_precision_is_handed_to_the_model() -> None:
    (found,) = stream(Levels(), [Text("ab")], precision="int8")
    np.testing.assert_allclose(found.vector, expected(1, 2, 1), atol=1e-6)  # type: ignore[arg-type]


def test_a_large_picture_is_decoded_no_larger_than_the_model_needs(tmp_path: Path) -> None:
    model = Levels()
    (tmp_path / "large.jpg").write_bytes(jpg(50, 400, 640))
    list(stream(model, [tmp_path / "large.jpg", jpg(50, 400, 640), jpg(50, 40, 64)]))
    assert picture_size(model) == (32, 64)
    assert sorted(model.sizes) == [(40, 64), (50, 80), (50, 80)]  # an eighth suffices: at least 32 x 64
    assert picture_size(object()) is None


def test_a_handful_is_shared_and_chunks_grow_to_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image(np.zeros((4, 4, 3), np.uint8))] * 200
    lengths = [len(chunk) for chunk in module._chunks(pictures)]
    assert lengths[0] == CHUNK // 4
    assert max(lengths) == CHUNK
    assert sum(lengths) == 200
    assert max(len(chunk) for chunk in module._chunks([Text("a")] * 5000)) == TEXTS
    model = Levels()
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    assert len(list(stream(model, pictures[:9]))) == 9
    assert max(model.calls) <= 3  # each takes some 430 bytes


def test_a_network_is_put_into_evaluation_before_workers_share_it() -> None:
    class Noisy(nn.Module):
        def embed(self, items: Sequence[Any]) -> Tensor:
            return nn.functional.dropout(torch.ones(len(items), 64), 0.5, self.training)

    model = Noisy()
    assert all((one.vector == 1 / 8).all() for one in stream(model, [Text("a")] * 10))  # type: ignore[union-attr]
    assert model.training


def test_a_shipped_model_gives_the_vectors_that_it_gives_alone() -> None:
    model = load_model("diorama")
    rng = np.random.default_rng(0)
    items = [Image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(40)] + [Text("a red circle")]
    found = np.stack([one.vector for one in stream(model, items)])  # type: ignore[misc]
    np.testing.assert_allclose(found, model.embed(items).numpy(), atol=1e-5)


def test_limits_hold_in_the_workers() -> None:
    with limited(pixels_max=10):
        (found,) = stream(Levels(), [jpg(1)])
    assert "more than the limit of 10 pixels" in found.error


def test_ahead_keeps_order_and_depth_and_raises_in_place() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 7:
            raise KeyError(number)
        return number * number

    with crew() as pool:
        given = ahead(pool, work, iter(range(100)), 4)
        assert [next(given) for _ in range(7)] == [n * n for n in range(7)]
        assert max(begun) <= 10
        with pytest.raises(KeyError):
            next(given)


def test_reasons_are_one_line() -> None:
    assert reason(UnreadableMedia("a\nb")) == "a b"
    assert reason(KeyError("x")) == "KeyError: 'x'"


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3)), np.full((2, 3), np.inf), np.ones((3, 3)), np.ones(3), np.ones((2, 0))]
)
def test_vectors_that_are_none(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match="vector"):
        unit_rows(wrong, 2)


def test_unit_rows() -> None:
    given = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_allclose(unit_rows(given, 2), [[0.6, 0.8], [0.0, 1.0]], atol=1e-7)


def test_embedded_says_all_there_is() -> None:
    assert Embedded("a.jpg", "", None, "why").error == "why"


def test_cut_rows_are_of_unit_length_again() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    cut = rows[:, :3] / np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(rows, 5, 3), cut, atol=1e-6)
    np.testing.assert_allclose(unit_rows(unit_rows(rows, 5), 5, 3), cut, atol=1e-6)
    for width in (0, 9):
        with pytest.raises(InvalidValue, match=f"width is {width}, and the vectors have 8 numbers"):
            unit_rows(rows, 5, width)
    found = list(stream(Levels(), [Text("three"), Text("seven..")], width=1))
    assert [one.vector.tolist() for one in found if one.vector is not None] == [[1.0], [1.0]]
