"""What a store holds, as 64-bit hashes in memory: whether something is new is known without a look at the disk.

Asking the store itself means reading a column of all rows, so that each commit would take longer than the one before.
Instead the ids and sources of each part are read once, when it is new or something was removed from it. Hashes are
kept in a few sorted runs, each at least twice as long as the next: adding to them costs a few merges for each number
over its life, asking a few binary searches. 16 bytes for a row whose content and source are its own, and as much again
for telling the parts apart.

Python's own string hash is taken, which differs from process to process: nobody can choose contents that collide.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from intermodal.library.store import CONTENT, Part, Snapshot

_KINDS = ("content", "window", "source")
_Runs = tuple[Int64[np.ndarray, " _"], ...]


@dataclass(frozen=True, eq=False)
class Hashes:
    """The contents, ids and sources of one version of a store; stays as it is whatever is added meanwhile.

    Attributes:
        runs: kind -> sorted hashes.
    """

    runs: Mapping[str, _Runs]

    def has_content(self, contents: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns which contents there are rows of; wrong once in 10**12 times for a million rows."""
        return self._has("content", contents)

    def may_have_id(self, ids: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns False for ids that are certainly not there; True is a reason to look."""
        whole = np.array([len(each) <= CONTENT for each in ids], bool)
        return np.where(whole, self._has("content", ids), self._has("window", ids))

    def may_have_source(self, sources: Sequence[str]) -> Bool[np.ndarray, " N"]:
        """Returns False for sources that are certainly not there; True is a reason to look."""
        return self._has("source", sources)

    def _has(self, kind: str, values: Sequence[str]) -> Bool[np.ndarray, " N"]:
        asked = _hashed(values)
        found = np.zeros(len(asked), bool)
        for run in self.runs[kind]:
            place = np.minimum(np.searchsorted(run, asked), len(run) - 1)
            found |= run[place] == asked
        return found


class Holdings:
    """The hashes of a store, brought up to date by reading what is new in it; safe to use from several threads."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._parts: dict[tuple[str, str], dict[str, Int64[np.ndarray, " _"]]] = {}
        self._seen: Snapshot | None = None
        self._hashes = Hashes(dict.fromkeys(_KINDS, ()))
        self._lock = Lock()

    def of(self, snapshot: Snapshot) -> Hashes:
        """Returns the hashes of a version of the store."""
        with self._lock:
            if snapshot is not self._seen:
                parts = {(part.name, part.removed): part for part in snapshot.parts() if part.rows}
                new = {key: _read(snapshot, part) for key, part in parts.items() if key not in self._parts}
                gone = [key for key in self._parts if key not in parts]
                self._parts |= new
                for key in gone:
                    del self._parts[key]
                before = dict.fromkeys(_KINDS, ()) if gone else self._hashes.runs
                added = (self._parts if gone else new).values()
                self._hashes = Hashes({kind: _grown(before[kind], [each[kind] for each in added]) for kind in _KINDS})
                self._seen = snapshot
            return self._hashes


def _grown(runs: _Runs, added: Sequence[Int64[np.ndarray, " _"]]) -> _Runs:
    """Returns runs with more hashes in them; a run that is not twice as long as the next is merged with it."""
    longer = [*runs, np.unique(np.concatenate(added))] if added else list(runs)
    while len(longer) > 1 and len(longer[-2]) < 2 * len(longer[-1]):
        last = longer.pop()
        longer[-1] = np.union1d(longer[-1], last)
    return tuple(run for run in longer if len(run))


def _read(snapshot: Snapshot, part: Part) -> dict[str, Int64[np.ndarray, " _"]]:
    """Returns the hashes of the rows of a part."""
    found: dict[str, list[Int64[np.ndarray, " _"]]] = {kind: [np.empty(0, np.int64)] for kind in _KINDS}
    for batch in snapshot.read(part, ["id", "source"]):
        ids = _strings(batch.column("id"))
        found["content"].append(_hashed([each[:CONTENT] for each in ids]))
        found["window"].append(_hashed([each for each in ids if len(each) > CONTENT]))
        found["source"].append(_hashed(_strings(batch.column("source"))))
    return {kind: np.unique(np.concatenate(hashes)) for kind, hashes in found.items()}


def _strings(column: pa.Array) -> list[str]:
    """Returns the values of a column."""
    values: list[str] = column.to_pylist()
    return values


def _hashed(values: Iterable[str]) -> Int64[np.ndarray, " N"]:
    """Returns the hashes of strings."""
    return np.fromiter(map(hash, values), np.int64)
