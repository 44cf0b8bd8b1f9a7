"""A denoiser of pictures: a noisy grid, its time and what it should show, to what is clean in it, or what is noise.

    noisy (and a coarser picture) ─ patches ─┐
    vector ─ something for each patch ───────┤
    vector ─ a few tokens ───────────────────┴─ blocks ─ patches ─ two convolutions ─ told
                 time + vector ─ scale, shift and gate of each ─┘
                 words ─ crossed attention of each ─────────────┘

Source: Peebles and Xie 2022, arXiv 2212.09748, section 3 (DiT, adaLN-Zero). The vector also enters as four tokens, as
in Ramesh et al. 2022, arXiv 2204.06125, section 2.1. Added: each patch begins with what a linear map of its own finds
in the vector (fewer examples to an error: ``docs/log.md``), and two convolutions at the end, which see across the
borders of patches.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.layers.block import Block, crossed
from intermodal.layers.positions import Positions

TOKENS = 4  # of the vector
LOCAL = 16  # numbers that the vector tells each patch of its own
_WAVES = 64  # pairs of them tell the time


@dataclass(frozen=True)
class Stage:
    """The numbers of a denoiser: saved with the model it belongs to.

    Attributes:
        patch: side of the square of cells that is one token.
        width: D of a token.
        depth: blocks.
        heads: of each block.
        painted: channels of the convolutions at the end; 0 for none.
        dropped: share of the vectors that are left out while training, so that guidance can be given.
        learns: share of the rows of a batch that it learns from.
    """

    patch: int = 4
    width: int = 192
    depth: int = 5
    heads: int = 4
    painted: int = 16
    dropped: float = 0.1
    learns: float = 1.0

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name, least in (("patch", 1), ("width", 1), ("depth", 1), ("heads", 1), ("painted", 0)):
            if getattr(self, name) < least:
                raise InvalidValue(f"{name} of a denoiser is {getattr(self, name)}; give at least {least}")
        if not 0 <= self.dropped < 1 or not 0 < self.learns <= 1:
            raise InvalidValue(
                f"dropped {self.dropped} of a denoiser is a share from 0 to below 1, learns {self.learns} is above 0, "
                "at most 1; change the one that is not"
            )


class Time(nn.Module):
    """Times between 0 and 1 to vectors: waves, then two linear maps.

    Source of the waves: Vaswani et al. 2017, arXiv 1706.03762, section 3.5, over the times of Ho et al. 2020.
    """

    def __init__(self, width: int) -> None:
        """Builds the maps."""
        super().__init__()
        self.inward, self.outward = nn.Linear(2 * _WAVES, width), nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Returns a vector for each time."""
        rates = torch.exp(torch.linspace(0.0, math.log(1000.0), _WAVES, device=t.device))
        angles = t.float()[:, None] * rates
        vectors: Tensor = self.outward(F.silu(self.inward(torch.cat((angles.sin(), angles.cos()), dim=1))))
        return vectors


class Modulated(nn.Module):
    """A transformer block whose branches are scaled, shifted and gated by a vector per row; at first it does nothing.

    A second stream, where it was built for one, is gathered from as it is.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        """Builds a block, and what makes six numbers per channel of the vector."""
        super().__init__()
        self.block = Block(width, heads, context_width=context_width)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        condition: Float[Tensor, "B D"],
        context: Float[Tensor, "B S E"] | None = None,
        context_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer."""
        block = self.block
        parts = self.modulate(F.silu(condition))[:, None].chunk(6, dim=-1)
        x = x + parts[2] * block.attend_self(modulated(block.norm_self(x), parts[0], parts[1]))
        if context is not None:
            x = x + crossed(block.attend_cross, block.norm_cross(x), context, context_mask)
        inner = block.activation(block.mlp_in(modulated(block.norm_mlp(x), parts[3], parts[4])))
        after: Tensor = x + parts[5] * block.mlp_out(inner)
        return after


