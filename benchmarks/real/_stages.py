"""Stages of a longer script: each leaves its result as a file, and is not done again while that file is there."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import _steps
import numpy as np


def kept(path: Path, asked: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """Returns what ``make`` gives, as JSON; where ``path`` holds the result for the same ``asked``, that.

    A result for something else is made anew. It is written beside and renamed, so that a file is whole or absent.
    """
    wanted = json.loads(json.dumps(asked))
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if found["asked"] == wanted:
            return found["result"]
    path.parent.mkdir(parents=True, exist_ok=True)
    result = make()
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps({"asked": wanted, "result": result}, indent=1), "utf-8")
    beside.rename(path)
    return json.loads(json.dumps(result))


def trained(out: Path, arguments: Sequence[str]) -> Path:
    """Returns the folder of the model that ``intermodal`` trains with ``arguments``; an interrupted run goes on.

    One that was begun or ended with other arguments stops the script: what it left has to be removed by hand.
    """
    settings, done = out / "arguments.json", out / "trained.json"
    wanted = list(map(str, arguments))
    if settings.exists() and json.loads(settings.read_text("utf-8")) != wanted:
        sys.exit(f"{out} holds a training with other arguments; give another --work, or remove that folder")
    if not done.exists():
        out.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(wanted), "utf-8")
        made = _steps.run({"train": [*wanted, "--out", "{out}", "--resume"]}, out, out)["train"]
        done.write_text(json.dumps(made), "utf-8")
    return out / "model"


def sets(*changes: str) -> list[str]:
    """Returns the arguments that make these changes."""
    return [part for change in changes for part in ("--set", change)]


def beside(path: Path) -> Path:
    """Returns an empty folder beside ``path``, to be renamed to it when it is whole."""
    folder = path.with_name(f".{path.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def spoken_otherwise(samples: np.ndarray, rate: int, draws: np.random.Generator, most: float) -> np.ndarray:
    """Returns a recording ``(C, S)`` as if spoken faster or slower, louder or softer, and a little later.

    Args:
        samples: at ``rate``.
        rate: samples per second.
        draws: decide.
        most: by which share of itself the speed may differ, and with it the pitch.
    """
    from intermodal.modalities.audio import Audio

    speed = 1 + draws.uniform(-most, most)
    varied = Audio(samples, round(rate * speed)).resampled(rate).samples * draws.uniform(0.5, 1.3)
    late = np.zeros((len(varied), draws.integers(0, rate // 20)), np.float32)
    return np.concatenate((late, varied), axis=1).clip(-1, 1).astype(np.float32)


def wanted_or_not(value: float, asked: float) -> str:
    """Returns whether a figure in percent is what was asked, in words."""
    return "met" if value >= asked else "NOT MET"
