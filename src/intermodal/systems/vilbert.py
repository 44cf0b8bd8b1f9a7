"""ViLBERT: a stream of words and a stream of regions, each with its own width and depth, that look at each other.

    sentence ─ table + places ─ blocks ─┐ ┌ co-attention ┐ ┌ block ┐       ┌ hidden words
                                        ├─┤   (crossed)  ├─┤       ├─ ... ─┼ hidden regions: the colours in them
    picture ─ regions and boxes ────────┘ └ co-attention ┘ └ block ┘       └ product of both: match? the answer?

Follows: Lu et al. 2019, "ViLBERT: Pretraining Task-Agnostic Visiolinguistic Representations for Vision-and-Language
Tasks", arXiv 1908.02265, figures 1 and 2. Captions (fields image and text) are learnt by masked words, masked regions
and matching, questions (image, question and answer) by a classifier; whatever fields a batch has, those are its losses.
Changed: regions are cells of the picture through a stem that is trained along. No detector says what a cell may be, so
what is to be told of a hidden cell are the shares of its pixels in each of a few colours. A caption is exchanged for
another of the batch, and words and regions are told where it is not. In the sizes that are trained here the
normalisation comes first. Simplified: each stream attends to the other in its own width, and both are pooled through a
hyperbolic tangent. Left out: the one hidden region in ten that the paper shows all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.decoders.asking import Roles, answerable, answered, preprocessors, roles_of, scored
from intermodal.decoders.classification import Classifier, FirstToken, Transform, WordHead
from intermodal.errors import InvalidValue, UnknownName
from intermodal.layers.block import Block, Norms
from intermodal.layers.regions import BOX, Regions, colours
from intermodal.layers.words import Words
from intermodal.objectives.masked import choose, mask_words, shares_loss, words_loss
from intermodal.objectives.matching import exchanged, matching_loss, matching_score
from intermodal.types import Batch, Item, Sample


@dataclass(frozen=True)
class Stream:
    """One of the two streams.

    Attributes:
        width: of its tokens.
        heads: of each attention.
        mlp_width: inner width of the perceptrons; 0 for four times ``width``.
    """

    width: int = 192
    heads: int = 6
    mlp_width: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.width, self.heads) < 1 or self.mlp_width < 0:
            raise InvalidValue(f"{self} is impossible; give a width and heads of at least 1")


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        roles: which field is what.
        image: the preprocessor of pictures.
        text: the preprocessor of captions and questions.
        answers: that it chooses from, where there are questions.
        first: cells of the first patches of the stem.
        channels: of the stem's convolutions; empty for one product per region.
        words: the stream of words.
        regions: the stream of regions.
        alone: blocks over words before the streams meet.
        together: how often they meet: a co-attention and then a block in each stream.
        pooled: width of what stands for both.
        dropout: of each residual branch, and of what enters.
        masked: share of a caption's words, and of a picture's regions, that are to be told.
        levels: that each colour channel is cut into.
        norm_after: each residual sum is normalised, as in the paper; else what enters a branch.
        epsilon: of the normalisations.
    """

    roles: Roles = Roles(caption="text")  # noqa: RUF009 - frozen
    image: Any = None
    text: Any = None
    answers: tuple[str, ...] = ()
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    words: Stream = Stream()
    regions: Stream = Stream()
    alone: int = 1
    together: int = 2
    pooled: int = 192
    dropout: float = 0.0
    masked: float = 0.15
    levels: int = 4
    norm_after: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name in ("image", "text"):
            if getattr(self, name) is None:
                raise InvalidValue(f"{name!r} of vilbert is nothing; give a preprocessor")
        if self.image.modality != "image":
            raise InvalidValue(f"vilbert reads pictures, not {self.image.modality}; give a preprocessor of pictures")
        if min(self.alone + 1, self.together, self.pooled, self.levels - 1) < 1:
            raise InvalidValue(
                f"alone {self.alone} is at least 0, together {self.together} and pooled {self.pooled} at least 1, "
                f"levels {self.levels} at least 2; change the one that is not"
            )
        if not 0 <= self.dropout < 1 or not 0 < self.masked < 1 or self.epsilon <= 0:
            raise InvalidValue(
                f"dropout {self.dropout}, masked {self.masked} and epsilon {self.epsilon} must be below 1, the last "
                "two above 0"
            )


