"""How well the fields of a connected model find each other, from what its encoders said of them already."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermodal.evaluation.retrieval import retrieval_between
from intermodal.systems.connected import Connected
from intermodal.training.heads import Split, looked_at

ROWS = 1000


@torch.no_grad()
def vectors_of(model: Connected, name: str, features: Any, index: Sequence[int] | None = None) -> np.ndarray:
    """Returns the unit vector of each item ``(N, D)``, or of those of ``index``.

    Args:
        model: over features.
        name: of the field.
        features: of it, or what stands in their place.
        index: numbers of items.
    """
    model.eval()
    found, places = [], range(len(features)) if index is None else index
    for start in range(0, len(places), ROWS):
        batch = features.batch(places[start : start + ROWS]).to(model.device)
        found.append(model.finished(name, model.vectors(name, batch)).cpu())
    return torch.cat(found).numpy()


def said_of(model: Connected, data: Split) -> dict[str, np.ndarray]:
    """Returns the unit vectors of all items of each field."""
    given = looked_at(model.config, {name: one for name, one in data.given.items() if name in model.config.towers})
    return {name: vectors_of(model, name, one) for name, one in given.items()}


def recalls(model: Connected, data: Split) -> dict[str, dict[str, float]]:
    """Returns the figures of retrieval for each ordered pair of fields that were trained: ``image>text``.

    An item is right where its sample belongs to the query's group.
    """
    rows = said_of(model, data)
    labels = {name: data.groups[one.owner].numpy() for name, one in data.given.items()}
    return {
        f"{a}>{b}": retrieval_between(rows[a][asked], rows[b], labels[a][asked], labels[b])
        for a, b, asked in _ways(model, data, rows)
    }


def _ways(model: Connected, data: Split, names: Iterable[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields the ordered pairs of fields that were trained, and which items of the first have one to find."""
    labels = {name: data.groups[data.given[name].owner].numpy() for name in names}
    for a, b in permutations(labels, 2):
        asked = np.isin(labels[a], labels[b])
        if asked.any() and {(a, b), (b, a)} & set(model.config.pairs()):
            yield a, b, asked


def found_first(model: Connected, data: Split, said: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns Recall@1 as ``recalls`` does, and nothing else, which is quick; of equal cosines the first counts.

    Args:
        model: tells which fields are trained to find each other.
        data: what its encoders said.
        said: field -> unit vectors of all its items.
    """
    labels = {name: data.groups[one.owner] for name, one in data.given.items()}
    found = {}
    for a, b, asked in _ways(model, data, said):
        first = [(rows @ said[b].T).argmax(dim=1) for rows in torch.split(said[a][asked], ROWS)]
        found[f"{a}>{b}"] = (labels[b][torch.cat(first)] == labels[a][asked]).float().mean().item()
    return found


def mean_recall(found: Mapping[str, Mapping[str, float]]) -> float:
    """Returns the mean over the directions of Recall@1."""
    return float(np.mean([one["recall_at_1"] for one in found.values()])) if found else 0.0
