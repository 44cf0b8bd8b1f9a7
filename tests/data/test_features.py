from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.data import features as module
from intermodal.data.features import Features, Paired, features, groups_of
from intermodal.errors import InvalidData
from intermodal.modalities.text import Text
from intermodal.types import Batch, Item


class Fake:
    """Samples of two texts; ``right`` has two captions, and is absent from each fifth sample."""

    def __init__(self, count: int = 23) -> None:
        self.fields = {"left": "text", "right": "text"}
        self._count = count

    def __len__(self) -> int:
        return self._count

    def samples(self, index: Sequence[int]) -> list[dict[str, Item]]:
        return [{name: Text(f"{name} {i}") for name in self.fields if name == "left" or i % 5} for i in index]

    def captions(self, i: int, field: str) -> tuple[str, ...]:
        return (f"right {i}", f"also {i}") if field == "right" and i % 5 else ()

    def describe(self) -> dict[str, Any]:
        return {"name": "fake", "count": self._count}


class Says:
    """Counts its items; says of a text the numbers of its letters, a row per letter."""

    def __init__(self) -> None:
        self.items = 0

    def __call__(self, items: Sequence[Any]) -> Batch:
        self.items += len(items)
        longest = max(len(item.text) for item in items)
        values = torch.zeros(len(items), 3, longest)
        for i, item in enumerate(items):
            values[i, 0, : len(item.text)] = torch.tensor([float(ord(letter)) for letter in item.text])
        return Batch(values, values[:, 0] > 0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 10)


def words(made: Features, i: int) -> str:
    batch = made.batch([i])
    return "".join(chr(int(value)) for value in batch.values[0, 0][batch.mask[0]])


def test_what_is_said_is_kept_in_order_and_not_said_again(tmp_path: Path) -> None:
    says = Says()
    left = features(says, "one", Fake(), "left", tmp_path)
    right = features(says, "one", Fake(), "right", tmp_path)
    assert words(left, 12) == "left 12"
    assert right.owner.tolist() == [i for i in range(23) if i % 5 for _ in range(2)]
    assert [words(right, i) for i in (2, 3)] == ["right 2", "also 2"]
    asked = says.items
    again = features(says, "one", Fake(), "left", tmp_path)
    assert says.items == asked
    assert torch.equal(again.rows, left.rows)
    features(says, "two", Fake(), "left", tmp_path)
    assert says.items == asked + 23


def test_an_interrupted_run_goes_on_with_what_is_missing_or_damaged(tmp_path: Path) -> None:
    says = Says()
    whole = features(says, "one", Fake(), "left", tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    files[0].unlink()
    files[2].write_bytes(b"cut off")
    again = features(says, "one", Fake(), "left", tmp_path)
    assert says.items == 23 + 10 + 3
    assert torch.equal(again.rows, whole.rows)


def test_batches_are_padded_and_absent_items_are_masked(tmp_path: Path) -> None:
    left = features(Says(), "one", Fake(), "left", tmp_path)
    batch = left.batch([1, -1, 22])
    assert batch.values.shape == (3, 3, 7)
    assert batch.mask.sum(dim=1).tolist() == [6, 0, 7]
    assert not batch.values[1].any()
    few = left.first(4)
    assert [words(few, i) for i in (0, 22)] == ["left", "left"]
    assert few.owner.tolist() == left.owner.tolist()


def test_each_epoch_shows_each_sample_once_with_another_caption(tmp_path: Path) -> None:
    source = Fake()
    given = {name: features(Says(), "one", source, name, tmp_path) for name in source.fields}
    paired = Paired(given, groups_of(source, ["left"]), batch_size=6, seed=3)
    assert paired.per_epoch == 3  # of 18 samples that have both
    shown: list[list[int]] = []
    begins: list[dict[int, float]] = []
    for epoch in range(2):
        batches = list(paired.steps(3 * epoch, 3 * epoch + 3))
        shown.append(torch.cat([batch["group"].values[:, 0] for batch in batches]).tolist())
        letters = torch.cat([batch["right"].values[:, 0, 0] for batch in batches]).tolist()
        begins.append(dict(zip(shown[-1], letters, strict=True)))
    assert sorted(shown[0]) == sorted(shown[1]) == [i for i in range(23) if i % 5]
    assert shown[0] != shown[1]
    assert all(begins[0][i] != begins[1][i] for i in shown[0])  # "right" and "also" in turn
    again = next(iter(paired.steps(4, 5)))
    assert again["group"].values[:, 0].tolist() == shown[1][6:12]


def test_samples_that_share_a_text_are_one_group() -> None:
    class Labels(Fake):
        def captions(self, i: int, field: str) -> tuple[str, ...]:
            return {1: ("Cat", "one"), 4: ("cat ", "dog"), 7: ("seven", " Dog")}.get(i, (f"only {i}",))

    found = groups_of(Labels(9), ["right"])
    assert found[1] == found[4] == found[7]
    assert len(torch.unique(found)) == 7
    assert np.array_equal(groups_of(Fake(4), []), np.arange(4))


def test_a_field_that_nothing_has_is_an_error(tmp_path: Path) -> None:
    class Empty(Fake):
        def samples(self, index: Sequence[int]) -> list[dict[str, Item]]:
            return [{} for _ in index]

        def captions(self, i: int, field: str) -> tuple[str, ...]:
            return ()

    with pytest.raises(InvalidData, match="no sample of the data has the field 'left'"):
        features(Says(), "empty", Empty(), "left", tmp_path)
    left = features(Says(), "one", Fake(), "left", tmp_path)
    with pytest.raises(InvalidData, match="0 of 23 samples have two"):
        Paired({"left": left}, torch.arange(23), 4)
