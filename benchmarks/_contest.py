"""Contenders of one measurement: each in a process of its own, with its own settings, taken in turns.

A contender is a function of a benchmark script that prepares everything and returns the round to be timed, a function
without arguments. Processes keep libraries, allocators and thread counts apart; turns make whatever else the machine
does fall on all alike. Only one of them works at a time.

    turns = contest(__file__, [Contender("ours", "prepare_ours"), Contender("peer", "prepare_peer", {"bf16": True})])
    turns["ours"].seconds       # of each round, the warm-up left out
    turns["ours"].result        # what the last round returned, an array
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from _table import MissingPeer

MISSING = 3
"""Exit code of a process whose library is not installed."""
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Tells glibc to keep memory that a step has freed for the next one: part of using a peer well."""


@dataclass(frozen=True)
class Contender:
    """One of those compared.

    Attributes:
        name: as the table shows it.
        prepare: name of a function of the script; it returns the round.
        arguments: given to ``prepare``; JSON.
        threads: compute threads of the process.
        environment: further variables of it, such as ``ALLOCATOR``.
    """

    name: str
    prepare: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turns:
    """What one contender did: seconds of wall time of each round, peak memory, and what its last round returned."""

    seconds: tuple[float, ...]
    peak_bytes: int
    result: np.ndarray

    @property
    def median_s(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)


def contest(script: str, contenders: Sequence[Contender], rounds: int = 7, warmup: int = 2) -> dict[str, Turns]:
    """Returns what each contender did, by name.

    Args:
        script: path of the benchmark script that holds the functions.
        contenders: in the order of their turns, which is turned around in every second round.
        rounds: timed rounds.
        warmup: rounds before them.

    Raises:
        MissingPeer: a library that a contender imports is not installed.
        RuntimeError: a contender failed; the message holds the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = {c.name: _start(script, c, Path(folder) / f"{i}.npy") for i, c in enumerate(contenders)}
        try:
            told: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
            for turn in range(-warmup, rounds):
                for name in list(processes)[:: 1 if turn % 2 == 0 else -1]:
                    said = _ask(name, processes[name])
                    told[name] += [said] if turn >= 0 else []
            result = {}
            for i, (name, process) in enumerate(processes.items()):
                process.communicate("", timeout=60)
                array = np.load(Path(folder) / f"{i}.npy")
                seconds = tuple(entry["seconds"] for entry in told[name])
                result[name] = Turns(seconds, int(told[name][-1]["peak_bytes"]), array)
            return result
        finally:
            for process in processes.values():
                process.kill()


def _start(script: str, contender: Contender, out: Path) -> subprocess.Popen[str]:
    threads = str(contender.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "INTERMODAL_THREADS": threads}
    arguments = [contender.prepare, json.dumps(dict(contender.arguments)), str(out), threads]
    return subprocess.Popen(
        [sys.executable, __file__, str(Path(script).resolve()), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, **contender.environment},
        text=True,
    )


def _ask(name: str, process: subprocess.Popen[str]) -> dict[str, float]:
    """Has one contender run one round and returns what it measured."""
    assert process.stdin is not None
    assert process.stdout is not None  # both are pipes
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer.startswith("{"):
        code = process.wait()
        if code == MISSING:
            raise MissingPeer(f"{name} cannot run: {answer.strip() or 'a library is missing'}")
        raise RuntimeError(f"{name} ended with exit code {code}; its error stands above")
    measured: dict[str, float] = json.loads(answer)
    return measured


def open_clip() -> ModuleType:
    """Returns open_clip, imported without torchvision: of that it only needs names which are not used here."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        _stand_in_for_torchvision()
    import open_clip

    module: ModuleType = open_clip
    return module


def _stand_in_for_torchvision() -> None:
    """Puts modules with the names that open_clip imports in the place of torchvision; using one of them fails."""

    class Absent:
        def __init__(self, *_: object, **__: object) -> None:
            raise ImportError("torchvision is not installed, and this benchmark does not use it")

    names = {
        "torchvision": ("transforms",),
        "torchvision.transforms": (
            *("CenterCrop", "ColorJitter", "Compose", "Grayscale", "InterpolationMode", "Normalize"),
            *("RandomResizedCrop", "Resize", "ToTensor"),
        ),
        "torchvision.transforms.functional": (),
        "torchvision.ops": (),
        "torchvision.ops.misc": ("FrozenBatchNorm2d",),
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        module.__path__ = []
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (Absent,), {}))
        sys.modules[name] = module
    for mode in ("BICUBIC", "BILINEAR", "NEAREST"):
        setattr(sys.modules["torchvision.transforms"].InterpolationMode, mode, mode.lower())
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]


def _serve(script: str, prepare: str, arguments: str, out: str, threads: str) -> None:
    """Prepares one contender and runs a round for each line that comes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    import torch

    torch.set_num_threads(int(threads))
    sys.path[:0] = [str(Path(script).parent), str(Path(script).parents[1] / "tools")]
    spec = importlib.util.spec_from_file_location("contest_script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["contest_script"] = module
    try:
        spec.loader.exec_module(module)
        turn: Callable[[], Any] = getattr(module, prepare)(**json.loads(arguments))
    except ImportError as error:
        print(error, file=answers, flush=True)
        raise SystemExit(MISSING) from error
    result: Any = None
    for _ in sys.stdin:
        start = time.perf_counter()
        result = turn()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_bytes": _peak()}), file=answers, flush=True)
    if hasattr(result, "detach"):
        result = result.detach().float().cpu().numpy()
    np.save(out, np.zeros(0) if result is None else np.asarray(result))


def _peak() -> int:
    """Returns the most memory that this process has held, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    _serve(*sys.argv[1:])
