"""A latent vector back to a medium: painted all at once, or written word by word.

    latent ─ linear ─ coarse grid ─ blocks ─ grid decoder ─ medium     latent ─┐
       └──── linear ─ how many positions, where an axis has no size     word ──┴─ + place ─ causal blocks ─ next word

Follows: for media the decoder of Larsen et al. 2016, arXiv 1512.09300, table 1 (a linear map to a coarse grid, then
transposed convolutions), for words that of Bowman et al. 2016, arXiv 1511.06349, figure 1. Changed: transformer blocks,
between which positions agree on what is painted, in the place of normalisation over the batch, and of the recurrence;
the latent is added to every word, so that none is too far from it.

That the linear map has weights of its own for every position matters: with the same vector at all of them plus one per
place, digits took more than twice as many examples to the same error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.decoders.grid import grid_decoder
from intermodal.errors import InvalidValue
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions
from intermodal.types import Preprocessor, Symbols


class Painter(nn.Module):
    """A vector to the grid of a medium."""

    def __init__(
        self, latent: int, blocks: Sequence[Block], width: int, sizes: Sequence[int], paint: nn.Module, longest: int
    ) -> None:
        """Assembles it.

        Args:
            latent: L, numbers of the vector.
            blocks: of that width.
            width: D.
            sizes: of the token grid; 0 for at most one axis, which then has no size.
            paint: of ``decoders/grid.py``: tokens to a medium.
            longest: positions along the axis without a size that are painted at most.
        """
        super().__init__()
        self.sizes, self.longest = tuple(sizes), longest
        self.coarse = tuple(n or longest for n in self.sizes)
        self.spread = nn.Linear(latent, math.prod(self.coarse) * width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.paint = paint
        self.ends = nn.Linear(latent, longest) if self.open is not None else None

    def forward(self, latents: Float[Tensor, "B L"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B C ..."]:
        """Returns one medium per vector, as long as its mask says; beyond that or the longest it means nothing."""
        grid = self.grid(mask.shape[1])
        x = self.spread(latents).unflatten(1, (*self.coarse, -1))
        if self.open is not None and grid[self.open] != self.longest:
            at = torch.arange(grid[self.open], device=x.device).clamp(max=self.longest - 1)
            x = x.index_select(1 + self.open, at)
        x = x.flatten(1, -2)
        real = None if bool(mask.all()) else mask
        for block in self.blocks:
            x = block(x, real)
        painted: Tensor = self.paint(self.norm(x), mask, grid)
        return painted.float()

    def within(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Returns the mask without what lies beyond the longest medium that is painted."""
        if self.open is None:
            return mask
        grid = mask.reshape(len(mask), *self.grid(mask.shape[1]))
        early = torch.arange(mask.shape[1] // self.across, device=mask.device) < self.longest
        shape = [1] * grid.dim()
        shape[1 + self.open] = -1
        return (grid & early.view(shape)).flatten(1)

    def grid(self, positions: int) -> tuple[int, ...]:
        """Returns the token grid that so many positions fill.

        Raises:
            InvalidValue: they fill none.
        """
        found = tuple(n or positions // self.across for n in self.sizes)
        if math.prod(found) != positions:
            raise InvalidValue(f"{positions} positions fill no grid of {self.sizes} (0 is any number)")
        return found

    @property
    def open(self) -> int | None:
        """The axis without a size; None where there is none."""
        return self.sizes.index(0) if 0 in self.sizes else None

    @property
    def across(self) -> int:
        """Positions that stand at each place of the axis without a size."""
        return math.prod(n for n in self.sizes if n)

    def length_loss(self, latents: Float[Tensor, "B L"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Returns how unexpected the lengths in ``mask`` are, in nats; 0 where media have one size."""
        if self.ends is None:
            return latents.new_zeros(())
        steps = (mask.sum(dim=1) // self.across).clamp(1, self.longest)
        return F.cross_entropy(self.ends(latents).float(), steps - 1)

    def steps(self, latents: Float[Tensor, "B L"]) -> Int64[Tensor, " B"]:
        """Returns the likeliest tokens of each medium along the axis without a size; 1 where there is none."""
        if self.ends is None:
            return torch.ones(len(latents), dtype=torch.int64, device=latents.device)
        found: Tensor = self.ends(latents).argmax(dim=1) + 1
        return found

    def mask(self, steps: Int64[Tensor, " B"]) -> Bool[Tensor, "B T"]:
        """Returns where media of these lengths are real."""
        there = torch.arange(int(steps.max()), device=steps.device) < steps[:, None]
        before = self.across if self.open is None else math.prod(self.sizes[: self.open])
        grid = there[:, None, :, None].expand(-1, before, -1, self.across // before)
        return grid.flatten(1)


class Storyteller(nn.Module):
    """A vector to words."""

    def __init__(self, vocab_size: int, latent: int, blocks: Sequence[Block], places: Positions) -> None:
        """Assembles it; ``places`` has a size, the most words that a text has, begin and end included."""
        super().__init__()
        self.spread = nn.Linear(latent, places.width)
        self.table = nn.Embedding(vocab_size, places.width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.places = places
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(places.width)
        self.words = nn.Linear(places.width, vocab_size)

    def forward(self, latents: Float[Tensor, "B L"], ids: Int64[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Returns the logits of the word after each; padding behind the real words changes none of theirs."""
        x = self.table(ids) + self.spread(latents)[:, None] + self.places((ids.shape[1],))
        for block in self.blocks:
            x = block(x, causal=True)
        logits: Tensor = self.words(self.norm(x))
        return logits.float()

    def loss(
        self, latents: Float[Tensor, "B L"], ids: Int64[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """Returns the mean cost of a real word after the first, in nats."""
        cost = F.cross_entropy(self(latents, ids[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none")
        real = mask[:, 1:].to(cost)
        return (cost * real).sum() / real.sum().clamp(min=1)

    def written(
        self, latents: Float[Tensor, "B L"], begin: int, end: int, pad: int, longest: int
    ) -> tuple[Int64[Tensor, "B T"], Float[Tensor, " B"]]:
        """Returns the likeliest next word again and again, and the log-likelihood of all, in nats.

        Args:
            latents: a vector per text.
            begin: id that every text begins with.
            end: id that ends a text; one that does not end in time gets it as its last id.
            pad: id behind the end.
            longest: ids of a text, begin and end included.
        """
        most = min(longest, self.places.sizes[0])
        ids = torch.full((len(latents), 1), begin, device=latents.device)
        total = torch.zeros(len(latents), device=latents.device)
        done = torch.zeros(len(latents), dtype=torch.bool, device=latents.device)
        while ids.shape[1] < most and not bool(done.all()):
            share = self(latents, ids)[:, -1].log_softmax(dim=-1)
            chosen = torch.full_like(ids[:, 0], end) if ids.shape[1] == most - 1 else share.argmax(dim=-1)
            chosen = torch.where(done, pad, chosen)
            total += torch.where(done, 0.0, share.gather(1, chosen[:, None])[:, 0])
            ids = torch.cat((ids, chosen[:, None]), dim=1)
            done |= chosen == end
        return ids, total


@dataclass(frozen=True)
class Medium:
    """How one field is read, made and judged.

    Attributes:
        preprocessor: items to batches and back.
        width: D of a token.
        depth: transformer blocks of the reader, and as many of the maker.
        heads: of each.
        sizes: tokens along each axis, 0 for the one without a size; of a text, the most.
        first: cells of the smallest patches per axis; empty for one product per patch.
        channels: widths of the convolutions, fine to coarse; empty for one product per patch.
        style: numbers that say what this field does not share; a text has none.
        longest: tokens along the axis without a size at most; of longer media the rest is read, not made.
    """

    preprocessor: Preprocessor
    width: int = 128
    depth: int = 2
    heads: int = 4
    sizes: tuple[int, ...] = (0,)
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    style: int = 16
    longest: int = 64

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if isinstance(self.preprocessor.layout, Symbols) and (self.style or 0 in self.sizes):
            raise InvalidValue(
                f"a text has style {self.style} and sizes {self.sizes}; give it style 0 and the most tokens that it has"
            )
        if self.sizes.count(0) > 1:
            raise InvalidValue(f"sizes are {self.sizes}; only one axis may be without a size (0)")
        for name, least in (("width", 1), ("depth", 1), ("heads", 1), ("style", 0), ("longest", 1)):
            if getattr(self, name) < least:
                raise InvalidValue(f"{name} of a medium is {getattr(self, name)}; give at least {least}")

    def blocks(self) -> list[Block]:
        """Returns fresh blocks."""
        return [Block(self.width, self.heads, 2 * self.width) for _ in range(self.depth)]


def maker(medium: Medium, latent: int) -> nn.Module:
    """Returns what makes a medium of ``latent`` shared numbers and those of its style, with fresh weights."""
    layout, width = medium.preprocessor.layout, medium.width
    if isinstance(layout, Symbols):
        return Storyteller(layout.vocab_size, latent, medium.blocks(), Positions(width, medium.sizes))
    paint = grid_decoder(layout, width, medium.first, medium.channels)
    return Painter(latent + medium.style, medium.blocks(), width, medium.sizes, paint, medium.longest)
