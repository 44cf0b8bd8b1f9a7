"""Our own routes: any to any, answers, search, and why something matched."""

import math
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from intermodal import translation
from intermodal.explain.parts import Explanation
from intermodal.serving import forms, media
from intermodal.serving.collection import collection_of, read
from intermodal.serving.engine import Engine, Made
from intermodal.serving.faults import Refused
from intermodal.serving.openai import Here, sampling
from intermodal.types import MODALITIES, Answers, Embeds, Item

router = APIRouter(tags=["intermodal"])

_PART: dict[str, Any] = {
    "description": "Words, or a part: text, image_url, input_audio, video_url, media (data: base64 of any file).",
    "anyOf": [{"type": "string"}, {"type": "object"}],
}
_TRANSLATE = forms.described(
    ("to",),
    {
        "input": _PART,
        "file": {"type": "string", "format": "binary"},
        "to": {"type": "string", "description": "The field to make, such as image, audio or text."},
        "from": {"type": "string", "description": "The field that the input is of; default: by its modality."},
        "with": {"type": "object", "description": "Further fields of the input: name -> words or part."},
        "model": {"type": "string"},
        "count": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 0},
        "seed": {"type": "integer", "minimum": 0},
        "format": {
            "type": "string",
            "description": "Of the file: png, jpeg, webp, wav, mp3, flac, mp4, csv, lossless, ...",
        },
        "response": {"type": "string", "enum": ["json", "file"], "description": "file: the best one, as it is."},
    },
    {"input": "a small red circle moving left", "to": "image", "count": 2, "seed": 3},
)
_SEARCH = forms.described(
    (),
    {
        "query": _PART,
        "file": {"type": "string", "format": "binary"},
        "id": {"type": "string", "description": "Instead of a query: an item of the library."},
        "among": {"type": "array", "items": {"type": "string", "enum": list(MODALITIES)}},
        "top": {"type": "integer", "minimum": 1, "default": 10},
        "refine": {
            **_PART,
            "description": "Words or a part besides the query; the sum of their vectors is searched for.",
        },
        "where": {"type": "object", "description": "Metadata that a hit must have: key -> value or values."},
    },
    {"query": "a small red circle", "among": ["image", "audio"], "top": 5},
)


@router.get("/v1/directions", summary="Which field can be made from which")
async def directions(engine: Here) -> Response:
    """Returns for each field the ways to every other, with the models of their steps."""
    found = engine.translating("")
    given = list(found.values())
    starts = dict.fromkeys(a for model in given for a, _ in model.directions)
    names = list(found)
    told = [
        {
            "from": start,
            "to": to,
            "from_modality": translation.modality_of(given, start),
            "modality": translation.modality_of(given, to),
            "by": [names[step.model] for step in way],
            "through": [step.to for step in way[:-1]],
        }
        for start in starts
        for to, way in translation.ways(given, start).items()
    ]
    return JSONResponse({"directions": told})


@router.post("/v1/translate", summary="Anything into anything", openapi_extra=_TRANSLATE)
async def translate(request: Request, engine: Here) -> Response:
    """Returns what was made, the best first: as JSON with data URLs, or the best one as a file."""
    fields = forms.Fields(await forms.given(request))
    models = engine.translating(fields.words("model"))
    to, source = fields.words("to"), fields.words("from") or None
    count = fields.whole("count", 1, 1, engine.settings.candidates)
    seed, top_k = fields.whole("seed", -1, 0, 2**31 - 1), fields.whole("top_k", -1, 0, 2**31 - 1)
    how = sampling(
        fields.number("temperature"), fields.number("top_p"), seed if seed >= 0 else None, top_k if top_k >= 0 else None
    )
    kind, shape = fields.words("format"), fields.words("response", "json")
    beside, words, file = fields.mapping("with"), fields.any("input"), fields.any("file")
    fields.done()
    if not to or shape not in ("json", "file") or (words is None) == (file is None):
        raise Refused(
            400, "give the field to make as 'to', one of 'input' and 'file', and response json or file", "invalid_value"
        )
    name = next(iter(models))
    item = await forms.item(engine, words if file is None else file, "input", name)
    began = time.perf_counter()
    if beside:
        sample: dict[str, Item] = {source or translation.field_of(list(models.values()), [item]): item}
        sample |= {field: await forms.item(engine, value, f"with.{field}", name) for field, value in beside.items()}
        (made,) = await engine.complete(models, [sample], to, how, count)
    else:
        (made,) = await engine.translate(models, [item], to, source, how, count)
    seconds = time.perf_counter() - began
    return await _made(engine, made, kind, shape == "file", seconds)


async def _made(engine: Engine, made: Made, kind: str, as_file: bool, seconds: float) -> Response:
    """Returns the answer with what was made."""
    headers = {**media.MARK, "X-Intermodal-Model": made.model}
    chosen = made.candidates[:1] if as_file else made.candidates

    def files() -> list[media.File]:
        return [media.encoded(candidate.item, made.model, kind) for candidate in chosen]

    encoded = await engine.aside(files)
    if as_file:
        return Response(encoded[0].data, media_type=encoded[0].media_type, headers=headers)
    told = []
    for candidate, file in zip(chosen, encoded, strict=True):
        item: Any = candidate.item
        one = {"modality": item.modality, "score": candidate.score if math.isfinite(candidate.score) else None}
        one |= {"media_type": file.media_type, "generated": True}
        told.append(one | ({"text": item.text} if item.modality == "text" else {"url": file.url}))
    way = [{"from": step.source, "to": step.to} for step in made.way]
    return JSONResponse({"candidates": told, "way": way, "model": made.model, "seconds": seconds}, headers=headers)


