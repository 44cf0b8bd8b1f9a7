"""What goes wrong, in the one shape that clients of the OpenAI API know: ``{"error": {message, type, param, code}}``.

Every error says what was wrong and what to do. What nobody foresaw is logged with its place, and told without it.
"""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from intermodal.errors import (
    IntermodalError,
    InvalidValue,
    StoreError,
    UnknownName,
    UnreadableMedia,
    Unsupported,
)

_LOG = logging.getLogger("intermodal.serving")

_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnreadableMedia, 400, "unreadable_media"),
    (UnknownName, 400, "unknown_name"),
    (InvalidValue, 400, "invalid_value"),
    (Unsupported, 400, "unsupported"),
    (StoreError, 409, "store_error"),
    (IntermodalError, 400, "invalid_request"),
)
"""The first that fits counts."""


class Refused(Exception):
    """A request that is not answered as it asked to be."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Keeps what to tell the client.

        Args:
            status: of HTTP.
            message: one sentence: what was wrong, and what to do.
            code: a word for programs.
            param: the part of the request that is wrong.
            headers: of the answer.
        """
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = (
            status,
            message,
            code,
            param,
            dict(headers or {}),
        )


def busy(message: str, seconds: float, status: int = 429) -> Refused:
    """Returns the refusal that asks the client to come back after some seconds."""
    code = "rate_limit_exceeded" if status == 429 else "unavailable"
    return Refused(status, message, code, headers={"Retry-After": str(max(1, math.ceil(seconds)))})


def as_refused(error: Exception) -> Refused:
    """Returns the refusal that an error stands for; one that nobody foresaw is logged."""
    if isinstance(error, Refused):
        return error
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return Refused(status, str(error), code)
    _LOG.error(json.dumps({"event": "fault", "error": type(error).__name__}), exc_info=error)
    return Refused(500, f"the server failed at this ({type(error).__name__}); its log says where", "internal_error")


def body(error: Refused) -> dict[str, Any]:
    """Returns what is told of an error."""
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(error.status)
    kind = kind or ("server_error" if error.status >= 500 else "invalid_request_error")
    message = error.message.encode("utf-8", "replace").decode()
    return {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}


def response(error: Exception) -> JSONResponse:
    """Returns the answer that tells of an error."""
    refused = as_refused(error)
    return JSONResponse(body(refused), refused.status, refused.headers)
