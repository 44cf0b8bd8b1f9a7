"""A residual convolutional network over a media grid of one, two or three axes.

Source: He et al. 2015, "Deep Residual Learning", arXiv 1512.03385, with the block order of pre-activation ResNets
(arXiv 1603.05027). Changed: channels are normalised cell by cell (layer norm) instead of over the batch, so that an
item's vector never depends on its neighbours, and what lies beyond a mask is zero before every convolution.
"""

import math
from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.patched import of_merged, of_small
from intermodal.layers.pooling import Pooling
from intermodal.layers.stem import convolved
from intermodal.types import Batch, Encoded, Grid


class Residual(nn.Module):
    """Two 3-wide convolutions beside a straight path; channels last."""

    def __init__(self, channels: int, rank: int) -> None:
        """Builds the two convolutions over ``rank`` axes."""
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.convolutions = nn.ModuleList(kind(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "B ... C"], mask: Bool[Tensor, "B ..."]) -> Float[Tensor, "B ... C"]:
        """Returns the grid after the block; ``mask`` is True where a token of the last, coarsest grid is real."""
        return x + convolved(x, mask, range(x.dim() - 2), zip(self.norms, self.convolutions, strict=True))


class ConvolutionalEncoder(nn.Module):
    """Small patches, then stages of residual blocks between which the grid is halved; a token is one last cell."""

    def __init__(
        self,
        layout: Grid,
        width: int,
        first: Sequence[int],
        channels: Sequence[int],
        depth: int = 1,
        pooling: str = "mean",
    ) -> None:
        """Builds the network.

        Args:
            layout: of the batch; its patch is what one last cell covers.
            width: D.
            first: cells of the first patches, per axis.
            channels: of each stage; between two stages an axis is halved as often as the layout's patch allows.
            depth: residual blocks per stage.
            pooling: one of ``layers.pooling.POOLINGS``.
        """
        super().__init__()
        self.width = width
        self.patch, self.first = layout.patch, tuple(first)
        self.embed = nn.Linear(layout.channels * math.prod(first), channels[0])
        left = [p // f for p, f in zip(layout.patch, first, strict=True)]
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        self.strides: list[tuple[int, ...]] = []
        for i, size in enumerate(channels):
            self.stages.append(nn.ModuleList(Residual(size, layout.rank) for _ in range(depth)))
            last = i == len(channels) - 1
            stride = tuple(left) if last else tuple(2 if n % 2 == 0 else 1 for n in left)
            left = [n // s for n, s in zip(left, stride, strict=True)]
            self.strides.append(stride)
            self.merges.append(nn.Linear(size * math.prod(stride), width if last else channels[i + 1]))
        self.norm = nn.LayerNorm(width)
        self.pool = Pooling(pooling, width)

    def forward(self, batch: Batch) -> Encoded:
        """Returns tokens, mask and pooled vectors."""
        x = of_small(batch.values, self.embed, self.first)
        grid = [n // p for n, p in zip(batch.values.shape[2:], self.patch, strict=True)]
        coarse = batch.mask.reshape(x.shape[0], *grid)
        for stage, merge, stride in zip(self.stages, self.merges, self.strides, strict=True):
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, coarse)
            x = of_merged(x, merge, stride)  # type: ignore[arg-type]
        tokens = self.norm(F.gelu(x).flatten(1, -2))
        return Encoded(tokens, batch.mask, self.pool(tokens, batch.mask))
