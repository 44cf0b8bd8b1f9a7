"""Device, number format, seed and threads: the only reader of the environment.

    INTERMODAL_DEVICE     cpu, cuda, cuda:1, mps   (default: cuda if there is one, else cpu)
    INTERMODAL_PRECISION  fp32 or bf16             (default: bf16 where the processor multiplies it, else fp32)
    INTERMODAL_THREADS    compute threads          (default: all cores this process may use)
    INTERMODAL_CACHE      folder for caches        (default: ~/.cache/intermodal)

What a function is given counts before these.
"""

import ctypes
import os
import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from intermodal.errors import InvalidValue

PRECISIONS = ("fp32", "bf16")


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
    """Returns ``fp32`` or ``bf16``: ``name``, else the environment's, else the fastest that the device has."""
    chosen = name or os.environ.get("INTERMODAL_PRECISION")
    if chosen is None:
        return "bf16" if has_bf16(where or device()) else "fp32"
    if chosen not in PRECISIONS:
        raise InvalidValue(f"precision {chosen!r} is not known; use one of: {', '.join(PRECISIONS)}")
    return chosen


def autocast(name: str, where: torch.device) -> AbstractContextManager[object]:
    """Returns the context in which matrix products run in precision ``name`` on ``where``."""
    return torch.autocast(where.type, torch.bfloat16) if name == "bf16" else nullcontext()


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(count: int | None = None) -> int:
    """Sets and returns the number of compute threads: ``count``, else the environment's, else all cores."""
    text = os.environ.get("INTERMODAL_THREADS")
    try:
        chosen = count if count is not None else int(text) if text else cores()
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
