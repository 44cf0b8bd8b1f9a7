"""What a person types for an item: a path, or words."""

import os
from pathlib import Path

from intermodal import catalog
from intermodal.errors import UnreadableMedia
from intermodal.items import open_item
from intermodal.types import Item


def item_of(words: str) -> Item:
    """Returns the item in the file ``words``, or the text ``words`` where there is no such file.

    Raises:
        UnreadableMedia: the file is unreadable, or ``words`` looks like a path and there is no such file.
    """
    path = Path(words)
    try:
        exists = path.exists()
    except OSError:  # too long for a name
        exists = False
    if exists:
        return open_item(path)
    if " " not in words and (os.sep in words or 0 < len(path.suffix) <= 5):
        raise UnreadableMedia(f"there is no file {words!r}; give an existing file, or words with a blank for a text")
    text: Item = catalog.module("modalities", "text").ITEM(words)
    return text
