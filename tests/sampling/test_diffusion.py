"""Drawing by diffusion, where everything is known: of normal data what is clean in a mixture has a closed form."""

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.diffusion import Diffusion, Level, mixed
from intermodal.sampling.diffusion import (
    SOLVERS,
    Drawing,
    Drawn,
    Noise,
    ddim,
    dpm,
    draw,
    guided,
    inverted,
    kept,
    slerp,
)

MEAN, SPREAD = 2.0, 0.5
COSINE = Diffusion()
CPU = torch.device("cpu")


def exact(x: Tensor, t: Tensor) -> Tensor:
    """Returns the expectation of what is clean in mixtures of normal data with ``MEAN`` and ``SPREAD``."""
    level = COSINE.level(t, x.dim())
    power = (level.alpha * SPREAD).square()
    share = power / (power + level.sigma.square())
    return (1 - share) * MEAN + share * x / level.alpha


def last(drawing: Drawing, x: Tensor, clean: Any = exact) -> Tensor:
    *_, end = draw(clean, COSINE, drawing, x, Noise(7, range(len(x)), CPU))
    return end.clean


@pytest.mark.parametrize("solver", SOLVERS)
def test_normal_data_come_out_with_their_mean_and_spread(solver: str) -> None:
    torch.manual_seed(0)
    found = last(Drawing(solver, 200), torch.randn(1, 2000))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.06)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.08)


