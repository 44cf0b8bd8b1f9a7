"""Which contents a store has already, so that they are skipped before decoding."""

from collections.abc import Iterable
from threading import Lock

from intermodal.library.store import Store


class Known:
    """The contents of a store, and those that are on their way into it."""

    def __init__(self, store: Store) -> None:
        """Asks what the store holds."""
        self._store = store
        self._held = store.held()
        self._taken: set[str] = set()
        self._lock = Lock()

    def refresh(self) -> None:
        """Takes in what this or another process has added since."""
        held = self._store.held()
        with self._lock:
            self._held = held
            waiting = list(self._taken)
            self._taken = {key for key, there in zip(waiting, held.has_content(waiting), strict=True) if not there}

    def take(self, key: str) -> bool:
        """Returns whether this content is new, and remembers it; the next one to ask for it gets False."""
        with self._lock:
            if key in self._taken or self._held.has_content([key])[0]:
                return False
            self._taken.add(key)
            return True

    def take_any(self, keys: Iterable[str]) -> bool:
        """Returns whether any of these contents is new, and remembers all."""
        return any([self.take(key) for key in keys])  # noqa: C419 - all of them are to be taken
