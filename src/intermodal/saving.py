"""Saved models: a folder with ``config.json``, ``model.safetensors`` and ``README.md``, the model card.

A folder of published weights, whose ``config.json`` says its ``model_type``, is loaded too, by ``adapters/<type>.py``,
and a published pipeline of several networks, which has a ``model_index.json``, by ``adapters/diffusers_pipeline.py``.

Loading is strict: a missing or unexpected key, or a tensor of another shape, raises and lists all of them. Nothing is
unpickled. A folder is written beside and then renamed, so that it is whole or absent.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from intermodal import catalog, config, fetching, runtime
from intermodal.errors import InvalidCheckpoint, UnknownName, Unsupported

FORMAT = 1
_LOG = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "weights"


def shipped() -> tuple[str, ...]:
    """Returns the names of the models that come with the package."""
    return tuple(sorted(p.name for p in SHIPPED.iterdir() if (p / "config.json").exists())) if SHIPPED.exists() else ()


def save_model(folder: str | Path, model: nn.Module, card: str = "", half: bool = False) -> Path:
    """Writes ``model`` to ``folder``, replacing a model that was there, and returns the path.

    Args:
        folder: made if absent.
        model: a system built by one of ``systems/*.py``; its ``config`` is written with it.
        card: the text of ``README.md``: what it can do, measured figures, data, command.
        half: store weights in float16: half the size, 11 significant bits.
    """
    target = Path(folder)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    system = type(model).__module__.rpartition(".")[2]
    header = {"format": FORMAT, "system": system, "config": config.to_dict(model.config)}
    (beside / "config.json").write_text(json.dumps(header, indent=2) + "\n")
    (beside / "README.md").write_text(card or f"# A {system} model\n\nNo figures were recorded with it.\n")
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    save_file(state, beside / "model.safetensors")
    replace_folder(beside, target)
    return target


def figures_of(folder: Path) -> dict[str, Any]:
    """Returns the figures that are kept with a model: see ``evaluation/kept.py``; none where none are.

    Raises:
        InvalidCheckpoint: the file holds something else.
    """
    path = folder / "figures.json"
    try:
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        told = list(found.values())
        whole = all(isinstance(one["pairs"], dict) and isinstance(one["what"], str) for one in told)
    except (AttributeError, KeyError, TypeError, ValueError, OSError):
        whole = False
    if not whole:
        raise InvalidCheckpoint(f"{path} holds no figures; remove it, or measure again with evaluate --keep")
    return dict(found)


def keep_figures(folder: Path, figures: Mapping[str, Any]) -> Path:
    """Writes the figures that are kept with a model, whole or not at all, and returns the path."""
    path = folder / "figures.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    beside.replace(path)
    return path


def replace_folder(beside: Path, target: Path) -> None:
    """Puts the complete folder ``beside`` in the place of ``target``; syncs it first."""
    for path in (*beside.rglob("*"), beside):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    if target.exists():
        old = beside.with_suffix(".old")
        os.replace(target, old)
        os.replace(beside, target)
        shutil.rmtree(old)
    else:
        os.replace(beside, target)


def load_model(name: str | Path, device: str | None = None, precision: str | None = None) -> Any:
    """Returns the model in a folder, or the shipped one of that name, ready to use (in eval mode).

    Args:
        name: of a folder or a shipped model, or ``hub:owner/name``, see ``hub_folder``.
        device: where it computes; default: ``runtime.device``.
        precision: that it embeds in, fp32, bf16 or int8; default: ``runtime.embedding_precision``. The weights
            themselves stay as they are.

    Raises:
        UnknownName: neither a folder nor a shipped model.
        InvalidCheckpoint: the folder's files do not make a model of this package, or a name of the hub cannot be
            fetched; says what is wrong.
        InvalidValue: there is no such precision.
        Unsupported: a precision was given, and the model does not embed.
    """
    where = runtime.device(device)
    runtime.embedding_precision(precision, where, 0)  # refuses a wrong one before anything is read
    folder = folder_of(name)
    header = header_of(folder)
    if "system" not in header:
        model = _published(folder, str(header["model_type"]))
    else:
        model = _loaded(header, folder / "model.safetensors")
        model.fingerprint = fingerprint([folder / "config.json", folder / "model.safetensors"])
    model.name = str(name) if folder.parent == SHIPPED else str(folder.resolve())
    model.figures = figures_of(folder)
    if str(name).startswith(fetching.HUB):  # the very revision, so that its name gives the same model again
        model.revision = folder.name
        model.name = f"{str(name).partition('@')[0]}@{folder.name}"
    if precision is not None:
        if not hasattr(model, "precision"):
            raise Unsupported(f"{name} does not embed, so precision {precision!r} means nothing to it; leave it out")
        model.precision = precision
    return model.to(where).eval()


def folder_of(name: str | Path) -> Path:
    """Returns the folder of a saved or shipped model, or of one of the hub.

    Raises:
        UnknownName: there is none.
        InvalidCheckpoint: it holds no model, or what is on the hub is not here and cannot be fetched.
        MissingExtra: a name of the hub is given, and what fetches it is not installed.
    """
    if str(name).startswith(fetching.HUB):
        return fetching.hub_folder(str(name))
    folder = Path(name)
    known = ("config.json", fetching.OPEN_CLIP, fetching.PIPELINE, fetching.MODULES)
    if any((folder / name).exists() for name in known):
        return folder
    if folder.is_dir():
        raise InvalidCheckpoint(f"{folder} holds no config.json; give the folder of a saved model")
    if str(name) not in shipped():
        raise UnknownName("folder of a saved model and no shipped model", str(name), shipped())
    return SHIPPED / str(name)


def saved_config(name: str | Path) -> Any:
    """Returns the config of one of our own models, saved in a folder or shipped; its weights are not read.

    Args:
        name: of the folder or shipped model; ``diorama#codecs.image`` for a system inside it.

    Raises:
        UnknownName: neither a folder nor a shipped model, or there is no such system inside.
        InvalidCheckpoint: the folder holds no model of this package.
    """
    folder, inside = _inside(name)
    header = header_of(folder)
    if "system" not in header:
        raise InvalidCheckpoint(f"{folder} holds published weights; a part is taken from a model saved by this package")
    found = config.from_dict(catalog.module("systems", str(header["system"])).Config, header["config"])
    if not inside:
        return found
    if inside not in (parts := config.parts_of(found)):
        raise UnknownName(f"part of {str(name).rpartition('#')[0]}", inside, parts)
    return parts[inside]


def _inside(name: str | Path) -> tuple[Path, str]:
    """Returns the folder of a model, and the dotted path of what is meant inside it; empty for all of it."""
    whole, mark, inside = str(name).rpartition("#")
    if not mark or Path(name).exists():
        return folder_of(name), ""
    return folder_of(whole), inside


def load_part(model: nn.Module, path: str, name: str | Path) -> None:
    """Fills the part of ``model`` at a dotted path, ``codecs.image``, with the weights of a saved model, strictly.

    Args:
        model: what has such a part.
        path: of the part.
        name: as for ``saved_config``.

    Raises:
        Unsupported: the model has no part at that path.
        InvalidCheckpoint: the weights do not fit it.
    """
    try:
        part = model.get_submodule(path)
    except AttributeError as error:
        raise Unsupported(f"{type(model).__name__} has no part {path!r} that could be filled from {name}") from error
    folder, inside = _inside(name)
    load_weights(part, folder / "model.safetensors", inside)


def take_weights(model: nn.Module, name: str | Path, rows: tuple[int, int] | None = None) -> list[str]:
    """Fills ``model`` with those weights of a saved model that it has too, and returns what it did not take.

    Args:
        model: with weights of its own, which the others keep.
        name: of a folder or a shipped model.
        rows: sizes of the two vocabularies, theirs and ours, where ours begins with theirs: what has a row for each of
            the one there, and of the other here, is taken too, and fills the first rows.

    Raises:
        InvalidCheckpoint: the weights cannot be read, or none is taken.
    """
    path = folder_of(name) / "model.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    own, left = model.state_dict(), []
    for key, value in state.items():
        mine = own.get(key)
        grown = mine is not None and rows is not None and (len(value.shape), *value.shape[:1]) == (mine.dim(), rows[0])
        if mine is not None and mine.shape == value.shape:
            mine.copy_(value)
        elif mine is not None and grown and mine.shape == (rows[1], *value.shape[1:]):  # type: ignore[index]
            mine[: len(value)].copy_(value)
        else:
            left.append(f"{key} {tuple(value.shape)}" if mine is None else f"{key}, {tuple(mine.shape)} here")
    if len(left) == len(state):
        raise InvalidCheckpoint(f"{path} has no weight that this model has too; give a model of the same system")
    return left


def _loaded(header: Mapping[str, Any], weights: Path) -> Any:
    """Returns one of our own models; no weights are drawn only to be replaced, which takes longer than reading them."""
    build = _builder(header)  # outside: what a config checks when it is made may need numbers
    with torch.device("meta"):
        model = build()
    load_weights(model, weights)
    if any(buffer.is_meta for buffer in model.buffers()):  # something that is not saved, but made when it is built
        model = build()
        load_weights(model, weights)
    return model


def _published(folder: Path, kind: str) -> Any:
    """Returns the model in a folder that another library wrote, by the adapter named after its type."""
    name = kind.replace("-", "_")
    if name not in catalog.names("adapters"):
        raise InvalidCheckpoint(
            f"{folder} holds published weights of the type {kind!r}; this package reads: "
            f"{', '.join(catalog.names('adapters'))}"
        )
    return catalog.module("adapters", name).load(folder)


def header_of(folder: Path) -> Mapping[str, Any]:
    """Returns what ``config.json`` says: of our own, at least a system and its config; of others', their model type."""
    if fetching.is_open_clip(folder):
        return {"model_type": "open_clip"}
    if (folder / fetching.PIPELINE).exists():
        return {"model_type": "diffusers_pipeline"}
    if (folder / fetching.MODULES).exists() and not (folder / "config.json").exists():
        return {"model_type": "sentence_clip"}
    try:
        header = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{folder / 'config.json'} cannot be read: {error}") from error
    if isinstance(header, dict) and "model_type" in header and "system" not in header:
        return header
    if not isinstance(header, dict) or not {"system", "config"} <= set(header):
        raise InvalidCheckpoint(
            f"{folder / 'config.json'} lacks the keys system and config; is this another library's?"
        )
    if header.get("format", 0) > FORMAT:
        raise InvalidCheckpoint(f"{folder} has format {header['format']}, newer than {FORMAT}; update intermodal")
    return header


def fingerprint(files: Iterable[Path]) -> str:
    """Returns a short hash of a saved model's files, config and weights: what makes two models the same."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()[:16]


def build_from(header: Mapping[str, Any]) -> Any:
    """Returns the system with fresh weights that a saved ``config.json`` describes."""
    return _builder(header)()


def _builder(header: Mapping[str, Any]) -> Callable[[], Any]:
    """Returns what builds the system that a saved ``config.json`` describes."""
    module = catalog.module("systems", str(header["system"]))
    return partial(module.build, config.from_dict(module.Config, header["config"]))


def load_weights(model: nn.Module, path: Path, inside: str = "") -> None:
    """Fills ``model`` with the weights in ``path``, or with those of a part of what is in it, strictly.

    Args:
        model: what is filled.
        path: the file.
        inside: dotted path of that part; empty for all.

    Raises:
        InvalidCheckpoint: lists missing keys, unexpected keys and shapes that differ.
    """
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    if inside:
        state = {k.removeprefix(f"{inside}."): v for k, v in state.items() if k.startswith(f"{inside}.")}
    wanted = model.state_dict()
    problems = [f"missing {k}" for k in sorted(wanted.keys() - state.keys())]
    problems += [f"unexpected {k}" for k in sorted(state.keys() - wanted.keys())]
    for key in sorted(wanted.keys() & state.keys()):
        if wanted[key].shape != state[key].shape:
            problems.append(f"{key} is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}")
    if problems:
        raise InvalidCheckpoint(f"{path} does not fit the model: {'; '.join(problems)}")
    empty = any(value.is_meta for value in wanted.values())
    # What replaces an empty weight is copied: in a file tensors start anywhere, which changes the last bit of products.
    model.load_state_dict({k: v.to(wanted[k].dtype, copy=empty) for k, v in state.items()}, assign=empty)
