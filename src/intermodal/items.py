"""Files and bytes of any modality to items."""

from pathlib import Path

from intermodal import catalog
from intermodal.media.source import modality_of
from intermodal.types import Item


def open_item(source: str | Path | bytes) -> Item:
    """Returns the item in a file or in bytes, its modality told by the content.

    Raises:
        UnreadableMedia: it is none that this package reads; says what and why.
    """
    item: Item = catalog.module("modalities", modality_of(source)).ITEM.open(source)
    return item
