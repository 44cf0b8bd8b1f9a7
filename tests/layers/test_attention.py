import pytest
import torch
from torch import Tensor, nn

from intermodal.errors import InvalidValue
from intermodal.layers import attention
from intermodal.layers.attention import Attention
from intermodal.layers.short import attend_rows


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


def test_bf16_training_takes_it_and_stays_near_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attend, x = Attention(32, 4), torch.randn(6, 9, 32)
    mask = torch.arange(9) < torch.tensor([9, 3, 5, 1, 9, 0])[:, None]
    taken = []
    monkeypatch.setattr(attention, "attend_rows", lambda *a: taken.append(1) or attend_rows(*a))

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


@torch.no_grad()
def test_asking_known_keys_and_values_is_attending_to_their_tokens() -> None:
    torch.manual_seed(0)
    attend = Attention(24, 3, context_width=16)
    x, context = torch.randn(4, 5, 24), torch.randn(4, 7, 16)
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]
    torch.testing.assert_close(attend.ask(x, *attend.keys_values(context), mask), attend(x, mask, context))
