"""Choosing the next id from a model's logits: greedy, or drawn at a temperature from the most likely ones.

What is drawn depends on the seed, the number of the candidate and the step alone, never on what else is in the batch,
so that the same request gives the same result alone and among others.

Source: nucleus sampling (top-p), Holtzman et al. 2019, arXiv 1904.09751; top-k, Fan et al. 2018, arXiv 1805.04833.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from intermodal.errors import InvalidValue


@dataclass(frozen=True)
class Sampling:
    """How ids are chosen.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely id.
        top_k: only so many of the most likely ids can be drawn; 0 for all.
        top_p: only the most likely ids can be drawn whose probabilities add up to this.
        seed: of what is drawn.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InvalidValue(
                f"temperature {self.temperature} and top_k {self.top_k} are at least 0, and top_p {self.top_p} is "
                "above 0 and at most 1; change the one that is not"
            )

    def draws(self, candidates: Int64[Tensor, " B"], steps: int) -> Float[Tensor, "B steps"]:
        """Returns a number in [0, 1) for each candidate and step; equal candidates get equal numbers."""
        rows: dict[int, Tensor] = {}
        for candidate in candidates.tolist():
            if candidate not in rows:
                generator = torch.Generator().manual_seed((self.seed * 1_000_003 + candidate) % 2**63)
                rows[candidate] = torch.rand(steps, generator=generator)
        return torch.stack([rows[candidate] for candidate in candidates.tolist()])


def choose(logits: Float[Tensor, "B V"], sampling: Sampling, draw: Float[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Returns one id per row.

    Args:
        logits: of each id; minus infinity for one that cannot be.
        sampling: how.
        draw: a number in [0, 1) per row: where in the distribution, from the most likely id on, the choice falls.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    ranked, ids = (logits.float() / sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    below = ranked.cumsum(dim=-1) - ranked
    open_to = below < sampling.top_p  # the most likely one always is
    if sampling.top_k:
        open_to[:, sampling.top_k :] = False
    mass = (ranked * open_to).cumsum(dim=-1)
    at = (mass <= draw.to(mass)[:, None] * mass[:, -1:]).sum(dim=-1, keepdim=True)
    return ids.gather(1, at.clamp(max=logits.shape[-1] - 1))[:, 0]