@router.post(
    "/v1/answer",
    summary="A question about a sample",
    openapi_extra=forms.described(
        ("question",),
        {
            "question": {"type": "string", "minLength": 1},
            "sample": {"type": "object", "description": "Field -> words or part."},
            "file": {"type": "string", "format": "binary"},
            "model": {"type": "string"},
        },
        {"question": "what colour is the circle?", "sample": {"image": {"type": "media", "data": "..."}}},
    ),
)
async def answer(request: Request, engine: Here) -> Response:
    """Returns the answer in words."""
    fields = forms.Fields(await forms.given(request))
    name, _ = engine.able(fields.words("model"), Answers, "answer questions")
    question, parts, file = fields.words("question"), fields.mapping("sample"), fields.any("file")
    fields.done()
    if not question or bool(parts) == (file is not None):
        raise Refused(400, "give a question, and a sample or a file that it is about", "invalid_value", "question")
    engine.count([question], name)
    if file is not None:
        item = await forms.item(engine, file, "file", name)
        sample = {item.modality: item}
    else:
        sample = {field: await forms.item(engine, part, f"sample.{field}", name) for field, part in parts.items()}
    return JSONResponse({"answer": await engine.answer(name, sample, question), "model": name})


@router.post("/v1/search", summary="Any item finds any other", openapi_extra=_SEARCH)
async def search(request: Request, engine: Here) -> Response:
    """Returns the items of the library that fit best, best first."""
    library = collection_of(request)
    fields = forms.Fields(await forms.given(request))
    words, file, known = fields.any("query"), fields.any("file"), fields.words("id")
    among, where, besides = fields.names("among"), fields.mapping("where"), fields.any("refine")
    top = fields.whole("top", 10, 1, engine.settings.hits)
    fields.done()
    if sum(given is not None and given != "" for given in (words, file, known or None)) != 1:
        raise Refused(400, "give one of query, file and id", "invalid_value", "query")
    if known:
        query: Any = await library.get(known)
    else:
        query = await forms.item(engine, words if file is None else file, "query", library.name)
    if besides not in (None, ""):
        query = await library.together(query, await forms.item(engine, besides, "refine", library.name))
    began = time.perf_counter()
    hits = await library.search(query, among or None, top, where or None)
    seconds = time.perf_counter() - began
    return JSONResponse({"hits": hits, "seconds": seconds})


_EXPLAIN = forms.described(
    (),
    {
        "query": _PART,
        "file": {"type": "string", "format": "binary", "description": "Instead of a query: a file."},
        "id": {"type": "string", "description": "Instead of a query: an item of the library."},
        "of": {"type": "string", "description": "The item of the library whose parts are told."},
        "item": {**_PART, "description": "Instead of 'of': words or a part."},
        "model": {"type": "string"},
        "cells": {"type": "integer", "minimum": 2, "maximum": 8, "default": 6},
        "spans": {"type": "integer", "minimum": 2, "maximum": 48, "default": 12},
    },
    {"query": "a small red circle", "item": {"type": "media", "data": "..."}},
)


@router.post("/v1/explain", summary="Which region, word or second decided", openapi_extra=_EXPLAIN)
async def explain(request: Request, engine: Here) -> Response:
    """Returns by how much the cosine falls without each part of the item; where the query is words, of these too."""
    fields = forms.Fields(await forms.given(request))
    queries = [fields.any("query"), fields.any("file"), fields.words("id") or None]
    items = [fields.any("item"), fields.words("of") or None]
    asked, cells, spans = fields.words("model"), fields.whole("cells", 6, 2, 8), fields.whole("spans", 12, 2, 48)
    fields.done()
    if sum(one not in (None, "") for one in queries) != 1 or sum(one not in (None, "") for one in items) != 1:
        raise Refused(400, "give one of query, file and id, and one of item and of", "invalid_value", "query")
    name, _ = engine.able(asked, Embeds, "embed")
    if not asked and (queries[2] or items[1]):
        name = collection_of(request).name
    query, item = (
        await _one(request, queries, "query", name),
        await _one(request, [items[0], None, items[1]], "item", name),
    )
    began = time.perf_counter()
    found = await engine.explain(name, item, query, cells, spans)
    told: dict[str, Any] = {"cosine": found.cosine, "item": _parts(item, found)}
    if query.modality == "text":
        told["query"] = _parts(query, await engine.explain(name, query, item, cells, spans))
    return JSONResponse(told | {"model": name, "seconds": time.perf_counter() - began})


async def _one(request: Request, given: list[Any], param: str, name: str) -> Item:
    """Returns the item that was given as words or part, as a file, or as an id of the library."""
    words, file, known = given
    if not known:
        return await forms.item(request.app.state.engine, words if file is None else file, param, name)
    library = collection_of(request)
    return await library.engine.aside(read, await library.get(known))


def _parts(item: Item, found: Explanation) -> dict[str, Any]:
    """Returns the parts of an item for JSON."""
    return {"modality": item.modality, "parts": [part.told() for part in found.parts]}
