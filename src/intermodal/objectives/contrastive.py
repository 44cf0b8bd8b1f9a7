"""Contrastive losses over pairs of unit vectors: InfoNCE and the pairwise sigmoid loss.

Both compare every row of ``a`` with every row of ``b``. Which pairs belong together is said by a Boolean matrix,
several per row allowed, or by a group per row, so that equal captions need not count as negatives. All is computed in
fp32 at least, also under autocast, except for what ``precision`` says.

Notable: neither loss holds the matrix of all similarities when it is large; ``objectives/tiles.py`` goes through it
tile by tile. InfoNCE of a large batch may use products in bf16; whether they are exact enough is measured on some rows
each time. Where the softmax sits on few pairs, as late in training, they are not, and fp32 is used.
Left out: gathering over processes and gradient caching, which belong to the training loop.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.tiles import InfoNCE, Sigmoid, takes_bf16, truth_of

Precision = Literal["auto", "fp32", "bf16"]
SMALL = 2**16
"""Pairs up to which the sigmoid loss is quicker as it stands in the paper: all of a batch of 256."""


def info_nce(
    a: Float[Tensor, "A D"],
    b: Float[Tensor, "B D"],
    scale: Float[Tensor, ""] | float,
    positives: Bool[Tensor, "A B"] | None = None,
    weights: Float[Tensor, " A"] | None = None,
    block: int | None = None,
    groups: Int64[Tensor, " A"] | None = None,
    precision: Precision = "auto",
) -> Float[Tensor, ""]:
    """Returns the symmetric InfoNCE loss in nats, 0 or more: how badly each row finds its partner, in both directions.

    For a row with several positives the log-likelihood is averaged over them (outside the logarithm). A row or column
    without any is ignored as a query but stays a negative for the others. With nothing positive at all the loss is 0.
    One pair alone has loss 0 and gradient 0: negatives are what teaches.

    Args:
        a: unit rows.
        b: unit rows.
        scale: inverse temperature, above 0; the logits are ``scale * a @ b.T``.
        positives: which pairs belong together; default: row i of ``a`` with row i of ``b`` only.
        weights: how much the pairs of each row of ``a`` count, 0 or more; default 1. Only ratios matter. A row of
            weight 0 is still a negative. They get no gradient.
        block: rows of ``a`` compared at once; default: the choice of ``objectives/tiles.py``.
        groups: in place of ``positives``, for large batches: rows i and j belong together where these are equal.
        precision: of the matrix products: ``fp32`` (fp64 for such rows) or ``bf16``; ``auto`` takes bf16 where not all
            similarities are held, the device multiplies it, and a sample's gradient is within ``tiles.TOLERANCE``.

    Raises:
        InvalidValue: ``a`` and ``b`` differ in length and no ``positives`` are given, these, the ``groups`` or the
            ``weights`` are not of the right shape, or ``block`` is below 1.
        UnknownName: there is no such precision.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4; symmetric as in CLIP, arXiv 2103.00020, fig. 3; several
    positives as in supervised contrastive learning, arXiv 2004.11362, eq. 2; exponentials kept out of memory as in
    FlashAttention, arXiv 2205.14135, and, for this loss, Inf-CL, arXiv 2410.17243.
    """
    if block is not None and block < 1:
        raise InvalidValue(f"block is {block}; give at least 1 row")
    if precision not in get_args(Precision):
        raise UnknownName("precision", precision, get_args(Precision))
    check_pairs(a, b, positives, groups)
    if weights is not None and tuple(weights.shape) != (len(a),):
        raise InvalidValue(f"weights is {tuple(weights.shape)}; give one weight per row of a, ({len(a)},)")
    with torch.autocast(a.device.type, enabled=False):
        a, b = _wide(a), _wide(b)
        if not len(a) or not len(b):
            return (a.sum() + b.sum()) * 0.0
        factor = torch.as_tensor(scale, dtype=a.dtype, device=a.device)
        with torch.no_grad():
            truth = truth_of(a, positives, weights, groups)
            low = precision == "bf16"
            if precision == "auto" and block is None and positives is None:
                low = takes_bf16(a, b, factor)
        loss: Tensor = InfoNCE.apply(a, b, factor, truth, block, low)  # type: ignore[no-untyped-call]
        return loss


def check_pairs(a: Tensor, b: Tensor, positives: Tensor | None, groups: Tensor | None = None) -> None:
    """Raises unless ``positives`` has one truth value per pair, or is absent and both sides have equally many rows.

    Raises:
        InvalidValue: see above; or there is not one group per row, or both are given.
    """
    if positives is None and len(a) != len(b):
        raise InvalidValue(
            f"a has {len(a)} rows and b {len(b)}; give equally many, or positives that say which belong together"
        )
    if positives is not None and tuple(positives.shape) != (len(a), len(b)):
        raise InvalidValue(f"positives is {tuple(positives.shape)}; give one truth value per pair, {(len(a), len(b))}")
    if groups is not None and (positives is not None or tuple(groups.shape) != (len(a),)):
        raise InvalidValue(f"groups is {tuple(groups.shape)}; give one per row, ({len(a)},), and no positives besides")


def _wide(x: Tensor) -> Tensor:
    """Returns ``x`` in fp32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sigmoid_loss(
    a: Float[Tensor, "A D"],
    b: Float[Tensor, "B D"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
    positives: Bool[Tensor, "A B"] | None = None,
    groups: Int64[Tensor, " A"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the pairwise sigmoid loss in nats: each pair is one yes-or-no question, summed, over the rows of ``a``.

    Args:
        a: unit rows.
        b: unit rows.
        scale: inverse temperature, above 0; the paper starts at 10.
        bias: added to every logit; the paper starts at -10, because nearly all pairs are negative.
        positives: which pairs belong together; default: row i of ``a`` with row i of ``b`` only.
        groups: in place of ``positives``, for large batches: rows i and j belong together where these are equal.

    Raises:
        InvalidValue: ``a`` and ``b`` differ in length and no ``positives`` are given, or these or the ``groups`` are
            not of the right shape.

    Source: SigLIP, Zhai et al. 2023, arXiv 2303.15343, section 3.2 and algorithm 1.
    """
    check_pairs(a, b, positives, groups)
    with torch.autocast(a.device.type, enabled=False):
        a, b = _wide(a), _wide(b)
        if not len(a) or not len(b):
            return (a.sum() + b.sum()) * 0.0
        factor, shift = (torch.as_tensor(x, dtype=a.dtype, device=a.device) for x in (scale, bias))
        if len(a) * len(b) > SMALL:
            loss: Tensor = Sigmoid.apply(a, b, factor, shift, groups if positives is None else positives)  # type: ignore[no-untyped-call]
            return loss
        if positives is None:
            own = torch.arange(len(a), device=a.device) if groups is None else groups
            positives = own[:, None] == own
        logits = factor * a @ b.T + shift
        return -F.logsigmoid(torch.where(positives, logits, -logits)).sum() / len(a)
