"""The contract checks: a good part passes each, and each is shown a part that breaks it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import testing
from intermodal.diorama.source import Diorama
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip, build, sized
from intermodal.testing import (
    check_embeds,
    check_encoder,
    check_preprocessor,
    check_saves,
    check_trains,
    check_translates,
)
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Batch, Encoded, Grid, Symbols


def series(*values: float) -> TimeSeries:
    return TimeSeries(np.array([values], np.float32), ("a",), 1.0)


ITEMS = [series(1, 2, 3, 4), series(5, 6), series(0.5, 0.25, 0.125, 7, 8, 9)]


@dataclass(frozen=True)
class Pairs:
    """Series to a grid in patches of two samples; ``fault`` says how it is wrong."""

    modality: ClassVar[str] = "timeseries"
    fault: str = ""
    more: Any = None

    @property
    def layout(self) -> Grid:
        return Grid(1, 2 if self.fault == "channels" else 1, (3,) if self.fault == "patch" else (2,))

    def __call__(self, items: Sequence[TimeSeries | None]) -> Batch:
        lengths = [0 if item is None else item.values.shape[1] // 2 for item in items]
        width = 8 if self.fault == "maximum" else max(1, *lengths)
        values = torch.zeros(len(items), 1, 2 * width)
        for row, item in zip(values, items, strict=True):
            if item is not None:
                row[0, : item.values.shape[1]] = torch.from_numpy(item.values[0].copy())
        mask = torch.arange(width) < torch.tensor(lengths)[:, None]
        if self.fault == "batch":
            values = values - values.mean()
        elif self.fault == "tokens":
            mask = mask.any(dim=1, keepdim=True).expand(-1, width)
        elif self.fault == "absent":
            mask = mask | ~mask.any(dim=1, keepdim=True)
        elif self.fault == "rows":
            values, mask = values.repeat(2, 1, 1), mask.repeat(2, 1)
        elif self.fault == "rank":
            values = values[:, 0]
        elif self.fault == "mask":
            mask = F.pad(mask, (0, 1))
        return Batch(values, mask)

    def invert(self, values: Tensor) -> list[Any]:
        if self.fault == "modality":
            return [Text("no series") for _ in values]
        return [
            TimeSeries(row.numpy().copy(), ("a",), 1.0) for row in (values[1:] if self.fault == "fewer" else values)
        ]


@dataclass(frozen=True)
class Letters:
    """Texts to the numbers of their letters."""

    modality: ClassVar[str] = "text"
    fault: str = ""

    @property
    def layout(self) -> Symbols:
        return Symbols(20 if self.fault == "outside" else 27)

    def __call__(self, items: Sequence[Text | None]) -> Batch:
        rows = [[ord(c) - 96 for c in item.text] if item else [] for item in items]
        width = max(1, *map(len, rows))
        values = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        if self.fault == "batch":
            values = (values + len(items)) % 27
        mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        return Batch(values[..., None] if self.fault == "shape" else values, mask)

    def invert(self, values: Tensor) -> list[Text]:
        return [Text("".join(chr(96 + i) for i in row if i)) for row in values.tolist()]


def test_good_preprocessors_pass() -> None:
    check_preprocessor(Pairs(), ITEMS)
    check_preprocessor(Letters(), [Text("abc"), Text("z"), Text("hello")])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("channels", "must have the layout's channels"),
        ("patch", "axis of 4 is no multiple of the patch 3"),
        ("maximum", "padded to its own longest item"),
        ("batch", "item 0 has other values alone"),
        ("tokens", "item 0 has 2 tokens alone and another number in a batch"),
        ("absent", "an absent item must give a row whose mask is False"),
        ("rows", "each item must give one row"),
        ("rank", "one axis per rank"),
        ("mask", "the mask has 4 tokens, the grid 3 patches"),
        ("fewer", "one item per row"),
        ("modality", "items of the preprocessor's modality"),
    ],
)
def test_broken_preprocessor_is_caught(fault: str, message: str) -> None:
    items = ITEMS[:2] if fault == "patch" else ITEMS
    with pytest.raises(AssertionError, match=message):
        check_preprocessor(Pairs(fault), items)


@pytest.mark.parametrize(
    ("fault", "message"), [("outside", "range"), ("shape", "not .B, T."), ("batch", "item 0 has other values alone")]
)
def test_broken_preprocessor_of_symbols_is_caught(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_preprocessor(Letters(fault), [Text("abc"), Text("z"), Text("hello")])


@pytest.mark.parametrize("more", [[1], np.zeros(2), {"a": 1}, (1, [2])])
def test_preprocessor_that_json_cannot_hold_is_caught(more: Any) -> None:
    with pytest.raises(AssertionError, match="a frozen dataclass of numbers"):
        check_preprocessor(Pairs(more=more), ITEMS)
    check_preprocessor(Pairs(more=(1, ("a", None), Pairs())), ITEMS)


class Sums(nn.Module):
    """Encodes ids by the sum of a table over real tokens; ``fault`` says how it is wrong."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.width, self.calls = fault, 4, 0
        self.table = nn.Embedding(20, 5 if fault == "width" else 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, batch: Batch) -> Any:
        tokens = self.table(batch.values)
        mask = batch.mask if self.fault != "padding" else torch.ones_like(batch.mask)
        pooled = (tokens * mask[..., None]).sum(dim=1)
        if self.fault == "padding":
            pooled = pooled * batch.present[:, None]
        elif self.fault == "batch":
            pooled = pooled * len(batch)
        elif self.fault == "absent":
            pooled = pooled + 1.0
        elif self.fault == "finite":
            pooled = pooled / batch.present[:, None]
        elif self.fault == "calls":
            self.calls += 1
            pooled = pooled * self.calls
        elif self.fault == "mask":
            return SimpleNamespace(tokens=tokens[:, 1:], mask=batch.mask, pooled=pooled)
        return Encoded(tokens, batch.mask, pooled)


