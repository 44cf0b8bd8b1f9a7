"""Two losses of all pairs as functions with gradients of their own, which never hold all pairs of a large batch.

The matrix of the logits is gone through in tiles that stay in the processor's cache. InfoNCE takes two passes: the
first adds up one exponential per pair for rows and columns at once; the second, for the gradient, computes each tile
again and adds its two products to the gradients: 8 A B D operations and no graph, where the plain form takes 6 to 12
and holds several matrices of A x B. What a small batch needs is held instead of computed again. The sigmoid loss takes
one pass for loss and gradients together, since its pairs know nothing of each other.

In bf16 the products are taken around the mean vectors, whose part is added in fp32; the logits and gradients of the
pairs (i, i), by far the largest, are computed in fp32, and so are all sums.

Source: tiles in place of the matrix as in FlashAttention, Dao et al. 2022, arXiv 2205.14135, and for this loss Inf-CL,
Cheng et al. 2024, arXiv 2410.17243; here rows and columns are summed in the same pass. Left out: sharing tiles among
processes.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from intermodal import runtime

HELD = 2**24
"""Similarities held at most: 64 MiB in fp32, all of a batch of 4,096."""
TILE = (1024, 4096)
"""Rows and columns computed at once: 16 MiB in fp32."""
CHUNK = 1024
"""Rows of a matrix of positives that are made into numbers at once."""
SAMPLE = 128
"""Rows of each side on which bf16 is tried."""
TOLERANCE = 8e-5
"""Relative error of their gradient up to which it is taken."""
REACH = 60.0
"""Logits within twice this of each other can be exponentiated around one number and added up in fp32 without loss."""


class Truth(NamedTuple):
    """The loss is ``rows @ row log-sums + columns @ column log-sums - sum of weight(i, j) * logit(i, j)``.

    The weight is ``own`` on the diagonal and 0 elsewhere; or, where several belong together, it is
    ``together(i, j) * each(i) * (by_row(i) + by_column(j))``, with ``together`` a matrix, or the groups of the rows.
    """

    rows: Tensor
    columns: Tensor
    own: Tensor | None = None
    together: Tensor | None = None
    several: tuple[Tensor, Tensor, Tensor] | None = None

    def tile(self, i: slice, j: slice) -> Tensor:
        """Returns the weights in a tile, where several belong together."""
        assert self.several is not None  # asked for nowhere else
        each, by_row, by_column = self.several
        return (by_row[i, None] + by_column[j]) * each[i, None] * pairs(self.together, i, j)


def truth_of(a: Tensor, positives: Tensor | None, weights: Tensor | None, groups: Tensor | None) -> Truth:
    """Returns the weights of all log-sums and pairs, of the arguments of ``info_nce``."""
    each = torch.ones(len(a), dtype=a.dtype, device=a.device) if weights is None else weights.to(a)
    if positives is not None:
        per_row, per_column = positives.sum(dim=1), positives.sum(dim=0)
        parts = zip(torch.split(each, CHUNK), torch.split(positives, CHUNK), strict=True)
        columns = torch.stack([weight @ some.to(a.dtype) for weight, some in parts]).sum(dim=0)
        return _several(positives, each, per_row, per_column, columns)
    if groups is not None:
        group, count = torch.unique(groups, return_inverse=True, return_counts=True)[1:]
        if int(count.max()) > 1:
            columns = each.new_zeros(len(count)).index_add_(0, group, each)[group]
            return _several(group.int(), each, count[group], count[group], columns)
    share = each / _total(each)
    return Truth(share / 2, share / 2, share)


def _several(together: Tensor, each: Tensor, per_row: Tensor, per_column: Tensor, columns: Tensor) -> Truth:
    """Returns the weights where several belong together: how many in each row and column, their weights added up."""
    rows, columns = each * (per_row > 0), columns / per_column.clamp_min(1)
    half_rows, half_columns = 0.5 / _total(rows), 0.5 / _total(columns)
    several = (each, half_rows / per_row.clamp_min(1), half_columns / per_column.clamp_min(1))
    return Truth(rows * half_rows, columns * half_columns, together=together, several=several)


def _total(weights: Tensor) -> Tensor:
    """Returns the sum, and 1 in place of 0, where there is nothing to divide."""
    total = weights.sum()
    return torch.where(total > 0, total, torch.ones_like(total))


def pairs(together: Tensor | None, i: slice, j: slice) -> Tensor:
    """Returns which pairs in a tile belong together, by a matrix or by groups."""
    assert together is not None  # asked for nowhere else
    return together[i, j] if together.dim() == 2 else together[i, None] == together[j]


def holds(a: Tensor, b: Tensor, block: int | None) -> bool:
    """Returns whether all similarities are held at once."""
    return block is None and len(a) * len(b) <= HELD


class Logits:
    """``scale * a @ b.T - shift``, tile by tile: each overwrites the one before, unless all are held."""

    def __init__(self, a: Tensor, b: Tensor, scale: float, block: int | None, low: bool, shift: float = 0.0) -> None:
        """Chooses the tiles; ``low`` multiplies in bf16."""
        self.a, self.b, self.scale, self.shift, self.low = a, b, scale, shift, low
        self.held: Tensor | None = None
        height, width = (block, len(b)) if block else TILE
        if holds(a, b, block) and not low:
            height, width = max(1, TILE[0] * TILE[1] // len(b)), len(b)
        self.height, self.width = min(height, len(a)), min(width, len(b))
        self.places: list[Tensor | None] = [None, None]
        large = not low and not holds(a, b, block)
        self.by_onednn = large and a.dtype == torch.float32 and a.device.type == "cpu" and runtime.onednn_is_faster()
        if low:
            self.mean_a, self.mean_b = a.mean(dim=0), b.mean(dim=0)
            self.of_row = scale * (a @ self.mean_b)
            self.of_column = scale * (b @ self.mean_a - self.mean_a @ self.mean_b) - shift
            self.low_b = torch.cat([(part - self.mean_b).bfloat16() for part in torch.split(b, self.width)])
            both = (torch.split(x[: min(len(a), len(b))], self.height) for x in (a, b))
            self.own = scale * torch.cat([(x * y).sum(dim=1) for x, y in zip(*both, strict=True)]) - shift

    def blocks(self) -> Iterator[tuple[slice, Tensor, list[slice]]]:
        """Yields each block of rows, what stands on the left of its products, and the blocks of columns."""
        columns = [slice(j, min(j + self.width, len(self.b))) for j in range(0, len(self.b), self.width)]
        for start in range(0, len(self.a), self.height):
            i = slice(start, min(start + self.height, len(self.a)))
            yield i, (self.a[i] - self.mean_a).bfloat16() if self.low else self.a[i] * self.scale, columns

    def place(self, which: int, rows: int, columns: int) -> Tensor:
        """Returns one of two places for a tile."""
        found = self.places[which]
        if found is None:
            found = self.places[which] = self.a.new_empty(self.height * self.width)
        return found[: rows * columns].view(rows, columns)

    def tile(self, left: Tensor, i: slice, j: slice) -> Tensor:
        """Returns the logits of a block of rows, whose ``left`` is given, and a block of columns."""
        out = self.place(0, len(left), j.stop - j.start) if self.held is None else self.held[i, j]
        if self.by_onednn:
            out.copy_(runtime.onednn_product(left, self.b[j]))
        elif not self.low:
            torch.mm(left, self.b[j].T, out=out)
        if not self.low:
            return out.sub_(self.shift) if self.shift else out
        out.copy_(left @ self.low_b[j].T).mul_(self.scale).add_(self.of_row[i, None]).add_(self.of_column[j])
        own, which = diagonal(out, i, j)
        own.copy_(self.own[which])
        return out

    def add_product(self, to: Tensor, x: Tensor, y: Tensor) -> None:
        """Adds ``x @ y`` to ``to``."""
        if self.by_onednn:
            to.add_(runtime.onednn_product(x, y.T))
        else:
            to.addmm_(x, y)


def diagonal(tile: Tensor, i: slice, j: slice) -> tuple[Tensor, slice]:
    """Returns a view of those entries (k, k) of the whole matrix that lie in a tile of it, and which these are."""
    first, last = max(i.start, j.start), min(i.stop, j.stop)
    if first >= last:
        return tile[0, :0], slice(0, 0)
    return tile.diagonal(i.start - j.start), slice(first, last)


# ---- InfoNCE


class Sums(NamedTuple):
    """Log-sums of rows and columns and the weighted sum of the logits, all less the tiles' shift.

    ``plain``: exponentials were added up as they are; else around the maximum of each tile's rows and columns, which is
    slower and takes logits of any size.
    """

    rows: Tensor
    columns: Tensor
    weighted: Tensor
    plain: bool


def _sums(logits: Logits, truth: Truth, plain: bool) -> Sums:
    """Returns the sums of one pass; held tiles are exponentials afterwards where ``plain``, else logits."""
    start = 0.0 if plain else -math.inf
    rows, columns = (x.new_full((len(x),), start) for x in (logits.a, logits.b))
    weighted = logits.a.new_zeros(())
    for i, left, blocks in logits.blocks():
        for j in blocks:
            tile = logits.tile(left, i, j)
            if truth.own is None:
                weighted += (truth.tile(i, j) * tile).sum()
            else:
                own, which = diagonal(tile, i, j)
                weighted += own @ truth.own[which]
            if plain:
                tile.exp_()
                rows[i] += tile.sum(dim=1)
                columns[j] += tile.sum(dim=0)
            else:
                rows[i] = torch.logaddexp(rows[i], tile.logsumexp(dim=1))
                columns[j] = torch.logaddexp(columns[j], tile.logsumexp(dim=0))
    if plain:
        plain = bool(torch.minimum(rows.min(), columns.min()) >= math.exp(-REACH))
        rows, columns = rows.log_(), columns.log_()
    return Sums(rows, columns, weighted, plain)


def forward(a: Tensor, b: Tensor, scale: float, truth: Truth, block: int | None, low: bool) -> tuple[Logits, Sums]:
    """Returns the tiles and their sums, by the quick way where no logit can be out of its reach."""
    most = scale * float(a.norm(dim=1).max()) * float(b.norm(dim=1).max())
    plain = most <= 2 * REACH
    logits = Logits(a, b, scale, block, low, max(0.0, most - REACH) if plain else 0.0)
    if holds(a, b, block) and not low:
        logits.held = a.new_empty(len(a), len(b))
    sums = _sums(logits, truth, plain)
    if plain and not sums.plain:  # a row or column has nothing near the largest possible: it may have lost something
        sums = _sums(logits, truth, False)
    return logits, sums


def backward(logits: Logits, sums: Sums, truth: Truth, needed: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Returns the gradients of a and b, both without the factor ``scale``; zeros where one is not needed."""
    a, b, low = logits.a, logits.b, logits.low
    to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
    of_rows, of_columns, of_own = (a.new_zeros(n) for n in (len(a), len(b), min(len(a), len(b))))
    for i, left, blocks in logits.blocks():
        for j in blocks:
            tile = _shares(logits, sums, truth, left, i, j)
            if not low:
                if needed[0]:
                    logits.add_product(to_a[i], tile, b[j])
                if needed[1]:
                    logits.add_product(to_b[j], tile.T, a[i])
                continue
            own, which = diagonal(tile, i, j)
            of_own[which] = own
            own.zero_()
            of_rows[i] += tile.sum(dim=1)
            of_columns[j] += tile.sum(dim=0)
            rough = tile.bfloat16()
            if needed[0]:
                to_a[i].add_(rough @ logits.low_b[j])
            if needed[1]:
                to_b[j].add_(rough.T @ left)
    if low:
        to_a.addr_(of_rows, logits.mean_b)[: len(of_own)].addcmul_(of_own[:, None], b[: len(of_own)])
        to_b.addr_(of_columns, logits.mean_a)[: len(of_own)].addcmul_(of_own[:, None], a[: len(of_own)])
    return to_a, to_b


