"""Decisions are joined as the formulas say, over the fields that are there."""

import numpy as np
import pytest
import torch

from intermodal.errors import UnknownName
from intermodal.fusion import KINDS
from intermodal.fusion.late import RULES, Late
from intermodal.types import Encoded

NAMES = ("a", "b", "c")
PRESENT = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)


def decisions(value: float = 0.0) -> tuple[dict[str, Encoded], np.ndarray]:
    """Returns the logits of three fields, ``value`` where a field is absent, and the logits as an array."""
    logits = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32) * 2
    given = {}
    for i, name in enumerate(NAMES):
        there = torch.from_numpy(PRESENT[:, i])
        rows = torch.from_numpy(logits[:, i]).masked_fill(~there[:, None], value)
        given[name] = Encoded(rows[:, None], there[:, None], rows)
    return given, logits.astype(np.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


@torch.no_grad()
def test_the_product_of_experts_is_a_product_of_probabilities() -> None:
    given, logits = decisions()
    made = Late("product", NAMES, 5)
    made.always.copy_(torch.tensor([0.3, -0.2, 0.1, 0.0, 0.5]))
    found = made(given).pooled.softmax(dim=1).numpy()
    for i in range(4):
        product = np.exp(made.always.numpy().astype(np.float64))
        for j in range(3):
            if PRESENT[i, j]:
                product = product * softmax(logits[i, j])
        np.testing.assert_allclose(found[i], product / product.sum(), rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_the_product_for_labels_multiplies_the_odds_of_each() -> None:
    given, logits = decisions()
    found = Late("product", NAMES, 5, "labels")(given).pooled.sigmoid().numpy()
    for i in range(4):
        odds = np.ones(5)
        for j in range(3):
            if PRESENT[i, j]:
                odds = odds * sigmoid(logits[i, j]) / (1 - sigmoid(logits[i, j]))
        np.testing.assert_allclose(found[i], odds / (1 + odds), rtol=1e-4)


@torch.no_grad()
def test_the_product_for_numbers_is_that_of_bell_curves() -> None:
    given, logits = decisions()
    made = Late("product", NAMES, 5, "number")
    made.log_precisions.copy_(torch.tensor([0.0, 1.0, -1.0, -4.0]))
    found = made(given).pooled.numpy()
    precisions = np.exp([0.0, 1.0, -1.0, -4.0])
    for i in range(4):
        there = [j for j in range(3) if PRESENT[i, j]]
        total = sum(precisions[j] for j in there) + precisions[3]
        np.testing.assert_allclose(
            found[i], sum((precisions[j] * logits[i, j] for j in there), np.zeros(5)) / total, rtol=1e-4
        )


@pytest.mark.parametrize("rule", ["average", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_means_are_means_over_the_fields_that_are_there(rule: str, kind: str) -> None:
    given, logits = decisions()
    made = Late(rule, NAMES, 5, kind)
    weights = np.ones(3)
    if rule == "weighted":
        made.weights.copy_(torch.tensor([0.5, -0.5, 1.0]))
        weights = np.exp([0.5, -0.5, 1.0])
    link = {"classes": softmax, "labels": sigmoid, "number": lambda x: x}[kind]
    found = made(given).pooled
    found = {"classes": found.softmax(dim=1), "labels": found.sigmoid(), "number": found}[kind].numpy()
    for i in range(3):
        shares = weights * PRESENT[i] / (weights * PRESENT[i]).sum()
        expected = sum((shares[j] * link(logits[i, j]) for j in range(3) if PRESENT[i, j]), np.zeros(5))
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-6)
    knowing_nothing = {"classes": 0.2, "labels": 0.5, "number": 0.0}[kind]
    np.testing.assert_allclose(found[3], knowing_nothing, atol=1e-6)


@torch.no_grad()
def test_stacking_begins_as_the_product_and_knows_which_fields_are_there() -> None:
    given, _ = decisions()
    made, product = Late("stacked", NAMES, 5), Late("product", NAMES, 5)
    torch.testing.assert_close(made(given).pooled.softmax(dim=1), product(given).pooled.softmax(dim=1))
    before = made(given).pooled
    made.map.weight[:, -3] += 1.0  # the column that says whether the first field is there
    change = (made(given).pooled - before).abs().amax(dim=1)
    assert (change.numpy() > 0.5).tolist() == PRESENT[:, 0].tolist()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_stands_in_absent_rows_changes_nothing(rule: str, kind: str) -> None:
    made = Late(rule, NAMES, 5, kind)
    expected = made(decisions()[0]).pooled
    assert expected.isfinite().all()
    for value in (1e6, float("nan")):
        torch.testing.assert_close(made(decisions(value)[0]).pooled, expected)


def test_unknown_rules_and_kinds_are_refused() -> None:
    for arguments in (("vote", NAMES, 5), ("average", NAMES, 5, "ranks")):
        with pytest.raises(UnknownName):
            Late(*arguments)  # type: ignore[arg-type]
