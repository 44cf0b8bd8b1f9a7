"""Rows for tests of the store and of what reads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from intermodal.library.store import Row


def row(number: int, width: int = 8, modality: str = "text", **more: Any) -> Row:
    vector = np.random.default_rng(number).standard_normal(width)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return Row(f"{number * 7919 % 2**32:08x}{number:024x}", modality, vector, f"file {number}", **more)


def rows(numbers: Sequence[int], width: int = 8, modality: str = "text", **more: Any) -> list[Row]:
    return [row(number, width, modality, **more) for number in numbers]
