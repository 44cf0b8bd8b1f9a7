"""Which field of a sample decides: what each gives to a figure, over all the samples that leave some of them out.

Follows: Shapley's value (1953), as in SHAP (Lundberg and Lee 2017, arXiv 1705.07874, equation 4), but exact: a sample
has few fields, and a model that reads any subset of them needs no background data to stand in for what is missing.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from typing import Any

from jaxtyping import Float
from torch import Tensor

from intermodal.errors import InvalidValue, UnknownName
from intermodal.types import Predicts, Sample

FIELDS_MAX = 10
"""Fields of a sample, of which there are then 1,024 subsets."""


def shares(
    value: Callable[[Sequence[Sample]], Sequence[float]], sample: Sample, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Returns what each field gives to ``value``; together they give the value with all of them less that with none.

    Args:
        value: samples -> a number of each, such as the probability of an answer. The first one is without any field.
        sample: what is there.
        names: the fields that are told of; the others are always there. Default: all.

    Raises:
        InvalidValue: no field, or more than ``FIELDS_MAX``.
        UnknownName: the sample does not have one.
    """
    chosen = list(sample if names is None else names)
    for name in chosen:
        if name not in sample:
            raise UnknownName("field of the sample", name, sample)
    if not 1 <= len(chosen) <= FIELDS_MAX:
        raise InvalidValue(f"{len(chosen)} fields are to be told apart; give 1 to {FIELDS_MAX}")
    rest = {name: item for name, item in sample.items() if name not in chosen}
    sets = [frozenset(one) for size in range(len(chosen) + 1) for one in combinations(chosen, size)]
    found = value([rest | {name: sample[name] for name in chosen if name in one} for one in sets])
    worth = dict(zip(sets, map(float, found), strict=True))
    result = dict.fromkeys(chosen, 0.0)
    for one in sets:
        for name in chosen:
            if name not in one:
                weight = 1 / (len(chosen) * comb(len(chosen) - 1, len(one)))
                result[name] += weight * (worth[one | {name}] - worth[one])
    return result


def deciding(model: Predicts, sample: Sample, task: str = "") -> tuple[Any, dict[str, float]]:
    """Returns what a model tells of a sample, and what each field that it reads gives to the probability of that.

    Args:
        model: tells it from any subset of the fields.
        sample: what is there; the fields that tasks are learnt from are not looked at.
        task: which task; default: the first.

    Raises:
        UnknownName: the model has no such task.
        InvalidValue: the task tells a number or several labels, or no field is there.
    """
    name = task or next(iter(model.tasks))
    if name not in model.tasks:
        raise UnknownName("task of the model", name, model.tasks)
    told = model.tasks[name]
    if told.tells != "classes":
        raise InvalidValue(f"the task {name!r} tells {told.tells}; fields are told apart for a task of classes")
    given = {field: item for field, item in sample.items() if field not in model.tasks}
    rows: Float[Tensor, "N K"] = model.predict([given])[name]
    best = int(rows[0].argmax())

    def value(samples: Sequence[Sample]) -> list[float]:
        return [float(row[best]) for row in model.predict(samples)[name]]

    return told.words[best], shares(value, given)
