"""The script of BLIP's claim: what is wrong on purpose, what counts as recovered, and that trainings are told apart."""

import argparse
import math
import sys
from types import ModuleType

import pytest

from intermodal.data.retold import Told
from tests import scripts


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return scripts.load("blip")


def numbers(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"pictures": 30, "right": 6, "share": 0.4, "batch": 8, **changes})


def test_a_share_of_the_captions_is_wrong_and_the_others_are_right(script: ModuleType) -> None:
    pairs = script.pairs_of(numbers())
    assert [len(pairs[name]) for name in ("clean", "noisy", "right")] == [36, 36, 6]
    assert script.right_share(pairs["clean"], numbers()) == 1.0
    assert script.right_share(pairs["right"], numbers()) == 1.0
    wrong = [a != b for a, b in zip(pairs["clean"], pairs["noisy"], strict=True)]
    assert sum(wrong) == 12
    assert not any(wrong[30:])
    assert script.right_share(pairs["noisy"], numbers()) == pytest.approx(24 / 36, abs=0.1)


def test_recovered_is_the_share_of_the_distance(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    names = list(script.LABELS)
    found = {
        "clean": dict.fromkeys(names, 0.9),
        "noisy": dict.fromkeys(names, 0.5),
        "capfilt": {**dict.fromkeys(names, 0.8), "caption_attributes": 0.6},
    }
    assert script.recovered(found, "recall_at_1") == pytest.approx(0.75)
    assert math.isnan(script.recovered({**found, "noisy": found["clean"]}, "recall_at_1"))
    script.show(found)
    said = capsys.readouterr().out
    assert "75% of what the noise cost is recovered: met" in said
    assert "25% of what the noise cost is recovered: NOT MET" in said


def test_trainings_on_other_pairs_are_others(script: ModuleType) -> None:
    one, other = [Told(0, "a star"), Told(1, "a circle")], [Told(0, "a star"), Told(2, "a circle")]
    assert script._digest(one) == script._digest(list(one))
    assert script._digest(one) != script._digest(other)
