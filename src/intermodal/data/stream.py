"""Files to vectors as a stream: every core opens, prepares and embeds its own share, in order and in bounded memory.

A worker per compute thread takes some sources, decodes them, embeds them with one compute thread, and takes the next.
No core waits for another: decoding beside a computation that is spread over all cores holds up the other cores too,
since a product spread over them ends with the slowest. Pillow, FFmpeg and torch let other threads run while they work.
"""

import contextvars
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float

from intermodal.data.decoding import item_bytes
from intermodal.errors import IntermodalError, InvalidValue, UnreadableMedia
from intermodal.items import Readable, open_item
from intermodal.media.source import limits
from intermodal.types import Embeds, Item

CHUNK = 32  # items that one worker embeds at a time
TEXTS = 256  # texts take far less time than anything else; more of them are cut to fewer lengths
CHUNK_BYTES = 128 * 2**20  # of decoded media in a chunk
WORKERS_MAX = 16  # on more cores each computes with several threads: what is held grows with the workers

In = TypeVar("In")
Out = TypeVar("Out")


Source = str | Path | bytes | Readable | Item
"""A path, the bytes of a file, a member of an archive, or an item."""


@dataclass(frozen=True, eq=False)
class Member:
    """A file in a zip archive.

    Attributes:
        archive: open for reading, until the member was read.
        info: which one.
    """

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        """Its path in the archive."""
        return self.info.filename

    def read_bytes(self) -> bytes:
        """Returns what is in it; its length is checked before it is read, since a small archive may hold a huge file.

        Raises:
            UnreadableMedia: it is damaged, encrypted, or over the limit.
        """
        most = limits().bytes_max
        try:
            if self.info.file_size <= most:
                with self.archive.open(self.info) as file:
                    return file.read(most + 1)
        except (OSError, RuntimeError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise UnreadableMedia(f"{self.name} cannot be read from its archive: {error}") from error
        raise UnreadableMedia(
            f"{self.name} has {self.info.file_size:,} bytes, more than the limit of {most:,}; raise it with "
            "limited(bytes_max=...)"
        )


def members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Gives the files in an open zip archive, hidden ones left out."""
    for info in archive.infolist():
        if not info.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/")):
            yield Member(archive, info)


@dataclass(frozen=True, eq=False)
class Embedded:
    """What became of one source.

    Attributes:
        source: as it was given.
        modality: of its item; empty where that could not be told.
        vector: of unit length; None where there is none.
        error: why not; empty where there is a vector.
    """

    source: Any
    modality: str
    vector: Float[np.ndarray, " D"] | None
    error: str = ""


@contextmanager
def crew(model: Any = None) -> Iterator[ThreadPoolExecutor]:
    """Returns a context with one worker per compute thread, each of which computes with a single one.

    A network of torch is in evaluation mode meanwhile. At the end its mode, and the number of compute threads outside
    the workers, are what they were before. Any other model is asked by one worker at a time, see ``Worker``; it then
    has all the compute threads.

    Args:
        model: what the workers will compute with.
    """
    count = torch.get_num_threads()
    workers = min(count, WORKERS_MAX)
    network = model if isinstance(model, torch.nn.Module) else None
    each = count if network is None else count // workers
    training = network is not None and network.training
    if network is not None:
        network.eval()
    with ThreadPoolExecutor(workers, "intermodal", initializer=torch.set_num_threads, initargs=(each,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(count)
            if network is not None:
                network.train(training)


def ahead(pool: ThreadPoolExecutor, work: Callable[[In], Out], given: Iterable[In], depth: int) -> Iterator[Out]:
    """Gives ``work`` of everything given, in order, computed in the pool at most ``depth`` ahead."""
    waiting: deque[Future[Out]] = deque()
    try:
        for one in given:
            waiting.append(pool.submit(contextvars.copy_context().run, work, one))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()


def stream(
    model: Embeds, sources: Iterable[Source], precision: str | None = None, width: int | None = None
) -> Iterator[Embedded]:
    """Gives what becomes of each source, in the order given; a bad one says why and the others go on.

    Sources are taken as they are needed and nothing is kept, so their number does not matter. JPEG files are decoded
    no larger than the model needs.

    Args:
        model: makes the vectors.
        sources: paths, bytes, members of archives and items, mixed at will.
        precision: of the computation, where the model lets it be chosen.
        width: only the first so many numbers of each vector are kept; see ``unit_rows``.
    """
    worker = Worker(model, precision, width)
    with crew(model) as pool:
        for done in ahead(pool, worker, _chunks(sources), min(torch.get_num_threads(), WORKERS_MAX) + 1):
            yield from done


def _chunks(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Gives sources in lists of as much work as one worker takes at a time; the first ones are shorter.

    So a handful of files is shared among the workers too.
    """
    chunk: list[Source] = []
    cost, most = 0.0, 0.25
    for source in sources:
        chunk.append(source)
        cost += 1 / TEXTS if getattr(source, "modality", "") == "text" else 1 / CHUNK
        if cost >= most:
            yield chunk
            chunk, cost, most = [], 0.0, min(1.0, 1.25 * most)
    if chunk:
        yield chunk


class Worker:
    """Opens and embeds a list of sources; safe to use from several threads.

    A network of torch is used from several threads at once; its first use is alone, since it may prepare itself then.
    Of any other model nothing is known, so it is asked by one thread at a time.
    """

    def __init__(self, model: Embeds, precision: str | None = None, width: int | None = None) -> None:
        """Keeps the model, ready to compute.

        Args:
            model: makes the vectors.
            precision: of the computation, where the model lets it be chosen.
            width: only the first so many numbers of each vector are kept; see ``unit_rows``.
        """
        self._shared = isinstance(model, torch.nn.Module)
        self._model, self._options = model, {} if precision is None else {"precision": precision}
        self._least, self._width = picture_size(model), width
        self._alone, self._fresh = threading.Lock(), True

    def __call__(self, sources: Sequence[Source]) -> list[Embedded]:
        """Returns what became of each source."""
        result: list[Embedded | None] = [None] * len(sources)
        places: list[int] = []
        items: list[Item] = []
        held = 0
        for place, source in enumerate(sources):
            item = self._open(source)
            if isinstance(item, Embedded):
                result[place] = item
                continue
            places.append(place)
            items.append(item)
            held += item_bytes(item)
            if held >= CHUNK_BYTES:
                self._fill(result, sources, places, items)
                places, items, held = [], [], 0
        self._fill(result, sources, places, items)
        return [one for one in result if one is not None]

    def _open(self, source: Source) -> Item | Embedded:
        """Returns the item that a source is, or why it is none that the model embeds."""
        modality = ""
        try:
            if isinstance(getattr(type(source), "modality", None), str):
                item: Item = source  # type: ignore[assignment]
            else:
                item = open_item(source, self._least)  # type: ignore[arg-type]
            modality = item.modality
            if hasattr(self._model, "field_of"):
                self._model.field_of(modality)
            return item
        except Exception as error:  # whatever one file does, the others go on
            return Embedded(source, modality, None, reason(error))

    def _fill(
        self, result: list[Embedded | None], sources: Sequence[Source], places: list[int], items: list[Item]
    ) -> None:
        """Puts what became of ``items`` where it belongs."""
        for place, item, vector in zip(places, items, self.vectors(items), strict=True):
            if isinstance(vector, str):
                result[place] = Embedded(sources[place], item.modality, None, vector)
            else:
                result[place] = Embedded(sources[place], item.modality, vector)

    def vectors(self, items: list[Item]) -> list[Float[np.ndarray, " D"] | str]:
        """Returns the vector of each item, or why it has none; a batch that fails is tried one by one."""
        if not items:
            return []
        if self._shared and not self._fresh:
            return self._vectors(items)
        with self._alone:
            found = self._vectors(items)
            self._fresh = False
        return found

    def _vectors(self, items: list[Item]) -> list[Float[np.ndarray, " D"] | str]:
        try:
            return list(unit_rows(self._model.embed(items, **self._options), len(items), self._width))
        except (IntermodalError, ValueError, RuntimeError) as error:
            if len(items) == 1:
                return [reason(error)]
        return [vector for item in items for vector in self._vectors([item])]


def picture_size(model: Any) -> tuple[int, int] | None:
    """Returns the height and width in which the model wants a picture decoded at least; None where it does not say."""
    known = getattr(model, "preprocessors", None) or {}
    sizes = [p.decoded for p in known.values() if getattr(p, "modality", "") == "image" and hasattr(p, "decoded")]
    return (max(h for h, _ in sizes), max(w for _, w in sizes)) if sizes else None


def unit_rows(vectors: Any, count: int, width: int | None = None) -> Float[np.ndarray, "N D"]:
    """Returns vectors as float32 of unit length.

    Args:
        vectors: ``(N, D)``, of torch or NumPy.
        count: how many there should be.
        width: only the first so many numbers of each, of unit length again; None for all. Little is lost where the
            model was trained for it (``matryoshka`` of ``systems/clip.py``), much elsewhere.

    Raises:
        InvalidValue: they are not ``count`` finite vectors that have a direction, or shorter than ``width``.
    """
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().to("cpu").float().numpy()
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != count or not rows.size:
        raise InvalidValue(f"vectors of the shape {rows.shape} were given for {count} items; expected (N, D)")
    if width is not None:
        if not 1 <= width <= rows.shape[1]:
            raise InvalidValue(f"width is {width}, and the vectors have {rows.shape[1]} numbers; give at most that")
        rows = rows[:, :width]
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(rows).all() or not (lengths > 1e-6).all():
        raise InvalidValue("a vector has no direction: it is zero or not finite")
    unit: Float[np.ndarray, "N D"] = (rows / lengths).astype(np.float32)
    return unit


def reason(error: Exception) -> str:
    """Returns why something failed, in one line."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, IntermodalError) and text else f"{type(error).__name__}: {text}"
