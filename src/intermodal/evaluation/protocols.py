"""Protocols: a model and a data source to figures, with the split, the counts and the rule of relevance beside them.

``any_to_any`` is the main one: every field searched with every other. What belongs together is decided by the data:
two items of one sample do; items of several captions do with each of them; and where texts are labels (equal texts in
several samples), whatever has an equal text does. ``alignments`` looks at the same vectors without any query,
``zero_shot`` and ``probe`` name items by labels: from words alone, and by a linear reader that has seen examples.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from intermodal import catalog
from intermodal.errors import InvalidData, Unsupported
from intermodal.evaluation.alignment import (
    canonical_correlations,
    linear_cka,
    modality_gap,
    mutual_information_bound,
)
from intermodal.evaluation.classification import accuracy, linear_probe
from intermodal.evaluation.retrieval import per_query, recall_ceiling, summary
from intermodal.evaluation.uncertainty import interval
from intermodal.objectives.contrastive import info_nce
from intermodal.types import Embeds, Item

_ENTRIES = 2**24  # similarities held at once
_RIDGE = 0.1  # of the canonical correlations, as a share of the mean variance
_CANDIDATES = 2048  # pairs that the bound of mutual information is taken from
PROBE_SAMPLES = 10_000
"""Training samples that a probe is fitted to at most, evenly spaced."""


@dataclass(frozen=True)
class Vectors:
    """The vectors of one field of a data source.

    Attributes:
        rows: unit vectors; a sample with several captions has several.
        owner: the sample each row belongs to.
    """

    rows: Float[np.ndarray, "M D"]
    owner: Int[np.ndarray, " M"]


def embed_source(
    model: Embeds,
    source: Any,
    fields: Sequence[str] | None = None,
    batch_size: int = 250,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Vectors]:
    """Returns the vectors of each field of ``source`` that ``model`` reads, or of ``fields``; absent items have none.

    Raises:
        Unsupported: a field in ``fields`` that the data or the model lacks, or none that both have.
    """
    towers = model.config.towers  # type: ignore[attr-defined]
    chosen = tuple(fields or (f for f in source.fields if f in towers))
    for name in chosen:
        if name not in source.fields or name not in towers:
            where = "data" if name not in source.fields else "model"
            raise Unsupported(
                f"the {where} has no field {name!r}; the data has {', '.join(source.fields)}, "
                f"the model {', '.join(towers)}"
            )
    if not chosen:
        raise Unsupported(
            f"the data has {', '.join(source.fields)} and the model reads {', '.join(towers)}: no field in common"
        )
    captions, text = getattr(source, "captions", None), catalog.module("modalities", "text").ITEM
    items: dict[str, list[Item]]
    rows: dict[str, list[Any]] = {name: [] for name in chosen}
    owners: dict[str, list[int]] = {name: [] for name in chosen}
    for start in range(0, len(source), batch_size):
        index = range(start, min(start + batch_size, len(source)))
        items = {name: [] for name in chosen}
        for i, sample in zip(index, source.samples(index), strict=True):
            for name in chosen:
                several = captions(i, name) if captions and source.fields[name] == "text" else ()
                found = [text(words) for words in several] or ([sample[name]] if name in sample else [])
                items[name] += found
                owners[name] += [i] * len(found)
        for name in chosen:
            if items[name]:
                rows[name].append(model.embed(items[name], fields=name).float().cpu().numpy())  # type: ignore[call-arg]
        if progress:
            progress(min(1.0, (start + batch_size) / len(source)))
    for name in chosen:
        if not rows[name]:
            raise InvalidData(f"no sample of the data has the field {name!r}; leave it out or check the files")
    return {name: Vectors(np.concatenate(rows[name]), np.asarray(owners[name])) for name in chosen}


def label_groups(source: Any, index: Sequence[int] | None = None) -> dict[int, Hashable] | None:
    """Returns each sample's text if texts are labels, that is, if fewer than half of them are distinct; else None."""
    names = [name for name, modality in source.fields.items() if modality == "text"]
    if not names or getattr(source, "vocabulary", None):
        return None
    captions = getattr(source, "captions", None)
    ids = range(len(source)) if index is None else index
    texts: dict[int, Hashable] = {}
    for i in ids:
        several = captions(i, names[0]) if captions else ()
        if len(several) > 1:
            return None
        if several:
            texts[i] = several[0]
    return texts if texts and len(set(texts.values())) * 2 < len(texts) else None


