"""What comes off the socket: heads and what is no body are bounded, bodies are not."""

import socket
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request

from intermodal.serving.wire import HEAD_BYTES_MAX
from tests.serving.places import listening

READ = 2**18
"""Bytes that an event loop takes from a socket at a time."""


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    app = FastAPI()

    @app.post("/")
    async def length(request: Request) -> int:
        return len(await request.body())

    with listening(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


def answer(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Returns what comes back until the server closes; pieces are sent as long as it listens."""
    with socket.create_connection(address, timeout=30) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        found = b""
        try:
            while more := line.recv(2**16):
                found += more
        except ConnectionResetError:
            pass
        return found


POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


def test_long_bodies_and_usual_heads_come_through(address: tuple[str, int]) -> None:
    size = 5 * HEAD_BYTES_MAX
    head = POST + b"X-Long: " + b"x" * (HEAD_BYTES_MAX // 2) + f"\r\nContent-Length: {size}\r\n\r\n".encode()
    found = answer(address, head, *[b"y" * (size // 5)] * 5)
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(str(size).encode())


@pytest.mark.parametrize(
    "piece", [b"x" * 1000, b"x\r\nX-More: " + b"x" * 1000], ids=["one endless header", "headers without end"]
)
def test_a_head_without_end_is_refused(address: tuple[str, int], piece: bytes) -> None:
    found = answer(address, POST + b"X-Long: ", *[piece] * (4 * READ // len(piece)))
    assert found == b"" or found.startswith(b"HTTP/1.1 400")


def test_what_follows_a_body_without_end_is_refused(address: tuple[str, int]) -> None:
    begin = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    assert b" 200 " not in answer(address, begin, *[b"X-Trailer: " + b"x" * 1000 + b"\r\n"] * (4 * READ // 1000))
