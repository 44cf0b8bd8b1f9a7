"""Texts one behind the other in one stream without gaps, each id with the number of its text and its place in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from intermodal.types import Batch

LENGTHS = 16
"""The longest row of a stream is filled up to a multiple of this many ids: sizes that repeat, see ``grouped.py``."""


@dataclass(frozen=True)
class Stream:
    """Texts one behind the other; in each row all that is real stands first.

    Attributes:
        ids: of the tokenizer.
        mask: which are real.
        slot: which of the given texts an id is of.
        number: how many texts there are before that one in the row.
        place: in its text.
    """

    ids: Int64[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]
    slot: Int64[Tensor, "B S"]
    number: Int64[Tensor, "B S"]
    place: Int64[Tensor, "B S"]

    @property
    def told(self) -> Bool[Tensor, "B R"]:
        """Which ids, from the second on, are told: the real ones but for the begin of each text."""
        return self.mask[:, 1:] & (self.place[:, 1:] > 0)

    def begun(self) -> tuple["Stream", "Stream"]:
        """Returns each row without its last real id, and that id alone."""
        count = self.mask.sum(dim=1, keepdim=True)
        here = torch.arange(self.mask.shape[1], device=self.mask.device)
        before, last = self.mask & (here < count - 1), (count - 1).clamp(min=0)
        rest = (self.ids, self.slot, self.number, self.place)
        ids, slot, number, place = (x.gather(1, last) for x in rest)
        return Stream(self.ids, before, self.slot, self.number, self.place), Stream(ids, count > 0, slot, number, place)

    def rows(self, index: Int64[Tensor, " N"]) -> "Stream":
        """Returns these rows, any of them several times."""
        return Stream(*(x[index] for x in (self.ids, self.mask, self.slot, self.number, self.place)))


def streamed(texts: Sequence[Batch]) -> Stream:
    """Returns the texts one behind the other; one that is absent in a row takes no place there."""
    mask = torch.cat([text.mask for text in texts], dim=1)
    here = torch.stack([text.present for text in texts], dim=1)
    before = here.long().cumsum(dim=1) - here.long()
    sizes = [text.mask.shape[1] for text in texts]
    slot = torch.cat([torch.full((n,), i, device=mask.device) for i, n in enumerate(sizes)])
    place = torch.cat([torch.arange(n, device=mask.device) for n in sizes])
    most = -(-max(1, int(mask.sum(dim=1).max())) // LENGTHS) * LENGTHS
    order = (~mask).byte().argsort(dim=1, stable=True)[:, :most]
    columns = [torch.cat([text.values for text in texts], dim=1), mask, slot.expand(mask.shape), before[:, slot]]
    return Stream(*(x.gather(1, order) for x in (*columns, place.expand(mask.shape))))
