"""The script that asks systems about Diorama's pictures: its few labelled ones, and which figures it keeps."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from intermodal.diorama.source import Diorama
from tests import scripts


@pytest.fixture
def script() -> ModuleType:
    return scripts.load("questions")


def test_labelled_questions_are_the_first_of_each_split(script: ModuleType, tmp_path: Path) -> None:
    folder = script.labelled(tmp_path, 3)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["dev"] * 3
    wanted = Diorama("train", script.FIELDS, 3).samples(range(3))
    assert [(row["question"], row["answer"]) for row in rows[:3]] == [
        (one["question"].text, one["answer"].text)
        for one in wanted  # type: ignore[attr-defined]
    ]
    assert all((folder / row["image_file_name"]).exists() for row in rows)


def test_gain_of_captions_is_what_lies_between_few_answers_with_and_without(script: ModuleType) -> None:
    def found(share: float) -> dict[str, Any]:
        each = {"answer_accuracy": share, "relation_accuracy": 0.5, "relation_majority_accuracy": 0.4, "count": 9}
        return {"test": each, "compositional": each, "weights": 4_100_000}

    figures = script.figures({"all": found(0.98), "few": found(0.6), "few_fresh": found(0.45)})
    assert figures["weights"] == (4.1, "million", "-")
    assert figures["all.answer"] == (98.0, "%", "≥ 97")
    assert figures["all.relation"] == (50.0, "%", "≥ 95")
    assert figures["all.unseen_pairs.answer"] == (98.0, "%", "-")
    assert figures["few.answer"] == (60.0, "%", "-")
    assert figures["gained_by_captions"] == (15.0, "points", "above 0")
    assert not any("majority" in name for name in figures)
