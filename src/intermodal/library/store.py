"""What a library needs of the place that its rows are in: a contract, so that another backend can be put there.

Rows lie in parts that never change; a version is a set of parts. Readers take a snapshot of a version and never wait;
a change makes a new version, durable and whole, whatever happens to the process meanwhile. ``table`` keeps it in Lance,
a table format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, UInt64

from intermodal.library.durable import Repaired
from intermodal.library.filters import Filter

CONTENT = 32  # characters of an id that name the content; what follows names a window of it
HIT_COLUMNS = ["id", "modality", "source", "start_s", "stop_s", "metadata"]
"""What a search tells about a row."""


@dataclass(frozen=True, eq=False)
class Row:
    """One item of a store.

    Attributes:
        id: hash of the content (``CONTENT`` characters), with a suffix where the row is a window of it.
        modality: text, image, audio, video or timeseries.
        vector: what the model made of it, of unit length.
        source: path or name of where it came from.
        start_s: where the window begins in seconds; None for a whole item without time.
        stop_s: where it ends.
        metadata: anything JSON can hold; strings, numbers and booleans can be filtered by.
        media: the bytes of an item that has no file.
    """

    id: str
    modality: str
    vector: Float[np.ndarray, " D"]
    source: str
    start_s: float | None = None
    stop_s: float | None = None
    metadata: Mapping[str, Any] = dataclass_field(default_factory=dict)
    media: bytes | None = None


@dataclass(frozen=True)
class Part:
    """Rows that lie together and never change; a row's address is ``number << 32 | its place in the part``.

    Attributes:
        number: of the part.
        name: differs for parts with different content, over all time.
        rows: how many rows it was written with.
        removed: names what was removed from it since; empty where nothing was.
    """

    number: int
    name: str
    rows: int
    removed: str


class Snapshot(Protocol):
    """One version of the rows; what it says stays true whatever is added or removed meanwhile."""

    def dimension(self) -> int | None:
        """Returns the length of the vectors; None before the first row."""
        ...

    def count(self) -> int:
        """Returns how many rows there are."""
        ...

    def columns(self) -> list[str]:
        """Returns the names of all columns; those with a colon hold metadata."""
        ...

    def parts(self) -> list[Part]:
        """Returns the parts, oldest first."""
        ...

    def read(self, part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Gives the rows left in a part in order, with their ``address``."""
        ...

    def live(self, part: Part) -> UInt64[np.ndarray, " N"]:
        """Returns the addresses of the rows left in a part, ascending."""
        ...

    def matching(self, condition: Filter) -> UInt64[np.ndarray, " N"]:
        """Returns the addresses of the rows that satisfy a filter, ascending."""
        ...

    def select(self, condition: Filter | None, columns: list[str]) -> pa.Table:
        """Returns some columns of the rows that satisfy a filter."""
        ...

    def nearest(self, vector: Float[np.ndarray, " D"], top: int, condition: Filter | None) -> pa.Table:
        """Returns about the ``top`` rows nearest to a vector, found through the index where there is one."""
        ...

    def media(self, id: str) -> bytes | None:
        """Returns the bytes kept with a row."""
        ...

    def indexed(self) -> bool:
        """Returns whether ``nearest`` has an index."""
        ...


class Held(Protocol):
    """What one version of a store holds, known without a look at the disk."""

    def has_content(self, contents: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns which contents there are rows of."""
        ...

    def may_have_id(self, ids: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns False for ids that are certainly not there; True is a reason to look."""
        ...

    def may_have_source(self, sources: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns False for sources that are certainly not there; True is a reason to look."""
        ...


class Store(Protocol):
    """What a library needs of a backend."""

    def stamp(self) -> str:
        """Returns what differs whenever the rows do; cheap, because it is asked before every search."""
        ...

    def snapshot(self) -> Snapshot:
        """Returns the rows as they are now."""
        ...

    def held(self) -> Held:
        """Returns what it holds now; cheap while little is new since it was asked before."""
        ...

    def insert(self, rows: list[Row]) -> int:
        """Adds the rows whose ids are new, durably and all at once; returns how many were."""
        ...

    def delete(self, ids: list[str]) -> int:
        """Removes rows and returns how many there were."""
        ...

    def index(self) -> None:
        """Builds the index of ``nearest``, or brings it up to date."""
        ...

    def compact(self, keep_s: float, enough: int = 1) -> None:
        """Merges small parts, the smallest first, until about ``enough`` are left, and forgets old versions.

        Large parts stay as they are, so that there may be more.

        Args:
            keep_s: age in seconds from which a version is forgotten.
            enough: how many parts are few.
        """
        ...

    def repair(self) -> Repaired:
        """Makes the store open and read again and returns what was done."""
        ...
