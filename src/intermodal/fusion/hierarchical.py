"""Hierarchical fusion: the tokens of each field to one vector, then the fields' vectors to one.

Follows: Yang et al. 2016, "Hierarchical Attention Networks for Document Classification", NAACL, section 2.2, with
fields in place of sentences. Changed: a learned query pools by ``layers/pooling.py``, and between the two levels the
fields' vectors attend to each other in transformer blocks, where the paper runs a GRU over a sequence that has an
order; fields have none.
"""

from collections.abc import Mapping

import torch
from torch import nn

from intermodal.fusion import FusionConfig, Projected
from intermodal.layers.block import Block
from intermodal.layers.pooling import Pooling
from intermodal.types import Encoded


class Hierarchical(nn.Module):
    """Attention over tokens in each field, blocks over fields, attention over fields."""

    def __init__(self, fields: Projected, config: FusionConfig) -> None:
        """Builds both levels."""
        super().__init__()
        self.width = config.width
        self.fields = fields
        self.pools = nn.ModuleDict({name: Pooling("attention", config.width, config.heads) for name in fields.maps})
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.pool = Pooling("attention", config.width, config.heads)

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns one token per field, and the vector: zero in a row without any field."""
        parts = self.fields(encoded)
        # What a pool gives is far smaller than the fields' own vectors at first: together they start as means.
        x = torch.stack([part.pooled + self.pools[name](part.tokens, part.mask) for name, part in parts.items()], dim=1)
        mask = torch.stack([part.mask.any(dim=1) for part in parts.values()], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return Encoded(x, mask, self.pool(x, mask))


def build(config: FusionConfig, widths: Mapping[str, int]) -> Hierarchical:
    """Returns the fusion of fields of these widths, with fresh weights."""
    return Hierarchical(Projected(widths, config.width, config.placeholder), config)
