"""Shards are a source like any other: what is in their members, in any order, from any thread."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from intermodal.data import shards as module
from intermodal.data.decoding import Problem
from intermodal.data.loader import Loader
from intermodal.data.shards import shards
from intermodal.data.sources import Varies, open_source
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.media.source import limited
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video
from tests.data_files import picture, png, write_shard


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))


def silent(problem: Problem) -> None:
    """Reports nowhere."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve samples in three shards, and two of another split: pictures of one level each, the number of the row."""
    for shard in range(3):
        members: list[tuple[str, bytes | str]] = []
        for i in range(4 * shard, 4 * shard + 4):
            members += [(f"{i:03d}.png", png(i, tmp_path)), (f"{i:03d}.txt", f"number {i}")]
            members += [(f"{i:03d}.json", json.dumps({"level": i, "caption": "not this"}))]
        write_shard(tmp_path / "data" / f"train-{shard:03d}.tar", members)
    write_shard(tmp_path / "data" / "val-000.tar", [("a.txt", "alpha"), ("b.png", png(99, tmp_path))])
    return tmp_path / "data"


def test_members_of_every_modality_are_items(tmp_path: Path) -> None:
    sound = Audio(np.linspace(-0.5, 0.5, 800, dtype=np.float32)[None], 8000)
    series = TimeSeries(np.arange(6, dtype=np.float32)[None], ("x",), 4.0)
    clip = Video(np.full((2, 16, 16, 3), 90, np.uint8), 4.0)
    files = {"wav": sound, "csv": series, "mkv": clip, "left.png": picture(1), "right.png": picture(2)}
    members = [(f"1.{key}", item.save(tmp_path / f"x.{key}").read_bytes()) for key, item in files.items()]
    told = {"question": "what", "answers": ["a", "b"], "n": 3, "url": "somewhere"}
    members += [("1.cls", "7\n"), ("1.json", json.dumps(told)), ("1.npy", "?"), ("1.camera.json", "[1, 2]")]
    reports: list[Problem] = []
    source = shards(write_shard(tmp_path / "a.tar", members), report=reports.append)
    assert source.fields == {
        "audio": "audio", "timeseries": "timeseries", "video": "video", "left": "image", "right": "image",
        "cls": "text", "question": "text", "answer": "text",
    }  # fmt: skip
    (sample,) = source.samples([0])
    assert (sample["left"], sample["right"], sample["timeseries"]) == (picture(1), picture(2), series)
    assert np.array_equal(sample["audio"].samples, sound.samples)
    assert sample["video"].frames.shape == (2, 16, 16, 3)
    assert (sample["cls"], sample["question"]) == (Text("7"), Text("what"))
    assert source.captions(0, "answer") == ("a", "b")
    assert source.metadata(0) == {"key": "1", "n": 3, "url": "somewhere", "camera": [1, 2], "split": "train"}
    assert [(p.what, p.reason[:31]) for p in reports] == [("*.npy", "members with this suffix are of")]


def test_samples_are_those_of_the_shards_in_order(data: Path) -> None:
    source = open_source(f"wds:{data}", "train")
    assert isinstance(source, Varies)
    assert (len(source), source.fields) == (12, {"image": "image", "text": "text"})
    assert source.samples([11, 0, 5, 0]) == [{"image": picture(i), "text": Text(f"number {i}")} for i in (11, 0, 5, 0)]
    assert source.texts("text", [3]) == ["number 3"]
    assert source.metadata(3) == {"key": "003", "level": 3, "caption": "not this", "split": "train"}
    with pytest.raises(InvalidValue, match=r"there is no row 12; the rows are 0 to 11"):
        source.samples([12])


def test_a_missing_member_is_a_missing_key(data: Path) -> None:
    source = shards(data, "validation")
    assert source.samples([0, 1]) == [{"text": Text("alpha")}, {"image": picture(99)}]
    assert len(shards(data)) == 14
    chosen = shards(data, fields=["image"])
    assert (len(chosen), chosen.fields, chosen.samples([12])) == (13, {"image": "image"}, [{"image": picture(99)}])
    assert chosen.describe()["rows_left_out"] == 1
    both = shards(data, require=["text", "image"])
    assert (len(both), both.describe()["rows_with"]) == (12, {"image": 12, "text": 12})
    with pytest.raises(InvalidData, match=r"has no sample of the split 'dev' with image, text"):
        shards(data, "dev", fields=["image"], require=["text", "image"])
    with pytest.raises(UnknownName, match=r"no split in .*'test'; use one of: dev, train"):
        shards(data, "test")
    with pytest.raises(UnknownName, match=r"no field in .*'sound'; use one of: image, text"):
        shards(data, fields=["sound"])
    with pytest.raises(InvalidValue, match="fields is the string 'text'"):
        shards(data, fields="text")


def test_fields_get_the_names_that_are_asked_for(data: Path) -> None:
    source = open_source(f"wds:{data}/*.tar::picture=image,words=text", "dev", fields=["picture"])
    assert source.samples([0]) == [{"picture": picture(99)}]
    said = source.describe()
    assert (said["name"], said["renamed"]) == ("data/*.tar", {"picture": "image", "words": "text"})


