"""Single models have the joint one's tower and nothing else; the best of a few rates is kept, and found again."""

import json
from pathlib import Path

import numpy as np
import pytest

from intermodal.data.sources import open_source
from intermodal.modalities.audio import Audio
from intermodal.modalities.timeseries import TimeSeries
from intermodal.saving import load_model
from intermodal.systems.fusion import build
from intermodal.training import singles
from intermodal.training.recipe import recipe
from intermodal.training.singles import dev_loss, fresh, single, train_singles


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Series whose level says the label, and others that say nothing, 24 to learn from and 12 to choose by."""
    draws = np.random.default_rng(0)
    rows = []
    for i in range(36):
        label = ("low", "high")[i % 2]
        for name, level in (("series", (-1.0, 1.0)[i % 2]), ("other", 0.0)):
            values = (level + draws.normal(0, 0.3, (1, 16))).astype(np.float32)
            TimeSeries(values, ("c",), 8.0).save(tmp_path / f"{name}{i}.csv")
        rows.append(
            {
                "series_file_name": f"series{i}.csv",
                "other_file_name": f"other{i}.csv",
                "label": label,
                "split": "train" if i < 24 else "dev",
            }
        )
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path)


def test_a_model_for_each_field_is_trained_chosen_and_kept(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe("fusion", open_source(data, "train"))
    assert list(config.towers) == ["series", "other"]
    assert config.tasks["label"].words == ("high", "low")
    lines: list[str] = []
    shares: list[float] = []
    folders = train_singles(build(config), data, tmp_path / "out", 0.01, lines.append, shares.append, (0.3, 3.0), 8)
    assert folders == [tmp_path / "out/series", tmp_path / "out/other"]
    assert len(lines) == 4
    assert shares == [0.25, 0.5, 0.75, 1.0]
    models = [load_model(folder) for folder in folders]
    assert [list(m.config.towers) for m in models] == [["series"], ["other"]]
    assert models[0].config.towers["series"] == config.towers["series"]
    assert models[0].tasks == config.tasks
    dev = open_source(data, "dev", fields=("series", "label"))
    least = min(float(line.rpartition(" ")[2]) for line in lines if line.startswith("series"))
    assert dev_loss(models[0], dev) == pytest.approx(least, abs=2e-3)
    monkeypatch.setattr(singles, "train", None)  # what is there is not trained again
    assert train_singles(build(config), data, tmp_path / "out", 0.01, lines.append, None, (0.3,), 8) == folders


def test_a_single_model_joins_nothing(data: str) -> None:
    config = single(recipe("fusion", open_source(data, "train")), "series")
    model = fresh(config)
    assert model.joint is None
    assert list(model.heads["label"]) == ["series"]
    assert Audio.modality not in model.preprocessors
