"""What helps attention to find what followed: shares of keys, heads that see their own text, queries like keys."""

import torch

from intermodal.layers.attention import Attention
from intermodal.layers.induction import SHARP, Smear, alike, sees, within


def test_half_of_the_heads_begin_with_their_own_key_and_half_with_the_one_before() -> None:
    keys = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    found = Smear(4)(keys)
    share = torch.tensor(3.0).sigmoid()
    before = torch.cat((keys[:, :, :1], keys[:, :, :-1]), dim=2)
    torch.testing.assert_close(found[:, :2], share * keys[:, :2] + (1 - share) * before[:, :2])
    torch.testing.assert_close(found[:, 2:], (1 - share) * keys[:, 2:] + share * before[:, 2:])
    torch.testing.assert_close(found[:, :, 0], keys[:, :, 0])


def test_going_on_from_a_known_key_equals_all_at_once() -> None:
    smear = Smear(3)
    keys = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(smear(keys[:, :, 4:], keys[:, :, 3:4]), smear(keys)[:, :, 4:])


def test_the_shares_are_learnt() -> None:
    smear = Smear(2)
    keys = torch.randn(1, 2, 4, 3, generator=torch.Generator().manual_seed(2))
    smear(keys).square().sum().backward()
    assert smear.own.grad is not None
    assert bool((smear.own.grad != 0).all())


def test_one_head_in_four_sees_its_own_text_alone() -> None:
    assert [within(heads) for heads in (1, 2, 4, 8, 16)] == [0, 1, 1, 2, 4]
    numbers = torch.tensor([[0, 0, 1, 1]])
    causal = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    found = sees(numbers, numbers, causal, 4)
    assert found.shape == (1, 4, 4, 4)
    assert found[0, 0].tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, True, True],
    ]
    assert bool((found[0, 1:] == causal[0]).all())


def test_keys_of_heads_that_see_all_begin_as_queries() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4)
    usual = attention.qkv.weight.detach().clone()
    alike(attention)
    q, k, v = attention.qkv.weight.detach().split(16)
    assert torch.equal(q[4:], SHARP * usual[4:16])
    assert torch.equal(k[4:], q[4:])
    assert torch.equal(q[:4], usual[:4])
    assert torch.equal(k[:4], usual[16:20])
    assert torch.equal(v, usual[32:])
