"""``intermodal evaluate`` of a model that joins fields: every subset, noise, and models of fewer fields beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from intermodal.cli.app import run
from intermodal.data.sources import open_source
from intermodal.modalities.timeseries import TimeSeries
from intermodal.saving import save_model
from intermodal.systems.fusion import build
from intermodal.training.recipe import recipe
from intermodal.training.singles import fresh, single


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")


@pytest.fixture
def data(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for i in range(18):
        for name in ("a", "b"):
            values = np.full((1, 8), i % 2, np.float32) + np.arange(8, dtype=np.float32)
            TimeSeries(values, ("c",), 8.0).save(folder / f"{name}{i}.csv")
        split = ("train", "dev", "test")[i // 6]
        rows.append({"a_file_name": f"a{i}.csv", "b_file_name": f"b{i}.csv", "label": "ny"[i % 2], "split": split})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


@pytest.fixture
def model(data: str, tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", build(recipe("fusion", open_source(data, "train"))))


def test_every_subset_is_measured_and_shown(data: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(model), "--data", data]) == 0
    shown = capsys.readouterr().out
    for words in ("a+b", "trained on it alone", "noise in", "b, alone", "Another class is told without"):
        assert words in shown


def test_models_of_fewer_fields_stand_beside_it(
    data: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recipe("fusion", open_source(data, "train"))
    folders = [str(save_model(tmp_path / name, fresh(single(config, name)))) for name in ("a", "b")]
    options = [part for folder in folders for part in ("--beside", folder)]
    assert run(["evaluate", str(model), "--data", data, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"]["label"]
    assert set(found["subsets"]) == {"a", "b", "a+b"}
    assert set(found["alone"]) == {"a", "b"}
    assert sum(found["late"]["weights"].values()) == pytest.approx(1.0)
    assert set(found["noise"]) == {"a", "b"}
    assert found["count"] == 6
    assert run(["evaluate", str(model), "--data", data, *options]) == 0
    assert "late fusion, " in capsys.readouterr().out


def test_single_models_are_trained_where_asked_for(
    data: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from intermodal.training import singles

    config = recipe("fusion", open_source(data, "train"))
    asked = []

    def trained(given: object, source: str, out: Path, minutes: float, *rest: object) -> list[Path]:
        asked.append((source, minutes))
        return [save_model(out / name, fresh(single(config, name))) for name in ("a", "b")]

    monkeypatch.setattr(singles, "train_singles", trained)
    arguments = ["evaluate", str(model), "--data", data, "--singles", str(tmp_path / "alone"), "--minutes", "0.5"]
    assert run([*arguments, "--json"]) == 0
    assert asked == [(data, 0.5)]
    assert set(json.loads(capsys.readouterr().out)["tasks"]["label"]["alone"]) == {"a", "b"}