def any_to_any(
    model: Embeds, source: Any, vectors: Mapping[str, Vectors] | None = None, **options: Any
) -> dict[str, Any]:
    """Returns how well each field finds each other one, and what could at best be reached.

    Args:
        model: embeds.
        source: the data; ``keys(index, *fields)``, where it has that, gives the truth that fields share, from which
            the ceiling of Recall@1 is computed.
        vectors: of ``embed_source``, if they are there already.
        options: of ``embed_source``.

    Returns:
        ``protocol, split, count, fields`` and ``pairs``: ``"image>text"`` -> the metrics of ``retrieval`` with
        ``queries``, ``gallery``, ``interval`` (in which Recall@1 lies with 95 %; several captions of a sample are one
        draw), ``ceiling`` (of Recall@1) and ``share_of_ceiling`` (0 where the ceiling is); ``gaps``: the modality gap
        of each pair. An item that has nothing relevant on the other side is no query; ``queries`` says how many are.
    """
    vectors = vectors or embed_source(model, source, **options)
    groups = label_groups(source)
    numbers: dict[Hashable, int] = {}
    labels = None if groups is None else {i: numbers.setdefault(text, len(numbers)) for i, text in groups.items()}
    keys = getattr(source, "keys", None)
    pairs: dict[str, Any] = {}
    gaps: dict[str, float] = {}
    for a, b in ((a, b) for a in vectors for b in vectors if a != b):
        kept, targets = _searchable(vectors[a], vectors[b], labels)
        if not len(kept.rows):
            continue
        figures = _search(kept, targets, labels)
        ceiling = 1.0
        single = all(len(np.unique(v.owner)) == len(v.owner) for v in (kept, targets))
        if keys and groups is None and single:
            ceiling = recall_ceiling(keys(kept.owner.tolist(), a, b), keys(targets.owner.tolist(), a, b))
        pairs[f"{a}>{b}"] = {
            **figures,
            "queries": len(kept.rows),
            "gallery": len(targets.rows),
            "ceiling": ceiling,
            "share_of_ceiling": figures["recall_at_1"] / ceiling if ceiling else 0.0,
        }
        if f"{b}-{a}" not in gaps:
            gaps[f"{a}-{b}"] = modality_gap(kept.rows, targets.rows)
    rule = "items of one sample" if groups is None else "items with an equal text"
    return {
        "protocol": f"each field searches each other among all items of the split; relevant: {rule}",
        **source.describe(),
        "pairs": pairs,
        "gaps": gaps,
    }


def _labels(vectors: Vectors, labels: Mapping[int, int] | None) -> NDArray[np.int64]:
    """Returns a number per row that is equal for what belongs together; -1 for a sample without a label."""
    if labels is None:
        return vectors.owner
    return np.array([labels.get(int(i), -1) for i in vectors.owner], dtype=np.int64)


def _searchable(query: Vectors, gallery: Vectors, labels: Mapping[int, int] | None) -> tuple[Vectors, Vectors]:
    """Returns the queries that have something to find, and the gallery: without labels, of the same samples."""
    own, others = _labels(query, labels), _labels(gallery, labels)
    asked = (own >= 0) & np.isin(own, others)
    there = np.isin(others, own) if labels is None else others >= 0
    return Vectors(query.rows[asked], query.owner[asked]), Vectors(gallery.rows[there], gallery.owner[there])


