"""``intermodal train --start``: captions first, then questions with the weights that were learnt."""

import json
from pathlib import Path

import pytest
import torch

from intermodal.cli.app import run
from intermodal.saving import load_model

SMALL = ["--batch", "4", "--set", "width=16", "--set", "heads=1", "--set", "depth=1", "--json"]
SMALL += [part for name in ("steps=1", "warmup_steps=1", "precision=fp32") for part in ("--set", f"train.{name}")]


def test_captions_first_then_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert run(["train", "visualbert", "--fields", "image,text", "--out", first, *SMALL]) == 0
    before = load_model(json.loads(capsys.readouterr().out)["model"])
    fields = ["--fields", "image,question,answer", "--start", f"{first}/model"]
    assert run(["train", "visualbert", *fields, "--out", second, *SMALL, "--set", "train.learning_rate=1e-9"]) == 0
    told = capsys.readouterr()
    assert "not taken: match.bias (2,), match.weight (2, 16), tell.bias" in told.err
    made = json.loads(told.out)
    assert {"answer", "attribute", "count", "existence", "relation"} == set(made["dev_answered"])
    after = load_model(made["model"])
    assert list(after.preprocessors) == ["question", "image", "answer"]
    words = len(before.config.text.tokenizer.words)
    assert after.config.text.tokenizer.words[:words] == before.config.text.tokenizer.words
    rows = before.vocab_size
    torch.testing.assert_close(after.words.table.weight[:rows], before.words.table.weight, atol=1e-3, rtol=1e-2)
    assert "--start" in (tmp_path / "second" / "model" / "README.md").read_text()


def test_a_model_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = ["--fields", "image,text", "--start", str(tmp_path / "none")]
    assert run(["train", "visualbert", *fields, "--out", str(tmp_path / "out"), *SMALL]) == 2
    assert "folder of a saved model" in capsys.readouterr().err