def test_captions_of_a_json_vary_by_epoch_where_there_is_no_text(tmp_path: Path) -> None:
    told = [{"captions": [f"{i}a", f"{i}b", f"{i}c"]} for i in range(20)]
    members = [(f"{i:02d}.json", json.dumps(one)) for i, one in enumerate(told)]
    source = shards(write_shard(tmp_path / "a.tar", members))
    shown = [[s["text"].text for s in source.at_epoch(e).samples(range(20))] for e in range(3)]
    assert all(sorted(three) == told[i]["captions"] for i, three in enumerate(zip(*shown, strict=True)))
    assert source.captions(4) == ("4a", "4b", "4c")
    assert source.metadata(4) == {"key": "04", "split": "train"}


def test_what_cannot_be_read_is_said_once_with_shard_and_member(tmp_path: Path) -> None:
    good = png(1, tmp_path)
    members = [("1.png", good[:40]), ("1.txt", b"\xff\xfe\xfd"), ("2.png", good), ("2.json", "{"), ("3.png", b"")]
    members += [("3.json", "[1]"), ("4.txt", "fine"), ("4.png", "no picture")]
    source = shards(write_shard(tmp_path / "deep" / "a.tar", members), report=silent)
    for _ in range(2):
        samples = source.samples(range(4))
    assert samples == [{}, {"image": picture(1)}, {}, {"text": Text("fine")}]
    told = {problem.what: problem for problem in source.problems}
    assert sorted(told) == ["1.png", "1.txt", "2.json", "3.json", "3.png", "4.png"]
    assert len(source.problems) == 6
    assert {problem.place for problem in source.problems} == {"deep/a.tar"}
    assert told["4.png"].reason.startswith("4.png is text (txt), no picture")
    assert told["1.png"].reason.startswith("1.png ")
    assert told["1.txt"].reason.startswith("1.txt is no UTF-16 text")
    assert told["2.json"].reason.startswith("2.json is not JSON (")
    assert told["3.json"].reason == "3.json holds a list, not a JSON object"
    assert told["3.png"].reason == "3.png is empty: there are no bytes to read"


def test_a_member_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.png", png(1, tmp_path)), ("2.txt", "a" * 900)])
    source = shards(path, report=silent)
    with limited(bytes_max=800):
        assert source.samples([1]) == [{}]
    assert source.problems[0].reason.startswith("2.txt has 900 bytes, more than the limit of 800")


def test_a_field_without_any_good_member_is_an_error_at_once(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [(f"{i}.png", "no picture") for i in range(3)])
    with pytest.raises(InvalidData, match=r"none of 3 files of the field 'image' .*a\.tar: '0\.png': 0\.png is text"):
        shards(path, report=silent)


def test_a_shard_that_changes_while_it_is_used_is_an_error(data: Path) -> None:
    source = shards(data, "train", cache_bytes=0)
    source.close()
    write_shard(data / "train-001.tar", [("9.txt", "nine")])
    assert source.samples([0])[0]["text"] == Text("number 0")
    with pytest.raises(InvalidData, match=r"train-001\.tar was changed while it was in use; open the data again"):
        source.samples([5])


def test_threads_share_shards_of_which_few_are_open(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 1)
    source = shards(data, "train", cache_bytes=0)
    expected = [{"image": picture(i), "text": Text(f"number {i}")} for i in range(12)]
    barrier = threading.Barrier(4)

    def read(seed: int) -> None:
        barrier.wait()
        order = np.random.default_rng(seed).permutation(12).tolist() * 5
        assert source.samples(order) == [expected[i] for i in order]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))
    assert len(source._table._open) == 1
    source.close()
    assert source.samples([7]) == [expected[7]]
    source.close()


def test_a_batch_is_a_function_of_its_number(data: Path) -> None:
    fields = {"image": ImagePreprocessor(8, 8, 4, (0, 0, 0), (1, 1, 1))}
    first = Loader(shards(data, "train"), fields, 4, seed=3)
    ran = [batch["image"].values for batch in first.steps(0, 7)]
    again = Loader(shards(data, "train"), fields, 4, seed=3)
    assert all(again.batch(step)["image"].values.equal(ran[step]) for step in (6, 2, 5))
    assert sorted((values[:, 0, 0, 0] * 255).round().int().tolist() for values in ran[:3]) != [[0, 1, 2, 3]]
    seen = [int(level) for values in ran[:3] for level in (values[:, 0, 0, 0] * 255).round().tolist()]
    assert sorted(seen) == list(range(12))


def test_the_description_tells_data_apart(data: Path) -> None:
    said = shards(data, "train").describe()
    digest = said.pop("shards_sha256")
    assert said == {
        "name": f"{data.parent.name}/data", "split": "train", "count": 12, "seed": 0,
        "fields": {"image": "image", "text": "text"}, "rows_with": {"image": 12, "text": 12}, "rows_left_out": 0,
        "problems": 0, "shards": 3,
    }  # fmt: skip
    json.dumps(said)
    assert shards(data, "train").describe()["shards_sha256"] == digest
    write_shard(data / "train-001.tar", [("9.txt", "nine")])
    assert shards(data, "train").describe()["shards_sha256"] != digest
