"""``intermodal search``: any item finds any other."""

import json as json_
from pathlib import Path
from typing import Annotated

import typer

from intermodal.cli.console import JSON, finish, table


def command(
    library: Annotated[Path, typer.Argument(help="Folder of the library.")],
    query: Annotated[str, typer.Argument(help="A file of any modality, or words.")],
    model: Annotated[str | None, typer.Option(help="The library's model, where it has moved.")] = None,
    among: Annotated[str, typer.Option(help="Only these modalities, with commas.")] = "",
    top: Annotated[int, typer.Option(help="How many hits.")] = 5,
    where: Annotated[list[str] | None, typer.Option(help="Only items whose metadata say key=value.")] = None,
    json: bool = JSON,
) -> None:
    """Search a library with words, a picture, a sound, a clip or a series."""
    from intermodal import runtime
    from intermodal.cli.items import item_of
    from intermodal.errors import StoreError
    from intermodal.library.library import Library
    from intermodal.saving import load_model

    runtime.threads()
    store = Library.open(library)
    if not (model or store.model_name):
        raise StoreError(f"the library {str(library)!r} does not say where its model lies; give --model")
    store.model = load_model(model or store.model_name)
    hits = store.search(
        item_of(query, store.model),
        among=[m for m in among.split(",") if m] or None,
        top=top,
        where=_values(where or []) or None,
    )
    rows = []
    for hit in hits:
        part = "" if hit.start_s is None else f"{hit.start_s:.1f}-{hit.stop_s:.1f} s"
        rows.append([f"{hit.score:.2f}", f"{hit.cosine:.3f}", hit.modality, str(hit.source), part])
    found = [
        {
            "id": h.id,
            "modality": h.modality,
            "score": h.score,
            "cosine": h.cosine,
            "source": str(h.source),
            "start_s": h.start_s,
            "stop_s": h.stop_s,
            "metadata": h.metadata,
        }
        for h in hits
    ]
    shown = table(rows, ["score", "cosine", "modality", "source", "part"]) if rows else "nothing found"
    finish({"query": query, "hits": found}, json, shown)


def _values(conditions: list[str]) -> dict[str, str | float | bool]:
    """Returns conditions with numbers and booleans as such: ``year=1990`` is a number, ``place=Rome`` a string."""
    from intermodal.cli.console import settings

    values: dict[str, str | float | bool] = {}
    for key, text in settings(conditions).items():
        try:
            value = json_.loads(text)
        except ValueError:
            value = text
        values[key] = value if isinstance(value, str | int | float | bool) else text
    return values
