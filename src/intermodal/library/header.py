"""``library.json``: what makes a folder a library, and which model made it."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intermodal.errors import InvalidValue, StoreError, Unsupported
from intermodal.library.durable import DAMAGED, write_durably
from intermodal.library.sources import HEADER
from intermodal.library.windows import Windows
from intermodal.types import Embeds

FORMAT = 1
DERIVED = "derived"
"""The folder of files that can be made again."""


def make(folder: Path, model: object, windows: Windows, width: int | None = None) -> None:
    """Makes a folder a library.

    Args:
        folder: made if absent.
        model: makes the vectors.
        windows: how long media are cut.
        width: only the first so many numbers of each vector are kept; None for all.

    Raises:
        InvalidValue: the width is below 1.
        StoreError: the folder holds something.
    """
    if width is not None and width < 1:
        raise InvalidValue(f"width is {width}; give at least 1, or nothing for whole vectors")
    if folder.exists() and (not folder.is_dir() or any(not name.startswith(".") for name in os.listdir(folder))):
        what = "a library; use Library.open" if (folder / HEADER).exists() else "something else; give a new folder"
        raise StoreError(f"{str(folder)!r} holds {what}")
    folder.mkdir(parents=True, exist_ok=True)
    made_by = {"name": said(model, "name"), "identity": identity(model)}
    told = {"format": FORMAT, "model": made_by, "windows": asdict(windows)}
    write_durably(folder / HEADER, json.dumps(told if width is None else {**told, "width": width}, indent=1))


def said(model: object, attribute: str) -> str:
    """Returns what a model says of itself; empty where it says nothing."""
    value = getattr(model, attribute, None)
    value = value() if callable(value) else value
    return "" if value is None else str(value)


def identity(model: object) -> str:
    """Returns what tells a model from others: its ``fingerprint``, else its ``name``, else nothing.

    Raises:
        Unsupported: it makes no vectors.
    """
    if model is not None and not isinstance(model, Embeds):
        who = said(model, "name") or type(model).__name__
        raise Unsupported(f"{who} does not embed, so it makes no library; give a model that does")
    return said(model, "fingerprint") or said(model, "name")


def remove(folder: Path) -> None:
    """Removes a library from its folder; the header goes last, so that a half-removed one still is a library."""
    for name in (DERIVED, "items.lance", DAMAGED):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("write.lock", HEADER):
        (folder / name).unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Returns what is written about a library.

    Raises:
        StoreError: there is none, or it is of a newer format.
    """
    try:
        header: dict[str, Any] = json.loads((path / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"there is no library in {str(path)!r}; make one with Library.create") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path / HEADER)!r} cannot be read ({error}); restore it from a copy") from error
    if header.get("format") != FORMAT:
        raise StoreError(
            f"{str(path)!r} has the format {header.get('format')!r}, and this version reads {FORMAT}; update"
        )
    return header
