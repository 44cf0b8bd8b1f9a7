"""DALL-E: a sentence and the ids of a picture in one stream, learnt by one causal transformer; then pictures are drawn.

    picture ─ codec, trained before ─ ids ─┐
    text ─────────────────────────── ids ──┴─ begin, words, end | begin, id, id, id ... ─ blocks ─ the next id
                                                                        │
    codec ─ picture ────────────────────────────────────────────────────┘ drawn one after another

Follows: Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation", arXiv 2102.12092: two stages, one vocabulary, vectors
of row and column for the picture and of place for the text, losses weighed 1/8 and 7/8. Of many candidates the best are
found by another model: see ``sampling/ranking.py``. Changed: padding is masked and not learnt; a picture has a begin of
its own; a place is that of the id that comes next; a position of the codec may have several ids, which follow one
another. Left out: sparse attention, word-piece dropout, mixed-precision and distributed machinery of the 12 B run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.attention import attend
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions
from intermodal.sampling.autoregressive import Sampling, choose
from intermodal.sampling.writing import Cache, extended
from intermodal.types import Batch, Candidate, Item, Preprocessor, Sample, Symbols

OWN = Sampling(temperature=1.0)
"""How pictures are drawn where nothing is said: as likely as they are, as in the paper's section 2.6."""

