"""The application: routes, errors in one shape, the page, and what happens when it starts and stops."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from intermodal.errors import IntermodalError, InvalidValue, StoreError, Unsupported
from intermodal.serving import chat, collection, openai, routes, speech, videos
from intermodal.serving.collection import Collection
from intermodal.serving.engine import Engine
from intermodal.serving.faults import Refused, busy, response
from intermodal.serving.guard import Guard, Load
from intermodal.serving.keys import Key
from intermodal.serving.metrics import SIZES, Labels, Metrics
from intermodal.serving.settings import Settings
from intermodal.types import Embeds

PAGE = Path(__file__).parent / "page"

ERROR = {
    "description": "What was wrong, and what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            },
            "example": {
                "error": {
                    "message": "there is no model 'x'; use one of: diorama",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
        }
    },
}


def build(settings: Settings, models: Mapping[str, Any], library: Any = None, keys: Sequence[Key] = ()) -> FastAPI:
    """Returns the application.

    Args:
        settings: its limits.
        models: name -> loaded model, in evaluation mode.
        library: an open ``Library``, or None for none.
        keys: of which a request needs one; none for requests of anybody on this machine.

    Raises:
        InvalidValue: it can be reached from elsewhere and has no keys.
    """
    if not settings.local and not keys:
        raise InvalidValue(
            f"the address {settings.host} can be reached from elsewhere, so keys are needed; make one with: intermodal "
            "serve --keys FILE --new-key NAME, and give --keys FILE, or set INTERMODAL_KEYS"
        )
    metrics = Metrics()
    app = FastAPI(
        title="intermodal",
        version=version("intermodal"),
        description="Search, translate and ask across text, images, audio, video and time series.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        responses={"4XX": ERROR},
    )
    app.state.settings, app.state.metrics, app.state.since = settings, metrics, time.time()
    app.state.engine, app.state.ready = Engine(models, settings), True
    app.state.jobs = OrderedDict()
    app.state.collection = None if library is None else Collection(library, app.state.engine, _maker(models, library))
    app.state.load = Load()
    for kind in (Refused, IntermodalError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _failed)
    app.add_middleware(Guard, settings=settings, keys=tuple(keys), metrics=metrics, load=app.state.load)
    for part in (openai, chat, speech, videos, routes, collection):
        app.include_router(part.router)
    app.include_router(router)
    app.include_router(page)
    app.state.assets = _assets()
    return app


def _maker(models: Mapping[str, Any], library: Any) -> str:
    """Returns the name of the model that makes the library's vectors: the one it was made by, else the first.

    Raises:
        StoreError: none of the models made it.
    """
    embedding = [name for name, model in models.items() if isinstance(model, Embeds)]
    problem: Exception = Unsupported("a library takes a model that embeds; start the server with one")
    for name in embedding:
        try:
            library.model = models[name]
        except StoreError as error:
            problem = error
        else:
            return name
    raise problem


async def _failed(request: Request, error: Exception) -> Response:
    """Returns the answer to a request that failed, in the one shape."""
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, Refused):  # of a body that the framework was reading
            return response(error.__cause__)
        words = {404: f"there is no {request.method} {request.url.path[:200]}; /openapi.json lists what there is"}
        told = words.get(error.status_code, str(error.detail))
        return response(
            Refused(error.status_code, told, _CODES.get(error.status_code, "invalid_request"), headers=error.headers)
        )
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return response(Refused(400, f"{place or 'the body'}: {first['msg']}", "invalid_value", place or None))
    return response(error)


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs while the server does; at the end what runs is finished."""
    yield
    app.state.ready = False
    await app.state.engine.drain()


# ---- the page

ASSETS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Endings of the files that the page is made of, and their media types; no other file is sent."""


@dataclass(frozen=True)
class Asset:
    """A file of the page.

    Attributes:
        data: what is in it.
        media_type: what it is.
        tag: differs when the content does.
    """

    data: bytes
    media_type: str
    tag: str


def _assets() -> dict[str, Asset]:
    """Returns the files of the page by their names; read once, so that no request ever names a path."""
    found = {}
    for path in sorted(PAGE.iterdir()):
        if path.suffix in ASSETS:
            data = path.read_bytes()
            found[path.name] = Asset(data, ASSETS[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found


page = APIRouter(include_in_schema=False)


@page.get("/")
@page.get("/page/{name}")
async def asset(request: Request, name: str = "index.html") -> Response:
    """Returns a file of the page, or that the browser has it already."""
    found: Asset | None = request.app.state.assets.get(name)
    if found is None:
        raise HTTPException(404)
    headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
    if found.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.data, media_type=found.media_type, headers=headers)


# ---- how it is

router = APIRouter(tags=["State"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> Response:
    """Returns that it does."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", summary="Whether it takes work", responses={503: ERROR})
async def readyz(request: Request) -> Response:
    """Returns that it takes work, or that it stops."""
    if not request.app.state.ready:
        raise busy("the server is stopping", 5, 503)
    return JSONResponse({"status": "ready", "models": list(request.app.state.engine.models)})


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Returns all counters in the text format of Prometheus."""
    state = request.app.state
    queues = {"quick": state.engine.quick, "slow": state.engine.slow}
    for name, queue in queues.items():
        for size in queue.batches:
            state.metrics.observe("intermodal_batch_size", size, SIZES, queue=name)
        queue.batches = []
    gauges: dict[str, dict[Labels, float]] = {
        "intermodal_queue_pieces": {(("queue", name),): float(len(queue)) for name, queue in queues.items()},
        "intermodal_requests_running": {(): float(state.load.running)},
        "intermodal_ready": {(): float(state.ready)},
    }
    if state.collection is not None:
        here: Collection = state.collection
        gauges["intermodal_library_items"] = {(): float(await here.run(len, here.library))}
    return PlainTextResponse(state.metrics.text(gauges), media_type="text/plain; version=0.0.4")
