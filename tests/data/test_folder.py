"""A folder gives its rows as samples, keeps what it decoded within bounds, and survives what cannot be read."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermodal.data import decoding
from intermodal.data import folder as module
from intermodal.data.decoding import Problem, item_bytes
from intermodal.data.folder import Folder
from intermodal.data.loader import Loader
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.media.source import limited
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.timeseries import TimeSeries
from intermodal.tokenizers.byte import ByteTokenizer

Write = Callable[[list[dict[str, Any]]], Path]


def picture(level: int, side: int = 8) -> Image:
    return Image(np.full((side, side, 3), level, np.uint8))


def silent(problem: Problem) -> None:
    """Reports nowhere."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(rows: list[dict[str, Any]]) -> Path:
        (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return written


@pytest.fixture
def pictures(write: Write, tmp_path: Path) -> Path:
    """Twelve pictures of one level each, the number of the row."""
    for i in range(12):
        picture(i).save(tmp_path / f"{i}.png")
    return write([{"image_file_name": f"{i}.png", "text": f"number {i}", "level": i} for i in range(12)])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the pictures that were opened."""
    names: list[str] = []
    before = Image.open.__func__

    def spied(cls: type[Image], source: Any, *more: Any) -> Image:
        names.append(Path(source).name)
        return before(cls, source, *more)

    monkeypatch.setattr(Image, "open", classmethod(spied))
    return names


def test_rows_are_samples_of_several_modalities(write: Write, tmp_path: Path) -> None:
    picture(7).save(tmp_path / "a.png")
    sound = Audio(np.zeros((1, 800), np.float32), 8000)
    sound.save(tmp_path / "a.flac")
    series = TimeSeries(np.arange(6, dtype=np.float32).reshape(2, 3), ("x", "y"), 4.0)
    series.save(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("from a file")
    source = Folder(write([
        {"file_name": "a.png", "question": "what", "answer": "seven", "width": 8},
        {"file_name": "a.flac", "trace_file_name": "a.csv", "question": None},
        {"text": "words"},
        {"text_file_name": "a.txt", "split": "test"},
    ]))  # fmt: skip
    assert source.fields == {
        "image": "image", "question": "text", "answer": "text", "audio": "audio", "trace": "timeseries", "text": "text",
    }  # fmt: skip
    first, second, third, fourth = source.samples([0, 1, 2, 3])
    assert first == {"image": picture(7), "question": Text("what"), "answer": Text("seven")}
    assert list(second) == ["audio", "trace"]
    assert second["audio"].samples.shape == (1, 800)
    assert second["trace"] == series
    assert (third, fourth) == ({"text": Text("words")}, {"text": Text("from a file")})
    assert source.captions(3, "text") == ("from a file",)
    assert (source.metadata(0), source.metadata(3)) == ({"width": 8}, {"split": "test"})
    assert source.problems == []


def test_fields_choose(pictures: Path) -> None:
    source = Folder(pictures, fields=["text"])
    assert source.fields == {"text": "text"}
    assert source.samples([3]) == [{"text": Text("number 3")}]
    assert source.metadata(3) == {"level": 3}
    with pytest.raises(UnknownName, match=r"'sound'.*image, text"):
        Folder(pictures, fields=["sound"])
    with pytest.raises(InvalidValue, match="fields is the string 'text'"):
        Folder(pictures, fields="text")


def test_the_description_says_what_the_data_are(write: Write) -> None:
    folder = write([{"text": "a", "split": "train"}, {"text": "b", "label": "c", "split": "val"}, {"split": "val"}])
    said = Folder(folder, "dev", seed=3).describe()
    digest = said.pop("metadata_sha256")
    assert said == {
        "name": folder.name,
        "split": "dev",
        "count": 1,
        "seed": 3,
        "fields": {"text": "text", "label": "text"},
        "rows_with": {"text": 1, "label": 1},
        "rows_left_out": 1,
        "problems": 0,
    }
    assert len(digest) == 64
    json.dumps(said)


def test_of_several_texts_each_is_shown_once_in_as_many_epochs(write: Write) -> None:
    texts = ["a", "b", "c", "d", "e"]
    folder = write([{"text": texts}] * 200)
    source = Folder(folder)
    index = list(range(200))
    epochs = [[s["text"].text for s in source.at_epoch(e).samples(index)] for e in range(5)]
    assert [s["text"].text for s in source.samples(index)] == epochs[0]
    assert all(sorted(shown) == texts for shown in zip(*epochs, strict=True))
    assert all(20 <= epochs[0].count(t) <= 60 for t in texts)  # 40 expected, standard deviation 5.7
    assert source.samples([5, 7])[1]["text"].text == epochs[0][7]
    assert [s["text"].text for s in Folder(folder, seed=1).samples(index)] != epochs[0]
    assert source.captions(9) == tuple(texts)


def test_words_are_read_without_opening_media(write: Write, pictures: Path, opened: list[str]) -> None:
    source = Folder(pictures)
    before = len(opened)
    assert source.texts("text", range(3)) == ["number 0", "number 1", "number 2"]
    assert source.texts("image", range(3)) == []
    assert len(opened) == before
    assert Folder(write([{"text": ["a", "b"]}, {"text": "c"}, {"label": "d"}])).texts("text", range(3)) == [
        "a",
        "b",
        "c",
    ]


def test_texts_of_equal_number_stay_together(write: Write) -> None:
    rows = [{"question": ["q0", "q1", "q2"], "answer": ["a0", "a1", "a2"]}] * 20
    source = Folder(write(rows))
    for epoch in range(3):
        for sample in source.at_epoch(epoch).samples(range(20)):
            assert sample["question"].text[1] == sample["answer"].text[1]
    with pytest.raises(InvalidValue, match="question, answer; say which"):
        source.captions(0)
    with pytest.raises(UnknownName, match="'text'"):
        source.captions(0, "text")


def test_keys_tell_which_rows_are_the_same(write: Write) -> None:
    source = Folder(write([{"text": ["b", "a"]}, {"text": ["a", "b"]}, {"text": "a"}]))
    keys = source.keys([0, 1, 2], "text")
    assert keys[0] == keys[1] != keys[2]
    assert len(set(source.keys([0, 1, 2], "image"))) == 3


def test_a_bad_file_is_reported_once_and_its_row_lacks_the_field(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "3.png").write_bytes((pictures / "3.png").read_bytes()[:40])
    (pictures / "5.png").unlink()
    metadata = pictures / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("7.png", r"\ud800.png"))
    source = Folder(pictures, cache_bytes=0)
    reports: list[Problem] = []
    quiet = Folder(pictures, report=reports.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            samples = source.samples(range(12))
            quiet.samples(range(12))
    assert [i for i, s in enumerate(samples) if "image" not in s] == [3, 5, 7]
    assert all("text" in s for s in samples)
    assert sorted(p.what for p in source.problems) == ["3.png", "5.png", "\ud800.png"]
    assert reports == quiet.problems
    assert {p.place.split()[-1] for p in reports} == {"4", "6", "8"}
    logged = [record.message for record in caplog.records if record.name == module.__name__]
    assert len(logged) == 3
    assert any("there is no file" in line and "line 6: '5.png'" in line for line in logged)
    assert source.describe()["problems"] == 3


def test_a_text_that_no_item_can_hold_is_reported(write: Write) -> None:
    source = Folder(write([{"text": "a\0b", "label": "x"}, {"text": "fine"}]), report=silent)
    assert [list(s) for s in source.samples([0, 1])] == [["label"], ["text"]]
    source.samples([0])
    assert [(p.place.split()[-1], p.what) for p in source.problems] == [("1", "text")]


def test_a_field_without_any_good_file_is_an_error_at_once(pictures: Path) -> None:
    for i in range(12):
        (pictures / f"{i}.png").write_text("no picture")
    with pytest.raises(InvalidData, match=r"none of 12 files of the field 'image' .* line 1: '0.png': .*text"):
        Folder(pictures, report=silent)
    picture(0).save(pictures / "11.png")
    assert len(Folder(pictures, report=silent).problems) == 11


def test_half_a_folder_of_bad_files_is_no_error(write: Write, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "good.png")
    rows = [{"image_file_name": f"{i}.png", "text": "a"} for i in range(300)] + [{"image_file_name": "good.png"}] * 60
    source = Folder(write(rows), report=silent)
    assert source.samples([359]) == [{"image": picture(1)}]


def test_a_loader_skips_what_is_not_usable(pictures: Path) -> None:
    for i in (2, 3, 9):
        (pictures / f"{i}.png").write_bytes(b"")
    source = Folder(pictures, fields=["image"], report=silent)
    batches = Loader(source, {"image": ImagePreprocessor(8, 8, 4, (0, 0, 0), (1, 1, 1))}, 4, seed=1)
    for step in range(6):
        batch = batches.batch(step)["image"]
        levels = (batch.values[:, 0, 0, 0] * 255).round().int().tolist()
        assert batch.present.all()
        assert len(set(levels)) == 4
        assert not {2, 3, 9} & set(levels)


@pytest.fixture
def leaving(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of pictures, of which one is a link that leaves it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(1).save(elsewhere / "secret.png")
    (pictures / "4.png").unlink()
    (pictures / "4.png").symlink_to(elsewhere / "secret.png")
    return pictures


def test_a_link_out_of_the_folder_is_an_error(leaving: Path) -> None:
    source = Folder(leaving)
    with pytest.raises(InvalidData, match=r"line 5: 4.png is a link that leaves the folder"):
        source.samples(range(12))


def test_after_an_error_nothing_is_decoded_any_more(leaving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, begun = decoding.opened, []

    def slow(modality: str, given: str | bytes, name: str) -> Any:
        begun.append(name)
        time.sleep(0.05)
        return plain(modality, given, name)

    monkeypatch.setattr(decoding, "opened", slow)
    monkeypatch.setattr(decoding.runtime, "cores", lambda: 2)
    source = Folder(leaving)
    with pytest.raises(InvalidData, match="is a link that leaves the folder"):
        source.samples(range(12))
    before = len(begun)
    time.sleep(0.2)
    assert 0 < len(begun) == before < 11
    source.close()


def test_what_was_decoded_is_kept(pictures: Path, opened: list[str]) -> None:
    source = Folder(pictures)
    first = source.samples(range(12))
    assert sorted(opened) == sorted(f"{i}.png" for i in range(12))
    again = source.at_epoch(1).samples([11, 0, 0])
    assert len(opened) == 12
    assert again[1]["image"] is again[2]["image"] is first[0]["image"]
    assert source.cached_bytes == sum(item_bytes(s["image"]) for s in first)


def test_a_file_that_many_rows_name_is_decoded_once(write: Write, tmp_path: Path, opened: list[str]) -> None:
    picture(1).save(tmp_path / "a.png")
    source = Folder(write([{"image_file_name": "a.png", "question": f"{i}"} for i in range(50)]))
    assert len(source.samples(range(50))) == 50
    assert opened == ["a.png"]


def test_the_cache_has_a_bound_and_drops_the_least_recently_used(pictures: Path, opened: list[str]) -> None:
    one = item_bytes(picture(0))
    source = Folder(pictures, cache_bytes=3 * one)
    for i in (0, 1, 2, 0, 3):
        source.samples([i])
    assert source.cached_bytes == 3 * one
    assert opened == ["0.png", "1.png", "2.png", "3.png"]
    source.samples([0])
    source.samples([1])
    assert opened[4:] == ["1.png"]
    for bytes_max in (0, one - 1):
        small = Folder(pictures, cache_bytes=bytes_max)
        assert len(small.samples(range(12))) == 12
        assert small.cached_bytes == 0
    with pytest.raises(InvalidValue, match="cache_bytes is -1"):
        Folder(pictures, cache_bytes=-1)


def test_batches_are_whole_even_where_the_cache_holds_less(pictures: Path) -> None:
    source = Folder(pictures, cache_bytes=item_bytes(picture(0)))
    assert [int(s["image"].pixels[0, 0, 0]) for s in source.samples(list(range(12)))] == list(range(12))


def test_items_weigh_what_they_hold() -> None:
    assert item_bytes(picture(0, 100)) - item_bytes(picture(0, 10)) == 3 * (100**2 - 10**2)
    assert item_bytes(Text("a" * 100)) - item_bytes(Text("")) == 400


def test_one_core_and_many_give_the_same(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, others = [], set(threading.enumerate())  # of sources that other tests did not close
    for cores in (1, 2, 8):
        monkeypatch.setattr(decoding.runtime, "cores", lambda cores=cores: cores)
        source = Folder(pictures, cache_bytes=0)
        results.append(source.samples([5, 1, 11, 0, 5]))
        source.close()
        assert source.samples([5])[0] == results[0][0]
        source.close()
    assert results[0] == results[1] == results[2]
    assert [t for t in set(threading.enumerate()) - others if t.name.startswith("decode")] == []


def test_limits_of_the_caller_hold_in_the_threads(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding.runtime, "cores", lambda: 4)
    source = Folder(pictures, report=silent, cache_bytes=0)
    with limited(pixels_max=10):
        assert all("image" not in s for s in source.samples(range(12)))
    assert len(source.problems) == 12
    source.close()


def test_threads_share_a_folder(pictures: Path) -> None:
    source = Folder(pictures, cache_bytes=4 * item_bytes(picture(0)))
    fields = {"image": ImagePreprocessor(8, 8, 4), "text": TextPreprocessor(ByteTokenizer())}
    many = Loader(source, fields, 3, prefetch=4, workers=4)
    alone = Loader(Folder(pictures), fields, 3)
    for step, batch in enumerate(many.steps(0, 40)):
        expected = alone.batch(step)
        for name in fields:
            assert batch[name].values.equal(expected[name].values)
            assert batch[name].mask.equal(expected[name].mask)
    source.close()
