"""Adding to a library: read, cut, embed, commit, with bounded memory and nothing lost.

Sources are read, decoded and embedded in a few threads that share the cores; what they give is committed in groups,
in order, in the calling thread. All windows of a file are committed together, so a file is in the store whole or not at
all: after a kill, adding the same again skips what is in, by its content, before decoding, and goes on with the rest.
What cannot be read is reported and passed over.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from intermodal.data.decoding import item_bytes
from intermodal.data.stream import WORKERS_MAX, Worker, ahead, crew
from intermodal.library.filters import column
from intermodal.library.known import Known
from intermodal.library.reading import Failure, Reader, Ready, Step, Work
from intermodal.library.sources import Source
from intermodal.library.store import CONTENT, Row, Store
from intermodal.types import Embeds

BATCH = 32  # items embedded at a time
BATCH_BYTES = 128 * 2**20  # of decoded media in a batch
COMMIT_ROWS = 1024
COMMIT_S = 5.0

Batch = list[tuple[Work, Ready]]


@dataclass(frozen=True)
class Added:
    """What ``add`` did.

    Attributes:
        added: items that are new in the library; each window of a file is one.
        skipped: files, items and samples that were in already.
        failed: what could not be added, and why.
        seconds: how long it took.
        replaced: items removed because their file has another content now.
    """

    added: int
    skipped: int
    failed: tuple[tuple[str, str], ...]
    seconds: float
    replaced: int = 0


@dataclass(frozen=True, eq=False)
class Watch:
    """Who is told of an ``add``.

    Attributes:
        progress: called after every batch with the share that is done (0 to 1) and a short text.
        committed: called after every commit with its ids: from now on no crash loses them.
        total: how many sources there are; 0 where that is not known.
    """

    progress: Callable[[float, str], None] | None = None
    committed: Callable[[tuple[str, ...]], None] | None = None
    total: int = 0


class Ingest:
    """One run of ``add``."""

    def __init__(self, store: Store, model: Embeds, watch: Watch, width: int | None = None) -> None:
        """Reads what the store has.

        Args:
            store: where rows go.
            model: makes the vectors.
            watch: who is told.
            width: only the first so many numbers of each vector are kept; None for all.
        """
        self._store, self._model, self._watch, self._width = store, model, watch, width
        self.known = Known(store)
        self._began = self._committed_at = time.monotonic()
        self._added = self._skipped = self._done = self._replaced = 0
        self._failed: list[tuple[str, str]] = []
        self._rows: list[Row] = []

    def run(self, sources: Iterable[Source], reader: Reader) -> Added:
        """Adds all sources and returns what was done."""
        threads = min(torch.get_num_threads(), WORKERS_MAX)
        worker = Worker(self._model, width=self._width)

        def embed(batch: Batch) -> tuple[Batch, list[Float[np.ndarray, " D"] | str]]:
            return batch, worker.vectors([ready.piece.item for _, ready in batch])

        with crew(self._model) as pool:
            works = ahead(pool, reader.prepare, sources, 2 * threads)
            decoded = ahead(pool, _decode, self._steps(works), threads + 2)
            for batch, vectors in ahead(pool, embed, _batches(self._items(decoded)), threads + 1):
                self._take(batch, vectors)
            self._commit()
        seconds = time.monotonic() - self._began
        return Added(self._added, self._skipped, tuple(self._failed), seconds, self._replaced)

    def _steps(self, works: Iterator[Work]) -> Iterator[tuple[Work, Step, bool]]:
        """Gives the steps of all works; counts what is in already."""
        for work in works:
            self._skipped += work.skipped
            self._done += not work.steps
            count, steps = len(work.steps), iter(work.steps)
            work.steps = []  # a step holds the bytes of its file: let go of each as it is done
            for number, step in enumerate(steps, 1):
                yield work, step, number == count

    def _items(self, decoded: "Iterator[tuple[Work, list[Ready | Failure], bool]]") -> Iterator[tuple[Work, Ready]]:
        """Gives the items that were decoded; notes what failed."""
        for work, made, last in decoded:
            for failure in made:
                if isinstance(failure, Failure):
                    self._fail(work, failure)
            ready = [one for one in made if isinstance(one, Ready)]
            work.waiting += len(ready)
            work.last = last
            if not ready:
                self._settle(work)
            for one in ready:
                yield work, one

    def _take(self, batch: Batch, vectors: list[Float[np.ndarray, " D"] | str]) -> None:
        """Takes an embedded batch, settles the works that are complete, and commits when there is enough."""
        for (work, ready), vector in zip(batch, vectors, strict=True):
            piece = ready.piece
            work.waiting -= 1
            if isinstance(vector, str):
                self._fail(work, Failure(ready.source or ready.id, vector))
            else:
                span = (piece.start_s, piece.stop_s)
                row = Row(ready.id, piece.item.modality, vector, ready.source, *span, ready.metadata, ready.media)
                work.rows.append(row)
            self._settle(work)
        if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._committed_at > COMMIT_S:
            self._commit()
        else:
            self._tell()

    def _fail(self, work: Work, failure: Failure) -> None:
        """Notes a failure; of a work that is added whole only the first."""
        if not (work.failed and work.whole):
            self._failed.append((failure.source, failure.reason))
        work.failed = True

    def _settle(self, work: Work) -> None:
        """Hands on the rows of a work that is complete; drops those of a file of which a part failed."""
        if work.last and not work.waiting:
            self._done += 1
            self._rows += [] if work.failed and work.whole else work.rows
            work.rows = []

    def _commit(self) -> None:
        """Makes what is ready durable, and says so."""
        rows, self._rows = self._rows, []
        if rows:
            self._replaced += self._store.delete(_outdated(self._store, rows))
            self._added += self._store.insert(rows)
            self.known.refresh()
        self._committed_at = time.monotonic()
        if rows and self._watch.committed is not None:
            self._watch.committed(tuple(row.id for row in rows))
        self._tell()

    def _tell(self) -> None:
        """Calls back with how far it is."""
        if self._watch.progress is not None:
            share = min(self._done / self._watch.total, 1.0) if self._watch.total else 0.0
            text = f"{self._added + len(self._rows):,} new, {self._skipped:,} in already, {len(self._failed):,} failed"
            self._watch.progress(share, text)


def _outdated(store: Store, rows: list[Row]) -> list[str]:
    """Returns the ids of what the store holds of the files of these rows as they were before."""
    new = {row.source: row.id[:CONTENT] for row in rows if os.path.isabs(row.source)}
    again = [name for name, may in zip(new, store.held().may_have_source(list(new)), strict=True) if may]
    if not again:
        return []
    held = store.snapshot().select(column("source").is_in(again), ["id", "source"]).to_pylist()
    return [row["id"] for row in held if row["id"][:CONTENT] != new[row["source"]]]


def _decode(step: tuple[Work, Step, bool]) -> "tuple[Work, list[Ready | Failure], bool]":
    """Returns what a step gives; nothing once another part of the same file failed. Runs in a thread."""
    work, decode, last = step
    return work, [] if work.failed and work.whole else decode(), last


def _batches(items: Iterator[tuple[Work, Ready]]) -> Iterator[Batch]:
    """Gives items in batches that are bounded in number and in bytes."""
    batch: Batch = []
    held = 0
    for work, ready in items:
        batch.append((work, ready))
        held += item_bytes(ready.piece.item)
        if len(batch) >= BATCH or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
