"""One transformer, one vocabulary: any fields of a sample in, any field out, and a vector of each for searching.

    picture ─ tower ─┐                           ┌ begin ─ ids ─ ids ─ ...    text: words
    sound   ─ tower ─┼─ keys, values ── blocks ──┼ begin ─ ids ─ ids ─ ...    picture: codes of its codebook
    words   ─ tower ─┘                           └ begin ─ ids ─ ids ─ end    whatever has no fixed length

What is given is read by the towers of a system that was trained before, CLIP; what is asked for is written as ids, a
position after the other, by blocks that see the tokens of all that was given. Which task it is (to translate, to
answer, to mark) is told by the fields alone. The same towers search.

Follows: one vocabulary and one transformer as in 4M (Mizrahi et al. 2023, arXiv 2312.06647) and Unified-IO 2 (Lu et al.
2023, arXiv 2312.17172), which also reads media by encoders trained before and writes codes. Changed: a sample trains
the writing of all of its fields at once, each from drawn others; what was read is seen by every block as it is. Left
out: mixture of experts, and denoising.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.decoders.vocabulary import TEXT, Vocabulary
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.block import Block
from intermodal.layers.packing import Asked, Given, side_by_side
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.plan import Plan, plan_of
from intermodal.sampling.writing import Written, extended, remembered, write
from intermodal.types import Batch, Candidate, Item, Preprocessor, Sample


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        fields: field -> its kind: ``text``, or another; fields of one kind share all but a mark.
        plan: which fields are written from which.
        reader: config of clip. It reads every field that it has a tower for, by name or kind, and makes the vectors.
            Texts with words that its tower does not know go through the blocks instead.
        codecs: kind -> config of the codec that spells it, of every kind that is written.
        text: preprocessor of all texts; None where no field is one.
        contrast: weight of the reader's own losses; 0 for one that was trained before and stays as it is.
        weights: field -> weight of the loss of writing it; 1 of those that are not named.
        width: D of a token.
        depth: blocks.
        heads: of each block.
        dropout: of each residual branch.
        longest: positions of what has no fixed length.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    reader: Any = None
    codecs: Mapping[str, Any] = field(default_factory=dict)
    text: Preprocessor | None = None
    contrast: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    width: int = 256
    depth: int = 6
    heads: int = 4
    dropout: float = 0.0
    longest: int = 128

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if len(self.plan.names()) < 2:
            raise InvalidValue(
                f"unified needs at least two fields, not {len(self.plan.names())}: name them in its plan"
            )
        for name in self.plan.names():
            if name not in self.fields:
                raise UnknownName("field of the plan", name, self.fields)
        for name in self.plan.written():
            if self.fields[name] not in (TEXT, *self.codecs):
                raise UnknownName("kind of a field that is written, with a codec", self.fields[name], self.codecs)
        if TEXT in self.fields.values() and self.text is None:
            raise InvalidValue("a field is text and there is no preprocessor of texts; give one")
        if min((self.contrast, *self.weights.values())) < 0 or self.longest < 1:
            raise InvalidValue(
                f"contrast {self.contrast} is at least 0, and weights; longest {self.longest} at least 1"
            )
        for name in self.weights:
            if name not in self.plan.written():
                raise UnknownName("field that is written, with a weight", name, self.plan.written())
        if self.reader is None:
            raise InvalidValue("unified has no reader; give it the config of a clip with a tower for each field")
        for name in self.plan.given():
            if name not in self.towers and self.fields[name] not in (TEXT, *self.towers):
                raise UnknownName("tower of the reader", name, self.reader.towers)

    def preprocessor(self, name: str) -> Preprocessor:
        """Returns the preprocessor of a field: that of its codec, or of its tower where it is only read."""
        kind = self.fields[name]
        if kind == TEXT:
            return self.text  # type: ignore[return-value]
        own: Any = self.codecs[kind] if kind in self.codecs else self.towers[name if name in self.towers else kind]
        return own.preprocessor  # type: ignore[no-any-return]

    @property
    def towers(self) -> Mapping[str, Any]:
        """The towers of the reader: of the fields that have a vector."""
        return self.reader.towers  # type: ignore[no-any-return]

    def tower(self, name: str) -> str | None:
        """Returns the name of the reader's tower that reads a field; None where there is none.

        Raises:
            InvalidValue: the tower takes media otherwise than the codec does.
        """
        found = name if name in self.towers else self.fields[name]
        if found not in self.towers:
            return None
        own, other = self.preprocessor(name), self.towers[found].preprocessor
        if own == other:
            return found
        if self.fields[name] == TEXT:
            return None
        if 0 not in self.towers[found].sizes and replace(own, patch=other.patch) == other:  # type: ignore[type-var]
            return found
        raise InvalidValue(
            f"the reader takes {name} as {other}, the codec as {own}: train one of them with the numbers of the other"
        )


class Unified(nn.Module):
    """Trains, Embeds, Scores, Classifies, Translates, Completes; Answers, where its plan has a question."""

    answer: Callable[[Sample, str], str]

    def __init__(self, config: Config, codecs: Mapping[str, nn.Module], reader: nn.Module) -> None:
        """Assembles built codecs, one per kind that is no text, which are not trained here, and the reader."""
        super().__init__()
        self.config = config
        self.preprocessors = {name: config.preprocessor(name) for name in config.fields}
        self.codecs = nn.ModuleDict(codecs).requires_grad_(False).eval()
        self.reader: Any = reader if config.contrast else reader.requires_grad_(False).eval()
        width, text = config.width, config.text
        towers = {name: self._tower(name, found) for name in config.plan.given() if (found := config.tower(name))}
        sizes: dict[str, tuple[int, ...]] = {TEXT: (text.tokens_max,)} if text else {}  # type: ignore[attr-defined]
        sizes |= {kind: codec.sizes for kind, codec in config.codecs.items()}
        tokenizer = getattr(text, "tokenizer", None)
        self.vocabulary = Vocabulary(width, config.fields, sizes, self.codecs, towers, tokenizer, config.heads)
        self.blocks = nn.ModuleList(Block(width, config.heads, 0, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        if any("question" in name for name in config.plan.given()):  # what has learnt none is asked nothing
            self.answer = self._answer

    def _tower(self, name: str, tower: str) -> tuple[nn.Module, int]:
        """Returns the encoder that reads a field, and its number of tokens; 0 for as many as there are."""
        limited = self.config.fields[name] != TEXT
        return self.reader.encoders[tower], limited * prod(self.config.towers[tower].sizes)

    def train(self, mode: bool = True) -> "Unified":
        """Sets the mode of all that is trained here."""
        super().train(mode)
        self.codecs.eval()
        self.reader.train(mode and self.config.contrast > 0)
        return self

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns for each field that is written the mean negative log-likelihood of its ids, and the contrast."""
        here = {n: part for n, part in batch.items() if n in self.preprocessors and bool(part.mask.any())}
        sees = {(to, i): seen for to in here for i, seen in enumerate(self.config.plan.drawn(to, here))}
        used = {n for seen in sees.values() for n in seen}
        read = {n: self.vocabulary.read(n, here[n]) for n in here if n in used or self.config.contrast}
        given = {n: self.vocabulary.tokens(n, here[n], one) for n, one in read.items() if n in used}
        written = {to: self.vocabulary.spelt(to, here[to]) for to in dict.fromkeys(to for to, _ in sees)}
        begun = {to: self.vocabulary.begun(to, spelt) for to, spelt in written.items()}
        found = side_by_side(self.blocks, given, {key: Asked(begun[key[0]], seen) for key, seen in sees.items()})
        result: dict[str, Tensor] = {}
        for (to, i), hidden in found.items():
            there = here[to].present
            source = self.vocabulary.source(given, len(there), sees[to, i])
            likely = self.vocabulary.log_likelihood(to, self.norm(hidden), written[to], source)
            share = self.config.weights.get(to, 1.0) / len(found)
            result[to] = result.get(to, 0.0) - share * (likely * there).sum() / there.sum()
        if self.config.contrast:
            rows: dict[str, Tensor] = {}
            for name in reversed(read):  # of several fields of one tower the first counts
                if (tower := self.config.tower(name)) and (one := read[name]):
                    rows[tower] = F.normalize(self.reader.heads[tower](one.pooled).float(), dim=-1)
                    rows[f"{tower}.present"] = here[name].present
            terms = self.reader.losses_of(rows)
            result |= {"contrast": self.config.contrast * torch.stack([*terms.values()]).sum()} if terms else {}
        return result

    # ---- Embeds

    @torch.no_grad()
    def embed(
        self, items: Sequence[Item], fields: str | None = None, batch_size: int = 64, precision: str | None = None
    ) -> Float[Tensor, "N S"]:
        """Returns one unit vector per item, in the order given, modalities mixed at will: see ``Clip.embed``."""
        return self.reader.embed(items, fields, batch_size, precision)  # type: ignore[no-any-return]

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair; higher fits better."""
        return self.reader.score(a, b)  # type: ignore[no-any-return]

    def classify(
        self, items: Sequence[Item], labels: Sequence[str], prompts: Sequence[str] = ("{}",), field: str | None = None
    ) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each item, from words alone: see ``types.Classifies``."""
        return self.reader.classify(items, labels, prompts, field)  # type: ignore[no-any-return]

    @property
    def precision(self) -> str | None:
        """To embed in; None for the default."""
        return self.reader.precision  # type: ignore[no-any-return]

    @precision.setter
    def precision(self, value: str | None) -> None:
        self.reader.precision = value

    def field_of(self, modality: str) -> str:
        """Returns the first field that reads ``modality``; the free ones come first.

        Raises:
            Unsupported: no field does.
        """
        for name in self.config.plan.names():
            if self.preprocessors[name].modality == modality:
                return name
        known = sorted({p.modality for p in self.preprocessors.values()})
        raise Unsupported(f"this model does not read {modality}; it reads {', '.join(known)}")

    # ---- Translates, Completes, Answers

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The (from, to) pairs that it was trained for."""
        return self.config.plan.directions()

    def translate(
        self,
        items: Sequence[Item],
        to: str,
        *,
        source: str | None = None,
        sampling: Sampling | None = None,
        count: int = 1,
    ) -> list[Item]:
        """Returns one item of field ``to`` for each item: see ``types.Translates``."""
        samples = [{source or self.field_of(item.modality): item} for item in items]
        return [found[0].item for found in self.candidates(samples, to, sampling=sampling, count=count)]

    def _answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words: see ``types.Answers``."""
        for to, ways in self.config.plan.tasks.items():
            for way in ways:
                asked = next((n for n in way if "question" in n), None)
                if asked and all(n in sample for n in way if n != asked):
                    words = catalog.module("modalities", TEXT).ITEM(question)
                    return str(self.candidates([{**sample, asked: words}], to)[0][0].item.text)  # type: ignore[attr-defined]
        raise Unsupported(f"this model has not learnt to answer questions about {', '.join(sample) or 'nothing'}")

    @torch.no_grad()
    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Sampling | None = None, count: int = 1, rows: int = 32
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` candidates for its field ``to``, best first.

        One is taken as the likeliest, id by id; several are drawn. The score of one is the mean log-likelihood of its
        ids; of several that of what was given, written back from the candidate, where that was learnt.

        Args:
            samples: what is given; their own ``to`` is not looked at. From an empty one a free field is drawn from
                nothing, where ``plan.alone`` is above 0.
            to: the field to write.
            sampling: how ids are chosen; default: greedy for one, at temperature 1 within 90 % for several.
            count: candidates per sample.
            rows: sequences written together; does not change the result but for rounding.

        Raises:
            Unsupported: it was not trained to write that field from these.
            InvalidValue: ``count`` is below 1.
        """
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        chosen = sampling or (Sampling() if count == 1 else Sampling(temperature=1.0, top_p=0.9))
        usable = [self.config.plan.usable(sample, to) for sample in samples]
        training, step = self.training, max(1, rows // count)
        self.eval()
        result: list[list[Candidate]] = []
        for start in range(0, len(usable), step):
            *_, last = self.writing(usable[start : start + step], to, chosen, count)
            scores = (last.log_likelihood / last.ids.clamp(min=1)).tolist()
            made = [Candidate(item, score) for item, score in zip(self.items(to, last), scores, strict=True)]
            for i, sample in enumerate(usable[start : start + step]):
                own = made[i * count : (i + 1) * count]
                result.append(sorted(self._returned(sample, to, own), key=lambda c: -c.score) if count > 1 else own)
        self.train(training)
        return result

    def _returned(self, sample: Sample, to: str, made: Sequence[Candidate]) -> list[Candidate]:
        """Returns candidates scored by how likely what was given is when it is written back from them."""
        back = self.config.plan.returns(sample, to)
        if not back:
            return list(made)
        likely = [self.likelihood([{to: c.item, name: sample[name]} for c in made], name) for name in back]
        scores = torch.stack(likely).mean(dim=0).tolist()
        return [Candidate(c.item, score) for c, score in zip(made, scores, strict=True)]

    @torch.no_grad()
    def likelihood(self, samples: Sequence[Sample], to: str) -> Float[Tensor, " N"]:
        """Returns for each sample the mean log-likelihood of the ids of its field ``to``, written from its others.

        Raises:
            Unsupported: it was not trained to write that field from these.
        """
        training = self.training
        self.eval()
        given = [self.config.plan.usable(sample, to) for sample in samples]
        reads = self._given(self.batches(given))
        spelt = self.vocabulary.spelt(to, self.batches([{to: sample[to]} for sample in samples])[to])
        seen = {n: one.mask.any(dim=1) for n, one in reads.items()}
        source = self.vocabulary.source(reads, len(samples))
        found = side_by_side(self.blocks, reads, {to: Asked(self.vocabulary.begun(to, spelt), seen)})
        self.train(training)
        return self.vocabulary.log_likelihood(to, self.norm(found[to]), spelt, source)

    def writing(self, samples: Sequence[Sample], to: str, sampling: Sampling, count: int = 1) -> Iterator[Written]:
        """Yields what is written after each position, ``count`` rows per sample: results as they are made."""
        given = self._given(self.batches(samples))
        number = torch.arange(len(samples) * count, device=self.norm.weight.device)
        source = self.vocabulary.source(given, len(samples))
        writer = self.vocabulary.writer(to, self.config.longest, source.rows(number // count))
        cache = remembered(self.blocks, given, len(writer.places)).rows(number // count)
        yield from write(lambda x: self.norm(extended(self.blocks, cache, x)), writer, sampling, number % count)

    def items(self, to: str, written: Written) -> list[Item]:
        """Returns the item that each row of what was written stands for."""
        longest = max(1, int(written.lengths.max()))
        real = torch.arange(longest, device=written.lengths.device) < written.lengths[:, None]
        codes = self.vocabulary.read_back(to, written.choices[:, :longest], real)
        if self.config.fields[to] == TEXT:
            return self.preprocessors[to].invert(codes)
        return self.codecs[self.config.fields[to]].items(codes, real)  # type: ignore[operator, no-any-return]

    def batches(self, samples: Sequence[Sample]) -> dict[str, Batch]:
        """Returns one batch per field that any of the samples has; where none has any, of one that is absent."""
        names = [n for n in self.config.fields if any(n in sample for sample in samples)] or [*self.config.fields][:1]
        device = self.norm.weight.device
        return {n: self.preprocessors[n]([s.get(n) for s in samples]).to(device) for n in names}

    def _given(self, batch: Mapping[str, Batch]) -> dict[str, Given]:
        """Returns fields as they enter the blocks when they are given."""
        return {n: self.vocabulary.tokens(n, part, self.vocabulary.read(n, part)) for n, part in batch.items()}


def build(config: Config) -> Unified:
    """Returns the system that ``config`` describes, with fresh weights; codecs and reader are to be filled."""
    codecs = {kind: catalog.system_of(codec).build(codec) for kind, codec in config.codecs.items()}
    return Unified(config, codecs, catalog.system_of(config.reader).build(config.reader))


# ---- Sizes

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 192, "depth": 6, "heads": 4, "longest": 48},
    "paper": {"width": 2048, "depth": 24, "heads": 16},  # 4M-XL, arXiv 2312.06647, table 10
}


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    Codecs and reader are those of ``systems/codec.py`` and ``clip.py`` of that size, to be replaced by trained ones.

    Raises:
        UnknownName: there is no such size.
    """
    if size not in SIZES:
        raise UnknownName("size of unified", size, SIZES)
    kinds = {name: "speech" if name == "speech" else modality for name, modality in fields.items()}
    codec = catalog.module("systems", "codec")
    text = catalog.module("modalities", TEXT).PREPROCESSOR(tokenizer, 64) if TEXT in kinds.values() else None
    plan = plan_of(fields)
    made = {kinds[n]: fields[n] for n in plan.written() if kinds[n] != TEXT}
    codecs = {kind: codec.sized(size, {kind: modality}) for kind, modality in made.items()}
    reader = catalog.module("systems", "clip").sized(size, {k: fields[n] for n, k in kinds.items()}, tokenizer)
    return Config(kinds, plan, reader, codecs, text, weights={}, **SIZES[size])
