"""Frozen dataclass configs to JSON and back, and overrides by dotted path.

Strict both ways: a key that no field has raises and is named; a value of the wrong type raises. A field typed by a
Protocol (a preprocessor, a tokenizer), or the config of a system inside another's, is written with its ``kind``, the
catalogued file that holds its class, and read back from that file only: the folder is the allow-list.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from intermodal import catalog
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName

_EXPORTS = {"modalities": "PREPROCESSOR", "tokenizers": "TOKENIZER", "systems": "Config"}


def to_dict(config: Any) -> Any:
    """Returns ``config`` as JSON-able dicts, lists, numbers and strings."""
    return _plain(config, False)


def _plain(value: Any, inside: bool) -> Any:
    """Returns ``value`` as ``to_dict`` writes it; a whole config needs no kind, since its system is named beside it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name), True) for f in dataclasses.fields(value) if f.init}
        folder, _, file = type(value).__module__.removeprefix("intermodal.").rpartition(".")
        kinds = folder in _EXPORTS and type(value) is getattr(catalog.module(folder, file), _EXPORTS[folder])
        return {"kind": f"{folder}/{file}", **fields} if kinds and (inside or folder != "systems") else fields
    if isinstance(value, Mapping):
        return {str(k): _plain(v, True) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v, True) for v in value]
    return value


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


def override(config: Any, changes: Mapping[str, Any]) -> Any:
    """Returns ``config`` with fields replaced by dotted path, each value read by the field's type.

    ``{"towers.image.width": "192", "pairs": "text"}``; a tuple is written ``4,4``. What is no text is a whole config of
    a part, put in as it is; such a part may also be a new entry of a mapping: ``{"codecs.image": codec_config}``, and a
    value one of a mapping of numbers or words: ``{"weights.audio": "2"}``.

    Raises:
        UnknownName: no such field.
        InvalidValue: a value that the field's type does not take.
    """
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        *steps, last = path.split(".")
        branch = tree
        for step in steps:
            branch = branch.setdefault(step, {})
            if not isinstance(branch, dict):
                raise InvalidValue(f"{path} lies below a value that is set itself; give one of the two")
        branch[last] = value
    return _replace(config, tree, type(config), "")


def _replace(node: Any, tree: Mapping[str, Any], kind: Any, path: str) -> Any:
    """Returns ``node``, of type ``kind``, with all of ``tree`` put in at once, so that fields can change together."""
    mapping = isinstance(node, Mapping)
    known: list[str] = list(node) if mapping else []
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        known = [f.name for f in dataclasses.fields(node) if f.init]
    hints = {} if mapping else get_type_hints(type(node))
    values: dict[str, Any] = {}
    for step, below in tree.items():
        place = f"{path}.{step}".lstrip(".")
        part = not isinstance(below, dict | str)
        own = (get_args(kind) or (Any, Any))[1] if mapping else hints.get(step)
        plain = mapping and own in (bool, int, float, str)
        if step not in known and not (mapping and (part or plain)):
            raise UnknownName(f"field on the path {place!r}", step, known)
        if isinstance(below, dict):
            values[step] = _replace(node[step] if mapping else getattr(node, step), below, own, place)
        elif part:
            if own is Any and mapping and node:  # such as are there already
                own = type(node.get(step, next(iter(node.values()))))
            values[step] = _fitting(own, below, place)
        elif mapping and not plain:
            raise InvalidValue(f"{place} cannot be set from the command line; set one of its own fields")
        else:
            values[step] = parse(own, below, place)
    return {**node, **values} if mapping else dataclasses.replace(node, **values)


def parts_of(config: Any, path: str = "") -> dict[str, Any]:
    """Returns the configs of whole systems inside ``config`` by dotted path: what could be a saved model's."""
    found: dict[str, Any] = {}
    inside = dict(config) if isinstance(config, Mapping) else {}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        inside = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        ours = type(config).__module__.startswith("intermodal.systems.")
        if path and ours and type(config) is catalog.system_of(config).Config:  # and no record inside one
            found[path] = config
    for name, value in inside.items():
        found |= parts_of(value, f"{path}.{name}".lstrip("."))
    return found


def _fitting(kind: Any, part: Any, path: str) -> Any:
    """Returns ``part``, a whole config, if a field of type ``kind`` takes it."""
    options = get_args(kind) if get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if not any(option is Any or (isinstance(option, type) and isinstance(part, option)) for option in options):
        raise InvalidValue(f"{path} is of type {_named(kind)}; it takes no config of {_named(type(part))}")
    return part


def _named(kind: Any) -> str:
    """Returns what people call a type: the config of a system by the system's name."""
    module: str = getattr(kind, "__module__", "")
    if module.startswith("intermodal.systems."):
        return module.rpartition(".")[2]
    return str(getattr(kind, "__name__", kind))


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
