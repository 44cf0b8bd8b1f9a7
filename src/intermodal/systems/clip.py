"""CLIP over any number of modalities: one tower each, one space, pulled together pair by pair.

    image ─ tower ─ head ─┐                ┌ every pair of fields that meet in a batch:
    text  ─ tower ─ head ─┼─ unit vectors ─┤ InfoNCE over the rows that have both,
    audio ─ tower ─ head ─┘                └ with a learned temperature per pair

Follows: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020,
figure 3; binding modalities that never met through a third as in ImageBind, arXiv 2305.05665; the sigmoid form of
SigLIP, arXiv 2303.15343; vectors that can be cut as in Matryoshka learning, arXiv 2205.13147, eq. 1, all lengths alike.
Changed: a temperature per pair of fields, since pairs share different amounts of what there is to tell; equal texts in
a batch count as positives of each other. Gathering over processes is the training loop's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog, runtime
from intermodal.encoders.inference import batch_of, pooled
from intermodal.encoders.tower import TowerConfig, encoder, tiny
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.objectives.contrastive import info_nce, sigmoid_loss
from intermodal.types import Batch, Encoded, Item, Symbols

OBJECTIVES = ("info_nce", "sigmoid")
SCALE_MAX = math.log(100.0)  # as in the paper: beyond that the loss jumps on single pairs


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        towers: field name -> tower; at least two.
        width: D of the shared space.
        pairs: ``"all"``; one field name for all pairs with that field; or ``"image-text,audio-text"``.
        objective: one of ``OBJECTIVES``.
        temperature: where the learned temperatures start, above 0.
        equal_texts: rows of a batch whose text is the same, token by token, count as positives of each other, in every
            pair of fields.
        matryoshka: widths below D, such as ``(32, 64)``. The first so many numbers of each vector, of unit length
            again, have a loss of their own, so that vectors can be cut to these widths; empty for none.
    """

    towers: Mapping[str, TowerConfig] = field(default_factory=dict)
    width: int = 128
    pairs: str = "all"
    objective: str = "info_nce"
    temperature: float = 0.07
    equal_texts: bool = True
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if len(self.towers) < 2:
            raise InvalidValue(f"clip needs at least two towers, not {len(self.towers)} ({', '.join(self.towers)})")
        if self.objective not in OBJECTIVES:
            raise UnknownName("objective of clip", self.objective, OBJECTIVES)
        if self.temperature <= 0 or self.width < 1:
            raise InvalidValue(f"temperature {self.temperature} and width {self.width} must both be above 0")
        if len(set(self.matryoshka)) < len(self.matryoshka) or not all(0 < w < self.width for w in self.matryoshka):
            raise InvalidValue(
                f"matryoshka is {self.matryoshka}; give different widths from 1 to {self.width - 1}: vectors have "
                f"{self.width} numbers"
            )
        self.trained_pairs()

    def trained_pairs(self) -> tuple[tuple[str, str], ...]:
        """Returns the pairs of fields that are trained, each once, in the order of the towers."""
        every = tuple(combinations(self.towers, 2))
        if self.pairs == "all":
            return every
        wanted = [tuple(p.strip().split("-")) for p in self.pairs.split(",")]
        for name in (name for pair in wanted for name in pair):
            if name not in self.towers:
                raise UnknownName("tower", name, self.towers)
        anchors = {pair[0] for pair in wanted if len(pair) == 1}
        chosen = {frozenset(pair) for pair in wanted if len(pair) == 2}
        found = tuple(p for p in every if frozenset(p) in chosen or anchors & set(p))
        if not found:
            raise InvalidValue(f"pairs {self.pairs!r} name no pair of different fields; write for example 'image-text'")
        return found


