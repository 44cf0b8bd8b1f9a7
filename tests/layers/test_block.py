import torch
from torch.nn import functional as F

from intermodal.layers.block import Block, Norms, quick_gelu


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


def test_normalises_after_each_sum_where_it_is_told_to() -> None:
    block = Block(16, 2, norms=Norms(after=True, epsilon=1e-12))
    x = 1e-4 * torch.randn(2, 5, 16)
    middle = F.layer_norm(x + block.attend_self(x), (16,), eps=1e-12)
    expected = F.layer_norm(middle + block.mlp_out(F.gelu(block.mlp_in(middle))), (16,), eps=1e-12)
    torch.testing.assert_close(block(x), expected)


def test_may_attend_to_the_second_stream_alone() -> None:
    block = Block(16, 2, context_width=8, attends_self=False)
    x, context = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    middle = x + block.attend_cross(block.norm_cross(x), None, context)
    expected = middle + block.mlp_out(F.gelu(block.mlp_in(block.norm_mlp(middle))))
    torch.testing.assert_close(block(x, context=context), expected)
    assert not any("self" in name for name, _ in block.named_parameters())


def test_an_absent_second_stream_gives_nothing() -> None:
    block = Block(16, 2, context_width=8)
    x, context = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [False, False, False]])
    found = block(x, context=context, context_mask=mask)
    torch.testing.assert_close(found[1:], block(x[1:], context=9 * context[1:], context_mask=mask[1:]))
    middle = x[1:] + block.attend_self(block.norm_self(x[1:]))
    expected = middle + block.mlp_out(F.gelu(block.mlp_in(block.norm_mlp(middle))))
    torch.testing.assert_close(found[1:], expected)


def test_gates_are_shut_at_first_and_let_through_by_their_tanh() -> None:
    torch.manual_seed(0)
    plain = Block(16, 2, context_width=8, attends_self=False)
    x, context = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    assert not any("gates" in name for name in plain.state_dict())
    before = plain(x, context=context)
    block = plain.gated()
    assert torch.equal(block(x, context=context), x)
    with torch.no_grad():
        block.gates.copy_(torch.tensor([0.5, -0.25]))
    middle = x + torch.tensor(0.5).tanh() * block.attend_cross(block.norm_cross(x), None, context)
    expected = middle + torch.tensor(-0.25).tanh() * block.mlp_out(F.gelu(block.mlp_in(block.norm_mlp(middle))))
    torch.testing.assert_close(block(x, context=context), expected)
    torch.testing.assert_close(block.gated(30.0)(x, context=context), before)  # wide open


def test_a_token_may_see_other_tokens_of_the_second_stream_than_its_neighbour() -> None:
    block = Block(16, 2, context_width=8, attends_self=False)
    x, context = torch.randn(2, 3, 16), torch.randn(2, 4, 8)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).bool().expand(2, -1, -1)
    found = block(x, context=context, context_mask=mask)
    for token, part in ((0, slice(0, 2)), (1, slice(2, 4))):
        alone = block(x[:, token : token + 1], context=context[:, part])
        torch.testing.assert_close(found[:, token : token + 1], alone)
    blind = x[:, 2] + block.mlp_out(F.gelu(block.mlp_in(block.norm_mlp(x[:, 2]))))
    torch.testing.assert_close(found[:, 2], blind)  # who sees nothing gathers nothing
