"""What lies in a published folder: settings as JSON, and weights that are spent one by one.

Nothing is unpickled; whatever is wrong with the weights is told at once, by name.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intermodal.errors import InvalidCheckpoint

BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")  # in older files: 0, 1, 2, ...


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        InvalidCheckpoint: there is none.
    """
    content = _content(path)
    if not isinstance(content, dict):
        raise InvalidCheckpoint(f"{path} holds a {type(content).__name__}, not an object; give a whole, published one")
    return content


def read_list(path: Path) -> list[Any]:
    """Returns the list in a JSON file.

    Raises:
        InvalidCheckpoint: there is none.
    """
    content = _content(path)
    if not isinstance(content, list):
        raise InvalidCheckpoint(f"{path} holds no list")
    return content


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read ({error}); give a whole, published folder") from error


def is_number(value: Any, wanted: float) -> bool:
    """Returns whether a setting is this number, up to how many digits were written."""
    return isinstance(value, int | float) and math.isclose(value, wanted, rel_tol=1e-4)


def number(settings: Mapping[str, Any], name: str, default: int = 0) -> int:
    """Returns a whole number of at least 1; of a pair of equal numbers (a square), one."""
    value = settings.get(name, default)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidCheckpoint(f"{name} is {settings.get(name)!r}; expected a whole number of at least 1")
    return value


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with the weights, each once.

    Raises:
        InvalidCheckpoint: there are none, or the index names one that is not in the folder.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    if index.exists():
        return indexed(index)
    check_pickled(folder)
    raise InvalidCheckpoint(f"{folder} holds no model.safetensors; download the weights too")


def indexed(index: Path) -> list[Path]:
    """Returns the files that an index beside them names, each once.

    Raises:
        InvalidCheckpoint: it names none, or one that is not in its folder.
    """
    folder = index.parent
    names = sorted(set(read_object(index).get("weight_map", {}).values()))
    absent = [name for name in names if Path(name).name != name or not (folder / name).exists()]
    if absent or not names:
        raise InvalidCheckpoint(f"{index} names files that {folder} does not hold: {', '.join(absent) or '(none)'}")
    return [folder / name for name in names]


def check_pickled(folder: Path) -> None:
    """Raises InvalidCheckpoint where a folder without safetensors holds its weights pickled."""
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        raise InvalidCheckpoint(
            f"{folder} holds its weights as {', '.join(pickled)}, which is pickled and never opened here; save them as "
            "safetensors first, by save_pretrained of the library that made them"
        )


def load(files: Sequence[Path]) -> dict[str, Tensor]:
    """Returns all tensors in several files."""
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            found.update(load_file(path))
        except (OSError, SafetensorError) as error:
            raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    return found


class Weights:
    """Published tensors that are spent one by one; what is wrong with them is told at the end, all at once."""

    def __init__(self, found: Mapping[str, Tensor]) -> None:
        """Takes the tensors by their published names."""
        self.left = dict(found)
        self.problems: list[str] = []

    def take(self, name: str, *shape: int) -> Tensor:
        """Returns a tensor in fp32 and spends it; zeros where it is missing or has another shape."""
        value = self.left.pop(name, None)
        if value is None:
            self.problems.append(f"missing {name}")
        elif tuple(value.shape) != shape:
            self.problems.append(f"{name} is {tuple(value.shape)}, not {shape}")
        elif not value.is_floating_point():
            self.problems.append(f"{name} holds {str(value.dtype).removeprefix('torch.')}, not floating point")
        else:
            return value.to(torch.float32, copy=True)  # from a file it starts anywhere in memory: other last bits
        return torch.zeros(shape)

    def finish(self, folder: Path) -> None:
        """Raises where a tensor was missing, did not fit, or is left.

        Raises:
            InvalidCheckpoint: lists all of them.
        """
        problems = self.problems + [f"unexpected {name}" for name in sorted(self.left) if name not in BUFFERS]
        if problems:
            raise InvalidCheckpoint(f"the weights in {folder} do not fit its config.json: {'; '.join(problems)}")
