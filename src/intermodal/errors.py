"""Every error this package raises on purpose.

    IntermodalError
    ├── UnreadableMedia      bytes that do not become an item: truncated, empty, hostile, over a limit, unknown format
    ├── InvalidValue         an argument, config field or option outside its range
    │   └── UnknownName      a name that the catalogue, a config or a dataset does not have; lists those it has
    ├── InvalidData          a dataset row or folder that cannot be read as samples
    ├── InvalidCheckpoint    saved weights that do not fit the model; lists every missing and unexpected key
    ├── Unsupported          a model asked for something it was not built or trained to do
    ├── StoreError           a library on disk that is damaged, absent or made by another model
    └── MissingExtra         an optional package that is not installed; says the pip command

Each message is one sentence: what was wrong, the value, what was expected, what to do. The command line prints it
and exits with 2.
"""

from collections.abc import Iterable


class IntermodalError(Exception):
    """Base of all errors raised on purpose by this package."""


class UnreadableMedia(IntermodalError, ValueError):
    """Bytes that cannot be made into an item; the message says what they are and why not."""


class InvalidValue(IntermodalError, ValueError):
    """A value given by the caller that is outside what is accepted."""


class UnknownName(InvalidValue):
    """A name that does not exist where it was looked up."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Builds the message; ``known`` is listed in it."""
        super().__init__(f"there is no {kind} named {name!r}; use one of: {', '.join(sorted(known)) or '(none)'}")


class InvalidData(IntermodalError, ValueError):
    """A dataset that cannot be read as samples."""


class InvalidCheckpoint(IntermodalError, ValueError):
    """Saved weights or a saved config that do not fit the model."""


class Unsupported(IntermodalError, TypeError):
    """A model was asked for a capability, field or direction that it does not have."""


class StoreError(IntermodalError, RuntimeError):
    """A library on disk that cannot be used as it is."""


class MissingExtra(IntermodalError, ImportError):
    """An optional package is absent."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Builds the message with the command that installs ``extra``."""
        super().__init__(f"{purpose} needs the package {package!r}: run  pip install 'intermodal[{extra}]'")
