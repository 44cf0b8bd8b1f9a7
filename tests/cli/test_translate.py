"""``intermodal translate``: words, files and folders, chains, candidates, and runs that are killed and go on."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.cli import translate as module
from intermodal.cli.app import run
from intermodal.cli.outputs import _apart, _slug
from intermodal.cli.translate import Run, _next, sampling, watched
from intermodal.diorama.source import Diorama
from intermodal.evaluation.scenes import read_back
from intermodal.items import open_item
from intermodal.modalities.image import Image
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.diffusion import Drawn
from tests.translators import Completer, Oracle, recolour

ROOT = Path(__file__).parents[2]
SOURCE = Diorama("test", size=6)
SAMPLES: list[Any] = SOURCE.samples(range(6))
TRUTH = list(SOURCE.scenes(range(6)))
Said = pytest.CaptureFixture[str]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Returns the models that can be named, and stands in an empty folder."""
    known: dict[str, Any] = {"diorama": Completer(name="diorama")}
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    monkeypatch.setattr("intermodal.saving.load_model", known.__getitem__)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return known


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for n, sample in enumerate(SAMPLES[:4]):
        sample["image"].save(folder / ("more" if n == 3 else "") / f"{n}.png")
    return folder


def result(capsys: Said) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def scenes(paths: list[Path], rendering: str) -> list[Any]:
    return read_back(rendering, [open_item(path) for path in paths])


@pytest.mark.usefixtures("models")
def test_a_picture_becomes_words_that_are_printed(pictures: Path, capsys: Said) -> None:
    assert run(["translate", str(pictures / "0.png"), "--to", "text"]) == 0
    said = capsys.readouterr()
    words = said.out.splitlines()[0]
    still = scenes([pictures / "0.png"], "image")
    assert read_back("text", [type(SAMPLES[0]["text"])(words)]) == still
    assert said.err == "image > text by diorama\n"
    assert "Next:  intermodal translate" in said.out
    assert words in said.out.split("Next:")[1]
    assert list(Path().iterdir()) == []
    assert run(["translate", str(pictures / "0.png"), "--to", "text", "--out", "new/said.txt"]) == 0
    assert Path("new/said.txt").read_text() == words


@pytest.mark.usefixtures("models")
def test_words_become_media_named_after_them(capsys: Said) -> None:
    words = SAMPLES[0]["text"].text
    for to, suffix in (("image", "png"), ("audio", "wav"), ("video", "mp4"), ("timeseries", "csv")):
        assert run(["translate", words, "--to", to, "--json"]) == 0
        made = result(capsys)
        (row,) = made["outputs"]
        path = Path(row["candidates"][0]["file"])
        assert path.name == f"{_slug(words)}-{to}.{suffix}"
        assert open_item(path).modality == to
        assert made["ways"] == {"text": [{"model": "diorama", "from": "text", "to": to}]}
        assert (row["source"], row["from"]) == (words, "text")
    assert scenes([Path(f"{_slug(words)}-image.png")], "image")[0].seen_by("image") == TRUTH[0].seen_by("image")


