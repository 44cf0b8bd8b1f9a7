"""Where a token stands: one vector per place and axis, added up over the axes of a grid, or one vector per cell.

Sources: learned, Devlin et al. 2018, arXiv 1810.04805; sines, Vaswani et al. 2017, arXiv 1706.03762, section 3.5; one
vector per cell, Dosovitskiy et al. 2020, arXiv 2010.11929. Simplified: by default a grid's position is the sum of its
axes' vectors, so that a 3-D grid needs no table of its product.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intermodal.errors import InvalidValue


def sines(count: int, width: int, device: torch.device) -> Float[Tensor, "T D"]:
    """Returns sines and cosines of ``count`` places in geometric wavelengths from 2 pi to 20,000 pi places."""
    half = (width + 1) // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=device) / max(half - 1, 1))
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :width]


class Positions(nn.Module):
    """Position vectors of a grid: an axis of known size gets a learned table, an open one (0) gets scaled sines."""

    def __init__(self, width: int, sizes: Sequence[int], per_cell: bool = False) -> None:
        """Builds one table or gain per axis.

        Args:
            width: D.
            sizes: places along each axis of the token grid; 0 where there is no limit.
            per_cell: one table over all cells of the grid instead of one per axis; every axis then needs a size, and
                only the first may be shorter in use.

        Raises:
            InvalidValue: ``per_cell`` with an axis without limit.
        """
        super().__init__()
        self.width = width
        self.sizes = tuple(sizes)
        self.per_cell = per_cell
        if per_cell:
            if 0 in self.sizes:
                raise InvalidValue(f"positions per cell need a size for every axis, not {self.sizes}")
            self.cells = nn.Parameter(torch.randn(math.prod(self.sizes), width) * 0.02)
            return
        self.axes = nn.ParameterList(
            nn.Parameter(torch.randn(size, width) * 0.02 if size else torch.full((1,), 0.1)) for size in self.sizes
        )

    def forward(self, grid: Sequence[int]) -> Float[Tensor, "T D"]:
        """Returns one vector per token of a grid of that size, in row-major order.

        Raises:
            InvalidValue: the grid is larger than an axis that was built with a limit.
        """
        if self.per_cell:
            return self._of_cells(tuple(grid))
        total: Tensor | None = None
        for axis, (count, size, table) in enumerate(zip(grid, self.sizes, self.axes, strict=True)):
            if size and count > size:
                raise InvalidValue(
                    f"{count} tokens along axis {axis} are more than the {size} that this model has positions for; "
                    "cut the input or build the model with more"
                )
            vectors = table[:count] if size else table * sines(count, self.width, table.device)
            shape = [1] * len(self.sizes)
            shape[axis] = count
            shaped = vectors.view(*shape, self.width)
            total = shaped if total is None else total + shaped
        if total is None:
            raise InvalidValue("positions need at least one axis")
        return total.flatten(0, -2)

    def _of_cells(self, grid: tuple[int, ...]) -> Float[Tensor, "T D"]:
        """Returns the first rows of the table of cells; only the first axis may be shorter than it was built."""
        if grid[1:] != self.sizes[1:] or grid[0] > self.sizes[0]:
            raise InvalidValue(
                f"a grid of {grid} tokens does not fit this model's positions for {self.sizes}; resize or cut the input"
            )
        return self.cells[: math.prod(grid)]
