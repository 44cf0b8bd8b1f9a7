"""Which rows go through an encoder together, and how they lie behind each other there."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

TOKENS = 1600
"""Of one pass through the blocks."""
ALIKE, MANY = 4, 16
"""Texts of which ``MANY`` begin with the same ``ALIKE`` ids go through the blocks by themselves."""
STEP = 16
"""Tokens of a pass are filled up to a multiple of it, or of twice as many: oneDNN makes and keeps a program of its own
for each number of rows, half a millisecond and a third of a megabyte each."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a pass are equally long: ``count`` of ``length`` tokens each, from token ``start`` on.

    They see the first ``before`` tokens of the pass too.
    """

    start: int
    count: int
    length: int
    before: int = 0


def same(ids: Int[Tensor, "B T"]) -> int:
    """Returns how many ids all rows begin with; 0 for a single row, which shares them with none."""
    return int((ids == ids[:1]).all(dim=0).cumprod(dim=0).sum()) if len(ids) > 1 else 0


def alike(rows: Sequence[int], texts: Sequence[list[int]]) -> list[list[int]]:
    """Returns the rows in parts: where many texts begin alike, these; then the others. Neighbours begin alike too."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(rows, key=texts.__getitem__):
        groups.setdefault(tuple(texts[row][:ALIKE]), []).append(row)
    others = [row for group in groups.values() if len(group) < MANY for row in group]
    return [*(group for group in groups.values() if len(group) >= MANY), others]


def passes(rows: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """Returns the rows of each pass, in their order: about ``TOKENS`` tokens, at least a row."""
    made: list[list[int]] = []
    tokens = TOKENS
    for row in rows:
        if tokens + counts[row] > TOKENS:
            made.append([])
            tokens = 0
        made[-1].append(row)
        tokens += counts[row]
    return made


def grouped(counts: Sequence[int], before: int) -> list[Rows]:
    """Returns the rows of each length, of a rising list of lengths; first the tokens before all of them, if any."""
    made = [Rows(0, 1, before)] if before else []
    start = before
    for length in (count - before for count in counts):
        if made and made[-1].length == length and made[-1].before == before:
            made[-1] = Rows(made[-1].start, made[-1].count + 1, length, before)
        else:
            made.append(Rows(start, 1, length, before))
        start += length
    return made


def filled(x: Float[Tensor, "M D"]) -> Float[Tensor, "N D"]:
    """Returns the tokens with zeros behind them, so that there are few different numbers of them."""
    step = STEP if len(x) <= 16 * STEP else 2 * STEP
    return F.pad(x, (0, 0, 0, -len(x) % step))