@pytest.mark.usefixtures("models")
def test_a_file_or_a_folder_can_be_asked_for(pictures: Path, capsys: Said) -> None:
    one = str(pictures / "1.png")
    assert run(["translate", one, "--to", "video", "--out", "clip.mkv"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("clip.mkv written in ")
    assert "Next:  intermodal translate clip.mkv --to image" in said
    assert scenes([Path("clip.mkv")], "video") == scenes([Path(one)], "image")
    assert run(["translate", one, "--to", "video", "--out", "folder"]) == 0
    assert Path("folder/1.mp4").exists()


def test_a_chain_is_named(models: dict[str, Any], capsys: Said) -> None:
    models["painter"] = Oracle([("text", "image")], name="painter")
    models["player"] = Oracle([("image", "audio")], name="some/where/player")
    words = SAMPLES[2]["text"].text
    assert run(["translate", words, "--to", "audio", "--model", "player", "--model", "painter", "--json"]) == 0
    said = capsys.readouterr()
    assert "text > image > audio by painter, player; there is no direct direction, so by way of image" in said.err
    found = json.loads(said.out)
    assert found["ways"]["text"] == [
        {"model": "painter", "from": "text", "to": "image"},
        {"model": "some/where/player", "from": "image", "to": "audio"},
    ]
    assert found["outputs"][0]["between"] == ["image"]
    assert found["outputs"][0]["candidates"][0]["score"] is None
    assert run(["translate", words, "--to", "video", "--model", "player", "--model", "painter"]) == 2
    assert "these can be reached: image, audio (by way of image)" in capsys.readouterr().err


@pytest.mark.usefixtures("models")
def test_candidates_are_numbered_and_their_scores_shown(capsys: Said) -> None:
    words = SAMPLES[0]["text"].text
    assert run(["translate", words, "--to", "image", "--candidates", "3", "--out", "some/x.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["0.000", "some/x-1.png"],
        ["-0.500", "some/x-2.png"],
        ["-1.000", "some/x-3.png"],
    ]
    first, second = scenes([Path("some/x-1.png"), Path("some/x-2.png")], "image")
    assert second == recolour(first)
    assert run(["translate", "some/x-1.png", "--to", "text", "--candidates", "2", "--json"]) == 0
    texts = result(capsys)["outputs"][0]["candidates"]
    assert [row["score"] for row in texts] == [0.0, -0.5]
    assert texts[0]["text"] != texts[1]["text"]
    assert not any("file" in row for row in texts)


def test_how_ids_are_chosen(models: dict[str, Any]) -> None:
    assert sampling(None, None, None, None) is None
    assert sampling(None, None, None, 5) == Sampling(1.0, 0, 0.9, 5)
    assert sampling(0.0, None, None, None) == Sampling(0.0, 0, 0.9, 0)
    asked = ["--temperature", "0.5", "--top-k", "7", "--top-p", "0.8", "--seed", "3"]
    assert run(["translate", "a small red circle", "--to", "audio", *asked]) == 0
    assert models["diorama"].calls[0]["sampling"] == Sampling(0.5, 7, 0.8, 3)


def test_further_fields_are_given_together(models: dict[str, Any], pictures: Path, capsys: Said) -> None:
    SAMPLES[0]["audio"].save("0.wav")
    words = SAMPLES[0]["text"].text
    asked = ["translate", str(pictures / "0.png"), "--with", "audio=0.wav", "--with", f"text={words}"]
    assert run([*asked, "--to", "video", "--json"]) == 0
    found = result(capsys)
    assert models["diorama"].calls == [
        {"source": "image+audio+text", "to": "video", "items": 1, "sampling": None, "count": 1}
    ]
    assert found["ways"] == {"image": [{"model": "diorama", "from": "image + audio + text", "to": "video"}]}
    models["plain"] = Oracle(name="plain")
    assert run([*asked, "--to", "video", "--model", "plain"]) == 2
    assert "plain takes one field at a time" in capsys.readouterr().err


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png", "--to", "text"], "no file 'missing.png'"),
        (["a red circle", "--to", "smell"], "no way from 'text' to 'smell'"),
        (["a red circle", "--to", "text"], "no way from 'text' to 'text'"),
        (["a red circle", "--to", "image", "--out", "x.wav"], "end it with one of: .png"),
        (["a red circle", "--to", "image", "--candidates", "0"], "at least one candidate"),
        (["a red circle", "--to", "image", "--from", "audio"], "the input is text and --from audio says audio"),
        (["a red circle", "--to", "image", "--with", "image=a b"], "fields must differ"),
        (["a red circle", "--to", "image", "--with", "text=a b"], "which --with gives too"),
        (["a red circle", "--to", "image", "--with", "audio"], "--with 'audio' has no value"),
        (["a red circle", "--to", "image", "--temperature", "-1"], "temperature -1.0"),
    ],
)
def test_mistake_is_one_line_and_status_2(arguments: list[str], message: str, capsys: Said) -> None:
    assert run(["translate", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1].startswith("error: ")
    assert message in said.err
    assert said.out == ""
    assert list(Path().iterdir()) == []


def test_a_model_that_does_not_translate_is_refused(models: dict[str, Any], capsys: Said) -> None:
    models["deaf"] = object()
    assert run(["translate", "a red circle", "--to", "image", "--model", "deaf"]) == 2
    assert "model 1 does not translate" in capsys.readouterr().err


def test_a_folder_keeps_its_places_and_goes_on_where_it_was(
    models: dict[str, Any], pictures: Path, capsys: Said
) -> None:
    asked = ["translate", str(pictures), "--to", "text", "--out", "words", "--json"]
    assert run(asked) == 0
    found = result(capsys)
    paths = [Path("words") / name for name in ("0.txt", "1.txt", "2.txt", "more/3.txt")]
    assert sorted(Path("words").rglob("*.txt")) == sorted(paths)
    assert scenes(paths, "text") == scenes(
        [pictures / f"{n}.png" for n in range(3)] + [pictures / "more/3.png"], "image"
    )
    assert (len(found["outputs"]), found["kept"], found["failed"]) == (4, 0, [])
    paths[1].unlink()
    paths[2].write_text("")  # not whole
    models["diorama"].calls.clear()
    assert run(asked) == 0
    found = result(capsys)
    assert (len(found["outputs"]), found["kept"], len(models["diorama"].calls)) == (2, 2, 2)
    assert run([*asked, "--again"]) == 0
    assert len(result(capsys)["outputs"]) == 4


@pytest.mark.usefixtures("models")
def test_a_folder_without_a_place_is_named_after_it_or_printed(pictures: Path, capsys: Said) -> None:
    assert run(["translate", str(pictures), "--to", "audio"]) == 0
    said = capsys.readouterr().out
    assert sorted(p.as_posix() for p in Path("pictures-audio").rglob("*.wav")) == [
        *(f"pictures-audio/{n}.wav" for n in range(3)),
        "pictures-audio/more/3.wav",
    ]
    assert "4 of 4 inputs translated into audio" in said
    assert "results in pictures-audio" in said
    assert run(["translate", str(pictures), "--to", "text"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.split("\t")[0]).name for line in lines[:4]] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(line.split("\t")[1] for line in lines[:4])


@pytest.mark.usefixtures("models")
def test_bad_files_are_reported_and_the_rest_is_done(pictures: Path, capsys: Said) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "said.txt").write_text("a small red circle")
    status = run(["translate", str(pictures), "nothing.jpg", "--to", "text", "--out", "words", "--json"])
    assert status == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert len(found["outputs"]) == 4
    assert [Path(one["source"]).name for one in found["failed"]] == ["broken.png", "nothing.jpg"]
    assert found["already"] == 1  # the text
    assert "skipped nothing.jpg: there is no file" in said.err
    assert run(["translate", str(pictures), "--to", "text", "--out", "words"]) == 1
    out = capsys.readouterr().out
    assert "0 of 6 inputs translated into text" not in out  # places below one folder alone have other names
    assert "1 were text already; 1 skipped" in out
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "said.txt").unlink()
    assert run(["translate", str(pictures), "--to", "text", "--out", "other"]) == 2
    assert "none of the 5 inputs could be translated; the first: 0.png" in capsys.readouterr().err


