"""Figures kept with a model: written, read back, shown, and gone with the weights they are of."""

import json
from pathlib import Path
from typing import Any

import pytest

import intermodal as im
from intermodal.cli.app import run
from intermodal.evaluation.kept import kept
from intermodal.saving import figures_of
from tests.serving.places import small

SEARCH: dict[str, Any] = {
    "name": "diorama",
    "split": "test",
    "count": 12,
    "pairs": {
        "text>image": {"recall_at_1": 0.5, "share_of_ceiling": 0.75},
        "image>text": {"recall_at_1": 0.4, "share_of_ceiling": 0.5},
    },
}
TRANSLATED = {
    "name": "diorama",
    "split": "test",
    "count": 9,
    "directions": {"text>image": {"attribute_accuracy": 0.97}, "image>text": {"attribute_accuracy": 0.99}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return im.save(tmp_path / "model", small())


def test_both_measurements_are_kept_beside_each_other_and_come_with_the_model(folder: Path) -> None:
    kept(folder, SEARCH)
    kept(folder, TRANSLATED)
    found = figures_of(folder)
    assert found["search"] == {
        "what": "Recall@1 as a share of the best possible",
        "data": "diorama",
        "split": "test",
        "samples": 12,
        "pairs": {"text>image": 0.75, "image>text": 0.5},
    }
    assert found["translate"]["pairs"] == {"text>image": 0.97, "image>text": 0.99}
    assert im.load(folder).figures == found
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_data_without_a_ceiling_says_so(folder: Path) -> None:
    kept(folder, {**SEARCH, "pairs": {"text>image": {"recall_at_1": 0.5}}})
    assert figures_of(folder)["search"]["what"] == "Recall@1"


def test_other_weights_take_them_away(folder: Path) -> None:
    kept(folder, SEARCH)
    im.save(folder, small())
    assert figures_of(folder) == {}


def test_what_cannot_be_kept_or_read_is_explained(folder: Path) -> None:
    with pytest.raises(im.InvalidValue, match="only figures of searching"):
        kept(folder, {"accuracy": 0.5})
    with pytest.raises(im.InvalidValue, match="cannot be kept"):
        kept("hub:someone/something", SEARCH)
    for content in ("[1]", "{", '{"search": 3}', '{"search": {"pairs": [], "what": ""}}'):
        (folder / "figures.json").write_text(content)
        with pytest.raises(im.InvalidCheckpoint, match="holds no figures"):
            figures_of(folder)


def test_evaluate_keeps_them_and_list_shows_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder), "--samples", "4", "--keep", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    pairs = {pair: one["share_of_ceiling"] for pair, one in measured["pairs"].items()}
    assert run(["list", "models", str(folder.parent), "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert listed[str(folder)]["figures"]["search"]["pairs"] == pairs
    assert listed[str(folder)]["system"] == "unified"
    assert "image" in listed[str(folder)]["fields"]
    assert "diorama" in listed
    assert run(["list", "models", str(folder.parent)]) == 0
    mean = 100 * sum(pairs.values()) / len(pairs)
    assert f"search {mean:.1f} % (mean of {len(pairs)})" in capsys.readouterr().out
    assert run(["evaluate", str(folder), "--classify", "image", "--keep"]) == 2
    assert "leave it out for others" in capsys.readouterr().err
