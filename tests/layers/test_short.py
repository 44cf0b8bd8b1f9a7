"""Attention over short sequences is the product of ``attention.attend``."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.layers.short import attend_rows, attend_short


def parts(queries: int, keys: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q = torch.randn(3, queries, 2, 4, dtype=dtype).transpose(1, 2).requires_grad_()
    k, v = (torch.randn(3, keys, 2, 4, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(2))
    return q, k, v


def seen(keys: int) -> Tensor:
    return (torch.arange(keys) < torch.tensor([keys, 2, 1])[:, None])[:, None, None, :]


@pytest.mark.parametrize("case", ["all", "causal", "masked", "masked and causal", "crossed"])
def test_short_attention_equals_torchs_product_value_and_gradient(case: str) -> None:
    q, k, v = parts(5, 7 if case == "crossed" else 5)
    allowed = seen(5) if "masked" in case else None
    causal = "causal" in case
    square = torch.ones(5, 5, dtype=torch.bool).tril()
    theirs = (allowed & square if causal else allowed) if allowed is not None else None
    given = torch.randn(q.shape)
    found = attend_short(q, k, v, allowed, causal)
    gradients = torch.autograd.grad(found, (q, k, v), given)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=theirs, is_causal=causal and allowed is None)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for a, b in zip(gradients, torch.autograd.grad(wanted, (q, k, v), given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_short_attention_is_that_of_its_value() -> None:
    q, k, v = parts(4, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda *x: attend_short(*x, seen(4), True), (q, k, v))


@pytest.mark.parametrize("causal", [False, True])
def test_rows_of_two_lengths_are_short_attention_of_each_value_and_gradient(causal: bool) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(3 * 5 + 2 * 4 + 3, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    given = torch.randn(len(qkv), 2, 4, dtype=torch.float64)
    found = attend_rows(qkv, [(3, 5), (2, 4)], [seen(5), None], causal)
    (gradient,) = torch.autograd.grad(found, qkv, given)
    wanted = []
    for part, shape, allowed in ((qkv[:15], (3, 5), seen(5)), (qkv[15:23], (2, 4), None)):
        parts = part.unflatten(0, shape).permute(2, 0, 3, 1, 4)
        wanted.append(attend_short(*parts, allowed, causal).transpose(1, 2).flatten(0, 1))
    every = torch.cat([*wanted, torch.zeros(3, 2, 4, dtype=torch.float64)])
    torch.testing.assert_close(found, every)
    torch.testing.assert_close(gradient, torch.autograd.grad(every, qkv, given)[0])
    assert torch.autograd.gradcheck(lambda x: attend_rows(x, [(3, 5), (2, 4)], [seen(5), None], causal), (qkv,))
