"""The library behind the server: many search it at once, one adds at a time, and its vectors come from the queue.

Uploads are kept in the library's own folder under a name made of their content; clients name items by their ids alone,
and no path of theirs ever reaches the disk. Only what ``committed`` told of is acknowledged: no crash loses it.
"""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from jaxtyping import Float32

from intermodal.data.stream import unit_rows
from intermodal.errors import IntermodalError, InvalidValue, StoreError
from intermodal.library.durable import write_durably
from intermodal.library.hits import Hit
from intermodal.library.store import CONTENT
from intermodal.media.source import limited
from intermodal.serving import forms, media, preview
from intermodal.serving.batching import Stopped
from intermodal.serving.engine import Engine
from intermodal.serving.faults import Refused, as_refused, body, busy
from intermodal.serving.openai import STREAM, Here
from intermodal.types import Item

router = APIRouter(tags=["Library"])

UPLOADS = "uploads"
"""The folder in the library's for files that clients sent."""
SUFFIXES = ("txt", "md", "csv", "tsv")
"""Endings of names that say something that the content does not."""
SEARCHERS = 16
ADDERS_MAX = 8  # that wait
SHOWN = 2000  # letters of a text in a hit

_BOUNDED: ContextVar[bool] = ContextVar("intermodal_bounded", default=False)
"""Whether a full queue refuses: a search is refused, adding waits."""


class Queued:
    """A model whose vectors are computed in a queue; for threads."""

    def __init__(self, engine: Engine, name: str) -> None:
        """Says of itself what the model says."""
        self._engine, self._asked = engine, name
        model = engine.models[name]
        for said in ("fingerprint", "name", "preprocessors", "config"):
            if hasattr(model, said):
                setattr(self, said, getattr(model, said))
        self.loop: asyncio.AbstractEventLoop | None = None

    def embed(self, items: Sequence[Item]) -> Float32[np.ndarray, "N D"]:
        """Returns one unit vector per item."""
        assert self.loop is not None  # set before any thread begins
        work = self._engine.embed(self._asked, items, _BOUNDED.get())
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


