"""The script about easy_vqa: what it prepares, how questions are sorted, and what it says of a model's answers."""

import importlib
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from intermodal.data.folder import Folder
from intermodal.saving import save_model
from tests import grounded
from tests.systems.test_visualbert import make

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("easy_vqa")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Returns a folder with a data set of the same layout, of four pictures."""
    folder = tmp_path / "shared" / "easy_vqa"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for i, sample in enumerate(grounded.SAMPLES[:4]):
            name, split = f"images/{i}.png", "train" if i < 3 else "test"
            sample["image"].save(tmp_path / "one.png")
            archive.write(tmp_path / "one.png", name)
            pairs = [["what colour is it?", "red"], ["where is it?", "left"], ["is it?", "yes"]][: 3 - i % 2]
            rows.append({"image": name, "split": split, "qa": pairs})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.parent


def test_a_row_is_a_picture_with_its_questions_in_step(
    script: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "DEV", 1)
    data = script.prepare(shared, tmp_path / "work")
    assert {split: len(Folder(data, split)) for split in ("train", "dev", "test")} == {"train": 2, "dev": 1, "test": 1}
    source = Folder(data, "train")
    assert source.fields == {"image": "image", "question": "text", "answer": "text"}
    pairs = set()
    for epoch in range(3):
        for sample in source.at_epoch(epoch).samples(range(2)):
            pairs.add((sample["question"].text, sample["answer"].text))
    assert pairs == {("what colour is it?", "red"), ("where is it?", "left"), ("is it?", "yes")}
    assert len(Folder(script.prepare(shared, tmp_path / "work", 1), "train")) == 1


def test_every_question_of_a_split_is_asked_and_sorted(
    script: ModuleType, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [script.kind_of(word) for word in ("no", "teal", "circle")] == ["existence", "colour", "shape"]
    data = script.prepare(shared, tmp_path / "work")
    found = script.measured(save_model(tmp_path / "run" / "model", make(grounded.QUESTIONS)), data, "test")
    assert found["count"] == 2
    assert {"colour_accuracy", "shape_accuracy"} <= set(found)
    assert found["weights"] == sum(p.numel() for p in make(grounded.QUESTIONS).parameters())
    capsys.readouterr()
    kinds = {f"{kind}_accuracy": 1.0 for kind in ("existence", "colour", "shape")}
    right = {"answer_accuracy": 1.0, "majority_accuracy": 0.5, "count": 2, "weights": 6e6, **kinds}
    script.report({"some": right})
    told = capsys.readouterr().err
    assert "some: 100.00 % of 2 answers right" in told
    assert "asked 99.5: met; 6.00 million weights, MORE THAN 5 MILLION" in told
