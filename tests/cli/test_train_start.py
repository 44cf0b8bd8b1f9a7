"""``intermodal train --start``: captions first, then questions with the weights that were learnt."""

import json
from pathlib import Path

import pytest
import torch

import intermodal as im
from intermodal.cli.app import run
from intermodal.cli.train import LISTED, listed
from intermodal.saving import load_model
from tests import published

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


def test_of_many_weights_that_are_not_taken_their_number_is_told() -> None:
    many = [f"crossed.{i}.weight (4, 4)" for i in range(LISTED)]
    assert listed(many) == ", ".join(many)
    other = "words.table.weight, (9, 4) here"
    assert listed([*many, other, "match.bias (2,)"]) == f"crossed (weights: {LISTED}), match (weights: 1), {other}"


def test_a_model_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = ["--fields", "image,text", "--start", str(tmp_path / "none")]
    assert run(["train", "visualbert", *fields, "--out", str(tmp_path / "out"), *SMALL]) == 2
    assert "folder of a saved model" in capsys.readouterr().err


@pytest.mark.peer
def test_published_weights_are_trained_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.adapters import test_clip

    test_clip.published(tmp_path / "clip", published.library())
    before = load_model(tmp_path / "clip")
    data = captioned(tmp_path / "captioned", "text")
    train = ["train", "clip", "--data", data, "--start", str(tmp_path / "clip"), "--out", str(tmp_path / "out")]
    steps = ["--batch", "4", "--json", "--set", "train.warmup_steps=1"]
    steps += ["--set", "train.steps=2", "--set", "train.precision=fp32"]
    rate = ["--set", "train.learning_rate=1e-3"]
    assert run([*train, *steps, *rate, "--set", "towers.image.token_dropout=0.5"]) == 0
    after = load_model(json.loads(capsys.readouterr().out)["model"])
    assert after.preprocessors == before.preprocessors
    assert after.config.towers["image"].token_dropout == 0.5
    moved = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert {"heads.text.weight", "encoders.image.blocks.0.mlp_in.weight"} <= moved
    near = torch.nn.functional.cosine_similarity(
        after.heads.text.weight.flatten(), before.heads.text.weight.flatten(), dim=0
    )
    assert near.item() > 0.99  # not drawn anew
    assert run([*train[:-1], str(tmp_path / "gentle"), *steps]) == 0
    gentle = load_model(json.loads(capsys.readouterr().out)["model"])
    moved_by = [(m.heads.text.weight - before.heads.text.weight).abs().max().item() for m in (gentle, after)]
    assert 0 < 10 * moved_by[0] < moved_by[1]
    assert run(["export", str(tmp_path / "out" / "model"), "--as", "transformers", "--out", str(tmp_path / "t")]) == 0
    assert "largest distance" in capsys.readouterr().out

    def refused(*arguments: str) -> str:
        assert run(list(arguments)) == 2
        return capsys.readouterr().err

    other = captioned(tmp_path / "other", "words")
    assert "has no text, only image, words" in refused(*[other if part == data else part for part in train], *steps)
    assert "is read as the system clip, and unified" in refused("train", "unified", *train[2:], *steps)
    assert "does not fit what --set asks for" in refused(*train, *steps, "--set", "width=7")


def captioned(folder: Path, field: str) -> str:
    """Writes pictures with a sentence each."""
    folder.mkdir()
    rows = []
    for i, word in enumerate(published.WORDS[:8]):
        im.Image(published.picture(40, 40, i)).save(folder / f"{i}.png")
        rows.append({"image_file_name": f"{i}.png", field: f"a {word}", "split": "train"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)
