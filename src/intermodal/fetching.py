"""Models and data of the hub: in its cache, or fetched into it; what is fetched is never code and never pickled."""

import importlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from intermodal import catalog
from intermodal.errors import IntermodalError, InvalidCheckpoint, InvalidValue, MissingExtra

HUB = "hub:"
NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
"""A pattern of ``owner/name``; two dots in it are refused besides."""
OPEN_CLIP, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""What a folder in open_clip's layout holds in place of, or beside, files of the usual names."""
PIPELINE = "model_index.json"
"""What a published folder of several networks, each in a folder of its own, has in place of a ``config.json``."""
MODULES, CLIP_INSIDE = "modules.json", "0_CLIPModel"
"""What a folder of sentence-transformers has; and the folder in it that a CLIP lies in, where the top has no config."""
SETTINGS = ["*.json", "*.jinja", "*.txt", "*.model", "*.md"]
"""What is fetched of a model beside its weights: nothing pickled, nothing run but a chat template, in a sandbox."""

_LOG = logging.getLogger(__name__)


def hub_folder(name: str) -> Path:
    """Returns the folder of ``hub:owner/name`` in the cache of the hub; fetched only where it is not there whole.

    ``hub:owner/name@revision`` names a branch, tag or commit; without one it is the main branch as it was first
    fetched, so that a name means the same from run to run. Weights are safetensors alone; no code is fetched.

    Raises:
        InvalidValue: it is no such name.
        MissingExtra: huggingface_hub is not installed.
        InvalidCheckpoint: it is not here and cannot be fetched: no network, no such name, or no access.
    """
    repo, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(NAME, repo) or ".." in name:
        raise InvalidValue(f"{name!r} is no name of the hub; write hub:owner/name, or hub:owner/name@revision")
    return snapshot(name, repo, revision, SETTINGS, _lacking, _weights)


def snapshot(
    name: str,
    repo: str,
    revision: str,
    patterns: Sequence[str],
    lacking: Callable[[Path], list[str]],
    more: Callable[[Path], Iterable[Sequence[str]]] | None = None,
    kind: str = "model",
    mark: Path | None = None,
) -> Path:
    """Returns the folder of some files of the hub, in its cache; fetched only where they are not there whole.

    Args:
        name: as it was asked for, for messages.
        repo: owner/name.
        revision: a branch, tag or commit; empty for the main branch.
        patterns: of the files.
        lacking: says which files a folder lacks.
        more: says which further files to fetch once these are there, in turn, until none is lacking.
        kind: model or dataset.
        mark: a file that stands while they are fetched; where it stands already, fetching was interrupted and goes on.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        InvalidCheckpoint: they are not here and cannot be fetched: no network, no such name, or no access.
    """
    hub = library(f"loading {name}")

    def ask(here: bool, patterns: Sequence[str], commit: str = "") -> Path:
        about = {"repo_type": kind, "revision": commit or revision or None, "local_files_only": here}
        return Path(hub.snapshot_download(repo, allow_patterns=list(patterns), **about))

    try:
        found = ask(True, patterns)
        if not lacking(found) and not (mark and mark.exists()):
            return found
    except Exception:  # not in the cache; the library has several errors for that
        _LOG.debug("%s is not in the cache of the hub", name)
    _LOG.warning("fetching %s from the hub; it is kept in its cache", name)
    try:
        if mark:
            mark.touch()
        found = ask(False, patterns)
        for further in more(found) if more else ():
            if lacking(found):
                found = ask(False, [*patterns, *further], found.name)
    except IntermodalError:
        raise
    except Exception as error:  # whatever the network, the hub or the library raise
        raise _unreachable(name, error) from error
    if mark:
        mark.unlink()
    if missing := lacking(found):
        form = "its weights are not published as safetensors" if kind == "model" else "it is not published as parquet"
        raise InvalidCheckpoint(
            f"{name} cannot be fetched whole: it lacks {', '.join(missing)}; either the network went, or {form}"
        )
    return found


def _unreachable(name: str, error: Exception) -> InvalidCheckpoint:
    """Returns the error for what could not be fetched."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InvalidCheckpoint(
        f"{name} is not on this machine and cannot be fetched ({type(error).__name__}: {reason}); check the name and "
        "the network, or give the path of a folder that was downloaded elsewhere"
    )


def library(purpose: str) -> Any:
    """Returns the library of the hub, which ``purpose`` needs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "models", purpose) from error


def _weights(folder: Path) -> Iterator[list[str]]:
    """Yields which weights to fetch of a model whose other files are here: of a pipeline one form of each, no more."""
    if (folder / PIPELINE).exists():
        yield from catalog.module("adapters", "diffusers_pipeline").wanted(folder)
    else:
        yield ["*.safetensors", "encoders/*.onnx"]  # of ONNX files those that a model is joined of


def _lacking(folder: Path) -> list[str]:
    """Returns which of the config and all weights a folder of the hub's cache does not hold."""
    if is_open_clip(folder):
        return [name for name in (OPEN_CLIP, OPEN_CLIP_WEIGHTS) if not (folder / name).exists()]
    if (folder / PIPELINE).exists():
        absent: list[str] = catalog.module("adapters", "diffusers_pipeline").lacking(folder)
        return absent
    inside = folder
    if (folder / MODULES).exists() and not (folder / "config.json").exists():
        inside = folder / CLIP_INSIDE
    index = inside / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values()))
    wanted = [inside / name for name in ("config.json", *names)]
    return [path.relative_to(folder).as_posix() for path in wanted if not path.exists()]


def is_open_clip(folder: Path) -> bool:
    """Returns whether a folder is read as open_clip's: it has its config, and is not whole in another layout."""
    if not (folder / OPEN_CLIP).exists():
        return False
    try:
        header = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return True
    known = isinstance(header, dict) and not header.keys().isdisjoint(("system", "model_type"))
    return not known or not any((folder / f"model.safetensors{end}").exists() for end in ("", ".index.json"))
