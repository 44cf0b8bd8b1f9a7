import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.layers import attention
from intermodal.layers.attention import Attention, attend_short


def oracle(layer: Attention, width: int, heads: int) -> nn.MultiheadAttention:
    """Torch's own layer with the same weights."""
    other = nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        if layer.context_width is None:
            other.in_proj_weight.copy_(layer.qkv.weight)
            other.in_proj_bias.copy_(layer.qkv.bias)
        else:
            other.in_proj_weight.copy_(torch.cat((layer.q.weight, layer.kv.weight)))
            other.in_proj_bias.copy_(torch.cat((layer.q.bias, layer.kv.bias)))
        other.out_proj.weight.copy_(layer.out.weight)
        other.out_proj.bias.copy_(layer.out.bias)
    return other


@pytest.mark.parametrize("crossed", [False, True])
def test_equals_torchs_layer_with_padding(crossed: bool) -> None:
    layer = Attention(24, 3, context_width=24 if crossed else None)
    x, context = torch.randn(4, 5, 24), torch.randn(4, 7, 24)
    keys = context if crossed else x
    mask = torch.rand(keys.shape[:2]) < 0.7
    mask[:, 0] = True
    expected, _ = oracle(layer, 24, 3)(x, keys, keys, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(layer(x, mask, context if crossed else None), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_causal_tokens_never_see_what_follows(padded: bool) -> None:
    layer = Attention(16, 2)
    x = torch.randn(2, 6, 16)
    mask = torch.ones(2, 6, dtype=torch.bool) if padded else None
    before = layer(x, mask, causal=True)
    x[:, 4:] = torch.randn(2, 2, 16)
    after = layer(x, mask, causal=True)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_row_without_real_tokens_is_finite_and_has_finite_gradient() -> None:
    layer = Attention(16, 2)
    x = torch.randn(2, 3, 16, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    layer(x, mask).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_training_in_bf16_stays_close_to_fp32() -> None:
    layer = Attention(32, 4)
    x = torch.randn(3, 9, 32, requires_grad=True)
    full = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = layer(x)
    cosine = torch.nn.functional.cosine_similarity(full.flatten(), reduced.float().flatten(), dim=0)
    assert float(cosine.detach()) > 0.999


def test_width_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(InvalidValue, match="width 10 .* 3 heads"):
        Attention(10, 3)


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


def test_bf16_training_takes_it_and_stays_near_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attend, x = Attention(32, 4), torch.randn(6, 9, 32)
    mask = torch.arange(9) < torch.tensor([9, 3, 5, 1, 9, 0])[:, None]
    taken = []
    monkeypatch.setattr(attention, "attend_short", lambda *a: taken.append(1) or attend_short(*a))

    def gradient(bf16: bool, longest: int) -> tuple[Tensor, Tensor]:
        monkeypatch.setattr(attention, "LONGEST", longest)
        attend.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = attend(x, mask)
        (y.float() * mask[..., None]).square().sum().backward()
        return y.detach().float(), attend.qkv.weight.grad.clone()

    wanted = gradient(False, 256)
    assert not taken
    for longest, times in ((256, 1), (8, 1)):
        for a, b in zip(gradient(True, longest), wanted, strict=True):
            assert float((a - b).norm() / b.norm()) < 0.02
        assert len(taken) == times


def test_a_mask_for_each_token_equals_attending_to_those_alone() -> None:
    layer = Attention(16, 2, context_width=8)
    x, context = torch.randn(2, 3, 16), torch.randn(2, 5, 8)
    mask = torch.rand(2, 3, 5) < 0.5
    mask[..., 0] = True
    found = layer(x, mask, context)
    for row in range(2):
        for token in range(3):
            seen = context[row : row + 1, mask[row, token]]
            torch.testing.assert_close(found[row, token], layer(x[row : row + 1, token : token + 1], None, seen)[0, 0])