def _search(query: Vectors, gallery: Vectors, labels: Mapping[int, int] | None) -> dict[str, Any]:
    """Returns the figures of one direction; the similarities are held a block of queries at a time."""
    own, others = _labels(query, labels), _labels(gallery, labels)
    rows = max(1, _ENTRIES // len(gallery.rows))
    blocks = []
    for start in range(0, len(query.rows), rows):
        block = slice(start, start + rows)
        scores = query.rows[block] @ gallery.rows.T
        blocks.append(per_query(scores, query_labels=own[block], gallery_labels=others))
    measured = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    _, sample = np.unique(query.owner, return_inverse=True)
    found = np.bincount(sample, weights=measured["recall_at_1"]) / np.bincount(sample)
    return {**summary(measured, len(gallery.rows)), "interval": list(interval(found))}


def alignments(vectors: Mapping[str, Vectors]) -> dict[str, dict[str, float]]:
    """Returns how each two fields lie to each other: ``"image-text"`` -> figures over the samples that have both.

    A sample with several captions counts with its first one.

    Args:
        vectors: of ``embed_source``.

    Returns:
        ``samples``; ``canonical_correlation``, the mean over directions, with a tenth of the mean variance as ridge,
        and ``canonical_correlation_shuffled``, the same with partners drawn at random, which is what so many samples
        give for nothing; ``cka``, linear and unbiased; ``gap`` between the two centres; ``mutual_information_bound``
        in nats, from ``candidates`` pairs: it cannot exceed the logarithm of their number.

    Raises:
        InvalidValue: a pair has fewer than 4 samples in common, or one side does not vary.
    """
    result = {}
    names = list(vectors)
    for a, b in ((a, b) for place, a in enumerate(names) for b in names[place + 1 :]):
        _, first, second = np.intersect1d(vectors[a].owner, vectors[b].owner, return_indices=True)
        x, y = vectors[a].rows[first], vectors[b].rows[second]
        shuffled = y[np.random.default_rng(0).permutation(len(y))]
        bound, candidates = _information(x, y)
        result[f"{a}-{b}"] = {
            "samples": float(len(x)),
            "canonical_correlation": float(canonical_correlations(x, y, _RIDGE).mean()),
            "canonical_correlation_shuffled": float(canonical_correlations(x, shuffled, _RIDGE).mean()),
            "cka": linear_cka(x, y, unbiased=True),
            "gap": modality_gap(x, y),
            "mutual_information_bound": bound,
            "candidates": float(candidates),
        }
    return result


def _information(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[float, int]:
    """Returns the bound of the mutual information in nats, and among how many candidates.

    The bound holds for any temperature, and is tight for the best one. That is searched for on half of the pairs, the
    loss taken from the other half, each against all candidates; then the other way round.
    """
    chosen = np.linspace(0, len(x) - 1, min(len(x), _CANDIDATES)).astype(np.int64)
    a, b = torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen])
    even = torch.arange(len(a)) % 2 == 0

    def loss(log_scale: float, asked: torch.Tensor) -> float:
        return float(info_nce(a, b, float(np.exp(log_scale)), weights=asked.to(a.dtype)))

    best = [_lowest(partial(loss, asked=fitted), 0.0, float(np.log(1000.0))) for fitted in (even, ~even)]
    return mutual_information_bound((loss(best[0], ~even) + loss(best[1], even)) / 2, len(a)), len(a)


def _lowest(function: Callable[[float], float], low: float, high: float, steps: int = 8) -> float:
    """Returns about where a function with one minimum has it; each golden step leaves 62 % of the range."""
    share = (np.sqrt(5.0) - 1.0) / 2.0
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = function(right)
    return float((low + high) / 2)


