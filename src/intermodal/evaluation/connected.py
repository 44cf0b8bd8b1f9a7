"""How well the fields of a connected model find each other, from what its encoders said of them already."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from intermodal.evaluation.retrieval import retrieval_between
from intermodal.systems.connected import Connected
from intermodal.training.heads import Split, looked_at

ROWS = 1000


@torch.no_grad()
def vectors_of(model: Connected, name: str, features: Any) -> np.ndarray:
    """Returns the unit vector of each item ``(N, D)``; of features, or of what stands in their place."""
    model.eval()
    found = []
    for start in range(0, len(features), ROWS):
        batch = features.batch(range(start, min(start + ROWS, len(features)))).to(model.device)
        found.append(F.normalize(model.vectors(name, batch).float(), dim=-1).cpu())
    return torch.cat(found).numpy()


def recalls(model: Connected, data: Split) -> dict[str, dict[str, float]]:
    """Returns the figures of retrieval for each ordered pair of fields that were trained: ``image>text``.

    An item is right where its sample belongs to the query's group.
    """
    given = looked_at(model.config, {name: one for name, one in data.given.items() if name in model.config.towers})
    rows = {name: vectors_of(model, name, one) for name, one in given.items()}
    labels = {name: data.groups[one.owner].numpy() for name, one in data.given.items()}
    found = {}
    for a, b in permutations(rows, 2):
        asked = np.isin(labels[a], labels[b])
        if asked.any() and {(a, b), (b, a)} & set(model.config.pairs()):
            found[f"{a}>{b}"] = retrieval_between(rows[a][asked], rows[b], labels[a][asked], labels[b])
    return found


def mean_recall(found: Mapping[str, Mapping[str, float]]) -> float:
    """Returns the mean over the directions of Recall@1."""
    return float(np.mean([one["recall_at_1"] for one in found.values()])) if found else 0.0
