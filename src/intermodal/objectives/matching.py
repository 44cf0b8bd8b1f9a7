"""Matching: does this sentence belong to this picture, or to another one of the batch?

Source: Tan and Bansal 2019, arXiv 1908.07490, section 3.1: with a probability of one half a picture's sentence is
exchanged for another's. Changed: the other one is of the same batch, and a sentence of the same words still matches.
Negatives that are drawn by how alike they are: Li et al. 2021 (ALBEF), arXiv 2107.07651, section 3.2.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from intermodal.types import Batch


def exchanged(texts: Batch, share: float = 0.5) -> tuple[Int64[Tensor, " B"], Bool[Tensor, " B"]]:
    """Returns for each row the row whose text it gets, and whether that text still matches.

    Args:
        texts: one per row.
        share: of the rows that get another row's text; of a single row there is no other.
    """
    rows, device = len(texts), texts.mask.device
    own = torch.arange(rows, device=device)
    if rows < 2:
        return own, torch.ones(rows, dtype=torch.bool, device=device)
    other = (own + torch.randint(1, rows, (rows,), device=device)) % rows
    index = torch.where(torch.rand(rows, device=device) < share, other, own)
    ids = texts.values.masked_fill(~texts.mask, -1)
    return index, (ids == ids[index]).all(dim=1)


def matching_loss(logits: Float[Tensor, "B 2"], matches: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    """Returns the mean cost of telling which rows match, in nats; the second logit is that of a match."""
    return F.cross_entropy(logits.float(), matches.long())


def matching_score(logits: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    """Returns the logarithm of the odds that each row matches."""
    return (logits[:, 1] - logits[:, 0]).float()


def hard_negatives(similarity: Float[Tensor, "B B"], same: Bool[Tensor, "B B"]) -> Int64[Tensor, " B"]:
    """Returns for each row another one, drawn by the softmax of their similarities; -1 where there is no other.

    Args:
        similarity: logits of each row with each column.
        same: which rows say the same, each with itself among them, and so are no negatives of each other.
    """
    other = ~same.all(dim=1)
    logits = similarity.detach().float().masked_fill(same, -torch.inf)
    shares = torch.where(other[:, None], logits, 0.0).softmax(dim=1)
    return torch.where(other, torch.multinomial(shares, 1)[:, 0], -1)


def confused(
    near: Float[Tensor, "A A"], same: Bool[Tensor, "A A"]
) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"], Bool[Tensor, " N"]]:
    """Returns pairs to tell apart: all rows' own, each picture with a hard other text, each text with a hard other one.

    That is, the picture and the text of each pair, and which pairs match.

    Args:
        near: logits of each picture (rows) with each text (columns).
        same: which rows say the same.
    """
    own = torch.arange(len(near), device=near.device)
    pictures = torch.cat((own, own, hard_negatives(near.T, same)))
    texts = torch.cat((own, hard_negatives(near, same), own))
    there = (pictures >= 0) & (texts >= 0)
    return pictures[there], texts[there], (torch.arange(len(there), device=own.device) < len(own))[there]
