"""WaveNet: no sample sees itself or what follows; drawing by queues is the forward pass; tones are learnt."""

import math

import pytest
import torch

from intermodal.decoders.wavenet import WaveNet, to_ids, to_samples
from intermodal.errors import InvalidValue


def network(condition: int = 0) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet((1, 2, 4, 1, 2), channels=6, skip=8, levels=16, condition=condition).eval()


def test_mu_law_keeps_small_samples_finely_and_comes_back() -> None:
    ids = torch.arange(256)
    assert torch.equal(to_ids(to_samples(ids)), ids)
    samples = torch.linspace(-1, 1, 1001)
    away = (to_samples(to_ids(samples)) - samples).abs()
    assert float(away.max()) < 0.025
    assert float(away[samples.abs() < 0.01].max()) < 0.0005
    assert to_ids(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_a_sample_depends_on_those_before_it_within_reach() -> None:
    model = network()
    assert model.reach == 11
    ids = torch.randint(16, (1, 24))
    base = model(ids)
    assert base.shape == (1, 24, 16)
    for changed in (0, 5, 12):
        other = ids.clone()
        other[0, changed] = (other[0, changed] + 1) % 16
        differs = ((model(other) - base).abs().amax(dim=2)[0] > 1e-7).nonzero()[:, 0].tolist()
        assert differs[0] == changed + 1
        assert differs[-1] == min(23, changed + model.reach)


@pytest.mark.parametrize(("condition", "count"), [(0, 0), (3, 1), (3, 5)])
def test_queues_give_what_the_forward_pass_gives(condition: int, count: int) -> None:
    model = network(condition)
    vectors = torch.randn(2, count, 3) if condition else None
    ids = torch.randint(16, (2, 20))
    whole = model(ids, vectors, 4).detach()
    told = None if vectors is None else model._told(vectors, 20, 4)
    told = None if told is None else told.expand(-1, 20, -1)
    queues, before = model.queues(2), torch.full((2,), 16)
    for place in range(20):
        one = model.step(queues, place, before, None if told is None else told[:, place])
        torch.testing.assert_close(one, whole[:, place], atol=1e-5, rtol=1e-5)
        before = ids[:, place]


def test_what_is_drawn_is_likely_and_depends_on_seed_and_row_alone() -> None:
    model = network()
    greedy = model.drawn(1, 12, temperature=0.0)
    assert torch.equal(model(greedy).argmax(dim=-1), greedy)
    three, one = model.drawn(3, 12, seed=5), model.drawn(1, 12, seed=5)
    assert torch.equal(three[:1], one)
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(model.drawn(1, 12, seed=6), one)


@torch.no_grad()
def test_padding_costs_nothing() -> None:
    model, ids = network(), torch.randint(16, (2, 10))
    mask = torch.arange(10) < torch.tensor([[10], [4]])
    first, second = (model.bits(ids[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool)) for i, n in ((0, 10), (1, 4)))
    torch.testing.assert_close(model.bits(ids, mask), (10 * first + 4 * second) / 14)
    assert float(model.bits(ids, torch.zeros_like(mask))) == 0.0


def test_two_tones_are_learnt_and_told_apart_by_their_vectors() -> None:
    torch.manual_seed(0)
    model = WaveNet((1, 2, 4, 8), channels=16, skip=24, levels=32, condition=2)
    time = torch.arange(96)
    tones = torch.stack([0.8 * torch.sin(2 * math.pi * time / period) for period in (8, 12)])
    ids, vectors = to_ids(tones, 32), torch.eye(2)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = float(model.bits(ids, torch.ones_like(ids, dtype=torch.bool), vectors).detach())
    for _ in range(100):
        optimizer.zero_grad()
        model.bits(ids, torch.ones_like(ids, dtype=torch.bool), vectors).backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert first > 4.5
    assert float(model.bits(ids, torch.ones_like(ids, dtype=torch.bool), vectors).detach()) < 0.5
    made = model.drawn(2, 96, vectors, temperature=0.0)
    assert float((to_samples(made, 32) - tones).abs().mean()) < 0.05


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(InvalidValue, match="takes vectors of width 3; give them"):
        network(3)(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(InvalidValue, match="takes vectors of width 0; give none"):
        network()(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 1, 3))
    with pytest.raises(InvalidValue, match="2 vectors of 3 samples each are too few for 8"):
        network(3)(torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 2, 3), 3)
    with pytest.raises(InvalidValue, match="each of 1 or more"):
        WaveNet((1, 0))
