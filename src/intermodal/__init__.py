"""Connect modalities: one space for text, images, audio, video and time series.

Search any with any, measure how well, and train it all on a laptop. Names below are imported when they are first used,
so that ``import intermodal`` itself is light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intermodal.adapters._layouts import export
    from intermodal.adapters.compound import Compound
    from intermodal.adapters.connected import connect
    from intermodal.diorama.source import Diorama
    from intermodal.errors import (
        IntermodalError,
        InvalidCheckpoint,
        InvalidData,
        InvalidValue,
        MissingExtra,
        StoreError,
        UnknownName,
        UnreadableMedia,
        Unsupported,
    )
    from intermodal.items import open_item
    from intermodal.library.library import Library
    from intermodal.modalities.audio import Audio
    from intermodal.modalities.image import Image
    from intermodal.modalities.text import Text
    from intermodal.modalities.timeseries import TimeSeries
    from intermodal.modalities.video import Video
    from intermodal.publishing import push
    from intermodal.saving import load_model as load
    from intermodal.saving import save_model as save
    from intermodal.serving.client import Client
    from intermodal.types import Batch, Encoded, Grid, Symbols

__version__ = "0.1.0"

_ERRORS = (
    "IntermodalError",
    "InvalidCheckpoint",
    "InvalidData",
    "InvalidValue",
    "MissingExtra",
    "StoreError",
    "UnknownName",
    "UnreadableMedia",
    "Unsupported",
)
_HOMES: dict[str, tuple[str, str]] = {
    "Audio": ("modalities.audio", "Audio"),
    "Batch": ("types", "Batch"),
    "Client": ("serving.client", "Client"),
    "Compound": ("adapters.compound", "Compound"),
    "Diorama": ("diorama.source", "Diorama"),
    "Encoded": ("types", "Encoded"),
    "Grid": ("types", "Grid"),
    "Image": ("modalities.image", "Image"),
    "Library": ("library.library", "Library"),
    "Symbols": ("types", "Symbols"),
    "Text": ("modalities.text", "Text"),
    "TimeSeries": ("modalities.timeseries", "TimeSeries"),
    "Video": ("modalities.video", "Video"),
    "connect": ("adapters.connected", "connect"),
    "export": ("adapters._layouts", "export"),
    "load": ("saving", "load_model"),
    "open_item": ("items", "open_item"),
    "push": ("publishing", "push"),
    "save": ("saving", "save_model"),
    **{name: ("errors", name) for name in _ERRORS},
}

__all__ = [
    "Audio",
    "Batch",
    "Client",
    "Compound",
    "Diorama",
    "Encoded",
    "Grid",
    "Image",
    "IntermodalError",
    "InvalidCheckpoint",
    "InvalidData",
    "InvalidValue",
    "Library",
    "MissingExtra",
    "StoreError",
    "Symbols",
    "Text",
    "TimeSeries",
    "UnknownName",
    "UnreadableMedia",
    "Unsupported",
    "Video",
    "connect",
    "export",
    "load",
    "open_item",
    "push",
    "save",
]


def __getattr__(name: str) -> Any:
    """Returns a public name from its home, imported now."""
    if name not in _HOMES:
        raise AttributeError(f"module 'intermodal' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(f"intermodal.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names."""
    return sorted([*__all__, "__version__"])
