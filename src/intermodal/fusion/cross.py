"""Cross-attention, directed both ways: the tokens of each field ask those of all the others.

Follows: Tsai et al. 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences" (MulT), arXiv
1906.00295, section 3; with two fields it is the co-attention of Lu et al. 2019, "ViLBERT", arXiv 1908.02265, figure 2b.
Changed: a field asks all others at once, in one attention, where MulT has a stack of blocks for each ordered pair, so
that the cost grows with the fields and not with their square; asking reads the others after the layer below, as in
ViLBERT, where MulT reads their first tokens in every layer. A block also attends to its own field.
"""

from collections.abc import Mapping

import torch
from torch import nn

from intermodal.fusion import FusionConfig, Projected, vectors
from intermodal.layers.block import Block
from intermodal.layers.pooling import pool_mean
from intermodal.types import Encoded


class Cross(nn.Module):
    """Blocks per field with the others as their second sequence, then the mean of the fields that are there."""

    def __init__(self, fields: Projected, config: FusionConfig) -> None:
        """Builds ``depth`` layers of one block per field."""
        super().__init__()
        self.width = config.width
        self.fields = fields
        names = list(fields.maps)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: Block(config.width, config.heads, dropout=config.dropout, context_width=config.width)
                    for name in names
                }
            )
            for _ in range(config.depth)
        )
        # Who is alone asks this: a row of a second sequence without any real token would not be masked at all.
        self.nobody = nn.Parameter(torch.randn(config.width) * 0.02)
        self.joins = nn.ModuleDict({name: nn.Linear(config.width, config.width) for name in names})
        self.norm = nn.LayerNorm(config.width)

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns all tokens, field after field, and the vector."""
        parts = self.fields(encoded)
        tokens = {name: part.tokens for name, part in parts.items()}
        masks = {name: part.mask for name, part in parts.items()}
        some = next(iter(tokens.values()))
        nobody = self.nobody.to(some.dtype).expand(len(some), 1, -1)
        always = torch.ones(len(some), 1, dtype=torch.bool, device=some.device)
        for layer in self.layers:
            before = dict(tokens)
            for name, block in layer.items():  # type: ignore[operator]
                context = torch.cat((nobody, *(x for other, x in before.items() if other != name)), dim=1)
                seen = torch.cat((always, *(m for other, m in masks.items() if other != name)), dim=1)
                tokens[name] = block(before[name], masks[name], context, seen)
        joined = {
            name: Encoded(x, masks[name], self.joins[name](pool_mean(x, masks[name]))) for name, x in tokens.items()
        }
        each, present = vectors(joined)
        mean = (each * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
        return Encoded(torch.cat(list(tokens.values()), dim=1), torch.cat(list(masks.values()), dim=1), self.norm(mean))


def build(config: FusionConfig, widths: Mapping[str, int]) -> Cross:
    """Returns the fusion of fields of these widths, with fresh weights."""
    return Cross(Projected(widths, config.width, config.placeholder), config)
