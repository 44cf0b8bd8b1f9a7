"""What a data source is, and the sources that the command line can name."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from intermodal.errors import InvalidValue, UnknownName
from intermodal.types import Sample

_KNOWN = (
    "diorama",
    "shots",
    "the path of a folder that holds metadata.jsonl",
    "wds:PATTERN of tar files",
    "hf:FOLDER of parquet files, or hf:OWNER/NAME",
)


class Source(Protocol):
    """Numbered samples; the same number gives the same sample always."""

    fields: dict[str, str]

    def __len__(self) -> int:
        """Returns the number of samples."""
        ...

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the samples ``index``; a missing modality is a missing key."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what a report should say of this data, as JSON: name, split, count, seed."""
        ...


@runtime_checkable
class Varies(Protocol):
    """A source that shows its samples differently from epoch to epoch, such as one caption of several."""

    def at_epoch(self, epoch: int) -> Source:
        """Returns the source as it is in ``epoch``."""
        ...


def open_source(name: str, split: str | None, **options: Any) -> Source:
    """Returns the source that ``name`` stands for.

    Args:
        name: ``diorama``, ``shots``, the path of a folder with ``metadata.jsonl``, ``wds:`` and a pattern of shards,
            or ``hf:`` and a folder of parquet files or a data set of the hub; see docs/data.md.
        split: train, dev, test, or another split that the source has; None for all rows.
        options: what the source takes besides, such as ``fields``.

    Raises:
        UnknownName: ``name`` is none of these.
        InvalidValue: an option that the source does not take.
        InvalidData: files that cannot be read as samples.
        MissingExtra: a name of the hub, and what fetches it is not installed.
    """
    if name == "diorama":
        from intermodal.diorama.source import Diorama

        _accepts(Diorama, name, options)
        return Diorama(split or "train", **options)
    if name == "shots":
        from intermodal.diorama.shots import Shots

        _accepts(Shots, name, options)
        return Shots(split or "train", **options)
    form, _, rest = name.partition(":")
    if form == "wds":
        from intermodal.data.shards import shards

        _accepts(shards, name, options)
        return shards(rest, split, **options)
    if form == "hf":
        from intermodal.data.parquet import parquet

        _accepts(parquet, name, options)
        return parquet(rest, split, **options)
    path = Path(name).expanduser()
    if path.is_file():
        raise InvalidValue(f"{name} is a file; give the folder that it is in")
    if not path.is_dir():
        raise UnknownName("data source", name, _KNOWN)
    from intermodal.data.folder import Folder

    _accepts(Folder, name, options)
    return Folder(path, split, **options)


def _accepts(source: Callable[..., Source], name: str, options: dict[str, Any]) -> None:
    """Raises where a source does not take one of the options."""
    known = [p for p in inspect.signature(source).parameters if p not in ("path", "split")]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of the data source {name}", option, known)
