"""The gradient of a large batch, computed in pieces that fit into memory: gradient caching.

A contrastive loss needs all rows at once, but only a vector of each. So the pieces run first without a graph; the loss
is taken on the vectors of all rows, and gives the gradient of each vector; then the pieces run again, with the random
numbers of their first run, and carry those gradients on to the weights. The result is the gradient of the whole batch,
dropout and dropped tokens included, for one more forward pass. Averaging the gradients of small batches, in contrast,
is another loss with fewer negatives.

Follows: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv 2101.06983.
Added: the rows of other processes; where products are in bf16, the pieces are kept in bf16: the first takes no more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from intermodal import runtime
from intermodal.errors import Unsupported
from intermodal.training.processes import ALONE, Processes, mean_losses
from intermodal.types import Batch, Represents

Piece = Mapping[str, Batch]


@runtime_checkable
class GivesPieces(Protocol):
    """Numbered batches that need not be made as a whole."""

    def pieces(self, first: int, last: int, parts: Sequence[slice]) -> Iterator[dict[str, Batch]]:
        """Yields for each of the batches ``first`` to ``last - 1`` the rows of each part."""
        ...


def pieces(batches: object, first: int, last: int, parts: Sequence[slice]) -> Iterator[dict[str, Batch]]:
    """Yields the parts of numbered batches, one after the other.

    Args:
        batches: anything with ``steps(first, last)``; where it ``GivesPieces``, no batch is made as a whole.
        first: number of the first batch.
        last: number after that of the last.
        parts: which rows of every batch.
    """
    if isinstance(batches, GivesPieces):
        yield from batches.pieces(first, last, parts)
        return
    for batch in batches.steps(first, last):  # type: ignore[attr-defined]
        for part in parts:
            yield {name: Batch(whole.values[part], whole.mask[part]) for name, whole in batch.items()}


def kept(piece: Piece, precision: str) -> Piece:
    """Returns a piece as it is kept between its two runs: in bf16 where products are, which takes half the memory."""
    if precision != "bf16":
        return piece
    return {
        name: replace(part, values=part.values.bfloat16()) if part.values.is_floating_point() else part
        for name, part in piece.items()
    }


def measure(
    model: nn.Module, batch: Sequence[Piece], precision: str, device: torch.device, among: Processes = ALONE
) -> tuple[dict[str, Tensor], Callable[[float], None]]:
    """Returns the losses of a batch, and what adds their gradient, times a number, to that of the weights.

    Called in several processes, the gradients that they add make up that of the whole batch together: the sum over the
    processes is that of one process alone.

    Args:
        model: a system that ``Trains``.
        batch: the pieces of this process; those of all processes must be equally long together.
        precision: fp32 or bf16.
        device: to compute on.
        among: who shares the batch.

    Raises:
        Unsupported: there are several pieces, but the system's loss is not known to be one of vectors.
    """
    if isinstance(model, Represents) and (len(batch) > 1 or among.count > 1):
        return _Cached(model, batch, precision, device).measure(among)
    if len(batch) > 1:
        raise Unsupported(
            f"{type(model).__name__} cannot be trained in {len(batch)} pieces per batch, because its loss is not known "
            "to be one of vectors (types.Represents): set train.micro_batch=0"
        )
    with runtime.autocast(precision, device):
        losses: dict[str, Tensor] = model.losses(_on(batch[0], device))  # type: ignore[operator]

    def add(factor: float) -> None:
        (_total(losses) * (factor / among.count)).backward()  # type: ignore[no-untyped-call]

    return losses if among.count == 1 else mean_losses(losses, among), add


class _Cached:
    """The pieces of a batch between their two runs."""

    def __init__(self, model: Represents, batch: Sequence[Piece], precision: str, device: torch.device) -> None:
        self.model, self.precision, self.device = model, precision, device
        self.pieces = batch
        self.states: list[list[Tensor]] = []

    def run(self, piece: Piece) -> dict[str, Tensor]:
        """Returns what the loss needs of a piece; the weights are narrowed anew, so that they get their gradients."""
        with runtime.autocast(self.precision, self.device):
            return self.model.represent(_on(piece, self.device))

    def measure(self, among: Processes) -> tuple[dict[str, Tensor], Callable[[float], None]]:
        """Returns the losses of all rows of all processes, and what carries their gradient to the weights."""
        once = len(self.pieces) == 1  # then the graph is kept and nothing runs twice
        found = []
        with torch.set_grad_enabled(once):
            for piece in self.pieces:
                self.states.append(_random(self.device))
                found.append(self.run(piece))
        after = _random(self.device)
        all_rows = {name: among.gather(torch.cat([f[name] for f in found])) for name in found[0]}
        vectors = {name: rows.requires_grad_() for name, rows in all_rows.items() if rows.is_floating_point()}
        with runtime.autocast(self.precision, self.device):
            losses = self.model.losses_of({**all_rows, **vectors})

        def add(factor: float) -> None:
            """Each process takes the loss by itself: what its weights get directly is therefore divided."""
            (_total(losses) * (factor / among.count)).backward()  # type: ignore[no-untyped-call]
            start = {name: among.share(len(rows)).start for name, rows in all_rows.items()}
            for number, piece in enumerate(self.pieces):
                if not once:
                    _set_random(self.states[number], self.device)
                rows = found[0] if once else self.run(piece)
                known = {name: vectors[name].grad for name in vectors if rows[name].requires_grad}
                owed = {name: grad for name, grad in known.items() if grad is not None}
                if owed:
                    size = len(next(iter(rows.values())))
                    shares = [grad[start[name] : start[name] + size] * among.count for name, grad in owed.items()]
                    torch.autograd.backward([rows[name] for name in owed], shares)
                start = {name: begin + len(rows[name]) for name, begin in start.items()}
            if not once:
                _set_random(after, self.device)

        return {name: value.detach() for name, value in losses.items()}, add


def _total(losses: Mapping[str, Tensor]) -> Tensor:
    """Returns the sum."""
    return torch.stack(list(losses.values())).sum()


def _on(piece: Piece, device: torch.device) -> dict[str, Batch]:
    """Returns a piece on a device."""
    return {name: part.to(device) for name, part in piece.items()}


def _random(device: torch.device) -> list[Tensor]:
    """Returns the states from which random numbers are drawn."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random(states: Sequence[Tensor], device: torch.device) -> None:
    """Puts them back."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
