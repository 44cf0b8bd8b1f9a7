"""Ranking losses: a matching pair must beat every other by a margin.

Similarities are dot products, which for unit rows are cosines in -1 to 1; margins are in the same unit.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.contrastive import check_pairs

Mining = Literal["hard", "semi-hard", "all"]


def triplet_loss(
    a: Float[Tensor, "A D"],
    b: Float[Tensor, "B D"],
    margin: float = 0.2,
    mining: Mining = "hard",
    positives: Bool[Tensor, "A B"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the mean over matching pairs of their hinges against mismatches, both directions added.

    The hinge of a pair (i, j) against a mismatch k is ``max(0, margin + s(i, k) - s(i, j))``. Without matching pairs,
    or without mismatches, the loss is 0.

    Args:
        a: unit rows.
        b: unit rows.
        margin: by how much the pair must be more similar, 0 or more.
        mining: ``hard`` takes the most similar mismatch in the batch; ``semi-hard`` the most similar of those less
            similar than the pair but by less than the margin, none where there is none; ``all`` adds up all hinges.
        positives: which pairs match; default: row i of ``a`` with row i of ``b`` only.

    Raises:
        InvalidValue: ``margin`` is negative, or ``a`` and ``b`` differ in length and no ``positives`` are given.
        UnknownName: ``mining`` is none of the three.

    Source: VSE++, Faghri et al. 2018, arXiv 1707.05612, eq. 5 (all) and eq. 6 (hard); semi-hard: FaceNet, Schroff et
    al. 2015, arXiv 1503.03832, section 3.2.
    """
    if mining not in get_args(Mining):
        raise UnknownName("mining", mining, get_args(Mining))
    _check_margin(margin)
    check_pairs(a, b, positives)
    if positives is None:
        positives = torch.eye(len(a), dtype=torch.bool, device=a.device)
    wide = torch.promote_types(a.dtype, torch.float32)
    with torch.autocast(a.device.type, enabled=False):  # bf16 would round most near misses to ties
        similarity = a.to(wide) @ b.to(wide).T
    to_b = _hinges(similarity, positives, margin, mining)
    to_a = _hinges(similarity.T, positives.T, margin, mining)
    return (to_b + to_a) / positives.sum().clamp_min(1)


def _hinges(similarity: Tensor, positives: Tensor, margin: float, mining: Mining) -> Tensor:
    """Returns the sum of the hinges of all matching pairs in one direction."""
    row, column = positives.nonzero(as_tuple=True)
    if not len(row):
        return similarity.sum() * 0.0
    own = similarity[row, column][:, None]
    others = similarity[row].masked_fill(positives[row], -torch.inf)  # -inf: a hinge of 0 and no gradient
    if mining == "semi-hard":
        others = others.masked_fill(others >= own, -torch.inf)  # those beyond the margin have a hinge of 0 anyway
    if mining != "all":
        others = others.amax(dim=1, keepdim=True)
    return functional.relu(margin + others - own).sum()


def margin_ranking_loss(
    positive_scores: Float[Tensor, "*N"], negative_scores: Float[Tensor, "*N"], margin: float = 0.2
) -> Float[Tensor, ""]:
    """Returns the mean of ``max(0, margin + negative - positive)``; 0 where there are no scores.

    Args:
        positive_scores: scores of what should win.
        negative_scores: scores of what should lose, each beside its winner.
        margin: by how much it should win, 0 or more, in the unit of the scores.

    Raises:
        InvalidValue: ``margin`` is negative.
    """
    _check_margin(margin)
    hinges = functional.relu(margin + negative_scores - positive_scores)
    return hinges.sum() / max(1, hinges.numel())


def cosine_loss(
    a: Float[Tensor, "N D"], b: Float[Tensor, "N D"], target: Bool[Tensor, " N"], margin: float = 0.0
) -> Float[Tensor, ""]:
    """Returns the mean of ``1 - cos`` over pairs that belong together and ``max(0, cos - margin)`` over the others.

    Args:
        a: rows of any length; a row of zeros has cosine 0 with everything.
        b: rows, each beside its partner.
        target: True where the two belong together.
        margin: cosine that mismatches may have at no cost, -1 to 1.

    Raises:
        InvalidValue: ``margin`` is outside -1 to 1.

    Source: the hinge on mismatches is that of Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an
    invariant mapping", with the cosine in place of the distance.
    """
    if not -1.0 <= margin <= 1.0:
        raise InvalidValue(f"margin is {margin}; a cosine margin lies in -1 to 1")
    cosine = functional.cosine_similarity(a, b, dim=1)
    terms = torch.where(target, 1.0 - cosine, functional.relu(cosine - margin))
    return terms.sum() / max(1, len(terms))


def _check_margin(margin: float) -> None:
    if not margin >= 0.0:
        raise InvalidValue(f"margin is {margin}; give 0 or more")
