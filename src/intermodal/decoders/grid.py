"""Tokens back to a media grid: what ``layers/stem.py`` does, the other way round.

``PatchDecoder`` paints each patch by one matrix product. ``ConvolutionDecoder`` unfolds a token into a few coarse
cells, doubles the grid by 3- or 4-wide transposed convolutions, and paints small patches at the end; it mirrors
``ConvolutionStem`` step by step. Whatever lies beyond a mask is zero before every convolution, so that padding never
reaches a real cell.

Source: transposed convolutions as in Dumoulin and Visin 2016, arXiv 1603.07285, chapter 4; a kernel that the stride
divides, so that every cell is painted equally often (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.stem import convolved, steps
from intermodal.types import Grid


def unpatched(cut: Shaped[Tensor, "B ..."], patch: Sequence[int]) -> Shaped[Tensor, "B C ..."]:
    """Returns the grid ``(B, C, *grid)`` that ``layers.stem.patches`` cuts into ``(B, *token_grid, C * cells)``."""
    rank = len(patch)
    x = cut.reshape(*cut.shape[:-1], -1, *patch)  # (B, *token_grid, C, *patch)
    order = [0, rank + 1, *(axis for i in range(rank) for axis in (1 + i, rank + 2 + i))]
    sizes = [n * p for n, p in zip(cut.shape[1:-1], patch, strict=True)]
    return x.permute(order).reshape(len(cut), -1, *sizes)


class PatchDecoder(nn.Module):
    """Vectors to patches by one matrix product."""

    def __init__(self, layout: Grid, width: int) -> None:
        """Builds the product."""
        super().__init__()
        self.patch = layout.patch
        self.paint = nn.Linear(width, layout.channels * math.prod(layout.patch))

    def forward(
        self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], grid: Sequence[int]
    ) -> Float[Tensor, "B C ..."]:
        """Returns the media grid; ``grid`` is that of the tokens, which come in row-major order."""
        return unpatched(self.paint(tokens).unflatten(1, tuple(grid)), self.patch)


class ConvolutionDecoder(nn.Module):
    """A token to a few cells, then transposed convolutions that double the grid, then small patches as one product.

    Axes that the last patches already cover are not convolved (they are folded into the batch), as in the stem.
    """

    def __init__(self, layout: Grid, width: int, first: Sequence[int], channels: Sequence[int]) -> None:
        """Builds the steps of the stem that the same numbers build, from the last to the first.

        Args:
            layout: of what is painted; its patch is what one token covers.
            width: D.
            first: cells of the small patches at the end, per axis; each divides the layout's patch.
            channels: width before the small patches, then of each coarser grid.
        """
        super().__init__()
        self.first = tuple(first)
        self.active, strides, self.rest = steps(layout, first, len(channels) - 1)
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(self.active) - 1]
        norms: list[nn.Module] = []
        convolutions: list[nn.Module] = []
        for (fine, coarse), stride in zip(pairwise(channels), strides, strict=True):
            norms.append(nn.LayerNorm(coarse))
            convolutions.append(kind(coarse, fine, tuple(2 + step for step in stride), stride, 1))  # type: ignore[arg-type]
        self.norms, self.convolutions = nn.ModuleList(norms[::-1]), nn.ModuleList(convolutions[::-1])
        self.project = nn.Linear(width, channels[-1] * math.prod(self.rest))
        self.norm = nn.LayerNorm(channels[0])
        self.paint = nn.Linear(channels[0], layout.channels * math.prod(first))

    def forward(
        self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], grid: Sequence[int]
    ) -> Float[Tensor, "B C ..."]:
        """Returns the media grid; what lies beyond the mask means nothing.

        Args:
            tokens: in row-major order.
            mask: True where a token is real.
            grid: of the tokens.
        """
        cells = unpatched(self.project(tokens).unflatten(1, tuple(grid)), self.rest).movedim(1, -1)
        x = convolved(
            cells, mask.reshape(len(mask), *grid), self.active, zip(self.norms, self.convolutions, strict=True)
        )
        return unpatched(self.paint(F.gelu(self.norm(x))), self.first)


def grid_decoder(layout: Grid, width: int, first: Sequence[int] = (), channels: Sequence[int] = ()) -> nn.Module:
    """Returns what paints a layout: patches, or convolutions where ``channels`` are given."""
    return ConvolutionDecoder(layout, width, first, channels) if channels else PatchDecoder(layout, width)
