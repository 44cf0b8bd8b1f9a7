"""Saved models to the hub: the files of one model and nothing else, with a card that says what it is.

What is loaded by ``hub:owner/name`` is what this writes; see ``fetching.hub_folder``. A folder goes up as one commit,
whole or not at all, after it has been loaded here. Files of a former model of that name that this one does not have
go away; whatever else somebody put there stays.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal import fetching, saving
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.types import Answers, Classifies, Embeds

NAME_MAX = 96
FILES = ("config.json", "model.safetensors", "README.md", "figures.json")
"""Of a saved model; one that was joined of encoders has theirs in ``encoders/`` too."""

INSIDE = (".json", ".txt", ".model", ".safetensors", ".md", ".onnx")
"""Suffixes of what lies in ``encoders/``."""

OWN = ("connected",)
"""Types of models that an adapter saves, beside those of ``systems/``."""

DIRECTIONS = {
    ("image", "text"): "image-to-text",
    ("text", "image"): "text-to-image",
    ("text", "video"): "text-to-video",
    ("text", "audio"): "text-to-audio",
    ("text", "speech"): "text-to-speech",
    ("speech", "text"): "automatic-speech-recognition",
    ("image", "video"): "image-to-video",
    ("image", "image"): "image-to-image",
    ("text", "text"): "text-generation",
}
"""What a model translates -> the hub's word for it."""


def push(
    model: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str = "",
    licence: str = "",
    dry_run: bool = False,
    api: Any = None,
) -> dict[str, Any]:
    """Uploads a saved model and returns where it is and which files went up, with their sizes in bytes.

    Args:
        model: a folder, or the name of a shipped model.
        name: ``owner/name`` on the hub; made if absent.
        private: only its owner sees it; a name that is public already is refused.
        revision: a branch, made if absent; default: the main one.
        licence: of the weights, as the hub writes it (``apache-2.0``); default: what the card says.
        dry_run: only say what would go up; nothing is sent, and no token is needed.
        api: ``huggingface_hub.HfApi`` with an address or token of your own.

    Raises:
        InvalidValue: it is no such name, the folder holds files of no model, or there is no token.
        UnknownName: neither a folder nor a shipped model.
        InvalidCheckpoint: the folder holds no whole model of this package, or the hub refused it.
        MissingExtra: huggingface_hub is not installed.
    """
    _check_name(name)
    hub = fetching.library("pushing a model")
    folder = _own(model)
    paths = files_of(folder)
    card = card_of(folder, saving.load_model(folder), licence)
    sizes = {inside: len(card) if inside == "README.md" else path.stat().st_size for inside, path in paths.items()}
    files = [{"path": inside, "bytes": size} for inside, size in sizes.items()]
    result: dict[str, Any] = {"name": name, "private": private, "revision": revision or "main", "files": files}
    result |= {"bytes": sum(sizes.values()), "dry_run": dry_run, "commit": "", "url": ""}
    if dry_run:
        return result
    if api is None:
        if not hub.get_token():
            raise InvalidValue(
                "there is no token of the hub on this machine: run  hf auth login  with one that may write, or put it "
                "in HF_TOKEN"
            )
        api = hub.HfApi()
    operations = [
        hub.CommitOperationAdd(inside, card if inside == "README.md" else str(path)) for inside, path in paths.items()
    ]
    try:
        done = _sent(hub, api, name, operations, private, revision)
    except (InvalidValue, InvalidCheckpoint):
        raise
    except Exception as error:  # whatever the network, the hub or its library raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InvalidCheckpoint(
            f"{folder} cannot be pushed to {name} ({type(error).__name__}: {reason}); no file of it went up: check the "
            "name, the network and that the token may write"
        ) from error
    return {**result, "commit": str(done.oid), "url": str(done.commit_url)}


def _check_name(name: str) -> None:
    """Raises InvalidValue where the hub would take no model of that name."""
    odd = ".." in name or "--" in name or len(name) > NAME_MAX or name[-1:] in (".", "-")
    if odd or not re.fullmatch(fetching.NAME, name):
        raise InvalidValue(f"{name!r} is no name of the hub; write owner/name, of letters, digits, '-', '_' and '.'")


def _sent(hub: Any, api: Any, name: str, operations: list[Any], private: bool, revision: str) -> Any:
    """Returns the commit that holds these files.

    Raises:
        InvalidValue: it should be private and is public.
    """
    api.create_repo(name, private=private, exist_ok=True)
    if private and not api.repo_info(name).private:
        raise InvalidValue(
            f"{name} is public already, and was to be private; make it so on the hub, or use another name"
        )
    if revision:
        api.create_branch(name, branch=revision, exist_ok=True)
    sent = {one.path_in_repo for one in operations}
    there = api.list_repo_files(name, revision=revision or None)
    old = [path for path in there if path not in sent and (path in FILES or path.startswith("encoders/"))]
    operations += [hub.CommitOperationDelete(path) for path in old]
    message = "Upload a model of intermodal"
    return api.create_commit(name, operations, commit_message=message, revision=revision or None)


