"""The contracts: batches select whole, shapes are checked under pytest, capabilities are asked with isinstance."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import TypeCheckError

from intermodal import types
from intermodal.types import Batch, Encoded, Grid, Layout, Preprocessor, Symbols


def batch() -> Batch:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    return Batch(torch.arange(9).reshape(3, 3), mask)


def test_a_batch_counts_its_rows_and_knows_the_absent_ones() -> None:
    assert len(batch()) == 3
    assert batch().present.tolist() == [True, False, True]


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_rows_selects_values_and_mask_alike(index: torch.Tensor) -> None:
    rows = batch().rows(index)
    assert torch.equal(rows.values, batch().values[index])
    assert torch.equal(rows.mask, batch().mask[index])
    assert len(rows) == 2


def test_to_moves_both() -> None:
    moved = batch().to("meta")
    assert moved.values.device.type == moved.mask.device.type == "meta"


def test_records_cannot_be_changed() -> None:
    for record in (batch(), Grid(2, 3, (8, 8)), Symbols(256)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, 0)


def test_equal_layouts_are_equal() -> None:
    assert Grid(2, 3, (8, 8)) == Grid(2, 3, (8, 8)) != Grid(2, 3, (8, 4))
    assert isinstance(Symbols(256), Layout)


@pytest.mark.parametrize(
    ("tokens", "mask", "pooled"),
    [
        (torch.zeros(2, 3, 4), torch.ones(2, 3), torch.zeros(2, 4)),  # a mask of numbers
        (torch.zeros(2, 3, 4), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 4)),  # another length
        (torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 5)),  # another width
        (torch.zeros(2, 3, 4, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4)),  # ids
    ],
)
def test_shapes_that_break_the_contract_are_caught_under_pytest(
    tokens: torch.Tensor, mask: torch.Tensor, pooled: torch.Tensor
) -> None:
    with pytest.raises(TypeCheckError):
        Encoded(tokens, mask, pooled)


def test_shapes_that_keep_the_contract_pass() -> None:
    encoded = Encoded(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4))
    assert encoded.pooled.shape == (2, 4)


class Everything:
    """Has every capability, by its methods alone."""

    directions = (("text", "image"),)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, torch.Tensor]:
        return {"a": torch.tensor(float(len(batch)))}

    def embed(self, items: Sequence[Any]) -> torch.Tensor:
        return torch.ones(len(items), 1)

    def score(self, a: Sequence[Any], b: Sequence[Any]) -> torch.Tensor:
        return torch.zeros(len(a), len(b))

    def translate(self, items: Sequence[Any], to: str) -> list[Any]:
        return list(items)

    def answer(self, sample: Mapping[str, Any], question: str) -> str:
        return question

    def classify(self, items: Sequence[Any], labels: Sequence[str]) -> torch.Tensor:
        return torch.zeros(len(items), len(labels))


CAPABILITIES = {
    "Trains": "losses",
    "Embeds": "embed",
    "Scores": "score",
    "Translates": "translate",
    "Answers": "answer",
    "Classifies": "classify",
}


@pytest.mark.parametrize(("protocol", "method"), CAPABILITIES.items())
def test_a_capability_is_had_by_its_method_and_not_without(protocol: str, method: str) -> None:
    asked = getattr(types, protocol)
    assert isinstance(Everything(), asked)
    without = type("Without", (), {name: value for name, value in vars(Everything).items() if name != method})
    assert not isinstance(without(), asked)
    others = [getattr(types, name) for name in CAPABILITIES if name != protocol]
    assert all(isinstance(without(), other) for other in others)


def test_translating_needs_directions() -> None:
    without = type("Without", (), {name: value for name, value in vars(Everything).items() if name != "directions"})
    assert not isinstance(without(), types.Translates)


def test_a_preprocessor_goes_both_ways() -> None:
    class Bytes:
        modality: ClassVar[str] = "text"
        layout = Symbols(256)

        def __call__(self, items: Sequence[Any]) -> Batch:
            return Batch(torch.zeros(len(items), 1), torch.ones(len(items), 1, dtype=torch.bool))

        def invert(self, values: torch.Tensor) -> list[Any]:
            return values.tolist()

    assert isinstance(Bytes(), Preprocessor)
    assert not isinstance(Everything(), Preprocessor)
