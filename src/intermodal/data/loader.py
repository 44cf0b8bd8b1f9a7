"""Numbered batches: batch ``step`` depends on the seed and its number alone, so a resumed run sees what it would have.

The order of an epoch is a permutation that is computed place by place and never held: a Feistel network over the next
power of four, walked until it lands inside. Sources: Luby and Rackoff 1988, "How to construct pseudorandom permutations
from pseudorandom functions"; cycle-walking in Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
"""

import contextvars
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from intermodal.data.collate import collate
from intermodal.data.sources import Source, Varies
from intermodal.diorama.draws import mix
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.types import Batch, Item, Preprocessor, Sample

ROUNDS = 6

A = TypeVar("A")
R = TypeVar("R")


def shuffled(places: Int64[np.ndarray, " P"], size: int, seed: int, epoch: int) -> Int64[np.ndarray, " P"]:
    """Returns what stands at ``places`` of a permutation of ``range(size)``.

    Args:
        places: whole numbers from 0 to ``size - 1``.
        size: how many things are permuted.
        seed: of all permutations.
        epoch: which of them.
    """
    half = np.uint64(max(1, (size - 1).bit_length() + 1 >> 1))
    low = np.uint64((1 << int(half)) - 1)
    start = (seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) % 2**63
    keys = mix(mix(np.arange(start, start + ROUNDS, dtype=np.uint64)))
    result = places.astype(np.uint64)
    outside = np.arange(len(result))
    while outside.size:
        left, right = result[outside] >> half, result[outside] & low
        for key in keys:
            left, right = right, left ^ (mix(right + key) & low)
        result[outside] = left << half | right
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def ahead(function: Callable[[A], R], arguments: Iterable[A], prefetch: int, workers: int) -> Iterator[R]:
    """Yields ``function(argument)`` for each argument, in order, up to ``prefetch`` of them computed beforehand.

    An error comes where its result would have. When the iterator is closed, or ends by an error, what has not begun is
    dropped, what has is waited for, and the threads end.

    Within these threads torch computes with one thread each: a team of their own, as large as that of the training step
    beside them, would leave both teams waiting for each other at every operation.

    Args:
        function: called in ``workers`` threads, with the context variables of the caller.
        arguments: taken one by one, at most ``prefetch`` before their turn; may be endless.
        prefetch: 0 computes each result when it is asked for.
        workers: threads, at least 1.
    """
    if prefetch == 0:
        yield from map(function, arguments)
        return
    waiting: deque[Future[R]] = deque()
    rest = iter(arguments)
    torch.get_num_threads()  # settles that of the caller before the workers' is set
    pool = ThreadPoolExecutor(workers, "batches", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for argument in islice(rest, prefetch):
            waiting.append(pool.submit(contextvars.copy_context().run, function, argument))
        while waiting:
            result = waiting.popleft().result()
            torch.set_num_threads(torch.get_num_threads())  # other threads that begin take the number set last
            for argument in islice(rest, 1):
                waiting.append(pool.submit(contextvars.copy_context().run, function, argument))
            yield result
            del result  # or it would be held beside the one that is computed next
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(eq=False)
class Loader:
    """Batches of a source for training.

    A sample that has none of the fields (its files cannot be read) is replaced by the next one in the order of the
    epoch that is not in the batch, so batches keep their size.

    Attributes:
        source: where the samples come from.
        preprocessors: field name -> what turns its items into rows; the fields of every batch.
        batch_size: rows of a batch.
        seed: of the order.
        shuffle: another order in every epoch; False keeps that of the source.
        prefetch: batches computed beforehand by ``steps``; 0 for none.
        workers: threads that do so.
        drop_last: leave out the last rows of an epoch where they fill no batch.
        sampler: step -> rows of its batch, in place of the order; must depend on the step alone.
    """

    source: Source
    preprocessors: Mapping[str, Preprocessor]
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    prefetch: int = 2
    workers: int = 1
    drop_last: bool = True
    sampler: Callable[[int], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        """Checks the numbers and that the source has the fields."""
        if self.batch_size < 1 or self.prefetch < 0 or self.workers < 1:
            raise InvalidValue(
                f"batch_size {self.batch_size} and workers {self.workers} must be at least 1, prefetch {self.prefetch} "
                f"at least 0"
            )
        _check_fields(self.source, self.preprocessors)
        if self.steps_per_epoch == 0:
            raise InvalidValue(
                f"a batch of {self.batch_size} was asked for, but the source has {len(self.source)} rows; give a "
                f"smaller batch_size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every row comes once, but for what ``drop_last`` leaves out."""
        full, rest = divmod(len(self.source), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def index(self, step: int) -> Int64[np.ndarray, " B"]:
        """Returns the rows of batch ``step``.

        Raises:
            InvalidValue: a step below 0, or a sampler that gave rows the source does not have, or none.
        """
        if step < 0:
            raise InvalidValue(f"step is {step}; steps begin with 0")
        if self.sampler is None:
            return self._order(step, 0, self.batch_size if self.drop_last else self._rest(step))
        rows = np.asarray(self.sampler(step), np.int64).reshape(-1)
        if not rows.size or rows.min() < 0 or rows.max() >= len(self.source):
            raise InvalidValue(
                f"the sampler gave {rows[:5].tolist()}... for step {step}; expected rows from 0 to "
                f"{len(self.source) - 1}, at least one"
            )
        return rows

    def batch(self, step: int, part: slice | None = None) -> dict[str, Batch]:
        """Returns batch ``step``, or some of its rows: a function of the step and of nothing that happened before.

        Raises:
            InvalidData: no row of the whole source has any of the fields.
        """
        epoch = step // self.steps_per_epoch
        source = self.source.at_epoch(epoch) if isinstance(self.source, Varies) else self.source
        whole = self.index(step)
        index = whole if part is None else whole[part]
        samples = source.samples(index.tolist())
        if not all(self._usable(sample) for sample in samples):
            first = len(whole) + (part.start or 0 if part else 0)  # parts should not all take the same rows
            samples = self._filled(source, step, first, index, samples)
        return collate(samples, self.preprocessors)

    def steps(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Batch]]:
        """Yields batches ``first`` to ``last - 1``, prefetched by threads that end with the iterator; None never ends.

        Raises:
            InvalidValue: ``last`` is before ``first``.
        """
        if first < 0 or (last is not None and last < first):
            raise InvalidValue(f"steps {first} to {last} were asked for; give 0 <= first <= last")
        return ahead(self.batch, count(first) if last is None else range(first, last), self.prefetch, self.workers)

    def pieces(self, first: int, last: int, parts: Sequence[slice]) -> Iterator[dict[str, Batch]]:
        """Yields for each of the batches ``first`` to ``last - 1`` the rows of each part, prefetched one by one.

        A part is padded to its own longest item, and ``prefetch`` counts parts: no batch is ever held as a whole.
        """
        numbered = ((step, part) for step in range(first, last) for part in parts)
        return ahead(lambda which: self.batch(*which), numbered, self.prefetch, self.workers)

    def with_sampler(self, sampler: Callable[[int], Sequence[int]] | None) -> "Loader":
        """Returns the same loader with another sampler."""
        return dataclasses.replace(self, sampler=sampler)

    def _rest(self, step: int) -> int:
        """Returns the size of batch ``step`` where the last one of an epoch is kept."""
        place = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, len(self.source) - place)

    def _order(self, step: int, skip: int, number: int) -> Int64[np.ndarray, " N"]:
        """Returns ``number`` rows of the epoch, in a circle, from ``skip`` rows after the first of batch ``step``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = len(self.source)
        places = (np.arange(number, dtype=np.int64) + (place * self.batch_size + skip)) % size
        return shuffled(places, size, self.seed, epoch) if self.shuffle else places

    def _usable(self, sample: Sample) -> bool:
        """Returns whether a sample has one of the fields."""
        return any(name in sample for name in self.preprocessors)

    def _filled(
        self, source: Source, step: int, skip: int, index: Int64[np.ndarray, " B"], samples: Sequence[Sample]
    ) -> list[Sample]:
        """Returns the samples, each useless one replaced by the next useful row of the epoch that is not among them.

        The search begins ``skip`` rows after the first of the batch.
        """
        good = [self._usable(sample) for sample in samples]
        taken = {int(i) for i, fit in zip(index, good, strict=True) if fit}
        spare: list[Sample] = []
        missing = number = good.count(False)
        last = skip + len(source)
        while len(spare) < missing and skip < last:
            rows = [i for i in self._order(step, skip, number).tolist() if i not in taken]
            taken.update(rows)
            spare += [sample for sample in source.samples(rows) if self._usable(sample)]
            skip, number = skip + number, min(2 * number, self.batch_size)
        if not spare and not any(good):
            raise InvalidData(
                f"none of the {len(source)} rows has any of the fields {', '.join(self.preprocessors)} in a form that "
                f"can be read; look at the problems that were reported"
            )
        rest = iter(spare)
        filled = [sample if fit else next(rest, None) for sample, fit in zip(samples, good, strict=True)]
        return [sample for sample in filled if sample is not None]


def in_order(
    source: Source,
    preprocessors: Mapping[str, Preprocessor],
    batch_size: int,
    index: Sequence[int] | None = None,
    length: str | None = None,
    window: int = 16,
    prefetch: int = 1,
) -> Iterator[tuple[Int64[np.ndarray, " B"], dict[str, Batch]]]:
    """Yields for evaluation each row once: (rows, their batch). Rows that have none of the fields are left out.

    Args:
        source: where the samples come from.
        preprocessors: field name -> what turns its items into rows.
        batch_size: rows of a batch, at most.
        index: the rows; None for all.
        length: a field; rows whose items of it are of similar length come together, within each window. The batches are
            then not in order: put their results back with ``in_source_order``.
        window: batches of samples that are held to be sorted.
        prefetch: windows computed beforehand by a thread.

    Raises:
        InvalidValue: a number out of range, or a field of another modality than its preprocessor.
        UnknownName: the source lacks a field.
    """
    if batch_size < 1 or window < 1 or prefetch < 0:
        raise InvalidValue(f"batch_size {batch_size} and window {window} must be at least 1, prefetch {prefetch} 0")
    _check_fields(source, preprocessors)
    if length is not None and length not in preprocessors:
        raise UnknownName("field to sort by length", length, preprocessors)
    rows = np.arange(len(source)) if index is None else np.asarray(index, np.int64).reshape(-1)
    step = batch_size * (1 if length is None else window)

    def load(start: int) -> list[tuple[Int64[np.ndarray, " B"], dict[str, Batch]]]:
        chosen = rows[start : start + step]
        pairs = list(zip(chosen.tolist(), source.samples(chosen.tolist()), strict=True))
        pairs = [pair for pair in pairs if any(name in pair[1] for name in preprocessors)]
        if length is not None:
            pairs.sort(key=lambda pair: _length(pair[1].get(length)))
        parts = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
        return [(np.array([i for i, _ in p], np.int64), collate([s for _, s in p], preprocessors)) for p in parts]

    for batches in ahead(load, range(0, len(rows), step), prefetch, 1):
        yield from batches


def in_source_order(
    parts: Iterable[tuple[Int64[np.ndarray, " _"], Shaped[Tensor, "_ ..."]]],
) -> tuple[Int64[np.ndarray, " N"], Shaped[Tensor, "N ..."]]:
    """Returns all rows and their results, sorted by row.

    Args:
        parts: (rows, one result per row), as ``in_order`` gives the rows; at least one.
    """
    index, results = zip(*parts, strict=True)
    rows = np.concatenate(index)
    order = np.argsort(rows, kind="stable")
    return rows[order], torch.cat(results)[torch.from_numpy(order)]


def _length(item: Item | None) -> int:
    """Returns the size of an item, to compare it with others of its modality: letters, or numbers of its arrays."""
    if item is None:
        return 0
    values = [getattr(item, field.name) for field in dataclasses.fields(item)]  # type: ignore[arg-type]
    return sum(v.size if isinstance(v, np.ndarray) else len(v) if isinstance(v, str) else 0 for v in values)


def _check_fields(source: Source, preprocessors: Mapping[str, Preprocessor]) -> None:
    """Raises where the source lacks a field, or it is of another modality than its preprocessor."""
    if not preprocessors:
        raise InvalidValue(f"no field was chosen; give the preprocessor of at least one of: {', '.join(source.fields)}")
    for name, preprocessor in preprocessors.items():
        if name not in source.fields:
            raise UnknownName("field of the source", name, source.fields)
        if source.fields[name] != preprocessor.modality:
            raise InvalidValue(
                f"the field {name!r} is {source.fields[name]}, but its preprocessor takes {preprocessor.modality}"
            )
