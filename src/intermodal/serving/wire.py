"""How requests come off the socket: parsed in C, by a loop in C, with a bound on all that is no body.

What an event loop does in Python holds up the threads that compute. The bound is left to its caller by that parser.
"""

from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 2**16
"""Of a request's head, of what follows its body, or between two pieces of that; one reading of the socket more."""


class Bounded(HttpToolsProtocol):
    """A connection that is closed where bytes come and neither a head nor a piece of a body ends."""

    _loose = 0

    def data_received(self, data: bytes) -> None:
        """Reads on, unless that was too much."""
        self._loose += len(data)
        super().data_received(data)
        if self._loose > HEAD_BYTES_MAX and not self.transport.is_closing():
            if self.cycle and not self.cycle.response_complete:  # an answer may have begun
                self.transport.close()
            else:
                self.send_400_response(f"The head of a request may have {HEAD_BYTES_MAX:,} bytes.")

    def on_headers_complete(self) -> None:
        """Begins to count again."""
        self._loose = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Begins to count again."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begins to count again."""
        self._loose = 0
        super().on_message_complete()


def server(app: Any, drain_s: float) -> uvicorn.Server:
    """Returns what serves an application on a socket.

    Args:
        app: an ASGI application, which logs its requests itself.
        drain_s: how long what runs may go on once the server was told to stop.
    """
    config = uvicorn.Config(
        app,
        http=Bounded,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is but by its key
        timeout_graceful_shutdown=round(drain_s) or 1,
        timeout_keep_alive=30,
    )
    return uvicorn.Server(config)
