"""Device, number format, seed and threads: the only reader of the environment.

    INTERMODAL_DEVICE     cpu, cuda, cuda:1, mps   (default: cuda if there is one, else cpu)
    INTERMODAL_PRECISION  fp32, bf16 or int8       (default: bf16 where the processor multiplies it, else fp32; for
                                                   embedding fp32 too where the model is small; int8 cannot train)
    INTERMODAL_THREADS    compute threads          (default: all cores this process may use)
    INTERMODAL_CACHE      folder for caches        (default: ~/.cache/intermodal)
    INTERMODAL_KEYS       keys that a server asks for, with commas (default: none)
    INTERMODAL_COMPILER   C compiler that may be used; empty for none (default: cc, gcc or clang where there is one)

What a function is given counts before these.
"""

import ctypes
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from intermodal.errors import InvalidValue

PRECISIONS = ("fp32", "bf16", "int8")
TRAINED = PRECISIONS[:2]
WIDE = 256
"""Width of a model from which on bf16 is worth its rounding: below, products are not what takes the time."""


@dataclass(frozen=True)
class Place:
    """Which of several processes this is: of all, and of those on this machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int


def place() -> Place | None:
    """Returns what torchrun says of this process; None where it was started alone.

    Raises:
        InvalidValue: it says no whole numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    said = [os.environ.get(name) for name in names]
    if said[0] is None or said[1] in (None, "1"):
        return None
    try:
        rank, count, local_rank, local_count = (int(text or "") for text in said)
    except ValueError as error:
        raise InvalidValue(f"{', '.join(names)} are {said}; start several processes with torchrun") from error
    return Place(rank, count, local_rank, local_count)


def device(name: str | None = None) -> torch.device:
    """Returns the device to compute on: ``name``, else the environment's, else cuda if present, else cpu."""
    chosen = name or os.environ.get("INTERMODAL_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        result = torch.device(chosen)
        if result.type == "cuda" and not torch.cuda.is_available():
            raise InvalidValue(f"device {chosen!r} was asked for, but this machine has no CUDA device; use 'cpu'")
    except RuntimeError as error:
        raise InvalidValue(f"{chosen!r} is no device; use cpu, cuda, cuda:1 or mps") from error
    return result


def has_bf16(where: torch.device) -> bool:
    """Returns whether ``where`` multiplies bfloat16 in hardware."""
    if where.type == "cuda":
        native: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return native
    if where.type != "cpu":
        return False
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private; absent means unknown, so fp32
    return bool(supported and supported())


def precision(name: str | None = None, where: torch.device | None = None) -> str:
    """Returns what to train in, ``fp32`` or ``bf16``: ``name``, else the environment's, else the device's fastest."""
    chosen = _known(name)
    if chosen is None:
        return "bf16" if has_bf16(where or device()) else "fp32"
    if chosen not in TRAINED:
        raise InvalidValue(f"precision {chosen!r} is for embedding alone; train in one of: {', '.join(TRAINED)}")
    return chosen


def embedding_precision(name: str | None, where: torch.device, width: int) -> str:
    """Returns what to embed in: ``name``, else the environment's, else bf16 or fp32.

    The choice rests on the processor and the model alone, never on a measurement, so that it is the same on every call.

    Args:
        name: one of ``PRECISIONS``; None for no wish.
        where: the device.
        width: of the model's tokens; bf16 is chosen from ``WIDE`` on where the device multiplies it.
    """
    return _known(name) or ("bf16" if width >= WIDE and has_bf16(where) else "fp32")


def _known(name: str | None) -> str | None:
    """Returns ``name``, else the environment's, else None.

    Raises:
        InvalidValue: it is no precision.
    """
    chosen = name or os.environ.get("INTERMODAL_PRECISION") or None
    if chosen is not None and chosen not in PRECISIONS:
        raise InvalidValue(f"precision {chosen!r} is not known; use one of: {', '.join(PRECISIONS)}")
    return chosen


def autocast(name: str, where: torch.device) -> AbstractContextManager[object]:
    """Returns the context in which matrix products run in precision ``name`` on ``where``."""
    return torch.autocast(where.type, torch.bfloat16) if name == "bf16" else nullcontext()


def onednn_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns ``x @ y.T`` by oneDNN, whose entry point is private to torch."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")
    return product


@cache
def onednn_is_faster() -> bool:
    """Returns whether oneDNN's products in fp32 are right, and a quarter faster than torch's own; tried once.

    torch takes another library for them, which is twice as slow on some processors.
    """
    x, y = (torch.randn(rows, 512, generator=torch.Generator().manual_seed(rows)) for rows in (512, 1024))
    ways: tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ...] = (onednn_product, lambda x, y: x @ y.T)
    seconds: tuple[list[float], list[float]] = ([], [])
    try:
        if not torch.allclose(onednn_product(x, y), x @ y.T, rtol=1e-4, atol=1e-3):
            return False
        for _ in range(5):
            for run, taken in zip(ways, seconds, strict=True):
                start = time.perf_counter()
                run(x, y)
                taken.append(time.perf_counter() - start)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return 1.25 * min(seconds[0]) <= min(seconds[1])


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stay(part: int, parts: int) -> None:
    """Keeps the calling thread, and those it starts, on one of equal shares of this process's cores.

    Threads that wake each other often, as all do that take turns in Python, are else put on one core while another is
    idle. Nothing happens where there are fewer cores than shares, or the system does not let a thread choose.

    Args:
        part: number of the share.
        parts: how many there are.
    """
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        if len(own) >= parts:
            os.sched_setaffinity(0, own[part % parts :: parts])


def threads(count: int | None = None, beside: int = 0) -> int:
    """Sets and returns the number of compute threads: ``count``, else the environment's, else this process's cores.

    Args:
        count: how many.
        beside: cores left to threads that work beside these, where neither count nor environment says how many. Compute
            threads wait for each other at every product, so one that must share its core holds up all.
    """
    text = os.environ.get("INTERMODAL_THREADS")
    try:
        here = place()
        own = max(1, cores() // (here.local_count if here else 1) - beside)
        chosen = count if count is not None else int(text) if text else own
    except ValueError as error:
        raise InvalidValue(f"INTERMODAL_THREADS is {text!r}; give a whole number of at least 1") from error
    if chosen < 1:
        raise InvalidValue(f"{chosen} threads were asked for; give at least 1")
    torch.set_num_threads(chosen)
    return chosen


def seed(value: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def cache_folder() -> Path:
    """Returns the folder for caches, made if it was absent."""
    path = Path(os.environ.get("INTERMODAL_CACHE") or Path.home() / ".cache" / "intermodal")
    path.mkdir(parents=True, exist_ok=True)
    return path


def serving_keys() -> tuple[str, ...]:
    """Returns the keys that a server asks for."""
    return tuple(word for word in (os.environ.get("INTERMODAL_KEYS") or "").split(",") if word.strip())


def compiler() -> str | None:
    """Returns the C compiler that may be used: the environment's, else one that is here; None where there is none."""
    chosen = os.environ.get("INTERMODAL_COMPILER")
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang") if chosen is None else (chosen,))), None)


def keep_memory() -> bool:
    """Tells the allocator to keep freed memory for the next step instead of giving it back; returns whether it could.

    Large tensors are otherwise mapped and unmapped at every step, and each new page is cleared by the kernel. Only
    glibc has these settings; elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**30) and mallopt(top_pad, 2**26))
