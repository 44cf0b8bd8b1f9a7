"""Heads that take what an encoder says of an item to a vector of another width: a product, or one layer between.

Tokens may be looked at too: learned queries gather them, each by its own softmax, beside what was pooled already.

Source of the queries: Lee et al. 2019, "Set Transformer", arXiv 1810.00825, section 3.2. Changed: a query weighs the
tokens themselves, without products for keys and values before it, since the product after it takes all that is
gathered; over long rows of wide tokens that is what makes it cheap.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.types import Encoded


@dataclass(frozen=True)
class Said:
    """What an encoder says of items, where ``Encoded`` cannot hold it: the pooled vector has a width of its own.

    Attributes:
        tokens: one vector per token.
        mask: True where a token is real.
        pooled: one vector per item: that of every layer, or of several crops, side by side.
    """

    tokens: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    pooled: Float[Tensor, "B E"]


class Gather(nn.Module):
    """Tokens to a few weighted means of them, side by side."""

    def __init__(self, width: int, queries: int) -> None:
        """Builds the queries, which begin as all but plain means."""
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """Returns E = queries times D numbers per row; zero for a row without any token."""
        scale = tokens.shape[2] ** -0.5
        logits = F.layer_norm(tokens, tokens.shape[2:]) @ self.queries.T * scale
        logits = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min)
        weights = logits.softmax(dim=1) * mask[..., None]
        return torch.einsum("btq,btd->bqd", weights, tokens).flatten(1)


class Projection(nn.Module):
    """What an encoder says of an item to one vector of length 1."""

    def __init__(
        self,
        pooled_width: int,
        tokens_width: int,
        width: int,
        hidden: int = 0,
        dropout: float = 0.0,
        queries: int = 0,
    ) -> None:
        """Builds the head.

        Args:
            pooled_width: of the pooled vectors that come in.
            tokens_width: of the tokens that come in.
            width: of what comes out.
            hidden: numbers between; 0 for one product alone.
            dropout: share of the numbers that come in, the same of all rows of a batch, that training leaves out.
            queries: that gather the tokens; 0 to look at the pooled vector alone.
        """
        super().__init__()
        self.gather = Gather(tokens_width, queries) if queries else None
        known = pooled_width + queries * tokens_width
        self.drop = nn.Dropout(dropout)
        self.first = nn.Linear(known, hidden) if hidden else None
        self.norm = nn.LayerNorm(hidden) if hidden else nn.LayerNorm(known, elementwise_affine=False)
        self.last = nn.Linear(hidden or known, width)

    def forward(self, encoded: Encoded | Said) -> Float[Tensor, "B D"]:
        """Returns one unit vector per row."""
        x = encoded.pooled
        if self.gather is not None:
            x = torch.cat((x, self.gather(encoded.tokens, encoded.mask)), dim=1)
        x = self.norm(x) if self.first is None else x
        if self.training and self.drop.p:  # a number per column: drawing millions takes as long as all else
            x = x * self.drop(x.new_ones(x.shape[1]))
        if self.first is not None:
            x = F.gelu(self.norm(self.first(x)))
        made: Tensor = F.normalize(self.last(x).float(), dim=-1)
        return made
