"""Writing a field in one vocabulary: where its ids lie, and how the few ids of one position are chosen.

    vocabulary   | text: begin, words | picture: begin, end, codes of group 1, of group 2 ... | sound: ...

A position holds G ids, chosen one after the other: the transformer gives one vector per position, and a small
perceptron, which also sees the ids of the position that are already there, gives a vector per id, as in RQ-Transformer
(Lee et al. 2022, arXiv 2203.01941), whose second transformer it replaces. What is read and what is chosen share one
table (Press and Wolf 2016, arXiv 1608.05859).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

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


class Speller(nn.Module):
    """One vector per position to the choice of each of its ids; one perceptron for the groups of all fields."""

    def __init__(self, width: int, groups: int) -> None:
        """Builds it for so many groups, those of all spellings counted."""
        super().__init__()
        self.marks = nn.Parameter(torch.randn(groups, width) * 0.02)
        self.given = nn.Linear(width, width)
        self.norm_in = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 2 * width)
        self.mlp_out = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "... D"], chosen: Float[Tensor, "... D"] | None, group: int
    ) -> Float[Tensor, "... D"]:
        """Returns the vector whose products with the table are the logits of a group.

        Args:
            x: of the positions.
            chosen: sum of the table's vectors of what is chosen there in the groups before; None for the first.
            group: its number among all.
        """
        x = x + self.marks[group]
        if chosen is not None:
            x = x + self.given(chosen)
        result: Tensor = self.norm(x + self.mlp_out(F.gelu(self.mlp_in(self.norm_in(x)))))
        return result

    def log_likelihood(
        self, x: Float[Tensor, "B T D"], table: Float[Tensor, "V D"], spelling: Spelling, spelt: Spelt
    ) -> Float[Tensor, " B"]:
        """Returns the sum of the logarithms of the probabilities of all real choices of each row."""
        ids = spelling.ids(spelt.choices)
        total = torch.zeros(len(x), device=x.device)
        chosen: Tensor | None = None
        for group, (start, size) in enumerate(zip(spelling.starts, spelling.sizes, strict=True)):
            logits = self(x, chosen, spelling.first + group) @ table[start : start + size].T
            loss = F.cross_entropy(
                logits.float().flatten(0, 1), spelt.choices[..., group].flatten(), reduction="none"
            ).view(ids.shape[:2])
            total = total - (loss * spelt.real[..., group]).sum(dim=1)
            if group + 1 < len(spelling.starts):
                own = F.embedding(ids[..., group], table)
                chosen = own if chosen is None else chosen + own
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
