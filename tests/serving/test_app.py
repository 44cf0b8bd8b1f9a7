"""The application as a whole."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from intermodal.errors import InvalidValue, Unsupported
from intermodal.serving.keys import from_words
from intermodal.serving.settings import Settings
from tests.serving.places import plain, server


def ask(app: Any, *asked: tuple[str, str, dict[str, Any]]) -> list[httpx2.Response]:
    async def main() -> list[httpx2.Response]:
        async with plain(app) as client:
            return [await client.request(method, path, **options) for method, path, options in asked]

    return asyncio.run(main())


def test_an_address_that_others_reach_needs_keys() -> None:
    with pytest.raises(InvalidValue, match="keys are needed"):
        server({}, Settings(host="0.0.0.0"))
    server({}, Settings(host="0.0.0.0"), keys=from_words(["0123456789abcdef"]))


def test_a_library_needs_a_model_that_embeds() -> None:
    with pytest.raises(Unsupported, match="takes a model that embeds"):
        server({"x": object()}, library=object())


def test_it_says_how_it_is() -> None:
    app = server({})
    healthy, ready, metrics = ask(app, ("GET", "/healthz", {}), ("GET", "/readyz", {}), ("GET", "/metrics", {}))
    assert healthy.json() == {"status": "ok"}
    assert ready.json()["status"] == "ready"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "intermodal_ready 1" in metrics.text.splitlines()
    assert 'intermodal_queue_pieces{queue="quick"} 0' in metrics.text.splitlines()
    app.state.ready = False
    (stopping,) = ask(app, ("GET", "/readyz", {}))
    assert stopping.status_code == 503


def test_whatever_is_wrong_is_told_in_one_shape() -> None:
    found = ask(
        server({}),
        ("GET", "/nothing", {}),
        ("PUT", "/v1/embeddings", {}),
        ("POST", "/v1/embeddings", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v1/embeddings", {"json": {"input": 3}}),
        ("POST", "/v1/embeddings", {"json": {"input": "x"}}),
        ("POST", "/v1/explain", {"json": {}}),
        ("GET", "/v1/library", {}),
        ("POST", "/v1/search", {"json": {"query": "x"}}),
    )
    assert [answer.status_code for answer in found] == [404, 405, 400, 400, 400, 400, 404, 404]
    for answer in found:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, answer.text
    assert found[4].json()["error"]["message"].startswith("no model here can embed")
    assert found[5].json()["error"]["message"].startswith("give one of query, file and id")


def test_the_description_of_the_api_names_every_route_and_has_examples() -> None:
    (answer,) = ask(server({}), ("GET", "/openapi.json", {}))
    paths = answer.json()["paths"]
    wanted = ("embeddings", "chat/completions", "images/generations", "audio/transcriptions", "audio/speech", "videos")
    assert {f"/v1/{name}" for name in (*wanted, "models", "translate", "search", "library", "explain")} <= set(paths)
    for path in ("/v1/translate", "/v1/search", "/v1/library", "/v1/explain"):
        assert "example" in json.dumps(paths[path]["post"]["requestBody"])
    assert all("4XX" in told["responses"] for methods in paths.values() for told in methods.values())


def test_a_stopping_server_finishes_its_queues() -> None:
    async def main() -> None:
        app = server({})
        async with app.router.lifespan_context(app):
            assert app.state.ready
        assert not app.state.ready
        async with plain(app) as client:
            assert (await client.get("/readyz")).status_code == 503

    asyncio.run(main())
