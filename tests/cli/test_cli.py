"""The command line as a person or a script meets it, on models small enough to train here."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intermodal.cli.app import VERBS, run
from intermodal.cli.console import settings, table
from intermodal.cli.items import item_of
from intermodal.cli.search import _values
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.library.library import Library
from intermodal.modalities.text import Text
from intermodal.saving import load_model

SMALL = [
    "--fields",
    "text,timeseries",
    "--batch",
    "16",
    "--set",
    "train.warmup_steps=1",
    "--set",
    "train.precision=fp32",
]


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """One thread, since two are slower where other work waits for them; few scenes at the end of a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERMODAL_THREADS", "1")
        patch.setattr("intermodal.cli.train.DEV_SCENES", 20)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert run(["train", "clip", "--out", str(out), *SMALL, "--set", "train.steps=3", "--json"]) == 0
    return out / "model"


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.strip())


def test_help_answers_without_anything_heavy() -> None:
    code = (
        "import sys; from intermodal.cli.app import run; status = run(['--help']); "
        "heavy = {'torch', 'numpy', 'lancedb', 'av', 'PIL', 'pyarrow'} & set(sys.modules); "
        "sys.exit(f'{status} {heavy}' if status or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_train_says_what_it_made_and_resumes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.parent
    assert {p.name for p in model.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "intermodal train clip" in (model / "README.md").read_text()
    assert run(["train", "clip", "--out", str(out), *SMALL, "--set", "train.steps=5", "--resume", "--json"]) == 0
    assert result(capsys)["steps"] == 5


def test_evaluate_gives_the_matrix_as_json_text_and_report(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intermodal.diorama.source.TEST_SIZE", 40)
    report = tmp_path / "report.html"
    assert run(["evaluate", str(model), "--report", str(report), "--json"]) == 0
    found = result(capsys)
    assert found["count"] == 40
    assert set(found["pairs"]) == {"text>timeseries", "timeseries>text"}
    assert 0 <= found["pairs"]["text>timeseries"]["recall_at_1"] <= found["pairs"]["text>timeseries"]["ceiling"] + 0.2
    assert report.read_text().startswith("<!doctype html>")
    assert run(["evaluate", str(model)]) == 0
    assert "Recall@1 in % of its ceiling" in capsys.readouterr().out


def test_embed_index_and_search_on_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = tmp_path / "media"
    media.mkdir()
    samples = Diorama("test", fields=("text", "timeseries"), size=6).samples(range(6))
    for i, sample in enumerate(samples):
        sample["text"].save(media / f"{i}.txt")
        sample["timeseries"].save(media / f"{i}.csv")
    (media / "broken.csv").write_bytes(b"\x00\x01")
    files = sorted(str(p) for p in media.iterdir())
    assert run(["embed", str(model), *files, "a small red circle", "--out", str(tmp_path / "v.npz"), "--json"]) == 0
    found = result(capsys)
    assert found["count"] == 13
    assert [Path(f["source"]).name for f in found["failed"]] == ["broken.csv"]
    vectors = np.load(tmp_path / "v.npz")["vectors"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    library = str(tmp_path / "library")
    assert run(["index", library, str(media), "--model", str(model), "--json"]) == 0
    found = result(capsys)
    assert (found["added"], len(found["failed"])) == (12, 1)
    assert run(["index", library, str(media), "--model", str(model), "--json"]) == 0
    assert result(capsys)["added"] == 0
    short = str(tmp_path / "short")
    assert run(["index", short, str(media), "--model", str(model), "--width", "32"]) == 0
    assert Library.open(short).stats().dimension == 32
    assert run(["index", short, str(media), "--model", str(model)]) == 0
    capsys.readouterr()
    assert run(["index", short, str(media), "--model", str(model), "--width", "16"]) == 2
    assert "keeps 32 numbers of each vector, and --width says 16" in capsys.readouterr().err
    assert run(["embed", str(model), *files, "--width", "32", "--out", str(tmp_path / "w.npz"), "--json"]) == 0
    assert (result(capsys)["width"], np.load(tmp_path / "w.npz")["vectors"].shape) == (32, (12, 32))
    assert run(["search", library, str(media / "3.csv"), "--among", "timeseries", "--top", "2", "--json"]) == 0
    hits = result(capsys)["hits"]
    assert Path(hits[0]["source"]).name == "3.csv"
    assert hits[0]["cosine"] == pytest.approx(1.0, abs=1e-3)
    assert run(["search", library, "a large green star at the top"]) == 0
    assert "cosine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "clop"], "there is no system named 'clop'; use one of: "),
        (["train", "clip", "--data", "nowhere"], "'nowhere'"),
        (["train", "clip", "--set", "train.steps"], "has no value"),
        (["train", "clip", "--set", "train.steps=many"], "train.steps='many'"),
        (["train", "clip", "--fields", "text,smell"], "'smell'"),
        (["evaluate", "nowhere"], "'nowhere'"),
        (["list", "verb"], "'verb'"),
    ],
)
def test_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert message in said[-1]
    assert "Traceback" not in "".join(said)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug", "train", "clop"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_words_are_text_and_a_path_must_exist(tmp_path: Path) -> None:
    assert item_of("a red circle").text == "a red circle"  # type: ignore[attr-defined]
    with pytest.raises(UnreadableMedia, match="no file 'photos/missing.jpg'"):
        item_of("photos/missing.jpg")
    with pytest.raises(UnreadableMedia, match="no file 'missing.jpg'"):
        item_of("missing.jpg")


def test_settings_and_tables() -> None:
    assert settings(["a.b=1", "c=x=y"]) == {"a.b": "1", "c": "x=y"}
    with pytest.raises(InvalidValue, match="path=value"):
        settings(["a"])
    assert table([["x", "1.5"], ["long", "10"]], ["name", "value"]).splitlines()[2:] == ["x       1.5", "long     10"]


def test_another_process_gives_the_same_vectors(model: Path, tmp_path: Path) -> None:
    found = []
    for n in range(2):
        out = tmp_path / f"{n}.npz"
        command = [sys.executable, "-m", "intermodal", "embed", str(model), "a small red circle", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        found.append(np.load(out)["vectors"])
    here = load_model(model).embed([Text("a small red circle")]).numpy()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(here, found[0], atol=1e-5)


def test_conditions_are_numbers_where_they_look_like_it() -> None:
    assert _values(["year=1990", "place=Rome", "kept=true"]) == {"year": 1990, "place": "Rome", "kept": True}
