"""What a codec keeps, shown with codecs that keep everything, something or nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidData, Unsupported
from intermodal.evaluation.codes import keeps
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.types import Batch, Item


class Table:
    """Ids are the places in a table of all items seen; ``fault`` says what comes back instead of them."""

    codes, groups = 64, 1

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.preprocessors = {"timeseries": TimeSeriesPreprocessor()}
        self.seen: list[Any] = []

    def tokens(self, items: Sequence[Item]) -> Batch:
        first = len(self.seen)
        self.seen += items
        ids = torch.arange(first, len(self.seen))[:, None, None] % self.codes
        return Batch(ids.repeat(1, 2, 1), torch.ones(len(items), 2, dtype=torch.bool))

    def items(self, ids: Tensor, mask: Tensor | None = None) -> list[Any]:
        found = [self.seen[int(i)] for i in ids[:, 0, 0]]
        if self.fault == "shuffled":
            return found[1:] + found[:1]
        if self.fault == "silent":
            values = self.preprocessors["timeseries"](found).values * 0
            return list(self.preprocessors["timeseries"].invert(values))
        return found


SOURCE = Diorama("test", fields=("timeseries",), size=30)


def test_a_codec_that_keeps_everything_is_read_as_the_originals() -> None:
    kept = keeps(Table(), SOURCE, batch_size=8)
    assert (kept["items"], kept["ids_per_item"], kept["field"]) == (30, 2, "timeseries")
    assert kept["absolute_error"] == kept["variance_lost"] == 0.0
    assert kept["share_used"] == pytest.approx(30 / 64)
    assert kept["perplexity"] == pytest.approx(30.0)
    assert kept["read"] == kept["originals_read"]
    assert kept["read"]["attribute_accuracy"] == 1.0


def test_a_codec_that_mixes_items_up_is_not() -> None:
    kept = keeps(Table("shuffled"), SOURCE)
    assert kept["variance_lost"] > 0.5
    assert kept["read"]["scene_accuracy"] < 0.2
    assert kept["originals_read"]["scene_accuracy"] == 1.0


def test_a_codec_that_keeps_nothing_has_its_error_and_nothing_to_read() -> None:
    kept = keeps(Table("silent"), SOURCE)
    values = np.stack([sample["timeseries"].values for sample in SOURCE.samples(range(30))])
    assert kept["absolute_error"] == pytest.approx(float(np.abs(values).mean()), rel=1e-4)
    assert kept["variance_lost"] == pytest.approx(float(np.square(values).mean() / values.var()), rel=1e-4)
    assert kept["read"]["attribute_accuracy"] == 0.0
    assert kept["read"]["unreadable"] == 30


class Some:
    """Data that knows no scenes, in which some samples lack the field."""

    def __init__(self, every: int) -> None:
        self.every, self.fields = every, {"timeseries": "timeseries"}

    def __len__(self) -> int:
        return 12

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        whole = SOURCE.samples(index)
        return [s if self.every and i % self.every == 0 else {} for i, s in zip(index, whole, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {"name": "some", "split": "test", "count": 12}


def test_samples_without_the_field_are_left_out_and_nothing_is_read_without_scenes() -> None:
    shares: list[float] = []
    kept = keeps(Table(), Some(3), batch_size=2, progress=shares.append)
    assert kept["items"] == 4
    assert "read" not in kept
    assert shares[-1] == 1.0


def test_data_without_the_field_or_without_items_is_refused() -> None:
    with pytest.raises(Unsupported, match="no field 'timeseries'; it has image"):
        keeps(Table(), Diorama("test", fields=("image",), size=4))
    with pytest.raises(InvalidData, match="no sample of the data has the field"):
        keeps(Table(), Some(0))
