"""The perceiver resampler: as few tokens as there are learned queries, from however many tokens of however many frames.

Source: Alayrac et al. 2022, arXiv 2204.14198, section 2.1 and figure 5, after Jaegle et al. 2021, arXiv 2103.03206:
queries attend to what was seen and to themselves, then think; a frame has a vector of its time. Changed: what was seen
is normalised once, and each place of a frame has a vector too, since small encoders tell little of where they look.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intermodal.errors import InvalidValue
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions


class Resampler(nn.Module):
    """Queries, the vectors of times and places, and blocks."""

    def __init__(
        self, features: int, places: int, width: int, queries: int, depth: int, heads: int, frames: int = 1
    ) -> None:
        """Builds it.

        Args:
            features: numbers of a token that was seen.
            places: tokens of a frame.
            width: of the tokens that it gives.
            queries: how many tokens it gives.
            depth: blocks.
            heads: of each block.
            frames: at most.

        Raises:
            InvalidValue: a number below 1.
        """
        super().__init__()
        if min(features, places, width, queries, depth, frames) < 1:
            raise InvalidValue(
                f"features {features}, places {places}, width {width}, queries {queries}, depth {depth} and frames "
                f"{frames} of a resampler are at least 1; change the one that is not"
            )
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.norm_in = nn.LayerNorm(features)
        self.project = nn.Linear(features, width)
        self.places = Positions(width, (frames, places))
        self.blocks = nn.ModuleList(Block(width, heads, context_width=width, attends_self=False) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Float[Tensor, "B F S E"]) -> Float[Tensor, "B R D"]:
        """Returns R tokens for each row of F frames of S tokens.

        Raises:
            InvalidValue: more frames, or more tokens of one, than it was built for.
        """
        x = self.project(self.norm_in(seen)).flatten(1, 2) + self.places(tuple(seen.shape[1:3]))
        told: Tensor = self.queries.to(x.dtype).expand(len(x), -1, -1)
        for block in self.blocks:
            told = block(told, context=torch.cat((x, told), dim=1))
        normed: Tensor = self.norm(told)
        return normed