def _shares(logits: Logits, sums: Sums, truth: Truth, left: Tensor, i: slice, j: slice) -> Tensor:
    """Returns a tile of the gradient of the logits."""
    if logits.held is not None:
        tile = logits.held[i, j]
    else:
        tile = logits.tile(left, i, j)
        if sums.plain:
            tile.exp_()
    out = logits.place(1, len(tile), tile.shape[1])
    if sums.plain:
        by_row, by_column = truth.rows[i] * (-sums.rows[i]).exp(), truth.columns[j] * (-sums.columns[j]).exp()
        torch.add(by_row[:, None], by_column, out=out).mul_(tile)
    else:
        torch.sub(tile, sums.rows[i, None], out=out).exp_().mul_(truth.rows[i, None])
        out.addcmul_((tile - sums.columns[j]).exp_(), truth.columns[None, j])
    if truth.own is None:
        return out.sub_(truth.tile(i, j))
    own, which = diagonal(out, i, j)
    own.sub_(truth.own[which])
    return out


def takes_bf16(a: Tensor, b: Tensor, scale: Tensor) -> bool:
    """Returns whether products in bf16 are quick here and needed, and give a sample the gradient that fp32 gives it."""
    if holds(a, b, None) or a.dtype != torch.float32 or not runtime.has_bf16(a.device):
        return False
    for x, y in ((a, b), (b, a)):
        some = x[:SAMPLE]
        share = x.new_full((len(some),), 1 / len(some))
        truth = Truth(share, y.new_zeros(len(y)), share)
        made = (forward(some, y, scale.item(), truth, SAMPLE, low) for low in (False, True))
        exact, rough = (backward(logits, sums, truth, (True, False))[0] for logits, sums in made)
        if not float((rough - exact).norm()) <= TOLERANCE * float(exact.norm()):
            return False
    return True


