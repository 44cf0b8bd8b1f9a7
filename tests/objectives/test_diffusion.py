"""Diffusion: levels of noise, what is told and how it counts, each against its formula."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.diffusion import PREDICTS, SCHEDULES, WEIGHTS, Diffusion, Level, learn, mixed, times

INSIDE = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_grows_from_nothing_to_nearly_all(schedule: str) -> None:
    found = Diffusion(schedule).level(torch.linspace(0, 1, 33))
    torch.testing.assert_close(found.alpha.square() + found.sigma.square(), torch.ones(33))
    assert bool((found.sigma.diff() >= 0).all())
    assert float(found.sigma[0]) < 0.01
    assert float(found.alpha[-1]) < 0.01


def test_schedules_are_those_of_their_papers() -> None:
    cosine = Diffusion("cosine").level(INSIDE)
    torch.testing.assert_close(cosine.alpha, torch.cos(math.pi / 2 * INSIDE))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    known = torch.cumprod(1 - betas, dim=0)  # of Ho et al. 2020, in a thousand steps
    linear = Diffusion("linear").level((torch.arange(1000) + 1) / 1000)
    torch.testing.assert_close(linear.alpha.square().double()[5:800], known[5:800], rtol=0.03, atol=1e-4)


def test_a_shift_adds_noise_at_every_time() -> None:
    plain, shifted = Diffusion().log_snr(INSIDE), Diffusion(shift=0.5).log_snr(INSIDE)
    torch.testing.assert_close(plain - shifted, torch.full_like(INSIDE, 2 * math.log(2)))


def rows(predicts: str, weights: str = "v") -> tuple[Diffusion, torch.Tensor, torch.Tensor, Level]:
    torch.manual_seed(0)
    diffusion = Diffusion(predicts=predicts, weights=weights)
    return diffusion, torch.randn(5, 2, 3), torch.randn(5, 2, 3), diffusion.level(INSIDE, 3)


@pytest.mark.parametrize("predicts", PREDICTS)
def test_who_tells_what_is_wanted_knows_what_is_clean_and_costs_nothing(predicts: str) -> None:
    diffusion, clean, noise, level = rows(predicts)
    x, told = mixed(clean, noise, level), diffusion.wanted(clean, noise, level)
    torch.testing.assert_close(diffusion.clean(told, x, level), clean, atol=1e-5, rtol=1e-4)
    assert float(diffusion.loss(told, clean, noise, level).abs().max()) == 0.0


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_error_counts_the_same_whatever_is_told(weights: str) -> None:
    """The same mistake about what is clean, said in three ways; and the weight of it is that of the formula."""
    found = []
    for predicts in PREDICTS:
        diffusion, clean, noise, level = rows(predicts, weights)
        wrong = clean + 0.1
        x = mixed(clean, noise, level)
        inside = (x - level.alpha * wrong) / level.sigma  # the noise that would be in x if that were right
        found.append(diffusion.loss(diffusion.wanted(wrong, inside, level), clean, noise, level))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[0], found[2], rtol=1e-3, atol=1e-6)
    snr = 1 / torch.tan(math.pi / 2 * INSIDE).square()
    counts = {"clean": torch.ones(5), "noise": snr, "v": (snr + 1).clamp(max=5), "min_snr": snr.clamp(max=5)}
    torch.testing.assert_close(found[0], 0.01 * counts[weights], rtol=1e-3, atol=1e-6)


def test_times_are_spread_evenly_in_any_order() -> None:
    torch.manual_seed(1)
    found = times(64, torch.device("cpu"))
    assert bool(((found >= 0) & (found < 1)).all())
    torch.testing.assert_close(found.sort().values.diff(), torch.full((63,), 1 / 64), atol=1e-5, rtol=0)
    assert not torch.equal(found, found.sort().values)
    assert not torch.equal(found, times(64, torch.device("cpu")))


def test_learning_asks_about_mixtures_of_what_is_clean() -> None:
    clean = torch.full((400, 2), 3.0)
    seen: list[torch.Tensor] = []

    def tell(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.extend((x, t))
        return torch.zeros_like(x)

    torch.manual_seed(0)
    cost = learn(Diffusion(weights="clean"), tell, clean)
    assert float(cost) == pytest.approx(9.0)
    x, t = seen
    level = Diffusion().level(t, 2)
    inside = (x - level.alpha * 3.0) / level.sigma
    usual = inside[(t > 0.2) & (t < 0.95)]
    assert abs(float(usual.mean())) < 0.15
    assert float(usual.std()) == pytest.approx(1.0, abs=0.1)


def test_numbers_that_cannot_be_are_refused() -> None:
    changes: list[dict[str, Any]] = [{"schedule": "x"}, {"predicts": "x"}, {"weights": "x"}]
    for change in changes:
        with pytest.raises(UnknownName, match="named 'x'; use one of"):
            replace(Diffusion(), **change)
    numbers: list[dict[str, Any]] = [{"shift": 0.0}, {"most": 0.0}]
    for change in numbers:
        with pytest.raises(InvalidValue, match="are above 0"):
            replace(Diffusion(), **change)
