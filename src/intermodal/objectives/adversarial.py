"""What a generator and its adversary learn from each other, and what a Gaussian latent costs.

One optimizer serves both: what teaches the adversary is computed on media cut off from whoever made them, and what
teaches the maker on an adversary whose weights are held (``decoders.discriminator.held``). The terms can then be added
up, and each weight gets the gradient that is meant for it.

Sources: Goodfellow et al. 2014, arXiv 1406.2661, section 3 (``told_apart``, and ``fooled`` in its non-saturating
form); features of the adversary as the metric of reconstruction, Larsen et al. 2016, arXiv 1512.09300, eq. 7, scaled to
unit length as in Zhang et al. 2018, arXiv 1801.03924; the gradient penalty R1 (Mescheder et al. 2018, arXiv 1801.04406)
by a finite difference instead of a second derivative, Lin et al. 2025, arXiv 2501.08316; the divergence, Kingma and
Welling 2013, arXiv 1312.6114, appendix B.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from intermodal.layers.stem import widen

SHAKE, STEADY = 0.05, 20.0
"""Spread of the noise, for media of about unit spread, and the weight of what it changes."""


def told_apart(real: Float[Tensor, " N"], made: Float[Tensor, " M"], shaken: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Returns the adversary's loss: 2 ln 2 where it cannot tell real from made, and what it changes its mind by.

    Args:
        real: logits of real media.
        made: of made ones.
        shaken: of the real ones with the noise of ``shaken`` added, in the same order.
    """
    steadiness = (real - shaken).float().square().mean()
    return F.softplus(-real.float()).mean() + F.softplus(made.float()).mean() + STEADY * steadiness


def shaken(values: Float[Tensor, "N C ..."]) -> Float[Tensor, "N C ..."]:
    """Returns media with a little noise, which must not change an adversary's mind."""
    return values + SHAKE * torch.randn_like(values)


def fooled(made: Float[Tensor, " M"]) -> Float[Tensor, ""]:
    """Returns the maker's loss on the logits of what it made: low where that is taken for real."""
    return F.softplus(-made.float()).mean()


def feature_distance(
    made: Sequence[Float[Tensor, "B ..."]], wanted: Sequence[Float[Tensor, "B ..."]], mask: Bool[Tensor, "B ..."]
) -> Float[Tensor, ""]:
    """Returns the squared difference of feature vectors of unit length, mean over real cells and layers; 0 to 4.

    Args:
        made: feature grids ``(B, *grid, C)`` of some layers; grids may be finer than the mask.
        wanted: the same of what should have been made.
        mask: token grid ``(B, *grid)``, True where a token is real.
    """
    terms = []
    for one, other in zip(made, wanted, strict=True):
        away = (F.normalize(one.float(), dim=-1) - F.normalize(other.float(), dim=-1)).square().sum(dim=-1)
        real = widen(mask, away.shape[1:]).to(away)
        terms.append((away * real).sum() / real.sum().clamp(min=1))
    return torch.stack(terms).mean()


def squared_error(
    made: Float[Tensor, "B C ..."], wanted: Float[Tensor, "B C ..."], mask: Bool[Tensor, "B ..."]
) -> Float[Tensor, ""]:
    """Returns the mean squared error of real cells; ``mask`` is a token grid, as in ``feature_distance``."""
    error = (made - wanted).square().mean(dim=1)
    real = widen(mask, error.shape[1:]).to(error)
    return (error * real).sum() / real.sum().clamp(min=1)


def divergence(mean: Float[Tensor, "B L"], variance: Float[Tensor, "B L"]) -> Float[Tensor, " B"]:
    """Returns the Kullback-Leibler divergence of each row's Gaussian from the standard normal one, in nats."""
    return 0.5 * (variance + mean.square() - 1 - variance.log()).sum(dim=1)


def surprise(
    z: Float[Tensor, "B L"], mean: Float[Tensor, "B L"], variance: Float[Tensor, "B L"]
) -> Float[Tensor, " B"]:
    """Returns the negative log-density of each row under its Gaussian, in nats."""
    return 0.5 * ((z - mean).square() / variance + variance.log() + math.log(2 * math.pi)).sum(dim=1)