class InfoNCE(torch.autograd.Function):
    """The symmetric InfoNCE loss of a, b and scale."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, truth: Truth, block: int | None, low: bool) -> Tensor:
        """Returns the loss and keeps a, b and the sums, and the exponentials of a small batch."""
        logits, sums = forward(a, b, scale.item(), truth, block, low)
        ctx.save_for_backward(a, b, scale, logits.held)
        ctx.rest = (sums, truth, block, low, logits.shift)
        loss = truth.rows @ sums.rows + truth.columns @ sums.columns - sums.weighted
        return loss.clamp_min(0.0)  # rounding alone can take it below

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of a, b and scale."""
        a, b, scale, held = ctx.saved_tensors
        sums, truth, block, low, shift = ctx.rest
        for_a, for_b, for_scale = ctx.needs_input_grad[:3]
        logits = Logits(a, b, scale.item(), block, low, shift)
        logits.held = held
        to_a, to_b = backward(logits, sums, truth, (for_a or not for_b, for_b))
        to_scale = gradient * (_dot(b, to_b) if for_b else _dot(a, to_a)) if for_scale else None
        factor = gradient * scale
        return to_a.mul_(factor), to_b.mul_(factor), to_scale, None, None, None


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Returns the sum of the products of all numbers, a few rows at a time."""
    return torch.stack(
        [(u * v).sum() for u, v in zip(torch.split(x, TILE[0]), torch.split(y, TILE[0]), strict=True)]
    ).sum()


# ---- The sigmoid loss


class Sigmoid(torch.autograd.Function):
    """The pairwise sigmoid loss of a, b, scale and bias; its gradients are made with it."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, together: Tensor | None) -> Tensor:
        """Returns the loss and keeps the gradients; ``together`` as in ``Truth``, None for the pairs (i, i)."""
        logits = Logits(a, b, scale.item(), None, False, -bias.item())
        needed = any(ctx.needs_input_grad)
        to_a, to_b = (torch.zeros_like(x) if needed else x.new_empty(0) for x in (a, b))
        loss, to_bias = a.new_zeros(()), a.new_zeros(())
        for i, left, blocks in logits.blocks():
            for j in blocks:
                tile = _flip(logits.tile(left, i, j), i, j, together)
                loss -= F.logsigmoid(-tile).sum()
                if needed:
                    _flip(tile.sigmoid_(), i, j, together)
                    to_bias += tile.sum()
                    logits.add_product(to_a[i], tile, b[j])
                    logits.add_product(to_b[j], tile.T, a[i])
        if needed:
            ctx.save_for_backward(to_a, to_b, _dot(a, to_a), to_bias, scale / len(a))
        return loss / len(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of a, b, scale and bias."""
        to_a, to_b, to_scale, to_bias, factor = ctx.saved_tensors
        rows = len(to_a)
        factor = gradient * factor
        return to_a * factor, to_b * factor, to_scale * gradient / rows, to_bias * gradient / rows, None


def _flip(tile: Tensor, i: slice, j: slice, together: Tensor | None) -> Tensor:
    """Returns a tile after changing the sign of the pairs that belong together."""
    if together is None:
        diagonal(tile, i, j)[0].neg_()
        return tile
    return tile.mul_(1.0 - 2.0 * pairs(together, i, j))
