from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intermodal.encoders import transformer as transformer_module
from intermodal.encoders.convolutional import ConvolutionalEncoder
from intermodal.encoders.recurrent import RecurrentEncoder
from intermodal.encoders.transformer import TransformerEncoder, kept
from intermodal.errors import InvalidValue, UnknownName
from intermodal.layers.block import Block
from intermodal.layers.pooling import Pooling
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem
from intermodal.testing import check_encoder
from intermodal.types import Batch, Grid, Symbols

SERIES = Grid(1, 3, (4,))
SOUND = Grid(2, 2, (8, 4))
CLIP = Grid(3, 3, (2, 8, 8))


def words() -> Batch:
    """Rows of 5, 2, 0 and 1 ids."""
    mask = torch.arange(5) < torch.tensor([5, 2, 0, 1])[:, None]
    return Batch(torch.randint(1, 20, (4, 5)) * mask, mask)


def grids(layout: Grid, size: tuple[int, ...], counts: tuple[int, ...]) -> Batch:
    """Rows that are real for the first so many patches along the last axis, and zero beyond."""
    values = torch.randn(len(counts), layout.channels, *size)
    cells = torch.arange(size[-1]) < layout.patch[-1] * torch.tensor(counts)[:, None]
    values = values * cells.view(len(counts), *[1] * (values.dim() - 2), -1)
    tokens = [n // p for n, p in zip(size, layout.patch, strict=True)]
    mask = (torch.arange(tokens[-1]) < torch.tensor(counts)[:, None]).view(len(counts), *[1] * (layout.rank - 1), -1)
    return Batch(values, mask.expand(len(counts), *tokens).flatten(1))


def transformer(first: nn.Module, sizes: tuple[int, ...], pooling: str = "mean", **options: Any) -> TransformerEncoder:
    """Returns a small one on ``first``, which gives 16 numbers per token."""
    blocks = [Block(16, 2) for _ in range(2)]
    return TransformerEncoder(first, Positions(16, sizes), blocks, Pooling(pooling, 16, 2), **options)


CASES = {
    "words": (Symbols(20), words),
    "series": (SERIES, lambda: grids(SERIES, (20,), (5, 2, 0, 1))),
    "sound": (SOUND, lambda: grids(SOUND, (8, 16), (4, 1, 0, 3))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pooling", ["mean", "first", "last", "attention"])
def test_transformer_keeps_the_contract(case: str, pooling: str) -> None:
    layout, make = CASES[case]
    sizes = (0,) if case != "sound" else (1, 0)
    check_encoder(transformer(stem(layout, 16), sizes, pooling), make())


def test_transformer_on_early_convolutions_keeps_the_contract() -> None:
    encoder = transformer(stem(SOUND, 16, (2, 1), (6, 8)), (1, 0))
    check_encoder(encoder, grids(SOUND, (8, 16), (4, 1, 0, 3)))


@pytest.mark.parametrize("case", CASES)
def test_a_class_token_stands_first_and_a_causal_transformer_keeps_the_contract(case: str) -> None:
    layout, make = CASES[case]
    sizes = (0,) if case != "sound" else (1, 0)
    encoder = transformer(stem(layout, 16), sizes, "first", class_token=True, norm_first=True)
    check_encoder(encoder, make())
    encoded = encoder(make())
    assert encoded.tokens.shape[1] == make().mask.shape[1] + 1
    torch.testing.assert_close(encoded.pooled[0], encoded.tokens[0, 0])
    check_encoder(transformer(stem(layout, 16), sizes, "last", causal=True), make())


def test_a_causal_transformer_does_not_see_what_follows() -> None:
    encoder = transformer(stem(Symbols(20), 16), (0,), "last", causal=True).eval()
    a = torch.tensor([[1, 2, 3, 4, 5]])
    b = torch.tensor([[1, 2, 3, 9, 9]])
    everything = torch.ones(1, 5, dtype=torch.bool)
    seen, other = (encoder(Batch(ids, everything)).tokens for ids in (a, b))
    torch.testing.assert_close(seen[:, :3], other[:, :3])
    assert float((seen[:, 3:] - other[:, 3:]).detach().abs().max()) > 1e-3
    holes = torch.tensor([[True, False, True, True, False]])
    torch.testing.assert_close(
        encoder(Batch(a, holes)).tokens[:, [0, 2, 3]],
        encoder(Batch(torch.tensor([[1, 7, 3, 4, 7]]), holes)).tokens[:, [0, 2, 3]],
    )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("case", CASES)
def test_recurrent_keeps_the_contract(case: str, cell: str) -> None:
    layout, make = CASES[case]
    check_encoder(RecurrentEncoder(stem(layout, 16), 16, 2, cell), make())


@pytest.mark.parametrize(
    ("layout", "size", "first", "counts"),
    [
        (SERIES, (20,), (1,), (5, 2, 0, 1)),
        (SOUND, (8, 16), (2, 1), (4, 1, 0, 3)),
        (CLIP, (4, 16, 24), (1, 2, 2), (3, 1, 0, 2)),
    ],
)
def test_convolutional_keeps_the_contract_on_one_two_and_three_axes(
    layout: Grid, size: tuple[int, ...], first: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    check_encoder(ConvolutionalEncoder(layout, 16, first, (6, 8), depth=1), grids(layout, size, counts))


def test_unknown_cell_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="'rnn'.*gru, lstm"):
        RecurrentEncoder(stem(SERIES, 16), 16, 1, "rnn")


def test_dropped_tokens_change_training_only_and_no_row_loses_all() -> None:
    batch = words()
    encoder = transformer(stem(Symbols(20), 16), (0,), token_dropout=0.9)
    check_encoder(encoder, batch)
    encoder.train()
    found = encoder(batch)
    assert found.mask.sum(dim=1).tolist() == [1, 1, 0, 1]
    assert found.tokens.shape == (4, 1, 16)
    assert not torch.equal(encoder(batch).pooled, encoder(batch).pooled)


def test_kept_tokens_are_a_fair_choice_of_the_real_ones_in_their_order() -> None:
    mask = torch.tensor([[True] * 8, [False, True, True, False, True, False, False, False], [False] * 8])
    x = torch.arange(8.0).expand(3, 8)[..., None]
    times = torch.zeros(8)
    for _ in range(400):
        tokens, real = kept(x, mask, 0.75)
        assert real.tolist() == [[True, True], [True, False], [False, False]]
        first, second = tokens[0, :, 0].tolist()
        assert first < second
        times[[int(first), int(second)]] += 1
        assert int(tokens[1, 0]) in (1, 2, 4)
    assert float((times / 400 - 0.25).abs().max()) < 0.1


@pytest.mark.parametrize(("share", "count"), [(0.5, 4), (0.75, 2), (0.8, 2), (0.95, 1), (0.1, 8), (0.2, 7)])
def test_the_number_kept_is_rounded_up(share: float, count: int) -> None:
    tokens, real = kept(torch.zeros(2, 8, 3), torch.ones(2, 8, dtype=torch.bool), share)
    assert tokens.shape == (2, count, 3)
    assert bool(real.all())


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="token_dropout is 1.0"):
        transformer(stem(Symbols(20), 16), (0,), token_dropout=1.0)


def uneven(counts: Sequence[int]) -> Batch:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return Batch(torch.randint(1, 20, mask.shape) * mask, mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_training_in_groups_equals_training_in_one(monkeypatch: pytest.MonkeyPatch, causal: bool, pooling: str) -> None:
    torch.manual_seed(0)
    batch = uneven([3, 30, 5, 4, 28, 0, 3, 12] * 8)
    encoder = transformer(stem(Symbols(20), 16), (0,), pooling, causal=causal, class_token=pooling == "mean").train()

    def run() -> list[Tensor]:
        encoder.zero_grad()
        found = encoder(batch)
        (found.pooled.square().sum() + (found.tokens * found.mask[..., None]).sum()).backward()
        return [found.pooled, found.tokens[found.mask], found.mask.float(), *(p.grad for p in encoder.parameters())]

    in_groups = run()
    seen: list[int] = []
    monkeypatch.setattr(transformer_module, "by_length", lambda mask: seen.append(1) or [])
    for a, b in zip(in_groups, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert seen
