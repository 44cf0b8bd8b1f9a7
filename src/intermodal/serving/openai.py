"""Routes of the OpenAI API over whatever is loaded: models, embeddings and pictures.

Shapes are those that its clients read. Added: parts of any modality in ``input`` of embeddings; ``seed`` and the other
options of sampling for pictures. What cannot be honoured is refused, never passed over: token ids as input.
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from intermodal.data.stream import unit_rows
from intermodal.errors import InvalidValue
from intermodal.sampling.autoregressive import Sampling
from intermodal.serving import media
from intermodal.serving.engine import Engine, Made, direction
from intermodal.serving.faults import Refused
from intermodal.types import Embeds, Item

router = APIRouter(tags=["OpenAI"])


async def engine_of(request: Request) -> Engine:  # else it is called in a thread, for each request
    """Returns the engine of the server."""
    engine: Engine = request.app.state.engine
    return engine


Here = Annotated[Engine, Depends(engine_of)]
Name = Annotated[str, Field(description="A loaded model; one of the hosted API's names stands for any that can.")]

# ---- models


def _told(engine: Engine, name: str, since: float) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(since),
        "owned_by": "intermodal",
        "intermodal": engine.abilities(name),
    }


@router.get("/v1/models", summary="What is loaded, and what it can do")
async def models(engine: Here, request: Request) -> Response:
    """Returns all models."""
    since = request.app.state.since
    return JSONResponse({"object": "list", "data": [_told(engine, name, since) for name in engine.models]})


@router.get("/v1/models/{model:path}", summary="One model")
async def one_model(model: str, engine: Here, request: Request) -> Response:
    """Returns one model."""
    if model not in engine.models:
        known = ", ".join(engine.models)
        raise Refused(404, f"there is no model {model[:100]!r}; use one of: {known}", "model_not_found", "model")
    return JSONResponse(_told(engine, model, request.app.state.since))


# ---- embeddings


@dataclass(frozen=True)
class Embedding:
    """A request for vectors."""

    input: Annotated[
        str | dict[str, Any] | list[Any],
        Field(
            description="A text, a part (image_url, input_audio, video_url, media), or a list of them.",
            examples=["a red circle", ["a red circle", "a blue star"]],
        ),
    ]
    model: Name = ""
    encoding_format: Annotated[str, Field(pattern="^(float|base64)$")] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None


@router.post("/v1/embeddings", summary="Texts and media to unit vectors of one space")
async def embeddings(asked: Embedding, engine: Here) -> Response:
    """Returns a vector for each input, in their order."""
    name, _ = engine.able(asked.model, Embeds, "embed")
    parts = asked.input if isinstance(asked.input, list) else [asked.input]
    if not parts or len(parts) > engine.settings.inputs:
        raise Refused(
            400, f"{len(parts)} inputs were given; give 1 to {engine.settings.inputs:,}", "invalid_input", "input"
        )
    if any(not isinstance(part, str | dict) for part in parts):
        raise Refused(400, "input is a list of token ids; send the texts themselves", "invalid_input", "input")
    items, used = await read(engine, parts, name)
    rows = await engine.embed(name, items)
    if asked.dimensions is not None:
        rows = shortened(rows, asked.dimensions)
    shown: Sequence[Any] = rows.tolist() if asked.encoding_format == "float" else [_base64(row) for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(shown)]
    usage = {"prompt_tokens": used, "total_tokens": used}
    return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})


async def read(engine: Engine, parts: Sequence[Any], name: str, param: str = "input") -> tuple[list[Item], int]:
    """Returns the items that parts are, and how many tokens their texts have; media are opened in threads."""
    texts = [part for part in parts if isinstance(part, str)]
    texts += [str(p.get("text", "")) for p in parts if isinstance(p, dict) and p.get("type") in ("text", "input_text")]
    used = engine.count(texts, name)

    def opened() -> list[Item]:
        return [media.part_item(part, engine.settings, param) for part in parts]

    if all(isinstance(part, str) for part in parts):
        return opened(), used
    return await engine.aside(opened), used


def shortened(rows: np.ndarray, dimensions: int) -> np.ndarray:
    """Returns the first numbers of each vector, of unit length again.

    Raises:
        Refused: the vectors have not so many, or these have no direction.
    """
    width = rows.shape[1]
    if dimensions > width:
        raise Refused(400, f"dimensions is {dimensions}; this model has {width}", "invalid_value", "dimensions")
    try:
        return unit_rows(rows, len(rows), dimensions)
    except InvalidValue as error:
        raise Refused(400, str(error), "invalid_value", "dimensions") from error


def _base64(row: np.ndarray) -> str:
    """Returns the numbers as little-endian float32 in base64, which clients ask for since it is short."""
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers of a stream, which nothing on its way may hold back."""