class Collection:
    """A library, for many clients."""

    def __init__(self, library: Any, engine: Engine, name: str) -> None:
        """Takes over an open library.

        Args:
            library: a ``Library``.
            engine: computes the vectors.
            name: of the model that made the library.
        """
        self.library, self.engine, self.name = library, engine, name
        self._model = Queued(engine, name)
        library.model = self._model
        self._pool = ThreadPoolExecutor(SEARCHERS, "library")
        self._adding = asyncio.Lock()
        self._waiting = 0

    @property
    def uploads(self) -> Path:
        """The folder for files that clients sent."""
        folder: Path = self.library.path / UPLOADS
        return folder

    async def run(self, work: Callable[..., Any], *given: Any) -> Any:
        """Returns what ``work`` gives, called in a thread; says nothing of where the library lies."""
        self._model.loop = asyncio.get_running_loop()
        try:
            return await self._model.loop.run_in_executor(self._pool, copy_context().run, work, *given)
        except StoreError as error:
            raise Refused(409, str(error).replace(str(self.library.path), "library"), "store_error") from error

    async def search(
        self, query: Any, among: Sequence[str] | None, top: int, where: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Returns the hits as clients are told of them."""

        def work() -> list[dict[str, Any]]:
            _BOUNDED.set(True)
            return [self.shown(hit) for hit in self.library.search(query, among=among, top=top, where=where)]

        found: list[dict[str, Any]] = await self.run(work)
        return found

    async def newest(self, top: int, among: Sequence[str] | None) -> list[dict[str, Any]]:
        """Returns the items that were added last as clients are told of them."""

        def work() -> list[dict[str, Any]]:
            return [self.shown(hit) for hit in self.library.newest(top, among=among)]

        found: list[dict[str, Any]] = await self.run(work)
        return found

    async def together(self, query: Any, other: Item) -> Float32[np.ndarray, " D"]:
        """Returns the unit vector between two queries: what lies near both is found.

        Args:
            query: an item, or a hit of the library.
            other: what refines it.
        """
        known = isinstance(query, Hit)
        rows = await self.engine.embed(self.name, [other] if known else [other, query])
        rows = unit_rows(rows, len(rows), self.library.width)
        first = await self.run(self.library.vector, query.id) if known else rows[1]
        both = rows[0] + first
        result: Float32[np.ndarray, " D"] = (both / max(float(np.linalg.norm(both)), 1e-12)).astype(np.float32)
        return result

    async def get(self, id: str) -> Any:
        """Returns a hit by its id.

        Raises:
            Refused: there is none.
        """
        try:
            return await self.run(self.library.get, id)
        except InvalidValue as error:
            raise Refused(
                404, f"the library has no item {id[:100]!r}; take ids from hits", "not_found", "id"
            ) from error

    def shown(self, hit: Any) -> dict[str, Any]:
        """Returns what clients are told of a hit: never a path, but the name of the file."""
        name = hit.metadata.get("name") or PurePosixPath(str(hit.source).replace("\\", "/")).name
        told = {"id": hit.id, "modality": hit.modality, "score": _finite(hit.score), "cosine": _finite(hit.cosine)}
        told |= {"name": str(name), "start_s": hit.start_s, "stop_s": hit.stop_s, "metadata": dict(hit.metadata)}
        if hit.modality == "text":
            try:
                told["text"] = hit.item.text[:SHOWN]
            except StoreError:
                told["text"] = None
        else:
            told["url"] = f"/v1/library/items/{hit.id}/media"
        return told

    async def add(
        self, sources: Sequence[Any], metadata: Mapping[str, Any], say: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Returns what was added; one addition runs at a time, and cancelling the caller stops it.

        Args:
            sources: uploads and items.
            metadata: of all of them.
            say: told of progress and of what is committed, from another thread.

        Raises:
            Refused: many are waiting already.
        """
        if self._waiting >= ADDERS_MAX:
            raise busy(f"{self._waiting} additions wait already; come back later", 10)
        self._waiting += 1
        stopped = threading.Event()
        try:
            async with self._adding:
                task = asyncio.ensure_future(self.run(self._added, sources, metadata, say, stopped))
                try:
                    return await asyncio.shield(task)
                except asyncio.CancelledError:
                    stopped.set()
                    await asyncio.gather(task, return_exceptions=True)  # the next one begins when this has ended
                    raise
        finally:
            self._waiting -= 1

    def _added(
        self,
        sources: Sequence[Any],
        metadata: Mapping[str, Any],
        say: Callable[[dict[str, Any]], None],
        stopped: threading.Event,
    ) -> dict[str, Any]:
        """Adds, in a thread."""
        number = 0

        def progress(share: float, text: str) -> None:
            say({"event": "progress", "share": (number + share) / len(sources), "text": text})
            if stopped.is_set():
                raise Stopped

        def committed(ids: tuple[str, ...]) -> None:
            say({"event": "committed", "ids": list(ids)})

        total = {"added": 0, "skipped": 0}
        failed: list[dict[str, str]] = []
        with limited(**self.engine.settings.media()):
            for number, source in enumerate(sources):  # noqa: B007 - progress tells of it
                told, given = dict(metadata), source
                if isinstance(source, forms.Upload):
                    given = self._kept(source)
                    told.setdefault("name", _named(source.name) or given.name)
                done = self.library.add(given, metadata=told, progress=progress, committed=committed)
                total["added"] += done.added
                total["skipped"] += done.skipped
                if done.failed and isinstance(given, Path):
                    given.unlink(missing_ok=True)
                label, kept = str(told.get("name", "item")), given.name if isinstance(given, Path) else "\0"
                failed += [
                    {"name": label, "reason": r.replace(str(given), label).replace(kept, label)} for _, r in done.failed
                ]
        return {"event": "done", **total, "failed": failed, "total": len(self.library)}

    def _kept(self, upload: forms.Upload) -> Path:
        """Returns the path of an uploaded file on the disk; its name comes from its content."""
        suffix = PurePosixPath(upload.name).suffix.lower().removeprefix(".")
        name = hashlib.sha256(upload.data).hexdigest()[:CONTENT] + (f".{suffix}" if suffix in SUFFIXES else "")
        self.uploads.mkdir(exist_ok=True)
        path = self.uploads / name
        if not path.exists():
            write_durably(path, upload.data)
        return path

    async def remove(self, id: str) -> int:
        """Returns how many items were removed; a file that a client sent goes with the only item of it.

        Raises:
            Refused: there is no such item.
        """
        hit = await self.get(id)

        def work() -> int:
            count: int = self.library.remove(id)
            path = Path(hit.source)
            if len(id) == CONTENT and path.parent == self.uploads:
                path.unlink(missing_ok=True)
            return count

        removed: int = await self.run(work)
        return removed


def _named(words: str) -> str:
    """Returns the last part of a file's name, as a client gave it, without what no text holds."""
    name = PurePosixPath(words.replace("\\", "/")).name[:200]
    return "".join(letter for letter in name.encode("utf-8", "replace").decode() if letter.isprintable())


def _finite(number: float) -> float | None:
    return number if number == number and abs(number) != float("inf") else None


def read(hit: Hit) -> Item:
    """Returns the item of a hit, read in a thread.

    Raises:
        Refused: its file is no longer there, or no longer the same.
    """
    try:
        return hit.item
    except StoreError as error:
        raise Refused(410, "the file of this item is gone or has changed; add it again", "gone", "id") from error


def collection_of(request: Request) -> Collection:
    """Returns the library of the server.

    Raises:
        Refused: it has none.
    """
    found: Collection | None = request.app.state.collection
    if found is None:
        raise Refused(404, "this server has no library; start it with --library FOLDER", "no_library")
    return found


@router.get("/v1/library", summary="What the library holds")
async def stats(request: Request) -> Response:
    """Returns counts by modality, the keys of metadata, and the size on disk."""
    here = collection_of(request)
    found = await here.run(here.library.stats)
    return JSONResponse({**asdict(found), "model": here.name, "name": here.library.path.name})


@router.post(
    "/v1/library",
    summary="Add files and items",
    openapi_extra=forms.described(
        ("file",),
        {
            "items": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}},
            "file": {"type": "string", "format": "binary"},
            "metadata": {"type": "object", "description": "Of all of them: key -> word, number or boolean."},
        },
        {"items": ["a small red circle", {"type": "media", "data": "..."}], "metadata": {"year": 1990}},
    ),
)
async def add(request: Request, engine: Here, stream: bool = False) -> Response:
    """Returns what was added; streamed, lines of JSON tell how far it is and which items are safe."""
    here = collection_of(request)
    fields = forms.Fields(await forms.given(request))
    parts, files, metadata = fields.any("items"), fields.any("file"), fields.mapping("metadata")
    fields.done()
    sources = files if isinstance(files, list) else [files] if files is not None else []
    if any(not isinstance(one, forms.Upload) for one in sources) or not (parts is None or isinstance(parts, list)):
        raise Refused(400, "file is an uploaded file, and items are a list", "invalid_value", "file")
    sources = [*sources, *[await forms.item(engine, part, "items", here.name) for part in parts or ()]]
    if not 1 <= len(sources) <= engine.settings.inputs:
        raise Refused(400, f"give 1 to {engine.settings.inputs} files and items", "invalid_value", "items")
    if not stream:
        return JSONResponse(await here.add(sources, metadata, lambda told: None))
    return StreamingResponse(_lines(here, sources, metadata), media_type="application/x-ndjson", headers=STREAM)