class Clip(nn.Module):
    """Towers, heads and temperatures. Trains, Represents, Embeds, Scores, Classifies."""

    def __init__(self, config: Config, encoders: Mapping[str, nn.Module]) -> None:
        """Assembles built encoders, one per tower of ``config``."""
        super().__init__()
        self.config = config
        self.precision: str | None = None  # to embed in; None for the default
        self.preprocessors = {name: tower.preprocessor for name, tower in config.towers.items()}
        self.encoders = nn.ModuleDict(encoders)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(int(module.width), config.width, bias=False) for name, module in encoders.items()}  # type: ignore[arg-type]
        )
        self.pairs = config.trained_pairs()
        names = ["-".join(pair) for pair in self.pairs]
        start = -math.log(config.temperature)
        self.log_scales = nn.ParameterDict({name: nn.Parameter(torch.tensor(start)) for name in names})
        self.biases = nn.ParameterDict()
        if config.objective == "sigmoid":
            self.biases.update({name: nn.Parameter(torch.tensor(-10.0)) for name in names})
        for name in encoders:
            self.register_buffer(f"centre_{name}", torch.zeros(config.width))
        for name, tower in config.towers.items():
            self.encoders[name].requires_grad_(not tower.frozen)

    # ---- Trains

    def encode(self, name: str, batch: Batch) -> Encoded:
        """Returns what the encoder of field ``name`` makes of a batch, without gradients where it is frozen."""
        frozen = self.config.towers[name].frozen
        if frozen:
            self.encoders[name].eval()
        with torch.no_grad() if frozen else nullcontext():
            encoded: Encoded = self.encoders[name](batch)
        return encoded

    def vectors(self, name: str, batch: Batch) -> Float[Tensor, "B D"]:
        """Returns one unit vector per row of a batch of field ``name``; zero where the field is absent."""
        present = batch.present
        complete = bool(present.all())
        encoded = self.encode(name, batch if complete else batch.rows(present))
        rows = F.normalize(self.heads[name](encoded.pooled).float(), dim=-1)
        if complete:
            return rows
        return rows.new_zeros(len(batch), rows.shape[1]).masked_scatter(present[:, None], rows)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns one contrastive loss per trained pair that meets in two rows or more, divided by how many do.

        ``text-image`` is that of whole vectors; for each width of ``matryoshka`` there is another, ``text-image.32``,
        and all are divided by how many these are.
        """
        return self.losses_of(self.represent(batch))

    def represent(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns per row of each field its unit vector (``image``), and whether it is there (``image.present``).

        Where equal texts are positives, also a number that stands for the words (``text.words``).
        """
        rows: dict[str, Tensor] = {}
        for name, part in batch.items():
            if name not in self.config.towers:
                continue
            rows[f"{name}.present"] = part.present
            if bool(part.mask.any()):
                rows[name] = self.vectors(name, part)
            else:
                rows[name] = torch.zeros(len(part), self.config.width, device=part.mask.device)
            if self.config.equal_texts and part.values.dim() == 2 and not part.values.is_floating_point():
                rows[f"{name}.words"] = part.keys()
        return rows

    def losses_of(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the losses of what ``represent`` gave for the rows of one batch, or of several."""
        meeting = {}
        for a, b in self.pairs:
            if a in rows and b in rows:
                both = rows[f"{a}.present"] & rows[f"{b}.present"]
                if int(both.sum()) > 1:
                    meeting[a, b] = both
        result = {}
        for (a, b), both in meeting.items():
            name = f"{a}-{b}"
            mine, theirs = (rows[x] if bool(both.all()) else rows[x][both] for x in (a, b))
            groups, share = _groups(rows, both), len(meeting) * (1 + len(self.config.matryoshka))
            result[name] = self._loss(name, mine, theirs, groups) / share
            for width in self.config.matryoshka:
                left, right = (F.normalize(x[:, :width], dim=-1) for x in (mine, theirs))
                result[f"{name}.{width}"] = self._loss(name, left, right, groups) / share
        return result

    def _loss(self, name: str, a: Tensor, b: Tensor, groups: Tensor | None) -> Tensor:
        scale = self.log_scales[name].clamp(max=SCALE_MAX).exp()
        if self.config.objective == "sigmoid":
            return sigmoid_loss(a, b, scale, self.biases[name], groups=groups)
        return info_nce(a, b, scale, groups=groups)

    # ---- Embeds, Scores, Classifies

    def field_of(self, modality: str) -> str:
        """Returns the first field that reads ``modality``.

        Raises:
            Unsupported: no tower does; the message lists those there are.
        """
        for name, tower in self.config.towers.items():
            if tower.modality == modality:
                return name
        known = sorted({t.modality for t in self.config.towers.values()})
        raise Unsupported(f"this model has no tower for {modality}; it reads {', '.join(known)}")

    @torch.no_grad()
    def embed(
        self,
        items: Sequence[Item],
        fields: str | None = None,
        batch_size: int = 64,
        precision: str | None = None,
        width: int | None = None,
    ) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given, modalities mixed at will.

        Args:
            items: N items.
            fields: the field whose tower reads them all; default: by each item's modality, the first tower for it.
            batch_size: items prepared together, of symbols 16 times as many; does not change the result.
            precision: fp32, bf16 or int8; default: that of the model, else what ``runtime.embedding_precision`` says.
            width: only the first so many numbers of each vector, of unit length again; see ``Config.matryoshka``.

        Raises:
            Unsupported: an item's modality has no tower, or the device cannot compute in that precision.
            UnknownName: there is no tower of the name ``fields``.
            InvalidValue: the vectors have not so many numbers as ``width``.
        """
        if width is not None and not 1 <= width <= self.config.width:
            raise InvalidValue(f"width is {width}, and the vectors have {self.config.width} numbers; give at most that")
        if fields is not None and fields not in self.config.towers:
            raise UnknownName("tower", fields, self.config.towers)
        where: dict[str, list[int]] = {}
        for i, item in enumerate(items):
            where.setdefault(fields or self.field_of(item.modality), []).append(i)
        training, device = self.training, self.log_scales[next(iter(self.log_scales))].device
        if training:
            self.eval()
        result = torch.zeros(len(items), self.config.width, device=device)
        for name, index in where.items():
            tower, centre = self.config.towers[name], self.get_buffer(f"centre_{name}")
            chosen = runtime.embedding_precision(precision or self.precision, device, tower.width)
            size = 16 * batch_size if isinstance(tower.preprocessor.layout, Symbols) else batch_size
            for start in range(0, len(index), size):
                part = index[start : start + size]
                batch = batch_of(self.encoders[name], tower.preprocessor, [items[i] for i in part]).to(device)
                rows = self.heads[name](pooled(self.encoders[name], batch, chosen, tower.preprocessor))
                result[part] = F.normalize(F.normalize(rows, dim=-1) - centre, dim=-1)
        if training:
            self.train()
        return result if width is None else F.normalize(result[:, :width], dim=-1)

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair; higher fits better."""
        return self.embed(a) @ self.embed(b).T

    def classify(
        self, items: Sequence[Item], labels: Sequence[str], prompts: Sequence[str] = ("{}",), field: str | None = None
    ) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each item, from words alone (zero-shot).

        Args:
            items: N items of any modality but text.
            labels: L labels in words.
            prompts: sentences with ``{}`` in place of the label; their vectors are averaged (arXiv 2103.00020, 3.1.4).
            field: the field whose tower reads the items; default: by their modality.

        Raises:
            InvalidValue: no labels, or a prompt without a place for them.
        """
        words = self.embed(catalog.module("modalities", "text").prompted(labels, prompts))
        classes = F.normalize(words.view(len(labels), len(prompts), -1).mean(dim=1), dim=-1)
        scales = torch.stack([p.detach() for p in self.log_scales.values()])
        return (self.embed(items, field) @ classes.T * scales.mean().clamp(max=SCALE_MAX).exp()).softmax(dim=-1)

    def set_centres(self, centres: Mapping[str, Float[Tensor, " D"]]) -> None:
        """Sets the mean vector of each field, which ``embed`` takes off: closes the modality gap (arXiv 2203.02053).

        Raises:
            UnknownName: a field without a tower.
        """
        for name, centre in centres.items():
            if name not in self.config.towers:
                raise UnknownName("tower", name, self.config.towers)
            self.get_buffer(f"centre_{name}").copy_(centre)


def _groups(rows: Mapping[str, Tensor], both: Bool[Tensor, " B"]) -> Int64[Tensor, " N"] | None:
    """Returns a number per row, equal where they say the same in words; None where no text is equal to another.

    The first field of words in which some are equal decides; a row without words is equal to none. This changes nothing
    of InfoNCE between a text and another field, because rows of equal text have equal vectors; it does to the sigmoid
    loss and between two fields that are not text.
    """
    for name, found in rows.items():
        if name.endswith(".words"):
            number = found[both]
            alone = -1 - torch.arange(len(number), device=number.device)
            number = torch.where(rows[f"{name.removesuffix('.words')}.present"][both], number, alone)
            if len(torch.unique(number)) < len(number):
                return number
    return None


def build(config: Config) -> Clip:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Clip(config, {name: encoder(tower) for name, tower in config.towers.items()})


# ---- Sizes


def _paper(modality: str, tokenizer: Any) -> TowerConfig:
    """Returns the towers of ViT-B/32 (arXiv 2103.00020, table 19); sound, video and series in the same widths."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return TowerConfig(
            make(tokenizer=tokenizer, tokens_max=77), "transformer", 512, 12, 8, sizes=(77,), pooling="last"
        )
    if modality == "image":
        shape = make(height=224, width=224, patch=32)
        return TowerConfig(shape, "transformer", 768, 12, 12, sizes=(7, 7))
    if modality == "video":
        clip = make(frames=8, height=224, width=224, patch=(2, 32, 32))
        return TowerConfig(clip, "transformer", 768, 12, 12, sizes=(4, 7, 7))
    if modality == "audio":
        return TowerConfig(make(channels=1, mels=128, patch_frames=8), "transformer", 768, 12, 12, sizes=(1, 0))
    return TowerConfig(make(channels=9, patch=8), "transformer", 512, 12, 8, sizes=(0,))


SIZES: dict[str, Callable[[str, Any], TowerConfig]] = {"tiny": tiny, "paper": _paper}
"""Size -> (modality, tokenizer) -> tower. ``tiny`` trains on a laptop; ``paper`` is the published one."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    Raises:
        UnknownName: there is no such size, or a modality that does not exist.
    """
    if size not in SIZES:
        raise UnknownName("size of clip", size, SIZES)
    towers = {name: SIZES[size](modality, tokenizer) for name, modality in fields.items()}
    return Config(towers, {"tiny": 128, "paper": 512}[size])
