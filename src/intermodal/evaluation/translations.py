"""How well a model translates: every direction over a split, and every field made from all the others.

What was made is read back by the readers of Diorama (``evaluation.scenes``) and compared with the scene behind what
was asked: which of the attributes that both sides carry arrived. So this needs a source that knows its scenes. Seconds
are those of the model alone; items are translated a batch at a time.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from intermodal.diorama.scene import CARRIES, Scene
from intermodal.errors import InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.evaluation.scenes import Found, attributes_shared, read_back, translation_accuracy
from intermodal.types import MODALITIES, Completes, Item, Sample, Translates

READ_AS = {"transcript": "text"}
"""Fields that are read as a rendering of another name."""

Progress = Callable[[float, str], None]
Direction = tuple[str, str]

_MEANS = ("attribute_accuracy", "scene_accuracy", "unreadable_share", "seconds_per_item")


def translations(
    model: Translates,
    source: Any,
    fields: Sequence[str] | None = None,
    directions: Sequence[Direction] | None = None,
    count: int = 1,
    sampling: Any = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Returns how much of each scene arrives in each direction, and the mean over the directions.

    Args:
        model: translates.
        source: Diorama, of a split that the model was not trained on.
        fields: only directions between these; default: all.
        directions: only these; default: all that the model has and the source can ask for.
        count: candidates per item, of which the model takes the best.
        sampling: how ids are chosen; default: the model's own.
        batch_size: items translated together.
        progress: called with the share that is done and the direction.

    Returns:
        ``protocol, name, split, count, candidates, sampling, batch_size``; ``directions``: ``"text>image"`` -> the
        figures of ``scenes.translation_accuracy`` with the ``attributes`` that both carry, ``unreadable_share`` and
        ``seconds_per_item``; ``misshapen``: how many of the unreadable have not the format of the rendering, and
        ``misshapen_why``, for the first; ``mean``; ``left_out``: directions of the model -> why they were not asked.

    Raises:
        Unsupported: the model does not translate, the source knows no scenes, a direction in ``directions`` that the
            model lacks, or none that both have.
        UnknownName: a field in ``fields`` that no direction has.
        MissingExtra: a direction in ``directions`` whose result cannot be read here.
    """
    _needs_scenes(source)
    if not isinstance(model, Translates):
        raise Unsupported(f"the model does not translate ({type(model).__name__}); give one that has directions")
    chosen, left_out = _chosen(model, source, fields, directions)

    def make(given: list[Sample], to: str) -> list[Item]:
        field = next(iter(given[0]))
        return model.translate([sample[field] for sample in given], to, source=field, sampling=sampling, count=count)

    tasks = {f"{a}>{b}": ((a,), b) for a, b in chosen}
    figures = _measured(source, tasks, make, batch_size, progress)
    told = f"{len(figures)} directions, each result read back and compared on the attributes that both sides carry"
    return {
        "protocol": told,
        **source.describe(),
        **_asked(count, sampling, batch_size),
        "directions": figures,
        "mean": _mean(figures),
        "left_out": left_out,
    }


