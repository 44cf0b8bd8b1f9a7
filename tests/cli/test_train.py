"""``intermodal train`` of systems that do not embed."""

import json
from pathlib import Path

import pytest

from intermodal.cli.app import run

SMALL = ["--batch", "8", "--set", "train.warmup_steps=1", "--set", "train.precision=fp32", "--set", "train.steps=2"]


def test_codec_is_trained_measured_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    monkeypatch.setattr("intermodal.cli.train.DEV_SCENES", 10)
    monkeypatch.setattr("intermodal.diorama.source.TEST_SIZE", 12)
    out = str(tmp_path)
    assert run(["train", "codec", "--fields", "timeseries", "--out", out, *SMALL, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    measured = {"absolute_error", "variance_lost", "share_used", "perplexity", "attribute_accuracy", "scene_accuracy"}
    assert set(made["dev"]) == measured
    assert run(["evaluate", made["model"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["field"]) == (12, "timeseries")
    assert found["originals_read"]["scene_accuracy"] == 1.0
    assert run(["evaluate", made["model"]]) == 0
    assert "read right: " in capsys.readouterr().out


def test_codec_without_a_field_says_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "codec", "--out", str(tmp_path), *SMALL]) == 2
    assert "choose one with --fields: image, audio, video, timeseries" in capsys.readouterr().err
