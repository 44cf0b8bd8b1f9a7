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
def test_a_given_stretch_is_as_if_it_were_alone_and_without_padding() -> None:
    layers = blocks()
    a, b = given(3, 5, 1), given(3, 4, 2, real=3)
    seen = torch.ones(3, dtype=torch.bool)
    asked = {n: Asked(given(3, 6, 3).tokens, {n: seen}) for n in ("a", "b")}
    together = side_by_side(layers, {"a": a, "b": b}, asked)
    for name, one in (("a", a), ("b", Given(b.tokens[:, :3], b.mask[:, :3]))):
        alone = side_by_side(layers, {name: one}, {name: asked[name]})
        torch.testing.assert_close(together[name], alone[name])
    neither = side_by_side(layers, {}, {"a": Asked(asked["a"].tokens, {})})
    assert not torch.allclose(together["a"], neither["a"], atol=1e-3)


@torch.no_grad()
def test_an_asked_stretch_is_the_end_of_one_causal_sequence() -> None:
    layers = blocks()
    a, x = given(2, 5, 1), given(2, 4, 2).tokens
    found = side_by_side(layers, {"a": a}, {"b": Asked(x, {"a": torch.tensor([True, False])})})
    later = x.clone()
    later[:, 2:] += 1.0
    other = side_by_side(layers, {"a": a}, {"b": Asked(later, {"a": torch.tensor([True, False])})})
    torch.testing.assert_close(found["b"][:, :2], other["b"][:, :2])
    assert not torch.allclose(found["b"][:, 2:], other["b"][:, 2:], atol=1e-3)
    plain = x[1:]
    for block in layers:
        plain = block(plain, causal=True)
    torch.testing.assert_close(found["b"][1:], plain)  # nothing is visible in the second row
    assert not torch.allclose(found["b"][0], side_by_side(layers, {}, {"b": Asked(x[:1], {})})["b"][0], atol=1e-3)


@torch.no_grad()
def test_a_row_that_is_absent_stays_finite_and_is_seen_by_none() -> None:
    layers = blocks()
    a = Given(given(2, 3, 1).tokens, torch.tensor([[True] * 3, [False] * 3]))
    x = given(2, 4, 2).tokens
    seen = Asked(x, {"a": torch.tensor([True, True])})
    found = side_by_side(layers, {"a": a}, {"b": seen})
    assert bool(found["b"].isfinite().all())
    alone = side_by_side(layers, {}, {"b": Asked(x, {})})
    torch.testing.assert_close(found["b"][1], alone["b"][1])


@torch.no_grad()
def test_a_still_stretch_is_seen_in_every_block_as_it_is() -> None:
    layers = blocks()
    a, x = given(2, 5, 1, real=4), given(2, 3, 2).tokens
    still = Given(a.tokens, a.mask, still=True)
    both = {"a": still, "b": given(2, 2, 4)}
    seen = {n: torch.ones(2, dtype=torch.bool) for n in ("b", "a")}
    found = side_by_side(layers, both, {"c": Asked(x, seen)})
    other, plain = both["b"].tokens, x
    for block in layers:
        q, k, v = (
            t.unflatten(-1, (2, -1)).transpose(1, 2) for t in block.attend_self.qkv(block.norm_self(plain)).chunk(3, -1)
        )
        olds = [block.keys_values(other), block.keys_values(a.tokens[:, :4])]
        keys, values = (torch.cat([*(old[i] for old in olds), new], dim=2) for i, new in enumerate((k, v)))
        count = keys.shape[2]
        allowed = torch.ones(3, count, dtype=torch.bool).tril(count - 3)
        gathered = torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=allowed)
        plain = plain + block.attend_self.out(gathered.transpose(1, 2).flatten(2))
        plain = plain + block.mlp_out(torch.nn.functional.gelu(block.mlp_in(block.norm_mlp(plain))))
        other = block(other)
    torch.testing.assert_close(found["c"], plain)
