"""Stretches side by side see what they may, and nothing else."""

import torch

from intermodal.layers.block import Block
from intermodal.layers.packing import Asked, Given, side_by_side

WIDTH = 16


def blocks(seed: int = 0) -> torch.nn.ModuleList:
    torch.manual_seed(seed)
    return torch.nn.ModuleList(Block(WIDTH, 2) for _ in range(2)).eval()


def given(rows: int, tokens: int, seed: int, real: int | None = None) -> Given:
    x = torch.randn(rows, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Given(x, (torch.arange(tokens) < (tokens if real is None else real)).expand(rows, tokens))


@torch.no_grad()
def test_a_given_stretch_is_as_if_it_were_alone() -> None:
    layers = blocks()
    a, b = given(3, 5, 1), given(3, 4, 2, real=3)
    asked = Asked(given(3, 6, 3).tokens, {"a": torch.ones(3, dtype=torch.bool)})
    together, _ = side_by_side(layers, {"a": a, "b": b}, {"c": asked})
    plain = a.tokens
    for block in layers:
        plain = block(plain)
    torch.testing.assert_close(together["a"], plain)
    short = b.tokens[:, :3]
    for block in layers:
        short = block(short)
    torch.testing.assert_close(together["b"][:, :3], short)


@torch.no_grad()
def test_an_asked_stretch_is_the_end_of_one_causal_sequence() -> None:
    layers = blocks()
    a, x = given(2, 5, 1), given(2, 4, 2).tokens
    _, found = side_by_side(layers, {"a": a}, {"b": Asked(x, {"a": torch.tensor([True, False])})})
    later = x.clone()
    later[:, 2:] += 1.0
    _, other = side_by_side(layers, {"a": a}, {"b": Asked(later, {"a": torch.tensor([True, False])})})
    torch.testing.assert_close(found["b"][:, :2], other["b"][:, :2])
    assert not torch.allclose(found["b"][:, 2:], other["b"][:, 2:], atol=1e-3)
    plain = x[1:]
    for block in layers:
        plain = block(plain, causal=True)
    torch.testing.assert_close(found["b"][1:], plain)  # nothing is visible in the second row
    assert not torch.allclose(found["b"][0], side_by_side(layers, {}, {"b": Asked(x[:1], {})})[1]["b"][0], atol=1e-3)


@torch.no_grad()
def test_a_row_that_is_absent_stays_finite_and_is_seen_by_none() -> None:
    layers = blocks()
    a = Given(given(2, 3, 1).tokens, torch.tensor([[True] * 3, [False] * 3]))
    x = given(2, 4, 2).tokens
    seen = Asked(x, {"a": torch.tensor([True, True])})
    read, found = side_by_side(layers, {"a": a}, {"b": seen})
    assert bool(read["a"].isfinite().all())
    _, alone = side_by_side(layers, {}, {"b": Asked(x, {})})
    torch.testing.assert_close(found["b"][1], alone["b"][1])
