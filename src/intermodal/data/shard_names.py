"""What names say in the WebDataset layout: which shards a pattern stands for, and which field a member is."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from intermodal.data.rows import BY_SUFFIX, SPLIT_WORDS, split_of
from intermodal.data.tars import TEXT_NAMES
from intermodal.errors import InvalidData, InvalidValue
from intermodal.types import MODALITIES

SHARDS_MAX = 1_000_000
SPLIT = "{split}"
LABELS = ("cls", "class", "label")
"""Suffixes of labels: texts without the blanks around them."""
TEXTS = ("text", "caption", "transcript", *LABELS)
"""Suffixes of texts beside those of ``rows.SUFFIXES``."""

_BRACES = re.compile(r"\{([^{}]*,[^{}]*|\d+\.\.\d+)\}")


def paths_of(pattern: str, split: str | None = None) -> dict[Path, str]:
    """Returns each shard that a pattern stands for, in order, and its split.

    Raises:
        InvalidData: there are none, or some of those that are named are missing.
    """
    pattern = os.path.expanduser(pattern)
    found: dict[Path, str] = {}
    if SPLIT not in pattern:
        return {path: split_of(path) for path in _expanded(pattern, False)}
    for word in dict.fromkeys(("train", "dev", "test", *SPLIT_WORDS, *([split] if split else ()))):
        for path in _expanded(pattern.replace(SPLIT, word), True):
            found.setdefault(path, SPLIT_WORDS.get(word, word))
    if not found:
        raise InvalidData(f"{pattern} stands for no shard, whatever the split; check the path")
    return found


def _expanded(pattern: str, may_be_absent: bool) -> list[Path]:
    """Returns the shards that a pattern without ``{split}`` stands for."""
    found: list[Path] = []
    missing: list[str] = []
    for text in _alternatives(pattern):
        path = Path(text)
        if glob.has_magic(text) and not path.exists():
            matches = [Path(one) for one in sorted(glob.glob(text))]
        elif path.is_dir():
            matches = sorted((*path.glob("*.tar"), *path.glob("*/*.tar"))) or _packed_in(path)
        else:
            matches = [path] if path.exists() else []
        found += matches
        missing += [] if matches else [text]
    if missing and (found or not may_be_absent):
        raise InvalidData(
            f"no tar file is at {missing[0]}"
            + (f", nor at {len(missing) - 1} more of {len(missing) + len(found)}" if len(missing) > 1 else "")
            + "; check the path, or name only shards that are there"
        )
    return list(dict.fromkeys(found))


def _packed_in(folder: Path) -> list[Path]:
    """Returns the first packed tar file of a folder without others, which reading refuses with the reason."""
    return [path for end in ("*.tar.*", "*.tgz") for path in sorted(folder.glob(end))][:1]


def _alternatives(pattern: str) -> list[str]:
    """Returns what the braces of a pattern stand for."""
    match, parts, last = _BRACES.search(pattern), [], 0
    while match:
        first, dots, final = match[1].partition("..")
        if dots and "," not in match[1]:
            low, high = int(first), int(final)
            if abs(high - low) >= SHARDS_MAX:
                raise InvalidValue(f"{match[0]} stands for over {SHARDS_MAX:,} shards; give fewer")
            step = 1 if high >= low else -1
            told = [str(number).zfill(len(first)) for number in range(low, high + step, step)]
        else:
            told = match[1].split(",")
        parts += [[pattern[last : match.start()]], told]
        last = match.end()
        match = _BRACES.search(pattern, last)
    return ["".join(words) for words in product(*parts, [pattern[last:]])]


def named(kinds: Iterable[Sequence[str]]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Returns key -> (field, modality), and each key that is left out -> why.

    Args:
        kinds: the keys of samples, of all that there are.
    """
    kinds = [tuple(kind) for kind in dict.fromkeys(map(tuple, kinds))]
    keys = dict.fromkeys(key for kind in kinds for key in kind)
    modality = {key: _modality(key) for key in keys}
    short = {key: _short(key, modality[key]) for key in keys if modality[key]}
    groups: dict[str, list[str]] = {}
    for key, name in short.items():
        groups.setdefault(name, []).append(key)
    found: dict[str, tuple[str, str]] = {}
    for name, group in groups.items():
        several = len({modality[key] for key in group}) > 1 or any(len(set(group) & set(kind)) > 1 for kind in kinds)
        foreign = name in MODALITIES and any(modality[key] != name for key in group)
        for key in group:
            found[key] = (key.replace(".", "_") if several or foreign else name, modality[key])
    media = dict(found.values())
    for key in keys:
        if key.startswith("json:"):
            own = key.removeprefix("json:")
            name = "text" if own in TEXT_NAMES else own.removesuffix("s")
            found[key] = (name if media.get(name, "text") == "text" else f"{name}_text", "text")
    left = [key for key in keys if key not in found and key.rpartition(".")[2] != "json"]
    return found, dict.fromkeys(left, "members with this suffix are of no modality that this package reads")


def _modality(key: str) -> str:
    """Returns the modality that a key's suffix says, or nothing."""
    suffix = key.rpartition(".")[2]
    return "text" if suffix in TEXTS else BY_SUFFIX.get(f".{suffix}", "")


def _short(key: str, modality: str) -> str:
    """Returns the field of a key, unless others share it."""
    name, _, suffix = key.rpartition(".")
    if name:
        return name.replace(".", "_")
    return suffix if suffix in TEXTS and suffix not in ("text", "caption") else modality
