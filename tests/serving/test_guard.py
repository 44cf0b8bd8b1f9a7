"""What stands before every route: keys, places, sizes, numbers, and clients that go away."""

import asyncio
import json
import logging
from typing import Any

import pytest

from intermodal.serving.guard import Guard, Load
from intermodal.serving.keys import from_words
from intermodal.serving.metrics import Metrics
from intermodal.serving.settings import Settings
from tests.serving.places import plain

KEYS = from_words(["a-key-for-the-tests"])
HELD = {"Authorization": "Bearer a-key-for-the-tests"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def guard(app: Any = echo, keys: Any = (), **changes: Any) -> Guard:
    return Guard(app, Settings(**changes), keys, Metrics(), Load())


def statuses(app: Guard, *asked: tuple[str, str, dict[str, Any]]) -> list[tuple[int, dict[str, str]]]:
    async def main() -> list[tuple[int, dict[str, str]]]:
        async with plain(app) as client:
            answers = [await client.request(method, path, **options) for method, path, options in asked]
        return [(answer.status_code, dict(answer.headers)) for answer in answers]

    return asyncio.run(main())


def test_a_key_is_asked_for_where_there_are_any_but_not_for_the_page() -> None:
    app = guard(keys=KEYS, host="0.0.0.0")
    paths = ["/v1/models", "/metrics", "/healthz", "/", "/style.css"]
    assert [s for s, _ in statuses(app, *(("GET", p, {}) for p in paths))] == [401, 401, 200, 200, 200]
    ((status, headers),) = statuses(app, ("GET", "/v1/models", {"headers": {"Authorization": "Bearer no"}}))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert statuses(app, ("GET", "/v1/models", {"headers": HELD}))[0][0] == 200


def test_a_key_may_ask_only_so_often() -> None:
    app = guard(keys=KEYS, host="0.0.0.0", rate=0.001, burst=2)
    found = statuses(app, *[("GET", "/v1/models", {"headers": HELD})] * 3, ("GET", "/healthz", {}))
    assert [status for status, _ in found] == [200, 200, 429, 200]
    assert int(found[2][1]["retry-after"]) > 100


def test_a_body_over_the_limit_is_refused_announced_or_not() -> None:
    async def pieces() -> Any:
        for _ in range(11):
            yield b"0123456789"

    app = guard(body_bytes=100)
    found = statuses(
        app,
        ("POST", "/v1/x", {"content": b"x" * 100}),
        ("POST", "/v1/x", {"content": b"x" * 101}),
        ("POST", "/v1/x", {"content": pieces()}),
    )
    assert [status for status, _ in found] == [200, 413, 413]
    assert (app.load.running, app.load.held) == (0, 0)


def test_all_bodies_together_and_all_requests_are_bounded() -> None:
    async def main() -> None:
        inside, let = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            inside.set()
            await let.wait()
            await echo(scope, receive, send)

        app = guard(slow, body_bytes=100, held_bytes=150, requests_max=2)
        async with plain(app) as client:
            first = asyncio.create_task(client.post("/v1/x", content=b"x" * 100))
            await inside.wait()
            full = await client.post("/v1/x", content=b"x" * 60)
            assert full.status_code == 429
            assert "retry-after" in full.headers
            second = asyncio.create_task(client.post("/v1/x", content=b"x" * 10))
            while app.load.running < 2:
                await asyncio.sleep(0)
            assert (await client.post("/v1/x")).status_code == 429
            let.set()
            assert (await first).status_code == (await second).status_code == 200
        assert (app.load.running, app.load.held) == (0, 0)

    asyncio.run(main())


def test_another_page_or_name_cannot_use_a_server_that_is_for_this_machine() -> None:
    app = guard(hosts=("box.example",))
    found = statuses(
        app,
        ("GET", "/v1/x", {"headers": {"Host": "evil.example"}}),
        ("GET", "/v1/x", {"headers": {"Host": "box.example:8000"}}),
        ("POST", "/v1/x", {"headers": {"Origin": "http://evil.example"}}),
        ("POST", "/v1/x", {"headers": {"Origin": "null"}}),
        ("POST", "/v1/x", {"headers": {"Origin": "http://127.0.0.1:8000"}}),
    )
    assert [status for status, _ in found] == [403, 200, 403, 403, 200]


def test_every_answer_has_the_headers_that_keep_a_page_in_its_place() -> None:
    for _, headers in statuses(guard(), ("GET", "/", {}), ("GET", "/v1/x", {"headers": {"Host": "evil.example"}})):
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]


def test_a_client_that_goes_away_cancels_what_is_done_for_it() -> None:
    async def main() -> None:
        inside, stopped = asyncio.Event(), asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        messages = asyncio.Queue[dict[str, Any]]()
        scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": [(b"host", b"localhost")]}
        app = guard(endless)
        task = asyncio.create_task(app(scope, messages.get, lambda message: asyncio.sleep(0)))
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        await inside.wait()
        assert not stopped.is_set()
        messages.put_nowait({"type": "http.disconnect"})
        await task
        assert stopped.is_set()
        assert app.load.running == 0

    asyncio.run(main())


def test_a_client_that_sends_too_slowly_is_refused() -> None:
    async def main() -> None:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/v1/x", "method": "POST", "headers": [(b"host", b"localhost")]}
        await guard(read_s=0.01)(scope, asyncio.Event().wait, send)
        assert sent[0]["status"] == 408

    asyncio.run(main())


def test_the_log_tells_of_requests_and_not_of_what_is_in_them(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("contents of somebody")

    with caplog.at_level(logging.INFO, "intermodal.serving"):
        statuses(guard(keys=KEYS), ("POST", "/v1/x?q=private", {"content": b"private", "headers": HELD}))
        assert statuses(guard(fails), ("GET", "/v1/y", {}))[0][0] == 500
    told = [json.loads(record.message) for record in caplog.records]
    assert told[0]["client"] == "key1"
    assert told[0]["status"] == 200
    assert told[0]["in"] == 7
    assert "private" not in caplog.records[0].message
    assert "a-key" not in caplog.text