ROWS = 128  # computed at once; changes nothing but the memory needed


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        codecs: the field of pictures -> config of its codec, of ``systems/codec.py``; it is not trained here.
        text_field: the field of sentences.
        text: its preprocessor, whose ``tokens_max`` is the longest sentence.
        width: D of a token.
        depth: blocks.
        heads: of each block.
        dropout: of each residual branch.
        text_weight: of the loss of the sentences' ids.
        picture_weight: of the loss of the pictures' ids.
    """

    codecs: Mapping[str, Any] = field(default_factory=dict)
    text_field: str = "text"
    text: Preprocessor | None = None
    width: int = 192
    depth: int = 6
    heads: int = 6
    dropout: float = 0.0
    text_weight: float = 1 / 8
    picture_weight: float = 7 / 8

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if len(self.codecs) != 1:
            raise InvalidValue(f"dalle1 draws one field, not {', '.join(self.codecs) or 'none'}; give it one codec")
        if self.text is None or not isinstance(self.text.layout, Symbols) or self.text_field in self.codecs:
            raise InvalidValue(
                f"the field {self.text_field!r} of dalle1 is {getattr(self.text, 'modality', 'nothing')}; "
                "give a preprocessor of texts, under a name that no codec has"
            )
        made = self.codec.preprocessor.modality
        if made != "image" or 0 in self.codec.sizes:
            raise Unsupported(f"dalle1 draws pictures of one size; its codec is of {made}, in {self.codec.sizes}")
        for name in ("width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"{name} of dalle1 is {getattr(self, name)}; give at least 1")
        if min(self.text_weight, self.picture_weight) < 0 or not 0 <= self.dropout < 1:
            raise InvalidValue(
                f"weights {self.text_weight} and {self.picture_weight} are at least 0 and dropout {self.dropout} is "
                "below 1; change the one that is not"
            )

    @property
    def picture_field(self) -> str:
        """The field that is drawn."""
        return next(iter(self.codecs))

    @property
    def codec(self) -> Any:
        """Config of the codec."""
        return self.codecs[self.picture_field]


class DallE(nn.Module):
    """A codec that is not trained and a transformer that is. Trains, Translates, Completes, Scores."""

    def __init__(self, config: Config, codec: Any) -> None:
        """Assembles a built codec and builds the transformer."""
        super().__init__()
        self.config = config
        self.words, self.drawn = config.text_field, config.picture_field
        self.preprocessors: dict[str, Any] = {self.words: config.text, self.drawn: config.codec.preprocessor}
        self.codecs = nn.ModuleDict({self.drawn: codec}).requires_grad_(False).eval()
        self.codes, self.groups = int(codec.codes), int(codec.groups)
        self.grid = (*config.codec.sizes, self.groups)
        self.begin = self.preprocessors[self.words].layout.vocab_size
        self.table = nn.Embedding(self.begin + 1 + self.groups * self.codes, config.width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.places_text = Positions(config.width, (self.preprocessors[self.words].tokens_max,))
        self.places_picture = Positions(config.width, self.grid)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)

    def train(self, mode: bool = True) -> "DallE":
        """Sets the mode of all but the codec."""
        super().train(mode)
        self.codecs.eval()
        return self

    # ---- One stream

    def _vectors(self, place: int) -> Float[Tensor, "K D"]:
        """Returns the part of the table from which the id at one place of a picture is chosen."""
        start = self.begin + 1 + place % self.groups * self.codes
        return self.table.weight[start : start + self.codes]

    def _text(self, batch: Batch) -> Float[Tensor, "B T D"]:
        """Returns a sentence as it enters the blocks."""
        tokens: Tensor = self.table(batch.values) + self.places_text((batch.values.shape[1],))
        return tokens

    def _picture(self, ids: Int64[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """Returns a picture as it enters the blocks: at each place the id before it."""
        group = torch.arange(ids.shape[1], device=ids.device) % self.groups
        known = ids + self.begin + 1 + group * self.codes
        before = F.pad(known[:, :-1], (1, 0), value=self.begin)
        tokens: Tensor = self.table(before) + self.places_picture(self.grid)
        return tokens

    @torch.no_grad()
    def ids(self, batch: Batch) -> Int64[Tensor, "B L"]:
        """Returns the ids of pictures, position by position and in each group by group; 0 where there is no picture."""
        codec: Any = self.codecs[self.drawn]
        here = batch.present
        ids = torch.zeros(len(batch), int(codec.positions) * self.groups, dtype=torch.int64, device=here.device)
        if bool(here.any()):
            with torch.autocast(here.device.type, enabled=False):  # rounding would change ids
                ids[here] = codec.encode(batch.rows(here)).values.flatten(1)
        return ids

    def _passed(
        self, x: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S D"], list[Tensor], list[Tensor]]:
        """Returns what the blocks make of a stream, and the keys and values of each; each token also sees itself."""
        allowed = mask[:, None] & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        allowed.diagonal(dim1=1, dim2=2).fill_(True)
        keys: list[Tensor] = []
        values: list[Tensor] = []

        def remember(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys.append(k)
            values.append(v)
            return attend(q, k, v, allowed[:, None])

        for block in self.blocks:
            x = block.extend(x, remember)  # type: ignore[operator]
        return self.norm(x), keys, values

    def _costs(
        self, texts: Batch, ids: Int64[Tensor, "B L"], present: Bool[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B L"]]:
        """Returns the negative log-likelihood of each id of a sentence, its begin left out, and of its picture."""
        mask = torch.cat((texts.mask, present[:, None].expand(ids.shape)), dim=1)
        x, _, _ = self._passed(torch.cat((self._text(texts), self._picture(ids)), dim=1), mask)
        count = texts.mask.shape[1]
        words = x[:, : count - 1] @ self.table.weight[: self.begin].T
        told = F.cross_entropy(words.float().flatten(0, 1), texts.values[:, 1:].flatten(), reduction="none")
        shown = ids.new_zeros(ids.shape, dtype=torch.float32)
        for group in range(self.groups):
            logits = x[:, count + group :: self.groups] @ self._vectors(group).T
            wanted = ids[:, group :: self.groups]
            cost = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), reduction="none")
            shown[:, group :: self.groups] = cost.view(wanted.shape)
        return told.view(len(x), -1), shown

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns the mean cost of an id of the sentences and of the pictures, each with its weight, in nats."""
        texts, pictures = batch[self.words], batch[self.drawn]
        present = pictures.present
        told, shown = self._costs(texts, self.ids(pictures), present)
        result, real = {}, texts.mask[:, 1:]
        if bool(real.any()):
            result[self.words] = self.config.text_weight * (told * real).sum() / real.sum()
        if bool(present.any()):
            result[self.drawn] = self.config.picture_weight * shown[present].mean()
        return result

    # ---- Scores

    @torch.no_grad()
    def log_likelihood(self, samples: Sequence[Sample]) -> Float[Tensor, " N"]:
        """Returns the logarithm of the probability of each sample's picture, given its sentence, in nats.

        Raises:
            Unsupported: a sample lacks one of both.
        """
        for sample in samples:
            if self.words not in sample or self.drawn not in sample:
                raise Unsupported(
                    f"a sample has {', '.join(sample) or 'no field'}; give {self.words} and {self.drawn} of each"
                )
        training, device = self.training, self.table.weight.device
        self.eval()
        found = []
        for start in range(0, len(samples), ROWS):
            part = samples[start : start + ROWS]
            texts, pictures = (
                self.preprocessors[name]([s[name] for s in part]).to(device) for name in (self.words, self.drawn)
            )
            found.append(-self._costs(texts, self.ids(pictures), pictures.present)[1].sum(dim=1))
        self.train(training)
        return torch.cat(found) if found else torch.zeros(0, device=device)

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns how likely each picture of ``b`` is, given each sentence of ``a``, in nats.

        Only the order within a row means something: some pictures are likelier than others whatever is said.
        """
        pairs = [{self.words: text, self.drawn: picture} for text in a for picture in b]
        return self.log_likelihood(pairs).view(len(a), len(b))

    # ---- Translates, Completes

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The one it was trained for."""
        return ((self.words, self.drawn),)

    def translate(
        self,
        items: Sequence[Item],
        to: str,
        *,
        source: str | None = None,
        sampling: Sampling | None = None,
        count: int = 1,
    ) -> list[Item]:
        """Returns a picture for each sentence: the likeliest of ``count`` candidates.

        Raises:
            Unsupported: another direction, or an item that is no text.
        """
        if source not in (None, self.words):
            raise Unsupported(f"this model draws {self.drawn} from {self.words}, not from {source}; give {self.words}")
        found = self.candidates([{self.words: item} for item in items], to, sampling=sampling, count=count)
        return [best[0].item for best in found]

    @torch.no_grad()
    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Sampling | None = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns ``count`` pictures for each sample's sentence, the likeliest first; what else it has is not read.

        The score is the logarithm of a picture's probability, in nats. Candidates differ only if the temperature is
        above 0: as they are drawn, so they are, whatever else is asked for beside them.

        Raises:
            Unsupported: another field is asked for, or a sample has no sentence.
            InvalidValue: ``count`` is below 1.
        """
        self._check(samples, to, count)
        if not samples:
            return []
        training, device = self.training, self.table.weight.device
        self.eval()
        ids, scores = [], []
        number = torch.arange(len(samples) * count, device=device)
        for start in range(0, len(number), ROWS):
            part = number[start : start + ROWS]
            first, last = int(part[0]) // count, int(part[-1]) // count
            texts = self.preprocessors[self.words]([s[self.words] for s in samples[first : last + 1]]).to(device)
            cache = self._read(texts).rows(part // count - first)
            made, score = self._written(cache, part % count, sampling or OWN)
            ids.append(made)
            scores += score.tolist()
        codec: Any = self.codecs[self.drawn]
        items = codec.items(torch.cat(ids).view(len(number), -1, self.groups))
        self.train(training)
        made_of = [Candidate(item, score) for item, score in zip(items, scores, strict=True)]
        rows = [made_of[i * count : (i + 1) * count] for i in range(len(samples))]
        return [sorted(row, key=lambda candidate: -candidate.score) for row in rows]

    def _check(self, samples: Sequence[Sample], to: str, count: int) -> None:
        """Raises where something else is asked for than to draw pictures from sentences."""
        if to != self.drawn:
            raise Unsupported(f"this model draws {self.drawn} from {self.words}; it makes no {to}")
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        for sample in samples:
            item = sample.get(self.words)
            if item is None or item.modality != self.preprocessors[self.words].modality:
                found = ", ".join(f"{name} ({one.modality})" for name, one in sample.items()) or "no field"
                raise Unsupported(f"a picture is drawn from {self.words}; the sample has {found}: give it a text")

    def _read(self, texts: Batch) -> Cache:
        """Returns what pictures are drawn after: keys and values of the sentences, with room for a picture."""
        _, keys, values = self._passed(self._text(texts), texts.mask)
        return Cache(keys, values, texts.mask, len(self.places_picture(self.grid)))

    def _written(
        self, cache: Cache, candidates: Int64[Tensor, " B"], sampling: Sampling
    ) -> tuple[Int64[Tensor, "B L"], Float[Tensor, " B"]]:
        """Returns the ids that are drawn after what the cache holds, and the logarithm of their probability."""
        places = self.places_picture(self.grid)
        draws = sampling.draws(candidates, len(places)).to(places.device)
        total = torch.zeros(len(candidates), device=places.device)
        x = self.table.weight[self.begin].expand(len(candidates), -1)
        ids = []
        for place, added in enumerate(places):
            hidden = self.norm(extended(self.blocks, cache, (x + added)[:, None]))[:, 0]
            vectors = self._vectors(place)
            logits = (hidden @ vectors.T).float()
            chosen = choose(logits, sampling, draws[:, place])
            total += logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]
            ids.append(chosen)
            x = F.embedding(chosen, vectors)
        return torch.stack(ids, dim=1), total


def build(config: Config) -> DallE:
    """Returns the system that ``config`` describes, with fresh weights; the codec is to be filled with trained ones."""
    return DallE(config, catalog.module("systems", "codec").build(config.codec))


# ---- Sizes

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 192, "depth": 6, "heads": 6, "tokens_max": 64},
    "paper": {"width": 3968, "depth": 64, "heads": 62, "tokens_max": 256},
}
"""``tiny`` trains on a laptop: 2.7 million weights in the blocks, 32 ids of a picture. ``paper`` is that of arXiv
2102.12092, appendix B.1: 12 billion weights, 64 layers of 62 heads of 64, 1,024 ids."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    The codec is that of ``systems/codec.py`` of that size, to be replaced by a trained one.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no text or no picture, or several and none that is named like its modality.
    """
    if size not in SIZES:
        raise UnknownName("size of dalle1", size, SIZES)
    words, drawn = (_only(modality, fields) for modality in ("text", "image"))
    numbers = dict(SIZES[size])
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    codec = catalog.module("systems", "codec").sized(size, {drawn: "image"})
    return Config({drawn: codec}, words, text, **numbers)


def _only(modality: str, fields: Mapping[str, str]) -> str:
    """Returns the field of a modality: the only one, or the one with its name."""
    found = [name for name, kind in fields.items() if kind == modality]
    if len(found) != 1 and modality not in found:
        raise Unsupported(
            f"dalle1 learns from one field of text and one of image; of {modality} the data has "
            f"{', '.join(found) or 'none'}; choose with --fields"
        )
    return found[0] if len(found) == 1 else modality
