"""Fusion: a tower for each field, one way to join them, a head for each task; fields may be absent, at any time.

    image ─ tower ─┬───────────────── head ─ decision ─┐
    audio ─ tower ─┼─┬─────────────── head ─ decision ─┼─ late ─ decision
                   └─┴─ joint form ── head ─ decision ─┘

With a joint form alone (``fusion.form``: early, cross-attention, gated, tensor, hierarchical) the lowest line is all
there is; with ``late`` alone the upper ones; with both, which is called hybrid, all. ``fusion/`` holds the forms, one
file each, with their sources; this file knows no more of them than their interface.

Follows: the assembly of Baltrusaitis et al. 2017, "Multimodal Machine Learning: A Survey and Taxonomy", arXiv
1705.09406, section 6; modality dropout as in Neverova et al. 2015, "ModDrop", arXiv 1501.00102; a loss for each
single field's decision beside the joint one as in Wang et al. 2019, arXiv 1905.12681, with fixed weights where they
estimate them. Left out: tasks balanced by anything but fixed weights.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal import catalog
from intermodal.decoders.tasks import Task
from intermodal.encoders.tower import TowerConfig, encoder, tiny
from intermodal.errors import InvalidValue, UnknownName
from intermodal.fusion import Fusion as Joint
from intermodal.fusion import FusionConfig, as_encoded
from intermodal.types import Batch, Encoded, Sample

JOINT = "joint"
"""What the decision of the joint form is called among those of the fields."""

TARGETS = ("label", "labels", "target", "class", "answer")
"""Names of text fields that are taken for what is to be told; where none has such a name, the last text field is."""


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        towers: field name -> tower; at least one.
        tasks: text field that is to be told -> what and how; at least one.
        fusion: the joint form.
        late: one of the rules of ``fusion.late``; empty for none.
        modality_dropout: share of the fields that training takes from a sample; one is always left.
        alone: with ``late``: weight of the losses of the single decisions, beside that of the joint one.
    """

    towers: Mapping[str, TowerConfig] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    late: str = ""
    modality_dropout: float = 0.2
    alone: float = 1.0

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if not self.towers or not self.tasks:
            raise InvalidValue(
                f"fusion needs a field to read and one to tell; it reads {', '.join(self.towers) or 'none'} and tells "
                f"{', '.join(self.tasks) or 'none'}; give data with a text field for what is to be told"
            )
        both = sorted({*self.towers} & {*self.tasks}) + [JOINT] * (JOINT in self.towers)
        if both:
            raise InvalidValue(f"the field {both[0]!r} cannot be read: it is told, or the name is taken; rename it")
        rules = catalog.module("fusion", "late").RULES
        if self.late and self.late not in rules:
            raise UnknownName("rule of late fusion", self.late, rules)
        if not self.late and not self.fusion.form:
            raise InvalidValue("there is neither a form of fusion nor a rule of late fusion; set fusion.form or late")
        if not 0 <= self.modality_dropout < 1 or self.alone < 0:
            raise InvalidValue(
                f"modality_dropout is {self.modality_dropout}, from 0 to below 1, and alone {self.alone}, at least 0"
            )


