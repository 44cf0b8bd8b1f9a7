"""The products of int8 rows with a query, and which of them is the fastest here.

A scan reads every row once, so its floor is the speed of the memory, and what decides is whether the product keeps up
with that. Two ways, measured where they run:

- *compiled*: twenty lines of C that the machine's own compiler makes the best of (one instruction for 64 products where
  the processor has it); kept up with the memory wherever it was tried. Taken where a compiler is at hand and there is
  so much to scan that it is worth the moment that compiling takes, once for a machine.
- *packed*: a private entry point of torch, the one that language models with int8 weights use for one token. It goes
  through floating point, about half as fast.

Each says by how much it may be wrong, so that a scan by either is exact. Where neither is right here, and faster than
float32, ``fastest`` gives None.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8, Int64

from intermodal import runtime

LANES = 64  # int8 rows are filled up with noughts to a multiple of this: a product reads whole registers
WORTH_BYTES = 8 * 2**20  # fewer int8 numbers are scanned in less than a millisecond anyhow
_WIDTH_MAX = 65_536  # sums of wider rows might not fit into 32 bits
_PROBE_ROWS = 4096
_PACKED_ROUNDED = 2.0**-7  # the packed product comes in bfloat16, scaled in bfloat16: at most twice 2**-9 of each
_COMPILE_S = 60.0

_log = getLogger(__name__)

# Rows are taken as unsigned, 128 more than they are, and the query as two signed digits: processors multiply unsigned
# by signed bytes. What the 128 add is the same for every row. The second digit is asked for only where it can matter.
_SOURCE = """
#include <stdint.h>

static int32_t dot(const uint8_t *restrict row, const int8_t *restrict query, int64_t width) {
    int32_t sum = 0;
    for (int64_t k = 0; k < width; k++) sum += (int32_t)(uint8_t)(row[k] ^ 0x80) * (int32_t)query[k];
    return sum;
}

static int32_t excess(const int8_t *query, int64_t width) {
    int32_t sum = 0;
    for (int64_t k = 0; k < width; k++) sum += query[k];
    return 128 * sum;
}

