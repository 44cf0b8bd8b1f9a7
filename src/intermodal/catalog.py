"""Names to files: the catalogue is the folder.

``systems/clip.py`` is ``"clip"`` because of its path. Names are used at the edges only (command line, HTTP, saved
models); inside the package parts are passed in. The listing is the allow-list: a name that is no file is refused.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from intermodal.errors import UnknownName

CATALOGUED = ("adapters", "fusion", "modalities", "systems", "tokenizers")


@cache
def names(folder: str) -> tuple[str, ...]:
    """Returns the names that a catalogued folder holds, sorted; imports nothing."""
    if folder not in CATALOGUED:
        raise UnknownName("catalogued folder", folder, CATALOGUED)
    path = Path(__file__).parent / folder
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(path)]) if not m.name.startswith("_")))


def module(folder: str, name: str) -> ModuleType:
    """Returns the module that ``name`` stands for.

    Raises:
        UnknownName: there is no such file; the message lists those there are.
    """
    if name not in names(folder):
        raise UnknownName(folder.removesuffix("s").replace("modalitie", "modality"), name, names(folder))
    return importlib.import_module(f"intermodal.{folder}.{name}")


def system_of(config: Any) -> ModuleType:
    """Returns the module of the system that a config describes."""
    return module("systems", type(config).__module__.rpartition(".")[2])
