"""Writing a field in one vocabulary: where its ids lie, and how the few ids of one position are chosen.

    vocabulary   | text: begin, words | picture: begin, end, codes of group 1, of group 2 ... | sound: ...

A position holds G ids, chosen one after the other: the transformer gives one vector per position, and a speller, which
also sees the ids of the position that are already there, gives a vector per id, as in RQ-Transformer (Lee et al. 2022,
arXiv 2203.01941), whose second transformer it replaces. The speller looks at what is given itself: which of several
objects a sound begins with is decided by the first ids of a position, and the others have to follow. What is read and
what is chosen share one table (Press and Wolf 2016, arXiv 1608.05859).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.attention import Attention
from intermodal.types import Batch


@dataclass(frozen=True)
class Spelling:
    """Where the ids of one kind of field lie in the vocabulary, and which choices each position offers.

    Attributes:
        begin: the id that stands before the first position.
        starts: the first id of each of the G groups.
        sizes: choices of each group.
        end: choice of the first group that ends the field; None for a fixed length. Before codes it is 0, they follow.
        text: the tokenizer's id of the begin, of what is text; None for codes.
        first: number of its first group among the groups of all spellings of a vocabulary.
    """

    begin: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    end: int | None = None
    text: int | None = None
    first: int = 0

    @property
    def stop(self) -> int:
        """The first id beyond."""
        return self.starts[-1] + self.sizes[-1]

    def ids(self, choices: Int64[Tensor, "... G"]) -> Int64[Tensor, "... G"]:
        """Returns choices as ids of the vocabulary."""
        return choices + torch.tensor(self.starts, device=choices.device)

    def own_ids(self, choices: Int64[Tensor, "B T G"], real: Bool[Tensor, "B T"]) -> Int64[Tensor, "B ..."]:
        """Returns choices as ids of the tokenizer, ``(B, 1 + T)`` from the begin on, or of the codec, ``(B, T, G)``.

        Whatever is not real is an end in a text and 0 in codes.
        """
        if self.text is not None and self.end is not None:
            return F.pad(choices[..., 0].masked_fill(~real, self.end), (1, 0), value=self.text)
        if self.end is not None:
            choices = (choices - F.pad(choices.new_ones(1), (0, choices.shape[2] - 1))).clamp(min=0)
        return choices * real[..., None]


@dataclass(frozen=True)
class Spelt:
    """A batch as it is written.

    Attributes:
        choices: what is chosen at each position.
        real: whether it is; the groups after an end are not.
    """

    choices: Int64[Tensor, "B T G"]
    real: Bool[Tensor, "B T G"]


def text_spelling(start: int, vocab_size: int, begin_id: int, end_id: int, first: int = 0) -> Spelling:
    """Returns how texts are written: one id per position."""
    return Spelling(start, (start + 1,), (vocab_size,), end_id, begin_id, first)


def code_spelling(start: int, codes: int, groups: int, ends: bool, first: int = 0) -> Spelling:
    """Returns how media are written: ``groups`` codes per position, or the end where they have no fixed length."""
    sizes = (codes + ends, *(codes,) * (groups - 1))
    starts = tuple(start + 1 + sum(sizes[:g]) for g in range(groups))
    return Spelling(start, starts, sizes, 0 if ends else None, None, first)


def spell_text(batch: Batch) -> Spelt:
    """Returns texts as they are written: all ids but the first, which always is the begin."""
    return Spelt(batch.values[:, 1:, None], batch.mask[:, 1:, None])


def spell_codes(batch: Batch, ends: bool) -> Spelt:
    """Returns codes ``(B, T, G)`` as they are written; the end is written where ``ends`` says so."""
    ids, mask = batch.values, batch.mask
    real = mask[..., None].expand(ids.shape)
    if not ends:
        return Spelt(ids, real)
    choices = ids + F.pad(ids.new_ones(1), (0, ids.shape[2] - 1))
    lengths = mask.sum(dim=1, keepdim=True)
    here = torch.arange(ids.shape[1] + 1, device=ids.device)
    choices, real = F.pad(choices, (0, 0, 0, 1)), F.pad(real, (0, 0, 0, 1)).clone()
    last = (here == lengths) & mask.any(dim=1, keepdim=True)
    choices[last] = 0
    real[..., 0] |= last
    return Spelt(choices, real)


@dataclass(frozen=True)
class Source:
    """What a speller looks at.

    Attributes:
        keys: of the given tokens, and of one that says nothing.
        values: of the same.
        mask: which of them are real and seen in a row; the one that says nothing always is.
    """

    keys: Float[Tensor, "B H S E"]
    values: Float[Tensor, "B H S E"]
    mask: Bool[Tensor, "B S"]

    def rows(self, index: Int64[Tensor, " N"]) -> "Source":
        """Returns that of these rows, in this order, any of them several times."""
        return Source(self.keys[index], self.values[index], self.mask[index])


class Speller(nn.Module):
    """One vector per position to the choice of each of its ids; one for the groups of all fields."""

    def __init__(self, width: int, groups: int, heads: int = 4) -> None:
        """Builds it for so many groups, those of all spellings counted."""
        super().__init__()
        self.marks = nn.Parameter(torch.randn(groups, width) * 0.02)
        self.given = nn.Linear(width, width, bias=False)
        self.norm_look = nn.LayerNorm(width)
        self.look = Attention(width, heads, width)
        self.norm_in = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 2 * width)
        self.mlp_out = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.look.out.weight)
        nn.init.zeros_(self.look.out.bias)

    def source(self, tokens: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Source:
        """Returns given tokens as they are looked at; of none, the one that says nothing is left."""
        keys, values = self.look.keys_values(F.pad(tokens, (0, 0, 0, 1)))
        return Source(keys, values, F.pad(mask, (0, 1), value=True))

    def forward(
        self, x: Float[Tensor, "B L D"], chosen: Float[Tensor, "B L D"], marks: Float[Tensor, "L D"], source: Source
    ) -> Float[Tensor, "B L D"]:
        """Returns the vectors whose products with the table are the logits of ids.

        Args:
            x: of the position of each of L ids.
            chosen: sum of the table's vectors of what is chosen there in the groups before.
            marks: of the group of each.
            source: what is given.
        """
        x = x + marks + self.given(chosen)
        x = x + self.look.ask(self.norm_look(x), source.keys, source.values, source.mask)
        result: Tensor = self.norm(x + self.mlp_out(F.gelu(self.mlp_in(self.norm_in(x)))))
        return result

    def log_likelihood(
        self,
        x: Float[Tensor, "B T D"],
        table: Float[Tensor, "V D"],
        spelling: Spelling,
        spelt: Spelt,
        source: Source,
    ) -> Float[Tensor, " B"]:
        """Returns the sum of the logarithms of the probabilities of all real choices of each row."""
        count, groups = x.shape[1], len(spelling.starts)
        known = F.embedding(spelling.ids(spelt.choices), table)
        before = F.pad(known.cumsum(dim=2)[:, :, :-1], (0, 0, 1, 0)).flatten(1, 2)
        marks = self.marks[spelling.first : spelling.first + groups].repeat(count, 1)
        hidden = self(x.repeat_interleave(groups, dim=1), before, marks, source).unflatten(1, (count, groups))
        total = torch.zeros(len(x), device=x.device)
        own = torch.split(table[spelling.starts[0] : spelling.stop], list(spelling.sizes))
        for alike in (slice(0, 1), slice(1, groups)) if len({*spelling.sizes}) > 1 else (slice(0, groups),):
            logits = torch.einsum("btgd,gkd->btgk", hidden[:, :, alike], torch.stack(own[alike]))
            wanted = spelt.choices[..., alike]
            loss = F.cross_entropy(logits.float().flatten(0, 2), wanted.flatten(), reduction="none").view(wanted.shape)
            total = total - (loss * spelt.real[..., alike]).sum(dim=(1, 2))
        return total


def positions_read(table: Float[Tensor, "V D"], ids: Int64[Tensor, "B T G"]) -> Float[Tensor, "B T D"]:
    """Returns one vector per position: the sum of those of its ids."""
    return F.embedding(ids, table).sum(dim=2)


def grid_of(sizes: Sequence[int], positions: int) -> tuple[int, ...]:
    """Returns the token grid with so many positions, where at most one size is 0, for any number.

    A single axis may be shorter than its size.
    """
    if len(sizes) == 1:
        return (positions,)
    known = 1
    for size in sizes:
        known *= size or 1
    return tuple(size or positions // known for size in sizes)