def test_one_item_that_the_model_refuses_does_not_spoil_its_batch(
    models: dict[str, Any], pictures: Path, capsys: Said
) -> None:
    Image(np.zeros((8, 8, 3), np.uint8)).save(pictures / "small.png")  # the reader knows one size
    models["plain"] = Oracle(name="plain")
    assert run(["translate", str(pictures), "--to", "text", "--model", "plain", "--json"]) == 1
    found = result(capsys)
    assert len(found["outputs"]) == 4
    assert [Path(one["source"]).name for one in found["failed"]] == ["small.png"]
    assert models["plain"].calls[0]["items"] == 5  # together, before each by itself


def test_inputs_are_translated_in_batches_of_one_field(
    models: dict[str, Any], tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for n, sample in enumerate(SAMPLES[:3]):
        sample["image"].save(mixed / f"{n}.png")
        sample["timeseries"].save(mixed / f"{n}.csv")
    models["plain"] = Oracle(name="plain")
    assert run(["translate", str(mixed), "--to", "text", "--model", "plain", "--out", "words", "--json"]) == 0
    calls = [(call["source"], call["items"]) for call in models["plain"].calls]
    assert calls == [("timeseries", 2), ("image", 2), ("timeseries", 1), ("image", 1)]
    names = sorted(path.name for path in Path("words").iterdir())
    assert names == [f"{n}.{suffix}.txt" for n in range(3) for suffix in ("csv", "png")]
    assert set(result(capsys)["ways"]) == {"image", "timeseries"}


@pytest.mark.usefixtures("models")
def test_results_inside_the_folder_are_no_inputs_and_inputs_are_never_overwritten(pictures: Path, capsys: Said) -> None:
    inside = pictures / "out"
    for _ in range(2):
        assert run(["translate", str(pictures), "--to", "video", "--out", str(inside), "--again", "--json"]) == 0
        assert len(result(capsys)["outputs"]) == 4
    before = (pictures / "0.png").read_bytes()
    model = Oracle([("image", "image")], spoil=recolour)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("intermodal.saving.load_model", lambda name: model)
        assert run(["translate", str(pictures / "0.png"), "--to", "image", "--out", str(pictures)]) == 2
        assert "written over its input" in capsys.readouterr().err
        assert run(["translate", str(pictures / "0.png"), "--to", "image"]) == 0
        assert Path("0-image.png").exists()
    assert (pictures / "0.png").read_bytes() == before


KILLED = """
import os, signal, sys
import intermodal.saving
from intermodal.cli import translate
from intermodal.cli.app import run
from tests.translators import Oracle

class Mortal(Oracle):
    def translate(self, items, to, **options):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().translate(items, to, **options)

intermodal.saving.load_model = lambda name: Mortal(name="mortal")
translate.BATCH = 1
sys.exit(run(sys.argv[1:]))
"""


def test_a_killed_run_goes_on_and_ends_as_an_uninterrupted_one(
    models: dict[str, Any], pictures: Path, capsys: Said
) -> None:
    models["plain"] = Oracle(name="plain")
    asked = ["translate", str(pictures), "--to", "timeseries", "--model", "plain"]
    out = Path("killed").resolve()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *asked, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in out.rglob("*.csv")) == ["0.csv", "1.csv"]
    whole = {path: path.read_bytes() for path in out.rglob("*.csv")}
    assert run([*asked, "--out", str(out), "--json"]) == 0
    found = result(capsys)
    assert (found["kept"], len(found["outputs"])) == (2, 2)
    assert {path: path.read_bytes() for path in whole} == whole
    assert [path.name for path in sorted(out.rglob("*.*"))] == ["0.csv", "1.csv", "2.csv", "3.csv"]
    at_once = Path("at_once")
    assert run([*asked, "--out", str(at_once)]) == 0
    by_name = [sorted(folder.rglob("*.csv")) for folder in (out, at_once)]
    assert scenes(by_name[0], "timeseries") == scenes(by_name[1], "timeseries")


