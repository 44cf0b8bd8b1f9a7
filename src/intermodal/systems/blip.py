"""BLIP: one text transformer in three roles, so that words and pictures are searched, matched, and written.

    picture ─ transformer ─┬─────────── first token ─┐ unit vectors pulled together, with soft labels
    words ─ reads ─────────┼─────────── first token ─┘ by a copy that follows slowly
    words ─ reads, looks ──┤            first token ── do they match? told from hard negatives
    words ─ writes, looks ─┘            every token ── the next word: captions, and answers to questions

Reading and writing have a self-attention each, and share all other weights. A question is read with the picture in
view, and its answer is written with the question, as it was read, in view.

Follows: Li et al. 2022, "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language Understanding and
Generation", arXiv 2201.12086, figures 2 and 5; slow copy and hard negatives as in ALBEF, arXiv 2107.07651. Captions
(fields image and text) are learnt by the three losses, questions (image, question and answer) by writing. CapFilt is
``training/capfilt.py``. Changed: captions of equal words are no negatives of each other; answers are written, not
chosen from a list; ids of any tokenizer stand for [ENC] and [DEC]; in the small size normalisation comes first, and
convolutions cut the picture. Left out: starting from published weights, two pictures at once (NLVR2), dialogue.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.decoders.asking import Roles, found, roles_of, scored
from intermodal.decoders.looking import READS, WRITES, Eyes, Stack, TextTransformer
from intermodal.decoders.remembering import Writing
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.block import Norms
from intermodal.layers.stem import stem
from intermodal.objectives.distillation import Queue, contrast, follow
from intermodal.objectives.matching import confused, matching_loss, matching_score
from intermodal.sampling.autoregressive import Sampling, continued
from intermodal.types import Batch, Candidate, Encoded, Item, Sample

CONTRAST, MATCHING, WRITING = "contrast", "matching", "writing"
LOSSES = (CONTRAST, MATCHING, WRITING)
SCALE_MAX = log(1000.0)  # the smallest temperature of the published code is 0.001
SMOOTHING = 0.1  # share of a word's label that goes to all words alike, in training, as there
RISING = 1000  # steps over which the slow copy's share in the labels rises
ROWS = 64  # that are read or written together; does not change the result
FAR = 1e4  # taken off the cosine of what is not read together, so that it comes after all that is


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        roles: which field is what.
        image: the preprocessor of pictures.
        text: the preprocessor of captions, questions and answers.
        learns: what is learnt of captions, some of ``LOSSES``.
        seen: the transformer over pictures.
        said: the transformer over words.
        grid: rows and columns of tokens of a picture.
        first: cells of the first patches of the stem.
        channels: of the stem's convolutions; empty for one product per patch.
        space: D of the space of unit vectors.
        shared: reading and writing share all but their self-attentions; else they are two transformers.
        begins: ids that texts begin with which are read with a picture, and which are written; empty for those of
            padding and of the end, which begin no other text.
        rows: of the table of words; 0 for those of the tokenizer.
        kept: share of the slow copy's weights that stays in a step; 0 for no copy.
        queue: rows of former batches that are compared with.
        softness: share that the slow copy has in the labels.
        dropout: of each residual branch over words, and of what enters.
        norms: over words; in the paper after each residual sum.
        longest: ids of a caption or an answer that are written at most.
    """

    roles: Roles = Roles(caption="text")  # noqa: RUF009 - frozen
    image: Any = None
    text: Any = None
    learns: tuple[str, ...] = LOSSES
    seen: Stack = Stack()  # noqa: RUF009 - frozen
    said: Stack = Stack()  # noqa: RUF009 - frozen
    grid: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    space: int = 128
    shared: bool = True
    begins: tuple[int, ...] = ()
    rows: int = 0
    kept: float = 0.995
    queue: int = 0
    softness: float = 0.4
    dropout: float = 0.0
    norms: Norms = Norms()  # noqa: RUF009 - frozen
    longest: int = 40

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        for name in ("image", "text"):
            if getattr(self, name) is None:
                raise InvalidValue(f"{name!r} of blip is nothing; give a preprocessor")
        for name in self.learns:
            if name not in LOSSES:
                raise UnknownName("loss of blip", name, LOSSES)
        if self.roles.caption and not self.learns:
            raise InvalidValue(f"there are captions and no loss to learn them by; give some of {', '.join(LOSSES)}")
        for name in ("kept", "softness", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidValue(f"{name} of blip is {getattr(self, name)}; give a share from 0 to below 1")
        if min(self.space, self.longest, self.queue + 1) < 1 or len(self.begins) not in (0, 2):
            raise InvalidValue(
                f"space {self.space} and longest {self.longest} are at least 1, queue {self.queue} at least 0, and "
                f"begins {self.begins} two ids or none; change the one that is not"
            )
        if self.roles.question and self.seen.width != self.said.width:
            raise InvalidValue(
                f"with questions, {self.seen} and {self.said} need the same width: one text looks at both"
            )

    @property
    def towers(self) -> Mapping[str, Any]:
        """The preprocessor of each field that has a vector."""
        known = {self.roles.image: self.image, self.roles.caption: self.text}
        return known if self.roles.caption and CONTRAST in self.learns else {}


class Blip(nn.Module):
    """Trains, Embeds, Scores, Translates, Completes, Answers. ``begin`` may be set: words that captions begin with."""

    begin: str = ""

    def __init__(self, config: Config, eyes: nn.Module) -> None:
        """Assembles the stem of pictures and builds what the config's fields and losses need."""
        super().__init__()
        self.config = config
        roles, said, learns = config.roles, config.said, config.learns if config.roles.caption else ()
        self.preprocessors: dict[str, Any] = {roles.image: config.image}
        self.preprocessors |= {n: config.text for n in (roles.caption, roles.question, roles.answer) if n}
        tokenizer, rows = config.text.tokenizer, config.rows or config.text.layout.vocab_size
        self.reads_from = int(tokenizer.begin_id)
        self.looks_from, self.writes_from = config.begins or (int(tokenizer.pad_id), int(tokenizer.end_id))
        self.eyes = Eyes(config.seen, eyes, config.grid)
        asks, looks = bool(roles.question), bool(roles.question or {MATCHING, WRITING} & {*learns})
        ways = (READS,) * bool(asks or {CONTRAST, MATCHING} & {*learns}) + (WRITES,) * (asks or WRITING in learns)

        def text(ways: tuple[str, ...], looks: bool, dropout: float = config.dropout) -> TextTransformer:
            width = config.seen.width if looks else None
            return TextTransformer(said, rows, config.text.tokens_max, ways, width, dropout, config.norms)

        parts = [ways] if config.shared else [(way,) for way in ways]
        self.texts = nn.ModuleDict({"-".join(part): text(part, looks) for part in parts})
        self.slow = nn.ModuleDict()
        if CONTRAST in learns:
            widths = {"image": config.seen.width, "text": said.width}
            self.heads = nn.ModuleDict({name: nn.Linear(width, config.space) for name, width in widths.items()})
            self.log_scale = nn.Parameter(torch.tensor(-log(0.07)))
            if config.kept:
                self.slow.update({"eyes": deepcopy(self.eyes), "heads": deepcopy(self.heads)})
                self.slow.update({"text": text((READS,), False, 0.0)})
                self.slow.requires_grad_(False)
                self.queue = Queue(config.queue, config.space)
                self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
                self._follow(0.0)
        if MATCHING in learns:
            self.match = nn.Linear(said.width, 2)

    def _text(self, way: str) -> Any:
        """Returns the text transformer that reads, or the one that writes."""
        return next(module for name, module in self.texts.items() if way in name)

    def _follow(self, kept: float) -> None:
        """Moves the slow copy."""
        for name, own in (("eyes", self.eyes), ("text", self._text(READS)), ("heads", self.heads)):
            follow(self.slow[name], own, kept)

    # ---- Three roles

    def alone(self, texts: Batch, slow: bool = False) -> Float[Tensor, "B D"]:
        """Returns the unit vector of each text, read without a picture; by the slow copy, if asked for."""
        heads: Any = self.slow["heads"] if slow else self.heads
        read: Encoded = (self.slow["text"] if slow else self._text(READS))(texts, self.reads_from)
        return F.normalize(heads["text"](read.pooled).float(), dim=-1)

    def shown(self, seen: Encoded, slow: bool = False) -> Float[Tensor, "B D"]:
        """Returns the unit vector of each picture that was seen."""
        heads: Any = self.slow["heads"] if slow else self.heads
        return F.normalize(heads["image"](seen.pooled).float(), dim=-1)

    def read(self, texts: Batch, seen: Encoded) -> Encoded:
        """Returns texts as they are read with pictures in view."""
        return self._text(READS)(texts, self.looks_from, seen)  # type: ignore[no-any-return]

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns what the fields of a batch allow: the losses of captions, and that of answers."""
        roles, terms = self.config.roles, dict[str, Tensor]()
        captions, questions, shown = batch.get(roles.caption), batch.get(roles.question), batch[roles.image]
        if captions is not None and bool((rows := captions.present & shown.present).any()):
            terms |= self._captions(captions.rows(rows), shown.rows(rows))
        if questions is not None and bool((rows := questions.present & batch[roles.answer].present).any()):
            asked = self.read(questions.rows(rows), self.eyes(shown.rows(rows)))
            terms["answers"] = self._told(batch[roles.answer].rows(rows), asked)
        return terms

    def _captions(self, texts: Batch, pictures: Batch) -> dict[str, Tensor]:
        """Returns the losses of captions with their pictures."""
        seen, keys, terms = self.eyes(pictures), texts.keys(), dict[str, Tensor]()
        near = seen.pooled.new_zeros(len(keys), len(keys))
        if CONTRAST in self.config.learns:
            own = self.shown(seen), self.alone(texts)
            terms[CONTRAST] = self._contrast(own, texts, pictures, keys)
            near = (own[0] @ own[1].T * self.log_scale.exp()).detach()
        if MATCHING in self.config.learns:
            shown, said, matches = confused(near, keys[:, None] == keys)
            other = Encoded(seen.tokens[shown], seen.mask[shown], seen.pooled[shown])
            terms[MATCHING] = matching_loss(self.match(self.read(texts.rows(said), other).pooled), matches)
        if WRITING in self.config.learns:
            terms[WRITING] = self._told(texts, seen)
        return terms

    def _contrast(
        self, own: tuple[Tensor, Tensor], texts: Batch, pictures: Batch, keys: Int64[Tensor, " B"]
    ) -> Float[Tensor, ""]:
        """Returns how badly pictures and texts, ``own``, find each other among these and those of the queue."""
        scale = self.log_scale.clamp(max=SCALE_MAX).exp()
        if not self.slow:
            return contrast(own, own, keys, scale, 0.0)
        with torch.no_grad():
            if self.training:
                self._follow(self.config.kept)
                self.get_buffer("steps").add_(1)
            slowly = self.shown(self.slow["eyes"](pictures), True), self.alone(texts, True)
        share = self.config.softness * min(1.0, int(self.get_buffer("steps")) / RISING)
        loss = contrast(own, slowly, keys, scale, share, self.queue)
        if self.training:
            self.queue.add(*slowly, keys)
        return loss

    def _told(self, texts: Batch, seen: Encoded) -> Float[Tensor, ""]:
        """Returns the mean cost of a word, in nats."""
        logits, wanted = self._text(WRITES).told(texts, self.writes_from, seen)
        smoothing = SMOOTHING * self.training
        return F.cross_entropy(logits.float(), wanted, reduction="sum", label_smoothing=smoothing) / max(1, len(wanted))

    # ---- Embeds, Scores

    @torch.no_grad()
    def embed(self, items: Sequence[Item], fields: str | None = None) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given, pictures and texts mixed at will.

        Raises:
            Unsupported: it has learnt no vectors, or none of that field (default: by each item's modality).
        """
        known, where = self.config.towers, dict[str, list[int]]()
        for i, item in enumerate(items):
            name = fields or next((n for n, p in known.items() if p.modality == item.modality), item.modality)
            if name not in known:
                raise Unsupported(f"this model makes vectors of {', '.join(known) or 'nothing'}, not of {name}")
            where.setdefault(name, []).append(i)
        training, device = self.training, next(self.parameters()).device
        self.eval()
        result = torch.zeros(len(items), self.config.space, device=device)
        for name, index in where.items():
            for part in (index[start : start + ROWS] for start in range(0, len(index), ROWS)):
                batch = self.preprocessors[name]([items[i] for i in part]).to(device)
                is_text = name == self.config.roles.caption
                result[part] = self.alone(batch) if is_text else self.shown(self.eyes(batch))
        self.train(training)
        return result

    def _odds(self, texts: Batch, pictures: Batch) -> Float[Tensor, " B"]:
        """Returns the logarithm of the odds that each text belongs to the picture beside it."""
        return matching_score(self.match(self.read(texts, self.eyes(pictures)).pooled))

    def matches(self, pictures: Sequence[Item], texts: Sequence[Item]) -> Float[Tensor, " N"]:
        """Returns for each picture and the text beside it the logarithm of the odds that they belong together."""
        pairs = [*zip(pictures, texts, strict=True)]
        return found(self, self._odds, self.config.roles.caption, pairs) if pairs else torch.zeros(0)

    def score(self, a: Sequence[Item], b: Sequence[Item], nearest: int = 0) -> Float[Tensor, "A B"]:
        """Returns for every picture and text the logarithm of the odds that they belong together.

        Args:
            a: pictures or texts.
            b: the others.
            nearest: only so many of ``b`` are read with each of ``a``, those of the highest cosine; all others come
                after them, in the order of their cosine. 0 for all.
        """
        if not 0 < nearest < len(b) or not a:
            return scored(self, self._odds, a, b)
        table = self.embed(a) @ self.embed(b).T
        index, table = table.topk(nearest, dim=1).indices, table - FAR
        pairs = [x for x in a for _ in range(nearest)], [b[i] for i in index.flatten().tolist()]
        odds = self.matches(*(reversed(pairs) if a[0].modality == "text" else pairs))
        return table.scatter(1, index, odds.view(index.shape))

    # ---- Translates, Completes, Answers

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The one it was trained for: pictures to captions."""
        roles, writes = self.config.roles, WRITING in self.config.learns
        return ((roles.image, roles.caption),) if roles.caption and writes else ()

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns a caption of each picture: the best of ``count`` candidates."""
        samples = [{source or self.config.roles.image: item} for item in items]
        return [best[0].item for best in self.candidates(samples, to, sampling=sampling, count=count)]

    @torch.no_grad()
    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Sampling | None = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` captions of its picture, or answers to its question, best first.

        The score is the mean log-likelihood of an id. Without a temperature above 0 they are those of a beam search.

        Raises:
            Unsupported: it has not learnt to write that, or a sample lacks what it is written from.
        """
        roles, device = self.config.roles, next(self.parameters()).device
        needs = {b: a for a, b in self.directions} | ({roles.answer: roles.question} if roles.question else {})
        for sample in samples:
            shown = sample.get(roles.image)
            if needs.get(to) not in sample or (shown is not None and shown.modality != "image"):
                known = ", ".join(f"{b} from {a}" for b, a in needs.items()) or "nothing"
                given = ", ".join(f"{name} ({item.modality})" for name, item in sample.items()) or "nothing"
                raise Unsupported(f"this model writes {known}, not {to} from {given}")
        text, chosen, training = self.config.text, sampling or Sampling(), self.training
        begin = text.tokenizer.encode(self.begin if to == roles.caption else "")[1:-1]
        first = torch.tensor([[self.writes_from, *begin]], device=device)
        longest = min(self.config.longest, text.tokens_max - first.shape[1])
        made: list[Candidate] = []
        self.eval()
        for part in (samples[start : start + ROWS] for start in range(0, len(samples), ROWS)):
            seen = self.eyes(self.config.image([s.get(roles.image) for s in part]).to(device))
            if to == roles.answer:
                seen = self.read(text([s[roles.question] for s in part]).to(device), seen)
            steps, own = Writing(self._text(WRITES), seen), first.expand(len(part), -1)
            drawn = continued(steps, own, text.tokenizer.end_id, longest, chosen, count)
            ids = torch.cat((first[:, 1:].expand(len(drawn.ids), -1), drawn.ids), dim=1)
            texts = text.invert(torch.where(ids < text.layout.vocab_size, ids, text.tokenizer.pad_id))
            made += [Candidate(*pair) for pair in zip(texts, drawn.score.tolist(), strict=True)]
        self.train(training)
        return [sorted(made[i : i + count], key=lambda c: -c.score) for i in range(0, len(made), count)]

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words."""
        return self.answers([sample], [question])[0]

    def answers(self, samples: Sequence[Sample], questions: Sequence[str]) -> list[str]:
        """Returns the answer to a question about each sample; of a sample only its picture is read.

        Raises:
            Unsupported: it was not trained on questions, or what should be a picture is none.
        """
        roles, text = self.config.roles, catalog.module("modalities", "text").ITEM
        if not roles.question:
            raise Unsupported("this model has learnt no answers; train it on the fields image, question and answer")
        asked = [{**s, roles.question: text(words)} for s, words in zip(samples, questions, strict=True)]
        return [str(best[0].item.text) for best in self.candidates(asked, roles.answer)]  # type: ignore[attr-defined]


def build(config: Config) -> Blip:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Blip(config, stem(config.image.layout, config.seen.width, config.first, config.channels))


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"side": 64, "patch": 16, "tokens_max": 64, "first": (4, 4), "channels": (48, 96), "queue": 1024},
    "paper": {
        **{"side": 224, "patch": 16, "tokens_max": 512, "seen": Stack(768, 12, 12), "said": Stack(768, 12, 12)},
        **{"space": 256, "queue": 57_600, "dropout": 0.1, "norms": Norms(True, 1e-12)},
    },
}
"""``tiny`` trains on a laptop: 16 tokens of a picture. ``paper`` is arXiv 2201.12086, section 4.1: ViT-B/16 and
BERT-base; 224 million weights besides the slow copy."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality); answers are to be added.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no picture and text to learn from.
    """
    if size not in SIZES:
        raise UnknownName("size of blip", size, SIZES)
    numbers = dict(SIZES[size])
    side, patch = numbers.pop("side"), numbers.pop("patch")
    image = catalog.module("modalities", "image").PREPROCESSOR(side, side, patch)
    text = catalog.module("modalities", "text").PREPROCESSOR(tokenizer, numbers.pop("tokens_max"))
    return Config(roles_of("blip", fields), image, text, grid=(side // patch, side // patch), **numbers)
