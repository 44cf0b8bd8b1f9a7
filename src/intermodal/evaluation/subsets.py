"""What a model tells of samples from every subset of their fields, and while one of them drowns in noise.

Beside it stands what every report of a fusion has to show: models that learnt from fewer fields alone, and late fusion
of the single ones with rule and weights tuned on the dev split, which joint models often do not beat (arXiv
2512.22991).

Only samples that have all fields and what is to be told are taken, so that all figures are about the same ones. The
figure of classes is the accuracy; of labels micro F1 at one half; of a number the share of the variance explained.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from intermodal.decoders.tasks import Task
from intermodal.errors import InvalidData, InvalidValue, UnknownName, Unsupported
from intermodal.evaluation.uncertainty import wilson
from intermodal.types import Item, Predicts, Sample

METRICS = {"classes": "accuracy", "labels": "micro_f1", "number": "variance_explained"}
NOISE = (0.0, 0.5, 0.75, 0.9, 0.95, 1.0)
"""Shares of what varies in an item that are noise."""

RULES = ("linear", "product")
_TINY = 1e-12


@dataclass(frozen=True)
class Told:
    """Samples, and what is true of them.

    Attributes:
        samples: each with all fields.
        truth: per sample the class, -1 for one that the task does not know; else the row that is to be told.
        about: what a report should say of the data.
    """

    samples: Sequence[Sample]
    truth: Shaped[np.ndarray, "N ..."]
    about: Mapping[str, Any]


def told(source: Any, fields: Sequence[str], name: str, task: Task, limit: int = 2000) -> Told:
    """Returns the samples of ``source`` that have all ``fields`` and the field ``name``; at most ``limit``, spread.

    Raises:
        Unsupported: the data lacks a field.
        InvalidData: no sample has all of them.
    """
    for wanted in (*fields, name):
        if wanted not in source.fields:
            raise Unsupported(f"the data has no field {wanted!r}; it has {', '.join(source.fields)}")
    index = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64)).tolist()
    found = [s for s in source.samples(index) if name in s and all(field in s for field in fields)]
    if not found:
        raise InvalidData(f"no sample has all of {', '.join(fields)} and {name}; choose fields that go together")
    target = task([sample[name] for sample in found])
    values, known = target.values.numpy(), target.present.numpy()
    if task.tells == "classes":
        return Told(found, np.where(known, values[:, 0], -1), source.describe())
    keep = known.nonzero()[0]
    if not len(keep):
        raise InvalidData(f"no text of {name} holds a number; check the field")
    rows = values[keep, 0] * (task.scale if task.tells == "number" else 1.0)
    rows = rows + (task.offset if task.tells == "number" else 0.0)
    return Told([found[i] for i in keep], rows, source.describe())


def score(task: Task, found: Float[np.ndarray, "N L"], truth: Shaped[np.ndarray, "N ..."]) -> float:
    """Returns the task's figure, 1 at best. A sample whose class the task does not know counts as told wrong.

    Raises:
        InvalidValue: no rows, or another number of them on both sides.
    """
    if not len(found) or len(found) != len(truth):
        raise InvalidValue(f"{len(found)} rows were told and {len(truth)} are true; give one each, at least one")
    if task.tells == "classes":
        return float((found.argmax(axis=1) == truth).mean())
    if task.tells == "labels":
        said, true = found > 0.5, truth > 0.5
        both = int(said.sum() + true.sum())
        return 2.0 * float((said & true).sum()) / both if both else 1.0
    spread = float(np.square(truth - truth.mean(axis=0)).sum())
    return 1.0 - float(np.square(found - truth).sum()) / spread if spread else 0.0


def subsets_of(fields: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns every subset but the empty one, small ones first."""
    return [chosen for size in range(1, len(fields) + 1) for chosen in combinations(fields, size)]


def predicted(model: Predicts, name: str, samples: Sequence[Sample], fields: Iterable[str]) -> NDArray[np.float64]:
    """Returns what the model tells from ``fields`` alone."""
    chosen = tuple(fields)
    part = [{field: sample[field] for field in chosen} for sample in samples]
    rows: NDArray[np.float64] = model.predict(part)[name].double().cpu().numpy()
    return rows


