import torch
from torch.nn import functional as F

from intermodal.layers.block import Block, quick_gelu


def test_is_the_pre_norm_residual_formula() -> None:
    block = Block(16, 2)
    x = torch.randn(2, 5, 16)
    middle = x + block.attend_self(block.norm_self(x))
    expected = middle + block.mlp_out(F.gelu(block.mlp_in(block.norm_mlp(middle))))
    torch.testing.assert_close(block(x), expected)


def test_second_stream_matters_only_where_it_is_given_and_not_padding() -> None:
    block = Block(16, 2, context_width=8)
    x, context = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    with_context = block(x, context=context, context_mask=mask)
    assert not torch.allclose(with_context, block(x))
    changed = torch.where(mask[..., None], context, torch.randn(2, 3, 8))
    torch.testing.assert_close(block(x, context=changed, context_mask=mask), with_context)


def test_quick_gelu_is_near_gelu() -> None:
    x = torch.linspace(-4, 4, 101)
    assert float((quick_gelu(x) - F.gelu(x)).abs().max()) < 0.03
