"""Regions of a picture: what each shows, where it lies, and what a hidden one could be asked for.

A region is a cell of the picture's grid, read by a stem that is trained along, or a vector that somebody's detector
found, followed by the four numbers of its box: a grid of one axis, one cell per region. Boxes are left, top, right,
bottom in shares of the picture. A hidden region is zero before anything is read, so that no neighbour tells of it.

A detector names what it finds; a cell has no name. In place of names stand colours: the shares of a cell's pixels that
lie in each of a few boxes of colour space.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.layers.stem import patches, stem, widen
from intermodal.types import Batch, Grid

BOX = 4


class Regions(nn.Module):
    """What each region shows, as vectors of one width, and its box."""

    def __init__(self, layout: Grid, width: int, first: Sequence[int] = (), channels: Sequence[int] = ()) -> None:
        """Builds the stem.

        Args:
            layout: of pictures, or of given vectors and boxes: rank 1, and the last four channels are the box.
            width: D.
            first: cells of the first patches of the stem of pictures.
            channels: of its convolutions; empty for one product per cell.
        """
        super().__init__()
        self.layout = layout
        self.given = layout.rank == 1
        shown = Grid(1, layout.channels - BOX, layout.patch) if self.given else layout
        self.size = shown.channels * math.prod(shown.patch)
        self.stem = stem(shown, width, first, channels)

    def forward(
        self, batch: Batch, hidden: Bool[Tensor, "B R"] | None = None
    ) -> tuple[Float[Tensor, "B R D"], Float[Tensor, "B R 4"]]:
        """Returns what the regions show, hidden ones as zeros, and their boxes."""
        shown = Batch(batch.values[:, :-BOX], batch.mask) if self.given else batch
        if hidden is not None:
            shown = hide(shown, hidden, self.layout.patch)
        x, grid = self.stem(shown)
        if self.given:
            return x, batch.values[:, -BOX:].transpose(1, 2)
        return x, cell_boxes(grid, x.device).expand(len(x), -1, -1)

    def content(self, batch: Batch) -> Float[Tensor, "B R F"]:
        """Returns the numbers of each region: its pixels, or the vector that is given."""
        values = batch.values[:, :-BOX] if self.given else batch.values
        return patches(values, self.layout.patch).flatten(1, -2)


def hide(batch: Batch, hidden: Bool[Tensor, "B R"], patch: Sequence[int]) -> Batch:
    """Returns a batch of a media grid in which the hidden tokens' cells are zero."""
    tokens = [size // step for size, step in zip(batch.values.shape[2:], patch, strict=True)]
    keep = widen(~hidden.reshape(len(batch), *tokens), batch.values.shape[2:])
    return Batch(batch.values * keep[:, None], batch.mask)


def cell_boxes(grid: Sequence[int], device: torch.device) -> Float[Tensor, "R 4"]:
    """Returns the boxes of the cells of a grid (rows, columns), in row-major order."""
    rows, columns = grid
    top, left = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    edges = torch.stack((left / columns, top / rows, (left + 1) / columns, (top + 1) / rows), dim=-1)
    return edges.flatten(0, 1).to(device)


def colours(
    values: Float[Tensor, "B C H W"],
    patch: Sequence[int],
    levels: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Tensor, "B R K"]:
    """Returns for each cell of a picture the share of its pixels in each of ``levels`` ** C boxes of colour space.

    Args:
        values: pictures in normalised colours.
        patch: rows and columns of a cell.
        levels: that each channel, 0 to 1, is cut into.
        mean: that was taken off.
        std: that was divided by.
    """
    channels = values.shape[1]
    scale, shift = (values.new_tensor(numbers)[:, None, None] for numbers in (std, mean))
    plain = values * scale + shift
    level = (plain * levels).long().clamp(0, levels - 1)
    weights = levels ** torch.arange(channels, device=values.device)
    bins = patches((level * weights[:, None, None]).sum(dim=1, keepdim=True), patch).flatten(1, -2)
    shares = values.new_zeros(*bins.shape[:2], levels**channels)
    return shares.scatter_add_(2, bins, torch.full(bins.shape, 1 / bins.shape[2], device=values.device))
