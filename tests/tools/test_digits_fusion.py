"""The script of pictures and recordings that are spoilt: what is left of them, and which figures are taken."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from intermodal.data.folder import Folder

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("digits_fusion")


def test_the_fewest_components_that_hold_the_energy_are_left(script: ModuleType) -> None:
    draws = np.random.default_rng(0)
    axes = np.linalg.qr(draws.normal(size=(16, 16)))[0]
    spreads = np.array([20.0, 15.0, 10.0, *[5.0] * 13])
    rows = (draws.normal(size=(4000, 16)) * spreads) @ axes.T + 128
    pictures = rows.round().clip(0, 255).astype(np.uint8).reshape(-1, 4, 4)
    shown, count, share = script.faded(pictures, pictures, 0.5)
    assert count == 2
    assert share == pytest.approx((400 + 225) / (np.square(spreads).sum()), abs=0.02)
    flat = shown.reshape(4000, 16) - shown.reshape(4000, 16).mean(axis=0)
    assert (np.linalg.svd(flat, compute_uv=False)[2:] < 40).all()  # rounding alone
    assert np.square(flat).sum() == pytest.approx(share * 4000 * np.square(spreads).sum(), rel=0.03)


@pytest.mark.parametrize("snr_db", [-6.0, 10.0])
def test_speech_stands_in_noise_of_that_energy(script: ModuleType, snr_db: float) -> None:
    draws = np.random.default_rng(0)
    speech = (0.1 * np.sin(np.arange(4000))).astype(np.float32)
    noise = np.concatenate((np.zeros(20_000), 0.3 * draws.standard_normal(9000))).astype(np.float32)
    mixed = script.drowned(speech, noise, snr_db, draws)
    gain = float(mixed @ speech / (speech @ speech))  # of the speech in it
    rest = mixed - gain * speech
    measured = 10 * np.log10(np.square(gain * speech).mean() / np.square(rest).mean())
    assert measured == pytest.approx(snr_db, abs=0.6)
    assert np.abs(mixed).max() <= 1
    assert np.isfinite(script.drowned(speech, np.zeros(9000, np.float32), snr_db, draws)).all()


def test_figures_are_points_between_models(script: ModuleType) -> None:
    task = {
        "subsets": {"image": {"accuracy": 0.5}, "audio": {"accuracy": 0.7}, "image+audio": {"accuracy": 0.86}},
        "alone": {"image": {"accuracy": 0.51}, "audio": {"accuracy": 0.72}},
        "late": {"accuracy": 0.85},
    }
    found = script.figures({"tasks": {"text": task}})
    assert found["digits.fusion.gain_over_best_single"] == (14.0, "≥ 3")
    assert found["digits.fusion.gain_over_late"] == (1.0, "≥ 0")
    assert found["digits.fusion.least_gain_of_a_subset"] == (-2.0, "≥ -3")
    assert found["digits.fusion.fused"] == (86.0, "-")


@pytest.mark.data("mnist", "fsdd", "esc10")
def test_samples_of_the_three_splits_are_written(script: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    folder = script.prepare(shared_data, tmp_path, {"train": 60, "dev": 10, "test": 10})
    for split, count in (("train", 60), ("dev", 10), ("test", 10)):
        source = Folder(folder, split)
        assert len(source) == count
        samples = source.samples(range(count))
        assert all(set(sample) == {"image", "audio", "text"} for sample in samples)
        assert len({sample["text"].text for sample in samples}) > 4  # type: ignore[attr-defined]
