"""Diffusion: how noise is mixed in over time, what a network is asked to tell, and how much each level of noise counts.

    x = alpha(t) * clean + sigma(t) * noise,    alpha² + sigma² = 1,    t from 0 (clean) to 1 (noise)

Sources: Ho et al. 2020, arXiv 2006.11239 (what is noise is told; the linear schedule), in continuous time as in Song et
al. 2020, arXiv 2011.13456, eq. 32; Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17 (cosine, here without offset);
Salimans and Ho 2022, arXiv 2202.00512 (v, and weights by the ratio of signal to noise); Hang et al. 2023, arXiv
2303.09556 (that ratio, at most 5); Hoogeboom et al. 2023, arXiv 2301.11093, eq. 3 (the shift); Kingma et al. 2021,
arXiv 2107.00630, appendix I.1 (times spread evenly over a batch). Left out: learned variances.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from intermodal.errors import InvalidValue, UnknownName

SCHEDULES = ("cosine", "linear")
PREDICTS = ("clean", "noise", "v")
WEIGHTS = ("clean", "noise", "v", "min_snr")
_LOG_SNR = 15.0  # beyond that in either direction nothing is left to tell, in fp32
_BETAS = (0.1, 20.0)  # of the linear schedule, at t = 0 and 1


@dataclass(frozen=True)
class Level:
    """How much of both is in a mixture.

    Attributes:
        alpha: of what is clean, above 0.
        sigma: of noise, above 0; the squares of both add up to 1.
    """

    alpha: Float[Tensor, "*B"]
    sigma: Float[Tensor, "*B"]

    @property
    def snr(self) -> Float[Tensor, "*B"]:
        """Ratio of signal to noise, in power."""
        return (self.alpha / self.sigma).square()


@dataclass(frozen=True)
class Diffusion:
    """The numbers of a diffusion: saved with the model it belongs to.

    Attributes:
        schedule: one of ``SCHEDULES``.
        shift: below 1 for more noise at every time but the ends; for grids with much redundancy.
        predicts: what the network tells, one of ``PREDICTS``. Patches with many cells want ``clean`` (Li and He 2025,
            arXiv 2511.13720).
        weights: the error counts as if this were told, one of ``WEIGHTS``; whatever is told, the best answer is the
            same, only which levels of noise are learnt first is not.
        most: the largest weight of a squared error of what is clean, except for ``noise``.
    """

    schedule: str = "cosine"
    shift: float = 1.0
    predicts: str = "clean"
    weights: str = "v"
    most: float = 5.0

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name, value, known in (
            ("schedule of a diffusion", self.schedule, SCHEDULES),
            ("prediction of a diffusion", self.predicts, PREDICTS),
            ("weights of a diffusion", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise UnknownName(name, value, known)
        if self.shift <= 0 or self.most <= 0:
            raise InvalidValue(f"shift {self.shift} and most {self.most} of a diffusion are above 0; change them")

    def log_snr(self, t: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Returns the logarithm of the ratio of signal to noise at times 0 to 1, between -15 and 15."""
        if self.schedule == "cosine":
            found = -2 * torch.log(torch.tan(math.pi / 2 * t.clamp(1e-4, 1 - 1e-4)))
        else:
            low, high = _BETAS
            lost = (t.square() * (high - low) / 2 + t * low).clamp(min=1e-7)  # minus the logarithm of alpha squared
            found = -torch.log(torch.expm1(lost))
        return (found + 2 * math.log(self.shift)).clamp(-_LOG_SNR, _LOG_SNR)

    def level(self, t: Float[Tensor, " B"], dims: int = 1) -> Level:
        """Returns the level of noise at each time, shaped to multiply tensors of so many dimensions."""
        found = self.log_snr(t.float()).view(-1, *[1] * (dims - 1))
        return Level(found.sigmoid().sqrt(), (-found).sigmoid().sqrt())

    def wanted(self, clean: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], level: Level) -> Tensor:
        """Returns what the network should tell of a mixture."""
        if self.predicts == "clean":
            return clean
        return noise if self.predicts == "noise" else level.alpha * noise - level.sigma * clean

    def clean(self, told: Float[Tensor, "B ..."], x: Float[Tensor, "B ..."], level: Level) -> Tensor:
        """Returns what is clean in a mixture ``x``, of which the network told that."""
        if self.predicts == "clean":
            return told
        if self.predicts == "noise":
            return (x - level.sigma * told) / level.alpha
        return level.alpha * x - level.sigma * told

    def weight(self, level: Level) -> Float[Tensor, "*B"]:
        """Returns how much a squared error of what is told counts."""
        snr = level.snr
        counts = {"clean": torch.ones_like(snr), "noise": snr, "v": snr + 1, "min_snr": snr}[self.weights]
        if self.weights != "noise":
            counts = counts.clamp(max=self.most)
        away = {"clean": torch.ones_like(snr), "noise": 1 / snr, "v": 1 / (snr + 1)}[self.predicts]
        return counts * away  # an error of what is told, as an error of what is clean

    def loss(
        self,
        told: Float[Tensor, "B ..."],
        clean: Float[Tensor, "B ..."],
        noise: Float[Tensor, "B ..."],
        level: Level,
    ) -> Float[Tensor, " B"]:
        """Returns the weighed mean squared error of what was told of each row's mixture."""
        error = F.mse_loss(told.float(), self.wanted(clean, noise, level), reduction="none")
        return (self.weight(level) * error).flatten(1).mean(dim=1)


def mixed(clean: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], level: Level) -> Float[Tensor, "B ..."]:
    """Returns what is clean, with noise of that level."""
    return level.alpha * clean + level.sigma * noise


def learn(diffusion: Diffusion, tell: Callable[[Tensor, Tensor], Tensor], clean: Tensor) -> Float[Tensor, ""]:
    """Returns the mean loss of what a network tells of the rows of ``clean``, each with drawn noise at a drawn time.

    Args:
        diffusion: what is learnt.
        tell: mixtures and the time of each -> what the network tells.
        clean: one row each.
    """
    t, noise = times(len(clean), clean.device), torch.randn_like(clean)
    level = diffusion.level(t, clean.dim())
    return diffusion.loss(tell(mixed(clean, noise, level), t), clean, noise, level).mean()


def times(count: int, device: torch.device) -> Float[Tensor, " B"]:
    """Returns so many times between 0 and 1 for a batch, evenly apart from a drawn start, in drawn order."""
    start = torch.rand((), device=device)
    places = torch.randperm(count, device=device)
    return (start + places) / count % 1.0
