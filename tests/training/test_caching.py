"""The gradient of pieces is that of the whole batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intermodal.data.loader import Loader
from intermodal.diorama.source import Diorama
from intermodal.errors import Unsupported
from intermodal.systems.clip import Clip, Config, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.caching import kept, measure, pieces
from intermodal.types import Batch, Represents

SAMPLES = Diorama("train", size=64).samples(range(24))
CPU = torch.device("cpu")


def clip(dropout: float = 0.0, **changes: Any) -> Clip:
    made = sized("tiny", {"text": "text", "image": "image"}, WordTokenizer(words=Diorama.vocabulary))
    towers = {n: type(t)(**{**vars(t), "dropout": dropout, "token_dropout": dropout}) for n, t in made.towers.items()}
    torch.manual_seed(0)
    return build(Config(**{**vars(made), "towers": towers, **changes})).train()


def cut(batch: Mapping[str, Batch], rows: int) -> list[dict[str, Batch]]:
    count = len(next(iter(batch.values())))
    parts = [slice(i, i + rows) for i in range(0, count, rows)]
    return [{n: Batch(b.values[part], b.mask[part]) for n, b in batch.items()} for part in parts]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-4) -> None:
    assert set(found) == set(expected)
    whole = torch.cat([x.flatten() for x in expected.values()]).norm()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= tolerance * (value.norm() + 1e-2 * whole), name


@pytest.mark.parametrize("rows", [1, 5, 8, 24])
@pytest.mark.parametrize("objective", ["info_nce", "sigmoid"])
def test_pieces_give_the_loss_and_gradient_of_the_batch(rows: int, objective: str) -> None:
    model = clip(objective=objective)
    batch = batches(model, SAMPLES)
    plain = model.losses(batch)
    sum(plain.values()).backward()
    expected = gradients(model)
    losses, add = measure(model, cut(batch, rows), "fp32", CPU)
    add(1.0)
    assert losses["text-image"].item() == pytest.approx(plain["text-image"].item(), rel=1e-5)
    same(gradients(model), expected)
    _, add = measure(model, cut(batch, rows), "fp32", CPU)
    add(0.25)
    same(gradients(model), {n: g / 4 for n, g in expected.items()})


@pytest.mark.parametrize("rows", [5, 8])
def test_dropout_and_dropped_tokens_are_those_of_the_first_run(rows: int) -> None:
    """The plain way with the same draws: the same pieces with their graphs, and one loss over their rows."""
    model = clip(dropout=0.3)
    parts = cut(batches(model, SAMPLES), rows)
    torch.manual_seed(5)
    found = [model.represent(part) for part in parts]
    losses = model.losses_of({name: torch.cat([f[name] for f in found]) for name in found[0]})
    sum(losses.values()).backward()
    expected, drawn = gradients(model), torch.rand(3)
    torch.manual_seed(5)
    cached, add = measure(model, parts, "fp32", CPU)
    add(1.0)
    assert cached["text-image"].item() == pytest.approx(losses["text-image"].item(), rel=1e-6)
    same(gradients(model), expected, 1e-5)
    assert torch.equal(torch.rand(3), drawn)  # what is drawn later does not depend on the second runs
    torch.manual_seed(6)
    measure(model, parts, "fp32", CPU)[1](1.0)
    with pytest.raises(AssertionError):
        same(gradients(model), expected)


def test_rows_without_a_field_and_pieces_without_any() -> None:
    model = clip()
    samples = [{k: v for k, v in s.items() if k != "image" or i >= 10} for i, s in enumerate(SAMPLES)]
    batch = batches(model, samples)
    sum(model.losses(batch).values()).backward()
    expected = gradients(model)
    _, add = measure(model, cut(batch, 5), "fp32", CPU)  # the first two pieces hold no picture
    add(1.0)
    same(gradients(model), expected)


def test_equal_texts_are_found_across_pieces() -> None:
    model = clip(objective="sigmoid")
    samples = [{**s, "text": SAMPLES[0]["text"]} if i in (0, 23) else s for i, s in enumerate(SAMPLES)]
    batch = batches(model, samples)
    plain = model.losses(batch)["text-image"].item()
    assert measure(model, cut(batch, 5), "fp32", CPU)[0]["text-image"].item() == pytest.approx(plain, rel=1e-5)
    assert model.losses(batches(model, SAMPLES))["text-image"].item() != pytest.approx(plain, rel=1e-3)


def test_in_bf16_pieces_are_kept_in_bf16_and_give_the_same() -> None:
    model = clip()
    parts = cut(batches(model, SAMPLES), 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = [model.represent(part) for part in parts]
    losses = model.losses_of({name: torch.cat([f[name] for f in found]) for name in found[0]})
    sum(losses.values()).backward()
    expected = gradients(model)
    narrow = [kept(part, "bf16") for part in parts]
    assert narrow[0]["image"].values.dtype == torch.bfloat16
    assert narrow[0]["text"] is parts[0]["text"]
    assert kept(parts[0], "fp32") is parts[0]
    cached, add = measure(model, narrow, "bf16", CPU)
    add(1.0)
    assert cached["text-image"].item() == pytest.approx(
        losses["text-image"].item(), rel=1e-3
    )  # attention without a graph rounds otherwise
    same(gradients(model), expected, 2e-2)


class Plain(nn.Module):
    """Trains, and its loss is not known to be one of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.fit = nn.Linear(2, 1)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        return {"mean": self.fit(batch["x"].values).mean()}


def test_other_systems_are_trained_whole_or_not_at_all() -> None:
    x = Batch(torch.randn(4, 2), torch.ones(4, 1, dtype=torch.bool))
    model = Plain()
    assert isinstance(clip(), Represents)
    assert not isinstance(model, Represents)
    losses, add = measure(model, [{"x": x}], "fp32", CPU)
    add(2.0)
    torch.testing.assert_close(model.fit.weight.grad[0], 2 * x.values.mean(dim=0))
    assert losses["mean"].item() == pytest.approx(model.losses({"x": x})["mean"].item())
    with pytest.raises(Unsupported, match="Plain cannot be trained in 2 pieces.*micro_batch=0"):
        measure(model, [{"x": x}, {"x": x}], "fp32", CPU)


def test_pieces_are_the_rows_of_the_batches_padded_no_further_than_they_need() -> None:
    model = clip()
    loader = Loader(Diorama("train", size=64), model.preprocessors, 12, seed=3)
    parts = [slice(0, 5), slice(5, 10), slice(10, 12)]
    found = list(pieces(loader, 4, 7, parts))
    whole = list(loader.steps(4, 7))
    assert [len(piece["text"]) for piece in found] == [5, 5, 2] * 3
    for i, piece in enumerate(found):
        batch = whole[i // 3]
        assert torch.equal(piece["image"].values, batch["image"].values[parts[i % 3]])
        length = piece["text"].mask.shape[1]
        assert bool(piece["text"].mask[:, -1].any())
        assert torch.equal(piece["text"].values, batch["text"].values[parts[i % 3], :length])


def test_batches_that_are_made_whole_are_cut() -> None:
    class Whole:
        def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
            for step in range(first, last):
                yield {"x": Batch(torch.arange(6) + 10 * step, torch.ones(6, 1, dtype=torch.bool))}

    found = [piece["x"].values.tolist() for piece in pieces(Whole(), 1, 3, [slice(0, 4), slice(4, 6)])]
    assert found == [[10, 11, 12, 13], [14, 15], [20, 21, 22, 23], [24, 25]]
