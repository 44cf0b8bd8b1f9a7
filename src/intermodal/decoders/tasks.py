"""What is to be told of a sample, where it comes from in the data, and how well it was told.

A task is learnt from a text field: a class is the whole text, labels are the words (or parts between commas) of it, and
a number is written in it. The record of a task is the preprocessor of that field too, so what a class stands for is
saved with the model. Left out: structured answers; texts are written by ``vocabulary.py``.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from intermodal import catalog
from intermodal.errors import InvalidValue, UnknownName
from intermodal.fusion import KINDS
from intermodal.types import Batch, Grid, Layout, Symbols

LABELS_MAX = 2_000


@dataclass(frozen=True)
class Task:
    """One thing to be told.

    Attributes:
        tells: one of ``fusion.KINDS``.
        words: the classes or labels; empty for a number.
        offset: the mean of the numbers.
        scale: their spread, above 0.
        weight: of its loss.
    """

    modality: ClassVar[str] = "text"
    tells: str = "classes"
    words: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks that there is something to choose from."""
        if self.tells not in KINDS:
            raise UnknownName("kind of task", self.tells, KINDS)
        least = {"classes": 2, "labels": 1, "number": 0}[self.tells]
        if len(self.words) < least or len(set(self.words)) < len(self.words) or (self.tells == "number" and self.words):
            raise InvalidValue(f"a task of {self.tells} got the words {self.words[:5]}; give {least} or more once")
        if not self.scale > 0 or not self.weight > 0:
            raise InvalidValue(f"scale {self.scale} and weight {self.weight} of a task must both be above 0")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def outputs(self) -> int:
        """Numbers that a head gives for it."""
        return max(1, len(self.words))

    @property
    def layout(self) -> Layout:
        """One id for a class; else numbers side by side."""
        return Symbols(len(self.words)) if self.tells == "classes" else Grid(1, 1, (1,))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns the id of the class ``(B, 1)``, or ``(B, 1, L)`` with 1 for each label that is there, or the number.

        The numbers are standardised. ``None`` gives an absent row, and so does a text that is none of the classes, or
        no number.
        """
        found = [None if item is None else self._target(item.text) for item in items]
        there = torch.tensor([row is not None for row in found])
        size = 1 if self.tells == "classes" else self.outputs
        rows = torch.tensor([[0.0] * size if row is None else row for row in found])
        mask = there[:, None].expand(-1, size).contiguous()
        return Batch(rows.long() if self.tells == "classes" else rows[:, None], mask)

    def _target(self, text: str) -> list[float] | None:
        """Returns the row of one text; None where it says nothing that the task knows."""
        if self.tells == "number":
            number = number_in(text)
            return None if number is None else [(number - self.offset) / self.scale]
        if self.tells == "classes":
            return [float(self._ids[text])] if text in self._ids else None
        said = labels_in(text)
        return [float(word in said) for word in self.words]

    def invert(self, values: Shaped[Tensor, "B ..."]) -> list[Any]:
        """Returns the texts that these values stand for."""
        text = catalog.module("modalities", "text").ITEM
        if self.tells == "classes":
            return [text(self.words[int(row[0])]) for row in values]
        if self.tells == "number":
            return [text(f"{float(row.flatten()[0]) * self.scale + self.offset:g}") for row in values]
        return [text(", ".join(w for w, p in zip(self.words, row.flatten(), strict=True) if p > 0.5)) for row in values]

    def loss(self, outputs: Float[Tensor, "B L"], target: Batch) -> Float[Tensor, ""]:
        """Returns the mean loss over rows that have a target, at least one: in nats, for labels of each label.

        Of numbers it is the squared error, beyond one spread the absolute one (Huber 1964).
        """
        rows = target.present
        outputs, values = outputs[rows].float(), target.values[rows].to(outputs.device)
        if self.tells == "classes":
            return self.weight * F.cross_entropy(outputs, values[:, 0])
        if self.tells == "labels":
            return self.weight * F.binary_cross_entropy_with_logits(outputs, values[:, 0])
        return self.weight * F.huber_loss(outputs, values[:, 0])

    def read(self, outputs: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Returns the probability of each class or label, or the number in its own units."""
        if self.tells == "number":
            return outputs.float() * self.scale + self.offset
        return outputs.float().softmax(dim=1) if self.tells == "classes" else outputs.float().sigmoid()


def number_in(text: str) -> float | None:
    """Returns the number that a text is, None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def labels_in(text: str) -> set[str]:
    """Returns the lower-cased words of a text, and its parts between commas."""
    low = text.lower()
    return set(re.findall(r"\w+", low)) | {part.strip() for part in low.split(",")} - {""}


def task_of(texts: Iterable[str]) -> Task:
    """Returns the task that the texts of a field set.

    Numbers, where all are and most differ; classes, where fewer than half of the texts are distinct; else the labels in
    them, the most frequent first.

    Raises:
        InvalidValue: no text, or nothing to choose from.
    """
    found = list(texts)
    if not found:
        raise InvalidValue("a task is learnt from texts, and there are none; check the field that holds the targets")
    distinct = sorted(set(found))
    numbers = [number for text in distinct if (number := number_in(text)) is not None]
    if len(numbers) == len(distinct) > 1 and 2 * len(distinct) >= len(found):
        every = torch.tensor([float(text) for text in found])
        return Task("number", offset=float(every.mean()), scale=float(every.std(correction=0)))
    if 2 * len(distinct) < len(found) and len(distinct) <= LABELS_MAX:
        return Task("classes", tuple(distinct))
    counts: dict[str, int] = {}
    for text in found:
        for label in labels_in(text):
            counts[label] = counts.get(label, 0) + 1
    ranked = sorted((-count, word) for word, count in counts.items() if count > 1)
    return Task("labels", tuple(word for _, word in ranked[:LABELS_MAX]))