def _labelled(
    source: Any, field: str, label_field: str, index: Sequence[int], batch_size: int
) -> Iterator[tuple[list[Item], list[str]]]:
    """Yields, batch by batch, the items of samples that have a label too, and the labels.

    Raises:
        Unsupported: the data has no such field, or the labels are no texts.
    """
    for name in (field, label_field):
        if name not in source.fields:
            raise Unsupported(f"the data has no field {name!r}; it has {', '.join(source.fields)}")
    if source.fields[label_field] != "text":
        raise Unsupported(f"the field {label_field!r} holds {source.fields[label_field]}; labels must be texts")
    for start in range(0, len(index), batch_size):
        found = source.samples(index[start : start + batch_size])
        both = [sample for sample in found if field in sample and label_field in sample]
        yield [sample[field] for sample in both], [sample[label_field].text for sample in both]


def zero_shot(
    model: Any,
    source: Any,
    field: str,
    label_field: str = "text",
    prompts: Sequence[str] = ("{}",),
    batch_size: int = 250,
) -> dict[str, Any]:
    """Returns the accuracy of naming each item of ``field`` by the labels that ``label_field`` holds, from words alone.

    Raises:
        Unsupported: the data has no such field.
        InvalidData: no sample has both.
    """
    items: list[Item] = []
    truth: list[str] = []
    for media, words in _labelled(source, field, label_field, range(len(source)), batch_size):
        items += media
        truth += words
    if not items:
        raise InvalidData(f"no sample has both {field!r} and {label_field!r}")
    labels = sorted(set(truth))
    scores = model.classify(items, labels, prompts, field=field).float().cpu().numpy()
    top = accuracy(scores, np.array([labels.index(t) for t in truth]))
    return {
        "protocol": f"zero-shot: {len(labels)} labels in words, prompts averaged",
        **source.describe(),
        "field": field,
        "labels": len(labels),
        "accuracy": top,
        "items": len(items),
    }


def probe(
    model: Embeds,
    train: Any,
    test: Any,
    field: str,
    label_field: str = "text",
    batch_size: int = 250,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Returns what a linear reader of frozen vectors names right: fitted to ``train``, measured on ``test``.

    Args:
        model: embeds; nothing of it is trained.
        train: data with labels; of more than ``PROBE_SAMPLES`` samples that many, evenly spaced.
        test: data of another split.
        field: whose items are embedded.
        label_field: the text field that holds the labels.
        batch_size: samples embedded together.
        progress: called with the share that is done.

    Raises:
        Unsupported: the data has no such field.
        InvalidData: no sample has both fields, or hardly a label occurs twice.
    """
    vectors, words = [], []
    for place, source in enumerate((train, test)):
        index = range(len(source)) if place else _spaced(len(source))
        rows, truth = [], []
        for items, labels in _labelled(source, field, label_field, index, batch_size):
            if items:
                rows.append(model.embed(items, fields=field).float().cpu().numpy())  # type: ignore[call-arg]
                truth += labels
            if progress:
                progress((place + min(1.0, len(truth) / len(index))) / 2)
        if not rows:
            raise InvalidData(
                f"no sample of the {'test' if place else 'training'} part has {field!r} and {label_field!r}"
            )
        vectors.append(np.concatenate(rows))
        words.append(truth)
    if 2 * len(set(words[0])) > len(words[0]):
        raise InvalidData(
            f"{len(set(words[0]))} of {len(words[0])} texts in {label_field!r} are distinct: they are no labels; "
            "name a field whose texts come again"
        )
    labels = sorted({*words[0], *words[1]})
    classes = {label: number for number, label in enumerate(labels)}
    fitted, asked = (np.array([classes[label] for label in part]) for part in words)
    return {
        "protocol": f"linear probe on frozen vectors of {field}, fitted to the training part",
        **test.describe(),
        "field": field,
        "labels": len(labels),
        "train_items": len(fitted),
        "items": len(asked),
        **linear_probe(vectors[0], fitted, vectors[1], asked),
    }


def _spaced(count: int) -> list[int]:
    """Returns at most ``PROBE_SAMPLES`` numbers below ``count``, evenly spaced."""
    numbers: list[int] = np.linspace(0, count - 1, min(count, PROBE_SAMPLES)).astype(int).tolist()
    return numbers
