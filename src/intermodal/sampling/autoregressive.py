"""Choosing the next id from a model's logits: greedy, drawn at a temperature from the most likely ones, or by beams.

What is drawn depends on the seed, the number of the candidate and the step alone, never on what else is in the batch,
so that the same request gives the same result alone and among others.

Source: nucleus sampling (top-p), Holtzman et al. 2019, arXiv 1904.09751; top-k, Fan et al. 2018, arXiv 1805.04833;
beams scored by the mean log-likelihood of their ids as in Wu et al. 2016, arXiv 1609.08144, section 7, with exponent 1.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
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


# ---- Whole rows


class Steps(Protocol):
    """Rows that are written an id after the other, by whatever remembers what it has seen."""

    def __call__(self, ids: Int64[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Returns the logits of what follows each row, after these further ids of it."""
        ...

    def keep(self, rows: Int64[Tensor, " N"]) -> None:
        """Goes on with these rows, any of them several times."""
        ...


@dataclass(frozen=True)
class Drawn:
    """What was written.

    Attributes:
        ids: of each row, from the first end on only ends.
        score: mean log-likelihood of an id of the row, its end counted, in nats.
    """

    ids: Int64[Tensor, "B T"]
    score: Float[Tensor, " B"]


def draw(
    steps: Steps,
    begin: Int64[Tensor, "B P"],
    end: int,
    longest: int,
    sampling: Sampling,
    candidates: Int64[Tensor, " B"],
) -> Drawn:
    """Returns what follows each row of ``begin``.

    Args:
        steps: writes.
        begin: what stands there already.
        end: the id that ends a row.
        longest: ids that are written at most.
        sampling: how they are chosen.
        candidates: number of the candidate that each row is.
    """
    draws = sampling.draws(candidates, longest).to(begin.device)
    ids = begin.new_full((len(begin), longest), end)
    total, count = torch.zeros(len(begin), device=begin.device), torch.zeros(len(begin), device=begin.device)
    going, given = torch.ones(len(begin), dtype=torch.bool, device=begin.device), begin
    for place in range(longest):
        logits = steps(given).float()
        chosen = torch.where(going, choose(logits, sampling, draws[:, place]), end)
        total += logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0] * going
        count += going
        ids[:, place] = chosen
        going &= chosen != end
        if not bool(going.any()):
            break
        given = chosen[:, None]
    return Drawn(ids[:, : place + 1], total / count)


@dataclass
class _Beams:
    """The open and the ended continuations of every row, K of each, best first."""

    ids: Int64[Tensor, "B K T"]
    total: Float[Tensor, "B K"]
    ended: Int64[Tensor, "B K T"]
    score: Float[Tensor, "B K"]
    hope: Bool[Tensor, " B"]  # an open one could still become better than an ended one

    def take(self, logits: Float[Tensor, "B K V"], place: int, end: int, last: bool) -> Int64[Tensor, "B K"]:
        """Goes on by one id; returns which of the open ones each open one came from."""
        count = self.total.shape[1]
        choices = (logits.log_softmax(dim=-1) + self.total[..., None]).flatten(1)
        best, at = choices.topk(min(2 * count, choices.shape[1]), dim=1)
        parent, chosen = at // logits.shape[2], at % logits.shape[2]
        ids = self.ids.gather(1, parent[..., None].expand(-1, -1, self.ids.shape[2])).clone()
        ids[:, :, place] = chosen
        stops = (chosen == end) | last
        ranked = torch.arange(best.shape[1], device=best.device) < count
        score = torch.where(stops & ranked & self.hope[:, None], best / (place + 1), -torch.inf)
        score, order = torch.cat((self.score, score), dim=1).topk(count, dim=1)
        every = torch.cat((self.ended, ids), dim=1)
        self.ended, self.score = every.gather(1, order[..., None].expand(-1, -1, every.shape[2])), score
        self.total, order = torch.where(stops, -torch.inf, best).topk(count, dim=1)
        self.ids = ids.gather(1, order[..., None].expand(-1, -1, ids.shape[2]))
        self.hope = self.hope & (self.total[:, 0] / (place + 1) > self.score[:, -1])
        return parent.gather(1, order)


def beam_search(steps: Steps, begin: Int64[Tensor, "B P"], end: int, longest: int, beams: int) -> Drawn:
    """Returns the ``beams`` best continuations of each row of ``begin``, best first: ``B * beams`` rows.

    It stops where no open continuation has a better mean than the worst ended one; that the mean of a longer one may
    still rise is not waited for, as in the usual implementations.

    Args:
        steps: writes.
        begin: what stands there already.
        end: the id that ends a row.
        longest: ids that are written at most.
        beams: continuations that are kept beside each other, at least 1.
    """
    rows, device = len(begin), begin.device
    blank = begin.new_full((rows, beams, longest), end)
    total = torch.full((rows, beams), -torch.inf, device=device)
    total[:, 0] = 0.0  # at first all are the same: one counts
    found = _Beams(blank, total, blank.clone(), torch.full_like(total, -torch.inf), total.new_ones(rows).bool())
    owner = torch.arange(rows, device=device).repeat_interleave(beams)
    logits = steps(begin)[owner]
    steps.keep(owner)
    for place in range(longest):
        parent = found.take(logits.float().view(rows, beams, -1), place, end, place + 1 == longest)
        if place + 1 == longest or not bool(found.hope.any()):
            break
        steps.keep((parent + torch.arange(rows, device=device)[:, None] * beams).flatten())
        logits = steps(found.ids[:, :, place].reshape(-1, 1))
    return Drawn(found.ended[:, :, : place + 1].flatten(0, 1), found.score.flatten())


def continued(
    steps: Steps, begin: Int64[Tensor, "B P"], end: int, longest: int, sampling: Sampling, count: int
) -> Drawn:
    """Returns ``count`` continuations of each row of ``begin``: by beams where nothing is drawn, else each by itself.

    Raises:
        InvalidValue: ``count`` is below 1.
    """
    if count < 1:
        raise InvalidValue(f"{count} candidates were asked for; give at least 1")
    if sampling.temperature == 0 and count > 1:
        return beam_search(steps, begin, end, longest, count)
    owner = torch.arange(len(begin), device=begin.device).repeat_interleave(count)
    steps.keep(owner)
    return draw(steps, begin[owner], end, longest, sampling, torch.arange(len(owner)) % count)