def words() -> Batch:
    """Rows of 5, 2, 0 and 1 ids."""
    mask = torch.arange(5) < torch.tensor([5, 2, 0, 1])[:, None]
    return Batch(torch.randint(1, 20, (4, 5)) * mask, mask)


def test_good_encoder_passes() -> None:
    check_encoder(Sums(), words())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("width", r"pooled is \(4, 5\), not \(B, width\)"),
        ("mask", "tokens are"),
        ("finite", "must be finite"),
        ("absent", "absent row must be zero"),
        ("calls", "the same vectors on every call"),
        ("batch", "row 0 differs by .* alone from what it is in a batch"),
        ("padding", "what stands in the padding changes the vectors"),
    ],
)
def test_broken_encoder_is_caught(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(Sums(fault), words())


def test_encoder_whose_absent_rows_matter_is_caught() -> None:
    class Leaks(nn.Module):
        width = 1

        def forward(self, batch: Batch) -> Encoded:
            total = batch.values[~batch.present].sum()
            return Encoded(batch.values.mT + total, batch.mask, (1.0 + total) * batch.present[:, None])

    mask = torch.tensor([[True, True], [False, False]])
    with pytest.raises(AssertionError, match="what stands in the padding"):
        check_encoder(Leaks(), Batch(mask[:, None] * torch.randn(2, 1, 2), mask))


class Level(nn.Module):
    """Learns the level of two series; ``fault`` says how it is wrong."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.preprocessors = {"a": Pairs(), "b": Pairs()}
        self.level, self.unused = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        if self.fault == "none":
            return {}
        result = {}
        for name, part in batch.items():
            real = part.values[part.present]
            loss = (self.level - 0.02 * real.mean()).square() if len(real) else 0.0 * self.level
            if self.fault == "stuck":
                loss = 1.0 + 0.0 * loss
            elif self.fault == "holes":
                loss = loss / (len(real) == len(part))
            if self.fault != "gradient":
                loss = loss + 0.0 * self.unused
            result[name] = loss[None] if self.fault == "shape" else loss
        return result


SAMPLES = [{"a": series(2, 2), "b": series(2, 2)} for _ in range(4)]


def test_system_that_learns_passes() -> None:
    check_trains(Level(), SAMPLES)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", "at least one"),
        ("shape", "named scalars"),
        ("gradient", "without a finite gradient: unused"),
        ("holes", "finite where fields are missing"),
        ("stuck", r"learnt by heart: the loss went from 2.000 to 2.000"),
    ],
)
def test_broken_system_is_caught(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_trains(Level(fault), SAMPLES)


def test_system_that_learns_too_slowly_is_caught() -> None:
    with pytest.raises(AssertionError, match="4 samples must be learnt by heart"):
        check_trains(Level(), SAMPLES, steps=3)
    with pytest.raises(AssertionError, match="must have losses"):
        check_trains(nn.Linear(1, 1), SAMPLES)


@dataclass
class Rows:
    """Embeds a series as its first two samples; ``fault`` says how it is wrong."""

    fault: str = ""
    seen: list[int] = field(default_factory=list)

    def embed(self, items: Sequence[Any]) -> Tensor:
        rows = torch.tensor(np.stack([item.values[0, :2] for item in items]))
        if self.fault == "order":
            rows = rows + torch.arange(len(items))[:, None]
        elif self.fault == "company":
            rows = rows - rows.mean(dim=0) * (len(items) > 1)
        return rows if self.fault == "length" else F.normalize(rows, dim=1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("length", "unit rows"), ("order", "not depend on the order"), ("company", "item 0 differs by .* alone")],
)
def test_broken_vectors_are_caught(fault: str, message: str) -> None:
    check_embeds(Rows(), ITEMS)
    with pytest.raises(AssertionError, match=message):
        check_embeds(Rows(fault), ITEMS)
    with pytest.raises(AssertionError, match="must have embed"):
        check_embeds(nn.Linear(1, 1), ITEMS)


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    return build(sized("tiny", {"text": "text", "timeseries": "timeseries"}, WordTokenizer(words=Diorama.vocabulary)))


def test_model_that_is_saved_whole_passes_and_what_gets_lost_is_caught(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list(Diorama("test", fields=("text", "timeseries")).samples([0])[0].values())
    check_saves(clip, items)

    def altered(path: Any) -> Clip:
        loaded: Clip = load_model(path)
        loaded.config = dataclasses.replace(loaded.config, temperature=0.5)
        return loaded

    with monkeypatch.context() as patch:
        patch.setattr(testing, "load_model", altered)
        with pytest.raises(AssertionError, match="the config must survive"):
            check_saves(clip, items)
    monkeypatch.setattr(testing, "save_model", lambda path, model: save_model(path, model, half=True))
    with pytest.raises(AssertionError, match="the vectors must survive"):
        check_saves(clip, items)


class Longer(nn.Module):
    """Makes series twice as strong; ``fault`` says how it is wrong."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.config, self.calls = fault, fault, 0
        self.preprocessors = {"a": Pairs(), "b": Pairs()}

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return (("a", "c"),) if self.fault == "unknown" else () if self.fault == "none" else (("a", "b"),)

    def translate(self, items: Sequence[Any], to: str, *, source: Any, sampling: Any = None, count: int = 1) -> Any:
        self.calls += 1
        if self.fault == "modality":
            return [Text("a") for _ in items]
        more = 1.0 if self.fault == "calls" and self.calls == 2 else 0.0
        made = [series(*(2 * item.values[0] + more)) for item in items]
        return made[1:] if self.fault == "fewer" else made


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("none", "directions are pairs of fields"),
        ("unknown", "directions are pairs of fields"),
        ("fewer", "must give one item for each"),
        ("modality", "must give items of timeseries"),
        ("calls", "the same on every call"),
    ],
)
def test_faults_of_translations_are_found(fault: str, message: str) -> None:
    check_translates(Longer(), [*ITEMS, Text("a")])
    with pytest.raises(AssertionError, match=message):
        check_translates(Longer(fault), [*ITEMS, Text("a")])
    with pytest.raises(AssertionError, match="must have directions"):
        check_translates(nn.Linear(1, 1), ITEMS)


def test_translations_that_do_not_survive_saving_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "save_model", lambda path, model: None)
    for loaded, survives in ((Longer(), True), (Longer("calls"), False)):
        loaded.calls, loaded.config = 1, ""
        monkeypatch.setattr(testing, "load_model", lambda path, loaded=loaded: loaded)
        if survives:
            check_saves(Longer(), ITEMS)
            continue
        with pytest.raises(AssertionError, match="translations to b must survive saving"):
            check_saves(Longer(), ITEMS)
