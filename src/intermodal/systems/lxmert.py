"""LXMERT: three encoders, one of words, one of regions, one in which each looks at the other; five tasks before.

    sentence ─ table + places ──── blocks ─┐          ┌ hidden words                        (words)
                                           ├ crossed ─┼ hidden regions: their numbers       (regions)
    picture ─ regions and boxes ── blocks ─┘   blocks ├                 their commonest colour (labels)
                                                      ├ first word: does the sentence match? (matching)
                                                      └ first word: the answer to a question (answers)

Follows: Tan and Bansal 2019, "LXMERT: Learning Cross-Modality Encoder Representations from Transformers", arXiv
1908.07490, figure 1 and section 3; that both streams look at each other by the same weights is in the code that its
authors published. Captions (fields image and text) are learnt by the first four tasks, questions (image, question and
answer) by the fifth; whatever fields a batch has, those are its losses. Changed: regions are cells of the picture
through a stem that is trained along; or given vectors and boxes, as in the paper. No detector names a cell, so the
label of a cell is its commonest colour out of a few; given regions have none. A caption is exchanged for another of
the batch, and words and regions are told where it is not. In the sizes that are trained here the normalisation comes
first.
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
from intermodal.layers.attention import Attention
from intermodal.layers.block import Block, Norms, added, crossed
from intermodal.layers.regions import BOX, Regions, colours
from intermodal.layers.words import Words
from intermodal.objectives.masked import choose, features_loss, mask_words, words_loss
from intermodal.objectives.matching import exchanged, matching_loss, matching_score
from intermodal.types import Batch, Item, Sample

OBJECTIVES = ("words", "regions", "labels", "matching")
"""What captions can be learnt by."""


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        roles: which field is what.
        image: the preprocessor of pictures, or of given regions: a series of vectors, one step per region, each
            followed by the four numbers of its box.
        text: the preprocessor of captions and questions.
        answers: that it chooses from, where there are questions.
        objectives: those of ``OBJECTIVES`` that captions are learnt by.
        first: cells of the first patches of the stem.
        channels: of the stem's convolutions; empty for one product per region.
        width: D.
        depths: blocks over words, over regions, and over both.
        heads: of each block.
        mlp_width: inner width of the blocks' perceptrons; 0 for four times ``width``.
        dropout: of each residual branch, and of what enters.
        masked: share of a caption's words, and of a picture's regions, that are to be told.
        levels: that each colour channel is cut into for the labels.
        norm_after: each residual sum is normalised, as in the paper; else what enters a branch.
        epsilon: of the normalisations.
    """

    roles: Roles = Roles(caption="text")  # noqa: RUF009 - frozen
    image: Any = None
    text: Any = None
    answers: tuple[str, ...] = ()
    objectives: tuple[str, ...] = OBJECTIVES
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    width: int = 192
    depths: tuple[int, ...] = (2, 2, 2)
    heads: int = 6
    mlp_width: int = 0
    dropout: float = 0.0
    masked: float = 0.15
    levels: int = 4
    norm_after: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name in ("image", "text"):
            if getattr(self, name) is None:
                raise InvalidValue(f"{name!r} of lxmert is nothing; give a preprocessor")
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise UnknownName("objective of lxmert", name, OBJECTIVES)
        if len(self.depths) != 3 or min(self.width, self.heads, self.levels - 1, *self.depths) < 1:
            raise InvalidValue(
                f"depths {self.depths} are three, and they, width {self.width} and heads {self.heads} are at least 1, "
                f"levels {self.levels} at least 2; change the one that is not"
            )
        if not 0 <= self.dropout < 1 or not 0 < self.masked < 1 or self.epsilon <= 0:
            raise InvalidValue(
                f"dropout {self.dropout}, masked {self.masked} and epsilon {self.epsilon} must be below 1, the last "
                "two above 0"
            )
        if self.roles.caption and not self.objectives:
            known = ", ".join(OBJECTIVES)
            raise InvalidValue(f"there are captions and no objective to learn them by; give some of {known}")


