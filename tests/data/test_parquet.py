"""Parquet files are a source like any other: columns are fields, by the features in the schema or by their types."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from intermodal.adapters.connected import Options, connect, of_function
from intermodal.data.decoding import Problem
from intermodal.data.parquet import parquet
from intermodal.data.sources import Varies, open_source
from intermodal.decoders.projection import Head
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.modalities.audio import Audio
from intermodal.modalities.text import Text
from tests.data_files import FILE, picture, png, write_parquet

FEATURES = {
    "img": {"_type": "Image"},
    "sound": {"_type": "Audio", "sampling_rate": 8000},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    "captions": {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}},
    "title": {"_type": "Value", "dtype": "string"},
    "n": {"_type": "Value", "dtype": "int64"},
    "x": [{"_type": "Value", "dtype": "float32"}],
}
TYPES = {
    "img": FILE, "sound": FILE, "label": pa.int64(), "captions": pa.list_(pa.string()), "title": pa.string(),
    "n": pa.int64(), "x": pa.list_(pa.float32()),
}  # fmt: skip
WAVE = Audio(np.linspace(-0.5, 0.5, 80, dtype=np.float32)[None], 8000)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))


def silent(problem: Problem) -> None:
    """Reports nowhere."""


def columns(rows: range, folder: Path) -> dict[str, list[Any]]:
    """Returns columns of which some values are missing."""
    wave = WAVE.save(folder / "made.wav").read_bytes()
    return {
        "img": [None if i == 3 else {"bytes": png(i, folder), "path": f"{i}.png"} for i in rows],
        "sound": [{"bytes": wave, "path": None} for _ in rows],
        "label": [-1 if i == 2 else i % 2 for i in rows],
        "captions": [[] if i == 1 else [f"a{i}", f"b{i}", f"c{i}"] for i in rows],
        "title": [None if i == 0 else "" if i == 1 else f"title {i}" for i in rows],
        "n": list(rows),
        "x": [[1.0, 2.0] for _ in rows],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten rows in two files of the train split, and three of another one."""
    for name, rows in (
        ("train-00000-of-00002", range(6)),
        ("train-00001-of-00002", range(6, 10)),
        ("validation-00000-of-00001", range(20, 23)),
    ):
        write_parquet(tmp_path / "set" / "data" / f"{name}.parquet", columns(rows, tmp_path), TYPES, FEATURES)
    return tmp_path / "set"


def test_columns_are_fields_as_the_features_say(data: Path) -> None:
    source = open_source(f"hf:{data}", "train")
    assert isinstance(source, Varies)
    assert (len(source), source.fields) == (
        10, {"img": "image", "sound": "audio", "label": "text", "captions": "text", "title": "text"},
    )  # fmt: skip
    zero, one, two, three, nine = source.samples([0, 1, 2, 3, 9])
    assert (zero["img"], zero["label"], nine["img"], nine["label"]) == (
        picture(0),
        Text("cat"),
        picture(9),
        Text("dog"),
    )
    assert np.array_equal(nine["sound"].samples, WAVE.samples)
    assert nine["title"] == Text("title 9")
    assert nine["captions"].text in ("a9", "b9", "c9")
    missing = [sorted(set(source.fields) - set(sample)) for sample in (zero, one, two, three, nine)]
    assert missing == [["title"], ["captions", "title"], ["label"], ["img"], []]
    assert source.problems == []
    assert source.metadata(9) == {"n": 9, "x": [1.0, 2.0], "split": "train"}
    assert source.texts("label", range(3)) == ["cat", "dog"]
    assert parquet(data, "val").samples([2])[0]["img"] == picture(22)
    assert len(parquet(data)) == 13


def test_several_captions_vary_by_epoch(data: Path) -> None:
    source = parquet(data, "train", fields=["captions"])
    shown = [[s["captions"].text for s in source.at_epoch(e).samples(range(2, 10))] for e in range(3)]
    assert all(sorted(three) == [f"{c}{i + 2}" for c in "abc"] for i, three in enumerate(zip(*shown, strict=True)))
    assert source.captions(9) == ("a9", "b9", "c9")
    assert source.captions(1) == ()


def test_types_say_it_where_there_are_no_features(data: Path, tmp_path: Path) -> None:
    made = columns(range(4), tmp_path)
    made["raw"] = [one and one["bytes"] for one in made["img"]]
    made["none"] = [b"\x00\x01\x02\x03"] * 4
    made["album"] = [[one] for one in made["sound"]]
    types = TYPES | {"raw": pa.binary(), "none": pa.binary(), "album": pa.list_(FILE)}
    path = write_parquet(tmp_path / "plain.parquet", made, types)
    reports: list[Problem] = []
    source = parquet(path, report=reports.append)
    assert source.fields == {
        "img": "image", "sound": "audio", "captions": "text", "title": "text", "raw": "image",
    }  # fmt: skip
    for plain, told in zip(source.samples(range(4)), parquet(data).samples(range(4)), strict=True):
        same = [name for name in source.fields if name != "raw"]
        assert {name: plain.get(name) for name in same if name != "sound"} == {
            name: told.get(name) for name in same if name != "sound"
        }
        assert plain.get("raw") == told.get("img")
    assert source.metadata(0) == {"label": 0, "n": 0, "x": [1.0, 2.0], "split": "train"}
    assert [problem.what for problem in reports] == ["none", "album"]
    assert reports[0].reason.startswith("its first values are no media: ")