def _own(model: str | Path) -> Path:
    """Returns the folder of a model that this package saved.

    Raises:
        InvalidValue: it is the hub's.
        InvalidCheckpoint: others published its weights, or it names models that lie elsewhere.
    """
    if str(model).startswith(fetching.HUB):
        raise InvalidValue(f"{model} is on the hub already; give the folder of a model that was saved here")
    folder = saving.folder_of(model)
    header = saving.header_of(folder)
    kind = header.get("model_type")
    if "system" not in header and kind not in OWN:
        why = (
            "names models that lie elsewhere" if kind == "compound" else f"holds published weights of the type {kind!r}"
        )
        raise InvalidCheckpoint(f"{folder} {why}; push a model that this package trained, connected or saved")
    return folder


def files_of(folder: Path) -> dict[str, Path]:
    """Returns the files of a saved model: path on the hub -> path here.

    Raises:
        InvalidValue: something else lies there too, such as a checkpoint or a pickle; lists it.
        InvalidCheckpoint: the weights or the card are missing.
    """
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    other = [inside for inside in found if not _belongs(inside)]
    if other:
        shown = ", ".join(other[:8]) + (f" and {len(other) - 8} more" if len(other) > 8 else "")
        raise InvalidValue(f"{folder} holds files that are not of the model: {shown}; move them elsewhere first")
    if lacking := [name for name in FILES[:3] if name not in found]:
        raise InvalidCheckpoint(f"{folder} lacks {', '.join(lacking)}; push the folder of a saved model")
    return found


def _belongs(inside: str) -> bool:
    """Returns whether a file is one of a saved model."""
    first, *rest = inside.split("/")
    if not rest:
        return inside in FILES
    hidden = any(part.startswith(".") for part in rest)
    return first == "encoders" and not hidden and Path(inside).suffix in INSIDE


# ---- The card


def card_of(folder: Path, model: Any, licence: str = "") -> bytes:
    """Returns the model card for the hub: the folder's, its measured figures, and before them what the hub reads.

    What a person wrote there stays as it is; what is missing is added.

    Args:
        folder: of the model.
        model: that is in it.
        licence: of the weights.

    Raises:
        InvalidCheckpoint: the card's first lines are not what they should be.
    """
    words = (folder / "README.md").read_text("utf-8")
    hub = fetching.library("pushing a model")
    try:
        known = words if words.lstrip().startswith("---") else f"---\nlibrary_name: intermodal\n---\n\n{words}"
        card = hub.RepoCard(known)
    except Exception as error:  # of the library, or of the YAML that it reads
        reason = " ".join(str(error).split())[:200]
        raise InvalidCheckpoint(
            f"the first lines of {folder / 'README.md'} are no YAML ({reason}); mend them"
        ) from error
    tasks = tasks_of(model)
    data = card.data
    given: Any = data.get("tags")
    tags = [str(tag) for tag in given] if isinstance(given, list) else [str(given)] if given else []
    modalities = sorted({one.modality for one in model.preprocessors.values()})
    system = type(model).__module__.rpartition(".")[2]
    data["tags"] = [*dict.fromkeys((*tags, "intermodal", system, *modalities, *tasks[1:]))]
    data["library_name"] = data.get("library_name") or "intermodal"
    data["pipeline_tag"] = data.get("pipeline_tag") or tasks[0]
    data["license"] = licence or data.get("license")
    if figures := saving.figures_of(folder):
        card.text = f"{card.text.rstrip()}\n\n{told(figures)}"
    return str(card).encode("utf-8")


def tasks_of(model: Any) -> list[str]:
    """Returns the hub's words for what a model does, the most telling first; at least one."""
    modalities = {field: one.modality for field, one in model.preprocessors.items()}
    ways = list(getattr(model, "directions", ()))
    kinds = [tuple(name if name == "speech" else modalities.get(name, name) for name in way) for way in ways]
    found = [DIRECTIONS[way] for way in dict.fromkeys(kinds) if way in DIRECTIONS]
    if len({a for a, _ in kinds}) > 2 and len({b for _, b in kinds}) > 2:
        found.insert(0, "any-to-any")
    read = set(modalities.values())
    if isinstance(model, Answers) and "image" in read:
        found.append("visual-question-answering")
    if isinstance(model, Classifies) and "text" in read:
        found += [f"zero-shot-{kind}-classification" for kind in ("image", "audio", "video") if kind in read]
    if isinstance(model, Embeds):
        found.append("feature-extraction")
    return [*dict.fromkeys(found)] or ["other"]


def told(figures: Mapping[str, Any]) -> str:
    """Returns what was measured as a Markdown table, one line per pair."""
    lines = ["## Measured", "", "| what | data | pair | value |", "|---|---|---|---|"]
    for one in figures.values():
        where = ", ".join(str(one[key]) for key in ("data", "split", "samples") if key in one)
        lines += [f"| {one['what']} | {where} | {pair} | {value:.4g} |" for pair, value in one["pairs"].items()]
    return "\n".join(lines) + f"\n\nAs in `figures.json`: {json.dumps(list(figures))}.\n"
