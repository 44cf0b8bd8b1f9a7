"""Experts: their product with the prior against arithmetic, random subsets, and readers beside padding."""

import pytest
import torch

from intermodal.encoders.experts import Reader, Told, drawn, product, subsets
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem
from intermodal.types import Batch, Grid, Symbols


def told(mean: float, precision: float) -> Told:
    nothing = torch.zeros(1, 0)
    return Told(torch.full((1, 2), mean), torch.full((1, 2), precision), nothing, nothing)


def reader() -> Reader:
    torch.manual_seed(0)
    return Reader(stem(Symbols(9), 16), Positions(16, (8,)), [Block(16, 2)], 3, 2).eval()


def test_the_prior_is_a_factor_like_any_other() -> None:
    both = [told(2.0, 3.0), told(-1.0, 1.0)]
    mean, variance = product(both, torch.tensor([[True, True]]))
    assert mean.tolist() == [[1.0, 1.0]]  # (3 * 2 - 1) / (1 + 3 + 1)
    assert variance.tolist() == [[pytest.approx(0.2)] * 2]
    mean, variance = product(both, torch.tensor([[False, True]]))
    assert (mean.tolist(), variance.tolist()) == ([[-0.5, -0.5]], [[0.5, 0.5]])
    mean, variance = product(both, torch.tensor([[False, False]]))
    assert (mean.tolist(), variance.tolist()) == ([[0.0, 0.0]], [[1.0, 1.0]])


def test_what_is_not_chosen_may_be_anything() -> None:
    broken = [told(float("nan"), 1.0), told(1.0, 1.0)]
    mean, _ = product(broken, torch.tensor([[False, True]]))
    assert mean.tolist() == [[0.5, 0.5]]


def test_subsets_are_of_what_is_there_and_never_empty() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [False, True, False], [False, False, False]]).repeat(400, 1)
    chosen = subsets(present)
    assert not bool((chosen & ~present).any())
    assert chosen.any(dim=1).tolist() == present.any(dim=1).tolist()
    found = {tuple(row) for row in chosen[::3].tolist()}
    assert len(found) == 7  # every subset but the empty one


def test_a_reader_is_not_moved_by_padding_or_company() -> None:
    network = reader()
    ids, mask = torch.tensor([[1, 4, 5, 2], [1, 2, 0, 0]]), torch.tensor([[True] * 4, [True, True, False, False]])
    together = network(Batch(ids, mask))
    alone = network(Batch(ids[1:, :2], mask[1:, :2]))
    assert (together.mean.shape, together.style_mean.shape) == ((2, 3), (2, 2))
    for name in ("mean", "precision", "style_mean", "style_variance"):
        torch.testing.assert_close(getattr(together, name)[1:], getattr(alone, name), atol=1e-5, rtol=1e-5)
    assert bool((together.precision > 0).all())
    assert bool((together.style_variance > 0).all())


def test_samples_have_the_spread_asked_for_and_let_gradients_through() -> None:
    torch.manual_seed(0)
    mean, variance = torch.full((4000, 1), 2.0, requires_grad=True), torch.full((4000, 1), 0.25, requires_grad=True)
    z = drawn(mean, variance)
    assert float(z.detach().mean()) == pytest.approx(2.0, abs=0.05)
    assert float(z.detach().std()) == pytest.approx(0.5, abs=0.05)
    z.sum().backward()
    assert mean.grad is not None
    assert variance.grad is not None


def test_media_are_read_through_noise_in_training_alone() -> None:
    torch.manual_seed(0)
    layout = Grid(2, 3, (4, 4))
    network = Reader(stem(layout, 16), Positions(16, (2, 2)), [Block(16, 2)], 3, 2)
    picture = Batch(torch.randn(1, 3, 8, 8), torch.ones(1, 4, dtype=torch.bool))
    once, again = network(picture).mean, network(picture).mean
    assert float((once - again).detach().abs().max()) > 1e-3
    assert network.eval()(picture).mean.equal(network(picture).mean)
