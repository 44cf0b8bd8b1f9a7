"""Vectors to be searched, of two kinds, with the nearest of some queries."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

TOP, WIDTH = 10, 512
BLOCK = 50_000


@dataclass(frozen=True)
class Data:
    """Vectors in a mapped file, and queries with their nearest rows."""

    rows: np.ndarray
    queries: np.ndarray
    nearest: np.ndarray


def maker(kind: str) -> Callable[[int, int], np.ndarray]:
    """Returns what makes unit vectors: count, seed -> rows."""
    shape = np.random.default_rng(0)
    centres = shape.standard_normal((400, WIDTH), dtype=np.float32)
    scales = shape.exponential(1.0, WIDTH).astype(np.float32)
    cone = 2 * shape.standard_normal(WIDTH, dtype=np.float32)

    def make(count: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((count, WIDTH), dtype=np.float32)
        if kind == "clustered":
            rows = 0.5 * rows * scales + centres[rng.integers(0, len(centres), count)] * scales + cone
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    return make


def data(kind: str, count: int, queries: int, folder: Path) -> Data:
    """Returns a data set of ``count`` rows in a file of its own."""
    make = maker(kind)
    rows = np.memmap(folder / "rows.f32", np.float32, "w+", shape=(count, WIDTH))
    for start in range(0, count, BLOCK):
        rows[start : start + BLOCK] = make(min(BLOCK, count - start), start + 1)
    asked = make(queries, 2**31)
    return Data(rows, asked, truth(rows, asked, None))


def truth(rows: np.ndarray, queries: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Returns the numbers of the nearest rows: the best 50 by float32 products, ordered in float64."""
    best: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(rows), BLOCK):
        cosines = torch.from_numpy(queries) @ torch.from_numpy(rows[start : start + BLOCK]).T
        if allowed is not None:
            cosines[:, torch.from_numpy(~allowed[start : start + BLOCK])] = -2
        value, place = cosines.topk(min(50, cosines.shape[1]))
        best.append((value.numpy(), place.numpy() + start))
    values, places = (np.concatenate(part, axis=1) for part in zip(*best, strict=True))
    found = []
    for query, value, place in zip(queries, values, places, strict=True):
        first = place[np.argsort(-value)[:50]]
        exact = rows[first].astype(np.float64) @ query.astype(np.float64)
        found.append(first[np.argsort(-exact)[:TOP]])
    return np.stack(found)
