"""``intermodal index``: media to a searchable library."""

from pathlib import Path
from typing import Annotated

import typer

from intermodal.cli.console import JSON, bar, finish, say


def command(
    library: Annotated[Path, typer.Argument(help="Folder of the library; made if absent.")],
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    model: Annotated[str, typer.Option(help="Folder of a saved model, or a shipped one's name.")] = "diorama",
    width: Annotated[
        int | None,
        typer.Option(help="Numbers kept of each vector, in a new library; for models trained with matryoshka."),
    ] = None,
    json: bool = JSON,
) -> None:
    """Add files to a library; what is already in it is skipped, so a run that was killed goes on where it was."""
    from intermodal import runtime
    from intermodal.cli.items import embedding
    from intermodal.errors import InvalidValue
    from intermodal.library.library import Library

    runtime.threads()
    loaded = embedding(model)
    store = (
        Library.open(library, loaded)
        if library.exists() and any(library.iterdir())
        else Library.create(library, loaded, width=width)
    )
    if width not in (None, store.width):
        raise InvalidValue(
            f"the library {library} keeps {store.width or 'all'} numbers of each vector, and --width says {width}; "
            "leave it out, or make a new library"
        )
    with bar("indexing") as progress:
        added = store.add(*sources, progress=progress.update)
    for source, reason in added.failed[:20]:
        say(f"skipped {source}: {reason}")
    if len(added.failed) > 20:
        say(f"and {len(added.failed) - 20} more; all of them with --json")
    result = {
        "library": str(library),
        "added": added.added,
        "already_in": added.skipped,
        "total": len(store),
        "failed": [{"source": s, "reason": r} for s, r in added.failed],
        "seconds": added.seconds,
    }
    text = (
        f"{added.added} items added, {added.skipped} were already in, {len(added.failed)} could not be read; "
        f"{len(store)} in {library}"
    )
    finish(result, json, text, f'intermodal search {library} "a small red circle"')
