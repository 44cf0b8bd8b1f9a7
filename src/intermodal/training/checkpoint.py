"""Checkpoints of a run: whole or absent, without pickle, and complete enough to go on with the same numbers.

    RUN/checkpoints/step-00001200/   model.safetensors  optimizer.safetensors  state.json

A checkpoint is written beside as ``.step-...tmp``, synced and renamed. Only complete ones have the plain name.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from intermodal.errors import InvalidCheckpoint
from intermodal.saving import load_weights, replace_folder

_NAME = re.compile(r"step-(\d{8,})$")


def checkpoints(run: Path) -> list[Path]:
    """Returns the complete checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    found = [p for p in folder.iterdir() if _NAME.match(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def save_checkpoint(
    run: Path, step: int, model: nn.Module, optimizers: Sequence[Optimizer], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Writes the state after ``step`` steps, drops all but the newest ``keep`` checkpoints, and returns its path."""
    target = run / "checkpoints" / f"step-{step:08d}"
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, beside / "model.safetensors")
    tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    for which, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"{which}.{index}.{key}"] = torch.as_tensor(value).cpu().contiguous()
    save_file(tensors, beside / "optimizer.safetensors")
    (beside / "state.json").write_text(json.dumps({"step": step, "optimizers": len(optimizers), **state}))
    replace_folder(beside, target)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return target


def load_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Puts model, optimizers and random numbers back as they were and returns the saved state with its ``step``.

    Raises:
        InvalidCheckpoint: the files do not fit the model or the optimizers, or cannot be read.
    """
    load_weights(model, path / "model.safetensors")
    try:
        tensors = load_file(path / "optimizer.safetensors")
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidCheckpoint(
            f"the checkpoint {path} cannot be read: {error}; delete it to go on from the one before"
        ) from error
    torch.set_rng_state(tensors.pop("rng.cpu"))
    cuda = tensors.pop("rng.cuda", None)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    count = state.pop("optimizers", None)
    if count != len(optimizers):
        raise InvalidCheckpoint(f"the checkpoint {path} is of {count} optimizers, the run has {len(optimizers)}")
    moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        which, index, key = name.split(".", 2)
        moments[int(which)].setdefault(int(index), {})[key] = tensor
    for optimizer, found in zip(optimizers, moments, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        if len(found) > sum(len(g["params"]) for g in groups):
            raise InvalidCheckpoint(
                f"the checkpoint {path} has moments of {len(found)} parameters, more than the model has"
            )
        optimizer.load_state_dict({"state": found, "param_groups": groups})
    return state
