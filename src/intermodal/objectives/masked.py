"""Masked modelling: words and regions that are hidden are to be told from all that is left.

Source of the words: Devlin et al. 2018, arXiv 1810.04805, section 3.1: of the 15 % that are chosen, 80 % are hidden,
10 % become another word and 10 % stay. Of the regions: Lu et al. 2019 (ViLBERT), arXiv 1908.02265, section 2.2, and Tan
and Bansal 2019 (LXMERT), arXiv 1908.07490, section 3.1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from intermodal.types import Batch

HIDDEN, OTHER = 0.8, 0.1


@dataclass(frozen=True)
class Masked:
    """Words of which some are to be told.

    Attributes:
        batch: the words as they are shown.
        hidden: which of them are hidden.
        chosen: which are to be told: the hidden, those that became others, and some that stayed.
    """

    batch: Batch
    hidden: Bool[Tensor, "B T"]
    chosen: Bool[Tensor, "B T"]


def choose(mask: Bool[Tensor, "B T"], share: float) -> Bool[Tensor, "B T"]:
    """Returns a random choice of the real places: in each row that share of them, at least one where there is one."""
    counts = (mask.sum(dim=1) * share).round().clamp(min=1)
    place = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0).argsort(dim=1).argsort(dim=1)
    return (place < counts[:, None]) & mask


def mask_words(batch: Batch, share: float, vocab_size: int) -> Masked:
    """Returns texts with some words to be told; the first and the last of a row, begin and end, never are.

    Args:
        batch: ids.
        share: of the words, 0 to 1.
        vocab_size: what other words are drawn from.
    """
    places = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    last = (places * batch.mask).amax(dim=1, keepdim=True)
    chosen = choose(batch.mask & (places > 0) & (places < last), share)
    draw = torch.rand(chosen.shape, device=chosen.device)
    hidden = chosen & (draw < HIDDEN)
    other = chosen & (draw >= HIDDEN) & (draw < HIDDEN + OTHER)
    drawn = torch.randint(vocab_size, chosen.shape, device=chosen.device)
    return Masked(Batch(torch.where(other, drawn, batch.values), batch.mask), hidden, chosen)


def words_loss(logits: Float[Tensor, "N V"], ids: Int64[Tensor, " N"]) -> Float[Tensor, ""]:
    """Returns the mean cost of the words in nats; zero, with a gradient of zero, where there are none."""
    return F.cross_entropy(logits.float(), ids, reduction="sum") / max(1, len(ids))


def features_loss(predicted: Float[Tensor, "N F"], wanted: Float[Tensor, "N F"]) -> Float[Tensor, ""]:
    """Returns the mean squared error of the numbers of regions; zero where there are none."""
    return (predicted.float() - wanted).square().sum() / max(1, wanted.numel())


def shares_loss(logits: Float[Tensor, "N K"], wanted: Float[Tensor, "N K"]) -> Float[Tensor, ""]:
    """Returns the mean divergence of what is told of regions from the shares that are true, in nats; zero for none."""
    return F.kl_div(logits.float().log_softmax(dim=1), wanted, reduction="sum") / max(1, len(wanted))