async def _lines(here: Collection, sources: Sequence[Any], metadata: Mapping[str, Any]) -> AsyncIterator[str]:
    """Gives what happens while it is added, a line of JSON each."""
    loop, news = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()

    def say(told: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(news.put_nowait, told)

    task = asyncio.create_task(here.add(sources, metadata, say))
    task.add_done_callback(lambda _: loop.call_soon(news.put_nowait, None))
    try:
        while (told := await news.get()) is not None:
            yield f"{json.dumps(told)}\n"
        yield f"{json.dumps(task.result())}\n"
    except (Refused, IntermodalError) as error:
        yield f"{json.dumps({'event': 'error', **body(as_refused(error))})}\n"
    finally:
        task.cancel()


@router.get("/v1/library/items", summary="The items that were added last")
async def newest(request: Request, top: Annotated[int, Query(ge=1, le=1000)] = 24, among: str = "") -> Response:
    """Returns them as hits without scores, the newest first; ``among``: modalities, with commas."""
    here = collection_of(request)
    return JSONResponse({"items": await here.newest(top, [word for word in among.split(",") if word] or None)})


@router.get("/v1/library/items/{id}", summary="An item")
async def item(id: str, request: Request) -> Response:
    """Returns what the library says of an item."""
    here = collection_of(request)
    hit = await here.get(id)
    return JSONResponse(await here.run(here.shown, hit))


@router.get("/v1/library/items/{id}/media", summary="The media of an item")
async def item_media(id: str, request: Request, format: str = "") -> Response:
    """Returns the item as a file; one that is a part of a longer file is that part alone."""
    here = collection_of(request)
    hit = await here.get(id)

    file = await here.engine.aside(lambda: media.encoded(read(hit), "", format))
    headers = {"Cache-Control": "private, max-age=86400", "ETag": f'"{hit.id}-{file.kind}"'}
    return Response(file.data, media_type=file.media_type, headers=headers)


@router.get(
    "/v1/library/items/{id}/preview",
    summary="An item made small",
    responses={200: {"content": {"image/webp": {}, "application/json": {"example": preview.EXAMPLE}}}},
)
async def item_preview(id: str, request: Request, size: Annotated[int, Query(ge=16, le=1024)] = 320) -> Response:
    """Returns a small picture of a picture or a clip, the outline of a sound or a series, the beginning of a text."""
    here = collection_of(request)
    hit = await here.get(id)

    data, media_type = await here.engine.aside(lambda: preview.made(read(hit), size))
    headers = {"Cache-Control": "private, max-age=86400", "ETag": f'"{hit.id}-{size}"'}
    return Response(data, media_type=media_type, headers=headers)


@router.delete("/v1/library/items/{id}", summary="Remove an item")
async def removed(id: str, request: Request) -> Response:
    """Returns how many items were removed."""
    here = collection_of(request)
    return JSONResponse({"id": id, "removed": await here.remove(id)})
