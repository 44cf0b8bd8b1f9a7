"""Texts become targets, losses are the usual ones, and what is read back is what was meant."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from intermodal.config import from_dict, to_dict
from intermodal.decoders.tasks import Task, labels_in, number_in, task_of
from intermodal.errors import InvalidValue, UnknownName
from intermodal.modalities.text import Text
from intermodal.types import Grid, Preprocessor, Symbols

CLASSES = Task("classes", ("no", "yes", "a red circle"))
LABELS = Task("labels", ("red", "circle", "big dog"))
NUMBER = Task("number", offset=10.0, scale=4.0)


@pytest.mark.parametrize("task", [CLASSES, LABELS, NUMBER])
def test_a_task_is_the_preprocessor_of_its_field(task: Task) -> None:
    assert isinstance(task, Preprocessor)
    assert from_dict(Task, to_dict(task)) == task
    batch = task([None, None])
    assert not batch.mask.any()
    assert batch.mask.shape[1] == (1 if task.tells == "classes" else task.outputs)


def test_classes_are_whole_texts() -> None:
    batch = CLASSES([Text("yes"), None, Text("a red circle"), Text("Yes")])
    assert batch.values[[0, 2], 0].tolist() == [1, 2]
    assert batch.present.tolist() == [True, False, True, False]
    assert CLASSES.layout == Symbols(3)
    assert [item.text for item in CLASSES.invert(batch.values[[0, 2]])] == ["yes", "a red circle"]


def test_labels_are_words_and_parts_between_commas() -> None:
    batch = LABELS([Text("A red, round Circle."), Text("cat, big dog"), Text("nothing"), None])
    assert batch.values[:3, 0].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert batch.present.tolist() == [True, True, True, False]  # none of the labels is something that is told
    assert LABELS.layout == Grid(1, 1, (1,))
    assert LABELS.invert(batch.values)[0].text == "red, circle"
    assert labels_in("Big dog, red") == {"big", "dog", "red", "big dog"}


def test_numbers_are_standardised_and_come_back() -> None:
    batch = NUMBER([Text("14"), Text(" 6.0 "), Text("many"), Text("nan")])
    assert batch.values[:2, 0, 0].tolist() == [1.0, -1.0]
    assert batch.present.tolist() == [True, True, False, False]
    assert [item.text for item in NUMBER.invert(batch.values[:2])] == ["14", "6"]
    assert NUMBER.read(torch.tensor([[1.0]])).item() == 14.0
    assert number_in("1e3") == 1000.0
    assert number_in("inf") is None


def test_losses_are_the_usual_ones_over_rows_that_are_told() -> None:
    logits = torch.randn(3, 3)
    given = [Text("yes"), None, Text("no")]
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([1, 0]))
    torch.testing.assert_close(Task("classes", CLASSES.words, weight=2.0).loss(logits, CLASSES(given)), 2 * expected)
    told = LABELS([Text("red"), None, Text("circle")])
    expected = F.binary_cross_entropy_with_logits(logits[[0, 2]], torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
    torch.testing.assert_close(LABELS.loss(logits, told), expected)
    found = NUMBER.loss(torch.tensor([[0.5], [9.0], [4.0]]), NUMBER([Text("10"), None, Text("10")]))
    assert float(found) == pytest.approx((0.5 * 0.5**2 + (4.0 - 0.5)) / 2)


def test_what_is_read_are_probabilities() -> None:
    logits = torch.randn(4, 3)
    torch.testing.assert_close(CLASSES.read(logits), logits.softmax(dim=1))
    torch.testing.assert_close(LABELS.read(logits), logits.sigmoid())


def test_the_texts_say_what_the_task_is() -> None:
    assert task_of(["no", "yes", "no", "no", "yes"]) == Task("classes", ("no", "yes"))
    assert task_of(["1", "2", "1", "2", "1"]).tells == "classes"  # few numbers, again and again: names
    number = task_of(["1", "2", "4", "5"])
    assert (number.tells, number.offset, number.scale) == ("number", 3.0, pytest.approx(math.sqrt(2.5)))
    labels = task_of(["a red cat", "a blue dog", "a red dog", "red"])
    assert (labels.tells, labels.words) == ("labels", ("a", "red", "dog"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tells": "ranks"}, UnknownName),
        ({"words": ("one",)}, InvalidValue),
        ({"words": ("one", "one")}, InvalidValue),
        ({"tells": "number", "words": ("one",)}, InvalidValue),
        ({"words": ("a", "b"), "scale": 0.0}, InvalidValue),
        ({"words": ("a", "b"), "weight": 0.0}, InvalidValue),
    ],
)
def test_what_cannot_be_told_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Task(**changes)


def test_no_texts_are_refused() -> None:
    with pytest.raises(InvalidValue, match="there are none"):
        task_of([])
