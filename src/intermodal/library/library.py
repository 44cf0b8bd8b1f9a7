"""A library: items of every modality in a folder, found by any item.

    library = Library.create("media", model)
    library.add("photos/", "sounds/")
    library.search(Audio.open("bark.wav"), among="image", top=5)

A library belongs to the model that made its vectors and refuses another. Search is exact: a scan of one byte per
number (``scan``) over files derived from the store (``segments``). Beyond a budget of memory, or where it is asked to,
it takes the store's index. Several processes may search and add at once.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Float

from intermodal import catalog
from intermodal.errors import InvalidValue, StoreError, UnknownName
from intermodal.library import header
from intermodal.library.durable import Repaired
from intermodal.library.filters import Filter, Value, as_filter, column, keys_of
from intermodal.library.hits import Hit, as_hit
from intermodal.library.sources import HEADER, check, count, walk
from intermodal.library.store import HIT_COLUMNS
from intermodal.library.table import LanceStore
from intermodal.library.windows import Windows
from intermodal.types import Embeds, Item

if TYPE_CHECKING:
    from intermodal.library.ingest import Added
    from intermodal.library.view import ExactView, IndexView

MEMORY_BYTES = 2 * 2**30
PARTS_MAX = 16  # an add that leaves more parts merges the small ones
KEEP_S = 3600.0  # another process may still read a version as old as this

Where = Filter | Mapping[str, Value | Sequence[Value]] | None


@dataclass(frozen=True)
class Stats:
    """What a library holds.

    Attributes:
        items: rows; each window of a long file is one.
        modalities: modality -> items.
        metadata: key that can be filtered by -> kinds of its values (str, num, bool).
        dimension: of the vectors; 0 while it is empty.
        model: fingerprint of the model that made it; empty where that has none.
        parts: in the store; ``compact`` merges small ones.
        indexed: whether there is an index for approximate search.
        bytes: on disk, with the derived files.
    """

    items: int
    modalities: dict[str, int]
    metadata: dict[str, str]
    dimension: int
    model: str
    parts: int
    indexed: bool
    bytes: int


class Library:
    """A searchable store of items on disk; made by ``create`` and opened by ``open``."""

    def __init__(self, path: Path, model: Embeds | None, memory_bytes: int) -> None:
        """Opens a folder that ``create`` made; use ``create`` and ``open``."""
        from intermodal.library.segments import Segments

        told = header.read(path)
        self.path = path
        self.windows = Windows(**told["windows"])
        self.model_name = str(told["model"]["name"])
        self._made_by = str(told["model"]["identity"])
        self.width: int | None = told.get("width")
        self.model = model
        self._memory_bytes = memory_bytes
        self._store = LanceStore(path)
        self._store.snapshot()
        self._segments = Segments(path / header.DERIVED)
        self._views: dict[bool, ExactView | IndexView] = {}
        self._lock = RLock()

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: Embeds | None = None,
        windows: Windows | None = None,
        memory_bytes: int = MEMORY_BYTES,
        replace: bool = False,
        width: int | None = None,
    ) -> Self:
        """Returns a new, empty library.

        Args:
            path: a folder that does not exist or is empty.
            model: makes the vectors. Where it has a ``fingerprint`` or a ``name``, the library is tied to it.
            windows: how long sound, video and text are cut, for good; see ``Windows``.
            memory_bytes: see ``open``.
            replace: remove the library that is there.
            width: keep only the first so many numbers of each vector, of unit length again, for good: as much less
                room and time. For models that were trained for it: ``matryoshka`` of ``systems/clip.py``.

        Raises:
            InvalidValue: the width is below 1.
            StoreError: the folder holds something.
        """
        folder = Path(os.path.abspath(path))
        if replace and (folder / HEADER).exists():
            header.remove(folder)
        header.make(folder, model, windows or Windows(), width)
        return cls(folder, model, memory_bytes)

    @classmethod
    def open(cls, path: str | Path, model: Embeds | None = None, memory_bytes: int = MEMORY_BYTES) -> Self:
        """Returns the library in a folder.

        Args:
            path: the folder.
            model: the one it was made with; without it only vectors can be searched for, and nothing be added.
            memory_bytes: up to this, one byte per number of all vectors, search is exact; beyond, the index is used.

        Raises:
            StoreError: there is no library, another model made it, or it is damaged.
        """
        return cls(Path(os.path.abspath(path)), model, memory_bytes)

    @property
    def model(self) -> Embeds | None:
        """What makes the vectors; None where the library was opened without.

        Setting it raises StoreError where another model made the library.
        """
        return self._model

    @model.setter
    def model(self, model: Embeds | None) -> None:
        given = header.identity(model)
        if self._made_by and given and self._made_by != given:
            raise StoreError(
                f"the library {str(self.path)!r} was made by the model {self._made_by!r}, not by {given!r}; use that"
            )
        self._model = model

    def __len__(self) -> int:
        """Returns the number of items; each window of a long file is one."""
        return self._store.snapshot().count()

    def add(
        self,
        *sources: Any,
        metadata: Mapping[str, Any] | None = None,
        progress: Callable[[float, str], None] | None = None,
        committed: Callable[[tuple[str, ...]], None] | None = None,
        keep_media: bool = True,
    ) -> "Added":
        """Adds files, folders, patterns, items, samples and datasets; returns what was done.

        What the library has already, by content, is skipped: adding again goes on where it was stopped. What it had of
        a file that has changed since is removed. Folders are walked to the bottom; a ``metadata.jsonl`` in one says
        more of its files. Long sound and video become windows, long texts paragraphs. What cannot be read is reported
        in the result, never fatal.

        Args:
            sources: paths, glob patterns, items, samples (field -> item), datasets, or iterables of them.
            metadata: said of all of them; strings, numbers and booleans can be filtered by.
            progress: called after every batch with the share that is done (0 to 1) and a short text.
            committed: called after every commit with its ids: from now on no crash loses them.
            keep_media: keep a copy of items that have no file.

        Raises:
            InvalidValue: a path that does not exist, or something that is no source.
            StoreError: the library has no model, or another model made its vectors.
        """
        from intermodal.data.stream import picture_size
        from intermodal.library.ingest import Ingest, Watch
        from intermodal.library.reading import Reader

        if self.model is None:
            raise StoreError(f"the library {str(self.path)!r} was opened without a model; give one to Library.open")
        check(sources)
        watch = Watch(progress, committed, 0 if progress is None else count(sources))
        ingest = Ingest(self._store, self.model, watch, self.width)
        with tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
            reader = Reader(ingest.known, self.windows, Path(folder), keep_media, picture_size(self.model))
            done = ingest.run(walk(sources, metadata or {}), reader)
        if len(self._store.snapshot().parts()) > PARTS_MAX:
            self._store.compact(KEEP_S, PARTS_MAX // 2)
        return done

    def search(
        self,
        query: "Item | Hit | Float[np.ndarray, ' D'] | Sequence[float]",
        among: str | Sequence[str] | None = None,
        top: int = 10,
        where: Where = None,
        approximate: bool | None = None,
    ) -> list[Hit]:
        """Returns the items that fit the query best, best first.

        Args:
            query: an item, a hit of this library, or a vector.
            among: modality or modalities to find; None for all.
            top: how many.
            where: what they must satisfy, as in ``field("year") >= 1990``, or a mapping of keys to values.
            approximate: use the index, or do not; None does where the library is beyond its budget of memory.

        Raises:
            StoreError: the query is no vector of this library's model.
            UnknownName: a modality or metadata key that does not exist.
            InvalidValue: ``top`` is below 1.
        """
        from intermodal.library.scan import Inconsistent
        from intermodal.library.view import Asked

        if top < 1:
            raise InvalidValue(f"top is {top}; give at least 1")
        condition, chosen = as_filter(where), _chosen(among)
        vector, modality = self._vector(query)
        view = self._view(approximate)
        if view is None:
            return []
        dimension = view.snapshot.dimension()
        if len(vector) != dimension:
            raise StoreError(
                f"the query has {len(vector)} numbers and this library's vectors {dimension}; use its model"
            )
        asked = Asked(vector, modality, chosen, top, condition)
        try:
            answers = view.search(asked)
        except Inconsistent:  # a derived file is damaged: it is made again
            self._forget()
            again = self._view(approximate)
            answers = again.search(asked) if again is not None else []
        return [as_hit(answer.row, answer.score, answer.cosine, self._store) for answer in answers]

    def get(self, id: str) -> Hit:
        """Returns one item by its id.

        Raises:
            InvalidValue: there is none.
        """
        return as_hit(self._row(id, HIT_COLUMNS), nan, nan, self._store)

    def newest(self, top: int = 10, among: str | Sequence[str] | None = None) -> list[Hit]:
        """Returns about the items that were added last, the newest first; merged parts of the store keep no order.

        Args:
            top: how many.
            among: modality or modalities; None for all.

        Raises:
            UnknownName: there is no such modality.
        """
        from intermodal.library.view import newest

        rows = newest(self._store.snapshot(), _chosen(among), top)
        return [as_hit(row, nan, nan, self._store) for row in rows]

    def vector(self, id: str) -> "Float[np.ndarray, ' D']":
        """Returns the vector of one item.

        Raises:
            InvalidValue: there is none.
        """
        return np.array(self._row(id, ["vector"])["vector"], np.float32)

    def remove(self, ids: str | Sequence[str] | None = None, where: Where = None) -> int:
        """Removes items from the library, never their files; returns how many there were.

        Args:
            ids: of the items.
            where: instead of ids, what they satisfy, as in ``column("source") == path``.

        Raises:
            InvalidValue: neither or both are given.
        """
        condition = as_filter(where)
        if (ids is None) == (condition is None):
            raise InvalidValue("remove needs either ids or where; use where=column('id') != '' for all")
        if condition is not None:
            ids = self._store.snapshot().select(condition, ["id"]).column("id").to_pylist()
        return self._store.delete([ids] if isinstance(ids, str) else list(ids or ()))

    def stats(self) -> Stats:
        """Returns what the library holds."""
        from intermodal.library.view import modalities

        now = self._store.snapshot()
        size = sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())
        return Stats(
            now.count(),
            modalities(now),
            keys_of(now.columns()),
            now.dimension() or 0,
            self._made_by,
            len(now.parts()),
            now.indexed(),
            size,
        )

    def compact(self) -> None:
        """Merges small parts of the store and forgets old versions; ``add`` does so by itself when there are many."""
        self._store.compact(KEEP_S)

    def index(self) -> None:
        """Builds the index for approximate search, or brings it up to date; a library in memory needs none."""
        self._store.index()

    def repair(self) -> Repaired:
        """Makes a damaged library whole: steps back over what a power cut left half-written; returns what was done."""
        found = self._store.repair()
        self._forget()
        return found

    @staticmethod
    def repair_folder(path: str | Path) -> Repaired:
        """Repairs a library that does not open, and returns what was done.

        Raises:
            StoreError: there is no library, or none of its versions can be read.
        """
        folder = Path(os.path.abspath(path))
        header.read(folder)
        found = LanceStore(folder).repair()
        shutil.rmtree(folder / header.DERIVED, ignore_errors=True)
        return found

    def _forget(self) -> None:
        """Drops everything that is derived from the store."""
        with self._lock:
            self._views = {}
            self._segments.forget()

    def _view(self, approximate: bool | None) -> "ExactView | IndexView | None":
        """Returns the newest version as a search sees it; None where it is empty."""
        from intermodal.library.view import ExactView, IndexView

        with self._lock:
            now = self._store.snapshot()
            if not now.count():
                return None
            if approximate is None:
                approximate = now.count() * (now.dimension() or 0) > self._memory_bytes
            view = self._views.get(approximate)
            if view is None or view.snapshot is not now:
                view = IndexView(now) if approximate else ExactView(now, self._segments.blocks(now))
                self._views[approximate] = view
            return view

    def _vector(self, query: Any) -> "tuple[Float[np.ndarray, ' D'], str]":
        """Returns the unit vector of a query and its modality."""
        from intermodal.data.stream import unit_rows

        if isinstance(query, Hit):
            return self.vector(query.id), query.modality
        modality = getattr(type(query), "modality", "")
        if not isinstance(modality, str) or not modality:
            vector = query.detach().cpu().numpy() if hasattr(query, "detach") else np.asarray(query)
            if vector.ndim != 1 or vector.dtype.kind not in "fiu":
                raise InvalidValue(f"the query is {type(query).__name__}; give an item, a hit or a vector of numbers")
            return unit_rows(vector[None], 1, self.width)[0], ""
        if self.model is None:
            raise StoreError(
                f"the library {str(self.path)!r} was opened without a model; search by vectors, or give one"
            )
        return unit_rows(self.model.embed([query]), 1, self.width)[0], modality

    def _row(self, id: str, columns: list[str]) -> dict[str, Any]:
        """Returns columns of one item."""
        found = self._store.snapshot().select(column("id") == id, columns) if len(self) else None
        if found is None or not len(found):
            raise InvalidValue(f"the library {str(self.path)!r} has no item {id!r}; take ids from its hits")
        row: dict[str, Any] = found.to_pylist()[0]
        return row


def _chosen(among: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the modalities that are searched."""
    known = catalog.names("modalities")
    chosen = known if among is None else (among,) if isinstance(among, str) else tuple(among)
    for name in chosen:
        if name not in known:
            raise UnknownName("modality", name, known)
    return chosen
