"""Batches depend on their number alone, come ahead of time, and leave no thread behind."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermodal.data.loader import Loader, ahead, in_order, in_source_order, shuffled
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.modalities.text import Text
from intermodal.types import Batch, Sample, Symbols


@dataclass(frozen=True)
class Numbers:
    """Texts that are numbers, as one id; longer texts as more of the same."""

    modality: ClassVar[str] = "text"
    layout: ClassVar[Symbols] = Symbols(100_000)

    def __call__(self, items: Sequence[Text | None]) -> Batch:
        rows = [[] if item is None else [int(word) for word in item.text.split()] for item in items]
        values = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int64)
        for out, row in zip(values, rows, strict=True):
            out[: len(row)] = torch.tensor(row, dtype=torch.int64)
        lengths = torch.tensor([len(row) for row in rows])
        return Batch(values, torch.arange(values.shape[1]) < lengths[:, None])

    def invert(self, values: torch.Tensor) -> list[Text]:
        return [Text(" ".join(map(str, row))) for row in values.tolist()]


class Rows:
    """Row ``i`` says ``i``, in an epoch ``i + 1000 * epoch``; rows in ``bad`` have nothing."""

    def __init__(self, size: int, bad: Sequence[int] = (), epoch: int = 0) -> None:
        self.fields = {"text": "text", "other": "text"}
        self.size, self.bad, self.epoch = size, set(bad), epoch
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.size

    def samples(self, index: Sequence[int]) -> list[Sample]:
        self.asked += index
        return [{} if i in self.bad else {"text": Text(str(i + 1000 * self.epoch))} for i in index]

    def describe(self) -> dict[str, Any]:
        return {"count": self.size}


class Epochs(Rows):
    def at_epoch(self, epoch: int) -> Rows:
        return Rows(self.size, sorted(self.bad), epoch)


def loader(source: Rows, batch_size: int = 4, **options: Any) -> Loader:
    return Loader(source, {"text": Numbers()}, batch_size, **options)


def told(batch: dict[str, Batch]) -> list[int]:
    return batch["text"].values[:, 0].tolist()


@pytest.fixture
def no_new_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@given(size=st.integers(1, 3000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
def test_an_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(shuffled(np.arange(size), size, seed, epoch)), np.arange(size))


def test_permutations_are_many_and_even() -> None:
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(20):
        for epoch in range(120):
            order = tuple(shuffled(np.arange(4), 4, seed, epoch).tolist())
            seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert 60 < min(seen.values()) <= max(seen.values()) < 140  # 100 expected, standard deviation 10
    far = shuffled(np.arange(50), 10**12, 0, 0)
    assert len(set(far.tolist())) == 50
    assert far.max() > 10**11


@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 3),
    drop_last=st.booleans(),
    steps=st.lists(st.integers(0, 200), min_size=1, max_size=5),
)
def test_a_batch_depends_on_its_step_alone(
    size: int, batch_size: int, seed: int, drop_last: bool, steps: list[int]
) -> None:
    batch_size = min(size, batch_size)
    options = {"seed": seed, "drop_last": drop_last}
    used = loader(Epochs(size), batch_size, **options)
    for step in steps:
        assert told(used.batch(step)) == told(loader(Epochs(size), batch_size, **options).batch(step))


@pytest.mark.parametrize(
    ("size", "batch_size", "drop_last", "steps", "rows"),
    [(10, 4, True, 2, 8), (10, 4, False, 3, 10), (8, 4, False, 2, 8)],
)
def test_an_epoch_has_every_row_once(size: int, batch_size: int, drop_last: bool, steps: int, rows: int) -> None:
    batches = loader(Rows(size), batch_size, drop_last=drop_last)
    assert batches.steps_per_epoch == steps
    epochs = [[i for s in range(e * steps, (e + 1) * steps) for i in told(batches.batch(s))] for e in range(3)]
    for seen in epochs:
        assert len(seen) == len(set(seen)) == rows
    assert epochs[0] != epochs[1] != epochs[2]
    plain = loader(Rows(size), batch_size, shuffle=False)
    assert told(plain.batch(1)) == told(plain.batch(1 + plain.steps_per_epoch)) == [4, 5, 6, 7]


def test_seeds_differ() -> None:
    assert told(loader(Rows(50), seed=0).batch(0)) != told(loader(Rows(50), seed=1).batch(0))


@pytest.mark.parametrize(("prefetch", "workers"), [(0, 1), (1, 1), (2, 1), (5, 3)])
@pytest.mark.usefixtures("no_new_threads")
def test_a_resumed_run_equals_an_uninterrupted_one(prefetch: int, workers: int) -> None:
    options = {"prefetch": prefetch, "workers": workers}
    whole = [told(b) for b in loader(Epochs(11), **options).steps(0, 12)]
    assert whole == [told(loader(Epochs(11)).batch(step)) for step in range(12)]
    stopped = loader(Epochs(11), **options).steps(0, None)
    begun = [told(next(stopped)) for _ in range(5)]
    stopped.close()
    assert begun + [told(b) for b in loader(Epochs(11), **options).steps(5, 12)] == whole


def test_the_source_is_asked_for_its_epoch() -> None:
    batches = loader(Epochs(8))
    assert {i // 1000 for step in (4, 5) for i in told(batches.batch(step))} == {2}


def test_useless_rows_are_replaced_and_batches_keep_their_size() -> None:
    source = Rows(20, bad=range(0, 20, 2))
    batches = loader(source, 5)
    for step in range(12):
        rows = told(batches.batch(step))
        assert len(rows) == len(set(rows)) == 5
        assert all(i % 2 for i in rows)
        assert rows == told(loader(Rows(20, bad=range(0, 20, 2)), 5).batch(step))
    kept = [i for i in told(batches.batch(0)) if i in batches.index(0)]
    assert kept == [i for i in batches.index(0).tolist() if i % 2]


def test_replacing_one_row_asks_for_few_others() -> None:
    source = Rows(1000, bad=[loader(Rows(1000), 100).index(0)[3]])
    assert len(told(loader(source, 100).batch(0))) == 100
    assert len(source.asked) == 101


def test_fewer_useful_rows_than_a_batch_make_a_small_one_and_none_an_error() -> None:
    assert sorted(told(loader(Rows(9, bad=range(3, 9)), 5).batch(0))) == [0, 1, 2]
    with pytest.raises(InvalidData, match="none of the 9 rows has any of the fields text"):
        loader(Rows(9, bad=range(9)), 5).batch(0)


def test_a_sampler_chooses_the_rows() -> None:
    batches = loader(Rows(20)).with_sampler(lambda step: [step, step + 1])
    assert told(batches.batch(3)) == [3, 4]
    assert [told(b) for b in batches.steps(1, 3)] == [[1, 2], [2, 3]]
    assert batches.with_sampler(None).sampler is None
    for wrong in ([], [20], [-1]):
        with pytest.raises(InvalidValue, match="sampler gave"):
            loader(Rows(20)).with_sampler(lambda step, wrong=wrong: wrong).batch(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "at least 1"),
        ({"workers": 0}, "at least 1"),
        ({"prefetch": -1}, "at least 0"),
        ({"batch_size": 11}, "batch of 11 was asked for, but the source has 10 rows"),
        ({"preprocessors": {}}, "text, other"),
    ],
)
def test_wrong_numbers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Loader(**{"source": Rows(10), "preprocessors": {"text": Numbers()}, "batch_size": 4, **change})


def test_wrong_fields_and_steps_are_refused() -> None:
    source = Rows(10)
    with pytest.raises(UnknownName, match="'image'; use one of: other, text"):
        Loader(source, {"image": Numbers()}, 2)
    source.fields["text"] = "image"
    with pytest.raises(InvalidValue, match="'text' is image, but its preprocessor takes text"):
        Loader(source, {"text": Numbers()}, 2)
    for first, last in ((-1, 3), (4, 3)):
        with pytest.raises(InvalidValue, match="0 <= first <= last"):
            loader(Rows(10)).steps(first, last)
    with pytest.raises(InvalidValue, match="begin with 0"):
        loader(Rows(10)).batch(-1)


@pytest.mark.usefixtures("no_new_threads")
@pytest.mark.parametrize(("prefetch", "workers"), [(1, 1), (3, 2), (4, 8)])
def test_no_more_than_prefetch_are_computed_beforehand(prefetch: int, workers: int) -> None:
    begun: list[int] = []
    results = ahead(lambda i: begun.append(i) or i, iter(range(100)), prefetch, workers)
    assert begun == []
    for i in range(10):
        assert next(results) == i
        time.sleep(0.01)
        assert len(begun) <= i + 1 + prefetch
    results.close()
    assert len(begun) <= 10 + prefetch


@pytest.mark.usefixtures("no_new_threads")
def test_results_are_computed_while_the_caller_works() -> None:
    ready = threading.Event()
    results = ahead(lambda i: ready.set() if i == 1 else None, [0, 1], 1, 1)
    next(results)
    assert ready.wait(5)
    results.close()


@pytest.mark.usefixtures("no_new_threads")
@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_comes_in_its_place_and_ends_the_threads(prefetch: int) -> None:
    def fail(i: int) -> int:
        if i == 2:
            raise OSError("disk on fire")
        return i

    results = ahead(fail, range(100), prefetch, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="disk on fire"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.usefixtures("no_new_threads")
def test_an_abandoned_iterator_ends_its_threads() -> None:
    for i in ahead(lambda i: i, range(1000), 3, 2):
        if i == 4:
            break
    results = ahead(lambda i: i, range(1000), 3, 2)
    next(results)
    del results


def test_threads_see_the_context_of_the_caller() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    token = variable.set(7)
    assert list(ahead(lambda _: variable.get(), range(3), 2, 1)) == [7, 7, 7]
    variable.reset(token)


class Lengths(Rows):
    """Row ``i`` holds ``i`` so often as ``times[i]`` says."""

    def __init__(self, times: Sequence[int], bad: Sequence[int] = ()) -> None:
        super().__init__(len(times), bad)
        self.times = times

    def samples(self, index: Sequence[int]) -> list[Sample]:
        return [{} if i in self.bad else {"text": Text(" ".join([str(i)] * self.times[i]))} for i in index]


@given(
    times=st.lists(st.integers(1, 30), min_size=1, max_size=50),
    batch_size=st.integers(1, 9),
    window=st.integers(1, 4),
    length=st.sampled_from([None, "text"]),
    bad=st.sets(st.integers(0, 49), max_size=5),
)
def test_evaluation_has_every_row_once_and_gives_the_order_back(
    times: list[int], batch_size: int, window: int, length: str | None, bad: set[int]
) -> None:
    good = [i for i in range(len(times)) if i not in bad]
    source = Lengths(times, sorted(bad))
    parts = list(in_order(source, {"text": Numbers()}, batch_size, length=length, window=window, prefetch=0))
    for index, batch in parts:
        assert told(batch) == index.tolist()
        assert 1 <= len(index) <= batch_size
    if good:
        rows, values = in_source_order([(index, batch["text"].values[:, 0]) for index, batch in parts])
        assert rows.tolist() == values.tolist() == good
    else:
        assert parts == []


def test_similar_lengths_come_together() -> None:
    times = [1, 30] * 40
    padded = {}
    for length in (None, "text"):
        parts = list(in_order(Lengths(times), {"text": Numbers()}, 8, length=length))
        padded[length] = sum(int((~batch["text"].mask).sum()) for _, batch in parts)
    assert padded["text"] == 0
    assert padded[None] == 40 * 29


def test_evaluation_takes_a_choice_of_rows() -> None:
    parts = list(in_order(Rows(10), {"text": Numbers(), "other": Numbers()}, 2, index=[7, 3, 5]))
    assert [index.tolist() for index, _ in parts] == [[7, 3], [5]]
    assert not parts[0][1]["other"].mask.any()
    with pytest.raises(UnknownName, match="sort by length"):
        next(in_order(Rows(10), {"text": Numbers()}, 2, length="other"))
    with pytest.raises(InvalidValue, match="at least 1"):
        next(in_order(Rows(10), {"text": Numbers()}, 0))


def test_beside_the_consumer_torch_computes_with_one_thread_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert list(ahead(lambda _: torch.get_num_threads(), range(4), 2, 2)) == [1] * 4
        assert torch.get_num_threads() == 3
        assert list(ahead(lambda _: torch.get_num_threads(), range(2), 0, 1)) == [3] * 2
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [3]
    finally:
        torch.set_num_threads(before)
