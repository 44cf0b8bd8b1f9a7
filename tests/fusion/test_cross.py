"""Cross-attention goes both ways, and to others only where there are any."""

import torch

from intermodal.fusion import FusionConfig
from intermodal.fusion.cross import build
from intermodal.types import Encoded


def one(rows: torch.Tensor, there: bool = True) -> Encoded:
    return Encoded(rows, torch.full(rows.shape[:2], there), rows.mean(dim=1))


@torch.no_grad()
def test_tokens_of_each_field_change_with_the_other_field() -> None:
    made = build(FusionConfig("cross", 8, 1, 2), {"a": 4, "b": 4})
    a, b = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    before = made({"a": one(a), "b": one(b)}).tokens
    other_b = made({"a": one(a), "b": one(b + 1)}).tokens
    other_a = made({"a": one(a + 1), "b": one(b)}).tokens
    assert ((other_b - before)[:, :3].abs().amax(dim=-1) > 1e-5).all()
    assert ((other_a - before)[:, 3:].abs().amax(dim=-1) > 1e-5).all()


@torch.no_grad()
def test_it_is_a_block_whose_context_is_nobody_and_the_other_field() -> None:
    made = build(FusionConfig("cross", 8, 1, 2), {"a": 4, "b": 4})
    a, b = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    x, y = made.fields.maps["a"](a), made.fields.maps["b"](b)
    context = torch.cat((made.nobody.expand(2, 1, -1), y), dim=1)
    expected = made.layers[0]["a"](x, context=context)  # type: ignore[index]
    torch.testing.assert_close(made({"a": one(a), "b": one(b)}).tokens[:, :3], expected)


@torch.no_grad()
def test_who_is_alone_asks_nobody() -> None:
    made = build(FusionConfig("cross", 8, 1, 2), {"a": 4, "b": 4})
    a, b = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    x = made.fields.maps["a"](a)
    expected = made.layers[0]["a"](x, context=made.nobody.expand(2, 1, -1))  # type: ignore[index]
    fused = made({"a": one(a), "b": one(b, there=False)})
    torch.testing.assert_close(fused.tokens[:, :3], expected)
    torch.testing.assert_close(fused.pooled, made.norm(made.joins["a"](expected.mean(dim=1))))
