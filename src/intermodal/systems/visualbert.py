"""VisualBERT: words and regions of a picture in one stream, so that attention can bind the ones to the others.

    sentence ─ table + places ─┐                       ┌ hidden words, with the picture in view
                               ├─ transformer blocks ──┼ first token: does the sentence match the picture?
    picture ─ stem of regions ─┘                       └ first token: the answer to a question, one of a list

Follows: Li et al. 2019, "VisualBERT: A Simple and Performant Baseline for Vision and Language", arXiv 1908.03557,
figure 2 and section 3. Captions (fields image and text) are learnt by masked words and by matching, questions (image,
question and answer) by a classifier; whatever fields a batch has, those are its losses. Changed: regions are cells of
the picture through a stem that is trained along, with a place each; or given vectors, as in the paper. A caption is
exchanged for another of the batch, where the paper puts a second caption beside the first. In the sizes that are
trained here the normalisation comes first. Left out: alignments of words to regions that a data set gives, and the
task-specific pre-training on the questions' own words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal import catalog
from intermodal.decoders.asking import Roles, answerable, answered, preprocessors, roles_of, scored
from intermodal.decoders.classification import Classifier, FirstToken, WordHead
from intermodal.errors import InvalidValue, UnknownName
from intermodal.layers.block import Block, Norms
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem
from intermodal.layers.words import Words
from intermodal.objectives.masked import mask_words, words_loss
from intermodal.objectives.matching import exchanged, matching_loss, matching_score
from intermodal.types import Batch, Encoded, Item, Sample


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        roles: which field is what.
        image: the preprocessor of pictures, or of given regions: a series of vectors, one step per region.
        text: the preprocessor of captions and questions.
        answers: that it chooses from, where there are questions.
        grid: rows and columns of regions of a picture; empty for given regions, which have no order.
        first: cells of the first patches of the stem.
        channels: of the stem's convolutions; empty for one product per region.
        width: D.
        depth: blocks.
        heads: of each block.
        mlp_width: inner width of the blocks' perceptrons; 0 for four times ``width``.
        dropout: of each residual branch, and of what enters.
        masked: share of a caption's words that are to be told.
        norm_after: each residual sum is normalised, as in the paper; else what enters a branch.
        epsilon: of the normalisations.
    """

    roles: Roles = Roles(caption="text")  # noqa: RUF009 - frozen
    image: Any = None
    text: Any = None
    answers: tuple[str, ...] = ()
    grid: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    width: int = 192
    depth: int = 6
    heads: int = 6
    mlp_width: int = 0
    dropout: float = 0.0
    masked: float = 0.15
    norm_after: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name in ("image", "text"):
            if getattr(self, name) is None:
                raise InvalidValue(f"{name!r} of visualbert is nothing; give a preprocessor")
        if min(self.width, self.depth, self.heads) < 1:
            raise InvalidValue(f"width {self.width}, depth {self.depth} and heads {self.heads} must all be at least 1")
        if not 0 <= self.dropout < 1 or not 0 < self.masked < 1 or self.epsilon <= 0:
            raise InvalidValue(
                f"dropout {self.dropout}, masked {self.masked} and epsilon {self.epsilon} must be below 1, the last "
                "two above 0"
            )


class VisualBert(nn.Module):
    """One stream. Trains, Answers, Scores."""

    def __init__(self, config: Config, seen: nn.Module) -> None:
        """Assembles the stem of regions and builds the rest."""
        super().__init__()
        self.config = config
        width, roles, norms = config.width, config.roles, Norms(config.norm_after, config.epsilon)
        self.preprocessors = preprocessors(roles, config.image, config.text, config.answers)
        self.vocab_size: int = config.text.layout.vocab_size
        self.words = Words(self.vocab_size, width, config.text.tokens_max, bool(roles.caption))
        self.seen = seen
        self.places = Positions(width, config.grid) if config.grid else None
        self.marks = nn.Parameter(torch.randn(2, width) * 0.02)  # of words, of regions
        self.norm_in = nn.LayerNorm(width, config.epsilon)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_width, config.dropout, norms=norms) for _ in range(config.depth)
        )
        self.norm = nn.Identity() if config.norm_after else nn.LayerNorm(width, config.epsilon)
        self.pool = FirstToken(width)
        if roles.caption:
            self.tell = WordHead(width, self.vocab_size, config.epsilon)
            self.match = nn.Linear(width, 2)
        if roles.question:
            self.choose = Classifier(width, len(config.answers), epsilon=config.epsilon)

    def read(self, texts: Batch, pictures: Batch, hidden: Bool[Tensor, "B T"] | None = None) -> Encoded:
        """Returns the words, then the regions, after all blocks; some words may be hidden."""
        words = self.words(texts.values, hidden) + self.marks[0]
        regions, grid = self.seen(pictures)
        regions = regions + self.marks[1]
        if self.places is not None:
            regions = regions + self.places(grid)
        x = self.dropout(self.norm_in(torch.cat((words, regions), dim=1)))
        mask = torch.cat((texts.mask, pictures.mask), dim=1)
        needed = None if bool(mask.all()) else mask
        for block in self.blocks:
            x = block(x, needed)
        x = self.norm(x)
        return Encoded(x, mask, self.pool(x) * mask.any(dim=1, keepdim=True))

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns what the fields of a batch allow: masked words and matching of captions, answers to questions."""
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
        """Returns the losses of captions that have a picture: words are told where the caption is the picture's own."""
        both = texts.present & pictures.present
        if not bool(both.any()):
            return {}
        texts, pictures = texts.rows(both), pictures.rows(both)
        index, matches = exchanged(texts)
        own = texts.rows(index)
        masked = mask_words(own, self.config.masked, self.vocab_size)
        read = self.read(masked.batch, pictures, masked.hidden)
        chosen = masked.chosen & matches[:, None]
        told = self.tell(read.tokens[:, : chosen.shape[1]][chosen], self.words.table.weight)
        return {
            "words": words_loss(told, own.values[chosen]),
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


def build(config: Config) -> VisualBert:
    """Returns the system that ``config`` describes, with fresh weights."""
    return VisualBert(config, stem(config.image.layout, config.width, config.first, config.channels))


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        **{"side": 64, "patch": 8, "tokens_max": 64, "first": (4, 4), "channels": (48, 96)},
        **{
            "depth": 4,
            "masked": 0.3,
        },  # more than the paper's share: learnt sooner (Wettig et al. 2022, arXiv 2202.08005)
    },
    "paper": {
        **{"side": 224, "patch": 32, "tokens_max": 128, "width": 768, "depth": 12, "heads": 12, "dropout": 0.1},
        **{"norm_after": True, "epsilon": 1e-12},
    },
}
"""``tiny`` trains on a laptop: 2.1 million weights, 64 regions. ``paper`` is arXiv 1908.03557, section 3.3, which is
BERT-base (arXiv 1810.04805): 12 blocks of width 768."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality); answers are to be added.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no picture and text to learn from.
    """
    if size not in SIZES:
        raise UnknownName("size of visualbert", size, SIZES)
    numbers = dict(SIZES[size])
    side, patch = numbers.pop("side"), numbers.pop("patch")
    image = catalog.module("modalities", "image").PREPROCESSOR(side, side, patch)
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    return Config(roles_of("visualbert", fields), image, text, grid=(side // patch, side // patch), **numbers)
