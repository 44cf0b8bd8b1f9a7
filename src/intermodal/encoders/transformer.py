"""A transformer over the tokens of any layout.

Source: Dosovitskiy et al. 2020, arXiv 2010.11929 (pictures), Devlin et al. 2018, arXiv 1810.04805 (symbols); causal,
with a normalisation before the first block and a class token as in CLIP, arXiv 2103.00020. One class serves every
modality, because its parts are passed in.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
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
        positions: Positions,
        blocks: Sequence[Block],
        pool: Pooling,
        token_dropout: float = 0.0,
        class_token: bool = False,
        norm_first: bool = False,
        causal: bool = False,
    ) -> None:
        """Assembles the encoder.

        Args:
            stem: a module of ``layers/stem.py`` that gives tokens as wide as the positions.
            positions: of the stem's grid.
            blocks: one per layer.
            pool: tokens to one vector.
            token_dropout: share of the tokens that are left out while training, each drawn by itself (FLIP, Li et al.
                2022, arXiv 2212.00794, masks patches so); at least one is kept.
            class_token: a learned token stands before all others, and in what is returned too.
            norm_first: also normalise what enters the first block.
            causal: each token sees only itself and those before it.
        """
        super().__init__()
        self.width = positions.width
        self.stem = stem
        self.positions = positions
        self.first_token = nn.Parameter(torch.randn(self.width) * 0.02) if class_token else None
        self.norm_in = nn.LayerNorm(self.width) if norm_first else None
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(self.width)
        self.pool = pool
        self.token_dropout = token_dropout
        self.causal = causal

    def forward(self, batch: Batch) -> Encoded:
        """Returns tokens, mask and pooled vectors."""
        x, grid = self.stem(batch)
        x = x + self.positions(grid)
        real = self._kept(batch.mask)
        mask = batch.mask
        if self.first_token is not None:
            x = torch.cat((self.first_token.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
            real, mask = (torch.cat((m.any(dim=1, keepdim=True), m), dim=1) for m in (real, mask))
        if self.norm_in is not None:
            x = self.norm_in(x)
        x = self._through(x, real)
        return Encoded(x, mask, self.pool(x, real))

    def _through(self, x: Float[Tensor, "B T D"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Returns the tokens after all blocks and the normalisation.

        What stands behind all real tokens of a row is seen by none of them where the attention is causal, so the usual
        padding needs no mask there.
        """
        needless = bool(real.all()) or (self.causal and bool((real[:, 1:] <= real[:, :-1]).all()))
        for block in self.blocks:
            x = block(x, None if needless else real, causal=self.causal)
        normed: Tensor = self.norm(x)
        return normed

    def _kept(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Returns the mask, in training without the tokens that are dropped."""
        if not (self.training and self.token_dropout):
            return mask
        draw = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
        best = F.one_hot(draw.argmax(dim=1), mask.shape[1]).bool()  # kept whatever it is: no row loses all its tokens
        return mask & ((draw >= self.token_dropout) | best)