int64_t intermodal_reaching(const int8_t *rows, const int64_t *which, const float *scale, int64_t count, int64_t width,
                            const int8_t *high, const int8_t *low, float step, float small_step, float most_of_low,
                            float least, int64_t *place, float *value) {
    const int32_t more_high = excess(high, width), more_low = excess(low, width);
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = which ? which[i] : i;
        const uint8_t *row = (const uint8_t *)rows + at * width;
        const float first = step * (float)(dot(row, high, width) - more_high);
        if (scale[at] * (first + most_of_low) < least) continue;
        const float product = scale[at] * (first + small_step * (float)(dot(row, low, width) - more_low));
        if (product >= least) {
            place[found] = at;
            value[found++] = product;
        }
    }
    return found;
}
"""
_FLAGS = (("-O3", "-march=native"), ("-O3", "-mcpu=native"), ("-O3",))


class Product(Protocol):
    """A query, ready to be multiplied with int8 rows.

    Attributes:
        lost: length of what rounding took from the query.
        rounded: a product may be wrong by this share of itself, besides.
    """

    lost: float
    rounded: float

    def reaching(
        self,
        rows: Int8[np.ndarray, "N W"],
        scale: Float32[np.ndarray, " N"],
        which: Int64[np.ndarray, " _"] | None,
        least: float,
    ) -> tuple[Int64[np.ndarray, " K"], Float32[np.ndarray, " K"]]:
        """Returns places and products of the rows, or of those at ``which``, whose product is at least ``least``."""
        ...


class Packed:
    """The product of torch; the query is rounded to bfloat16."""

    rounded = _PACKED_ROUNDED

    def __init__(self, vector: Float32[np.ndarray, " D"]) -> None:
        """Rounds the query."""
        wide = torch.from_numpy(_filled(vector))[None]
        self._query = wide.bfloat16()
        self.lost = float((wide.double() - self._query.double()).norm())

    def reaching(
        self,
        rows: Int8[np.ndarray, "N W"],
        scale: Float32[np.ndarray, " N"],
        which: Int64[np.ndarray, " _"] | None,
        least: float,
    ) -> tuple[Int64[np.ndarray, " K"], Float32[np.ndarray, " K"]]:
        """Returns places and products of the rows, or of those at ``which``, whose product is at least ``least``."""
        mine = (rows, scale) if which is None else (rows[which], scale[which])
        factor = torch.from_numpy(mine[1]).bfloat16()
        product = torch._weight_int8pack_mm(self._query, torch.from_numpy(mine[0]), factor)[0].float().numpy()
        place = np.flatnonzero(product >= least)
        return place if which is None else which[place], product[place]


class Compiled:
    """The compiled product; the query is rounded to two digits of seven bits each."""

    rounded = 0.0

    def __init__(self, vector: Float32[np.ndarray, " D"]) -> None:
        """Rounds the query.

        Raises:
            OSError: there is no compiled product; ask ``fastest``.
        """
        function = _compiled()
        if function is None:
            raise OSError("no compiled product is at hand")
        self._function = function
        wide = _filled(vector).astype(np.float64)
        self._step = np.float32(np.abs(wide).max() / 127) or np.float32(1)
        self._small = np.float32(self._step / 254)
        self._high, left = _digit(wide, self._step)
        self._low, left = _digit(left, self._small)
        self._most = np.float32(1.001 * 127 * np.abs(self._low.astype(np.float64)).sum() * self._small)
        self.lost = float(np.linalg.norm(left))

    def reaching(
        self,
        rows: Int8[np.ndarray, "N W"],
        scale: Float32[np.ndarray, " N"],
        which: Int64[np.ndarray, " _"] | None,
        least: float,
    ) -> tuple[Int64[np.ndarray, " K"], Float32[np.ndarray, " K"]]:
        """Returns places and products of the rows, or of those at ``which``, whose product is at least ``least``.

        Other threads run meanwhile.
        """
        rows, scale = np.ascontiguousarray(rows), np.ascontiguousarray(scale, np.float32)
        which = None if which is None else np.ascontiguousarray(which, np.int64)
        if which is not None and len(which) and not 0 <= which.min() <= which.max() < len(rows):
            raise IndexError("a place is none of a row")  # C would read past the rows
        count = len(rows) if which is None else len(which)
        place, value = np.empty(count, np.int64), np.empty(count, np.float32)
        query = (self._high, self._low, self._step, self._small, self._most)
        given = (rows, which, scale, count, rows.shape[1], *query, least, place, value)
        found = self._function(*(each.ctypes.data if isinstance(each, np.ndarray) else each for each in given))
        return place[:found].copy(), value[:found].copy()  # most of both was never touched


def padded(width: int) -> int:
    """Returns the width of int8 rows of vectors of length ``width``."""
    return -(-width // LANES) * LANES


def fastest(width: int, scanned_bytes: int) -> Callable[[Float32[np.ndarray, " D"]], Product] | None:
    """Returns the fastest product that is right here and faster than float32; measured once for each width.

    Args:
        width: of the vectors.
        scanned_bytes: how much there is to scan; for little, nothing is compiled.
    """
    if width > _WIDTH_MAX:
        return None
    return _fastest_of(width, scanned_bytes >= WORTH_BYTES)


@cache
def _fastest_of(width: int, compiled: bool) -> Callable[[Float32[np.ndarray, " D"]], Product] | None:
    """Returns the fastest product, with or without the compiled one."""
    generator = np.random.default_rng(0)
    rows = generator.integers(-127, 128, (_PROBE_ROWS, padded(width)), dtype=np.int8)
    scale = torch.from_numpy(generator.random(_PROBE_ROWS, np.float32)).bfloat16().float().numpy()
    query = generator.standard_normal(width, np.float32)
    query /= np.linalg.norm(query)
    floats, column = rows[:, :width].astype(np.float32), rows[0, :width].astype(np.float32)
    best, least = None, _least_s(lambda: floats @ column)
    for make in (Packed, Compiled) if compiled else (Packed,):
        product = _right(make, rows, scale, query)
        if product is not None:
            took = _least_s(lambda product=product: product.reaching(rows, scale, None, 1e9))  # type: ignore[misc]
            best, least = (make, took) if took < least else (best, least)
    _log.info("int8 rows of %d numbers are multiplied by %s", width, best.__name__ if best else "float32")
    return best


def _right(
    make: Callable[[Float32[np.ndarray, " D"]], Product],
    rows: Int8[np.ndarray, "N W"],
    scale: Float32[np.ndarray, " N"],
    query: Float32[np.ndarray, " D"],
) -> Product | None:
    """Returns a product, if it is here and is as right on these rows as it says."""
    try:
        product = make(query)
        place, found = product.reaching(rows, scale, None, -np.inf)
        some = np.arange(3, len(rows), 7)
        least = float(np.median(found))
        chosen, _ = product.reaching(rows, scale, some, least)
    except (OSError, AttributeError, RuntimeError, NotImplementedError):
        return None
    if not np.array_equal(place, np.arange(len(rows))):
        return None
    restored = rows.astype(np.float64) * scale[:, None]
    wrong = np.abs(found - restored @ _filled(query).astype(np.float64))
    length = np.linalg.norm(restored, axis=1)
    bound = length * (1.001 * product.lost + 1e-6) + 0.75 * product.rounded * np.abs(found)
    expected = some[found[some] >= least]
    return product if (wrong <= bound).all() and np.array_equal(chosen, expected) else None


def _least_s(work: Callable[[], object]) -> float:
    """Returns the least of a few durations in seconds."""
    durations = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return min(durations[2:])


def _filled(vector: Float32[np.ndarray, " D"]) -> Float32[np.ndarray, " W"]:
    """Returns a vector as wide as int8 rows."""
    wide = np.zeros(padded(len(vector)), np.float32)
    wide[: len(vector)] = vector
    return wide


def _digit(values: Float[np.ndarray, " W"], step: np.float32) -> tuple[Int8[np.ndarray, " W"], Float[np.ndarray, " W"]]:
    """Returns values in whole steps, and what is left of them."""
    digit = np.clip(np.rint(values / float(step)), -127, 127)
    return digit.astype(np.int8), values - digit * float(step)


@cache
def _compiled() -> Any:
    """Returns the compiled function; None where there is no compiler or what it makes does not load."""
    compiler = runtime.compiler()
    if compiler is None:
        _log.info("no C compiler is at hand (cc, gcc, clang): int8 products go through torch")
        return None
    told = "\n".join([_SOURCE, compiler, str(_FLAGS), _processor()])
    try:
        path = runtime.cache_folder() / f"products-{hashlib.sha256(told.encode()).hexdigest()[:24]}.so"
        if not path.exists():
            _compile(compiler, path)
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise OSError(f"{path} belongs to another user")
        function = ctypes.CDLL(str(path)).intermodal_reaching
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        _log.warning("the int8 product could not be compiled, and torch's is used instead: %s", error)
        return None
    pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    function.argtypes = [pointer] * 3 + [number] * 2 + [pointer] * 2 + [real] * 4 + [pointer] * 2
    function.restype = number
    return function


def _compile(compiler: str, path: Path) -> None:
    """Compiles the product, beside its place and then into it.

    Raises:
        OSError: no flags of these are taken.
        subprocess.SubprocessError: it takes too long.
    """
    folder = Path(tempfile.mkdtemp(prefix=".products-", dir=path.parent))
    try:
        (folder / "products.c").write_text(_SOURCE, encoding="utf-8")
        said = ""
        for flags in _FLAGS:
            command = [compiler, *flags, "-shared", "-fPIC", "products.c", "-o", "products.so"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_COMPILE_S, check=False)
            if done.returncode == 0:
                os.replace(folder / "products.so", path)
                return
            said = done.stderr.strip()[:300]
        raise OSError(f"{compiler}: {said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _processor() -> str:
    """Returns what tells kinds of processors apart: what is compiled for one may not run on another."""
    told = [platform.machine(), platform.processor(), platform.system()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return " ".join(told)
    kept = {line for line in lines if line.partition(":")[0].strip() in ("model name", "flags", "Features", "CPU part")}
    return " ".join([*told, *sorted(kept)])
