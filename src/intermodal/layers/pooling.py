"""Tokens to one vector per item: mean, first or last token, or attention by a learned query.

Source of attention pooling: Lee et al. 2019, "Set Transformer", arXiv 1810.00825, section 3.2, with one seed.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.errors import UnknownName
from intermodal.layers.attention import Attention

POOLINGS = ("mean", "first", "last", "attention")


def pool_mean(tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Returns the mean of the real tokens; zero for a row without any."""
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class Pooling(nn.Module):
    """Pools tokens as ``kind`` says."""

    def __init__(self, kind: str, width: int, heads: int = 1) -> None:
        """Builds it; ``heads`` matters to ``attention`` alone.

        Raises:
            UnknownName: ``kind`` is not one of ``POOLINGS``.
        """
        super().__init__()
        if kind not in POOLINGS:
            raise UnknownName("pooling", kind, POOLINGS)
        self.kind = kind
        if kind == "attention":
            self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.attend = Attention(width, heads, context_width=width)

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Returns one vector per row; zero where no token is real."""
        if self.kind == "mean":
            return pool_mean(tokens, mask)
        if self.kind == "attention":
            pooled: Tensor = self.attend(self.query.expand(tokens.shape[0], -1, -1), mask, tokens)[:, 0]
        else:
            places = torch.arange(mask.shape[1], device=mask.device)
            last = (places * mask).amax(dim=1)
            index = last if self.kind == "last" else torch.zeros_like(last)
            pooled = tokens[torch.arange(tokens.shape[0], device=tokens.device), index]
        return pooled * mask.any(dim=1, keepdim=True)
