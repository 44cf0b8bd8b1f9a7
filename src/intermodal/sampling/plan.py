"""Which fields are written from which others: in training by drawing, in use by what a sample has.

Some fields are free: any of them is written from any part of the others. What is no translation is a task: a field
that is written from certain others together, an answer from a picture and a question.

Follows: inputs drawn at random among all modalities as in 4M (Mizrahi et al. 2023, arXiv 2312.06647, section 3.1).
Changed: whole fields are drawn instead of tokens, and every field is written in every step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.types import Batch, Sample

Visible = dict[str, Bool[Tensor, " B"]]
"""Field -> in which rows it is seen."""

TASKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "answer": (("image", "question"),),
    "caption": (("regions",),),
    "clip_answer": (("video", "clip_question"),),
    "mask": (("image", "phrase"), ("image", "tone")),
    "restyled": (("image", "palette"),),
    "speech": (("text",),),
    "transcript": (("speech",),),
}
"""What fields of these names are written from, where the data has them."""


@dataclass(frozen=True)
class Plan:
    """What is learnt.

    Attributes:
        free: fields that are translated into each other.
        tasks: other fields -> the sets of fields that each is written from.
        targets: the free fields that are written; none named: all of them.
        each: in training a free field is written from each other one alone, in every row; otherwise once, as follows.
        single: share of the training rows in which a free field is written from one other, else from any number.
        alone: share in which it is written from none.
    """

    free: tuple[str, ...] = ()
    tasks: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    each: bool = False
    single: float = 0.6
    alone: float = 0.04

    def __post_init__(self) -> None:
        """Checks the shares."""
        for name in self.targets:
            if name not in self.free:
                raise UnknownName("free field of the plan", name, self.free)
        if min(self.single, self.alone) < 0 or self.single + self.alone > 1:
            raise InvalidValue(
                f"single {self.single} and alone {self.alone} are shares that make at most 1 together; change one"
            )

    def names(self) -> tuple[str, ...]:
        """Returns every field that occurs, each once."""
        return tuple(dict.fromkeys((*self.free, *self.tasks, *self.given())))

    def given(self) -> tuple[str, ...]:
        """Returns the fields from which others are written, each once."""
        return tuple(dict.fromkeys((*self.free, *(n for ways in self.tasks.values() for way in ways for n in way))))

    def written(self) -> tuple[str, ...]:
        """Returns the fields that are written."""
        return (*(self.targets or self.free), *self.tasks) if len(self.free) > 1 else tuple(self.tasks)

    def directions(self) -> tuple[tuple[str, str], ...]:
        """Returns the (from, to) pairs of fields of which one is enough for the other."""
        alone = [(way[0], to) for to, ways in self.tasks.items() for way in ways if len(way) == 1]
        return (*((a, b) for a in self.free for b in self.targets or self.free if a != b), *alone)

    def usable(self, sample: Sample, to: str) -> Sample:
        """Returns what of a sample the field ``to`` is written from: nothing, of an empty sample and a free field.

        Raises:
            UnknownName: there is no such field.
            Unsupported: it is only ever given, or the sample has not what it is written from.
        """
        if to not in self.names():
            raise UnknownName("field of this model", to, self.names())
        if to not in self.written():
            raise Unsupported(f"this model reads {to!r} and does not write it; it writes {', '.join(self.written())}")
        if to in self.free:
            found = {n: sample[n] for n in self.free if n != to and n in sample}
            if found or (self.alone and not sample):  # from nothing, which is learnt as well
                return found
            wanted = "any of " + ", ".join(n for n in self.free if n != to)
        else:
            for way in self.tasks[to]:
                if all(n in sample for n in way):
                    return {n: sample[n] for n in way}
            wanted = " or ".join(" with ".join(way) for way in self.tasks[to])
        raise Unsupported(f"{to!r} is written from {wanted}; the sample has {', '.join(sample) or 'nothing'}")

    def drawn(self, to: str, here: Mapping[str, Batch]) -> list[Visible]:
        """Returns from what each row of ``to`` is written in a step: once, several times, or not at all.

        Each time is field -> in which rows it is seen.
        """
        rows, device = len(here[to]), here[to].mask.device
        if to in self.free:
            if to not in self.written():
                return []
            others = [n for n in self.free if n != to and n in here]
            if self.each:
                return [{n: here[n].present} for n in others]
            u = torch.rand(rows, device=device)
            count = torch.randint(1, max(2, len(others) + 1), (rows,), device=device)
            count = torch.where(u < self.single, 1, torch.where(u > 1 - self.alone, 0, count))
            there = torch.stack([here[n].present for n in others], dim=1) if others else count.new_zeros(rows, 0).bool()
            order = (torch.rand(there.shape, device=device) + ~there).argsort(dim=1).argsort(dim=1)
            return [{n: (order[:, i] < count) & there[:, i] for i, n in enumerate(others)}]
        ways = [way for way in self.tasks.get(to, ()) if all(n in here for n in way)]
        if not ways:
            return []
        full = torch.stack([torch.stack([here[n].present for n in way]).all(dim=0) for way in ways], dim=1)
        chosen = (torch.rand(full.shape, device=device) + full).argmax(dim=1)
        chosen = torch.where(full.any(dim=1), chosen, -1)
        names = {n for way in ways for n in way}
        return [{n: torch.stack([chosen == i for i, way in enumerate(ways) if n in way]).any(dim=0) for n in names}]

    def returns(self, sample: Sample, to: str) -> tuple[str, ...]:
        """Returns the fields of a sample that can be written back from ``to`` alone."""
        back = {b for a, b in self.directions() if a == to}
        return tuple(name for name in sample if name in back)


def plan_of(fields: Iterable[str]) -> Plan:
    """Returns the plan for data with these fields.

    Those in ``TASKS`` are written from what stands there, where the data has it; all others are translated into each
    other, but for what only a task is written from.
    """
    here = tuple(fields)
    found = {to: tuple(way for way in TASKS[to] if set(way) <= set(here)) for to in here if to in TASKS}
    tasks = {to: ways for to, ways in found.items() if ways}
    only = {n for ways in tasks.values() for way in ways for n in way if n not in ("text", "image", "video")}
    return Plan(tuple(n for n in here if n not in tasks and n not in only), tasks)
