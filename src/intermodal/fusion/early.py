"""Early fusion: all tokens of all fields in one sequence, through one transformer.

Known as single-stream or joint input. Follows: Li et al. 2019, "VisualBERT", arXiv 1908.03557, figure 2, and the
multimodal transformers of that family. Changed: the blocks normalise first; the fields are told apart by the bias of
their products instead of by segment vectors, which comes to the same. Places in a field are the encoder's matter.
"""

from collections.abc import Mapping

import torch
from torch import nn

from intermodal.fusion import FusionConfig, Projected
from intermodal.layers.block import Block
from intermodal.types import Encoded


class Early(nn.Module):
    """A learned first token, which becomes the vector, then the tokens of every field, through blocks."""

    def __init__(self, fields: Projected, config: FusionConfig) -> None:
        """Builds ``depth`` blocks."""
        super().__init__()
        self.width = config.width
        self.fields = fields
        self.first_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns the joint sequence; its first token, always real, is the vector."""
        parts = list(self.fields(encoded).values())
        first = self.first_token.to(parts[0].tokens.dtype).expand(len(parts[0].mask), 1, -1)
        x = torch.cat((first, *(p.tokens for p in parts)), dim=1)
        mask = torch.cat((torch.ones_like(parts[0].mask[:, :1]), *(p.mask for p in parts)), dim=1)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return Encoded(x, mask, x[:, 0])


def build(config: FusionConfig, widths: Mapping[str, int]) -> Early:
    """Returns the fusion of fields of these widths, with fresh weights."""
    return Early(Projected(widths, config.width, config.placeholder), config)
