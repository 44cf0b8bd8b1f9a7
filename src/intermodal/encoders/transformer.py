"""A transformer over the tokens of any layout.

Source: Dosovitskiy et al. 2020, arXiv 2010.11929 (pictures), Devlin et al. 2018, arXiv 1810.04805 (symbols); causal,
with a normalisation before the first block and a class token as in CLIP, arXiv 2103.00020. One class serves every
modality, because its parts are passed in.

Notable: in training, tokens that are dropped are taken out of the sequences and not merely masked (FLIP, Li et al.
2022, arXiv 2212.00794), and on a CPU rows of similar length go through the blocks together, so that little padding is
computed. Left out of FLIP: its last epoch without dropping.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.errors import InvalidValue
from intermodal.layers.block import Block
from intermodal.layers.grouped import by_length, in_groups, needless
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
            token_dropout: share of each row's real tokens that are left out while training, 0 to below 1; the number
                that is kept is rounded up. What is returned then holds the kept tokens alone, in their order.
            class_token: a learned token stands before all others, and in what is returned too.
            norm_first: also normalise what enters the first block.
            causal: each token sees only itself and those before it.
        """
        super().__init__()
        if not 0 <= token_dropout < 1:
            raise InvalidValue(f"token_dropout is {token_dropout}; give a share from 0 to below 1")
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
        """Returns tokens, mask and pooled vectors; in training without the tokens that are dropped."""
        x, grid = self.stem(batch)
        x = x + self.positions(grid)
        mask = batch.mask
        if self.training and self.token_dropout:
            x, mask = kept(x, mask, self.token_dropout)
        if self.first_token is not None:
            x = torch.cat((self.first_token.to(x.dtype).expand(x.shape[0], 1, -1), x), dim=1)
            mask = torch.cat((mask.any(dim=1, keepdim=True), mask), dim=1)
        if self.norm_in is not None:
            x = self.norm_in(x)
        groups = by_length(mask) if self.training and mask.device.type == "cpu" else []
        if len(groups) > 1:
            return in_groups(self.blocks, self.norm, self.pool, x, mask, groups, self.causal)
        x = self._through(x, mask)
        return Encoded(x, mask, self.pool(x, mask))

    def _through(self, x: Float[Tensor, "B T D"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Returns the tokens after all blocks and the normalisation.

        What stands behind all real tokens of a row is seen by none of them where the attention is causal, so the usual
        padding needs no mask there.
        """
        seen = None if needless(real, self.causal) else real
        for block in self.blocks:
            x = block(x, seen, causal=self.causal)
        normed: Tensor = self.norm(x)
        return normed


def kept(
    x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], dropped: float
) -> tuple[Float[Tensor, "B K D"], Bool[Tensor, "B K"]]:
    """Returns a random choice of each row's real tokens, in their order, and which of the returned ones are real.

    Args:
        x: tokens.
        mask: True where a token is real.
        dropped: share of a row's real tokens that is left out, 0 to below 1. The rest is rounded up, so that a row that
            has tokens keeps one; rows that keep fewer than the longest are padded.
    """
    counts = (mask.sum(dim=1) * (1 - dropped) - 1e-6).ceil()
    place = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0).argsort(dim=1).argsort(dim=1)
    chosen = (place < counts[:, None]) & mask
    order = chosen.byte().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(counts.max()))]
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1])), chosen.gather(1, order)