@dataclass(frozen=True)
class Read:
    """What becomes of words and regions that saw each other.

    Attributes:
        words: one vector per word.
        regions: one vector per region.
        pooled: one vector for both.
    """

    words: Float[Tensor, "B T D"]
    regions: Float[Tensor, "B R D"]
    pooled: Float[Tensor, "B D"]


class CrossLayer(nn.Module):
    """Words look at regions and regions at words, by the same weights; then each stream has a block of its own."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, dropout: float, norms: Norms, shows: bool = True
    ) -> None:
        """Builds the shared attention and the two blocks; that of regions not where nobody reads them any more."""
        super().__init__()
        self.after = norms.after
        self.attend = Attention(width, heads, width)
        self.norm = nn.LayerNorm(width, norms.epsilon)
        self.dropout = nn.Dropout(dropout)
        self.words = Block(width, heads, mlp_width, dropout, norms=norms)
        self.regions = Block(width, heads, mlp_width, dropout, norms=norms) if shows else None

    def forward(
        self,
        words: Float[Tensor, "B T D"],
        said: Bool[Tensor, "B T"],
        regions: Float[Tensor, "B R D"],
        shown: Bool[Tensor, "B R"],
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B R D"]]:
        """Returns words and regions after this layer; the masks are True where they are real."""
        seen = self._look(words, regions, shown)
        if self.regions is not None:
            regions = self.regions(self._look(regions, words, said), shown)
        return self.words(seen, said), regions

    def _look(self, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Returns one stream after it has looked at the other."""
        other = other if self.after else F.layer_norm(other, other.shape[-1:])
        return added(x, self.norm, lambda y: self.dropout(crossed(self.attend, y, other, mask)), self.after)


