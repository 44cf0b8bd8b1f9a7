"""What the texts of a field are decides what is told of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from intermodal.diorama.source import Diorama
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.training.recipe import recipe


class Labelled:
    """Series with a text field."""

    def __init__(self, *texts: str, name: str = "label") -> None:
        self.given, self.name = texts, name
        self.fields = {"timeseries": "timeseries", name: "text"}

    def __len__(self) -> int:
        return len(self.given)

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        series = TimeSeries(np.arange(8, dtype=np.float32)[None], ("c",), 8.0)
        every = [{"timeseries": series, self.name: Text(self.given[i])} for i in index]
        return [{name: item for name, item in sample.items() if name in self.fields} for sample in every]


def test_repeated_texts_are_classes() -> None:
    task = recipe("fusion", Labelled(*["dog", "cat", "cow"] * 3)).tasks["label"]
    assert (task.tells, task.words) == ("classes", ("cat", "cow", "dog"))


def test_numbers_are_told_in_their_spread() -> None:
    task = recipe("fusion", Labelled("1", "2", "3")).tasks["label"]
    assert (task.tells, task.words, task.offset) == ("number", (), 2.0)


def test_sentences_are_told_by_their_words() -> None:
    config = recipe("fusion", Diorama("train", ("image", "timeseries", "text"), size=60))
    task = config.tasks["text"]
    assert task.tells == "labels"
    assert {"circle", "red"} <= set(task.words)
    assert list(config.towers) == ["image", "timeseries"]


def test_a_weight_is_set_by_its_path() -> None:
    config = recipe(
        "fusion", Labelled("a", "b", "a", "b", "a"), changes={"tasks.label.weight": "0.5", "late": "average"}
    )
    assert (config.tasks["label"].weight, config.late) == (0.5, "average")
