"""The first layer: a batch of ids or of a media grid to tokens of one width.

``SymbolStem`` looks ids up. ``PatchStem`` cuts a grid into patches and multiplies them by one matrix (Dosovitskiy et
al. 2020, arXiv 2010.11929). ``ConvolutionStem`` reaches the same patches by small steps, which trains much better at
small size (Xiao et al. 2021, "Early convolutions help transformers see better", arXiv 2106.14881). Whatever lies
beyond a mask is zero before every convolution, so that padding never reaches a real token.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.layers.patched import check_cover, of_merged, of_small
from intermodal.types import Batch, Grid, Layout, Symbols


def patches(values: Shaped[Tensor, "B C ..."], patch: Sequence[int]) -> Shaped[Tensor, "B ..."]:
    """Returns ``(B, *token_grid, C * cells)``: the grid ``(B, C, *grid)`` cut into patches."""
    sizes = values.shape[2:]
    check_cover(sizes, patch)
    split = [n for size, step in zip(sizes, patch, strict=True) for n in (size // step, step)]
    x = values.reshape(*values.shape[:2], *split)
    rank = len(sizes)
    order = [0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2)]
    return x.permute(order).flatten(rank + 1)


class SymbolStem(nn.Module):
    """Ids to vectors."""

    def __init__(self, layout: Symbols, width: int) -> None:
        """Builds a table of ``layout.vocab_size`` vectors."""
        super().__init__()
        self.table = nn.Embedding(layout.vocab_size, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "B T D"], tuple[int, ...]]:
        """Returns the tokens and the size of their grid."""
        return self.table(batch.values), (batch.values.shape[1],)


class PatchStem(nn.Module):
    """Patches to vectors by one matrix product."""

    def __init__(self, layout: Grid, width: int) -> None:
        """Builds the product."""
        super().__init__()
        self.patch = layout.patch
        self.project = nn.Linear(layout.channels * math.prod(layout.patch), width)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "B T D"], tuple[int, ...]]:
        """Returns the tokens in row-major order and the size of their grid."""
        cut = patches(batch.values, self.patch)
        return self.project(cut.flatten(1, -2)), tuple(cut.shape[1:-1])


def steps(layout: Grid, first: Sequence[int], count: int) -> tuple[list[int], list[tuple[int, ...]], tuple[int, ...]]:
    """Returns the axes that are convolved, the stride of each of ``count`` convolutions on them, and what is left.

    ``first`` are the cells of small patches; a convolution halves every axis on which an even number of these is still
    missing to the layout's patch.

    Raises:
        InvalidValue: the small patches do not divide the patch, or leave nothing to be covered.
    """
    if len(first) != layout.rank or any(p % f for p, f in zip(layout.patch, first, strict=True)):
        raise InvalidValue(f"small patches {tuple(first)} do not divide the patch {layout.patch} axis by axis")
    left = [p // f for p, f in zip(layout.patch, first, strict=True)]
    active = [i for i, n in enumerate(left) if n > 1]
    if not active:
        raise InvalidValue(f"small patches {tuple(first)} cover the whole patch: use no convolutions then")
    strides = []
    for _ in range(count):
        strides.append(tuple(2 if left[i] % 2 == 0 else 1 for i in active))
        for i, step in zip(active, strides[-1], strict=True):
            left[i] //= step
    return active, strides, tuple(left)


class ConvolutionStem(nn.Module):
    """Small patches, then 3-wide convolutions that halve the grid, then what is left of the patch as one product.

    Axes that the first patches already cover are not convolved (they are folded into the batch), so that a clip whose
    frames are one patch is convolved as a picture.
    """

    def __init__(self, layout: Grid, width: int, first: Sequence[int], channels: Sequence[int]) -> None:
        """Builds the steps.

        Args:
            layout: of the batch; its patch is what all steps together cover.
            width: D.
            first: cells of the small, non-overlapping patches at the start, per axis; each divides the layout's patch.
            channels: width after the first patches, then after each convolution.
        """
        super().__init__()
        self.patch, self.first = layout.patch, tuple(first)
        self.active, strides, self.rest = steps(layout, first, len(channels) - 1)
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.active) - 1]
        self.embed = nn.Linear(layout.channels * math.prod(first), channels[0])
        self.norms, self.convolutions = nn.ModuleList(), nn.ModuleList()
        for (before, after), stride in zip(pairwise(channels), strides, strict=True):
            self.norms.append(nn.LayerNorm(before))
            self.convolutions.append(kind(before, after, 3, stride, 1))  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(channels[-1])
        self.project = nn.Linear(channels[-1] * math.prod(self.rest), width)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "B T D"], tuple[int, ...]]:
        """Returns the tokens in row-major order and the size of their grid."""
        x = of_small(batch.values, self.embed, self.first)  # (B, *grid, C): channels last throughout
        tokens = tuple(n // p for n, p in zip(batch.values.shape[2:], self.patch, strict=True))
        x = convolved(
            x, batch.mask.reshape(x.shape[0], *tokens), self.active, zip(self.norms, self.convolutions, strict=True)
        )
        return of_merged(F.gelu(self.norm(x)), self.project, self.rest).flatten(1, -2), tokens


def convolved(
    x: Float[Tensor, "B ..."],
    mask: Bool[Tensor, "B ..."],
    active: Sequence[int],
    layers: Iterable[tuple[nn.Module, nn.Module]],
) -> Float[Tensor, "B ..."]:
    """Returns a grid ``(B, *grid, C)`` after a normalisation, GELU and a convolution for each of ``layers``.

    What lies beyond ``mask``, ``(B, *token_grid)``, is zero before every convolution. Axes of the grid that are not
    ``active`` are folded into the batch.
    """
    rank = x.dim() - 2
    order = [0, *(1 + i for i in range(rank) if i not in active), *(1 + i for i in active)]
    still = rank - len(active)
    folded = x.permute(*order, rank + 1)
    x = folded.flatten(0, still)
    real = None if bool(mask.all()) else mask.permute(order).flatten(0, still)
    for norm, convolution in layers:
        x = F.gelu(norm(x))
        if real is not None:
            x = x * widen(real, x.shape[1:-1])[..., None]
        x = convolution(x.movedim(-1, 1)).movedim(1, -1)
    x = x.reshape(*folded.shape[: 1 + still], *x.shape[1:])
    return x.permute(*(order.index(i) for i in range(rank + 1)), rank + 1)


def widen(mask: Bool[Tensor, "B ..."], grid: Sequence[int]) -> Bool[Tensor, "B ..."]:
    """Returns a token mask repeated to a finer grid."""
    for axis, size in enumerate(grid, start=1):
        mask = mask.repeat_interleave(size // mask.shape[axis], dim=axis)
    return mask


def stem(layout: Layout, width: int, first: Sequence[int] = (), channels: Sequence[int] = ()) -> nn.Module:
    """Returns a layout's stem: a table for symbols, else patches, or convolutions where ``channels`` are given."""
    if isinstance(layout, Symbols):
        return SymbolStem(layout, width)
    return ConvolutionStem(layout, width, first, channels) if channels else PatchStem(layout, width)
