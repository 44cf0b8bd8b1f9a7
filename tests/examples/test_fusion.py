"""Commands and Python in docs/fusion.md run, over a small folder with the names used there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intermodal as im
from intermodal.cli.app import run
from intermodal.fusion import FORMS
from intermodal.fusion.late import RULES
from tests import published

PAGE = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal [^#\n]*)", PAGE, re.MULTILINE)
QUICK = ["--batch", "4", "--set", "train.steps=2", "--set", "train.precision=fp32", "--set", "train.warmup_steps=1"]


def birds(place: Path) -> None:
    """Writes pictures and sounds of two kinds of birds; one row has no sound, and one no picture."""
    draws, rows = np.random.default_rng(0), []
    (place / "birds").mkdir()
    for i in range(24):
        row = {"label": ("crow", "wren")[i % 2], "split": ("train", "train", "dev", "test")[i % 4]}
        if i != 4:
            row["image_file_name"] = f"{i}.png"
            im.Image(published.picture(32, 32, i)).save(place / "birds" / f"{i}.png")
        if i != 5:
            row["audio_file_name"] = f"{i}.wav"
            samples = 0.1 * draws.standard_normal((1, 4000)).astype(np.float32)
            im.Audio(samples, 8000).save(place / "birds" / f"{i}.wav")
        rows.append(row)
    (place / "birds" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    im.Image(published.picture(32, 32)).save(place / "bird.png")
    im.Audio(np.zeros((1, 4000), np.float32), 8000).save(place / "bird.wav")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    birds(tmp_path)
    monkeypatch.chdir(tmp_path)
    train, measure = COMMANDS
    assert run([*shlex.split(train)[1:], *QUICK]) == 0
    capsys.readouterr()
    assert run([*shlex.split(measure)[1:], "--minutes", "0.02", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"]["label"]
    assert set(found["subsets"]) == {"image", "audio", "image+audio"}
    assert set(found["noise"]) == set(found["alone"]) == {"image", "audio"}
    assert 0 <= found["late"]["accuracy"] <= 1
    known: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/fusion.md", "exec"), known)
    assert known["model"].predict([known["seen"], known["heard"]])["label"].shape == (2, 2)


def test_every_form_and_rule_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE)) | set(re.findall(r"(?:form|late)=([a-z_]+)", PAGE))
    assert set(FORMS) <= named
    assert set(RULES) <= named