@dataclass(frozen=True)
class Read:
    """What becomes of words and regions that saw each other.

    Attributes:
        words: one vector per word.
        regions: one vector per region; before them one for the whole picture.
        pooled: one vector for both.
    """

    words: Float[Tensor, "B T D"]
    regions: Float[Tensor, "B R E"]
    pooled: Float[Tensor, "B P"]


class Meeting(nn.Module):
    """Each stream looks at the other, then at itself: a co-attentional layer and a usual one (figure 2b and 2a)."""

    def __init__(self, words: Stream, regions: Stream, dropout: float, norms: Norms) -> None:
        """Builds two blocks for each stream."""
        super().__init__()
        self.after = norms.after

        def block(own: Stream, other: Stream | None = None) -> Block:
            width = None if other is None else other.width
            size = (own.width, own.heads, own.mlp_width, dropout)
            return Block(*size, context_width=width, norms=norms, attends_self=other is None)

        self.words_look, self.regions_look = block(words, regions), block(regions, words)
        self.words, self.regions = block(words), block(regions)

    def forward(
        self,
        words: Float[Tensor, "B T D"],
        said: Bool[Tensor, "B T"],
        regions: Float[Tensor, "B R E"],
        shown: Bool[Tensor, "B R"],
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B R E"]]:
        """Returns both streams after this layer; the masks are True where they are real."""
        seen = self.words_look(words, said, self._shown(regions), shown)
        heard = self.regions_look(regions, shown, self._shown(words), said)
        return self.words(seen, said), self.regions(heard, shown)

    def _shown(self, x: Tensor) -> Tensor:
        """Returns a stream as the other one sees it: normalised."""
        return x if self.after else F.layer_norm(x, x.shape[-1:])


class Vilbert(nn.Module):
    """Two streams. Trains, Answers, Scores."""

    def __init__(self, config: Config, seen: Regions) -> None:
        """Assembles the stem of regions and builds the rest."""
        super().__init__()
        self.config = config
        said, shown, epsilon = config.words, config.regions, config.epsilon
        norms = Norms(config.norm_after, epsilon)
        self.preprocessors = preprocessors(config.roles, config.image, config.text, config.answers)
        self.vocab_size: int = config.text.layout.vocab_size
        hides = bool(config.roles.caption)
        self.words = Words(self.vocab_size, said.width, config.text.tokens_max, hides)
        self.norm_in = nn.LayerNorm(said.width, epsilon)
        self.seen, self.boxes = seen, nn.Linear(BOX + 1, shown.width)
        self.norm_seen = nn.LayerNorm(shown.width, epsilon)
        self.dropout = nn.Dropout(config.dropout)
        self.alone = nn.ModuleList(
            Block(said.width, said.heads, said.mlp_width, config.dropout, norms=norms) for _ in range(config.alone)
        )
        self.together = nn.ModuleList(Meeting(said, shown, config.dropout, norms) for _ in range(config.together))
        self.norm_words, self.norm_regions = (
            nn.Identity() if config.norm_after else nn.LayerNorm(one.width, epsilon) for one in (said, shown)
        )
        self.pool_words, self.pool_regions = (FirstToken(one.width, config.pooled) for one in (said, shown))
        if config.roles.caption:
            self.tell = WordHead(said.width, self.vocab_size, epsilon)
            self.show = Transform(shown.width, shown.width, epsilon)
            self.show_colours = nn.Linear(shown.width, config.levels**config.image.layout.channels)
            self.match = nn.Linear(config.pooled, 2)
        if config.roles.question:
            self.choose = Classifier(config.pooled, len(config.answers), epsilon=epsilon)

    def read(
        self,
        texts: Batch,
        pictures: Batch,
        hidden: Bool[Tensor, "B T"] | None = None,
        unseen: Bool[Tensor, "B R"] | None = None,
    ) -> Read:
        """Returns words and regions after all blocks; some words may be hidden, some regions unseen."""
        said = texts.mask
        shown = torch.cat((pictures.present[:, None], pictures.mask), dim=1)
        words = self.dropout(self.norm_in(self.words(texts.values, hidden)))
        regions = self.dropout(self.norm_seen(self._regions(pictures, unseen)))
        for block in self.alone:
            words = block(words, said)
        for layer in self.together:
            words, regions = layer(words, said, regions, shown)
        words, regions = self.norm_words(words), self.norm_regions(regions)
        return Read(words, regions, self.pool_words(words) * self.pool_regions(regions))

    def _regions(self, pictures: Batch, unseen: Bool[Tensor, "B R"] | None) -> Float[Tensor, "B S E"]:
        """Returns the whole picture, the mean of all it shows, and then each region, with their boxes and areas."""
        seen, boxes = self.seen(pictures, unseen)
        seen = seen * pictures.mask[..., None]  # of an absent picture nothing is seen
        seen = torch.cat((seen.mean(dim=1, keepdim=True), seen), dim=1)
        whole = boxes.new_tensor((0.0, 0.0, 1.0, 1.0)).expand(len(boxes), 1, BOX)
        boxes = torch.cat((whole, boxes), dim=1)
        area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        placed: Tensor = seen + self.boxes(torch.cat((boxes, area[..., None]), dim=-1))
        return placed

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns what the fields of a batch allow: the tasks of captions, and answers to questions."""
        roles = self.config.roles
        found: dict[str, Tensor] = {}
        if roles.caption in batch:
            found |= self._captions(batch[roles.caption], batch[roles.image])
        if roles.question in batch:
            questions, pictures, wanted = answerable(roles, batch)
            if len(wanted):
                found["answers"] = words_loss(self._choices(questions, pictures), wanted)
        return found

    def _captions(self, texts: Batch, pictures: Batch) -> dict[str, Tensor]:
        """Returns the losses of captions that have a picture; all but matching where the caption is its own."""
        both = texts.present & pictures.present
        if not bool(both.any()):
            return {}
        texts, pictures, config = texts.rows(both), pictures.rows(both), self.config
        index, matches = exchanged(texts)
        own = texts.rows(index)
        masked = mask_words(own, config.masked, self.vocab_size)
        unseen = choose(pictures.mask, config.masked)
        read = self.read(masked.batch, pictures, masked.hidden, unseen)
        told, shown = masked.chosen & matches[:, None], unseen & matches[:, None]
        image = config.image
        shares = colours(pictures.values, image.layout.patch, config.levels, image.mean, image.std)
        return {
            "words": words_loss(self.tell(read.words[told], self.words.table.weight), own.values[told]),
            "regions": shares_loss(self.show_colours(self.show(read.regions[:, 1:][shown])), shares[shown]),
            "matching": matching_loss(self.match(read.pooled), matches),
        }

    # ---- Answers, Scores

    def _choices(self, questions: Batch, pictures: Batch) -> Float[Tensor, "B K"]:
        """Returns one logit for each answer."""
        logits: Tensor = self.choose(self.read(questions, pictures).pooled)
        return logits

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words, one of ``config.answers``.

        Raises:
            Unsupported: it was not trained on questions.
        """
        return self.answers([sample], [question])[0]

    def answers(self, samples: Sequence[Sample], questions: Sequence[str]) -> list[str]:
        """Returns the answer to a question about each sample."""
        return answered(self, self._choices, samples, questions)

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns for every picture and text the logarithm of the odds that they belong together.

        Raises:
            Unsupported: it was not trained on captions, or these are not pictures and texts.
        """
        return scored(self, lambda texts, seen: matching_score(self.match(self.read(texts, seen).pooled)), a, b)


def build(config: Config) -> Vilbert:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Vilbert(config, Regions(config.image.layout, config.regions.width, config.first, config.channels))


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        **{"side": 64, "patch": 8, "tokens_max": 64, "first": (4, 4), "channels": (48, 96)},
        **{"masked": 0.3},  # more than the paper's share: learnt sooner (Wettig et al. 2022, arXiv 2202.08005)
    },
    "paper": {
        **{"side": 224, "patch": 32, "tokens_max": 36, "words": Stream(768, 12), "regions": Stream(1024, 8, 1024)},
        **{"alone": 6, "together": 6, "pooled": 1024, "dropout": 0.1, "norm_after": True, "epsilon": 1e-12},
    },
}
"""``tiny`` trains on a laptop: 4.3 million weights, 64 regions. ``paper`` is arXiv 1908.02265, section 3.1: BERT-base
over words, half of it before the streams meet; a stream of width 1,024 and 8 heads over regions; six meetings."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality); answers are to be added.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no picture and text to learn from.
    """
    if size not in SIZES:
        raise UnknownName("size of vilbert", size, SIZES)
    numbers = dict(SIZES[size])
    side, patch = numbers.pop("side"), numbers.pop("patch")
    image = catalog.module("modalities", "image").PREPROCESSOR(side, side, patch)
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    return Config(roles_of("vilbert", fields), image, text, **numbers)