def modulated(
    x: Float[Tensor, "B T D"], shift: Float[Tensor, "B 1 D"], scale: Float[Tensor, "B 1 D"]
) -> Float[Tensor, "B T D"]:
    """Returns tokens scaled and shifted; zeros leave them as they are."""
    return x * (1 + scale) + shift


class Denoiser(nn.Module):
    """A diffusion transformer over the patches of a grid of two axes."""

    def __init__(
        self, stage: Stage, shape: tuple[int, int, int], vector_width: int, given: int = 0, words: int = 0
    ) -> None:
        """Builds all parts.

        Args:
            stage: numbers.
            shape: channels, rows and columns of what is denoised.
            vector_width: of the vector that says what it should show.
            given: channels of a grid that is given beside the noisy one; 0 for none.
            words: width of the tokens of words that it reads; 0 for none.
        """
        super().__init__()
        (channels, rows, columns), patch, width = shape, stage.patch, stage.width
        if rows % patch or columns % patch:
            raise InvalidValue(f"a grid of {rows} x {columns} does not divide into patches of {patch}; change one")
        self.patch, painted = patch, stage.painted
        self.read = nn.Linear((channels + given) * patch**2, width)
        self.places = Positions(width, (rows // patch, columns // patch))
        self.time = Time(width)
        self.told = nn.Linear(vector_width, width)
        self.extra = nn.Linear(vector_width, TOKENS * width)
        self.local = nn.Linear(vector_width, (rows // patch) * (columns // patch) * LOCAL)
        self.widen = nn.Linear(LOCAL, width)
        self.nothing = nn.Parameter(torch.zeros(vector_width))
        self.words = nn.Linear(words, width) if words else None
        self.blocks = nn.ModuleList(Modulated(width, stage.heads, width if words else None) for _ in range(stage.depth))
        self.norm = nn.LayerNorm(width)
        self.modulate = nn.Linear(width, 2 * width)
        self.paint = nn.Linear(width, (painted or channels) * patch**2)
        self.smooth = None
        if painted:
            first = nn.Conv2d(painted + channels, painted, 3, padding=1)
            self.smooth = nn.Sequential(first, nn.GELU(), nn.Conv2d(painted, channels, 3, padding=1))
        last: nn.Module = self.smooth[-1] if self.smooth else self.paint
        for zero in (last.weight, last.bias, self.modulate.weight, self.modulate.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        t: Float[Tensor, " B"],
        vector: Float[Tensor, "B E"],
        known: Bool[Tensor, " B"],
        given: Float[Tensor, "B G H W"] | None = None,
        words: tuple[Float[Tensor, "B S U"], Bool[Tensor, "B S"]] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Returns what is told of each noisy grid.

        Args:
            x: noisy grids.
            t: the time of each.
            vector: what each should show.
            known: where that vector is looked at.
            given: grids beside the noisy ones, if it was built for them.
            words: what each should show, in tokens with their mask, if it was built for them; None for none.
        """
        vector = torch.where(known[:, None], vector, self.nothing.to(vector))
        condition = self.time(t) + self.told(vector)
        grid = F.pixel_unshuffle(x if given is None else torch.cat((x, given), dim=1), self.patch)
        tokens = self.read(grid.flatten(2).transpose(1, 2)) + self.places(grid.shape[2:])
        tokens = tokens + self.widen(self.local(vector).unflatten(1, (-1, LOCAL)))
        tokens = torch.cat((self.extra(vector).unflatten(1, (TOKENS, -1)), tokens), dim=1)
        context, mask = (None, None) if words is None or self.words is None else (self.words(words[0]), words[1])
        for block in self.blocks:
            tokens = block(tokens, condition, context, mask)
        shift, scale = self.modulate(F.silu(condition))[:, None].chunk(2, dim=-1)
        cells = self.paint(modulated(self.norm(tokens[:, TOKENS:]), shift, scale))
        painted: Tensor = F.pixel_shuffle(cells.transpose(1, 2).unflatten(2, grid.shape[2:]), self.patch)
        return painted if self.smooth is None else self.smooth(torch.cat((painted, x.to(painted)), dim=1))
