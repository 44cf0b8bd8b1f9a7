"""The script about questions on two renderings: what each carries, and what is said of what was measured."""

import sys
from types import ModuleType

import pytest

from intermodal.diorama.source import Diorama
from tests import scripts


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return scripts.load("joining")


def test_neither_rendering_carries_much_more_than_half(script: ModuleType) -> None:
    source = Diorama("test", fields=("image", "joint_question", "joint_answer"))
    found = script.carried(source, 1000)
    assert set(found) == {"image", "timeseries"}
    assert all(0.3 < value < 0.6 for value in found.values())


def test_what_was_measured_is_held_against_what_was_asked(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "carried": {"image": 0.4, "timeseries": 0.5},
        "count": 10,
        "image+timeseries": {"both": 0.96, "find": 0.97, "follow": 0.95},
        "image+timeseries from image": {"both": 0.35, "find": 0.5, "follow": 0.2},
        "image+timeseries from timeseries": {"both": 0.45, "find": 0.2, "follow": 0.7},
        "image": {"both": 0.39, "find": 0.55, "follow": 0.22},
        "timeseries": {"both": 0.49, "find": 0.22, "follow": 0.74},
    }
    script.show(found)
    said = capsys.readouterr().out
    assert "fused 96.0 %, asked 95: met" in said
    assert "image carries 40.0 %; the model of it alone tells 39.0, the joint one from it 35.0" in said
    kept = {}
    monkeypatch.setattr(script, "record", lambda name, value, unit, asked, command: kept.update({name: (value, asked)}))
    script.keep(found, "command")
    assert kept["joining.image+timeseries.both"] == (96.0, "≥ 95")
    assert kept["joining.image+timeseries_from_image.find"] == (50.0, "-")
    assert kept["joining.carried_by.timeseries"] == (50.0, "-")
    script.show({**found, "image+timeseries": {"both": 0.9}})
    assert "asked 95: NOT MET" in capsys.readouterr().out
