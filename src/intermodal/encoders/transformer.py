"""A transformer over the tokens of any layout.

Source: Dosovitskiy et al. 2020, arXiv 2010.11929 (pictures), Devlin et al. 2018, arXiv 1810.04805 (symbols). One class
serves every modality, because the stem is passed in.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.block import Block
from intermodal.layers.pooling import Pooling
from intermodal.layers.positions import Positions
from intermodal.types import Batch, Encoded


class TransformerEncoder(nn.Module):
    """Stem, positions, blocks, normalisation, pooling."""

    def __init__(
        self,
        stem: nn.Module,
        width: int,
        depth: int,
        heads: int,
        sizes: Sequence[int],
        pooling: str = "mean",
        dropout: float = 0.0,
        token_dropout: float = 0.0,
    ) -> None:
        """Builds the encoder.

        Args:
            stem: a module of ``layers/stem.py`` that gives tokens of ``width``.
            width: D.
            depth: blocks.
            heads: attention heads.
            sizes: tokens along each axis of the stem's grid, 0 for an axis without limit.
            pooling: one of ``layers.pooling.POOLINGS``.
            dropout: of each residual branch.
            token_dropout: share of the tokens that are left out while training, each drawn by itself (FLIP, Li et al.
                2022, arXiv 2212.00794, masks patches so); at least one is kept.
        """
        super().__init__()
        self.width = width
        self.stem = stem
        self.positions = Positions(width, sizes)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = Pooling(pooling, width, heads)
        self.token_dropout = token_dropout

    def forward(self, batch: Batch) -> Encoded:
        """Returns tokens, mask and pooled vectors."""
        x, grid = self.stem(batch)
        x = x + self.positions(grid)
        real = self._kept(batch.mask)
        mask = None if bool(real.all()) else real
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return Encoded(x, batch.mask, self.pool(x, real))

    def _kept(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Returns the mask, in training without the tokens that are dropped."""
        if not (self.training and self.token_dropout):
            return mask
        draw = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
        best = F.one_hot(draw.argmax(dim=1), mask.shape[1]).bool()  # kept whatever it is: no row loses all its tokens
        return mask & ((draw >= self.token_dropout) | best)
