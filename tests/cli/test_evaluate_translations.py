"""``intermodal evaluate`` of models that translate: every direction, completions, and the report."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.cli.app import run
from intermodal.diorama import speech
from tests.translators import FIELDS, Completer, Oracle, recolour

Said = pytest.CaptureFixture[str]


class Embedder(Completer):
    """Embeds too, all alike."""

    def embed(self, items: list[Any], **_: Any) -> torch.Tensor:
        return torch.ones(len(items), 1)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns the models that can be named."""
    known: dict[str, Any] = {
        "plain": Oracle(),
        "whole": Completer(),
        "both": Embedder([("text", "image")]),
        "wrong": Oracle([("text", "image"), ("image", "text"), ("text", "video")], recolour),
        "speaker": Oracle([("text", "image"), ("speech", "text")]),
    }
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    monkeypatch.setattr("intermodal.saving.load_model", known.__getitem__)
    return known


def found(capsys: Said, *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_every_direction_as_json(capsys: Said) -> None:
    result = found(capsys, "plain", "--translate", "--samples", "3")
    assert len(result["directions"]) == 20
    assert result["mean"]["scene_accuracy"] == 1.0
    assert (result["model"], result["split"], result["count"], result["candidates"]) == ("plain", "test", 3, 1)
    assert "completions" not in result
    result = found(
        capsys, "plain", "--samples", "2", "--split", "dev", "--fields", "text,image"
    )  # it does nothing else
    assert (list(result["directions"]), result["split"]) == (["text>image", "image>text"], "dev")


def test_the_table_as_text(capsys: Said) -> None:
    assert run(["evaluate", "wrong", "--translate", "--samples", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("read back: diorama test, 4 samples")
    assert [line.split() for line in lines[2:6:2]] == [
        ["image", "text", "video"],
        ["text", "75.0,", "0.0", "-", "80.0,", "0.0"],
    ]
    assert lines[5].split() == ["image", "-", "75.0,", "0.0", "-"]
    assert "mean: 76.67% of the attributes, 0.00% of the scenes as a whole" in lines[7]
    assert lines[-1] == "Next:  intermodal translate INPUT --to image --model wrong"


def test_completions_stand_beside_the_directions(models: dict[str, Any], capsys: Said) -> None:
    assert run(["evaluate", "whole", "--samples", "2", "--fields", "text,image,video", "--candidates", "2"]) == 0
    said = capsys.readouterr().out
    assert said.index("Attributes right") < said.index("made from all the others") < said.index("Next:")
    assert {call["count"] for call in models["whole"].calls} == {2}
    result = found(capsys, "whole", "--samples", "2")
    assert list(result["completions"]["fields"]) == list(FIELDS)
    assert result["completions"]["mean"]["attribute_accuracy"] == 1.0


def test_the_report_shows_what_was_made(tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "r.html"
    found(capsys, "whole", "--translate", "--samples", "4", "--fields", "text,image,timeseries", "--report", str(path))
    page = path.read_text("utf-8")
    assert "whole on diorama" in page
    assert page.count('class="card query"') == 6 * 3
    assert "<h2>Completed</h2>" in page


def test_what_cannot_be_rendered_here_is_said(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "available", lambda: False)
    assert run(["evaluate", "speaker", "--translate", "--samples", "2"]) == 0
    assert "not measured: speech>text: the data has no field 'speech'" in capsys.readouterr().out


def test_a_model_that_embeds_too_is_searched_unless_asked(capsys: Said) -> None:
    result = found(capsys, "both", "--translate", "--samples", "2")
    assert list(result["directions"]) == ["text>image"]
    with pytest.raises(AttributeError, match="config"):  # the search asks for its towers
        run(["evaluate", "both", "--samples", "2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plain", "--translate", "--classify", "text"], "give --classify, or --probe, or --alignment, or --translate"),
        (["plain", "--translate", "--alignment"], "different measurements"),
        (["plain", "--translate", "--fields", "smell"], "'smell'"),
    ],
)
def test_mistake_is_one_line_and_status_2(arguments: list[str], message: str, capsys: Said) -> None:
    assert run(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
