"""Contrastive losses over pairs of unit vectors: InfoNCE and the pairwise sigmoid loss.

Both compare every row of ``a`` with every row of ``b``; a Boolean matrix says which pairs belong together, several per
row allowed, so that equal captions need not count as negatives. All is computed in fp32 at least, also under autocast.

Notable: InfoNCE works through ``a`` in blocks of rows and, where there is more than one, computes each block again for
the gradient, so that memory grows with the block and not with the square of the batch. Value and gradient are the same.
Left out: gathering over processes and gradient caching, which belong to the training loop.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from intermodal.errors import InvalidValue

BLOCK_ENTRIES = 2**24
"""Similarities held at once by default: 64 MiB in fp32, all of a batch of 4,096."""


def info_nce(
    a: Float[Tensor, "A D"],
    b: Float[Tensor, "B D"],
    scale: Float[Tensor, ""] | float,
    positives: Bool[Tensor, "A B"] | None = None,
    weights: Float[Tensor, " A"] | None = None,
    block: int | None = None,
) -> Float[Tensor, ""]:
    """Returns the symmetric InfoNCE loss in nats: how badly each row finds its partner among all, in both directions.

    For a row with several positives the log-likelihood is averaged over them (outside the logarithm). A row or column
    without any is ignored as a query but stays a negative for the others. With nothing positive at all the loss is 0.
    One pair alone has loss 0 and gradient 0: negatives are what teaches.

    Args:
        a: unit rows.
        b: unit rows.
        scale: inverse temperature, above 0; the logits are ``scale * a @ b.T``.
        positives: which pairs belong together; default: row i of ``a`` with row i of ``b`` only.
        weights: how much the pairs of each row of ``a`` count, 0 or more; default 1. Only ratios matter. A row of
            weight 0 is still a negative.
        block: rows of ``a`` compared at once; default: so many that at most ``BLOCK_ENTRIES`` similarities are held.

    Raises:
        InvalidValue: ``a`` and ``b`` differ in length and no ``positives`` are given, these or the ``weights`` are not
            of the right shape, or ``block`` is below 1.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4; symmetric as in CLIP, arXiv 2103.00020, fig. 3; several
    positives as in supervised contrastive learning, arXiv 2004.11362, eq. 2.
    """
    if block is not None and block < 1:
        raise InvalidValue(f"block is {block}; give at least 1 row")
    check_pairs(a, b, positives)
    if weights is not None and tuple(weights.shape) != (len(a),):
        raise InvalidValue(f"weights is {tuple(weights.shape)}; give one weight per row of a, ({len(a)},)")
    with torch.autocast(a.device.type, enabled=False):
        a, b = _wide(a), _wide(b)
        to_b, to_a = _pair_weights(a, b, positives, weights)
        rows = block or max(1, BLOCK_ENTRIES // max(1, len(b)))
        starts = range(0, len(a), rows)
        gains, column_sums, column_gains = [], [], []
        for start in starts:
            own = slice(start, start + rows)
            arguments = (a[own], b, scale, to_b[own], to_a[own], start)
            parts = _block(*arguments) if len(starts) == 1 else checkpoint(_block, *arguments, use_reentrant=False)
            gains.append(parts[0])
            column_sums.append(parts[1])
            column_gains.append(parts[2])
        if not gains or not len(b):
            return (a.sum() + b.sum()) * 0.0
        log_sums = torch.stack(column_sums).logsumexp(dim=0)
        row_loss = torch.cat(gains).sum() / _total(to_b)
        column_weight = to_a if to_a.dim() == 1 else to_a.sum(dim=0)
        column_loss = (column_weight * log_sums - torch.stack(column_gains).sum(dim=0)).sum() / _total(to_a)
        return (row_loss + column_loss) / 2


def check_pairs(a: Tensor, b: Tensor, positives: Tensor | None) -> None:
    """Raises unless ``positives`` has one truth value per pair, or is absent and both sides have equally many rows.

    Raises:
        InvalidValue: see above.
    """
    if positives is None and len(a) != len(b):
        raise InvalidValue(
            f"a has {len(a)} rows and b {len(b)}; give equally many, or positives that say which belong together"
        )
    if positives is not None and tuple(positives.shape) != (len(a), len(b)):
        raise InvalidValue(f"positives is {tuple(positives.shape)}; give one truth value per pair, {(len(a), len(b))}")


def _wide(x: Tensor) -> Tensor:
    """Returns ``x`` in fp32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _total(weights: Tensor) -> Tensor:
    """Returns the sum, and 1 in place of 0, where there is nothing to divide."""
    total = weights.sum()
    return torch.where(total > 0, total, torch.ones_like(total))


def _pair_weights(a: Tensor, b: Tensor, positives: Tensor | None, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns each pair's weight as an answer to its row and to its column: ``(A, B)``, or ``(A,)`` of the diagonal."""
    rows = torch.ones(len(a), dtype=a.dtype, device=a.device) if weights is None else weights.to(a)
    if positives is None:
        return rows, rows
    pairs = positives.to(a.dtype)
    to_b = pairs * (rows / pairs.sum(dim=1).clamp_min(1.0))[:, None]
    to_a = pairs * rows[:, None] / pairs.sum(dim=0).clamp_min(1.0)
    return to_b, to_a


def _block(
    a: Tensor, b: Tensor, scale: Tensor | float, to_b: Tensor, to_a: Tensor, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the loss of some rows, the columns' log-sums over these rows, and the columns' weighted logits."""
    logits = (a @ b.T) * scale
    if to_b.dim() == 1:
        own = logits.diagonal(offset=start)
        row_loss = to_b * (logits.logsumexp(dim=1) - own)
        column_gain = torch.zeros_like(logits[0]).index_add(
            0, torch.arange(start, start + len(a), device=a.device), to_a * own
        )
    else:
        row_loss = to_b.sum(dim=1) * logits.logsumexp(dim=1) - (to_b * logits).sum(dim=1)
        column_gain = (to_a * logits).sum(dim=0)
    return row_loss, logits.logsumexp(dim=0), column_gain


def sigmoid_loss(
    a: Float[Tensor, "A D"],
    b: Float[Tensor, "B D"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
    positives: Bool[Tensor, "A B"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the pairwise sigmoid loss in nats: each pair is one yes-or-no question, summed, over the rows of ``a``.

    Args:
        a: unit rows.
        b: unit rows.
        scale: inverse temperature, above 0; the paper starts at 10.
        bias: added to every logit; the paper starts at -10, because nearly all pairs are negative.
        positives: which pairs belong together; default: row i of ``a`` with row i of ``b`` only.

    Raises:
        InvalidValue: ``a`` and ``b`` differ in length and no ``positives`` are given.

    Source: SigLIP, Zhai et al. 2023, arXiv 2303.15343, section 3.2 and algorithm 1.
    """
    check_pairs(a, b, positives)
    with torch.autocast(a.device.type, enabled=False):
        a, b = _wide(a), _wide(b)
        logits = (a @ b.T) * scale + bias
        together = torch.eye(len(a), dtype=torch.bool, device=a.device) if positives is None else positives
        signed = torch.where(together, logits, -logits)
        return -torch.nn.functional.logsigmoid(signed).sum() / max(1, len(a))
