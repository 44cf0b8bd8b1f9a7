"""What each field gives: against the definition over all orders, and on models whose answer is known."""

from collections.abc import Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import intermodal as im
from intermodal.explain.fields import deciding, shares

SAMPLE = {name: im.Text(name) for name in ("a", "b", "c")}
WORTH = {"": 1.0, "a": 3.0, "b": 2.0, "c": 1.0, "ab": 8.0, "ac": 3.0, "bc": 2.5, "abc": 9.0}


def value(samples: Sequence[Any]) -> list[float]:
    return [WORTH["".join(sorted(sample))] for sample in samples]


def test_shares_are_the_mean_gain_over_all_orders() -> None:
    gains = dict.fromkeys(SAMPLE, 0.0)
    for order in permutations(SAMPLE):
        for i, name in enumerate(order):
            before, after = "".join(sorted(order[:i])), "".join(sorted(order[: i + 1]))
            gains[name] += (WORTH[after] - WORTH[before]) / 6
    found = shares(value, SAMPLE)
    assert found == pytest.approx(gains)
    assert sum(found.values()) == pytest.approx(WORTH["abc"] - WORTH[""])


def test_fields_that_are_not_told_of_are_always_there() -> None:
    found = shares(value, SAMPLE, ["b"])
    assert found == {"b": pytest.approx(WORTH["abc"] - WORTH["ac"])}


def test_deciding_tells_the_answer_and_who_gave_it() -> None:
    class Model:
        tasks: ClassVar = {"label": SimpleNamespace(tells="classes", words=("cat", "dog"))}

        def predict(self, samples: Sequence[Any]) -> dict[str, torch.Tensor]:
            return {"label": torch.tensor([[0.1, 0.9] if "b" in sample else [0.5, 0.5] for sample in samples])}

    told, found = deciding(Model(), {**SAMPLE, "label": im.Text("cat")})
    assert told == "dog"
    assert found == {"a": pytest.approx(0), "b": pytest.approx(0.4), "c": pytest.approx(0)}
    with pytest.raises(im.UnknownName, match="colour"):
        deciding(Model(), SAMPLE, "colour")
    Model.tasks["label"].tells = "labels"
    with pytest.raises(im.InvalidValue, match="tells labels"):
        deciding(Model(), SAMPLE)


def test_mistakes_are_explained() -> None:
    with pytest.raises(im.UnknownName, match="'d'"):
        shares(value, SAMPLE, ["d"])
    with pytest.raises(im.InvalidValue, match="0 fields"):
        shares(value, {})