def completions(
    model: Completes,
    source: Any,
    fields: Sequence[str] | None = None,
    count: int = 1,
    sampling: Any = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Returns how much of each scene is in a field that is made from all the others, for each field.

    Args:
        model: completes samples.
        source: Diorama, of a split that the model was not trained on.
        fields: of a whole sample, at least two; default: the modalities that the source has and the model knows. Made
            are those of them that the model writes.
        count: candidates per sample, of which the best is read.
        sampling: how ids are chosen; default: the model's own.
        batch_size: samples completed together.
        progress: called with the share that is done and the field.

    Returns:
        As ``translations``, but ``fields``: field -> its figures, with what it was made ``from``. Judged are the
        attributes that it carries and any of the others does.

    Raises:
        Unsupported: the model does not complete, the source knows no scenes, or there are too few fields.
    """
    _needs_scenes(source)
    if not isinstance(model, Completes):
        raise Unsupported(f"the model makes nothing from several fields together ({type(model).__name__})")
    known = {n for pair in model.directions for n in pair} if isinstance(model, Translates) else set(MODALITIES)
    whole = tuple(fields or (name for name in source.fields if name in MODALITIES and name in known))
    for name in whole:
        if name not in source.fields or name not in CARRIES:
            raise UnknownName("field of the data that shows a scene", name, [n for n in source.fields if n in CARRIES])
    if len(whole) < 2:
        raise Unsupported(
            f"a field is made from others, and there is only {', '.join(whole) or 'none'}; give at least two"
        )
    written = {b for _, b in model.directions} if isinstance(model, Translates) else set(whole)
    tasks = {to: (tuple(name for name in whole if name != to), to) for to in whole if to in written}

    def make(given: list[Sample], to: str) -> list[Item]:
        return [each[0].item for each in model.candidates(given, to, sampling=sampling, count=count)]

    figures = _measured(source, tasks, make, batch_size, progress)
    return {
        "protocol": "each field made from all the others, read back, compared on the attributes that any of them has",
        **source.describe(),
        **_asked(count, sampling, batch_size),
        "fields": {to: {"from": list(tasks[to][0]), **told} for to, told in figures.items()},
        "mean": _mean(figures),
    }


def examples(
    model: Translates, source: Any, directions: Sequence[str], count: int = 3, sampling: Any = None
) -> dict[str, list[tuple[Item, Item, Item | None]]]:
    """Returns a few translations to look at: ``"text>image"`` -> what was asked, what was made, what the data has.

    Args:
        model: translates.
        source: the data; its first samples are taken, other ones for each direction.
        directions: keys of ``translations(...)["directions"]``.
        count: of each direction.
        sampling: how ids are chosen; default: the model's own.
    """
    shown = {}
    for n, name in enumerate(directions):
        a, b = name.split(">")
        found = [s for s in source.samples([(n * count + i) % len(source) for i in range(count)]) if a in s]
        made = model.translate([s[a] for s in found], b, source=a, sampling=sampling) if found else []
        shown[name] = [(s[a], item, s.get(b)) for s, item in zip(found, made, strict=True)]
    return shown


def _needs_scenes(source: Any) -> None:
    if not hasattr(source, "scenes"):
        told = source.describe().get("name", "the data")
        raise Unsupported(
            f"{told} does not know what its items show, so translations of it cannot be read back; give diorama, or a "
            "source with scenes(index); for other data see the metrics of generation"
        )


def _rendering(field: str) -> str:
    """Returns the rendering that a field is read as."""
    return READ_AS.get(field, field)


def _chosen(
    model: Translates, source: Any, fields: Sequence[str] | None, directions: Sequence[Direction] | None
) -> tuple[list[Direction], dict[str, str]]:
    """Returns the directions to measure, and why others are left out; those that were asked for by name must go."""
    known = {name for pair in model.directions for name in pair}
    for name in fields or ():
        if name not in known:
            raise UnknownName("field in a direction of the model", name, known)
    kept, left_out = [], {}
    for a, b in directions or model.directions:
        if directions and (a, b) not in model.directions:
            named = ", ".join(f"{x}>{y}" for x, y in model.directions)
            raise Unsupported(f"the model has no direction {a}>{b}; it has {named or '(none)'}")
        if fields and not {a, b} <= set(fields):
            continue
        reason = _obstacle(a, b, source)
        if reason and directions:
            raise reason
        if reason:
            left_out[f"{a}>{b}"] = str(reason)
        else:
            kept.append((a, b))
    if not kept:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise Unsupported(f"no direction of the model can be measured on these data; {why or 'name other fields'}")
    return kept, left_out


def _obstacle(a: str, b: str, source: Any) -> Unsupported | MissingExtra | None:
    """Returns why a direction cannot be measured; None where it can."""
    if a not in source.fields:
        return Unsupported(f"the data has no field {a!r}; it has {', '.join(source.fields)}")
    if _rendering(a) not in CARRIES or _rendering(b) not in CARRIES:
        return Unsupported(f"{a if _rendering(a) not in CARRIES else b} shows no whole scene, so it is not read back")
    if b == "speech" and importlib.util.find_spec("pocketsphinx") is None:
        return MissingExtra("pocketsphinx", "test", "reading translations into speech back")
    return None


def _measured(
    source: Any,
    tasks: Mapping[str, tuple[tuple[str, ...], str]],
    make: Callable[[list[Sample], str], list[Item]],
    batch_size: int,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """Returns the figures of each task.

    Args:
        source: the data.
        tasks: name -> the fields that are given, and the one that is made.
        make: the model.
        batch_size: samples at once.
        progress: called with the share that is done and the name.
    """
    truth: dict[str, list[Scene]] = {name: [] for name in tasks}
    found: dict[str, list[Found]] = {name: [] for name in tasks}
    misshapen: dict[str, list[str]] = {name: [] for name in tasks}
    seconds = dict.fromkeys(tasks, 0.0)
    for start in range(0, len(source), batch_size):
        index = range(start, min(start + batch_size, len(source)))
        scenes, samples = list(source.scenes(index)), source.samples(index)
        for n, (name, (fields, to)) in enumerate(tasks.items()):
            if progress:
                progress((start + len(index) * n / len(tasks)) / len(source), name)
            whole = [place for place, sample in enumerate(samples) if all(field in sample for field in fields)]
            if whole:
                given: list[Sample] = [{field: samples[place][field] for field in fields} for place in whole]
                began = time.perf_counter()
                made = make(given, to)
                seconds[name] += time.perf_counter() - began
                truth[name] += [scenes[place] for place in whole]
                found[name] += _read(_rendering(to), made, misshapen[name])
    if progress:
        progress(1.0, "")
    figures = {}
    for name, (fields, to) in tasks.items():
        starts = tuple(map(_rendering, fields))
        figures[name] = _figures(truth[name], found[name], starts, _rendering(to), seconds[name])
        figures[name] |= {"misshapen": len(misshapen[name]), "misshapen_why": next(iter(misshapen[name]), "")}
    return figures


def _read(rendering: str, items: Sequence[Item], misshapen: list[str]) -> list[Found]:
    """Returns what is read in each item; reasons why one has not the format of the rendering join ``misshapen``."""
    try:
        return read_back(rendering, items)
    except InvalidValue as error:
        if len(items) == 1:
            misshapen.append(str(error))
            return [None]
    return [found for item in items for found in _read(rendering, [item], misshapen)]


def _figures(
    truth: Sequence[Scene], found: Sequence[Found], source: tuple[str, ...], to: str, seconds: float
) -> dict[str, Any]:
    """Returns what arrived of the scenes."""
    accuracy = translation_accuracy(truth, found, source, to)
    return {
        "attributes": list(attributes_shared(source, to)),
        **accuracy,
        "unreadable_share": accuracy["unreadable"] / len(truth),
        "seconds_per_item": seconds / len(truth),
    }


def _mean(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of each figure that all have; every direction counts alike."""
    return {name: float(np.mean([each[name] for each in figures.values()])) for name in _MEANS}


def _asked(count: int, sampling: Any, batch_size: int) -> dict[str, Any]:
    """Returns the request as JSON."""
    told = asdict(sampling) if is_dataclass(sampling) and not isinstance(sampling, type) else sampling
    return {"candidates": count, "sampling": told, "batch_size": batch_size}
