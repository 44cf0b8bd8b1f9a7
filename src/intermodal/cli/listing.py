"""``intermodal list``: what there is."""

import json as json_
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, finish, table
from intermodal.errors import UnknownName

KINDS = ("systems", "models", "modalities", "data", "verbs")


def command(
    kind: Annotated[
        str, typer.Argument(help="systems, models, modalities, data or verbs; all of them if left out.")
    ] = "",
    folders: Annotated[
        list[Path] | None, typer.Argument(help="With models: also those saved in these folders, at any depth.")
    ] = None,
    json: bool = JSON,
) -> None:
    """List the systems, shipped models, modalities and data sources."""
    if kind and kind not in KINDS:
        raise UnknownName("kind of thing to list", kind, KINDS)
    if kind == "models":
        told = models(folders or [])
        rows = [[one["name"], one["system"], f"{one['MiB']:.1f}", ", ".join(one["fields"]), _said(one)] for one in told]
        shown_ = table(rows, ["model", "system", "MiB", "fields", "measured"]) if rows else "(none)"
        finish({"models": told}, json, shown_, "intermodal evaluate MODEL --keep, which measures one")
        return
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


def models(folders: list[Path]) -> list[dict[str, Any]]:
    """Returns what is known of the shipped models and of those saved in folders; no weights are read.

    Args:
        folders: each is a model, or holds some at any depth.
    """
    shipped = Path(__file__).parent.parent / "weights"
    found = [(path.parent.name, path) for path in sorted(shipped.glob("*/config.json"))]
    found += [(str(path.parent), path) for folder in folders for path in sorted(folder.rglob("config.json"))]
    return [one for name, path in found if (one := _model(name, path)) is not None]


def _model(name: str, path: Path) -> dict[str, Any] | None:
    """Returns what is known of the model whose config this is; None where it is none of this package."""
    from intermodal.saving import figures_of

    try:
        header = json_.loads(path.read_text("utf-8"))
        system, config = str(header["system"]), header["config"]
    except (KeyError, TypeError, ValueError, OSError):
        return None
    weights = path.with_name("model.safetensors")
    return {
        "name": name,
        "system": system,
        "MiB": weights.stat().st_size / 2**20 if weights.exists() else 0.0,
        "fields": sorted(_fields(config)),
        "figures": figures_of(path.parent),
    }


def _fields(config: Any) -> set[str]:
    """Returns the fields that a config names: of its towers, or of its own list."""
    known = config if isinstance(config, dict) else {}
    own = known.get("fields") or known.get("towers") or {}
    return set(own) if isinstance(own, dict) else set()


def _said(model: dict[str, Any]) -> str:
    """Returns the means of what was measured of a model."""
    said = []
    for kind, told in model["figures"].items():
        mean = 100 * statistics.mean(told["pairs"].values())
        said.append(f"{kind} {mean:.1f} % (mean of {len(told['pairs'])})")
    return "; ".join(said) or "-"
