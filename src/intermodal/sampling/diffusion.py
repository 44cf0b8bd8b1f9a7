"""Drawing by diffusion: from noise to what is clean, in a few steps, with or without guidance; and back to the noise.

    noise ─ what is clean in it? ─ a little less noise ─ what is clean in it? ─ ... ─ clean

``ddpm`` draws new noise in every step, ``ddim`` none, ``dpm`` also uses what was told in the step before and so needs
the fewest steps. All of them see the network only through a function that tells what is clean.

What is drawn depends on the seed and on the number of each row alone, never on what else is in the batch.

Sources: Ho et al. 2020, arXiv 2006.11239, eq. 7 (DDPM); Song et al. 2020, arXiv 2010.02502, eq. 12 and 16 (DDIM, of
which DDPM is the form with eta 1); Lu et al. 2022, arXiv 2211.01095, algorithm 2 (DPM-Solver++, multistep, of second
order, its last step of first); Ho and Salimans 2022, arXiv 2207.12598 (guidance without a classifier); inversion:
Dhariwal and Nichol 2021, arXiv 2105.05233, appendix F.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.diffusion import Diffusion, Level, mixed

SOLVERS = ("dpm", "ddim", "ddpm")

Clean = Callable[[Tensor, Tensor], Tensor]
"""Mixtures ``(B, ...)`` and the time of each ``(B,)`` -> what is clean in them."""


@dataclass(frozen=True)
class Drawing:
    """How something is drawn.

    Attributes:
        solver: one of ``SOLVERS``.
        steps: times that the network is asked, twice each where guidance is neither 0 nor 1.
        guidance: 1 draws as it was learnt; above 1 what was asked for counts more, at the price of variety; at 0 it
            does not count at all.
        eta: of ddim, 0 to 1: which share of the noise of ddpm is drawn anew in every step.
        seed: of what is drawn.
    """

    solver: str = "dpm"
    steps: int = 16
    guidance: float = 1.0
    eta: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.solver not in SOLVERS:
            raise UnknownName("solver", self.solver, SOLVERS)
        if not self.guidance >= 0:
            raise InvalidValue(
                f"guidance is {self.guidance}; give 1 for none, more to follow what is asked for more closely, or 0 to "
                "not look at it: nothing is drawn away from it"
            )
        if self.steps < 1 or not 0 <= self.eta <= 1:
            raise InvalidValue(f"steps are {self.steps}, at least 1, and eta is {self.eta}, 0 to 1; change them")


@dataclass(frozen=True)
class Drawn:
    """Where a drawing is.

    Attributes:
        step: steps that are done.
        steps: of all.
        seconds: since the first began.
        clean: what it would be if it ended here.
    """

    step: int
    steps: int
    seconds: float
    clean: Float[Tensor, "B ..."]

    @property
    def steps_per_s(self) -> float:
        """Speed so far, of the whole batch."""
        return self.step / max(self.seconds, 1e-9)


class Noise:
    """Normal numbers, row by row: rows of equal numbers get equal noise."""

    def __init__(self, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        """Begins a stream of noise for each number.

        Args:
            seed: of all of it.
            numbers: of each row.
            device: where it is used; drawn are they on the CPU, so that every device has the same.
        """
        self.numbers, self.device = list(numbers), device
        self._streams = {n: torch.Generator().manual_seed((seed * 1_000_003 + n) % 2**32) for n in self.numbers}

    def __call__(self, shape: Sequence[int]) -> Float[Tensor, "B ..."]:
        """Returns the next noise of each row, which has this shape."""
        rows = {n: torch.randn(*shape, generator=stream) for n, stream in self._streams.items()}
        return torch.stack([rows[n] for n in self.numbers]).to(self.device)


def guided(clean: Callable[[Tensor, Tensor, Bool[Tensor, " B"]], Tensor], guidance: float) -> Clean:
    """Returns a function that tells what is clean with guidance.

    Args:
        clean: tells it, given also in which rows what was asked for may be looked at.
        guidance: see ``Drawing``.
    """

    def told(x: Tensor, t: Tensor) -> Tensor:
        yes, no = torch.ones(len(x), dtype=torch.bool, device=x.device), torch.zeros_like(t, dtype=torch.bool)
        if guidance in (0.0, 1.0):
            return clean(x, t, yes if guidance else no)
        asked, free = clean(x, t, yes), clean(x, t, no)
        return free + guidance * (asked - free)

    return told


def kept(clean: Clean, known: Float[Tensor, "B ..."], here: Bool[Tensor, "B ..."]) -> Clean:
    """Returns a function that tells what is known where it is, and draws the rest to it.

    Source: as in Lugmayr et al. 2022, arXiv 2201.09865, eq. 8, put in before the step instead of after it.
    """
    return lambda x, t: torch.where(here, known, clean(x, t))


def ddim(x: Tensor, clean: Tensor, now: Level, then: Level, eta: float, noise: Tensor | None) -> Tensor:
    """Returns the mixture of the next level; with ``eta`` 1 that is a draw of DDPM.

    Args:
        x: the mixture.
        clean: what is clean in it.
        now: its level.
        then: the next level, of less noise; or, with ``eta`` 0, of more.
        eta: share of the noise that is drawn anew.
        noise: fresh; not needed with ``eta`` 0.
    """
    inside = (x - now.alpha * clean) / now.sigma
    if not eta or noise is None:
        return then.alpha * clean + then.sigma * inside
    fresh = eta * (then.sigma / now.sigma) * (1 - (now.alpha / then.alpha).square()).clamp(min=0).sqrt()
    left = (then.sigma.square() - fresh.square()).clamp(min=0).sqrt()
    return then.alpha * clean + left * inside + fresh * noise


def dpm(x: Tensor, clean: Tensor, before: tuple[Tensor, Level] | None, now: Level, then: Level) -> Tensor:
    """Returns the mixture of the next level by DPM-Solver++ of second order, of first where nothing was told before.

    Args:
        x: the mixture.
        clean: what is clean in it.
        before: what was told in the step before, and at which level.
        now: its level.
        then: the next level.
    """
    step = _half(then) - _half(now)
    if before is not None:
        told, level = before
        clean = clean + (clean - told) * step / (2 * (_half(now) - _half(level)))
    return then.sigma / now.sigma * x - then.alpha * torch.expm1(-step) * clean


def _half(level: Level) -> Tensor:
    """Returns the logarithm of the ratio of the amplitudes of signal and noise."""
    return (level.alpha / level.sigma).log()


def draw(clean: Clean, diffusion: Diffusion, drawing: Drawing, x: Tensor, noise: Noise) -> Iterator[Drawn]:
    """Yields after each step what it would be if it ended there; the last one is the result.

    Args:
        clean: tells what is clean, guidance and all.
        diffusion: that the network has learnt.
        drawing: how.
        x: noise to begin with.
        noise: gives more of it, where the solver draws some in its steps.
    """
    start = time.monotonic()
    before: tuple[Tensor, Level] | None = None
    line = torch.linspace(1, 0, drawing.steps + 1, device=x.device)
    eta = {"ddpm": 1.0, "ddim": drawing.eta, "dpm": 0.0}[drawing.solver]
    for step in range(drawing.steps):
        now, then = (diffusion.level(line[i : i + 1], x.dim()) for i in (step, step + 1))
        told = clean(x, line[step].expand(len(x)))
        yield Drawn(step + 1, drawing.steps, time.monotonic() - start, told)
        if step + 1 == drawing.steps:  # to no noise at all: that is what was told
            return
        if drawing.solver == "dpm":
            x, before = dpm(x, told, before, now, then), (told, now)
        else:
            x = ddim(x, told, now, then, eta, noise(x.shape[1:]) if eta else None)


def inverted(clean: Clean, diffusion: Diffusion, steps: int, known: Tensor) -> Tensor:
    """Returns the noise from which ddim draws what is known: what of it is not told by what was asked for."""
    line = torch.linspace(0, 1, steps + 1, device=known.device)
    x = known
    for step in range(steps):
        now, then = (diffusion.level(line[i : i + 1], x.dim()) for i in (step, step + 1))
        told = clean(x, line[step].expand(len(x))) if step else known
        x = ddim(x if step else mixed(known, torch.zeros_like(known), now), told, now, then, 0.0, None)
    return x


def slerp(a: Float[Tensor, "B ..."], b: Float[Tensor, "B ..."], share: float) -> Float[Tensor, "B ..."]:
    """Returns what lies on the great circle between the rows of both: ``a`` at 0, ``b`` at 1; their lengths mix evenly.

    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    shape = a.shape
    a, b = a.flatten(1), b.flatten(1)
    long_a, long_b = (v.norm(dim=1, keepdim=True).clamp(min=1e-12) for v in (a, b))
    unit_a, unit_b = a / long_a, b / long_b
    angle = torch.atan2((unit_a - unit_b).norm(dim=1, keepdim=True), (unit_a + unit_b).norm(dim=1, keepdim=True)) * 2
    full = angle.sin()
    near = full < 1e-4  # the same direction, or opposite ones, between which no circle is the great one
    first = torch.where(near, torch.full_like(full, 1 - share), ((1 - share) * angle).sin() / full.clamp(min=1e-4))
    second = torch.where(near, torch.full_like(full, share), (share * angle).sin() / full.clamp(min=1e-4))
    between: Tensor = (first * unit_a + second * unit_b) * ((1 - share) * long_a + share * long_b)
    return between.view(shape)