def words_of(made: Made) -> str:
    """Returns the text that was made."""
    item: Any = made.candidates[0].item
    return str(item.text)


def event(told: Mapping[str, Any]) -> str:
    """Returns one event of a stream."""
    return f"data: {json.dumps(told)}\n\n"


# ---- pictures


@dataclass(frozen=True)
class Pictures:
    """A request for pictures."""

    prompt: Annotated[str, Field(min_length=1, examples=["a small red circle and a large blue star"])]
    model: Name | None = None
    n: Annotated[int | None, Field(ge=1, le=10)] = 1
    size: Annotated[str | None, Field(pattern=r"^(auto|\d{1,4}x\d{1,4})$")] = None
    response_format: Annotated[str | None, Field(pattern="^(url|b64_json)$")] = None
    output_format: Annotated[str | None, Field(pattern="^(png|jpeg|webp)$")] = None
    stream: bool | None = False
    temperature: Annotated[float | None, Field(ge=0, le=10)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**31)] = None
    user: str | None = None
    background: str | None = dataclass_field(default=None)


@router.post("/v1/images/generations", summary="Words to pictures")
async def pictures(asked: Pictures, engine: Here) -> Response:
    """Returns pictures, the best first; ``url`` is a data URL, since nothing is kept here."""
    if asked.stream:
        raise Refused(400, "pictures are not streamed; leave stream out", "unsupported", "stream")
    found = engine.translating(asked.model or "")
    used = engine.count([asked.prompt], next(iter(found)))
    source, to = "text", "image"
    if len(found) == 1:
        direction(found, (("text", "image"),), "make pictures from words")
    how = sampling(asked.temperature, asked.top_p, asked.seed)
    items = await several(engine, found, media.text_item(asked.prompt), (source, to), how, asked.n or 1)
    kind = asked.output_format or "png"

    def files() -> list[media.File]:
        return [media.encoded(_sized(item, asked.size), made.model, kind) for made, item in items]

    data = [
        {"url": file.url} if asked.response_format == "url" else {"b64_json": base64.b64encode(file.data).decode()}
        for file in await engine.aside(files)
    ]
    usage: dict[str, Any] = {"input_tokens": used, "output_tokens": 0, "total_tokens": used}
    usage["input_tokens_details"] = {"image_tokens": 0, "text_tokens": used}
    told = {"created": int(time.time()), "data": data, "output_format": kind, "usage": usage}
    return JSONResponse(told, headers={**media.MARK, "X-Intermodal-Model": items[0][0].model})


async def several(
    engine: Engine, models: Mapping[str, Any], item: Item, pair: tuple[str, str], how: Sampling | None, count: int
) -> list[tuple[Made, Any]]:
    """Returns ``count`` things made of one; a model that gives but one at a time is asked again with other seeds."""
    (made,) = await engine.translate(models, [item], pair[1], pair[0], how, count)
    found = [(made, candidate.item) for candidate in made.candidates[:count]]
    while len(found) < count:
        again = Sampling(1.0, 0, 0.9, (how.seed if how else 0) + len(found))
        (made,) = await engine.translate(models, [item], pair[1], pair[0], again)
        found.append((made, made.candidates[0].item))
    return found


def sampling(temperature: float | None, top_p: float | None, seed: int | None, top_k: int | None = None) -> Any:
    """Returns how ids are chosen; None, the model's own way, where nothing is said."""
    if temperature is None and top_p is None and seed is None and top_k is None:
        return None
    return Sampling(1.0 if temperature is None else temperature, top_k or 0, top_p or 0.9, seed or 0)


def _sized(item: Any, size: str | None) -> Any:
    """Returns a picture at the size that was asked for; at its own where that is left to the server.

    Raises:
        Refused: the size is none.
    """
    if size in (None, "auto"):
        return item
    from PIL import Image

    width, height = map(int, str(size).split("x"))
    if not (1 <= width <= 4096 and 1 <= height <= 4096):
        raise Refused(400, f"size is {size}; give 1x1 to 4096x4096, or auto", "invalid_value", "size")
    grown = Image.fromarray(item.pixels).resize((width, height), Image.Resampling.LANCZOS)
    return type(item)(np.asarray(grown))
