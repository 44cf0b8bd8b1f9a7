"""Tokens are pooled in their field before fields meet."""

import torch

from intermodal.fusion import FusionConfig
from intermodal.fusion.hierarchical import build
from intermodal.types import Encoded


def given(present: bool = True) -> dict[str, Encoded]:
    a, b = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    return {
        "a": Encoded(a, torch.ones(2, 3, dtype=torch.bool), a.mean(dim=1)),
        "b": Encoded(b, torch.full((2, 2), present), b.mean(dim=1)),
    }


@torch.no_grad()
def test_one_token_comes_out_for_each_field() -> None:
    made = build(FusionConfig("hierarchical", 8, 1, 2), {"a": 4, "b": 4})
    fused = made(given())
    assert fused.mask.tolist() == [[True, True]] * 2
    assert fused.tokens.shape == (2, 2, 8)
    assert made(given(present=False)).mask.tolist() == [[True, False]] * 2


@torch.no_grad()
def test_the_order_of_a_field_s_tokens_does_not_matter_but_which_field_they_are_of_does() -> None:
    made = build(FusionConfig("hierarchical", 8, 1, 2), {"a": 4, "b": 4})
    some = given()
    a, b = some["a"], some["b"]
    turned = Encoded(a.tokens.flip(1), a.mask, a.pooled)
    torch.testing.assert_close(made({"a": turned, "b": b}).pooled, made(some).pooled)
    assert (made({"a": b, "b": a}).pooled - made(some).pooled).abs().max() > 1e-3


@torch.no_grad()
def test_without_any_field_the_vector_is_zero() -> None:
    made = build(FusionConfig("hierarchical", 8, 1, 2), {"b": 4})
    assert (made({"b": given(present=False)["b"]}).pooled == 0).all()
