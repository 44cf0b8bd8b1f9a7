"""One place that computes, and the queue before it: work of many clients is computed together.

    request ─┐               ┌ what is alike of several requests, taken in turns ┐
    request ─┼─ bounded queue ┤                                                   ├─ a thread or two that compute
    request ─┘               └ a piece of a large one at a time                  ┘

Requests take turns: each batch begins with the one that has waited longest since its last turn, and what is alike is
taken with it in the same order, a quarter of a batch of each at most. So a small request waits for at most one turn of
a large one, and a large one is never passed over for good; and requests end one after another, not all at once, which
would leave nothing to compute until their clients ask again. A thread takes its next batch itself, since the event loop
may be busy with what is answered and asked. Where a thread was idle the first waits a moment for company. A full queue
refuses. Work that nobody waits for any more is dropped, and what runs of it is stopped where the model lets it be: see
``interruptible``.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from intermodal.serving.faults import busy

Work = Callable[[list[Any]], list[Any]]
"""Computes one result for each piece of work, in their order."""

_RETRY_MAX_S = 30.0


@dataclass(eq=False)
class Ticket:
    """A request in the queue.

    Attributes:
        key: work of the same key is computed together.
        work: computes it.
        pieces: all that is asked for.
        future: gets the results.
        turn: number of its last turn; lower comes first.
        given: how many pieces were given out.
        results: by piece.
        left: how many results are missing.
        dropped: True once nobody waits for it.
    """

    key: Hashable
    work: Work
    pieces: Sequence[Any]
    future: "asyncio.Future[list[Any]]"
    turn: int
    given: int = 0
    results: list[Any] = field(default_factory=list)
    left: int = 0
    dropped: bool = False


Batch = list[tuple[Ticket, int]]
"""Requests, and the number of a piece of each."""


class Stopped(Exception):
    """Work that nobody waits for any more."""


_RUNNING = threading.local()


def check_stopped(*_: Any) -> None:
    """Stops what this thread computes where nobody waits for it; a hook for modules of torch.

    Raises:
        Stopped: nobody does.
    """
    batch: Batch | None = getattr(_RUNNING, "batch", None)
    if batch and all(ticket.dropped for ticket, _ in batch):
        raise Stopped


def interruptible(model: Any) -> Any:
    """Returns the model, which from now on looks at every step whether somebody still waits for what it makes.

    That is a hook on those of its direct parts that are plain layers, such as a last norm: they run once per id that is
    written. A model that is no network is not stopped once it has begun.
    """
    for part in getattr(model, "children", list)():
        if not any(True for _ in part.children()):
            part.register_forward_pre_hook(check_stopped)
    return model


class Queue:
    """A bounded queue and the threads that compute; to be used from one event loop."""

    def __init__(
        self,
        together: int = 64,
        bound: int = 4096,
        wait_s: float = 0.002,
        ready: Callable[[], None] | None = None,
        threads: int = 1,
    ) -> None:
        """Starts nothing yet.

        Args:
            together: pieces computed at a time.
            bound: pieces that may wait.
            wait_s: how long the first waits for company.
            ready: called in each thread before it computes for the first time.
            threads: batches that are computed beside each other.
        """
        self.together, self.bound, self.wait_s = together, bound, wait_s
        self.batches: list[int] = []  # sizes since they were last looked at, for the metrics
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "computing", initializer=ready)
        self._lock = threading.Lock()  # held to change what waits or runs, by the event loop and the threads
        self._waiting: list[Ticket] = []
        self._running: list[Batch] = []
        self._active = 0  # threads that compute, or are about to
        self._turn = 0
        self._rate = 0.0  # pieces per second, lately
        self._closed = False

    def __len__(self) -> int:
        """Returns how many pieces wait."""
        return sum(len(t.pieces) - t.given for t in tuple(self._waiting))

    async def do(self, key: Hashable, work: Work, pieces: Sequence[Any], bounded: bool = True) -> list[Any]:
        """Returns the result for each piece; cancelling the caller drops the work.

        Args:
            key: work of the same key may be computed together.
            work: computes some pieces of this key, of this caller or of others.
            pieces: what is asked for.
            bounded: False for work that waits its turn however full the queue is.

        Raises:
            Refused: the queue is full, or the server is stopping.
        """
        if not pieces:
            return []
        waiting = len(self)
        if self._closed:
            raise busy("the server is stopping; ask again in a moment", 5, 503)
        if bounded and waiting and waiting + len(pieces) > self.bound:
            raise busy(f"{waiting} pieces of work wait already; come back later", self._soon(waiting))
        loop = asyncio.get_running_loop()
        ticket = Ticket(key, work, pieces, loop.create_future(), 0)
        ticket.results, ticket.left = [None] * len(pieces), len(pieces)
        with self._lock:
            self._turn += 1
            ticket.turn = self._turn
            self._waiting.append(ticket)
            begins = self._active < self._threads
            self._active += begins
        if begins:
            self._pool.submit(self._run, loop)
        try:
            return await ticket.future
        finally:
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        """Takes a request out of the queue: nobody waits for it any more."""
        ticket.dropped = True
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    async def drain(self, seconds: float) -> bool:
        """Takes nothing more, and returns whether all that waited was done within ``seconds``; drops the rest."""
        self._closed = True
        until = time.monotonic() + seconds
        while (self._waiting or self._running) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        with self._lock:
            left = [*self._waiting, *(t for batch in self._running for t, _ in batch)]
            self._waiting = []
        for ticket in left:
            ticket.dropped = True
            if not ticket.future.done():
                ticket.future.set_exception(busy("the server stopped before this was done", 5, 503))
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not left

    def _soon(self, waiting: int) -> float:
        """Returns in how many seconds what waits may be done."""
        return min(_RETRY_MAX_S, waiting / self._rate) if self._rate else 1.0

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Computes batch after batch in a thread, until nothing waits; the event loop hands out the results."""
        if self.wait_s and len(self) < self.together:
            time.sleep(self.wait_s)
        while True:
            with self._lock:
                batch = self._next()
                if not batch:
                    self._active -= 1
                    return
                self._running.append(batch)
            began = time.monotonic()
            found = _compute(batch)
            loop.call_soon_threadsafe(self._hand_out, batch, found, time.monotonic() - began)

    def _next(self) -> Batch:
        """Returns the pieces that are computed next; their requests have had their turn. The lock is held."""
        order = sorted(self._waiting, key=lambda ticket: ticket.turn)
        if not order:
            return []
        alike = [ticket for ticket in order if ticket.key == order[0].key]
        turn = max(1, self.together // 4)
        batch: Batch = []
        while alike and len(batch) < self.together:
            for ticket in alike:
                count = min(turn, len(ticket.pieces) - ticket.given, self.together - len(batch))
                batch += [(ticket, ticket.given + n) for n in range(count)]
                ticket.given += count
            alike = [ticket for ticket in alike if ticket.given < len(ticket.pieces)]
        for ticket in dict.fromkeys(ticket for ticket, _ in batch):
            self._turn += 1
            ticket.turn = self._turn
            if ticket.given == len(ticket.pieces):
                self._waiting.remove(ticket)
        return batch

    def _hand_out(self, batch: Batch, found: list[Any], seconds: float) -> None:
        """Gives each request its results, and those that have all of them back to their callers."""
        rate = len(self._running) * len(batch) / max(seconds, 1e-6)
        self._rate = 0.8 * self._rate + 0.2 * rate if self._rate else rate
        self.batches = [*self.batches[-9999:], len(batch)]
        with self._lock:
            self._running.remove(batch)
        for (ticket, number), result in zip(batch, found, strict=True):
            if ticket.future.done():
                continue
            if isinstance(result, Failed):
                ticket.future.set_exception(result.error)
                self._drop(ticket)
                continue
            ticket.results[number] = result
            ticket.left -= 1
            if not ticket.left:
                ticket.future.set_result(ticket.results)


@dataclass(frozen=True, eq=False)
class Failed:
    """Why a piece of work has no result."""

    error: Exception


def _compute(batch: Batch) -> list[Any]:
    """Returns a result or a failure for each piece; where a batch of several requests fails, each is tried alone."""
    _RUNNING.batch = batch
    try:
        ticket, _ = batch[0]
        results = ticket.work([one.pieces[number] for one, number in batch])
        if len(results) != len(batch):
            raise ValueError(f"{len(results)} results for {len(batch)} pieces of work")
        return results
    except Exception as error:
        tickets = list(dict.fromkeys(one for one, _ in batch))
        if len(tickets) == 1 or isinstance(error, Stopped):
            return [Failed(error)] * len(batch)
    finally:
        _RUNNING.batch = None
    found: dict[int, list[Any]] = {}
    for one in tickets:
        found[id(one)] = [] if one.dropped else _compute([each for each in batch if each[0] is one])
    return [found[id(one)].pop(0) if found[id(one)] else Failed(Stopped()) for one, _ in batch]
