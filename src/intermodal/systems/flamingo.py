"""Flamingo: a frozen language model that looks at the pictures between its texts, and so learns tasks from a prompt.

    picture ─ tower of a CLIP (frozen) ─ resampler ─ a few tokens ─┐
    clip ─ its frames, each so ────────┘                           │ seen by the texts after it, up to the next picture
                                                  ┌────────────────┴─┐
    text ─ picture ─ text ─ ... ─ the last text ──┤ gated attention  ├─ the next word
                                                  │ language (frozen)│   before each block of it, gates shut at first
                                                  └──────────────────┘

Follows: Alayrac et al. 2022, "Flamingo: a Visual Language Model for Few-Shot Learning", arXiv 2204.14198, figures 3 and
4 and section 2: a perceiver resampler, gated cross-attention and perceptrons whose gates open from zero, a mask for
each picture, any sequence of pictures, clips and texts as a prompt. Changed: a word that has no picture before it
passes by what was added, so that on texts alone it is the language model, to the last bit; the begin of a text stands
for the tag <image>, its end for <EOC>. Left out: data sets each with a weight of its own, and that a text is at random
taken with the picture after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from intermodal import catalog
from intermodal.decoders.prompts import SEEN, TEXT, Looking, Slots, paired, row_of, sequences
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.block import Block
from intermodal.layers.resampler import Resampler
from intermodal.layers.stream import streamed
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Batch, Candidate, Item, Sample

SEES = ("last", "all")
ROWS = 64  # prompts that are read together; changes nothing but the memory needed


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        fields: field -> modality: text, image or video.
        prompts: sequences of fields that are learnt from.
        reader: config of a clip; its tower ``tower`` looks at pictures and frames, and is not trained.
        language: config of a language model, which is not trained either.
        tower: of the reader.
        queries: tokens that a picture or a clip becomes.
        depth: blocks of the resampler.
        heads: of the resampler and of the layers that look.
        width: D of the tokens of a picture; 0 for that of the language model.
        every: so many blocks of the language model come with one layer that looks.
        frames: of a clip.
        gate: where the numbers start whose tanh multiplies what is added; 0 in the paper.
        sees: a word attends to the ``last`` picture before it, as in the paper, or to ``all`` of them.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    prompts: tuple[tuple[str, ...], ...] = ()
    reader: Any = None
    language: Any = None
    tower: str = "image"
    queries: int = 8
    depth: int = 2
    heads: int = 4
    width: int = 0
    every: int = 1
    frames: int = 8
    gate: float = 0.0
    sees: str = "last"

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if self.reader is None or self.language is None:
            raise InvalidValue("flamingo needs a reader, a clip that looks, and a language, which writes; give both")
        if self.tower not in self.reader.towers:
            raise UnknownName("tower of the reader", self.tower, self.reader.towers)
        if self.looking.modality != "image" or 0 in self.reader.towers[self.tower].sizes:
            raise InvalidValue(
                f"the tower {self.tower} of the reader reads {self.looking.modality}; give one of pictures"
            )
        for name in (name for prompt in self.prompts for name in prompt):
            if name not in self.fields:
                raise UnknownName("field of flamingo", name, self.fields)
        for prompt in self.prompts:
            kinds = [self.fields[name] for name in prompt]
            if not {TEXT, *SEEN} >= set(kinds) or TEXT not in kinds or not set(SEEN) & set(kinds):
                raise InvalidValue(f"a prompt of {', '.join(kinds)} is none; it has texts, and pictures or clips")
        if not self.prompts:
            raise InvalidValue("flamingo has no prompts to learn from; give at least one sequence of fields")
        if self.sees not in SEES:
            raise UnknownName("way to see pictures", self.sees, SEES)
        if min(self.queries, self.depth, self.heads, self.every, self.frames) < 1 or self.width < 0:
            raise InvalidValue(
                f"queries {self.queries}, depth {self.depth}, heads {self.heads}, every {self.every}, frames "
                f"{self.frames} are at least 1, width {self.width} at least 0; change the one that is not"
            )

    @property
    def looking(self) -> Any:
        """The preprocessor of pictures: that of the tower."""
        return self.reader.towers[self.tower].preprocessor

    def preprocessor(self, modality: str) -> Any:
        """Returns what prepares items of a modality; frames of clips become what pictures are."""
        one = self.looking
        if modality == TEXT:
            return self.language.text
        if modality == "image":
            return one
        patch = (1, one.patch, one.patch)
        make = catalog.module("modalities", "video").PREPROCESSOR
        return make(self.frames, one.height, one.width, patch, one.mean, one.std)


class Flamingo(nn.Module):
    """Trains, Translates, Completes, Answers."""

    def __init__(self, config: Config, reader: nn.Module, language: nn.Module) -> None:
        """Assembles a built reader and a built language model, neither of which is trained, and builds the rest."""
        super().__init__()
        self.config = config
        self.preprocessors = {name: config.preprocessor(modality) for name, modality in config.fields.items()}
        self.makes = {modality: config.preprocessor(modality) for modality in (TEXT, *SEEN)}
        self.text = catalog.module("modalities", TEXT).ITEM
        self.reader: Any = reader.requires_grad_(False).eval()
        self.language: Any = language.requires_grad_(False).eval()
        tower, own = config.reader.towers[config.tower], config.language.width
        self.patches = prod(tower.sizes)
        self.width = width = config.width or own
        numbers = (config.queries, config.depth, config.heads, config.frames)
        self.resampler = Resampler(tower.width, self.patches + tower.class_token, width, *numbers)
        at = range(0, config.language.depth, config.every)
        looks = (Block(own, config.heads, context_width=width, attends_self=False) for _ in at)
        self.layers = nn.ModuleDict({str(i): look.gated(config.gate) for i, look in zip(at, looks, strict=True)})

    def train(self, mode: bool = True) -> "Flamingo":
        """Sets the mode of all that is trained."""
        super().train(mode)
        self.reader.eval()
        self.language.eval()
        return self

    # ---- What is seen, and by which words

    def look(self, batch: Batch) -> Float[Tensor, "B R E"]:
        """Returns the tokens of each picture or clip; zero where there is none."""
        here = batch.present
        result = torch.zeros(len(batch), self.config.queries, self.width, device=here.device)
        if not bool(here.any()):
            return result
        values = batch.values[here]
        frames = values[:, None] if values.dim() == 4 else values.transpose(1, 2)
        flat = frames.flatten(0, 1)
        with torch.no_grad():
            mask = torch.ones(len(flat), self.patches, dtype=torch.bool, device=flat.device)
            seen = self.reader.encoders[self.config.tower](Batch(flat, mask)).tokens
        told = self.resampler(seen.reshape(*frames.shape[:2], *seen.shape[1:]))
        return result.to(told.dtype).index_put((here.nonzero()[:, 0],), told)

    def _slots(self, seen: Sequence[Mapping[str, Batch]], texts: Sequence[Batch]) -> Slots:
        """Returns prompts with these pictures and clips, by modality, and these texts, slot by slot."""
        rows, device = len(texts[0]), texts[0].mask.device
        shape = (rows, len(texts), self.config.queries, self.width)
        found, there = torch.zeros(shape, device=device), torch.zeros(shape[:2], dtype=torch.bool, device=device)
        for modality in SEEN:
            at = [i for i, one in enumerate(seen) if modality in one]
            if at:
                parts = [seen[i][modality] for i in at]
                whole = Batch(torch.cat([p.values for p in parts]), torch.cat([p.mask for p in parts]))
                told = self.look(whole).reshape(len(at), rows, *shape[2:]).transpose(0, 1)
                mine = whole.present.view(len(at), rows).T
                found = found.to(told.dtype).index_add(1, torch.tensor(at, device=device), told)
                there[:, at] = there[:, at] | mine
        return Slots(found, there, tuple(texts))

    def _looking(self, slots: Slots, slot: Int64[Tensor, "B S"]) -> Looking | None:
        """Returns what lets words look, where each is of some slot; None where there is nothing to see."""
        if not bool(slots.there.any()):
            return None
        layers: dict[int, Any] = {int(i): layer for i, layer in self.layers.items()}
        return Looking(layers, slots.seen.flatten(1, 2), slots.allowed(slot, self.config.sees == "all"))

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns for each sequence of fields the mean cost of an id of its texts, in nats."""
        result = {}
        for prompt in self.config.prompts:
            names = [name for name in prompt if name in batch]
            if not any(bool(batch[name].present.any()) for name in names if self.config.fields[name] == TEXT):
                continue
            slots = self._trained(names, batch)
            stream = streamed(slots.texts)
            told = stream.told
            costs = self.language.costs(stream, self._looking(slots, stream.slot))
            result[" ".join(prompt[-2:])] = (costs * told).sum() / told.sum().clamp(min=1)
        return result

    def _trained(self, names: Sequence[str], batch: Mapping[str, Batch]) -> Slots:
        """Returns the prompts that some fields of a batch are; a picture right before another gets an empty text."""
        kinds = [self.config.fields[name] for name in names]
        seen: list[dict[str, Batch]] = []
        texts = []
        for shown, said in paired(kinds):
            seen.append({} if shown is None else {kinds[shown]: batch[names[shown]]})
            if said is None:
                there = batch[names[shown or 0]].present.tolist()
                texts.append(self.language.preprocess([self.text("") if here else None for here in there]))
            else:
                texts.append(batch[names[said]])
        return self._slots(seen, texts)

    # ---- Translates, Completes, Answers

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """From the last picture or clip of each sequence that it learnt to its last text."""
        kinds = self.config.fields
        last = [
            [[n for n in p if (kinds[n] == TEXT) is told][-1] for told in (False, True)] for p in self.config.prompts
        ]
        return tuple(dict.fromkeys((shown, said) for shown, said in last))

    def translate(
        self,
        items: Sequence[Item],
        to: str,
        *,
        source: str | None = None,
        sampling: Sampling | None = None,
        count: int = 1,
    ) -> list[Item]:
        """Returns the text that is told of each item, without any shots: see ``types.Translates``."""
        for item in items:
            if item.modality not in SEEN or source not in (None, *self.config.fields):
                raise Unsupported(f"flamingo tells of pictures and clips, not of {source or item.modality}")
        found = self.candidates([{"": item} for item in items], to, sampling=sampling, count=count)
        return [best[0].item for best in found]

    def candidates(
        self,
        samples: Sequence[Sample],
        to: str,
        *,
        sampling: Sampling | None = None,
        count: int = 1,
        begins: Sequence[str] | None = None,
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` texts that follow it, best first.

        A sample is a prompt: its pictures, clips and texts in their order, whatever its fields are called. The score of
        a text is the mean log-likelihood of its ids, in nats.

        Args:
            samples: prompts; their own ``to`` is not looked at.
            to: a field of text.
            sampling: how ids are chosen; default: greedy for one, at temperature 1 within 90 % for several.
            count: texts per sample.
            begins: what each text begins with; it is in what is returned.

        Raises:
            Unsupported: another field is asked for, or a sample holds what is neither text, picture nor clip.
            InvalidValue: ``count`` is below 1, or a prompt has more pictures and texts than there are places for.
        """
        if self.config.fields.get(to) != TEXT:
            raise Unsupported(f"flamingo writes texts; {to!r} is no field of text of this model")
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        chosen = sampling or (Sampling() if count == 1 else Sampling(temperature=1.0, top_p=0.9))
        begins = begins or [""] * len(samples)
        result = []
        for start in range(0, len(samples), step := max(1, ROWS // count)):
            here = slice(start, start + step)
            prompts = [{name: item for name, item in sample.items() if name != to} for sample in samples[here]]
            found = self._written(prompts, begins[here], chosen, count)
            for row, begin in zip(found, begins[here], strict=True):
                made = [Candidate(self.text(f"{begin} {words}".strip()), score) for words, score in row]
                result.append(sorted(made, key=lambda candidate: -candidate.score))
        return result

    def answer(self, sample: Sample, question: str) -> str:
        """Returns how a text goes on that begins with ``question`` and follows the sample, a prompt."""
        return self.answers([sample], [question])[0]

    def answers(self, samples: Sequence[Sample], questions: Sequence[str]) -> list[str]:
        """Returns how each text goes on, the likeliest id after the other."""
        found: list[str] = []
        for start in range(0, len(samples), ROWS):
            here = slice(start, start + ROWS)
            found += [row[0][0] for row in self._written(samples[here], questions[here], Sampling(), 1)]
        return found

    @torch.no_grad()
    def _written(
        self, prompts: Sequence[Sample], begins: Sequence[str], sampling: Sampling, count: int
    ) -> list[list[tuple[str, float]]]:
        """Returns for each prompt ``count`` ways in which a text goes on, and the score of each."""
        training = self.training
        self.eval()
        number = torch.arange(len(prompts) * count, device=self.resampler.queries.device)
        slots = self._prompted(prompts, self.language.begun(begins)).rows(number // count)
        stream = streamed(slots.texts)
        looks = [self._looking(slots, slot) for slot in (stream.slot, stream.slot.amax(dim=1, keepdim=True))]
        ids, scores = self.language.written(stream, sampling, number % count, looks if looks[0] else None)
        said = [(self.language.tokenizer.decode(row), score) for row, score in zip(ids, scores, strict=True)]
        self.train(training)
        return [said[i * count : (i + 1) * count] for i in range(len(prompts))]

    @torch.no_grad()
    def log_likelihood(
        self, samples: Sequence[Sample], begins: Sequence[str], options: Sequence[Sequence[str]]
    ) -> Float[Tensor, "N O"]:
        """Returns the logarithm of the probability of each way in which a text could go on, in nats.

        Args:
            samples: N prompts.
            begins: what the text that follows each begins with.
            options: of each prompt as many ways in which that text goes on, its end counted.
        """
        training = self.training
        self.eval()
        found = []
        for start in range(0, len(samples), ROWS):
            here = slice(start, start + ROWS)
            begun = self.language.begun(begins[here])
            ways = len(options[start])
            pairs = [(b, o) for b, row in zip(begins[here], options[here], strict=True) for o in row]
            every = [self.text(f"{begin} {option}".strip()) for begin, option in pairs]
            index = torch.arange(len(every), device=begun.mask.device) // ways
            slots = self._prompted(samples[here], begun).rows(index).last(self.language.preprocess(every))
            stream = streamed(slots.texts)
            costs = self.language.costs(stream, self._looking(slots, stream.slot))
            behind = stream.place >= begun.mask.sum(dim=1)[index][:, None]
            told = stream.told & behind[:, 1:] & (stream.slot[:, 1:] == len(slots.texts) - 1)
            found.append(-(costs * told).sum(dim=1).view(-1, ways))
        self.train(training)
        return torch.cat(found)

    def _prompted(self, prompts: Sequence[Sample], last: Batch) -> Slots:
        """Returns samples as prompts, each behind as many empty slots as it lacks, and the text that follows them."""
        rows = [row_of(prompt, self.config.language.texts_max) for prompt in prompts]
        most = max(map(len, rows))
        rows = [[(None, None)] * (most - len(row)) + row for row in rows]
        device = last.mask.device
        seen: list[dict[str, Batch]] = []
        texts = []
        for slot in range(most):
            shown, said = zip(*(row[slot] for row in rows), strict=True)
            here = {item.modality for item in shown if item is not None}
            seen.append(
                {
                    m: self.makes[m]([i if i is not None and i.modality == m else None for i in shown]).to(device)
                    for m in here
                }
            )
            texts.append(self.language.preprocess(said) if slot < most - 1 else last)
        return self._slots(seen, texts)


def build(config: Config) -> Flamingo:
    """Returns the system that ``config`` describes, with fresh weights; reader and language are to be filled."""
    reader, language = (catalog.system_of(part).build(part) for part in (config.reader, config.language))
    return Flamingo(config, reader, language)


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"frames": 4},
    "paper": {"queries": 64, "depth": 6, "heads": 16},
}
"""``tiny`` trains on a laptop. ``paper`` is Flamingo-3B (arXiv 2204.14198, appendix A.1.1): 64 queries, 6 blocks of the
resampler, a layer that looks before each of the 24 blocks; its reader is CLIP's ViT-B/32 and no NFNet-F6."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    Reader and language are those of that size, to be replaced by trained ones. What is learnt from: see ``sequences``.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no text, or neither pictures nor clips.
    """
    if size not in SIZES:
        raise UnknownName("size of flamingo", size, SIZES)
    used = {name: modality for name, modality in fields.items() if modality in (TEXT, *SEEN)}
    if TEXT not in used.values() or len(set(used.values())) < 2:
        raise Unsupported(
            f"flamingo learns from texts with pictures or clips; the data has {', '.join(fields)}: choose with --fields"
        )
    prompts = sequences(used)
    texts = {name: TEXT for name in prompts[0] if used[name] == TEXT}
    language = catalog.module("systems", "language").sized(size, texts, tokenizer)
    reader = catalog.module("systems", "clip").sized(size, {"image": "image", TEXT: TEXT}, tokenizer)
    return Config(used, prompts, reader, language, **SIZES[size])
