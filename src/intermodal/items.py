"""Files and bytes of any modality to items."""

from pathlib import Path
from typing import Any, Protocol

from intermodal import catalog
from intermodal.errors import UnreadableMedia
from intermodal.media.source import read_source, sniff
from intermodal.types import Item


class Readable(Protocol):
    """A file that has no path of its own, such as the member of an archive: a ``zipfile.Path``."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def read_bytes(self) -> bytes:
        """Returns what is in it."""
        ...


def open_item(source: str | Path | bytes | Readable, at_least: tuple[int, int] | None = None) -> Item:
    """Returns the item in a file or in bytes, its modality told by the content.

    Args:
        source: a path, the bytes of a file, or a file of another kind.
        at_least: a height and width that suffice for a picture; a larger JPEG is decoded smaller, which is faster.

    Raises:
        UnreadableMedia: it is none that this package reads; says what and why.
    """
    given = source if isinstance(source, str | Path | bytes) else source.read_bytes()
    data, name = read_source(given)
    name = name if isinstance(source, str | Path | bytes) else source.name
    modality = sniff(data, name)[0]
    kind: Any = catalog.module("modalities", modality).ITEM
    try:
        if modality == "image":
            picture: Item = kind.open(data, at_least)
            return picture
        item: Item = kind.open(data if isinstance(given, bytes) else given)
        return item
    except UnreadableMedia as error:
        raise UnreadableMedia(str(error).replace(f"{len(data)} bytes", name, 1)) from error
