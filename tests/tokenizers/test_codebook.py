"""Vectors to ids and back, each quantizer against what its paper says."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from intermodal.config import from_dict, override, to_dict
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName
from intermodal.tokenizers.codebook import FSQ, QUANTIZERS, VQ, Codebook, Gumbel, usage

WIDTH = 6


def built(quantizer: str, groups: int = 2) -> nn.Module:
    return Codebook(quantizer, (3, 4), groups).build(WIDTH)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_values_of_the_ids_are_the_values(quantizer: str) -> None:
    made = built(quantizer).train()
    z = torch.randn(3, 5, WIDTH)
    made(z)  # VQ fills its table while training
    found = made.eval()(z)
    assert found.values.shape == (3, 5, WIDTH)
    assert found.ids.shape == (3, 5, 2)
    assert found.ids.dtype == torch.int64
    assert int(found.ids.min()) >= 0
    assert int(found.ids.max()) < made.codes == 12
    torch.testing.assert_close(made.values(found.ids), found.values)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_gradient_goes_through(quantizer: str) -> None:
    made = built(quantizer).train()
    z = torch.randn(3, 5, WIDTH, requires_grad=True)
    found = made(z)
    (found.values.sum() + found.loss).backward()
    assert z.grad is not None
    assert float(z.grad.abs().min()) > 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in made.parameters())


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_padding_changes_no_real_id_and_no_state(quantizer: str) -> None:
    z = torch.randn(2, 4, WIDTH)
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    wild = torch.where(mask[..., None], z, 1e3 * torch.randn_like(z))
    results = []
    for values in (z, wild):
        torch.manual_seed(0)
        made = built(quantizer).train()
        found = made(values, mask)
        results.append((found.ids[mask], found.loss, *made.state_dict().values()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("levels", [(2,), (3, 3), (8, 5, 5, 5), (4, 4, 4, 4), (7, 2, 3)])
def test_fsq_ids_and_codes_are_a_bijection(levels: tuple[int, ...]) -> None:
    made = FSQ(WIDTH, levels, groups=2)
    ids = torch.arange(made.codes).reshape(1, -1, 1).expand(-1, -1, 2)
    whole = made.whole_of(ids)
    assert len(torch.unique(whole[0, :, 0], dim=0)) == made.codes == math.prod(levels)
    for i, count in enumerate(levels):
        assert sorted(set(whole[..., i].flatten().tolist())) == [n - count // 2 for n in range(count)]
    assert bool((made.ids_of(whole) == ids).all())


def test_fsq_reaches_every_level_and_rounds_to_the_nearest() -> None:
    made = FSQ(1, (5, 4))
    nn.init.ones_(made.inward.weight)
    nn.init.zeros_(made.inward.bias)
    z = torch.linspace(-4, 4, 201).reshape(1, -1, 1)
    ids = made(z).ids[0, :, 0]
    whole = made.whole_of(ids[None, :, None])[0, :, 0]
    assert sorted(set(whole[:, 0].tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set(whole[:, 1].tolist())) == [-2, -1, 0, 1]
    assert bool((whole.diff(dim=0) >= 0).all())
    # the paper's equation 1, for an odd number of levels
    np.testing.assert_array_equal(whole[:, 0], np.round(2 * 1.001 * np.tanh(z[0, :, 0].numpy())))


def test_fsq_gradient_is_that_of_the_bound_alone() -> None:
    made = FSQ(1, (5,))
    for layer in (made.inward, made.outward):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    z = torch.tensor([[[0.3]]], requires_grad=True)
    made(z).values.sum().backward()
    expected = 2 * 1.001 * (1 - math.tanh(0.3) ** 2) / 2
    assert z.grad is not None
    assert float(z.grad) == pytest.approx(expected, rel=1e-4)


def test_vq_follows_the_means_as_a_loop_does() -> None:
    made = VQ(WIDTH, codes=5, groups=2, code_width=3).train()
    made.chosen.fill_(4.0)  # nothing is dead
    table, chosen = made.table.numpy().copy().astype(np.float64), made.chosen.numpy().copy().astype(np.float64)
    for step in range(6):
        z = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(step))
        vectors = made.inward(z).detach().reshape(14, 2, 3).numpy().astype(np.float64)
        ids = made(z).ids.reshape(14, 2).numpy()
        for g in range(2):
            nearest = [int(np.argmin([((v - c) ** 2).sum() for c in table[g]])) for v in vectors[:, g]]
            assert ids[:, g].tolist() == nearest
            sums = table[g] * chosen[g][:, None]
            for k in range(5):
                own = [v for v, i in zip(vectors[:, g], nearest, strict=True) if i == k]
                sums[k] = 0.99 * sums[k] + 0.01 * sum(own, np.zeros(3))
                chosen[g, k] = 0.99 * chosen[g, k] + 0.01 * len(own)
                table[g, k] = sums[k] / chosen[g, k]
        np.testing.assert_allclose(made.table.numpy(), table, atol=1e-5)
        np.testing.assert_allclose(made.chosen.numpy(), chosen, atol=1e-5)


def test_vq_puts_dead_codes_where_something_is() -> None:
    made = VQ(WIDTH, codes=4, code_width=2).train()
    made.chosen.copy_(torch.tensor([[50.0, 50.0, 0.0, 50.0]]))
    made.table[0, 2] = 1e4
    z = torch.randn(2, 8, WIDTH)
    before = made.table.clone()
    made(z)
    vectors = made.inward(z).detach().reshape(-1, 2)
    assert float(made.chosen[0, 2]) > 1
    assert float((made.table[0, 2] - vectors).norm(dim=1).min()) < 1.0
    moved = (made.table - before).abs().amax(dim=2)[0]
    assert float(moved[[0, 1, 3]].max()) < 0.1
    table = made.table.clone()
    made.eval()(torch.randn(2, 8, WIDTH))
    assert bool((made.table == table).all())


def test_vq_uses_all_codes_from_a_bad_start() -> None:
    made = VQ(WIDTH, codes=16, code_width=2).train()
    made.table.fill_(100.0)
    z = torch.randn(8, 32, WIDTH)
    for _ in range(50):
        made(z)
    assert usage(made.eval()(z).ids.flatten(0, 1), 16)["share_used"] == 1.0


def test_vq_loss_is_the_commitment() -> None:
    made = VQ(WIDTH, codes=4, code_width=2).train()
    z = torch.randn(2, 8, WIDTH)
    made(z)
    found = made.eval()(z)
    away = (made.inward(z) - made.table[0][found.ids[..., 0]]).detach()
    assert float(found.loss.detach()) == pytest.approx(0.25 * float(away.square().mean()), rel=1e-4)


def test_gumbel_is_hard_and_the_same_each_time_when_not_training() -> None:
    made = built("gumbel").train()
    z = torch.randn(2, 5, WIDTH)
    a, b = made(z).values, made(z).values
    assert not torch.allclose(a, b)
    made.eval()
    a, b = made(z), made(z)
    assert bool((a.values == b.values).all())
    assert bool((a.ids == made.inward(z).unflatten(-1, (2, 12)).argmax(dim=-1)).all())


def test_gumbel_cools_along_a_cosine_while_training() -> None:
    made = Gumbel(WIDTH, 8, anneal_steps=4)
    z = torch.randn(1, 2, WIDTH)
    seen = []
    for _ in range(6):
        seen.append(made.temperature)
        made.train()(z)
        made.eval()(z)
    assert seen[0] == 1.0
    assert seen[2] == pytest.approx((1 + 1 / 16) / 2)
    assert seen[4:] == [1 / 16, 1 / 16]
    assert sorted(seen, reverse=True) == seen


def test_gumbel_loss_is_the_divergence_from_even_use() -> None:
    made = Gumbel(WIDTH, 8)
    nn.init.zeros_(made.inward.weight)
    nn.init.zeros_(made.inward.bias)
    assert float(made(torch.randn(1, 3, WIDTH)).loss.detach()) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        made.inward.bias[3] = 100.0
    assert float(made(torch.randn(1, 3, WIDTH)).loss.detach()) == pytest.approx(1e-3 * math.log(8), rel=1e-4)


def test_usage_counts_codes_and_how_evenly_they_are_used() -> None:
    assert usage(torch.tensor([[0], [1], [2], [3]]), 8) == {"share_used": 0.5, "perplexity": pytest.approx(4.0)}
    assert usage(torch.tensor([[5, 0], [5, 1]]), 8) == {"share_used": 0.1875, "perplexity": pytest.approx(1.5)}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"quantizer": "pq"}, UnknownName, "'pq'; use one of: fsq, gumbel, vq"),
        ({"levels": ()}, InvalidValue, "levels are"),
        ({"levels": (8, 1)}, InvalidValue, "2 or more"),
        ({"groups": 0}, InvalidValue, "one group"),
    ],
)
def test_record_refuses_what_cannot_be_built(options: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Codebook(**options)


def test_record_is_saved_and_changed_by_path() -> None:
    record = Codebook("vq", (4, 4), 3, 10)
    saved = to_dict(record)
    assert saved["kind"] == "tokenizers/codebook"
    assert from_dict(Codebook, saved) == record
    assert override(record, {"levels": "5,5", "quantizer": "fsq"}) == Codebook("fsq", (5, 5), 3, 10)
    with pytest.raises(InvalidCheckpoint, match="unknown keys colour"):
        from_dict(Codebook, {**saved, "colour": 1})


def test_numbers_of_fsq_stand_for_their_ids_and_for_whatever_is_nearest() -> None:
    made = FSQ(WIDTH, (3, 4), 2)
    ids = torch.arange(12).repeat(2, 1).T.contiguous()[None]
    numbers = made.numbers(ids)
    assert numbers.shape == (1, 12, 4)
    assert float(numbers.min()) == -1.0
    assert float(numbers.max()) <= 1.0
    assert torch.equal(made.ids_near(numbers), ids)
    assert torch.equal(made.ids_near(numbers + 0.2), ids)
    far = made.ids_near(torch.full((1, 1, 4), 9.0))
    assert torch.equal(far, made.ids_near(numbers.amax(dim=1, keepdim=True)))
    assert int(far.max()) < made.codes
    assert int(made.ids_near(torch.full((1, 1, 4), -9.0)).min()) == 0
