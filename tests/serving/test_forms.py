"""What our own routes are given."""

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intermodal.serving import forms
from intermodal.serving.faults import Refused, response
from tests.serving.places import plain


def found(**sent: Any) -> Any:
    """Returns what ``given`` makes of a request, or its refusal."""
    kept: list[Any] = []

    async def route(request: Request) -> Response:
        try:
            kept.append(await forms.given(request))
        except Refused as refused:
            kept.append(refused)
            return response(refused)
        return Response()

    async def main() -> None:
        async with plain(Starlette(routes=[Route("/", route, methods=["POST"])])) as client:
            await client.post("/", **sent)

    asyncio.run(main())
    return kept[0]


def test_json_and_forms_are_read_alike() -> None:
    assert found(json={"to": "image", "count": 2}) == {"to": "image", "count": 2}
    files = [("file", ("a/b.png", b"1")), ("file", ("c.png", b"2"))]
    form = found(data={"where": '{"year": 1990}', "to": "image"}, files=files)
    assert (form["to"], form["where"]) == ("image", {"year": 1990})
    assert [(one.name, one.data) for one in form["file"]] == [("a/b.png", b"1"), ("c.png", b"2")]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": [1]}, 400),
        ({"content": b'{"x": NaN}', "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b'{"x": "\\uD800"}', "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "text/html"}}, 415),
        ({"content": b"\xff\xfe{", "headers": {"Content-Type": "application/json"}}, 400),
    ],
)
def test_a_body_of_another_shape_is_refused(sent: dict[str, Any], status: int) -> None:
    assert found(**sent).status == status


def test_fields_are_checked_and_spent() -> None:
    fields = forms.Fields({"a": "x", "n": "3", "p": 0.5, "m": {}, "l": "a,b", "left": 1})
    assert fields.words("a") == "x"
    assert fields.whole("n", 1, 1, 5) == 3
    assert fields.number("p") == 0.5
    assert fields.mapping("m") == {}
    assert fields.names("l") == ["a", "b"]
    assert (fields.words("absent", "d"), fields.whole("absent", 7, 0, 9), fields.number("absent")) == ("d", 7, None)
    with pytest.raises(Refused, match="no field 'left'"):
        fields.done()


@pytest.mark.parametrize(
    ("take", "value"),
    [
        (lambda f: f.words("x"), 3),
        (lambda f: f.whole("x", 1, 1, 5), 6),
        (lambda f: f.whole("x", 1, 1, 5), True),
        (lambda f: f.whole("x", 1, 1, 5), 1.5),
        (lambda f: f.whole("x", 1, 1, 5), "²"),
        (lambda f: f.number("x"), "much"),
        (lambda f: f.number("x"), True),
        (lambda f: f.number("x"), "nan"),
        (lambda f: f.number("x"), [1]),
        (lambda f: f.mapping("x"), "{"),
        (lambda f: f.names("x"), [1]),
        (lambda f: f.words("x"), forms.Upload("name", b"secret")),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(take: Any, value: Any) -> None:
    with pytest.raises(Refused) as refused:
        take(forms.Fields({"x": value}))
    assert refused.value.param == "x"
    assert "secret" not in refused.value.message


def test_a_body_is_described_as_json_and_as_a_form() -> None:
    told = forms.described(("to",), {"to": {"type": "string"}, "file": {"format": "binary"}}, {"to": "image"})
    content = told["requestBody"]["content"]
    assert set(content["application/json"]["schema"]["properties"]) == {"to"}
    assert set(content["multipart/form-data"]["schema"]["properties"]) == {"to", "file"}
    assert json.dumps(told)
