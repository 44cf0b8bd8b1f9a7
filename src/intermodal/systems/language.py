"""A language model: texts one behind the other in a stream, each id told from all before it by a causal transformer.

    text_1 ─ begin words end ─┐
    text_2 ─ begin words end ─┼─ one stream without gaps ─ table + number of the text + place in it ─ blocks ─ next id
    text   ─ begin words end ─┘

Follows: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.3: normalisation
first, one table for what is read and told (Press and Wolf 2016, arXiv 1608.05859). Changed: an id has the number of its
text in the stream and its place in that text, so that what is learnt of one text holds of the next; the begin of a text
is not told. Left out: the scaling of residual layers, and the vocabulary of bytes and pairs, which is any tokenizer's.

Other systems take it in as it is and put layers of their own before its blocks: ``Look``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.attention import attend
from intermodal.layers.block import Block
from intermodal.layers.induction import Smear, alike, sees
from intermodal.layers.stream import Stream, streamed
from intermodal.sampling.autoregressive import Sampling, draw
from intermodal.types import Batch, Preprocessor, Sample


class Look(Protocol):
    """What stands before the blocks, such as layers that look at pictures."""

    def __call__(self, layer: int, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Returns the tokens that enter a block, of those before it."""
        ...

    def rows(self, index: Int64[Tensor, " N"]) -> "Look":
        """Returns the same for these rows."""
        ...


