"""Classification: how often, how evenly and how honestly the right class is named.

``linear_probe`` says how much of it a linear reader finds in given features. Classes are ``0 .. L - 1``. Equal scores
are counted as if their order were drawn at random, as in retrieval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array

L2_GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def classification(
    probabilities: Float[Array, "N L"], labels: Int[Array, " N"], ks: tuple[int, ...] = (1, 5)
) -> dict[str, float]:
    """Returns ``accuracy``, ``accuracy_at_k``, ``balanced_accuracy``, ``macro_f1``, the calibration error and counts.

    Args:
        probabilities: of each class, each row adding up to 1.
        labels: the true classes.
        ks: the cut-offs; 1 is called ``accuracy``, and those of L or more are left out.

    Raises:
        InvalidValue: see ``accuracy`` and ``expected_calibration_error``.
    """
    table = confusion_matrix(np.asarray(probabilities).argmax(axis=1), labels, np.shape(probabilities)[1])
    tops = {"accuracy" if k == 1 else f"accuracy_at_{k}": accuracy(probabilities, labels, k) for k in ks}
    return {
        **{name: top for (name, top), k in zip(tops.items(), ks, strict=True) if k == 1 or k < len(table)},
        "balanced_accuracy": balanced_accuracy(table),
        "macro_f1": macro_f1(table),
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
        "count": float(table.sum()),
        "classes": float(len(table)),
    }


def accuracy(scores: Float[Array, "N L"], labels: Int[Array, " N"], k: int = 1) -> float:
    """Returns the share of rows whose true class is among the k of highest score, 0 to 1.

    Raises:
        InvalidValue: there are no rows, a score is not a number, a label is no class, or ``k`` is below 1.
    """
    s, y = _checked(scores, labels)
    if k < 1:
        raise InvalidValue(f"k is {k}; give at least 1")
    own = s[np.arange(len(y)), y][:, None]
    above, tied = (s > own).sum(axis=1), (s == own).sum(axis=1)
    return float(np.clip((k - above) / tied, 0.0, 1.0).mean())


def confusion_matrix(predicted: Int[Array, " N"], labels: Int[Array, " N"], classes: int) -> Int[np.ndarray, "L L"]:
    """Returns how often each true class (row) was called each class (column).

    Raises:
        InvalidValue: a label or prediction is outside ``range(classes)``.
    """
    p, y = np.asarray(predicted), np.asarray(labels)
    if len(p) != len(y):
        raise InvalidValue(f"there are {len(p)} predictions and {len(y)} labels; give one label per prediction")
    for values in (p, y):
        if len(values) and not 0 <= values.min() <= values.max() < classes:
            raise InvalidValue(f"classes go from {values.min()} to {values.max()}; they must be 0 to {classes - 1}")
    return np.bincount(y.astype(np.int64) * classes + p, minlength=classes * classes).reshape(classes, classes)


def balanced_accuracy(confusion: Int[np.ndarray, "L L"]) -> float:
    """Returns the mean over the true classes of the share found of each; classes that never occur are left out."""
    occurring = confusion.sum(axis=1)
    found = confusion.diagonal()[occurring > 0] / occurring[occurring > 0]
    return float(found.mean()) if len(found) else 0.0


def macro_f1(confusion: Int[np.ndarray, "L L"]) -> float:
    """Returns the mean over classes of F1; classes that neither occur nor are predicted are left out.

    F1 is the harmonic mean of how many of a class are found and how many called so are of it; 0 where none is right.
    """
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    scores = 2.0 * confusion.diagonal()[both > 0] / both[both > 0]
    return float(scores.mean()) if len(scores) else 0.0


def expected_calibration_error(probabilities: Float[Array, "N L"], labels: Int[Array, " N"], bins: int = 15) -> float:
    """Returns by how much the confidence differs from the accuracy, 0 to 1: the mean over rows, in bins of confidence.

    Args:
        probabilities: of each class, each row adding up to 1.
        labels: the true classes.
        bins: equally wide; the lower edge of each belongs to it, and 1 to the last.

    Raises:
        InvalidValue: rows that do not add up to 1, ``bins`` below 1, or see ``accuracy``.

    Source: Guo et al. 2017, arXiv 1706.04599, eq. 3.
    """
    p, y = _checked(probabilities, labels)
    if bins < 1 or p.min() < 0.0 or np.abs(p.sum(axis=1) - 1.0).max() > 1e-3:
        raise InvalidValue(
            f"calibration needs rows of probabilities that add up to 1 and at least 1 bin; bins is {bins}"
        )
    confidence = p.max(axis=1).astype(np.float64)
    right = p.argmax(axis=1) == y
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(which, weights=right - confidence, minlength=bins)).sum() / len(y))


@dataclass(frozen=True)
class Linear:
    """A multinomial logistic regression on standardised features.

    Attributes:
        weight: per class and feature.
        bias: per class.
        mean: of each feature in training.
        std: of each feature in training; 1 where it never varied.
    """

    weight: Float[Tensor, "L D"]
    bias: Float[Tensor, " L"]
    mean: Float[Tensor, " D"]
    std: Float[Tensor, " D"]

    def __call__(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N L"]:
        """Returns the probability of each class."""
        return functional.linear((x - self.mean) / self.std, self.weight, self.bias).softmax(dim=1)


def fit_linear(
    x: Float[Tensor, "N D"], y: Int[Tensor, " N"], classes: int, l2: float, start: Linear | None = None
) -> Linear:
    """Returns the weights that minimise the mean cross-entropy plus ``l2 / 2`` times the sum of the squared weights.

    The problem is convex, so that ``start`` and the machine change nothing but the time. Computed in fp64 by L-BFGS.

    Args:
        x: features.
        y: classes.
        classes: L.
        l2: above 0; the bias is not held back.
        start: where to begin, such as the solution of a neighbouring ``l2``.

    Raises:
        InvalidValue: ``l2`` is not above 0 or there are no rows.
    """
    if not l2 > 0.0 or not len(x):
        raise InvalidValue(f"l2 is {l2} and there are {len(x)} rows; give an l2 above 0 and at least one row")
    x = x.double()
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 1e-12 * x.abs().amax(dim=0).clamp_min(1.0), std, torch.ones_like(std))
    z, targets = (x - mean) / std, y.long()
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, device=x.device)
    bias = torch.zeros(classes, dtype=torch.float64, device=x.device)
    if start is not None:
        weight.copy_(start.weight)
        bias.copy_(start.bias)
    parts = (weight.requires_grad_(), bias.requires_grad_())
    optimizer = torch.optim.LBFGS(
        parts,
        max_iter=1000,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(z, weight, bias), targets) + l2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    return Linear(weight.detach(), bias.detach(), mean, std)


def linear_probe(
    train_x: Float[Array, "N D"],
    train_y: Int[Array, " N"],
    test_x: Float[Array, "M D"],
    test_y: Int[Array, " M"],
    l2_grid: Sequence[float] = L2_GRID,
    dev_share: float = 0.2,
    seed: int = 0,
) -> dict[str, float]:
    """Returns the figures of ``classification`` on the test part, with the ``l2`` chosen and ``dev_accuracy``.

    For each ``l2`` a logistic regression is fitted to the training part without its dev part, drawn by ``seed``; the
    strongest of those that name most of the dev part right is fitted again to all of the training part. The test part
    decides nothing.

    Raises:
        InvalidValue: too few rows for a dev part, labels below 0, features that are not finite, or an empty grid.
    """
    x, y, held_x, held_y = (torch.as_tensor(np.asarray(part)) for part in (train_x, train_y, test_x, test_y))
    dev = round(len(x) * dev_share)
    if not 0 < dev < len(x) or not l2_grid or not len(held_x):
        raise InvalidValue(
            f"{len(x)} training rows with a dev share of {dev_share}, {len(held_x)} test rows and {len(l2_grid)} "
            "values of l2 were given; give at least one row to each part, and one l2"
        )
    if int(min(y.min(), held_y.min())) < 0 or not (x.isfinite().all() and held_x.isfinite().all()):
        raise InvalidValue(
            "labels below 0 or features that are not finite cannot be fitted; give classes from 0 and numbers"
        )
    classes = int(max(y.max(), held_y.max())) + 1
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    inner, outer = order[dev:], order[:dev]
    model: Linear | None = None
    tried = []
    for l2 in sorted(l2_grid, reverse=True):
        model = fit_linear(x[inner], y[inner], classes, l2, model)
        tried.append((accuracy(model(x[outer].double()), y[outer]), l2))
    dev_accuracy, l2 = max(tried)  # of equal ones the strongest
    final = fit_linear(x, y, classes, l2)
    return {**classification(final(held_x.double()), held_y), "l2": l2, "dev_accuracy": dev_accuracy}


def _checked(scores: Array, labels: Array) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Returns both as arrays, labels as indices."""
    s, y = np.asarray(scores), np.asarray(labels).astype(np.int64)
    if len(s) != len(y):
        raise InvalidValue(f"there are {len(s)} rows of scores and {len(y)} labels; give one label per row")
    if not len(y) or np.isnan(s).any():
        raise InvalidValue(
            f"{len(y)} rows were given, {int(np.isnan(s).sum())} scores are not numbers; give at least one row"
        )
    if not 0 <= y.min() <= y.max() < s.shape[1]:
        raise InvalidValue(
            f"labels go from {y.min()} to {y.max()}; they must be 0 to {s.shape[1] - 1}, as the scores are"
        )
    return s, y
