"""A discriminator: is a medium real or made? What it looks at on the way says how far two media are from each other.

    medium ─ small patches ─ convolution ─ ... ─ convolution ─ tokens ─┬─ each token ── mean ─┐
                    │             │                   │                └─ their mean ─────────┴─ logit
                    └─ features ──┴───────────────────┘

Follows: Larsen et al. 2016, arXiv 1512.09300, figure 2 and table 1: strided convolutions whose features are the metric
of reconstruction. Changed: features of every step instead of one; each token is judged beside the whole, as in Isola et
al. 2017, arXiv 1611.07004, section 3.2.2; cells are normalised one by one instead of over the batch, and what lies
beyond a mask is zero before every convolution, so that neither company nor padding matters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.patched import of_merged, of_small
from intermodal.layers.pooling import pool_mean
from intermodal.layers.stem import convolved, steps
from intermodal.types import Grid


@dataclass(frozen=True)
class Judged:
    """What a discriminator finds.

    Attributes:
        logits: of being real.
        features: what it looked at, fine to coarse: grids with channels last.
    """

    logits: Float[Tensor, " B"]
    features: tuple[Float[Tensor, "B ..."], ...]


class Discriminator(nn.Module):
    """Media of one layout to a logit each, and features."""

    def __init__(self, layout: Grid, width: int, first: Sequence[int] = (), channels: Sequence[int] = ()) -> None:
        """Builds the steps of ``layers.stem.ConvolutionStem`` of the same numbers, and two heads.

        Args:
            layout: of what is judged.
            width: D of a token.
            first: cells of the small patches at the start; where there are no channels, a patch is one product.
            channels: width after the first patches, then after each convolution; empty for no convolutions.
        """
        super().__init__()
        self.patch = layout.patch
        self.first = tuple(first) if channels else layout.patch
        widths = tuple(channels) or (width,)
        self.active, self.rest = [0], (1,) * layout.rank
        strides: list[tuple[int, ...]] = []
        if channels:
            self.active, strides, self.rest = steps(layout, first, len(channels) - 1)
        kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.active) - 1]
        self.embed = nn.Linear(layout.channels * math.prod(self.first), widths[0])
        self.norms, self.convolutions = nn.ModuleList(), nn.ModuleList()
        for (before, after), stride in zip(pairwise(widths), strides, strict=True):
            self.norms.append(nn.LayerNorm(before))
            self.convolutions.append(kind(before, after, 3, stride, 1))
        self.norm = nn.LayerNorm(widths[-1])
        self.project = nn.Linear(widths[-1] * math.prod(self.rest), width)
        self.local = nn.Linear(width, 1)
        self.whole = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, values: Float[Tensor, "B C ..."], mask: Bool[Tensor, "B T"]) -> Judged:
        """Returns logits and features; ``mask`` is True where a token is real."""
        tokens = [n // p for n, p in zip(values.shape[2:], self.patch, strict=True)]
        real = mask.reshape(len(mask), *tokens)
        x = of_small(values, self.embed, self.first)
        features = [x]
        for layer in zip(self.norms, self.convolutions, strict=True):
            x = convolved(x, real, self.active, [layer])
            features.append(x)
        found = F.gelu(of_merged(F.gelu(self.norm(x)), self.project, self.rest).flatten(1, -2))
        logits = pool_mean(self.local(found), mask) + self.whole(pool_mean(found, mask))
        return Judged(logits[:, 0].float(), tuple(features))


def held(module: nn.Module) -> Callable[..., Any]:
    """Returns ``module`` as a function that lets gradients through to what it is given, and none to its weights."""
    state = {name: value.detach() for name, value in module.named_parameters()}
    state |= dict(module.named_buffers())

    def call(*given: Any) -> Any:
        return torch.func.functional_call(module, state, given)

    return call