class Lxmert(nn.Module):
    """Three encoders. Trains, Answers, Scores."""

    def __init__(self, config: Config, seen: Regions) -> None:
        """Assembles the stem of regions and builds the rest."""
        super().__init__()
        self.config = config
        width, epsilon, norms = config.width, config.epsilon, Norms(config.norm_after, config.epsilon)
        self.preprocessors = preprocessors(config.roles, config.image, config.text, config.answers)
        self.objectives = tuple(name for name in config.objectives if config.roles.caption)
        if seen.given:
            self.objectives = tuple(name for name in self.objectives if name != "labels")
        shows = bool({"regions", "labels"} & set(self.objectives))
        self.vocab_size: int = config.text.layout.vocab_size
        self.words = Words(self.vocab_size, width, config.text.tokens_max, "words" in self.objectives)
        self.mark = nn.Parameter(torch.randn(width) * 0.02)  # of the only kind of sentence
        self.norm_in = nn.LayerNorm(width, epsilon)
        self.seen, self.boxes = seen, nn.Linear(BOX, width)
        self.norm_seen, self.norm_boxes = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.dropout = nn.Dropout(config.dropout)
        size = (width, config.heads, config.mlp_width, config.dropout)
        language, vision, both = config.depths
        self.language = nn.ModuleList(Block(*size, norms=norms) for _ in range(language))
        self.vision = nn.ModuleList(Block(*size, norms=norms) for _ in range(vision))
        self.crossed = nn.ModuleList(CrossLayer(*size, norms, shows or i < both - 1) for i in range(both))
        self.norm_words, self.norm_regions = (
            nn.LayerNorm(width, epsilon) if wanted and not config.norm_after else nn.Identity()
            for wanted in (True, shows)
        )
        self.pool = FirstToken(width) if config.roles.question or "matching" in self.objectives else None
        self._heads(config)

    def _heads(self, config: Config) -> None:
        """Builds the heads of the tasks that there are."""
        width, epsilon = config.width, config.epsilon
        if "words" in self.objectives:
            self.tell = WordHead(width, self.vocab_size, epsilon)
        if {"regions", "labels"} & set(self.objectives):
            self.show = Transform(width, width, epsilon)
        if "regions" in self.objectives:
            self.show_numbers = nn.Linear(width, self.seen.size)
        if "labels" in self.objectives:
            self.show_labels = nn.Linear(width, config.levels**config.image.layout.channels)
        if "matching" in self.objectives:
            self.match = nn.Linear(width, 2)
        if config.roles.question:
            self.choose = Classifier(width, len(config.answers), epsilon=epsilon)

    def read(
        self,
        texts: Batch,
        pictures: Batch,
        hidden: Bool[Tensor, "B T"] | None = None,
        unseen: Bool[Tensor, "B R"] | None = None,
    ) -> Read:
        """Returns words and regions after all blocks; some words may be hidden, some regions unseen."""
        said, shown = texts.mask, pictures.mask
        words = self.dropout(self.norm_in(self.words(texts.values, hidden) + self.mark))
        seen, boxes = self.seen(pictures, unseen)
        regions = self.dropout((self.norm_seen(seen) + self.norm_boxes(self.boxes(boxes))) / 2)
        for block in self.language:
            words = block(words, said)
        for block in self.vision:
            regions = block(regions, shown)
        for layer in self.crossed:
            words, regions = layer(words, said, regions, shown)
        words, regions = self.norm_words(words), self.norm_regions(regions)
        return Read(words, regions, words[:, 0] if self.pool is None else self.pool(words))

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
        texts, pictures = texts.rows(both), pictures.rows(both)
        index, matches = exchanged(texts, 0.5 if "matching" in self.objectives else 0.0)
        own = texts.rows(index)
        masked = mask_words(own, self.config.masked, self.vocab_size)
        unseen = choose(pictures.mask, self.config.masked)
        shown, told = {"regions", "labels"} & set(self.objectives), "words" in self.objectives
        read = self.read(
            masked.batch if told else own, pictures, masked.hidden if told else None, unseen if shown else None
        )
        found: dict[str, Tensor] = {}
        if told:
            chosen = masked.chosen & matches[:, None]
            found["words"] = words_loss(self.tell(read.words[chosen], self.words.table.weight), own.values[chosen])
        if shown:
            found |= self._shown(read, pictures, unseen & matches[:, None])
        if "matching" in self.objectives:
            found["matching"] = matching_loss(self.match(read.pooled), matches)
        return found

    def _shown(self, read: Read, pictures: Batch, chosen: Bool[Tensor, "B R"]) -> dict[str, Tensor]:
        """Returns the losses of hidden regions: their numbers, and their commonest colour."""
        x, found = self.show(read.regions[chosen]), {}
        if "regions" in self.objectives:
            found["regions"] = features_loss(self.show_numbers(x), self.seen.content(pictures)[chosen])
        if "labels" in self.objectives:
            made = self.config.image
            shares = colours(pictures.values, made.layout.patch, self.config.levels, made.mean, made.std)
            found["labels"] = words_loss(self.show_labels(x), shares[chosen].argmax(dim=1))
        return found

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
            Unsupported: it has not learnt matching, or these are not pictures and texts.
        """
        return scored(self, lambda texts, seen: matching_score(self.match(self.read(texts, seen).pooled)), a, b)


def build(config: Config) -> Lxmert:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Lxmert(config, Regions(config.image.layout, config.width, config.first, config.channels))


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        **{"side": 64, "patch": 8, "tokens_max": 64, "first": (4, 4), "channels": (48, 96)},
        **{"masked": 0.3},  # more than the paper's share: learnt sooner (Wettig et al. 2022, arXiv 2202.08005)
    },
    "paper": {
        **{"side": 224, "patch": 32, "tokens_max": 20, "width": 768, "depths": (9, 5, 5), "heads": 12, "dropout": 0.1},
        **{"norm_after": True, "epsilon": 1e-12},
    },
}
"""``tiny`` trains on a laptop: 4.1 million weights, 64 regions. ``paper`` is arXiv 1908.07490, section 3.2: 9 blocks
over words, 5 over regions and 5 over both, of width 768."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality); answers are to be added.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no picture and text to learn from.
    """
    if size not in SIZES:
        raise UnknownName("size of lxmert", size, SIZES)
    numbers = dict(SIZES[size])
    side, patch = numbers.pop("side"), numbers.pop("patch")
    image = catalog.module("modalities", "image").PREPROCESSOR(side, side, patch)
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    return Config(roles_of("lxmert", fields), image, text, **numbers)
