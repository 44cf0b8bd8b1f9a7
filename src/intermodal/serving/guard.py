"""What stands before every route: who asks, how much, how often; and what follows every answer.

It is plain ASGI, so that a body is counted as it comes and never held here, and a client that goes away cancels what is
being done for it. Where the server listens on this machine alone, a page of another origin must not use it either: the
name it was asked by has to be this machine's, and a browser's request has to come from the server's own page.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from intermodal.serving.faults import Refused, busy, response
from intermodal.serving.keys import Key, Rates, who
from intermodal.serving.metrics import Metrics
from intermodal.serving.settings import LOOPBACK, Settings

_LOG = logging.getLogger("intermodal.serving")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz")
"""Answered to everyone and at any time."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


@dataclass
class Load:
    """What a server is doing.

    Attributes:
        running: requests that are being answered.
        held: bytes of their bodies.
    """

    running: int = 0
    held: int = 0


class Guard:
    """The outermost layer of the server."""

    def __init__(self, app: App, settings: Settings, keys: Sequence[Key], metrics: Metrics, load: Load) -> None:
        """Wraps an application.

        Args:
            app: answers what is let through.
            settings: the limits.
            keys: of which a request needs one; none for requests of anybody.
            metrics: told of every request.
            load: what is being answered; kept up to date here.
        """
        self._app, self._settings, self._keys, self._metrics = app, settings, tuple(keys), metrics
        self._rates, self.load = Rates(settings.rate if keys else 0.0, settings.burst), load

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        one = Exchange(self.load, scope, receive, send, self._settings)
        self.load.running += 1
        try:
            one.client = scope["intermodal.client"] = self._admitted(scope["path"], Headers(scope=scope), one)
            await one.run(self._app)
        except Exception as error:
            if isinstance(error, Refused):
                self._metrics.count("intermodal_refused_total", reason=error.code)
            told = response(error)
            if not one.status:  # else the answer has begun: the client sees that it ends too early
                await told(scope, receive, one.sent)
        finally:
            self.load.running -= 1
            self.load.held -= one.held
            self._tell(scope, one)

    def _admitted(self, path: str, headers: Headers, one: "Exchange") -> str:
        """Returns who asks.

        Raises:
            Refused: they may not, or not now.
        """
        if path in OPEN:
            return "anyone"
        self._check_place(headers)
        client = "anyone" if not self._keys or not _guarded(path) else who(self._keys, headers.get("authorization", ""))
        if client is None:
            raise Refused(
                401,
                "no valid key was given; send the header Authorization: Bearer KEY",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        wait = self._rates.wait(client) if _guarded(path) else 0.0
        if wait:
            raise busy(f"this key may ask {self._settings.rate:g} times per second; come back later", wait)
        if self.load.running > self._settings.requests_max:
            raise busy(f"{self._settings.requests_max} requests are being answered already; come back later", 1)
        length = headers.get("content-length", "0")
        one.reserve(int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0)
        return client

    def _check_place(self, headers: Headers) -> None:
        """Raises Refused where another page uses a browser to reach a server that listens on this machine alone."""
        host = headers.get("host", "")
        names = (*LOOPBACK, *self._settings.hosts)
        if self._settings.local and (urlsplit(f"//{host}").hostname or "") not in names:
            raise Refused(403, f"this server is not called {host[:100]!r}; ask it by {', '.join(names)}", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refused(403, "a page of another origin may not use this server; open its own page", "wrong_origin")

    def _tell(self, scope: Any, one: "Exchange") -> None:
        """Counts and logs a request; nothing of what was in it is written down."""
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - one.began
        status = one.status or 499
        self._metrics.count("intermodal_requests_total", route=route, status=str(status))
        if route not in OPEN:
            self._metrics.observe("intermodal_request_seconds", seconds, route=route)
            told = {"event": "request", "id": one.id, "method": scope["method"], "route": route, "status": status}
            told |= {"client": one.client, "ms": round(1000 * seconds, 1), "in": one.came, "out": one.went}
            _LOG.info(json.dumps(told))


class Exchange:
    """One request and its answer."""

    def __init__(self, load: Load, scope: Any, receive: Receive, send: Send, settings: Settings) -> None:
        """Begins to count."""
        self._load, self._scope, self._receive, self._send, self._settings = load, scope, receive, send, settings
        self.id = uuid.uuid4().hex[:16]
        self.client, self.status = "", 0
        self.came = self.went = self.held = 0
        self.began = time.monotonic()
        self._read, self._gone = asyncio.Event(), asyncio.Event()

    def reserve(self, size: int) -> None:
        """Takes note that so many bytes of the body are or will be held.

        Raises:
            Refused: that is more than one request, or all together, may have.
        """
        settings = self._settings
        if size > settings.body_bytes:
            raise Refused(413, f"the request has more than {settings.body_bytes:,} bytes; send less", "too_large")
        if self._load.held + size - self.held > settings.held_bytes:
            raise busy("too much is being sent to this server; come back later", 2)
        self._load.held += max(0, size - self.held)
        self.held = max(self.held, size)

    async def run(self, app: App) -> None:
        """Lets the application answer, and cancels it when the client goes away.

        Raises:
            Refused: the body is too large or too slow, and nothing was answered yet.
        """
        task = asyncio.ensure_future(app(self._scope, self.receive, self.sent))
        watch = asyncio.create_task(self._watch(task))
        try:
            await task
        except asyncio.CancelledError:
            if not self._gone.is_set():
                task.cancel()
                raise
        finally:
            watch.cancel()

    async def receive(self) -> Message:
        """Returns the next piece of the body; once it is whole, waits until the client goes away.

        Raises:
            Refused: there is too much of it, or it is too slow.
        """
        if self._read.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(self._settings.read_s):
                message = await self._receive()
        except TimeoutError as error:
            raise Refused(408, f"nothing came for {self._settings.read_s:g} s; send faster", "too_slow") from error
        if message["type"] == "http.disconnect":
            self._gone.set()
            return message
        self.came += len(message.get("body", b""))
        self.reserve(self.came)
        if not message.get("more_body", False):
            self._read.set()
        return message

    async def _watch(self, task: "asyncio.Future[None]") -> None:
        """Cancels the task when the client goes away after its body was read."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
        task.cancel()

    async def sent(self, message: Message) -> None:
        """Sends a message of the answer, its head with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.id
        self.went += len(message.get("body", b""))
        await self._send(message)


def _guarded(path: str) -> bool:
    """Returns whether a path needs a key: all but the page, which holds nothing of anybody's."""
    return path.startswith("/v1/") or path in ("/metrics", "/v1")
