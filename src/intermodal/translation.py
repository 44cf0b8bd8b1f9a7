"""Ways from a field to another: found among the directions of one or several models, and followed.

A direct direction always wins; else the way of fewest steps, at most ``STEPS_MAX``, since every step loses something.
Of ways with equally many steps the one is taken whose directions come first, in the order of the models and of their
``directions``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.types import MODALITIES, Candidate, Completes, Item, Sample, Translates

STEPS_MAX = 3


@dataclass(frozen=True)
class Step:
    """One direction of one model.

    Attributes:
        model: its number among the models given.
        name: of the model, or its number in words.
        source: the field it translates from; several that are given together are joined by " + ".
        to: the field it translates to.
    """

    model: int
    name: str
    source: str
    to: str


Way = tuple[Step, ...]


@dataclass(frozen=True)
class Translated:
    """What became of the items.

    Attributes:
        items: the best candidate of each.
        candidates: for each item what was made of it, best first. A model that does not tell scores gives one, whose
            score is NaN.
        way: the steps; more than one where there was no direct direction.
        between: for each step but the last the items that it made.
    """

    items: list[Item]
    candidates: list[list[Candidate]]
    way: Way
    between: tuple[list[Item], ...] = ()


def ways(models: Translates | Sequence[Any], source: str) -> dict[str, Way]:
    """Returns the best way from ``source`` to each field that can be reached, the nearest first.

    Raises:
        Unsupported: one of the models does not translate.
    """
    given = _translating(models)
    found: dict[str, Way] = {}
    ends: list[Way] = [()]
    for _ in range(STEPS_MAX):
        longer: list[Way] = []
        for way in ends:
            here = way[-1].to if way else source
            for n, model in enumerate(given):
                for a, b in model.directions:
                    # back to the start only by a direction of its own, such as a picture to another picture
                    if a == here and b not in found and (b != source or not way):
                        found[b] = (*way, Step(n, _name(model, n), a, b))
                        longer += [] if b == source else [found[b]]
        ends = longer
    return found


def find_way(models: Translates | Sequence[Any], source: str, to: str) -> Way:
    """Returns the steps from ``source`` to ``to``; see the top of the file.

    Raises:
        Unsupported: there is no such way; lists the fields that can be reached.
    """
    known = ways(models, source)
    if to in known:
        return known[to]
    if not known:
        starts = dict.fromkeys(a for model in _translating(models) for a, _ in model.directions)
        raise Unsupported(
            f"nothing is translated from {source!r}; give items of one of: {', '.join(starts) or '(none)'}"
        )
    reached = [name if len(way) == 1 else f"{name} (by way of {by_way_of(way)})" for name, way in known.items()]
    raise Unsupported(
        f"there is no way from {source!r} to {to!r} in at most {STEPS_MAX} steps; from {source!r} these can be "
        f"reached: {', '.join(reached)}"
    )


def by_way_of(way: Way) -> str:
    """Returns the fields between the first and the last one, in words; empty for a direct direction."""
    return " and ".join(step.to for step in way[:-1])


def translate(
    models: Translates | Sequence[Any],
    items: Sequence[Item],
    to: str,
    *,
    source: str | None = None,
    sampling: Any = None,
    count: int = 1,
) -> Translated:
    """Returns the items in the field ``to``, each with its candidates, and the way they went.

    Args:
        models: one or several; a chain may go through all of them.
        items: of one field.
        to: a field.
        source: the field that the items are of; default: the one of their modality.
        sampling: how ids are chosen (``sampling.autoregressive.Sampling``); default: each model's own.
        count: candidates of each step; a further step starts from the best one.

    Raises:
        Unsupported: there is no way to ``to``, or a model that does not translate.
        InvalidValue: no items, items of several modalities, or no candidates.
    """
    given = _translating(models)
    start = source or field_of(given, items)
    _check(items, count)
    way = find_way(given, start, to)
    now, between = list(items), []
    for step in way[:-1]:
        now = given[step.model].translate(now, step.to, source=step.source, sampling=sampling, count=count)
        between.append(now)
    last = given[way[-1].model]
    if isinstance(last, Completes):
        samples = [{way[-1].source: item} for item in now]
        found = last.candidates(samples, to, sampling=sampling, count=count)
    else:
        made = last.translate(now, to, source=way[-1].source, sampling=sampling, count=count)
        found = [[Candidate(item, math.nan)] for item in made]
    return Translated([each[0].item for each in found], found, way, tuple(between))


def complete(
    models: Completes | Sequence[Any], samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
) -> Translated:
    """Returns for each sample its field ``to``, made from all fields that it has, by the first model that can.

    Args:
        models: one or several.
        samples: each with at least one field other than ``to``.
        to: a field.
        sampling: as in ``translate``.
        count: candidates for each sample.

    Raises:
        Unsupported: no model makes ``to`` from these fields; says why of each.
        InvalidValue: no samples, one that has no field or has ``to`` already, or no candidates.
    """
    _check(samples, count)
    fields = list(dict.fromkeys(name for sample in samples for name in sample))
    if to in fields or not all(samples):
        raise InvalidValue(f"a sample has {', '.join(fields) or 'no field'}; to make {to!r}, give other fields of it")
    given = models if isinstance(models, Sequence) else [models]
    reasons = []
    for n, model in enumerate(given):
        known = getattr(model, "preprocessors", None) or fields
        unread = [name for name in fields if name not in known]
        if not isinstance(model, Completes):
            reasons.append(f"{_name(model, n)} takes one field at a time")
        elif unread:
            reasons.append(f"{_name(model, n)} does not read {', '.join(unread)}")
        else:
            try:
                found = model.candidates(samples, to, sampling=sampling, count=count)
            except (Unsupported, UnknownName) as error:
                reasons.append(str(error))
            else:
                way = (Step(n, _name(model, n), " + ".join(fields), to),)
                return Translated([each[0].item for each in found], found, way)
    raise Unsupported(f"no model makes {to!r} from {' and '.join(fields)}: {'; '.join(reasons)}")


def field_of(models: Sequence[Translates], items: Sequence[Item]) -> str:
    """Returns the field that items are of: that of their modality's name, or the only one of their modality.

    Raises:
        InvalidValue: no items, or items of several modalities.
    """
    kinds = sorted({item.modality for item in items})
    if len(kinds) != 1:
        raise InvalidValue(f"the items are of {' and '.join(kinds) or 'no modality'}; give at least one, all of one")
    starts = dict.fromkeys(a for model in models for a, _ in model.directions)
    alike = [name for name in starts if modality_of(models, name) == kinds[0]]
    return alike[0] if len(alike) == 1 else kinds[0]


def modality_of(models: Sequence[Any], field: str) -> str | None:
    """Returns the modality of a field; None where neither its name nor a model's preprocessor tells it."""
    for model in models:
        known: Mapping[str, Any] = getattr(model, "preprocessors", None) or {}
        if field in known:
            return str(known[field].modality)
    return field if field in MODALITIES else None


def _check(items: Sequence[Any], count: int) -> None:
    if not items or count < 1:
        raise InvalidValue(f"{len(items)} items and {count} candidates of each were asked for; give at least one")


def _translating(models: Translates | Sequence[Any]) -> Sequence[Translates]:
    """Returns the models as a list."""
    given = models if isinstance(models, Sequence) else [models]
    for n, model in enumerate(given):
        if not isinstance(model, Translates):
            raise Unsupported(f"{_name(model, n)} does not translate; give a model that has directions")
    return given


def _name(model: Any, number: int) -> str:
    """Returns what a model is called."""
    return str(getattr(model, "name", "") or f"model {number + 1}")
