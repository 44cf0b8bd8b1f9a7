"""Who may ask: bearer keys, kept as hashes and compared in constant time, and how often each may.

A file of keys holds a line ``name sha256:<64 hex digits>`` per key; ``#`` begins a comment. A key is 32 random bytes,
which nobody finds by trying, so a plain SHA-256 is enough and no slow hash is needed.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from intermodal.errors import InvalidValue

_LINE = re.compile(r"([\w.@-]{1,64})\s+sha256:([0-9a-f]{64})", re.ASCII)
LENGTH_MIN = 16
"""Letters of a key from the environment."""


@dataclass(frozen=True)
class Key:
    """A key without the key.

    Attributes:
        name: what it is called in logs.
        digest: its SHA-256.
    """

    name: str
    digest: bytes


def new_key(path: Path, name: str) -> str:
    """Returns a new key; its hash is added to a file that only its owner may read.

    Raises:
        InvalidValue: the name is taken or no word, or the file holds something else.
    """
    key = f"im-{secrets.token_urlsafe(32)}"
    line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise InvalidValue(f"{name!r} cannot be the name of a key; use up to 64 letters, digits and . _ @ -")
    if path.exists() and name in [known.name for known in from_file(path)]:
        raise InvalidValue(f"{path} has a key named {name!r} already; take another name, or remove its line")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return key


def from_file(path: Path) -> tuple[Key, ...]:
    """Returns the keys in a file.

    Raises:
        InvalidValue: it cannot be read, or a line is none of a key; the line itself is not told, it may hold a secret.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"the keys in {path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].strip()
        match = _LINE.fullmatch(words)
        if words and not match:
            raise InvalidValue(
                f"line {number} of {path} is no key; make one with: intermodal serve --keys {path} --new-key NAME"
            )
        if match:
            found.append(Key(match[1], bytes.fromhex(match[2])))
    return tuple(found)


def from_words(words: Iterable[str]) -> tuple[Key, ...]:
    """Returns keys that were given themselves, such as those of the environment; they are called key1, key2, ...

    Raises:
        InvalidValue: one is short enough to be found by trying.
    """
    given = [word.strip() for word in words if word.strip()]
    if any(len(word) < LENGTH_MIN for word in given):
        raise InvalidValue(f"a key has fewer than {LENGTH_MIN} letters; take longer ones, at random")
    return tuple(Key(f"key{n}", hashlib.sha256(word.encode()).digest()) for n, word in enumerate(given, 1))


def who(keys: Sequence[Key], authorization: str) -> str | None:
    """Returns the name of the key in an ``Authorization`` header; None where it is none of these.

    All keys are compared, whichever fits, and each in constant time.
    """
    kind, _, word = authorization.partition(" ")
    digest = hashlib.sha256(word.strip().encode("utf-8", "surrogatepass")).digest()
    found = [key.name for key in keys if hmac.compare_digest(key.digest, digest)]
    return found[0] if found and kind.lower() == "bearer" else None


class Rates:
    """How often each name may ask: a bucket of permits each, which fills up in time."""

    def __init__(self, rate: float, burst: int) -> None:
        """Begins with full buckets.

        Args:
            rate: permits per second; 0 for no limit.
            burst: permits that a bucket holds.
        """
        self._rate, self._burst = rate, float(burst)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str, now: float | None = None) -> float:
        """Takes a permit and returns 0, or returns in how many seconds there will be one.

        Args:
            name: of a key; there are as many buckets as names.
            now: seconds on a clock that never goes back; default: the system's.
        """
        if not self._rate:
            return 0.0
        time_s = time.monotonic() if now is None else now
        left, last = self._left.get(name, (self._burst, time_s))
        left = min(self._burst, left + (time_s - last) * self._rate)
        enough = left >= 1
        self._left[name] = (left - 1 if enough else left, time_s)
        return 0.0 if enough else (1 - left) / self._rate
