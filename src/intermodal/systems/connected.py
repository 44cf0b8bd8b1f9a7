"""Encoders that never met, joined: they stay as they are, heads put what they say into one space.

    image ─ encoder ─ pooled, tokens ─ heads ─┐                 InfoNCE over the rows that have both fields,
    text  ─ encoder ─ pooled, tokens ─ heads ─┴─ unit vectors ─ and a hinge on the hardest mismatch, if wanted
    audio ─ encoder of another space ─ heads of that space

Follows: towers that are locked, Zhai et al. 2021, "LiT", arXiv 2111.07991; the hardest mismatch, Faghri et al. 2018,
"VSE++", arXiv 1707.05612, eq. 6; several captions of a picture as positives, Khosla et al. 2020, arXiv 2004.11362.
Changed: there are several heads side by side, each trained by a loss of its own, and their cosines are averaged; fields
that are in one space already share the heads, so that what is learnt from texts holds for sounds that were never seen
(``space``); hubs give way (``Hubs``). An encoder is one of ours, described by its tower, or comes from
elsewhere (``Given``): then what it says of an item is a batch that the field's preprocessor makes.
Left out: classification by other than cosines.
"""

import dataclasses
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
from intermodal.decoders.projection import Head, Hub, Hubs, Projection, Said
from intermodal.encoders.tower import TowerConfig, encoder
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.objectives.contrastive import info_nce
from intermodal.types import Batch, Encoded, Item

SCALE_MAX = math.log(100.0)
MARGIN = 0.2
GROUP = "group"
"""A batch of this name, ids ``(B, 1)``, says which rows belong together: captions of one picture, equal labels."""


@dataclass(frozen=True)
class Given:
    """An encoder from elsewhere, by what arrives of it: rows ``(B, width, rows)`` of one length.

    Attributes:
        modality: what it reads.
        width: of each row.
        pooled: so many rows at the beginning tell of the whole item; all others are tokens of it.
        space: fields of one space share their heads; empty for a space of its own.
        origin: where it comes from.
        revision: which one it is.
    """

    modality: str
    width: int
    pooled: int = 1
    space: str = ""
    origin: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.width, self.pooled) < 1:
            raise InvalidValue(f"width {self.width} and pooled rows {self.pooled} of an encoder must be at least 1")


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again, but encoders from elsewhere.

    Attributes:
        towers: field -> encoder; at least two.
        head: of every field.
        width: of what each head gives; ``heads`` of them side by side are the vector of an item.
        heads: so many for each space, whose cosines are averaged.
        temperature: where the learned temperatures start, above 0.
        hard: weight of the hinge on the hardest mismatch of a batch; 0 for none.
        hubs: field -> how its hubs are taken off, all fields or none.
    """

    towers: Mapping[str, TowerConfig | Given] = field(default_factory=dict)
    head: Head = field(default_factory=Head)
    width: int = 128
    heads: int = 1
    temperature: float = 0.07
    hard: float = 0.0
    hubs: Mapping[str, Hub] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if len(self.towers) < 2:
            raise InvalidValue(f"at least two encoders are connected, not {len(self.towers)}: {', '.join(self.towers)}")
        if min(self.width, self.heads) < 1 or self.temperature <= 0 or self.hard < 0:
            raise InvalidValue(
                f"width {self.width} and heads {self.heads} must be at least 1, temperature {self.temperature} above "
                f"0, hard {self.hard} 0 or more"
            )
        if self.hubs and set(self.hubs) != set(self.towers):
            raise InvalidValue(f"hubs of {', '.join(self.hubs)} are not of all of {', '.join(self.towers)}; give none")
        if GROUP in self.towers:
            raise InvalidValue(f"no field may be named {GROUP!r}: that says which rows belong together; rename it")

    def space(self, name: str) -> str:
        """Returns the space that a field is in before it is connected."""
        tower = self.towers[name]
        return (tower.space if isinstance(tower, Given) else "") or name

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Returns the pairs of fields that are trained: those of different spaces."""
        return tuple((a, b) for a, b in combinations(self.towers, 2) if self.space(a) != self.space(b))


