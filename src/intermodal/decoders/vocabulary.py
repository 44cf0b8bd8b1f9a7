"""One vocabulary for fields of several kinds: how each enters a transformer, given or written, and how it leaves it.

    given    picture ─ tower ─ bridge ─ + mark       written   ids of the positions before ─ table ─ + place + mark
             text    ─ table ─ + place + mark

Fields of one kind (a picture, a mask, a restyled picture) share everything but a mark that tells them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.decoders.spelling import (
    Source,
    Speller,
    Spelling,
    Spelt,
    code_spelling,
    grid_of,
    positions_read,
    spell_codes,
    spell_text,
    text_spelling,
)
from intermodal.layers.packing import Given
from intermodal.layers.positions import Positions
from intermodal.types import Batch, Encoded

TEXT = "text"
"""The kind of fields that are words; every other kind has a codec."""


@dataclass(frozen=True)
class Writer:
    """All that is needed to write one field.

    Attributes:
        speller: the transformer's vector of a position to its choices.
        table: of the vocabulary.
        spelling: where the ids lie.
        places: what is added to a token, place by place: its position and the mark of the field.
        source: what is given.
    """

    speller: Speller
    table: Float[Tensor, "V D"]
    spelling: Spelling
    places: Float[Tensor, "T D"]
    source: Source


class Vocabulary(nn.Module):
    """The table, and what stands around it."""

    def __init__(
        self,
        width: int,
        fields: Mapping[str, str],
        sizes: Mapping[str, tuple[int, ...]],
        codecs: Mapping[str, Any] | nn.ModuleDict,
        towers: Mapping[str, tuple[Any, int]] | None = None,
        tokenizer: Any = None,
        heads: int = 4,
    ) -> None:
        """Lays out the ids of every kind, one range after the other.

        Args:
            width: D.
            fields: field -> kind.
            sizes: kind -> positions along each axis, 0 for an axis without limit.
            codecs: kind -> what gives ids; they are used here and not held.
            towers: field -> the encoder that reads it, and of how many tokens, 0 for as many as the batch has;
                used here and not held. Texts without one are read from the table.
            tokenizer: of the fields that are text.
            heads: of the speller.
        """
        super().__init__()
        self.fields = dict(fields)
        # plain mappings: their weights are not this module's
        self.codecs: dict[str, Any] = {kind: codecs[kind] for kind in sizes if kind != TEXT}
        self.towers = dict(towers or {})
        self.bridges = nn.ModuleDict({name: nn.Linear(one.width, width) for name, (one, _) in self.towers.items()})
        self.spellings: dict[str, Spelling] = {}
        self.write_places = nn.ModuleDict()
        looked_up = any(kind == TEXT and name not in self.towers for name, kind in fields.items())
        self.read_places = Positions(width, sizes[TEXT]) if looked_up else None
        stop = groups = 0
        for kind in sizes:
            if kind == TEXT:
                spelling = text_spelling(stop, tokenizer.vocab_size, tokenizer.begin_id, tokenizer.end_id, groups)
            else:
                codec = self.codecs[kind]
                spelling = code_spelling(stop, codec.codes, codec.groups, self.ends(kind), groups)
            self.spellings[kind], stop, groups = spelling, spelling.stop, groups + len(spelling.starts)
            self.write_places[kind] = Positions(width, sizes[kind])
        self.speller = Speller(width, groups, heads)
        self.table = nn.Embedding(stop, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.marks = nn.ParameterDict({name: nn.Parameter(torch.randn(2, width) * 0.02) for name in fields})

    def ends(self, kind: str) -> bool:
        """Returns whether fields of a kind have no fixed length."""
        return kind == TEXT or not self.codecs[kind].positions

    def read(self, name: str, batch: Batch) -> Encoded | None:
        """Returns what the tower of a field makes of it; None of words that are looked up in the table."""
        if name not in self.towers:
            return None
        tower, count = self.towers[name]
        # the codec's patches may be others than the tower's, where media are of one size
        mask = batch.present[:, None].expand(-1, count) if count else batch.mask
        found: Encoded = tower(Batch(batch.values, mask))
        return found

    def tokens(self, name: str, batch: Batch, read: Encoded | None) -> Given:
        """Returns a field as it enters the transformer when it is given.

        Args:
            name: of the field.
            batch: of the field.
            read: what ``read`` gave.
        """
        mark = self.marks[name][0]
        if read is not None:
            return Given(self.bridges[name](read.tokens) + mark, read.mask, still=True)
        places: Any = self.read_places
        x = self.table(batch.values + self.spellings[TEXT].starts[0]) + places(batch.values.shape[1:])
        return Given(x + mark, batch.mask)

    @torch.no_grad()
    def spelt(self, name: str, batch: Batch) -> Spelt:
        """Returns a field as it is written; media get their ids in full precision, the same in training and in use."""
        kind = self.fields[name]
        if kind == TEXT:
            return spell_text(batch)
        with torch.autocast(batch.mask.device.type, enabled=False):
            return spell_codes(self.codecs[kind].encode(batch), self.ends(kind))

    def places(self, name: str, count: int) -> Float[Tensor, "T D"]:
        """Returns what is added to each token of a field that is written; places beyond its grid have no position."""
        positions: Any = self.write_places[self.fields[name]]
        whole: Tensor = positions(grid_of(positions.sizes, count))
        marked: Tensor = F.pad(whole, (0, 0, 0, count - len(whole))) + self.marks[name][1]
        return marked

    def begun(self, name: str, spelt: Spelt) -> Float[Tensor, "B T D"]:
        """Returns a field as it enters the transformer when it is written: at each position stands the one before."""
        spelling, table = self.spellings[self.fields[name]], self.table.weight
        ids = spelling.ids(spelt.choices)
        begin = table[spelling.begin].expand(len(ids), 1, -1)
        before: Tensor = torch.cat((begin, positions_read(table, ids[:, :-1])), dim=1)
        return before + self.places(name, ids.shape[1])

    def source(
        self, given: Mapping[str, Given], rows: int, sees: Mapping[str, Bool[Tensor, " B"]] | None = None
    ) -> Source:
        """Returns what is looked at while a field is written.

        Args:
            given: fields, as they enter the transformer.
            rows: B.
            sees: those that are seen -> in which rows; default: all in all.
        """
        names = given if sees is None else sees
        nothing = self.table.weight.new_zeros(rows, 0, self.table.weight.shape[1])
        tokens = torch.cat([nothing, *(given[n].tokens for n in names)], dim=1)
        masks = [given[n].mask if sees is None else given[n].mask & sees[n][:, None] for n in names]
        return self.speller.source(tokens, torch.cat([nothing[..., 0] > 0, *masks], dim=1))

    def log_likelihood(
        self, name: str, hidden: Float[Tensor, "B T D"], spelt: Spelt, source: Source
    ) -> Float[Tensor, " B"]:
        """Returns the mean over the ids of each row of the logarithm of its probability; 0 where there is none."""
        kind = self.fields[name]
        total = self.speller.log_likelihood(hidden, self.table.weight, self.spellings[kind], spelt, source)
        return total / spelt.real.sum(dim=(1, 2)).clamp(min=1)

    def writer(self, name: str, longest: int, source: Source) -> Writer:
        """Returns what writes a field, of at most ``longest`` positions where it is no text and has no fixed length."""
        kind = self.fields[name]
        positions: Any = self.write_places[kind]
        room = positions.sizes[0] - 1 if kind == TEXT else self.codecs[kind].positions or longest
        return Writer(self.speller, self.table.weight, self.spellings[kind], self.places(name, room), source)

    def read_back(
        self, name: str, choices: Int64[Tensor, "B T G"], real: Bool[Tensor, "B T"]
    ) -> Int64[Tensor, "B ..."]:
        """Returns choices as ids of the tokenizer, begin and padding included, or of the codec."""
        return self.spellings[self.fields[name]].own_ids(choices, real)