def by_subset(
    model: Predicts,
    test: Told,
    fields: Sequence[str],
    name: str,
    noise: Sequence[float] = NOISE,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Returns what the model tells from every subset of ``fields``, and from all of them with noise in one.

    Args:
        model: predicts.
        test: of ``told``.
        fields: those that the model reads.
        name: the task.
        noise: shares of noise, see ``noisy``; empty for none.
        progress: called with the share that is done.

    Returns:
        ``subsets``: ``"image+audio"`` -> the figure, and for classes its ``interval``; ``noise``: field -> share ->
        the figure of all fields together, and ``alone`` -> that of the noisy field by itself; ``changes_without``:
        field -> share of the samples of which another class is told without it: how often it decides.
    """
    task: Task = model.tasks[name]
    metric, figures, rows = METRICS[task.tells], {}, {}
    steps = len(subsets_of(fields)) + 2 * len(noise) * len(fields)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / steps)

    for chosen in subsets_of(fields):
        found = rows[chosen] = predicted(model, name, test.samples, chosen)
        value = score(task, found, test.truth)
        figures["+".join(chosen)] = {metric: value, **_interval(task, value, len(found))}
        step()
    everything = tuple(fields)
    result: dict[str, Any] = {"metric": metric, "count": len(test.samples), "subsets": figures}
    if task.tells == "classes" and len(fields) > 1:
        whole = rows[everything].argmax(axis=1)
        rest = {field: rows[tuple(f for f in fields if f != field)].argmax(axis=1) for field in fields}
        result["changes_without"] = {field: float((whole != named).mean()) for field, named in rest.items()}
    result["noise"] = {}
    for field in fields if noise else ():
        here: dict[str, dict[str, float]] = {"all": {}, "alone": {}}
        for share in noise:
            samples = [{**s, field: noisy(s[field], share, i)} for i, s in enumerate(test.samples)]
            for kind, chosen in (("all", everything), ("alone", (field,))):
                here[kind][f"{share:g}"] = score(task, predicted(model, name, samples, chosen), test.truth)
                step()
        result["noise"][field] = here
    return result


def _interval(task: Task, value: float, count: int) -> dict[str, list[float]]:
    """Returns between which shares an accuracy lies with 95 %."""
    return {"interval": list(wilson(round(value * count), count))} if task.tells == "classes" else {}


def noisy(item: Item, share: float, seed: int) -> Item:
    """Returns an item of which ``share`` of what varies is noise, and the rest what it was, at the same loudness.

    Media get white Gaussian noise of their own spread (of each channel, where they have channels): at 1 nothing of the
    item is left. Of a text each word is left out with the probability ``share``.

    Raises:
        InvalidValue: a share outside 0 to 1.
        UnknownName: another modality.
    """
    if not 0 <= share <= 1:
        raise InvalidValue(f"the share of noise is {share}; give 0 to 1")
    draws: np.random.Generator = np.random.default_rng([seed, 0x5EED])
    if item.modality == "text":
        words = item.text.split()  # type: ignore[attr-defined]
        kept = [word for word, draw in zip(words, draws.random(len(words)), strict=True) if draw >= share]
        return dataclasses.replace(item, text=" ".join(kept))  # type: ignore[type-var]
    known = {"image": "pixels", "video": "frames", "audio": "samples", "timeseries": "values"}
    if item.modality not in known:
        raise UnknownName("modality that noise can be put in", item.modality, ("text", *known))
    array = getattr(item, known[item.modality])
    if not share:
        return item
    values = array.astype(np.float32)
    axis = None if item.modality in ("image", "video") else 1
    mean, spread = np.nanmean(values, axis=axis, keepdims=True), np.nanstd(values, axis=axis, keepdims=True)
    drawn = draws.standard_normal(values.shape, dtype=np.float32)
    mixed = mean + np.sqrt(1 - share) * (values - mean) + np.sqrt(share) * spread * drawn
    if array.dtype == np.uint8:
        mixed = mixed.round().clip(0, 255)
    if item.modality == "audio":
        mixed = mixed.clip(-1, 1)
    return dataclasses.replace(item, **{known[item.modality]: mixed.astype(array.dtype)})  # type: ignore[type-var]


# ---- Late fusion of models that were trained apart


@dataclass(frozen=True)
class Pool:
    """A late fusion that was tuned.

    Attributes:
        rule: one of ``RULES``: linear mixes what each holds likely, product multiplies it, by powers.
        weights: field -> its weight; they add up to 1.
        dev: the figure that it was chosen by.
    """

    rule: str
    weights: Mapping[str, float]
    dev: float


def pooled(
    parts: Sequence[Float[np.ndarray, "N L"]], weights: Sequence[float], rule: str, tells: str
) -> Float[np.ndarray, "N L"]:
    """Returns the joint decision of several: probabilities, or numbers, which know only ``linear``.

    Raises:
        UnknownName: there is no such rule.
    """
    if rule not in RULES:
        raise UnknownName("rule of a pool", rule, RULES)
    if rule == "linear" or tells == "number":
        mixed: NDArray[np.float64] = sum((w * p for w, p in zip(weights, parts, strict=True)), np.zeros_like(parts[0]))
        return mixed

    def power(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        logs = [w * np.log(np.clip(v, _TINY, None)) for w, v in zip(weights, values, strict=True)]
        return np.asarray(np.sum(logs, axis=0))

    yes = power([np.asarray(p) for p in parts])
    if tells == "labels":
        no = power([1 - np.asarray(p) for p in parts])
        return np.asarray(1 / (1 + np.exp(no - yes)))
    grown = np.exp(yes - yes.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def tuned_pool(
    dev: Mapping[str, Float[np.ndarray, "N L"]], truth: Shaped[np.ndarray, "N ..."], task: Task, steps: int = 20
) -> Pool:
    """Returns the rule and the weights that tell most of the dev split right, among all weights in steps of 1/steps.

    Of equal ones the most even weights win. With more than two fields the steps are a fifth.

    Raises:
        InvalidValue: no decisions.
    """
    if not dev:
        raise InvalidValue("late fusion needs the decisions of at least one model, and there are none")
    names, parts = list(dev), list(dev.values())
    best: tuple[float, float, Pool] | None = None
    for weights in _simplex(len(names), steps if len(names) < 3 else 5):
        for rule in RULES:
            value = score(task, pooled(parts, weights, rule, task.tells), truth)
            uneven = sum(w * w for w in weights)
            if best is None or (value, -uneven) > best[:2]:
                best = value, -uneven, Pool(rule, dict(zip(names, weights, strict=True)), value)
    assert best is not None  # there is always one weight
    return best[2]


def _simplex(count: int, steps: int) -> list[tuple[float, ...]]:
    """Returns all weights in steps of ``1 / steps`` that add up to 1."""

    def parts(left: int, places: int) -> list[tuple[int, ...]]:
        if places == 1:
            return [(left,)]
        return [(n, *rest) for n in range(left + 1) for rest in parts(left - n, places - 1)]

    return [tuple(n / steps for n in whole) for whole in parts(steps, count)]


def against(models: Mapping[tuple[str, ...], Predicts], dev: Told, test: Told, name: str) -> dict[str, Any]:
    """Returns what models that learnt from fewer fields tell, and late fusion of the single ones, tuned on ``dev``.

    Args:
        models: the fields each was trained on -> the model.
        dev: what choices are made on.
        test: what the figures are of.
        name: the task.

    Returns:
        ``alone``: ``"image"`` -> the figure and its ``dev``; ``late``, where there are two single models or more:
        the figure with ``rule``, ``weights`` and ``dev``.

    Raises:
        InvalidValue: the models tell different things.
    """
    if not models:
        return {"alone": {}}
    kinds = {name in m.tasks and (m.tasks[name].tells, m.tasks[name].words) for m in models.values()}
    if len(kinds) > 1 or False in kinds:
        raise InvalidValue(f"not all of {len(models)} models tell the same {name}; train them on the same data")
    task: Task = next(iter(models.values())).tasks[name]
    metric = METRICS[task.tells]
    rows = {fields: [predicted(m, name, part.samples, fields) for part in (dev, test)] for fields, m in models.items()}
    alone = {}
    for fields, (held, found) in rows.items():
        value = score(task, found, test.truth)
        alone["+".join(fields)] = {
            metric: value,
            **_interval(task, value, len(found)),
            "dev": score(task, held, dev.truth),
        }
    result: dict[str, Any] = {"alone": alone}
    single = {fields[0]: parts for fields, parts in rows.items() if len(fields) == 1}
    if len(single) > 1:
        pool = tuned_pool({field: parts[0] for field, parts in single.items()}, dev.truth, task)
        joint = pooled([parts[1] for parts in single.values()], list(pool.weights.values()), pool.rule, task.tells)
        value = score(task, joint, test.truth)
        result["late"] = {metric: value, **_interval(task, value, len(joint)), **dataclasses.asdict(pool)}
    return result
