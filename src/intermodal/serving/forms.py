"""What our own routes are given: a JSON object, or a multipart form whose files are media.

In a form a field whose value is JSON may be a text: ``where={"year": 1990}``; a file is an item of whatever it holds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from intermodal.serving import media
from intermodal.serving.engine import Engine
from intermodal.serving.faults import Refused
from intermodal.types import Item

_JSON = ("where", "with", "among", "metadata")
"""Fields of a form whose values are JSON."""


@dataclass(frozen=True, eq=False)
class Upload:
    """A file of a form.

    Attributes:
        name: as the client calls it.
        data: what is in it.
    """

    name: str
    data: bytes


def described(required: tuple[str, ...], properties: Mapping[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what OpenAPI says of a body that is JSON or a form.

    Args:
        required: names of fields.
        properties: field -> its JSON schema; one of format ``binary`` is a file of the form alone.
        example: of a JSON body.
    """
    plain = {name: p for name, p in properties.items() if p.get("format") != "binary"}
    whole = {"type": "object", "required": [r for r in required if r in plain], "properties": plain}
    form = {"type": "object", "required": [r for r in required if r not in plain], "properties": dict(properties)}
    content = {"application/json": {"schema": whole, "example": example}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


async def given(request: Request) -> dict[str, Any]:
    """Returns the fields of a request; files of a form as ``Upload``, several of one name as a list.

    Raises:
        Refused: the body is neither.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request)
    if kind not in ("", "application/json"):
        raise Refused(415, f"a body of type {kind[:60]!r} is not read; send JSON or a form", "unsupported_media_type")
    try:
        found = parsed(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}", "invalid_json") from error
    if not isinstance(found, dict):
        raise Refused(400, "the body is no JSON object; see /openapi.json", "invalid_value")
    return found


def parsed(data: bytes | str) -> Any:
    """Returns what JSON says.

    Raises:
        ValueError: it is none, or holds what no text can: NaN, infinity, half a character.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    found = json.loads(data, parse_constant=refuse)
    if (b"\\ud" if isinstance(data, bytes) else "\\ud") in data.lower():  # type: ignore[operator]
        json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be encoded
    return found


async def _form(request: Request) -> dict[str, Any]:
    """Returns the fields of a form."""
    found: dict[str, list[Any]] = {}
    async with request.form(max_files=256, max_fields=256) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                found.setdefault(name, []).append(Upload(value.filename or "", await value.read()))
            elif name in _JSON:
                try:
                    found.setdefault(name, []).append(parsed(value))
                except (ValueError, RecursionError):
                    found.setdefault(name, []).append(value)
            else:
                found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


class Fields:
    """The fields of a request, each taken once; what is left over is refused by name."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        """Keeps them."""
        self._found = dict(found)

    def words(self, name: str, default: str = "") -> str:
        """Returns a text; the default where it is absent."""
        value = self._found.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, str):
            raise Refused(400, f"{name} is {_kind(value)}; give words", "invalid_value", name)
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Returns a whole number within bounds; the default where it is absent."""
        value = self._found.pop(name, None)
        if value is None or value == "":
            return default
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise Refused(400, f"{name} is {_kind(value)}; give {low} to {high}", "invalid_value", name)
        return number

    def number(self, name: str) -> float | None:
        """Returns a number; None where it is absent."""
        value = self._found.pop(name, None)
        if value is None or value == "":
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise Refused(400, f"{name} is {_kind(value)}; give a number", "invalid_value", name)
        return number

    def mapping(self, name: str) -> dict[str, Any]:
        """Returns an object; an empty one where it is absent."""
        value = self._found.pop(name, None)
        if value is None or value == "":
            return {}
        if not isinstance(value, dict):
            raise Refused(400, f"{name} is {_kind(value)}; give an object", "invalid_value", name)
        return value

    def names(self, name: str) -> list[str]:
        """Returns a list of words, which may be given as one with commas; an empty one where it is absent."""
        value = self._found.pop(name, None)
        if isinstance(value, str):
            return [word for word in value.split(",") if word]
        if value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            return list(value or ())
        raise Refused(400, f"{name} is {_kind(value)}; give a list of words", "invalid_value", name)

    def any(self, name: str) -> Any:
        """Returns whatever was given; None where it is absent."""
        return self._found.pop(name, None)

    def done(self) -> None:
        """Raises Refused where something is left that nobody asked for."""
        if self._found:
            name = next(iter(self._found))
            raise Refused(400, f"there is no field {name[:60]!r} here; see /openapi.json", "unknown_field", name[:60])


def _kind(value: Any) -> str:
    """Returns what a value is, short enough for a message."""
    if isinstance(value, Upload):
        return "a file"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


async def item(engine: Engine, value: Any, param: str, name: str = "") -> Item:
    """Returns the item that a field is: words, a part of a chat message, or a file.

    Args:
        engine: its limits and threads.
        value: of the field.
        param: its name.
        name: of the model whose tokens are counted.

    Raises:
        Refused: it is none of them.
    """
    if isinstance(value, Upload):
        return await engine.aside(media.opened, value.data, engine.settings)
    if isinstance(value, str):
        engine.count([value], name)
        return media.text_item(value)
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            engine.count([value["text"]], name)
        return await engine.aside(media.part_item, value, engine.settings, param)
    raise Refused(400, f"{param} is {_kind(value)}; give words, a part or a file", "invalid_value", param)
