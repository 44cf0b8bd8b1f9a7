"""Random numbers by counter: the same item gets the same numbers alone, in any batch and in any process.

Source: the splitmix64 finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
"""

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns well-mixed 64-bit words, element by element."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform(seed: int, stream: str, index: ArrayLike, count: int) -> NDArray[np.float64]:
    """Returns ``(N, count)`` numbers in [0, 1) that depend only on ``seed``, ``stream`` and each index.

    Args:
        seed: any whole number.
        stream: what the numbers are for, so that two uses of one index are independent.
        index: N whole numbers, 0 or more.
        count: numbers per index.
    """
    ids = np.asarray(index, dtype=np.uint64).reshape(-1, 1)
    key = np.uint64((seed * 0x100000001B3 + zlib.crc32(stream.encode())) % 2**64)
    with np.errstate(over="ignore"):
        rows = mix(mix(ids + key) + _GOLDEN)
        words = mix(rows + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def pick(options: NDArray[np.bool_], u: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns for each row the number of one of its True options (N, K), each as likely, by ``u`` (N,) in [0, 1).

    A row without options gives 0.
    """
    wanted = (u * options.sum(axis=1)).astype(np.int64)
    return np.asarray((options.cumsum(axis=1) > wanted[:, None]).argmax(axis=1), np.int64)
