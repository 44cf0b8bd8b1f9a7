"""Real data, prepared by the scripts of the benchmarks, are folders that load whole and without a problem."""

import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from intermodal.data.folder import Folder

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real"


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module(request.param)
    monkeypatch.setattr(module, "REPEATS", 2, raising=False)
    return module


def everything(folder: Path, split: str) -> Folder:
    """Returns the split, all of which was opened."""
    source = Folder(folder, split)
    samples = source.samples(range(len(source)))
    assert source.problems == []
    assert all(len(sample) >= 2 for sample in samples)
    return source


@pytest.mark.slow
@pytest.mark.data("truce")
@pytest.mark.parametrize("script", ["truce"], indirect=True)
def test_series_with_captions(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path)
    sizes = {split: len(everything(folder, split)) for split in ("train", "dev", "test")}
    assert (sizes["dev"], sizes["test"]) == (246, 246)
    assert 1968 - 26 <= sizes["train"] < 1968
    series: dict[str, set[bytes]] = {}
    for split in sizes:
        source = Folder(folder, split)
        items = [s["timeseries"] for s in source.samples(range(len(source)))]
        series[split] = {item.values.tobytes() for item in items}
        assert {item.values.shape for item in items} == {(1, 12)}
        assert {len(source.captions(i)) for i in range(len(source))} == {3}
    assert not series["train"] & (series["dev"] | series["test"])
    assert source.metadata(0)["about"]["source"] in ("stock", "synthetic")
    row = json.loads((shared_data / "truce" / "pairs.jsonl").read_text().splitlines()[-1])
    captions = [source.captions(i) for i in range(len(source))]
    assert row["split"] == "test"
    sample = source.samples([captions.index(tuple(row["captions"]))])[0]
    assert np.array_equal(sample["timeseries"].values[0], np.float32(row["series"]))


@pytest.mark.data("esc10")
@pytest.mark.parametrize("script", ["esc10"], indirect=True)
def test_sounds_in_folds(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path, 2, dev=True)
    parts = {split: Folder(folder, split) for split in ("train", "dev", "test")}
    about = {split: [s.metadata(i) for i in range(len(s))] for split, s in parts.items()}
    assert sum(map(len, about.values())) == 400
    assert {row["fold"] for row in about["test"]} == {2}
    assert 2 not in {row["fold"] for row in about["train"] + about["dev"]}
    recordings = {split: {row["about"]["recording"] for row in rows} for split, rows in about.items()}
    assert not recordings["train"] & recordings["dev"]
    assert 20 <= len(about["dev"]) <= 60
    test = everything(folder, "test")
    assert Counter(s["text"].text for s in test.samples(range(80)))["rain falling"] == 8
    assert len(Folder(script.prepare(shared_data, tmp_path, 2), "train")) == 320
    with pytest.raises(SystemExit, match="no fold 6"):
        script.prepare(shared_data, tmp_path, 6)


@pytest.mark.data("mnist", "fsdd")
@pytest.mark.parametrize("script", ["digits"], indirect=True)
def test_digits_seen_and_heard(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path, limit=30)
    assert len(Folder(folder, "train", require=["audio"])) == 2400 * 2
    assert {split: len(Folder(folder, split, require=["audio"])) for split in ("dev", "test")} == {
        "dev": 300,
        "test": 300,
    }
    test = everything(folder, "test")
    assert (test.fields, len(test)) == ({"audio": "audio", "text": "text", "image": "image"}, 330)
    for i, sample in enumerate(test.samples(range(330))):
        assert sample["text"].text == script.WORDS[test.metadata(i)["digit"]]
        assert ("image" in sample) != ("audio" in sample)
    seven = Folder(folder, "test", ["image"]).samples([0])[0]["image"]
    assert seven.pixels.shape == (28, 28, 3)
    assert script.prepare(shared_data, tmp_path, limit=30) == folder  # at once: it is there


@pytest.mark.slow
@pytest.mark.data("mnist", "fsdd")
@pytest.mark.parametrize("script", ["digits"], indirect=True)
def test_a_speaker_can_be_left_out(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path, leave_out="theo", limit=0)
    heard = {}
    for split in ("train", "dev", "test"):
        source = Folder(folder, split)
        heard[split] = Counter(source.metadata(i)["about"]["speaker"] for i in range(0, len(source), 10))
    assert set(heard["test"]) == {"theo"}
    assert "theo" not in heard["train"] + heard["dev"]
    assert len(heard["train"]) == 5
    with pytest.raises(SystemExit, match="no speaker 'nobody'"):
        script.prepare(shared_data, tmp_path, leave_out="nobody")


@pytest.mark.slow
@pytest.mark.data("flickr8k")
@pytest.mark.parametrize("script", ["flickr8k"], indirect=True)
def test_photographs_with_captions(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path)
    assert {s: len(Folder(folder, s)) for s in (None, "train", "dev", "test")} == {
        None: 8091, "train": 6000, "dev": 1000, "test": 1000,
    }  # fmt: skip
    test = everything(folder, "test")
    assert all(len(test.captions(i)) == 5 for i in range(1000))


@pytest.mark.parametrize("script", ["digits", "flickr8k", "esc10", "truce"], indirect=True)
def test_an_absent_set_is_named(script: ModuleType, tmp_path: Path) -> None:
    more = (1,) if script.__name__ == "esc10" else ()
    with pytest.raises(SystemExit, match="needs the folder .*, which is absent"):
        script.prepare(tmp_path, tmp_path / "work", *more)
