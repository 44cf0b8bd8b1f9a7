"""``intermodal ask``: answers of a small model, and what is said where there can be none."""

import io
import json
from pathlib import Path

import pytest

import intermodal as im
from intermodal.cli.app import run
from tests.serving.places import picture, small


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("asked")
    (place / "photo.png").write_bytes(picture())
    im.save(place / "model", small())
    return place


QUESTIONS = ["what colour is the circle?", "how many are there?"]


def test_questions_are_answered_as_the_model_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = im.load(str(folder / "model"))
    wanted = [model.answer({"image": im.Image.open(picture())}, question) for question in QUESTIONS]
    asked = ["ask", str(folder / "photo.png"), *QUESTIONS, "--model", str(folder / "model")]
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["answers"]
    assert told == [{"question": q, "answer": a} for q, a in zip(QUESTIONS, wanted, strict=True)]
    assert run(asked) == 0
    assert capsys.readouterr().out.split("\n")[:2] == wanted


def test_questions_are_read_line_by_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTIONS[0]}\n\n{QUESTIONS[1]}\n"))
    assert run(["ask", str(folder / "photo.png"), "--model", str(folder / "model"), "--json"]) == 0
    assert [one["question"] for one in json.loads(capsys.readouterr().out)["answers"]] == QUESTIONS


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["x?", "--model", "MODEL", "--with", "image=a red circle"], "gives the field 'image', which is asked about"),
        (["x?", "--model", "MODEL", "--field", "audio"], "has not learnt to answer questions about audio"),
        (["--model", "MODEL"], "no question was asked"),
        (["x?", "--model", "CLIP"], "does not answer questions; give --model one that does"),
    ],
)
def test_mistakes_are_explained(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    named = {"MODEL": str(folder / "model"), "CLIP": str(folder / "clip")}
    if "CLIP" in more and not (folder / "clip").exists():
        im.save(folder / "clip", small().reader)
    assert run(["ask", str(folder / "photo.png"), *[named.get(one, one) for one in more]]) == 2
    assert message in capsys.readouterr().err