def test_what_to_do_next_is_the_way_back_or_another_one() -> None:
    asked = Run([Oracle()], "text", None, {}, None, 1)
    assert _next(asked, "image", {"candidates": [{"text": "a star"}]}, ["diorama"]) == (
        "intermodal translate 'a star' --to audio"
    )
    assert "translate WORDS --to" in _next(asked, "image", {"candidates": [{"text": "a " * 200}]}, ["diorama"])
    asked = Run([Oracle([("text", "image"), ("image", "text")])], "image", None, {}, None, 1)
    assert _next(asked, "text", {"candidates": [{"file": "x.png"}]}, ["m"]) == (
        "intermodal translate x.png --to text --model m"
    )
    asked = Run([Oracle([("text", "image")])], "image", None, {}, None, 1)
    assert _next(asked, "text", {"candidates": [{"file": "x.png"}]}, ["m"]) == "intermodal evaluate m --translate"


def test_names_of_results_never_meet() -> None:
    assert _apart(["a.png", "b/a.png", "c.d.wav"]) == ["a", "b/a", "c.d"]
    assert _apart(["a.png", "a.wav", "b.png"]) == ["a.png", "a.wav", "b"]
    assert _apart(["a.png", "a.png", "words", "words"]) == ["a.png", "a.png-2", "words", "words-2"]
    assert _slug("A small, red circle!") == "a-small-red-circle"
    assert _slug("?!") == "text"
    assert len(_slug("word " * 40)) <= 40


@pytest.mark.usefixtures("models")
def test_patterns_and_words_among_several(pictures: Path, capsys: Said) -> None:
    pattern = str(pictures / "**" / "*.png")
    assert run(["translate", pattern, "a small red circle", "--to", "audio", "--out", "sounds", "--json"]) == 0
    assert len(result(capsys)["outputs"]) == 5
    names = sorted(path.relative_to("sounds").as_posix() for path in Path("sounds").rglob("*.wav"))
    assert names == ["0.wav", "1.wav", "2.wav", "a-small-red-circle.wav", "more/3.wav"]
    empty = pictures / "empty"
    empty.mkdir()
    assert run(["translate", str(empty), "--to", "text"]) == 2
    assert "there is no file in what was given" in capsys.readouterr().err


def test_steps_of_a_model_that_draws_in_steps_are_shown(capsys: Said) -> None:
    class Draws:
        on_step: Any = None

    model = Draws()
    with watched([object(), model]):
        for step in (1, 8):
            model.on_step("decoder", Drawn(step, 8, step / 4, torch.zeros(1)))
        assert "100%  decoder: 4.0 steps/s" in capsys.readouterr().err
    assert model.on_step is None
    with watched([object()]):
        assert not capsys.readouterr().err
