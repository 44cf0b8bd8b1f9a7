"""What a search gives."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from intermodal.errors import StoreError, UnreadableMedia
from intermodal.library.store import CONTENT, Store
from intermodal.library.windows import load
from intermodal.media.source import read_source
from intermodal.types import Item


@dataclass(frozen=True)
class Hit:
    """An item of a library, and how well it fits a query.

    Attributes:
        id: of the item in the library: its content, and the number of the window.
        modality: text, image, audio, video or timeseries.
        score: how far the cosine stands above what is usual between the two modalities, in deviations; comparable
            across modalities. NaN where there was no query.
        cosine: with the query; comparable within a modality. NaN where there was no query.
        source: path of the file, or the name of where it came from.
        start_s: where the item begins in its source; None where it has no time.
        stop_s: where it ends.
        metadata: what was said of it when it was added.
    """

    id: str
    modality: str
    score: float
    cosine: float
    source: str
    start_s: float | None
    stop_s: float | None
    metadata: Mapping[str, Any]
    _load: Callable[[], Item] = dataclass_field(repr=False, compare=False)

    @property
    def item(self) -> Item:
        """The item itself, read from its file or from the library each time it is asked for.

        Raises:
            StoreError: the file is gone or no longer what it was, or the library kept no copy.
        """
        return self._load()


def as_hit(row: Mapping[str, Any], score: float, cosine: float, store: Store) -> Hit:
    """Returns a hit for a row of the store."""
    told = {key: row[key] for key in ("id", "modality", "source", "start_s", "stop_s")}
    metadata = json.loads(row["metadata"])
    return Hit(
        **told,
        score=score,
        cosine=min(max(cosine, -1.0), 1.0),
        metadata=metadata,
        _load=lambda: _item(store, {**told, **metadata, **told}),
    )


def _item(store: Store, row: Mapping[str, Any]) -> Item:
    """Returns the item of a row: from the store where it is kept there, else from its file."""
    kept = store.snapshot().media(row["id"])
    try:
        if kept is not None:
            return load(kept, row["id"], row["modality"], {})
        if not os.path.isabs(row["source"]):
            raise StoreError(
                f"the library kept no copy of {row['id']!r} from {row['source']!r}; add with keep_media=True"
            )
        data, name = read_source(row["source"])
        return load(data, name, row["modality"], row if len(row["id"]) > CONTENT else {})
    except UnreadableMedia as error:
        raise StoreError(f"the item {row['id']!r} cannot be read from {row['source']!r} any more: {error}") from error
