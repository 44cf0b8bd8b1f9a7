"""What a person types for an item: a path, or words."""

import glob
import os
from pathlib import Path
from typing import Any

from intermodal import catalog
from intermodal.errors import UnreadableMedia, Unsupported
from intermodal.items import open_item
from intermodal.types import Embeds, Item


def item_of(words: str, model: Any = None) -> Item:
    """Returns the item in the file ``words``, or the text ``words`` where there is no such file.

    Args:
        words: as they were typed.
        model: for which it is opened; a large picture is decoded as small as the model's own sources are.

    Raises:
        UnreadableMedia: the file is unreadable, or ``words`` looks like a path and there is no such file.
    """
    text = text_of(words)
    if text is not None:
        return text
    if model is None:
        return open_item(Path(words))
    from intermodal.data.stream import picture_size

    return open_item(Path(words), picture_size(model))


def embedding(name: str) -> Embeds:
    """Returns the loaded model ``name``.

    Raises:
        Unsupported: it makes no vectors.
    """
    from intermodal.saving import load_model

    model = load_model(name)
    if not isinstance(model, Embeds):
        raise Unsupported(f"{name} does not embed; `intermodal list models` says which models do")
    return model


def text_of(words: str) -> Item | None:
    """Returns the text ``words``; None where they are the path of a file or a folder.

    Raises:
        UnreadableMedia: ``words`` looks like a path and there is no such file.
    """
    path = Path(words)
    try:
        exists = path.exists()
    except OSError:  # too long for a name
        exists = False
    if exists:
        return None
    if " " not in words and (os.sep in words or 0 < len(path.suffix) <= 5):
        raise UnreadableMedia(f"there is no file {words!r}; give an existing file, or words with a blank for a text")
    text: Item = catalog.module("modalities", "text").ITEM(words)
    return text


def is_many(words: str) -> bool:
    """Returns whether ``words`` stand for several files: a folder, or a pattern that matches one."""
    if os.path.lexists(words):
        return os.path.isdir(words)
    return any(letter in words for letter in "*?[") and next(glob.iglob(words, recursive=True), None) is not None
