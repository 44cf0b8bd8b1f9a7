"""Frozen dataclass configs to JSON and back, and overrides by dotted path.

Strict both ways: a key that no field has raises and is named; a value of the wrong type raises. A field typed by a
Protocol (a preprocessor, a tokenizer) is written with its ``kind``, the catalogued file that holds its class, and read
back from that file only: the folder is the allow-list.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from intermodal import catalog
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName

_EXPORTS = {"modalities": "PREPROCESSOR", "tokenizers": "TOKENIZER"}


def to_dict(config: Any) -> Any:
    """Returns ``config`` as JSON-able dicts, lists, numbers and strings."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
        folder, _, file = type(config).__module__.removeprefix("intermodal.").rpartition(".")
        return {"kind": f"{folder}/{file}", **fields} if folder in _EXPORTS else fields
    if isinstance(config, Mapping):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(v) for v in config]
    return config


def from_dict(kind: Any, data: Any, path: str = "config") -> Any:
    """Returns an object of type ``kind`` from what ``to_dict`` made.

    Raises:
        InvalidCheckpoint: an unknown or missing key, or a value of another type; ``path`` says where.
    """
    origin = get_origin(kind)
    if isinstance(data, Mapping) and "kind" in data and (cls := _catalogued(str(data["kind"]), path)):
        return _record(cls, {k: v for k, v in data.items() if k != "kind"}, path)
    if dataclasses.is_dataclass(kind):
        return _record(kind, data, path)
    if origin in (typing.Union, types.UnionType):
        return _first(get_args(kind), data, path)
    if origin in (tuple, Sequence, list) and isinstance(data, list | tuple):
        inner = get_args(kind)[0] if get_args(kind) else Any
        return tuple(from_dict(inner, v, f"{path}[{i}]") for i, v in enumerate(data))
    if origin in (dict, Mapping) and isinstance(data, Mapping):
        return {k: from_dict(get_args(kind)[1], v, f"{path}.{k}") for k, v in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is Any or (
        isinstance(kind, type) and isinstance(data, kind) and (kind is bool or not isinstance(data, bool))
    ):
        return data
    raise InvalidCheckpoint(f"{path} is {data!r}; expected {getattr(kind, '__name__', kind)}")


def _catalogued(kind: str, path: str) -> Any:
    """Returns the class that a saved ``kind`` names."""
    folder, _, file = kind.partition("/")
    if folder not in _EXPORTS:
        raise InvalidCheckpoint(
            f"{path}.kind is {kind!r}; expected one of {', '.join(sorted(_EXPORTS))} and a file name"
        )
    return getattr(catalog.module(folder, file), _EXPORTS[folder])


def _first(options: tuple[Any, ...], data: Any, path: str) -> Any:
    """Returns ``data`` as the first of several types that takes it."""
    for option in options:
        if option is type(None):
            if data is None:
                return None
            continue
        try:
            return from_dict(option, data, path)
        except InvalidCheckpoint:
            if option is options[-1]:
                raise
    raise InvalidCheckpoint(f"{path} is {data!r}; expected one of {options}")


def _record(cls: Any, data: Any, path: str) -> Any:
    """Returns a dataclass, every key spent."""
    if not isinstance(data, Mapping):
        raise InvalidCheckpoint(f"{path} is {data!r}; expected the fields of {cls.__name__}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if unknown := sorted(set(data) - set(fields)):
        raise InvalidCheckpoint(f"{path} has unknown keys {', '.join(unknown)}; {cls.__name__} has {', '.join(fields)}")
    values = {k: from_dict(hints[k], v, f"{path}.{k}") for k, v in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidCheckpoint(f"{path}: {error}") from error


def override(config: Any, changes: Mapping[str, str]) -> Any:
    """Returns ``config`` with fields replaced by dotted path, each value read by the field's type.

    ``{"towers.image.width": "192", "pairs": "text"}``; a tuple is written ``4,4``.

    Raises:
        UnknownName: no such field.
        InvalidValue: a value that the field's type does not take.
    """
    tree: dict[str, Any] = {}
    for path, text in changes.items():
        *steps, last = path.split(".")
        branch = tree
        for step in steps:
            branch = branch.setdefault(step, {})
            if not isinstance(branch, dict):
                raise InvalidValue(f"{path} lies below a value that is set itself; give one of the two")
        branch[last] = text
    return _replace(config, tree, "")


def _replace(node: Any, tree: Mapping[str, Any], path: str) -> Any:
    """Returns ``node`` with all of ``tree`` put in at once, so that fields that must fit can change together."""
    known = list(node) if isinstance(node, Mapping) else []
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        known = [f.name for f in dataclasses.fields(node) if f.init]
    values: dict[str, Any] = {}
    for step, below in tree.items():
        place = f"{path}.{step}".lstrip(".")
        if step not in known:
            raise UnknownName(f"field on the path {place!r}", step, known)
        current = node[step] if isinstance(node, Mapping) else getattr(node, step)
        if isinstance(below, dict):
            values[step] = _replace(current, below, place)
        elif isinstance(node, Mapping):
            raise InvalidValue(f"{place} cannot be set from the command line; set one of its own fields")
        else:
            values[step] = parse(get_type_hints(type(node))[step], below, place)
    return {**node, **values} if isinstance(node, Mapping) else dataclasses.replace(node, **values)


def parse(kind: Any, text: str, path: str) -> Any:
    """Returns the value that ``text`` stands for in a field of type ``kind``.

    Raises:
        InvalidValue: it stands for none.
    """
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in get_args(kind):
            return None
        kind = next(a for a in get_args(kind) if a is not type(None))
        return parse(kind, text, path)
    if origin is tuple:
        return tuple(parse(get_args(kind)[0], part, path) for part in text.split(",") if part)
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (KeyError, ValueError) as error:
        raise InvalidValue(f"{path}={text!r} is no {kind.__name__}") from error
    raise InvalidValue(f"{path} cannot be set from the command line: it is a {kind}; set one of its own fields")