class Passing(nn.Module):
    """Batches of what an encoder said already, as what an encoder returns."""

    def __init__(self, tower: Given) -> None:
        """Keeps the numbers."""
        super().__init__()
        self.width, self.pooled = tower.width, tower.pooled

    def forward(self, batch: Batch) -> Said:
        """Returns the rows that tell of the whole side by side as the pooled vector, and the others as tokens."""
        rows = batch.values.transpose(1, 2) * batch.mask[..., None]
        return Said(rows[:, self.pooled :], batch.mask[:, self.pooled :], rows[:, : self.pooled].flatten(1))


class Connected(nn.Module):
    """Encoders, heads and temperatures. Trains, Represents, Embeds, Scores, Classifies."""

    def __init__(self, config: Config, encoders: Mapping[str, nn.Module], preprocessors: Mapping[str, Any]) -> None:
        """Assembles built parts, one encoder and one preprocessor per tower of ``config``."""
        super().__init__()
        self.config = config
        self.precision: str | None = None  # to embed in; None for the default
        self.preprocessors = dict(preprocessors)
        self.encoders = nn.ModuleDict(encoders)
        self.heads = nn.ModuleDict()
        for name, tower in config.towers.items():
            head, wide = config.head, tower.width * (tower.pooled if isinstance(tower, Given) else 1)
            if (space := config.space(name)) not in self.heads:
                made = [Projection(wide, tower.width, config.width, head) for _ in range(config.heads)]
                self.heads[space] = nn.ModuleList(made)
            if isinstance(tower, TowerConfig):
                self.encoders[name].requires_grad_(not tower.frozen)
        start = -math.log(config.temperature)
        self.log_scales = nn.ParameterDict({"-".join(p): nn.Parameter(torch.tensor(start)) for p in config.pairs()})
        for name, tower in config.towers.items():  # encoders differ in scale, and fields of one space lie apart in it
            wide = tower.width * (tower.pooled if isinstance(tower, Given) else 1)
            self.register_buffer(f"centre_{name}", torch.zeros(wide))
            self.register_buffer(f"scale_{name}", torch.ones(wide))
        self.hubs = Hubs(config.hubs, config.width * config.heads) if config.hubs else None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.get_buffer(f"centre_{next(iter(self.config.towers))}").device

    @torch.no_grad()
    def set_numbers(self, name: str, centre: Float[Tensor, " D"], spread: Float[Tensor, " D"]) -> None:
        """Sets the mean of each pooled number of a field, which is taken off, and its spread, which is divided by."""
        self.get_buffer(f"centre_{name}").copy_(centre)
        self.get_buffer(f"scale_{name}").copy_(1 / (spread + 0.1 * spread.square().mean().sqrt() + 1e-6))

    def set_hubs(self, hubs: Hubs | None) -> None:
        """Takes hubs off from now on, or leaves the vectors as they are."""
        self.hubs = hubs
        self.config = dataclasses.replace(self.config, hubs=hubs.fields if hubs else {})

    # ---- Trains

    def vectors(self, name: str, batch: Batch) -> Float[Tensor, "B D"]:
        """Returns one vector per row of a batch of field ``name``: unit vectors of all heads side by side.

        Their length is the root of their number; it is zero where the field is absent.
        """
        tower, present = self.config.towers[name], batch.present
        frozen = isinstance(tower, TowerConfig) and tower.frozen
        if frozen:
            self.encoders[name].eval()
        with torch.no_grad() if frozen else nullcontext():
            encoded: Encoded | Said = self.encoders[name](batch if bool(present.all()) else batch.rows(present))
        centre, scale = self.get_buffer(f"centre_{name}"), self.get_buffer(f"scale_{name}")
        encoded = dataclasses.replace(encoded, pooled=(encoded.pooled - centre) * scale)
        heads: Any = self.heads[self.config.space(name)]
        rows = torch.cat([head(encoded) for head in heads], dim=1)
        if len(rows) == len(batch):
            return rows
        return rows.new_zeros(len(batch), rows.shape[1]).masked_scatter(present[:, None], rows)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns one loss per pair of fields that meet in two rows or more, divided by how many do."""
        return self.losses_of(self.represent(batch))

    def represent(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns per row of each field its vector (``image``), whether it is there, and the number of its group."""
        rows: dict[str, Tensor] = {}
        for name, part in batch.items():
            if name == GROUP:
                rows[GROUP] = part.values[:, 0].long()
            if name not in self.config.towers:
                continue
            rows[f"{name}.present"] = part.present
            if bool(part.mask.any()):
                rows[name] = self.vectors(name, part)
            else:
                rows[name] = torch.zeros(len(part), self.config.width * self.config.heads, device=part.mask.device)
            if part.values.dim() == 2 and not part.values.is_floating_point():
                rows[f"{name}.words"] = part.keys()
        return rows

    def losses_of(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the losses of what ``represent`` gave for the rows of one batch, or of several."""
        meeting = {}
        for a, b in self.config.pairs():
            if a in rows and b in rows:
                both = rows[f"{a}.present"] & rows[f"{b}.present"]
                if int(both.sum()) > 1:
                    meeting[a, b] = both
        return {
            f"{a}-{b}": self._loss(f"{a}-{b}", rows[a][both], rows[b][both], _groups(rows, both)) / len(meeting)
            for (a, b), both in meeting.items()
        }

    def _loss(self, name: str, a: Tensor, b: Tensor, groups: Tensor) -> Tensor:
        """Returns the mean over the heads of their losses: none relies on another."""
        scale = self.log_scales[name].clamp(max=SCALE_MAX).exp()
        total = a.new_zeros(())
        parts = [rows.reshape(len(rows), -1, self.config.width).unbind(dim=1) for rows in (a, b)]
        for x, y in zip(*parts, strict=True):
            total = total + info_nce(x, y, scale, groups=groups)
            if self.config.hard:
                total = total + self.config.hard * hinge(x @ y.T, groups[:, None] == groups)
        return total / self.config.heads

    # ---- Embeds, Scores, Classifies

    def field_of(self, modality: str) -> str:
        """Returns the first field that reads ``modality``.

        Raises:
            Unsupported: none does; the message lists those there are.
        """
        for name, tower in self.config.towers.items():
            if tower.modality == modality:
                return name
        known = sorted({tower.modality for tower in self.config.towers.values()})
        raise Unsupported(f"this model has no encoder of {modality}; it reads {', '.join(known)}")

    @torch.no_grad()
    def embed(
        self, items: Sequence[Item], fields: str | None = None, batch_size: int = 32, precision: str | None = None
    ) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given, modalities mixed at will.

        Args:
            items: N items.
            fields: the field that they all are of; default: by each item's modality, the first field that reads it.
            batch_size: items computed together; does not change the result.
            precision: fp32 or bf16, of our own encoders and the heads; default: that of the model, else fp32.

        Raises:
            Unsupported: an item's modality has no encoder, or the precision is int8.
            UnknownName: there is no field ``fields``.
        """
        if fields is not None and fields not in self.config.towers:
            raise UnknownName("field", fields, self.config.towers)
        chosen = runtime.embedding_precision(precision or self.precision, self.device, 0)
        if chosen == "int8":
            raise Unsupported("connected encoders embed in fp32 or bf16, not in int8; choose one of them")
        where: dict[str, list[int]] = {}
        for i, item in enumerate(items):
            where.setdefault(fields or self.field_of(item.modality), []).append(i)
        training, width = self.training, self.config.width * self.config.heads
        result = torch.zeros(len(items), width + 2 * len(self.config.hubs), device=self.device)
        self.eval()
        for name, index in where.items():
            for start in range(0, len(index), batch_size):
                part = index[start : start + batch_size]
                batch: Batch = self.preprocessors[name]([items[i] for i in part])
                with runtime.autocast(chosen, self.device):
                    rows = self.vectors(name, batch.to(self.device))
                result[part] = self.finished(name, rows)
        self.train(training)
        return result

    def finished(self, name: str, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Returns what ``embed`` makes of the ``vectors`` of a field: of length 1, hubs taken off."""
        rows = F.normalize(rows.float(), dim=-1)
        return rows if self.hubs is None else self.hubs(name, rows)

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair, hubs taken off; higher fits better."""
        return self.embed(a) @ self.embed(b).T

    def classify(
        self, items: Sequence[Item], labels: Sequence[str], prompts: Sequence[str] = ("{}",), field: str | None = None
    ) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each item, from words alone (zero-shot), by plain cosines.

        Args:
            items: N items of any modality but text.
            labels: L labels in words.
            prompts: sentences with ``{}`` in place of the label; their vectors are averaged (arXiv 2103.00020, 3.1.4).
            field: that the items are of; default: by their modality.

        Raises:
            InvalidValue: no labels, or a prompt without a place for them.
        """
        wide = self.config.width * self.config.heads  # what is behind these numbers takes hubs off
        words = F.normalize(
            self.embed(catalog.module("modalities", "text").prompted(labels, prompts))[:, :wide], dim=-1
        )
        classes = F.normalize(words.view(len(labels), len(prompts), -1).mean(dim=1), dim=-1)
        scale = torch.stack([p.detach() for p in self.log_scales.values()]).mean().clamp(max=SCALE_MAX).exp()
        return (F.normalize(self.embed(items, field)[:, :wide], dim=-1) @ classes.T * scale).softmax(dim=-1)


def hinge(cosines: Float[Tensor, "N N"], together: Bool[Tensor, "N N"]) -> Float[Tensor, ""]:
    """Returns the mean of ``max(0, MARGIN + s(i, k) - s(i, i))``, k the most similar mismatch, of both directions."""
    others = cosines.masked_fill(together, -torch.inf)
    own = cosines.diagonal()
    return torch.stack([F.relu(MARGIN + others.amax(dim=side) - own).mean() for side in (0, 1)]).sum()


def _groups(rows: Mapping[str, Tensor], both: Tensor) -> Int64[Tensor, " N"]:
    """Returns a number per row, equal for those that belong together: by the groups given, else by equal words."""
    count = int(both.sum())
    if GROUP in rows:
        return rows[GROUP][both]
    for name, found in rows.items():
        if name.endswith(".words"):
            alone = -1 - torch.arange(count, device=both.device)
            return torch.where(rows[f"{name.removesuffix('.words')}.present"][both], found[both], alone)
    return torch.arange(count, device=both.device)


def build(config: Config) -> Connected:
    """Returns the system that ``config`` describes, with fresh weights.

    Raises:
        InvalidValue: an encoder comes from elsewhere; ``adapters/connected.py`` brings it.
    """
    made: dict[str, nn.Module] = {}
    for name, tower in config.towers.items():
        if isinstance(tower, Given):
            raise InvalidValue(f"the encoder of {name} comes from elsewhere ({tower.origin}); load its whole folder")
        made[name] = encoder(tower)
    return Connected(config, made, {name: t.preprocessor for name, t in config.towers.items()})  # type: ignore[union-attr]


# ---- Sizes


def _tiny(modality: str, tokenizer: Any) -> TowerConfig:
    """Returns an encoder for a laptop, to be trained with its heads where there is none to connect."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return TowerConfig(make(tokenizer=tokenizer, tokens_max=64), depth=2, sizes=(64,))
    grid: dict[str, Any] = {"image": {"height": 64, "width": 64, "patch": 16}, "timeseries": {"channels": 9}}
    grid["video"] = {"frames": 8, "patch": (8, 16, 16)}
    grid["audio"] = {"channels": 2, "mels": 96, "window": 1024, "hop": 320}
    rank = {"image": (4, 4), "video": (1, 4, 4), "audio": (1, 0), "timeseries": (0,)}
    return TowerConfig(make(**grid[modality]), sizes=rank[modality])


SIZES: dict[str, Callable[[str, Any], TowerConfig]] = {"tiny": _tiny}
"""Size -> (modality, tokenizer) -> an encoder of ours. What is published comes by ``intermodal connect``."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality), encoders of ours.

    Raises:
        UnknownName: there is no such size, or a modality that does not exist.
    """
    if size not in SIZES:
        raise UnknownName("size of connected", size, SIZES)
    towers = {name: SIZES[size](modality, tokenizer) for name, modality in fields.items()}
    return Config(towers, Head(256, 0.0, 1), heads=2, width=64)
