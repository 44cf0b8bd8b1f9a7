"""What the Flamingo benchmark says is possible, and how it reads its measurements."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in (SCRIPTS.parent / "tools", SCRIPTS / "real", SCRIPTS):
        monkeypatch.syspath_prepend(folder)
    return importlib.import_module("flamingo")


def test_what_is_possible_after_some_shots(script: ModuleType) -> None:
    assert [script.possible(shots) for shots in script.COUNTS] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_words_are_the_mean_of_their_kinds_and_styles_are_written(script: ModuleType) -> None:
    words, style = {"chosen": 0.5, "written": 0.1}, {"chosen": 0.0, "written": 0.8}
    split = {kind: {str(n): words for n in script.COUNTS} for kind in ("colour", "shape")}
    split["colour"]["8"] = {"chosen": 1.0, "written": 0.9}
    split["style"] = {str(n): style for n in script.COUNTS}
    rows = script.rates({"test": split}, "test")
    assert rows["words"] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.75])
    assert rows["style"] == [0.8] * 5
    assert rows["colour"][-1] == 1.0
