"""Rows of several lengths through a transformer's blocks on a CPU, with little padding: the same as in one, sooner.

Products run over the tokens of all rows together, attention over groups of rows of similar length. Sizes repeat from
batch to batch on purpose: for every new size of a product in bf16, oneDNN writes a program, which takes longer than to
run it; it keeps those of about the last thousand sizes. So groups are of eighths of the rows and padded to a multiple
of 4 tokens, and all tokens together to a multiple of 256.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from intermodal.layers.attention import Attention, attend, visible
from intermodal.layers.short import LONGEST, attend_rows, narrow
from intermodal.types import Encoded

PARTS, LENGTHS, TOKENS = 8, 4, 256
"""Groups per batch at most, and what the tokens of a row and those of all groups are padded to a multiple of."""
SAVED_MIN = 150
"""So much padding at least must be saved to take rows in groups, in tokens."""

Groups = Sequence[tuple[Int64[Tensor, " _"], int]]
"""Rows, and to how many tokens each of them is padded."""


def by_length(mask: Bool[Tensor, "B T"]) -> Groups:
    """Returns groups of rows of similar length, the shortest first.

    Every row is in one group: each eighth of the rows, or several of them that are padded to the same. One group of all
    rows is returned where little is to be gained, or where padding stands elsewhere than behind all real tokens.
    """
    rows, width = mask.shape
    if rows < 2 or not _padded_behind(mask):
        return [(torch.arange(rows), width)]
    lengths, order = mask.sum(dim=1).sort(stable=True)
    groups: list[tuple[Tensor, int]] = []
    size = -(-rows // PARTS)
    for part, own in zip(torch.split(order, size), torch.split(lengths, size), strict=True):
        length = min(width, max(1, -(-int(own[-1]) // LENGTHS)) * LENGTHS)
        if groups and groups[-1][1] == length:
            part = torch.cat((groups.pop()[0], part))
        groups.append((part, length))
    saved = rows * width - sum(len(part) * length for part, length in groups)
    return groups if saved >= SAVED_MIN else [(order, width)]


def needless(mask: Bool[Tensor, "B T"], causal: bool) -> bool:
    """Returns whether attention needs no mask: all tokens are real, or those that are not stand behind all that ask."""
    return bool(mask.all()) or (causal and _padded_behind(mask))


def _padded_behind(mask: Bool[Tensor, "B T"]) -> bool:
    """Returns whether in every row all padding stands behind all real tokens."""
    return bool((mask[:, 1:] <= mask[:, :-1]).all())


def in_groups(
    blocks: Iterable[nn.Module],
    norm: nn.Module,
    pool: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"],
    groups: Groups,
    causal: bool,
) -> Encoded:
    """Returns the tokens after all blocks and the normalisation, zero where none is computed, and what is pooled.

    Args:
        blocks: that attend to themselves alone.
        norm: after the last of them.
        pool: tokens and mask to one vector per row.
        x: tokens.
        mask: True where a token is real.
        groups: see ``by_length``.
        causal: each token sees only itself and those before it.
    """
    (count, width), shapes = mask.shape, [(len(rows), length) for rows, length in groups]
    chosen = torch.cat([(rows[:, None] * width + torch.arange(length)).flatten() for rows, length in groups])
    packed = x.flatten(0, 1).index_select(0, nn.functional.pad(chosen, (0, -len(chosen) % TOKENS)))
    real = [mask[rows, :length] for rows, length in groups]
    seen = [None if needless(one, causal) else visible(one, causal) for one in real]
    for block in blocks:
        attention: Any = block.attend_self
        attend_all = partial(attend_groups, attention, shapes=shapes, allowed=seen, causal=causal)
        packed = block.through(packed, attend_all)  # type: ignore[operator]
    packed = norm(packed[: len(chosen)])
    split = torch.split(packed, [rows * length for rows, length in shapes])
    pooled = torch.cat([pool(y.view(*shape, -1), own) for y, shape, own in zip(split, shapes, real, strict=True)])
    back = torch.cat([rows for rows, _ in groups]).argsort()
    tokens = packed.new_zeros(count * width, x.shape[-1]).index_copy_(0, chosen, packed)
    return Encoded(tokens.view(x.shape), mask, pooled.index_select(0, back))


def attend_groups(
    attention: Attention,
    x: Float[Tensor, "N D"],
    shapes: Sequence[tuple[int, int]],
    allowed: Sequence[Bool[Tensor, "_ 1 _ _"] | None],
    causal: bool,
) -> Float[Tensor, "N D"]:
    """Returns what the tokens of rows gather, each row of its own tokens.

    Args:
        attention: of a sequence to itself.
        x: the tokens: the rows of the first group one behind the other, then the next. Tokens behind those of all
            groups gather nothing.
        shapes: rows and tokens per row of each group.
        allowed: for each group what its tokens see, see ``attention.visible``; ``None`` where that is all.
        causal: a token of a group without ``allowed`` sees only itself and those before it.
    """
    qkv = attention.qkv(x).view(len(x), 3, attention.heads, -1)
    if narrow(qkv) and max(length for _, length in shapes) <= LONGEST:
        gathered = attend_rows(qkv, shapes, allowed, causal).flatten(1)
    else:
        found, first = [], 0
        for shape, own in zip(shapes, allowed, strict=True):
            part = qkv[first : first + shape[0] * shape[1]]
            q, k, v = part.view(*shape, *part.shape[1:]).permute(2, 0, 3, 1, 4)
            found.append(attend(q, k, v, own, causal and own is None).transpose(1, 2).reshape(len(part), -1))
            first += len(part)
        gathered = torch.cat([*found, qkv.new_zeros(len(x) - first, x.shape[-1])])
    mixed: Tensor = attention.out(gathered)
    return mixed
