"""Contrast with soft labels: a copy of the model that follows it slowly says what else in the gallery fits too.

Where captions are wrong or several fit, "this one and no other" is a wrong label. The slow copy's own similarities are
mixed into it. The slow copy also fills a queue, so that the gallery is larger than the batch.

Source: Li et al. 2021 (ALBEF), arXiv 2107.07651, section 3.3, equation 6; Li et al. 2022 (BLIP), arXiv 2201.12086,
section 3.2; the queue: He et al. 2019 (MoCo), arXiv 1911.05722. Changed: rows of the gallery with the same key (equal
words) all count as right. Left out: gathering over processes; each has its own queue.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn


def soft_targets(
    similarity: Float[Tensor, "B G"], positives: Bool[Tensor, "B G"], share: float
) -> Float[Tensor, "B G"]:
    """Returns to which columns each row belongs, adding up to 1.

    The slow copy, whose logits these are, has its ``share`` of it, 0 to 1; the rest goes evenly to the positives.
    """
    hard = positives.float() / positives.sum(dim=1, keepdim=True)
    return share * similarity.float().softmax(dim=1) + (1 - share) * hard


def soft_contrast(logits: Float[Tensor, "B G"], targets: Float[Tensor, "B G"]) -> Float[Tensor, ""]:
    """Returns the mean divergence of rows from their soft targets, in nats, 0 or more.

    That is the cross-entropy less that of the targets themselves, which has no gradient and grows with their number.
    """
    costs = torch.xlogy(targets, targets) - targets * logits.float().log_softmax(dim=1)
    return costs.sum(dim=1).mean()


@torch.no_grad()
def follow(slow: nn.Module, model: nn.Module, kept: float) -> None:
    """Moves every weight of ``slow`` towards that of the same name in ``model``; the share ``kept`` of it stays."""
    own = dict(model.named_parameters())
    for name, weight in slow.named_parameters():
        weight.lerp_(own[name].detach().to(weight.dtype), 1 - kept)


class Queue(nn.Module):
    """The last rows that were seen, of two sides: their vectors and a key each; the oldest are replaced first."""

    def __init__(self, size: int, width: int) -> None:
        """Builds an empty queue for ``size`` rows of vectors of ``width``; 0 for one that never holds any."""
        super().__init__()
        self.size = size
        self.register_buffer("sides", torch.zeros(2, size, width))
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def held(self) -> tuple[Float[Tensor, "Q D"], Float[Tensor, "Q D"], Int64[Tensor, " Q"]]:
        """The vectors of both sides and the keys."""
        held = min(self.size, int(self.get_buffer("count")))
        sides = self.get_buffer("sides")
        return sides[0, :held], sides[1, :held], self.get_buffer("keys")[:held]

    @torch.no_grad()
    def add(self, one: Float[Tensor, "B D"], other: Float[Tensor, "B D"], keys: Int64[Tensor, " B"]) -> None:
        """Takes in rows; of more than the queue holds, the last."""
        if not self.size:
            return
        one, other, keys = (rows[-self.size :] for rows in (one, other, keys))
        count, sides = self.get_buffer("count"), self.get_buffer("sides")
        places = (int(count) + torch.arange(len(keys), device=keys.device)) % self.size
        for side, rows in zip(sides, (one, other), strict=True):
            side[places] = rows.detach().to(side.dtype)
        self.get_buffer("keys")[places] = keys
        count += len(keys)


def contrast(
    own: tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]],
    slowly: tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]],
    keys: Int64[Tensor, " B"],
    scale: Float[Tensor, ""],
    share: float,
    queue: Queue | None = None,
) -> Float[Tensor, ""]:
    """Returns how badly two sides find each other, in nats: each row in what the slow copy makes of the other side.

    Args:
        own: unit vectors of both sides.
        slowly: those that the slow copy makes, without gradients; ``own`` where there is none.
        keys: rows of equal keys belong together.
        scale: inverse temperature.
        share: see ``soft_targets``.
        queue: further rows that the slow copy made.
    """
    *held, past = queue.held if queue is not None else (*(x[:0] for x in slowly), keys[:0])
    right, loss = keys[:, None] == torch.cat((keys, past)), torch.zeros((), device=keys.device)
    with torch.autocast(keys.device.type, enabled=False):
        for mine, slower, other, more in zip(own, slowly, reversed(slowly), reversed(held), strict=True):
            gallery = torch.cat((other, more))
            wanted = soft_targets((scale * slower @ gallery.T).detach(), right, share)
            loss = loss + soft_contrast(scale * mine @ gallery.T, wanted) / 2
    return loss