ROWS = 64  # texts that are written together; changes nothing but the memory needed


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        fields: of texts, in the order in which they follow each other.
        text: preprocessor of all of them; its ``tokens_max`` is the longest text.
        texts_max: in one stream.
        width: D.
        depth: blocks.
        heads: of each block.
        dropout: of each residual branch.
    """

    fields: tuple[str, ...] = ("text",)
    text: Preprocessor | None = None
    texts_max: int = 16
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if not self.fields or self.text is None or self.text.modality != "text":
            raise InvalidValue("language needs at least one field of text and a preprocessor of texts; give both")
        if min(self.width, self.depth, self.heads) < 1 or not 0 <= self.dropout < 1:
            raise InvalidValue(
                f"width {self.width}, depth {self.depth} and heads {self.heads} are at least 1, dropout {self.dropout} "
                "is from 0 to below 1; change the one that is not"
            )
        if self.texts_max < len(self.fields):
            raise InvalidValue(f"texts_max is {self.texts_max} and there are {len(self.fields)} fields; give it more")


class Language(nn.Module):
    """A table and blocks. Trains, Answers."""

    def __init__(self, config: Config) -> None:
        """Builds it."""
        super().__init__()
        self.config = config
        text: Any = config.text
        self.preprocessors = dict.fromkeys(config.fields, text)
        self.tokenizer, self.tokens_max = text.tokenizer, int(text.tokens_max)
        width = config.width
        self.table = nn.Embedding(text.layout.vocab_size, width)
        self.numbers = nn.Embedding(config.texts_max, width)
        self.places = nn.Embedding(self.tokens_max, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)  # what tells ids by it needs logits of about 1
        for places in (self.numbers, self.places):
            nn.init.normal_(places.weight, std=0.5 * width**-0.5)
        self.blocks = nn.ModuleList(Block(width, config.heads, 0, config.dropout) for _ in range(config.depth))
        self.smears = nn.ModuleList(Smear(config.heads) for _ in range(config.depth))
        for block in self.blocks:
            alike(block.attend_self)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(width)

    def entered(self, stream: Stream) -> Float[Tensor, "B S D"]:
        """Returns a stream as it enters the blocks.

        Raises:
            InvalidValue: it has more texts than the model has places for.
        """
        most = int((stream.number * stream.mask).max()) + 1 if stream.number.numel() else 0
        if most > self.config.texts_max:
            raise InvalidValue(
                f"a prompt of {most} texts is more than the {self.config.texts_max} that this language model has "
                "places for; leave some out, or build it with a larger texts_max"
            )
        number = stream.number.clamp(max=self.config.texts_max - 1)
        tokens: Tensor = self.table(stream.ids) + self.numbers(number) + self.places(stream.place)
        return tokens

    def seen(self, stream: Stream) -> Bool[Tensor, "B H S S"]:
        """Returns which ids of a stream each one sees; padding is behind, where nothing real looks."""
        length = stream.ids.shape[1]
        causal = torch.ones(1, 1, length, length, dtype=torch.bool, device=stream.ids.device).tril()
        return sees(stream.number, stream.number, causal.expand(len(stream.ids), -1, -1, -1), self.config.heads)

    def logits(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S V"]:
        """Returns the logits of the id that follows each token."""
        told: Tensor = (self.norm(x) @ self.table.weight.T).float()
        return told

    def costs(self, stream: Stream, look: Look | None = None) -> Float[Tensor, "B R"]:
        """Returns the negative log-likelihood of each id from the second on, in nats; see ``Stream.told``."""
        x, seen = self.entered(stream), self.seen(stream)
        for layer, (block, smear) in enumerate(zip(self.blocks, self.smears, strict=True)):

            def gather(q: Tensor, k: Tensor, v: Tensor, smear: nn.Module = smear) -> Tensor:
                return attend(q, smear(k), v, seen)

            x = block.extend(x if look is None else look(layer, x), gather)  # type: ignore[operator]
        logits = self.logits(x[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), stream.ids[:, 1:].flatten(), reduction="none").view(len(x), -1)

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns the mean cost of an id, in nats; nothing where no text is."""
        stream = streamed([batch[name] for name in self.config.fields if name in batch])
        told = stream.told
        return {"words": (self.costs(stream) * told).sum() / told.sum()} if bool(told.any()) else {}

    @torch.no_grad()
    def log_likelihood(self, samples: Sequence[Sample]) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"]]:
        """Returns the logarithm of the probability of all texts of each sample, in nats, and how many ids they are."""
        training = self.training
        self.eval()
        stream = streamed(self.texts(samples))
        told = stream.told
        found = -(self.costs(stream) * told).sum(dim=1)
        self.train(training)
        return found, told.sum(dim=1)

    def texts(self, samples: Sequence[Sample]) -> list[Batch]:
        """Returns the first text of each sample, the second of each, and so on, whatever their fields are called.

        Raises:
            Unsupported: a sample holds something else.
        """
        rows = [list(sample.values()) for sample in samples]
        for other in (item.modality for row in rows for item in row if item.modality != "text"):
            raise Unsupported(f"a language model reads texts; the sample has {other}: give it to a system that sees")
        columns = [[row[i] if i < len(row) else None for row in rows] for i in range(max(map(len, rows), default=0))]
        return [self.preprocess(column) for column in columns]

    def preprocess(self, texts: Sequence[Any]) -> Batch:
        """Returns texts as ids on the model's device."""
        made: Batch = self.preprocessors[self.config.fields[0]](texts)
        return made.to(self.table.weight.device)

    def begun(self, beginnings: Sequence[str]) -> Batch:
        """Returns texts that are to go on: their ids without an end.

        Raises:
            InvalidValue: one leaves no room for another word.
        """
        rows = [self.tokenizer.encode(words)[:-1] for words in beginnings]
        longest = max(map(len, rows))
        if longest > self.tokens_max - 2:
            raise InvalidValue(
                f"a text begins with {longest} ids and has at most {self.tokens_max}; shorten what it begins with"
            )
        ids = torch.tensor([row + [self.tokenizer.pad_id] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        return Batch(ids, mask).to(self.table.weight.device)

    # ---- Answers

    def answer(self, sample: Sample, question: str) -> str:
        """Returns how a text goes on that begins with ``question`` and follows those of the sample."""
        return self.answers([sample], [question])[0]

    @torch.no_grad()
    def answers(self, samples: Sequence[Sample], questions: Sequence[str]) -> list[str]:
        """Returns how each text goes on, the likeliest id after the other."""
        training = self.training
        self.eval()
        found: list[str] = []
        for start in range(0, len(samples), ROWS):
            here = slice(start, start + ROWS)
            stream = streamed([*self.texts(samples[here]), self.begun(questions[here])])
            candidates = torch.zeros(len(stream.ids), dtype=torch.int64)
            found += [self.tokenizer.decode(row) for row in self.written(stream, Sampling(), candidates)[0]]
        self.train(training)
        return found

    def written(
        self,
        stream: Stream,
        sampling: Sampling,
        candidates: Int64[Tensor, " B"],
        looks: Sequence[Look] | None = None,
    ) -> tuple[list[list[int]], list[float]]:
        """Returns the ids that go on after each row, an end at last, and the mean of their log-likelihood in nats.

        Args:
            stream: its last text has no end.
            sampling: how ids are chosen.
            candidates: number of the candidate that each row is.
            looks: what stands before the blocks where the stream is read, and where its last text is written.
        """
        before, last = stream.begun()
        steps = _Writing(self, before, last, looks)
        end = int(self.tokenizer.end_id)
        room = (self.tokens_max - 2 - last.place[:, 0]).tolist()  # an end comes behind
        drawn = draw(steps, last.ids, end, max(room), sampling, candidates.to(last.ids.device))
        rows = [row[:most] for row, most in zip(drawn.ids.tolist(), room, strict=True)]
        return [row[: row.index(end) + 1] if end in row else [*row, end] for row in rows], drawn.score.tolist()


class _Writing:
    """Rows that go on, an id after the other: what they have seen, block by block."""

    def __init__(self, model: Language, before: Stream, last: Stream, looks: Sequence[Look] | None) -> None:
        """Reads ``before``; ``last`` is the id that is read next."""
        self.model, self.last, self.mask, self.number = model, last, before.mask, before.number
        self.look = looks[1] if looks else None
        self.held: list[tuple[Tensor, Tensor, Tensor]] = []  # keys as they are looked for, values, the last own key
        ends = (before.mask.sum(dim=1) - 1).clamp(min=0)
        rows = torch.arange(len(ends), device=ends.device)
        x, seen = model.entered(before), model.seen(before)
        for layer, (block, smear) in enumerate(zip(model.blocks, model.smears, strict=True)):

            def remember(q: Tensor, k: Tensor, v: Tensor, smear: nn.Module = smear) -> Tensor:
                self.held.append((smear(k), v, k[rows, :, ends][:, :, None]))
                return attend(q, self.held[-1][0], v, seen)

            x = block.extend(looks[0](layer, x) if looks else x, remember)  # type: ignore[operator]

    def __call__(self, ids: Int64[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
        """Returns the logits of what follows each row, after one further id."""
        model, last = self.model, self.last
        alone = ~self.mask.any(dim=1)[:, None, None, None]  # nothing stands before this id
        x = model.entered(Stream(ids, last.mask, last.slot, last.number, last.place.clamp(max=model.tokens_max - 1)))
        self.last = Stream(ids, last.mask, last.slot, last.number, last.place + 1)
        self.mask = F.pad(self.mask, (0, 1), value=True)
        self.number = torch.cat((self.number, last.number), dim=1)
        seen = sees(last.number, self.number, self.mask[:, None, None], model.config.heads)
        for layer, block in enumerate(model.blocks):

            def beside(q: Tensor, k: Tensor, v: Tensor, layer: int = layer) -> Tensor:
                keys, values, before = self.held[layer]
                keys = torch.cat((keys, model.smears[layer](k, torch.where(alone, k, before))), dim=2)
                values = torch.cat((values, v), dim=2)
                self.held[layer] = keys, values, k
                return attend(q, keys, values, seen)

            x = block.extend(x if self.look is None else self.look(layer, x), beside)  # type: ignore[operator]
        return model.logits(x)[:, 0]

    def keep(self, rows: Int64[Tensor, " N"]) -> None:
        """Goes on with these rows, any of them several times."""
        self.mask, self.number, self.last = self.mask[rows], self.number[rows], self.last.rows(rows)
        self.held = [(k[rows], v[rows], last[rows]) for k, v, last in self.held]
        self.look = self.look.rows(rows) if self.look is not None else None


def build(config: Config) -> Language:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Language(config)


# ---- Sizes

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 128, "depth": 4, "heads": 4, "tokens_max": 40},
    "paper": {"width": 2048, "depth": 24, "heads": 16, "tokens_max": 2048},
}
"""``tiny`` trains on a laptop: 0.8 million weights. ``paper`` is the 1.4 billion weights that Flamingo-3B stands on
(arXiv 2204.14198, appendix A.1.1)."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for the texts among these fields (field name -> modality), in their order.

    Raises:
        UnknownName: there is no such size.
        Unsupported: there is no text.
    """
    if size not in SIZES:
        raise UnknownName("size of language", size, SIZES)
    texts = tuple(name for name, modality in fields.items() if modality == "text")
    if not texts:
        raise Unsupported(f"a language model learns from texts; the data has {', '.join(fields)}: choose with --fields")
    numbers = dict(SIZES[size])
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    return Config(texts, text, max(16, len(texts)), **numbers)
