"""Coherence: whether what was made in one modality means the same as what it was made from, where no reader exists.

The judges are classifiers, or an embedding model, trained apart from the model that is judged; their own errors bound
every figure here, so state their accuracy on real items beside it.

Source: coherence and joint coherence: Shi et al. 2019, arXiv 1911.03393, section 4. CLIP score: Hessel et al. 2021,
arXiv 2104.08718, eq. 1.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array
from intermodal.evaluation.features import FeatureFigures, feature_rows
from intermodal.evaluation.uncertainty import wilson


def coherence(predicted: Int[Array, " N"], labels: Int[Array, " N"]) -> dict[str, float]:
    """Returns ``coherence``, the share judged to be of its source's class, its interval, and the worst class's share.

    ``class_coherence_min`` is that of the worst class, which shows a class that never comes out right. The interval
    (``coherence_low``, ``coherence_high``) is Wilson's, of 95 %.

    Args:
        predicted: the class that a fixed classifier gives each translation.
        labels: the true class of each source.

    Raises:
        InvalidValue: no items, or other numbers of both.
    """
    p, y = np.asarray(predicted), np.asarray(labels)
    if not len(y) or len(p) != len(y):
        raise InvalidValue(f"there are {len(p)} predictions and {len(y)} labels; give one of each, at least one")
    right = p == y
    classes, number = np.unique(y, return_inverse=True)
    per_class = np.bincount(number, weights=right) / np.bincount(number)
    return {
        **_share("coherence", right),
        "class_coherence_min": float(per_class.min()),
        "count": float(len(y)),
        "classes": float(len(classes)),
    }


def joint_coherence(predicted: Mapping[str, Int[Array, " N"]]) -> dict[str, float]:
    """Returns ``joint_coherence``, the share of samples whose modalities all agree, with its interval.

    A model that always makes the same class agrees with itself: ``classes`` says how many different ones came out where
    all agree, and ``class_share_max`` the share of the most frequent of them.

    Args:
        predicted: field -> the class that a fixed classifier gives it in each of N joint samples.

    Raises:
        InvalidValue: fewer than 2 fields, no samples, or other numbers of them.
    """
    columns = {name: np.asarray(values) for name, values in predicted.items()}
    sizes = {len(column) for column in columns.values()}
    if len(columns) < 2 or len(sizes) != 1 or sizes == {0}:
        counts = ", ".join(f"{name}: {len(column)}" for name, column in columns.items()) or "none"
        raise InvalidValue(f"joint samples need 2 or more fields of equally many predictions; given were {counts}")
    table = np.stack(list(columns.values()))
    agree = (table == table[0]).all(axis=0)
    _, frequency = np.unique(table[0, agree], return_counts=True)
    return {
        **_share("joint_coherence", agree),
        "classes": float(len(frequency)),
        "class_share_max": float(frequency.max(initial=0) / max(1, agree.sum())),
        "count": float(len(agree)),
        "fields": float(len(columns)),
    }


def _share(name: str, right: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(right.sum()), len(right))
    return {name: float(right.mean()), f"{name}_low": low, f"{name}_high": high}


def clip_score(
    made: Float[Array, "N D"], wanted: Float[Array, "N D"], network: str, scale: float = 100.0
) -> FeatureFigures:
    """Returns ``clip_score``: the mean of ``scale`` times the cosine of each pair, negative cosines taken for 0.

    Args:
        made: embeddings of what was made, such as pictures.
        wanted: of what each was made from, such as sentences, in the same space.
        network: the model that embedded both, with its weights.
        scale: 100 as most libraries do; the paper has 2.5.

    Raises:
        InvalidValue: other numbers or widths, an embedding of length 0, or values that are not finite.
    """
    a, b = feature_rows(made, "made"), feature_rows(wanted, "wanted")
    if a.shape != b.shape:
        raise InvalidValue(f"embeddings of the shapes {a.shape} and {b.shape}; give one pair per row, in one space")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not norms.all():
        raise InvalidValue(f"{int((norms == 0).sum())} pairs hold an embedding of length 0, which has no direction")
    cosines = (a * b).sum(axis=1) / norms
    value = float(scale * np.maximum(cosines, 0.0).mean())
    return FeatureFigures({"clip_score": value}, network, a.shape[1], len(a), len(b))