def test_choices_and_other_names(data: Path) -> None:
    source = open_source(f"hf:{data}::image=img,text=captions", "train", fields=["image", "text"])
    assert source.fields == {"image": "image", "text": "text"}
    assert source.describe()["renamed"] == {"image": "img", "text": "captions"}
    assert source.samples([9])[0]["image"] == picture(9)
    whole = parquet(data, "train", require=["img", "captions", "label", "title"])
    assert [whole.metadata(i)["n"] for i in range(len(whole))] == [4, 5, 6, 7, 8, 9]
    assert whole.describe()["rows_left_out"] == 4
    for wrong, message in (
        ({"fields": ["sound", "sounds"]}, r"no field in hf:.*'sounds'; use one of: captions, img, label, sound, title"),
        ({"split": "test"}, r"no split in hf:.*'test'; use one of: dev, train"),
        ({"fields": ["n"]}, r"no field in hf:.*'n'"),
    ):
        with pytest.raises(UnknownName, match=message):
            parquet(data, **wrong)
    with pytest.raises(InvalidValue, match="require is the string"):
        parquet(data, require="img")
    with pytest.raises(InvalidValue, match=r"there is no row 10; the rows are 0 to 9"):
        parquet(data, "train").samples([10])


def test_what_cannot_be_read_is_said_once_with_file_and_row(tmp_path: Path) -> None:
    good = png(5, tmp_path)
    cells = [good, good[:40], None, b"", b"no picture"]
    made = [{"bytes": one, "path": "elsewhere.png" if i == 2 else None} for i, one in enumerate(cells)]
    path = write_parquet(tmp_path / "a.parquet", {"img": made}, {"img": FILE}, {"img": {"_type": "Image"}}, rows=2)
    source = parquet(path, report=silent)
    for _ in range(2):
        assert source.samples(range(5)) == [{"img": picture(5)}, {}, {}, {}, {}]
    told = sorted(source.problems, key=str)
    assert [p.place for p in told] == [f"a.parquet row {i}" for i in (1, 2, 3, 4)]
    reasons = [p.reason for p in told]
    assert reasons[1].startswith("img holds no bytes but the path 'elsewhere.png'")
    assert "empty" in reasons[2]
    assert reasons[3].startswith("img is text (txt), no picture")
    for wrong, message in ((made[2:], "none of 3 files of the field 'img'"), ([], "has no row")):
        write_parquet(path, {"img": wrong}, {"img": FILE}, {"img": {"_type": "Image"}})
        with pytest.raises(InvalidData, match=message):
            parquet(path, report=silent)


def test_the_same_row_from_several_threads_is_the_same(data: Path) -> None:
    source = parquet(data, "train", cache_bytes=0)
    expected = source.samples(range(10))
    orders = [np.random.default_rng(seed).permutation(10).tolist() for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(source.samples, orders), strict=True):
            for i, sample in zip(order, found, strict=True):
                assert [sample.get(n) for n in ("img", "title", "label")] == [
                    expected[i].get(n) for n in ("img", "title", "label")
                ]
    source.close()
    assert source.samples([9])[0]["img"] == picture(9)
    source.close()


def test_the_description_tells_data_apart(data: Path) -> None:
    said = parquet(data, "train").describe()
    digest = said.pop("parquet_sha256")
    assert said == {
        "name": "set", "split": "train", "count": 10, "seed": 0,
        "fields": {"img": "image", "sound": "audio", "label": "text", "captions": "text", "title": "text"},
        "rows_with": {"img": 9, "sound": 10, "label": 10, "captions": 10, "title": 9},
        "rows_left_out": 0, "problems": 0, "files": 2,
    }  # fmt: skip
    json.dumps(said)
    assert parquet(data, "dev").describe()["parquet_sha256"] != digest


def test_encoders_are_connected_on_parquet(data: Path, tmp_path: Path) -> None:
    seen = of_function(lambda items: np.stack([item.pixels.mean((0, 1)) for item in items]), "image", "mean", "1")
    heard = of_function(lambda items: np.array([[len(t.text), ord(t.text[0])] for t in items]), "text", "signs", "1")
    name, how = f"hf:{data}::image=img,text=captions", Options(epochs=1, batch=4, width=4, heads=1, grid=(Head(4),))
    result = connect({"image": seen, "text": heard}, name, tmp_path / "out", how, tmp_path / "kept")
    assert result["samples"] == 10
    assert set(result["dev_figures"]) == {"image>text", "text>image"}
    again = connect({"image": seen, "text": heard}, name, tmp_path / "out", how, tmp_path / "kept")
    assert again["dev_figures"] == result["dev_figures"]
    made = len(list((tmp_path / "kept").iterdir()))
    connect(
        {"image": seen, "text": heard}, f"hf:{data}::image=img,text=title", tmp_path / "out", how, tmp_path / "kept"
    )
    assert len(list((tmp_path / "kept").iterdir())) == 2 * made  # another column of the same name is other data
