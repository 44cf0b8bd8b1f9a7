"""What flows where: by hand for a small model whose ways are known, and for every system of the catalogue."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intermodal import catalog
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.explain.flow import Flow, Part, flow
from intermodal.testing import batches
from intermodal.training.recipe import recipe
from intermodal.types import Batch

QUESTIONS = ("image", "text", "question", "answer")
FIELDS = {
    "clip": ("text", "image", "audio"),
    "blip": QUESTIONS,
    "visualbert": QUESTIONS,
    "vilbert": QUESTIONS,
    "lxmert": QUESTIONS,
    "dalle1": ("image", "text"),
    "dalle2": ("image", "text"),
    "vae_gan": ("image", "audio", "text"),
    "unified": ("text", "image", "timeseries"),
}


class Small(nn.Module):
    """Two readers, one of them frozen; a trunk that is passed by; a head; weights that are used without a call."""

    def __init__(self) -> None:
        super().__init__()
        self.readers = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(4, 6).requires_grad_(False)})
        self.trunk = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.norm = nn.LayerNorm(6)
        self.table = nn.Embedding(5, 6)
        self.head = nn.Linear(6, 1)
        self.unused = nn.Linear(2, 2)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        a, b = (self.readers[name](batch[name].values) for name in "ab")
        x = a + 2 * b.detach()
        for part in self.trunk:
            x = x + part(x).relu()
        x = self.norm(x)[batch["which"].values[:, 0] % 2]
        out = torch.zeros(len(x), 1)
        out[:] = self.head(x)
        tied = (x @ self.table.weight.T).mean()
        return {"down": out.square().mean(), "tied": tied, "apart": (a - batch["a"].values.mean()).mean()}


@pytest.fixture
def batch() -> dict[str, Batch]:
    real = torch.ones(3, 1, dtype=torch.bool)
    values = {"a": torch.ones(3, 4), "b": torch.ones(3, 4), "which": torch.arange(3)[:, None]}
    return {name: Batch(one, real) for name, one in values.items()}


def test_a_small_model_by_hand(batch: dict[str, Batch]) -> None:
    found = flow(Small(), batch)
    assert set(found.edges) == {
        ("a", "readers.a"),
        ("b", "readers.b"),
        ("readers.a", "trunk"),
        ("readers.b", "trunk"),
        ("trunk", "head"),
        ("head", "loss down"),
        ("trunk", "table"),
        ("table", "loss tied"),
        ("readers.a", "loss apart"),
        ("a", "loss apart"),
    }  # "which" only says which rows are taken; what goes past the trunk is in what comes out of it
    parts = {part.name: part for part in found.parts}
    assert parts["trunk"] == Part("trunk", "Linear", 2 * 42, False, 2)
    assert parts["readers.b"].frozen
    assert not parts["readers.a"].frozen
    assert "unused" not in parts
    assert [part.name for part in found.parts[:2]] == ["a", "b"]
    assert [part.kind for part in found.parts[-3:]] == ["loss"] * 3


def test_following_changes_nothing(batch: dict[str, Batch]) -> None:
    model = Small()
    before = {name: float(value.detach()) for name, value in model.losses(batch).items()}
    flow(model, batch)
    assert {name: float(value.detach()) for name, value in model.losses(batch).items()} == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_followed(batch: dict[str, Batch]) -> None:
    class Nothing(nn.Module):
        def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
            return {}

    class Plain:
        def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
            return {}

    with pytest.raises(InvalidValue, match="a batch of a, b, which gives no loss"):
        flow(Nothing(), batch)
    with pytest.raises(InvalidValue, match="Plain is no torch module"):
        flow(Plain(), batch)


def made(name: str) -> tuple[Any, Flow]:
    """Returns a system with fresh weights, and its flow on a few scenes."""
    source = Diorama("train", fields=FIELDS[name], size=64)
    torch.manual_seed(0)
    model = catalog.module("systems", name).build(recipe(name, source, "tiny", FIELDS[name])).train()
    return model, flow(model, batches(model, source.samples(range(4))))


@pytest.mark.parametrize("name", FIELDS)
def test_in_every_landmark_all_fields_and_parts_lead_to_a_loss(name: str) -> None:
    model, found = made(name)
    ahead: dict[str, set[str]] = {}
    for a, b in found.edges:
        ahead.setdefault(a, set()).add(b)

    def reached(start: str) -> set[str]:
        seen, waiting = set[str](), [start]
        while waiting:
            new = ahead.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    told = {part.name for part in found.parts}
    assert set(FIELDS[name]) <= told
    for part in found.parts:
        if part.kind != "loss":
            assert any(other.startswith("loss ") for other in reached(part.name)), part.name
    trained = {path.split(".")[0] for path, weight in model.named_parameters() if weight.requires_grad}
    missing = trained - {part.split(".")[0] for part in told}
    small = {
        path for path in missing if not any(p.dim() > 1 for n, p in model.named_parameters() if n.startswith(path))
    }
    assert missing - small <= {"marks", "parts"}, missing  # vectors of kinds are no modules


def test_clip_is_its_figure_1() -> None:
    _, found = made("clip")
    wanted = set()
    for field in FIELDS["clip"]:
        wanted |= {(field, f"encoders.{field}"), (f"encoders.{field}", f"heads.{field}")}
    for a, b in (("text", "image"), ("text", "audio"), ("image", "audio")):
        wanted |= {(f"heads.{a}", f"loss {a}-{b}"), (f"heads.{b}", f"loss {a}-{b}")}
    assert set(found.edges) == wanted
