"""A transformer over words that reads and writes, and may look at something else while it does; and one over pictures.

    words ─ table + places ─ [ self-attention: of reading, or of writing | looks at what is seen | thinks ] x depth

Reading looks both ways, writing back alone. A layer has a self-attention for each of the two that it is built for; all
else is shared by them. Without anything to look at, a layer goes without looking. What is written an id after the other
is computed by ``remembering.py``, which gives what is given here without computing it anew for each.

Source: Li et al. 2022 (BLIP), arXiv 2201.12086, section 3.1, figure 2 (multimodal mixture of encoder and decoder).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from intermodal.decoders.classification import WordHead
from intermodal.errors import InvalidValue
from intermodal.layers.attention import Attention
from intermodal.layers.block import Block, Norms, added
from intermodal.layers.positions import Positions
from intermodal.types import Batch, Encoded

READS, WRITES = "reads", "writes"


@dataclass(frozen=True)
class Stack:
    """How large a transformer is.

    Attributes:
        width: D of its tokens.
        depth: layers.
        heads: of each attention.
        mlp_width: inner width of the perceptrons; 0 for four times ``width``.
    """

    width: int = 128
    depth: int = 3
    heads: int = 4
    mlp_width: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.width, self.depth, self.heads) < 1 or self.mlp_width < 0:
            raise InvalidValue(f"{self} is impossible; give a width, depth and heads of at least 1")


class Eyes(nn.Module):
    """Pictures to tokens: a learned one stands before those of the patches."""

    def __init__(self, size: Stack, stem: nn.Module, grid: Sequence[int]) -> None:
        """Builds it behind a stem that gives tokens as wide, in rows and columns of ``grid``."""
        super().__init__()
        self.stem = stem
        self.first_token = nn.Parameter(torch.randn(size.width) * 0.02)
        self.places = Positions(size.width, grid, per_cell=True)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.mlp_width) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, pictures: Batch) -> Encoded:
        """Returns the tokens, and of each picture the first one; of an absent picture none is real."""
        x, grid = self.stem(pictures)
        x = torch.cat((self.first_token.to(x.dtype).expand(x.shape[0], 1, -1), x + self.places(grid)), dim=1)
        for block in self.blocks:
            x = block(x)
        x, there = self.norm(x), pictures.present[:, None]
        return Encoded(x, torch.cat((there, pictures.mask), dim=1), x[:, 0] * there)


class _Self(nn.Module):
    """A self-attention and its normalisation."""

    def __init__(self, size: Stack, norms: Norms) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size.width, norms.epsilon)
        self.attend = Attention(size.width, size.heads)


class Layer(nn.Module):
    """One layer: the self-attention of reading or of writing, then what both share."""

    def __init__(self, size: Stack, ways: Sequence[str], context_width: int | None, dropout: float, norms: Norms):
        """Builds it for each of ``ways``; see ``TextTransformer``."""
        super().__init__()
        self.ways = nn.ModuleDict({way: _Self(size, norms) for way in ways})
        self.rest = Block(
            size.width, size.heads, size.mlp_width, dropout, "gelu", context_width, norms, attends_self=False
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"] | None,
        seen: Float[Tensor, "B S E"] | None,
        seen_mask: Bool[Tensor, "B S"] | None,
        way: str,
    ) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer."""
        own: Any = self.ways[way]
        rest = self.rest
        x = added(x, own.norm, lambda y: rest.dropout(own.attend(y, mask, causal=way == WRITES)), rest.norms.after)
        after: Tensor = rest(x, context=seen, context_mask=seen_mask)
        return after


class TextTransformer(nn.Module):
    """Words to tokens, and, where it writes, tokens to words."""

    def __init__(
        self,
        size: Stack,
        rows: int,
        tokens_max: int,
        ways: Sequence[str],
        context_width: int | None,
        dropout: float,
        norms: Norms,
    ) -> None:
        """Builds it.

        Args:
            size: of it.
            rows: of the table of words.
            tokens_max: places.
            ways: ``READS``, ``WRITES`` or both.
            context_width: of what it may look at; None for a transformer that never does.
            dropout: of each residual branch, and of what enters.
            norms: where it normalises, and how.
        """
        super().__init__()
        self.table = nn.Embedding(rows, size.width)
        nn.init.normal_(self.table.weight, std=size.width**-0.5)  # what tells words by it needs logits of about 1
        self.places = Positions(size.width, (tokens_max,))
        self.norm_in = nn.LayerNorm(size.width, norms.epsilon)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(size, ways, context_width, dropout, norms) for _ in range(size.depth))
        self.norm = nn.Identity() if norms.after else nn.LayerNorm(size.width, norms.epsilon)
        self.tell = WordHead(size.width, rows, norms.epsilon) if WRITES in ways else None

    def entering(self, ids: Int64[Tensor, "B T"], before: int = 0) -> Float[Tensor, "B T D"]:
        """Returns ids as they enter the first layer, behind ``before`` others."""
        x: Tensor = self.table(ids) + self.places((before + ids.shape[1],))[before:]
        return self.dropout(self.norm_in(x))  # type: ignore[no-any-return]

    def forward(self, texts: Batch, first: int, seen: Encoded | None = None, way: str = READS) -> Encoded:
        """Returns the tokens of texts, at least one each, and of each the first one.

        Args:
            texts: ids.
            first: the id that stands in the place of each text's first one: it says what is to be done.
            seen: what is looked at.
            way: ``READS`` or ``WRITES``.
        """
        ids = torch.cat((torch.full_like(texts.values[:, :1], first), texts.values[:, 1:]), dim=1)
        x = self.entering(ids)
        mask = None if way == WRITES or bool(texts.mask.all()) else texts.mask  # padding stands behind
        looked = None if seen is None or bool(seen.mask.all()) else seen.mask
        for layer in self.layers:
            x = layer(x, mask, None if seen is None else seen.tokens, looked, way)
        x = self.norm(x)
        return Encoded(x, texts.mask, x[:, 0])

    def words(self, tokens: Float[Tensor, "*n D"]) -> Float[Tensor, "*n V"]:
        """Returns one logit per row of the table, of tokens that were written."""
        assert self.tell is not None
        logits: Tensor = self.tell(tokens, self.table.weight)
        return logits

    def told(self, texts: Batch, first: int, seen: Encoded) -> tuple[Float[Tensor, "N V"], Int64[Tensor, " N"]]:
        """Returns logits of each further word of all texts, from those before it, and which word it is."""
        real = texts.mask[:, 1:]
        return self.words(self(texts, first, seen, WRITES).tokens[:, :-1][real]), texts.values[:, 1:][real]
