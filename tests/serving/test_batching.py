"""The queue: what is alike is computed together, in turns, within bounds, and not for those who left."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from intermodal.errors import InvalidValue
from intermodal.serving.batching import Queue, interruptible
from intermodal.serving.faults import Refused


class Gate:
    """Work that waits until it is let through, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, pieces: list[Any]) -> list[Any]:
        self.batches.append(list(pieces))
        self.began.set()
        assert self.open.wait(30)
        return [10 * piece for piece in pieces]


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


def test_requests_that_wait_are_computed_together_and_each_gets_its_own() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=8, wait_s=0.0)
        first = asyncio.create_task(queue.do("k", gate, [0]))
        await until(gate.began.is_set)
        others = [asyncio.create_task(queue.do("k", gate, [n, n + 100])) for n in (1, 2, 3)]
        alone = asyncio.create_task(queue.do("another kind", gate, [7]))
        await until(lambda: len(queue) == 7)
        gate.open.set()
        assert await first == [0]
        assert [await one for one in others] == [[10, 1010], [20, 1020], [30, 1030]]
        assert await alone == [70]
        assert [sorted(batch) for batch in gate.batches] == [[0], [1, 2, 3, 101, 102, 103], [7]]
        assert queue.batches == [1, 6, 1]

    asyncio.run(main())


def test_two_threads_compute_two_batches_beside_each_other() -> None:
    async def main() -> None:
        queue = Queue(together=1, wait_s=0.0, threads=2)
        both = threading.Barrier(2, timeout=30)

        def work(pieces: list[int]) -> list[int]:
            both.wait()  # passed only by two at a time
            return [10 * piece for piece in pieces]

        found = await asyncio.gather(*(queue.do("k", work, [n]) for n in range(6)))
        assert found == [[10 * n] for n in range(6)]
        assert queue.batches == [1] * 6
        assert await queue.drain(1.0)

    asyncio.run(main())


def test_the_first_of_a_batch_waits_a_moment_for_company() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=8, wait_s=0.05)
        gate.open.set()
        await asyncio.gather(queue.do("k", gate, [1]), queue.do("k", gate, [2]))
        assert gate.batches == [[1, 2]]

    asyncio.run(main())


def test_a_heavy_request_does_not_starve_small_ones_nor_they_it() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=4, wait_s=0.0)
        heavy = asyncio.create_task(queue.do("k", gate, list(range(40))))
        await until(gate.began.is_set)
        small = [asyncio.create_task(queue.do("k", gate, [1000 + n])) for n in range(3)]
        other = asyncio.create_task(queue.do("other", gate, [2000]))
        await until(lambda: len(queue) == 40 - 4 + 3 + 1)
        gate.open.set()
        await asyncio.gather(*small, other)
        assert await heavy == [10 * n for n in range(40)]
        assert all(len(batch) <= 4 for batch in gate.batches)
        behind = max(i for i, batch in enumerate(gate.batches) if max(batch) >= 1000)
        assert sum(map(len, gate.batches[: behind + 1])) <= 4 + 4 + 4 + 1
        assert any(n < 40 for batch in gate.batches[1 : behind + 2] for n in batch), "the heavy one is passed over"

    asyncio.run(main())


def test_small_requests_end_one_after_another() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=8, wait_s=0.0)
        first = asyncio.create_task(queue.do("k", gate, [0]))
        await until(gate.began.is_set)
        others = [asyncio.create_task(queue.do("k", gate, [n, n + 10])) for n in range(1, 9)]
        await until(lambda: len(queue) == 16)
        gate.open.set()
        await asyncio.gather(first, *others)
        assert gate.batches[1:] == [[1, 11, 2, 12, 3, 13, 4, 14], [5, 15, 6, 16, 7, 17, 8, 18]]

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=1, bound=3, wait_s=0.0)
        first = asyncio.create_task(queue.do("k", gate, [0]))
        await until(gate.began.is_set)
        waiting = asyncio.create_task(queue.do("k", gate, [1, 2, 3]))
        await until(lambda: len(queue) == 3)
        with pytest.raises(Refused) as refused:
            await queue.do("k", gate, [4])
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        inside = asyncio.create_task(queue.do("k", gate, [5], False))  # what the server does for itself waits its turn
        gate.open.set()
        assert await first == [0]
        assert await waiting == [10, 20, 30]
        assert await inside == [50]

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=2, wait_s=0.0)
        first = asyncio.create_task(queue.do("k", gate, [0]))
        await until(gate.began.is_set)
        gone = asyncio.create_task(queue.do("k", gate, [1, 2, 3]))
        stays = asyncio.create_task(queue.do("k", gate, [4]))
        await until(lambda: len(queue) == 4)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.open.set()
        assert [await first, await stays] == [[0], [40]]
        assert gate.batches == [[0], [4]]

    asyncio.run(main())


class Slow(nn.Module):
    """A network that writes for ever, and tells when it begins and that it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.began, self.ended = threading.Event(), threading.Event()

    def write(self, pieces: list[Any]) -> list[Any]:
        try:
            while True:
                self.norm(torch.zeros(1))
                self.began.set()
        finally:
            self.ended.set()


def test_what_runs_is_stopped_when_the_last_that_waits_leaves() -> None:
    async def main() -> None:
        model, queue = interruptible(Slow()), Queue(together=2, wait_s=0.05)
        tasks = [asyncio.create_task(queue.do("k", model.write, [n])) for n in range(2)]
        await until(model.began.is_set)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert not model.ended.is_set()
        tasks[1].cancel()
        await until(model.ended.is_set)
        assert await queue.do("k", lambda pieces: pieces, ["next"]) == ["next"]

    asyncio.run(main())


def test_one_bad_request_does_not_spoil_the_others() -> None:
    def work(pieces: list[int]) -> list[int]:
        if 13 in pieces:
            raise InvalidValue("13 is unlucky; take another")
        return pieces

    async def main() -> None:
        queue = Queue(together=8, wait_s=0.05)
        good, bad = queue.do("k", work, [1, 2]), queue.do("k", work, [12, 13])
        found = await asyncio.gather(good, bad, return_exceptions=True)
        assert found[0] == [1, 2]
        assert isinstance(found[1], InvalidValue)
        assert len(queue) == 0

    asyncio.run(main())


def test_draining_finishes_what_waits_and_takes_nothing_more() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=1, wait_s=0.0)
        tasks = [asyncio.create_task(queue.do("k", gate, [n])) for n in range(3)]
        await until(gate.began.is_set)
        drained = asyncio.create_task(queue.drain(30))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="stopping") as refused:
            await queue.do("k", gate, [4])
        assert refused.value.status == 503
        gate.open.set()
        assert await drained
        assert [await task for task in tasks] == [[0], [10], [20]]

    asyncio.run(main())


def test_draining_ends_in_time_even_where_work_does_not() -> None:
    async def main() -> None:
        gate, queue = Gate(), Queue(together=1, wait_s=0.0)
        task = asyncio.create_task(queue.do("k", gate, [1]))
        await until(gate.began.is_set)
        assert not await queue.drain(0.01)
        with pytest.raises(Refused, match="stopped"):
            await task
        gate.open.set()

    asyncio.run(main())
