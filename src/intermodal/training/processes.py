"""Training in several processes: who is there, and what they tell each other.

Every process computes its share of the rows of a batch. What the loss needs of each row is gathered, the loss is taken
on all rows by all processes alike, and each carries the gradient back through its own share; the gradients of the
weights are then added up. So loss and gradient are those of one process with the whole batch: nothing is averaged that
was not a mean, which is where the world size gets into gradients by mistake.

Left out: sharing the loss itself among processes. It is a few percent of the towers' work at thousands of rows each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, distributed, nn

from intermodal import runtime
from intermodal.errors import InvalidValue, Unsupported

BUCKET = 2**24
"""Numbers that are added up at once: 64 MiB in fp32."""


@dataclass(frozen=True)
class Processes:
    """Those that train together; alone, every method gives back what it got.

    Attributes:
        rank: of this process, 0 to ``count - 1``.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Returns which rows of a batch are those of this process.

        Raises:
            InvalidValue: the rows cannot be shared out equally.
        """
        if rows % self.count:
            raise InvalidValue(f"a batch of {rows} rows cannot be shared by {self.count} processes; give a multiple")
        each = rows // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows of all processes, in their order, without gradients; each must have equally many."""
        if self.count == 1:
            return rows.detach()
        sent = rows.detach().contiguous()
        sent = sent.byte() if sent.dtype == torch.bool else sent
        found = [torch.empty_like(sent) for _ in range(self.count)]
        distributed.all_gather(found, sent)
        return torch.cat(found).to(rows.dtype)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up the gradients of all processes, in each; a parameter has none after where it has none in any."""
        owners = [p for p in parameters if p.requires_grad]
        if self.count == 1 or not owners:
            return
        there = torch.tensor([p.grad is not None for p in owners], dtype=torch.int32, device=owners[0].device)
        distributed.all_reduce(there, distributed.ReduceOp.MAX)
        owners = [p for p, known in zip(owners, there.tolist(), strict=True) if known]
        for some in _buckets(owners):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
            flat = torch.cat([grad.flatten() for grad in grads])
            distributed.all_reduce(flat)
            for p, part in zip(some, torch.split(flat, [p.numel() for p in some]), strict=True):
                p.grad = part.view_as(p).clone()

    def same_weights(self, model: nn.Module) -> None:
        """Gives every process the weights of the first."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, 0)

    def agreed(self, value: float) -> float:
        """Returns the value of the first process."""
        return self._told(value, lambda tensor: distributed.broadcast(tensor, 0))

    def mean(self, value: float) -> float:
        """Returns the mean over the processes."""
        return self._told(value, distributed.all_reduce) / self.count

    def all(self, value: bool) -> bool:
        """Returns whether it is true in every process."""
        return bool(self._told(float(value), lambda t: distributed.all_reduce(t, distributed.ReduceOp.MIN)))

    def _told(self, value: float, how: Callable[[Tensor], Any]) -> float:
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=_device())
        how(tensor)
        return float(tensor)


ALONE = Processes()


def current() -> Processes:
    """Returns those of the process group that this process has joined, or this one alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Processes(distributed.get_rank(), distributed.get_world_size())


def _device() -> torch.device:
    """Returns where numbers must lie to be sent."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yields the parameters in lists of one kind, and of few numbers each."""
    some: list[nn.Parameter] = []
    for p in parameters:
        if some and (p.dtype != some[0].dtype or sum(q.numel() for q in some) + p.numel() > BUCKET):
            yield some
            some = []
        some.append(p)
    if some:
        yield some


@contextmanager
def joined() -> Iterator[Processes]:
    """Gives the processes that torchrun started, for as long as the context lasts; one alone where it did not.

    Tensors travel by NCCL between CUDA devices, one for each process, else by Gloo.
    """
    place = runtime.place()
    if place is None:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    cuda = runtime.device().type == "cuda"
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield current()
    finally:
        distributed.destroy_process_group()


def parts(rows: int, micro_batch: int, among: Processes) -> list[slice]:
    """Returns the pieces of a batch that this process computes.

    Args:
        rows: of the whole batch.
        micro_batch: rows of a piece at most; 0 for no limit.
        among: who shares the batch.
    """
    if among.count == 1 and not 0 < micro_batch < rows:
        return [slice(None)]
    own = among.share(rows)
    step = micro_batch or own.stop - own.start
    return [slice(start, min(start + step, own.stop)) for start in range(own.start, own.stop, step)]


def mean_losses(losses: Mapping[str, Tensor], among: Processes) -> dict[str, Tensor]:
    """Returns each loss as the mean over the processes, without gradients.

    Raises:
        Unsupported: not all processes have the same losses.
    """
    names = crc32(",".join(losses).encode())
    if among.agreed(names) != names:
        raise Unsupported(
            f"process {among.rank} has the losses {', '.join(losses) or '(none)'}, the first process has others: give "
            "larger batches, so that every share holds every field, or train in one process"
        )
    return {name: torch.tensor(among.mean(float(value.detach()))) for name, value in losses.items()}