class Fusion(nn.Module):
    """Towers, a fusion, heads. Trains, Predicts."""

    def __init__(self, config: Config, encoders: Mapping[str, nn.Module], joint: Joint | None) -> None:
        """Assembles built encoders, one per tower of ``config``, and the joint form, if there is one."""
        super().__init__()
        self.config = config
        self.preprocessors = {**{name: t.preprocessor for name, t in config.towers.items()}, **config.tasks}
        self.encoders = nn.ModuleDict(encoders)
        self.joint: Any = joint
        widths = {name: int(module.width) for name, module in encoders.items()} if config.late else {}  # type: ignore[arg-type]
        if joint is not None:
            widths[JOINT] = joint.width
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleDict({who: nn.Linear(width, task.outputs) for who, width in widths.items()})
                for name, task in config.tasks.items()
            }
        )
        self.late = nn.ModuleDict()
        if config.late:
            late = catalog.module("fusion", "late").Late
            self.late.update({n: late(config.late, [*widths], t.outputs, t.tells) for n, t in config.tasks.items()})
        for name, tower in config.towers.items():
            self.encoders[name].requires_grad_(not tower.frozen)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """What it tells, by the field that it is learnt from."""
        return self.config.tasks

    def encode(self, name: str, batch: Batch, rows: Bool[Tensor, " B"]) -> Encoded:
        """Returns what the encoder of field ``name`` makes of some rows; the others are absent, and not computed."""
        module, frozen = self.encoders[name], self.config.towers[name].frozen
        if frozen:
            module.eval()
        if not bool(rows.any()):
            nothing = torch.zeros(len(batch), int(module.width), device=rows.device)  # type: ignore[arg-type]
            return Encoded(nothing[:, None], torch.zeros_like(rows)[:, None], nothing)
        complete = bool(rows.all())
        with torch.no_grad() if frozen else nullcontext():
            found: Encoded = module(batch if complete else batch.rows(rows))
        if complete:
            return found
        mask = torch.zeros(len(rows), found.mask.shape[1], dtype=torch.bool, device=rows.device)
        mask[rows] = found.mask
        return Encoded(_spread(found.tokens, rows), mask, _spread(found.pooled, rows))

    def decisions(self, encoded: Mapping[str, Encoded]) -> dict[str, dict[str, Encoded]]:
        """Returns for each task its decisions, as logits: of each field, of the joint form, and, under ``""``, of all.

        Args:
            encoded: every field of the towers.
        """
        read = dict(encoded)
        if self.joint is not None:
            read[JOINT] = as_encoded(self.joint(encoded).pooled)
        found: dict[str, dict[str, Encoded]] = {}
        for name, heads in self.heads.items():
            said = {}
            for who, head in heads.items():  # type: ignore[operator]
                logits = head(read[who].pooled)
                said[who] = Encoded(logits[:, None], read[who].mask.any(dim=1, keepdim=True), logits)
            found[name] = {**said, "": self.late[name](said) if self.config.late else said[JOINT]}
        return found

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns a loss per task; with ``late`` also one for each single decision, ``label.image``.

        Rows without anything to read, or without what is to be told, count in none.
        """
        names = list(self.config.towers)
        kept = self._kept(torch.stack([batch[name].present for name in names], dim=1))
        found = self.decisions({name: self.encode(name, batch[name], kept[:, i]) for i, name in enumerate(names)})
        result: dict[str, Tensor] = {}
        for name, said in found.items():
            told = batch[name].present & kept.any(dim=1)
            single = len(said) - 1 if self.config.late else 0
            for who, one in said.items():
                rows = told & one.mask[:, 0]
                weight = self.config.alone / max(single, 1) if who else 1.0
                if weight and bool(rows.any()) and (not who or single > 1):  # a single one is the whole
                    loss = self.config.tasks[name].loss(one.pooled[rows], batch[name].rows(rows))
                    result[f"{name}.{who}".rstrip(".")] = weight * loss
        return result

    def _kept(self, present: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
        """Returns which fields are read: in training without those that are taken away, but never without all."""
        dropout = self.config.modality_dropout
        if not self.training or not dropout or present.shape[1] < 2:
            return present
        draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
        largest = draws == draws.amax(dim=1, keepdim=True)
        return present & ((draws >= dropout) | largest)

    # ---- Predicts

    @torch.no_grad()
    def predict(self, samples: Sequence[Sample], batch_size: int = 64) -> dict[str, Float[Tensor, "N _"]]:
        """Returns for each task, in the order of the samples, the probability of each class or label, or the number.

        Args:
            samples: N, each with any of the fields that there are towers for; other fields are not looked at. One that
                has none gets what holds without knowing anything.
            batch_size: samples computed together; does not change the result.

        Raises:
            InvalidValue: no samples.
        """
        if not samples:
            raise InvalidValue("there are no samples to predict; give at least one")
        training, device = self.training, next(self.parameters()).device
        if training:
            self.eval()
        found: dict[str, list[Tensor]] = {name: [] for name in self.tasks}
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            encoded = {}
            for name, tower in self.config.towers.items():
                batch = tower.preprocessor([sample.get(name) for sample in part]).to(device)
                encoded[name] = self.encode(name, batch, batch.present)
            decisions = self.decisions(encoded)
            for name, task in self.tasks.items():
                found[name].append(task.read(decisions[name][""].pooled))
        if training:
            self.train()
        return {name: torch.cat(rows) for name, rows in found.items()}


def _spread(rows: Float[Tensor, "N ..."], where: Bool[Tensor, " B"]) -> Float[Tensor, "B ..."]:
    """Returns the rows at their places, zeros elsewhere."""
    return rows.new_zeros(len(where), *rows.shape[1:]).index_put((where.nonzero()[:, 0],), rows)


def build(config: Config) -> Fusion:
    """Returns the system that ``config`` describes, with fresh weights."""
    encoders = {name: encoder(tower) for name, tower in config.towers.items()}
    widths = {name: tower.width for name, tower in config.towers.items()}
    form = config.fusion.form
    return Fusion(config, encoders, catalog.module("fusion", form).build(config.fusion, widths) if form else None)


# ---- Sizes


def _paper(modality: str, tokenizer: Any) -> TowerConfig:
    """Returns towers of MulT's kind: one product per token, no blocks of their own but one, 40 wide, 8 heads."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return TowerConfig(make(tokenizer=tokenizer, tokens_max=64), "transformer", 40, 1, 8, sizes=(0,))
    if modality == "image":
        return TowerConfig(make(height=224, width=224, patch=32), "transformer", 40, 1, 8, sizes=(7, 7))
    if modality == "video":
        clip = make(frames=8, height=224, width=224, patch=(2, 32, 32))
        return TowerConfig(clip, "transformer", 40, 1, 8, sizes=(4, 7, 7))
    if modality == "audio":
        return TowerConfig(make(channels=1, mels=64, patch_frames=4), "transformer", 40, 1, 8, sizes=(1, 0))
    return TowerConfig(make(channels=9, patch=8), "transformer", 40, 1, 8, sizes=(0,))


SIZES = {
    "tiny": (tiny, FusionConfig("gated", 128, 1), "product"),
    "paper": (_paper, FusionConfig("cross", 40, 4, 8, dropout=0.1), ""),
}
"""Size -> (tower of a modality, joint form, late rule). ``tiny`` trains on a laptop; ``paper`` is MulT for CMU-MOSEI
(arXiv 1906.00295, table 5: 4 blocks, 8 heads, 40 wide) over towers that read media themselves, as it reads features."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    What is told is the text field named as one of ``TARGETS``, else the last one: which of the tokenizer's words are in
    it, until the data says more (``training.recipe``).

    Raises:
        UnknownName: there is no such size, or a modality that does not exist.
        InvalidValue: no text field, or nothing beside it.
    """
    if size not in SIZES:
        raise UnknownName("size of fusion", size, SIZES)
    texts = [name for name, modality in fields.items() if modality == "text"]
    told = next((name for name in texts if name in TARGETS), texts[-1] if texts else "")
    tower, form, late = SIZES[size]
    towers = {name: tower(modality, tokenizer) for name, modality in fields.items() if name != told}
    words = tuple(word for word in getattr(tokenizer, "words", ()) if word.isalnum())
    return Config(towers, {told: Task("labels", words)} if told and words else {}, form, late)
