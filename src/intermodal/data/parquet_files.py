"""Which parquet files a data set in the layout of the hub consists of, in a folder or on the hub.

data/train-00000-of-00002.parquet         split train
french/test-00000-of-00001.parquet        config french, split test
french/validation/0000.parquet            config french, split dev
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from intermodal import fetching, runtime
from intermodal.data.rows import SPLIT_WORDS, split_of
from intermodal.errors import InvalidCheckpoint, InvalidData, UnknownName

NO_CONFIG = ("", "data", "default")
"""Folders of the files of a data set that has one config alone, or of the one that is meant where none is asked for."""

_NUMBERED = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>.*)\.parquet")
_HUB = re.compile(rf"(?P<repo>{fetching.NAME})(@(?P<revision>[^#@]+))?(#(?P<config>[^#@/*?\[\]]+))?")


@dataclass(frozen=True)
class Found:
    """The files of a data set.

    Attributes:
        name: for reports.
        files: each and its split, in order.
        revision: of the hub; empty for a folder.
    """

    name: str
    files: dict[Path, str]
    revision: str = ""


def find(name: str) -> Found:
    """Returns the files that ``FOLDER``, ``FILE`` or ``owner/name@revision`` stands for, each with ``#config`` or none.

    Raises:
        InvalidData: there is no such folder or data set, or it holds no parquet files.
        UnknownName: a config that it does not have, or none is given and it has several.
        MissingExtra: a data set of the hub is asked for, and huggingface_hub is not installed.
    """
    for text, config in ((name, ""), name.rpartition("#")[::2] if "#" in name else ("", "")):
        path = Path(text).expanduser()
        if text and path.is_file():
            return Found(path.name, {path: split_of(path)})
        if text and path.is_dir():
            label = path.resolve().name + (f"#{config}" if config else "")
            return Found(label, of_folder(path, config, f"hf:{text}"))
    match = _HUB.fullmatch(name)
    if match is None or ".." in name:
        raise InvalidData(
            f"hf:{name} is neither a folder nor a parquet file nor a name of the hub; write hf:FOLDER, hf:owner/name "
            "or hf:owner/name@revision#config"
        )
    repo, config = match["repo"], match["config"] or ""
    folder = _fetched(f"hf:{name}", repo, match["revision"] or "", config)
    return Found(repo + (f"#{config}" if config else ""), of_folder(folder, config, f"hf:{repo}"), folder.name)


def _fetched(name: str, repo: str, revision: str, config: str) -> Path:
    """Returns the folder of a data set in the cache of the hub; fetched only where it is not there whole.

    Raises:
        InvalidData: it is not here and cannot be fetched.
    """
    below = (f"{config}/*", f"data/{config}/*") if config else ("", "*/")
    patterns = ["README.md", *(f"{place}*.parquet" for place in below)]
    marks = runtime.cache_folder() / "fetching"
    marks.mkdir(exist_ok=True)
    mark = marks / hashlib.sha256(f"{repo}@{revision}#{config}".encode()).hexdigest()[:32]
    try:
        return fetching.snapshot(
            name, repo, revision, patterns, lambda at: _lacking(at, config), kind="dataset", mark=mark
        )
    except InvalidCheckpoint as error:
        raise InvalidData(str(error)) from error


def _lacking(folder: Path, config: str) -> list[str]:
    """Returns which of the numbered files of a folder are not there; a pattern where there is no file at all."""
    paths = [path for path in _parquets(folder) if not config or _config(path) == config]
    lacking = []
    for match in filter(None, (_NUMBERED.fullmatch(path.as_posix()) for path in paths)):
        for number in range(int(match["count"])):
            start, last = match.span("number")
            other = match.string[:start] + f"{number:05d}" + match.string[last:]
            if not match["rest"] and not (folder / other).exists() and other not in lacking:
                lacking.append(other)
    return lacking if paths else ["*.parquet"]


def of_folder(folder: Path, config: str, name: str) -> dict[Path, str]:
    """Returns the parquet files of a config below a folder, in order, and the split of each.

    Args:
        folder: where they are.
        config: which; empty for the only one, or that of the files in no folder of their own.
        name: of the data, for messages.

    Raises:
        InvalidData: there are none.
        UnknownName: there is no such config, or none is given and there are several.
    """
    configs: dict[str, list[PurePosixPath]] = {}
    for path in _parquets(folder):
        configs.setdefault(_config(path), []).append(path)
    if not configs:
        raise InvalidData(f"{name} holds no parquet files; give a data set that is published as parquet")
    chosen = config if config in configs or config not in NO_CONFIG else ""
    if not config and "" not in configs and len(configs) == 1:
        chosen = next(iter(configs))
    if chosen not in configs:
        known = sorted(one or "default" for one in configs)
        raise UnknownName(f"config of {name}, to be given as {name}#CONFIG,", config or "(none given)", known)
    return {folder / path: _split(path) for path in configs[chosen]}


def _parquets(folder: Path) -> list[PurePosixPath]:
    """Returns the paths of the parquet files below a folder, in order; hidden ones are left out."""
    paths: Iterable[PurePosixPath] = (
        PurePosixPath(path.relative_to(folder).as_posix()) for path in folder.rglob("*.parquet")
    )
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.parts))


def _config(path: PurePosixPath) -> str:
    """Returns the config that a path says; nothing for that of files in no folder of their own."""
    folders = path.parts[:-1]
    if folders[:1] == ("data",) and len(folders) > 1 and not _is_split(folders[1]):
        folders = folders[1:]  # data/<config>/
    if not folders or folders[0] in NO_CONFIG or (len(folders) == 1 and _is_split(folders[0])):
        return ""
    return folders[0]


def _is_split(name: str) -> bool:
    """Returns whether a folder's name is a split's."""
    return name in ("train", "dev", "test", *SPLIT_WORDS)


def _split(path: PurePosixPath) -> str:
    """Returns the split that a path says: what stands before the number of a file, or a folder of numbered files."""
    match = _NUMBERED.fullmatch(path.name)
    if match:
        return SPLIT_WORDS.get(match["split"], match["split"])
    if path.stem.isdigit() and len(path.parts) > 2:  # <config>/<split>/0000.parquet
        return SPLIT_WORDS.get(path.parent.name, path.parent.name)
    return split_of(path)
