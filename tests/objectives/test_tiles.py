import math

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from intermodal.objectives import contrastive, tiles
from intermodal.objectives.contrastive import info_nce, sigmoid_loss
from intermodal.objectives.tiles import Logits, Truth, backward, diagonal, forward, holds


def rows(count, width=6, seed=0):
    made = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(made, dim=1)


def even(count):
    share = torch.full((count,), 1 / count, dtype=torch.float64)
    return Truth(share / 2, share / 2, share)


@pytest.mark.parametrize("i", [slice(0, 3), slice(3, 6), slice(2, 9), slice(8, 10)])
@pytest.mark.parametrize("j", [slice(0, 4), slice(4, 8), slice(5, 10)])
def test_diagonal_is_a_view_of_what_lies_in_the_tile(i, j):
    whole = torch.zeros(10, 10)
    found, which = diagonal(whole[i, j], i, j)
    found.fill_(1.0)
    inside = [k for k in range(10) if i.start <= k < i.stop and j.start <= k < j.stop]
    assert whole.nonzero().tolist() == [[k, k] for k in inside]
    assert list(range(10))[which] == inside


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("tile", [(2, 3), (100, 100), (4, 5)])
def test_tiles_make_up_the_logits(monkeypatch, low, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    monkeypatch.setattr(tiles, "HELD", 0)
    a, b = rows(7), rows(11, seed=1)
    logits = Logits(a, b, 9.0, None, low, 2.0)
    found = torch.zeros(7, 11, dtype=torch.float64)
    for i, left, blocks in logits.blocks():
        for j in blocks:
            found[i, j] = logits.tile(left, i, j)
    exact = 9.0 * a @ b.T - 2.0
    torch.testing.assert_close(found, exact, atol=0.1 if low else 1e-12, rtol=0)
    torch.testing.assert_close(found.diagonal(), exact.diagonal())  # always exact
    assert (found - exact).abs().max() > 1e-6 or not low


def test_a_small_matrix_is_held_and_a_chosen_block_is_kept_to():
    a = rows(64)
    assert holds(a, a, None)
    assert not holds(a, a, 64)
    assert not holds(a.expand(64, -1).repeat(128, 1), a.repeat(128, 1), None)
    logits, _ = forward(a, a, 3.0, even(64), None, False)
    assert logits.held is not None
    blocked = Logits(a, a, 3.0, 5, False)
    assert (blocked.height, blocked.width) == (5, 64)


@pytest.mark.parametrize(("scale", "plain"), [(10.0, True), (100.0, True), (1000.0, False)])
def test_sums_are_log_sums_whatever_the_scale(scale, plain):
    a, b = rows(30), rows(30, seed=1)
    logits, sums = forward(a, b, scale, even(30), None, False)
    exact = scale * a @ b.T
    assert sums.plain is plain
    torch.testing.assert_close(sums.rows + logits.shift, exact.logsumexp(dim=1))
    torch.testing.assert_close(sums.columns + logits.shift, exact.logsumexp(dim=0))
    torch.testing.assert_close(sums.weighted + logits.shift, exact.diagonal().mean())


def test_what_plain_sums_lose_is_noticed():
    a = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.01]]), dim=1)
    b = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    logits, sums = forward(a, b, 110.0, Truth(*[torch.full((2,), 0.25)] * 2, torch.full((2,), 0.5)), None, False)
    assert not sums.plain
    assert sums.columns[1].item() + logits.shift == pytest.approx(-110.0 + math.log(2), abs=0.01)


def test_backward_gives_the_gradient_without_the_scale():
    a, b = rows(5).requires_grad_(), rows(5, seed=1).requires_grad_()
    logits = a @ b.T * 4.0
    loss = ((logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()).mean()
    expected = torch.autograd.grad(loss, (a, b))
    made = forward(a.detach(), b.detach(), 4.0, even(5), None, False)
    for needed in ((True, True), (True, False), (False, True)):
        for one, other, asked in zip(backward(*made, even(5), needed), expected, needed, strict=True):
            torch.testing.assert_close(one * 4.0, other if asked else torch.zeros_like(other))


@pytest.mark.parametrize("faster", [False, True])
def test_products_by_either_library_give_the_same(monkeypatch, faster):
    monkeypatch.setattr(tiles, "TILE", (64, 32))
    monkeypatch.setattr(tiles, "HELD", 0)
    monkeypatch.setattr(contrastive, "SMALL", 0)
    monkeypatch.setattr(tiles.runtime, "onednn_is_faster", lambda: faster)
    made = [rows(150, 40).float().requires_grad_(), rows(150, 40, 1).float().requires_grad_(), torch.tensor(9.0)]
    exact = [made[0].detach().double().requires_grad_(), made[1].detach().double().requires_grad_(), 9.0]
    for loss in (lambda x: info_nce(*x), lambda x: sigmoid_loss(*x, -3.0)):
        found, expected = (torch.autograd.grad(loss(x), x[:2]) for x in (made, exact))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


def test_memory_does_not_grow_with_the_square(monkeypatch):
    monkeypatch.setattr(tiles, "TILE", (64, 64))
    monkeypatch.setattr(tiles, "HELD", 64 * 64)
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                largest = max(largest, x.numel() if isinstance(x, torch.Tensor) else 0)
            return out

    count, width = 1000, 4
    for loss in (info_nce, lambda a, b, s: sigmoid_loss(a, b, s, -5.0)):
        for groups in (None, torch.arange(count) // 2):
            made = [rows(count, width).requires_grad_(), rows(count, width, 1).requires_grad_(), torch.tensor(9.0)]
            with Sizes():
                made_loss = info_nce(*made, groups=groups) if groups is not None else loss(*made)
                torch.autograd.grad(made_loss, made[:2])
    assert 64 * 64 <= largest <= max(64 * 64, count * width)
