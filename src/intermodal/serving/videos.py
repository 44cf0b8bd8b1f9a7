"""The hosted API's routes for videos, for clients that have them: a job is begun, looked at, and its file fetched.

``/v1/translate`` does the same in one request. Jobs live in memory: the last ``KEPT`` of them, until the server stops.
A job belongs to the key that began it.
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from intermodal.serving import forms, media
from intermodal.serving.engine import Engine, direction
from intermodal.serving.faults import Refused, as_refused, busy
from intermodal.serving.openai import Here

router = APIRouter(tags=["OpenAI"])

KEPT = 32
RUNNING = 8


@dataclass(eq=False)
class Job:
    """A video being made."""

    owner: str
    model: str
    prompt: str
    id: str = field(default_factory=lambda: f"video_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    completed: int | None = None
    file: media.File | None = None
    size: str = "auto"
    seconds: float = 0.0
    error: Refused | None = None
    task: "asyncio.Task[None] | None" = None

    def told(self) -> dict[str, Any]:
        """Returns what clients are told of it."""
        status = "failed" if self.error else "completed" if self.file else "in_progress"
        told: dict[str, Any] = {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": status,
            "prompt": self.prompt,
        }
        told |= {"created_at": self.created, "completed_at": self.completed, "expires_at": None}
        told |= {"progress": 100 if self.file else 0, "seconds": f"{self.seconds:g}", "size": self.size}
        told["error"] = {"code": self.error.code, "message": self.error.message} if self.error else None
        return told


Jobs = OrderedDict[str, Job]


def _owner(request: Request) -> str:
    """Returns whose request it is: the name of its key."""
    return str(request.scope.get("intermodal.client", ""))


def _job(request: Request, name: str) -> Job:
    jobs: Jobs = request.app.state.jobs
    if name not in jobs or jobs[name].owner != _owner(request):
        raise Refused(404, f"there is no video {name[:100]!r}; it may have been forgotten", "not_found", "video_id")
    return jobs[name]


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {
                "schema": {
                    "type": "object",
                    "required": ["prompt"],
                    "properties": {"prompt": {"type": "string", "minLength": 1}, "model": {"type": "string"}},
                }
            }
            for kind in ("multipart/form-data", "application/json")
        },
    }
}


@router.post("/v1/videos", summary="Begin a video", openapi_extra=_FORM)
async def begin(request: Request, engine: Here) -> Response:
    """Returns the job; a picture to begin with, a length and a size are refused."""
    given: Any = await forms.given(request)
    for name in ("input_reference", "seconds", "size"):
        if given.get(name):
            raise Refused(400, f"{name} is not offered here; use /v1/translate", "unsupported", name)
    prompt, model = given.get("prompt"), given.get("model") or ""
    if not isinstance(prompt, str) or not prompt or not isinstance(model, str):
        raise Refused(400, "prompt is missing; give words", "invalid_value", "prompt")
    media.text_item(prompt)  # said at once where it is no text
    models = engine.translating(model)
    direction(models, (("text", "video"),), "make videos from words")
    engine.count([prompt], next(iter(models)))
    jobs: Jobs = request.app.state.jobs
    if sum(job.task is not None and not job.task.done() for job in jobs.values()) >= RUNNING:
        raise busy(f"{RUNNING} videos are being made already; come back later", 10)
    job = Job(_owner(request), next(iter(models)), prompt)
    jobs[job.id] = job
    while len(jobs) > KEPT:
        jobs.popitem(last=False)
    job.task = asyncio.create_task(_make(engine, models, job))
    return JSONResponse(job.told())


async def _make(engine: Engine, models: dict[str, Any], job: Job) -> None:
    """Makes the video of a job."""
    try:
        (made,) = await engine.translate(models, [media.text_item(job.prompt)], "video", "text")
        item: Any = made.candidates[0].item
        file = await engine.aside(media.encoded, item, made.model)
        job.size, job.seconds = f"{item.frames.shape[2]}x{item.frames.shape[1]}", item.seconds
        job.file, job.completed = file, int(time.time())
    except Exception as error:
        job.error = as_refused(error)


@router.get("/v1/videos", summary="All videos")
async def listed(request: Request) -> Response:
    """Returns all jobs, the newest first."""
    jobs: Jobs = request.app.state.jobs
    data = [job.told() for job in reversed(jobs.values()) if job.owner == _owner(request)]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return JSONResponse({"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last})


@router.get("/v1/videos/{video_id}", summary="How far a video is")
async def one(video_id: str, request: Request) -> Response:
    """Returns a job."""
    return JSONResponse(_job(request, video_id).told())


@router.get("/v1/videos/{video_id}/content", summary="The file of a video")
async def content(video_id: str, request: Request) -> Response:
    """Returns the file."""
    file = _job(request, video_id).file
    if file is None:
        raise Refused(409, "this video is not done; look again in a moment", "not_ready", "video_id")
    return Response(file.data, media_type=file.media_type, headers=media.MARK)


@router.delete("/v1/videos/{video_id}", summary="Forget a video")
async def forgotten(video_id: str, request: Request) -> Response:
    """Returns that it is forgotten; what is still being made is stopped."""
    job = _job(request, video_id)
    if job.task is not None:
        job.task.cancel()
    jobs: Jobs = request.app.state.jobs
    jobs.pop(video_id)
    return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})
