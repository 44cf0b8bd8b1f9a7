"""What lets causal attention find, after minutes of training, what followed something like this: induction.

To go on from "red ? dapo, blue ? kusi, red ?" a token has to gather what stands in its own text, to look for a text in
which the same stands, and to take what came after. A plain transformer finds these three steps one by one, each useless
without the others, and seems to learn nothing for long. Here each is close from the start, and all of it is learnt on:

- some heads see their own text alone (``sees``),
- the keys of half of the heads begin as those of the token before (``Smear``), so that what is like the token that asks
  is found at the token after it: Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv 2209.11895,
  argument 2 ("smeared keys"),
- queries and keys begin alike (``alike``), so that like finds like: Trockman and Kolter 2023, "Mimetic Initialization
  of Self-Attention Layers", arXiv 2305.09828, there with fitted constants, here with the usual draw times ``SHARP``.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from intermodal.layers.attention import Attention

START = 3.0  # a head begins with 95 % of one of the two keys
SHARP = 2.0  # how much larger queries and keys begin than usual


class Smear(nn.Module):
    """For each head, which share of a key is its own token's; the rest is of the token before."""

    def __init__(self, heads: int) -> None:
        """Builds the numbers whose logistic function the shares are."""
        super().__init__()
        self.own = nn.Parameter(torch.where(torch.arange(heads) < heads // 2, START, -START))

    def forward(
        self, keys: Float[Tensor, "B H S E"], first: Float[Tensor, "B H 1 E"] | None = None
    ) -> Float[Tensor, "B H S E"]:
        """Returns the keys to be looked for.

        Args:
            keys: of tokens that follow each other.
            first: the key before the first of them; ``None`` where there is none: then its own stands for it.
        """
        before = torch.cat((keys[:, :, :1] if first is None else first, keys[:, :, :-1]), dim=2)
        return before.lerp(keys, self.own.sigmoid().to(keys.dtype).view(-1, 1, 1))


def within(heads: int) -> int:
    """Returns how many of the heads, the first ones, see their own text alone: one in four, not a single one."""
    return min(max(1, heads // 4), heads - 1)


def sees(
    asks: Int64[Tensor, "B T"], numbers: Int64[Tensor, "B S"], allowed: Bool[Tensor, "B 1 #T S"], heads: int
) -> Bool[Tensor, "B H T S"]:
    """Returns which tokens each one sees, for each head.

    Args:
        asks: number of the text of each token that asks.
        numbers: that of each token that may be seen.
        allowed: what heads see that are not kept to their own text.
        heads: of the attention.
    """
    own = asks[:, None, :, None] == numbers[:, None, None]
    kept = within(heads)
    wide = allowed.expand(-1, heads - kept, own.shape[2], -1)
    return torch.cat(((own & allowed).expand(-1, kept, -1, -1), wide), dim=1)


@torch.no_grad()
def alike(attention: Attention) -> None:
    """Lets the keys of all heads that see other texts begin as their queries, and both larger."""
    width = attention.out.in_features
    q, k, _ = attention.qkv.weight.chunk(3)
    start = within(attention.heads) * (width // attention.heads)
    q[start:] *= SHARP
    k[start:] = q[start:]
