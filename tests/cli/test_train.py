"""``intermodal train`` of systems that do not embed, and what it makes of the data and of a run that is done."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from intermodal.cli.app import run
from intermodal.config import to_dict
from intermodal.saving import load_model, save_model
from intermodal.systems import clip, codec
from intermodal.tokenizers.word import WordTokenizer

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
    assert set(made["dev_kept"]) == measured
    assert run(["evaluate", made["model"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["field"]) == (12, "timeseries")
    assert found["originals_read"]["scene_accuracy"] == 1.0
    assert run(["evaluate", made["model"]]) == 0
    assert "read right: " in capsys.readouterr().out


def test_codec_without_a_field_says_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "codec", "--out", str(tmp_path), *SMALL]) == 2
    assert "choose one with --fields: image, audio, video, timeseries" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the folder of a codec of pictures; what it holds is as good as trained."""
    torch.manual_seed(1)
    return str(save_model(tmp_path_factory.mktemp("codec") / "m", codec.build(codec.sized("tiny", {"image": "image"}))))


def test_saved_model_becomes_a_part_that_stays_as_it_is(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    numbers = [word for name in ("depth", "heads") for word in ("--set", f"{name}=1")]
    arguments = ["train", "dalle1", *SMALL, *numbers, "--json"]
    assert run([*arguments, "--out", str(tmp_path), "--part", f"codecs.image={trained}"]) == 0
    made = json.loads(capsys.readouterr().out)
    given, model = load_model(trained), load_model(made["model"])
    assert list(model.preprocessors) == ["text", "image"]
    assert model.config.codecs["image"] == given.config
    kept = model.codecs["image"].state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in given.state_dict().items())
    assert f"--part codecs.image={trained}" in (tmp_path / "model" / "README.md").read_text()

    inside = f"codecs.image={made['model']}#codecs.image"
    assert run([*arguments, "--out", str(tmp_path / "again"), "--part", inside]) == 0
    taken = load_model(json.loads(capsys.readouterr().out)["model"])
    assert taken.config.codecs == model.config.codecs
    assert all(torch.equal(value, kept[name]) for name, value in taken.codecs["image"].state_dict().items())


def test_a_model_starts_from_another_with_all_the_systems_inside_it(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    monkeypatch.setattr("intermodal.cli.train.DEV_SCENES", 10)
    monkeypatch.setattr("intermodal.cli.train.DEV_TRANSLATED", 1)
    numbers = [part for each in ("width=16", "depth=1", "heads=2") for part in ("--set", each)]
    shared = ["train", "unified", "--fields", "text,image", *SMALL, *numbers, "--json"]
    words = ["--set", "plan.targets=text", "--set", "plan.each=true", "--set", "contrast=0.2"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run([*shared, "--out", str(first), "--part", f"codecs.image={trained}", *words]) == 0
    assert set(json.loads(capsys.readouterr().out)["dev_attributes_translated"]) == {"image>text"}
    assert run([*shared, "--out", str(second), "--start", str(first / "model")]) == 0
    told = capsys.readouterr()
    assert set(json.loads(told.out)["dev_attributes_translated"]) == {"image>text", "text>image"}
    assert "not taken: nothing" in told.err
    before, after = (load_model(folder / "model") for folder in (first, second))
    assert after.config.codecs == before.config.codecs
    kept = before.reader.state_dict()  # of a fresh reader, trained along in the first and kept in the second
    assert all(torch.equal(value, kept[name]) for name, value in after.reader.state_dict().items())
    assert f"--start {first / 'model'}" in (second / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("system", "part", "message"),
    [
        ("dalle1", None, "is a codec that is trained before and not given: train one and give its folder with --part"),
        ("dalle1", "codecs.image", "--part 'codecs.image' has no value; write it as path=value, for example codecs.im"),
        ("dalle1", "codecs.image=nowhere", "no folder of a saved model and no shipped model named 'nowhere'"),
        ("dalle1", "codecs.image=EMPTY", "holds no config.json; give the folder of a saved model"),
        ("dalle1", "codecs.image=PUBLISHED", "holds published weights"),
        ("dalle1", "codecs.image=CODEC#reader", "'reader'; use one of: (none)"),
        (
            "dalle1",
            "codecs.image=diorama#codecs",
            "'codecs'; use one of: codecs.audio, codecs.image, codecs.timeseries",
        ),
        ("dalle1", "codecs.image=OTHER", "it takes no config of clip"),
        ("dalle1", "codecs.image=BROKEN", "does not fit the model: missing codebook.inward.bias"),
        ("dalle1", "coders.image=CODEC", "'coders'; use one of: codecs"),
        ("clip", "towers.image=CODEC", "it takes no config of codec"),
    ],
)
def test_part_that_cannot_be_taken_in_is_explained(
    system: str, part: str | None, message: str, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, published, broken, other = (tmp_path / name for name in ("empty", "published", "broken", "other"))
    for folder in (empty, published, broken, other):
        folder.mkdir()
    (published / "config.json").write_text('{"model_type": "clip"}')
    (broken / "config.json").write_text((Path(trained) / "config.json").read_text())
    state = load_file(Path(trained) / "model.safetensors")
    del state["codebook.inward.bias"]
    save_file(state, broken / "model.safetensors")
    fields = {"text": "text", "image": "image"}
    (other / "config.json").write_text(
        json.dumps({"system": "clip", "config": to_dict(clip.sized("tiny", fields, WordTokenizer(())))})
    )
    places = {"EMPTY": empty, "PUBLISHED": published, "BROKEN": broken, "OTHER": other, "CODEC": trained}
    given = part
    for name, folder in places.items():
        given = given and given.replace(name, str(folder))
    arguments = ["train", system, "--fields", "text,image", "--out", str(tmp_path / "run"), *SMALL]
    assert run([*arguments, *(["--part", given] if given else [])]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_words_in_files_are_learnt_and_a_finished_training_has_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for i, colour in enumerate(("red", "green", "blue", "white") * 2):
        (tmp_path / f"{i}.txt").write_text(f"a {colour} thing")
        rows.append({"text_file_name": f"{i}.txt", "caption": f"it is {colour}", "split": "train"})
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", "language", "--data", str(tmp_path), "--fields", "text", "--out", str(tmp_path / "run")]
    command += ["--resume", *SMALL]
    assert run(command) == 0
    capsys.readouterr()
    words = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert {"red", "green", "thing"} <= set(re.findall(r"[a-z]+", json.dumps(words)))
    assert run(command) == 0
    assert "nothing was left to train" in capsys.readouterr().out
