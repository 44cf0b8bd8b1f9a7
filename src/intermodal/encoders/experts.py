"""Experts: what each of several fields tells of one latent, and what they tell together.

    batch ─ stem ─ + place ─ blocks ─ mean ─ linear ─┬─ expert: a factor of the latent's distribution
                                                     └─ style: a distribution of what the field has of its own

Every distribution is a Gaussian without correlations. The prior, the standard normal one, is a factor too, so that what
nobody tells of stays as it is.

Sources: products of experts with the prior, Wu and Goodman 2018, arXiv 1802.05335, section 3.1; random subsets in the
place of the mixture over all of them, Sutter et al. 2021, arXiv 2105.02470, eq. 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.layers.block import Block
from intermodal.layers.pooling import pool_mean
from intermodal.layers.positions import Positions
from intermodal.types import Batch

GRAIN = 0.3
"""Spread of the noise on media, of about unit spread themselves, that are read in training.

A maker whose media are to be read as what they were made of then cannot answer by signs too fine to be seen."""

_SURE = (-8.0, 6.0)  # logarithms of precisions lie between


@dataclass(frozen=True)
class Told:
    """What one field tells: a factor of the latent's distribution, and the distribution of its own style."""

    mean: Float[Tensor, "B L"]
    precision: Float[Tensor, "B L"]
    style_mean: Float[Tensor, "B S"]
    style_variance: Float[Tensor, "B S"]


class Reader(nn.Module):
    """Batches of one field to what it tells."""

    def __init__(self, stem: nn.Module, places: Positions, blocks: Sequence[Block], latent: int, style: int) -> None:
        """Assembles built parts of one width, and builds a head for ``latent`` and ``style`` numbers."""
        super().__init__()
        self.stem, self.places, self.blocks = stem, places, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(places.width)
        self.split = (latent, latent, style, style)
        self.head = nn.Linear(places.width, sum(self.split))

    def forward(self, batch: Batch) -> Told:
        """Returns what each row tells; where one is absent it means nothing."""
        if self.training and batch.values.is_floating_point():
            batch = Batch(batch.values + GRAIN * torch.randn_like(batch.values), batch.mask)
        x, grid = self.stem(batch)
        x = x + self.places(grid)
        real = None if bool(batch.mask.all()) else batch.mask
        for block in self.blocks:
            x = block(x, real)
        found = self.head(pool_mean(self.norm(x), batch.mask)).float()
        mean, sure, style, spread = found.split(self.split, dim=1)
        return Told(mean, sure.clamp(*_SURE).exp(), style, (-spread.clamp(*_SURE)).exp())


def product(told: Sequence[Told], chosen: Bool[Tensor, "B M"]) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Returns mean and variance of the prior times the chosen experts of each row; the prior's where none is."""
    precision, weighed = torch.ones_like(told[0].mean), torch.zeros_like(told[0].mean)
    for one, here in zip(told, chosen.T[..., None], strict=True):
        precision = precision + torch.where(here, one.precision, 0.0)
        weighed = weighed + torch.where(here, one.precision * one.mean, 0.0)
    return weighed / precision, 1 / precision


def subsets(present: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
    """Returns for each row a random subset of what is there: each field with even odds, but at least one."""
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
    return present & ((draws < 0.5) | (draws == draws.amin(dim=1, keepdim=True)))


def drawn(mean: Float[Tensor, "B L"], variance: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Returns a sample of each row's Gaussian, through which gradients pass."""
    return mean + variance.sqrt() * torch.randn_like(mean)
