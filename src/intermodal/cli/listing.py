"""``intermodal list``: what there is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, finish
from intermodal.errors import UnknownName

KINDS = ("systems", "models", "modalities", "data", "verbs")


def command(
    kind: Annotated[
        str, typer.Argument(help="systems, models, modalities, data or verbs; all of them if left out.")
    ] = "",
    json: bool = JSON,
) -> None:
    """List the systems, shipped models, modalities and data sources."""
    if kind and kind not in KINDS:
        raise UnknownName("kind of thing to list", kind, KINDS)
    found = listing()
    shown = {kind: found[kind]} if kind else found
    text = "\n".join(f"{name:<11} {'  '.join(values) or '(none)'}" for name, values in shown.items())
    finish(shown, json, text, "intermodal train clip --data diorama --set train.minutes=4")


def listing() -> dict[str, Any]:
    """Returns the names of each kind; imports nothing heavy."""
    from intermodal import catalog
    from intermodal.cli.app import VERBS

    weights = Path(__file__).parent.parent / "weights"
    models = sorted(p.parent.name for p in weights.glob("*/config.json"))
    return {
        "systems": list(catalog.names("systems")),
        "models": models,
        "modalities": list(catalog.names("modalities")),
        "data": ["diorama", "FOLDER (with metadata.jsonl)"],
        "verbs": list(VERBS),
    }
