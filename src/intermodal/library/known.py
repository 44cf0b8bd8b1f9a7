"""Which contents a store has already, so that they are skipped before decoding."""

from collections.abc import Iterable
from threading import Lock

import numpy as np
import pyarrow.compute as pc
from jaxtyping import UInt64

from intermodal.library.store import CONTENT, Part, Snapshot, Store

_RECENT_MAX = 200_000
_HALF = 2**64  # a content hash is held as two numbers below this


class Known:
    """The contents of a store, 16 bytes each, and those that are on their way into it."""

    def __init__(self, store: Store) -> None:
        """Reads the ids of the store."""
        self._store, self._stamp = store, ""
        self._parts: set[str] = set()
        self._sorted = np.empty((2, 0), np.uint64)  # by the first row
        self._recent: set[int] = set()
        self._taken: set[int] = set()
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """Reads the ids that this or another process has added since."""
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return
        snapshot = self._store.snapshot()
        new = [part for part in snapshot.parts() if part.rows and part.name not in self._parts]
        found = [_contents(snapshot, part) for part in new]
        with self._lock:
            if sum(map(len, found)) + len(self._recent) > _RECENT_MAX:
                recent = np.array([divmod(content, _HALF) for content in self._recent], np.uint64).reshape(-1, 2)
                every = np.concatenate([self._sorted.T, recent, *found])
                self._sorted, self._recent = np.ascontiguousarray(every[np.argsort(every[:, 0])].T), set()
            else:
                self._recent.update(high * _HALF + low for pairs in found for high, low in pairs.tolist())
            self._taken = {content for content in self._taken if not self._holds(content)}
        self._parts.update(part.name for part in new)
        self._stamp = stamp

    def take(self, key: str) -> bool:
        """Returns whether this content is new, and remembers it; the next one to ask for it gets False."""
        content = int(key, 16)
        with self._lock:
            if content in self._taken or self._holds(content):
                return False
            self._taken.add(content)
            return True

    def take_any(self, keys: Iterable[str]) -> bool:
        """Returns whether any of these contents is new, and remembers all."""
        return any([self.take(key) for key in keys])  # noqa: C419 - all of them are to be taken

    def _holds(self, content: int) -> bool:
        """Returns whether the store has this content."""
        if content in self._recent:
            return True
        high, low = (np.uint64(half) for half in divmod(content, _HALF))
        first, end = (int(np.searchsorted(self._sorted[0], high, side)) for side in ("left", "right"))
        return bool((self._sorted[1, first:end] == low).any())


def _contents(snapshot: Snapshot, part: Part) -> UInt64[np.ndarray, "N 2"]:
    """Returns the content hashes of the rows of a part."""
    found = [np.empty((0, 2), np.uint64)]
    for batch in snapshot.read(part, ["id"]):
        hashes = pc.utf8_slice_codeunits(batch.column("id"), 0, CONTENT)
        halves = np.frombuffer(bytes.fromhex("".join(hashes.to_pylist())), ">u8")
        found.append(halves.astype(np.uint64).reshape(-1, 2))
    return np.concatenate(found)