def error(solver: str, steps: int) -> float:
    """Returns how far half of a solver's steps end from the exact flow, which keeps the place of each point."""
    torch.manual_seed(0)
    x = torch.randn(50, 1).double()
    line = torch.linspace(1, 0, steps + 1)
    before: tuple[Tensor, Level] | None = None
    first = COSINE.level(line[:1], 2)
    place = (x - first.alpha * MEAN) / ((first.alpha * SPREAD).square() + first.sigma.square()).sqrt()
    then = first
    for step in range(steps // 2):
        now, then = (COSINE.level(line[i : i + 1], 2) for i in (step, step + 1))
        told = exact(x, line[step].expand(len(x)))
        if solver == "dpm":
            x, before = dpm(x, told, before, now, then), (told, now)
        else:
            x = ddim(x, told, now, then, 0.0, None)
    there = then.alpha * MEAN + place * ((then.alpha * SPREAD).square() + then.sigma.square()).sqrt()
    return float((x - there).abs().max())


def test_solvers_converge_and_the_second_order_one_faster() -> None:
    first, second = ([error(solver, steps) for steps in (16, 64)] for solver in ("ddim", "dpm"))
    assert first[1] < first[0] / 2.5
    assert second[1] < second[0] / 4
    assert second[1] < first[1] / 3


def test_ddpm_is_the_posterior_of_its_paper() -> None:
    """Of a step from t to s: mean and variance of s given t and what is clean, by Bayes' rule on normal numbers."""
    now, then = (COSINE.level(torch.tensor([t]), 1) for t in (0.7, 0.6))
    x, clean = torch.tensor([0.3]), torch.tensor([1.5])
    ratio = float(now.alpha / then.alpha)
    between = float(now.sigma) ** 2 - ratio**2 * float(then.sigma) ** 2
    precision = 1 / float(then.sigma) ** 2 + ratio**2 / between
    mean = (float(then.alpha) * 1.5 / float(then.sigma) ** 2 + ratio * 0.3 / between) / precision
    drawn = [float(ddim(x, clean, now, then, 1.0, torch.tensor([n]))) for n in (0.0, 1.0)]
    assert drawn[0] == pytest.approx(mean, rel=1e-4)
    assert drawn[1] - drawn[0] == pytest.approx(precision**-0.5, rel=1e-4)


def test_a_step_without_noise_keeps_the_noise_that_is_there() -> None:
    now, then = (COSINE.level(torch.tensor([t]), 1) for t in (0.8, 0.4))
    clean, noise = torch.tensor([1.0]), torch.tensor([-0.7])
    x, expected = mixed(clean, noise, now), mixed(clean, noise, then)
    torch.testing.assert_close(ddim(x, clean, now, then, 0.0, None), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(dpm(x, clean, None, now, then), expected, atol=1e-6, rtol=1e-5)


def test_steps_are_counted_timed_and_end_with_what_is_clean() -> None:
    steps = list(draw(exact, COSINE, Drawing("ddim", 5), torch.randn(2, 1), Noise(0, [0, 1], CPU)))
    assert [(one.step, one.steps) for one in steps] == [(i, 5) for i in range(1, 6)]
    assert all(one.steps_per_s > 0 for one in steps)
    assert [one.seconds for one in steps] == sorted(one.seconds for one in steps)
    assert Drawn(4, 8, 2.0, torch.zeros(1)).steps_per_s == 2.0


def test_guidance_goes_further_from_what_is_not_asked_for() -> None:
    asked: list[list[bool]] = []

    def clean(x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        asked.append(known.tolist())
        return torch.where(known[:, None], 3.0, 1.0).expand_as(x)

    x, t = torch.zeros(2, 1), torch.ones(2)
    for guidance, expected in ((0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (0.5, 2.0)):
        assert guided(clean, guidance)(x, t).flatten().tolist() == [expected] * 2
    assert asked == [[False] * 2, [True] * 2, *[[True] * 2, [False] * 2] * 2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_known_stays(solver: str) -> None:
    torch.manual_seed(0)
    known, here = torch.full((3, 4), 9.0), torch.tensor([True, False, False, True]).expand(3, 4)
    found = last(Drawing(solver, 8), torch.randn(3, 4), kept(exact, known, here))
    assert bool((found[here] == 9.0).all())
    assert bool((found[~here] < 5.0).all())


def test_the_noise_of_something_known_leads_back_to_it() -> None:
    torch.manual_seed(0)
    known = MEAN + SPREAD * torch.randn(6, 3)
    noise = inverted(exact, COSINE, 200, known)
    torch.testing.assert_close(last(Drawing("ddim", 200), noise), known, atol=0.05, rtol=0)
    other = inverted(exact, COSINE, 200, known + SPREAD)  # a deviation further in the data is one in the noise
    torch.testing.assert_close(other - noise, torch.ones(6, 3), atol=0.05, rtol=0)


def test_noise_is_of_its_row_alone() -> None:
    many, few = Noise(3, [5, 6, 5], CPU), Noise(3, [6], CPU)
    first, second = many((2, 2)), many((2, 2))
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], few((2, 2))[0])
    assert torch.equal(second[1], few((2, 2))[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], Noise(4, [5], CPU)((2, 2))[0])


def test_between_two_directions_lies_the_great_circle() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    for share in (0.0, 0.25, 1.0):
        angle = share * math.pi / 2
        expected = (2 + 2 * share) * torch.tensor([[math.cos(angle), math.sin(angle)]])
        torch.testing.assert_close(slerp(a, b, share), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    assert bool(slerp(a, -a, 0.5).isfinite().all())
    assert slerp(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), 0.5).shape == (2, 1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"guidance": -1.0}, InvalidValue, "guidance is -1.0; give 1 for none"),
        ({"guidance": math.nan}, InvalidValue, "guidance is nan"),
        ({"steps": 0}, InvalidValue, "steps are 0, at least 1"),
        ({"eta": 1.5}, InvalidValue, "eta is 1.5, 0 to 1"),
        ({"solver": "euler"}, UnknownName, "no solver named 'euler'; use one of: ddim, ddpm, dpm"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        dataclasses.replace(Drawing(), **changes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own
@pytest.mark.parametrize("solver", ["dpm", "ddim"])
def test_steps_are_those_of_diffusers(solver: str) -> None:
    """The same table of levels and the same function: our steps and those of its schedulers go the same way."""
    diffusers = pytest.importorskip("diffusers")
    numbers = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
    if solver == "ddim":
        theirs = diffusers.DDIMScheduler(**numbers, clip_sample=False, set_alpha_to_one=False)
    else:
        theirs = diffusers.DPMSolverMultistepScheduler(**numbers)
    theirs.set_timesteps(10)

    def level(t: int) -> Level:
        power = theirs.alphas_cumprod[t].view(1, 1)
        return Level(power.sqrt(), (1 - power).sqrt())

    torch.manual_seed(0)
    ours = x = torch.randn(4, 3)
    before: tuple[Tensor, Level] | None = None
    steps = theirs.timesteps.tolist()
    for t, after in pairwise(steps):
        now, then = level(t), level(after)
        told, own = (torch.tanh(v) + 0.1 * t / 1000 for v in (x, ours))
        x = theirs.step(told, t, x).prev_sample
        if solver == "dpm":
            ours, before = dpm(ours, own, before, now, then), (own, now)
        else:
            ours = ddim(ours, own, now, then, 0.0, None)
        torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)
