"""Chat completions of the OpenAI API.

A model that talks goes on with the whole conversation; its words are streamed as it writes them. Of any other the last
question about the media of the conversation is answered, or these are described. Refused, since nothing here honours
it: tools, several choices, words alone where no model talks.
"""

import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from intermodal.serving.engine import Engine
from intermodal.serving.faults import Refused, as_refused, body
from intermodal.serving.openai import STREAM, Here, Name, event, read, sampling, words_of
from intermodal.types import SPEAKERS, Answers, Item, Reply, Turn

router = APIRouter(tags=["OpenAI"])

WORDS = ("text", "input_text")
"""Types of parts that are words."""

_DESCRIBE = re.compile(
    r"\s*(please\s+)?(describe|caption|what (is|do you see) (in )?th(is|e)|what is this)", re.IGNORECASE
)


@dataclass(frozen=True)
class StreamOptions:
    """What a stream tells besides."""

    include_usage: bool = False


@dataclass(frozen=True)
class Chat:
    """A conversation."""

    messages: Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1,
            max_length=256,
            examples=[
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "what colour is the circle?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}},
                        ],
                    }
                ]
            ],
        ),
    ]
    model: Name = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int | None, Field(ge=1)] = None
    tools: list[Any] | None = None
    temperature: Annotated[float | None, Field(ge=0, le=10)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None


@router.post("/v1/chat/completions", summary="Conversations and answers about pictures, sounds and clips, and captions")
async def chat(asked: Chat, engine: Here) -> Response:
    """Returns what a model says next, an answer to the last question about the media, or a caption of them."""
    if asked.tools or (asked.n or 1) > 1:
        raise Refused(400, "tools and several choices are not offered; leave tools and n out", "unsupported", "tools")
    name = engine.talker(asked.model)
    if name:
        turns = await turns_of(engine, asked.messages, name)
        how = sampling(asked.temperature, asked.top_p, asked.seed)
        pieces = engine.talk(name, turns, how, asked.max_completion_tokens or asked.max_tokens)
    else:
        name, reply = await answered(engine, asked)
        pieces = _known(reply)
    first = await anext(pieces)  # so that what is wrong is told by the status of the answer
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
    if asked.stream:
        counted = bool(asked.stream_options and asked.stream_options.include_usage)
        events = _events(head, first, pieces, counted)
        return StreamingResponse(events, media_type="text/event-stream", headers=STREAM)
    while isinstance(first, str):
        first = await anext(pieces)
    message = {"role": "assistant", "content": first.words, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(first)}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(first)})


def parts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the parts of a message.

    Raises:
        Refused: it has another shape.
    """
    content = message.get("content")
    given = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
        raise Refused(400, "the content of a message is words or a list of parts", "invalid_value", "messages")
    return given


# ---- models that talk


async def turns_of(engine: Engine, messages: Sequence[Mapping[str, Any]], name: str) -> list[Turn]:
    """Returns a conversation with its media opened.

    Raises:
        Refused: a message has another shape, or is of somebody else.
    """
    known = {**{speaker: speaker for speaker in SPEAKERS}, "developer": "system"}
    speakers = [known.get(str(message.get("role")), "") for message in messages]
    if not all(speakers):
        raise Refused(400, f"a message has a role that is none of {', '.join(known)}", "invalid_value", "messages")
    given = [[p for p in parts_of(m) if p.get("type") not in WORDS or p.get("text")] for m in messages]
    items, _ = await read(engine, [part for parts in given for part in parts], name, "messages")
    left = iter(items)
    return [Turn(speaker, tuple(next(left) for _ in parts)) for speaker, parts in zip(speakers, given, strict=True)]


# ---- models that answer or describe


async def answered(engine: Engine, asked: Chat) -> tuple[str, Reply]:
    """Returns the answer to the last question about the media, or a caption of them, and who gave it."""
    question, parts = conversation(asked.messages)
    if not parts:
        raise Refused(
            400,
            "there is nothing to look at or to listen to: models here answer about media and do not talk; add a part "
            "image_url, input_audio or video_url",
            "unsupported",
            "messages",
        )
    items, _ = await read(engine, parts, asked.model, "messages")
    sample = {item.modality: item for item in items}
    if len(sample) < len(items):
        raise Refused(400, "give at most one picture, sound and clip; the last counts", "invalid_value", "messages")
    if question and not _DESCRIBE.match(question):
        name, _ = engine.able(asked.model, Answers, "answer questions")
        words = await engine.answer(name, sample, question)
    else:
        words, name = await described(engine, asked.model, sample)
    return name, Reply(words, engine.count([question], name), engine.count([words], name), True)


def conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[Any]]:
    """Returns the words of the last message of a user, and the media of the last message that has any.

    Raises:
        Refused: a message has another shape.
    """
    question = ""
    parts: list[Any] = []
    for message in messages:
        if message.get("role") != "user":
            continue
        given = parts_of(message)
        words = [str(p.get("text", "")) for p in given if p.get("type") in WORDS]
        question = " ".join(words).strip()
        parts = [p for p in given if p.get("type") not in WORDS] or parts
    return question, parts


async def described(engine: Engine, name: str, sample: Mapping[str, Item]) -> tuple[str, str]:
    """Returns a caption of what is in a sample, from all of it where a model takes that, and who wrote it."""
    found = engine.translating(name)
    if len(sample) > 1:
        (made,) = await engine.complete(found, [sample], "text")
    else:
        (made,) = await engine.translate(found, list(sample.values()), "text")
    return words_of(made), made.model


async def _known(reply: Reply) -> AsyncIterator[str | Reply]:
    """Gives what is known already, word by word, and then all of it."""
    for piece in re.findall(r"\S+\s*", reply.words):
        yield piece
    yield reply


# ---- shapes


async def _events(
    head: Mapping[str, Any], first: str | Reply, rest: AsyncIterator[str | Reply], counted: bool
) -> AsyncIterator[str]:
    """Gives the events of a streamed completion, each piece as it comes."""

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        told = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        return event({**told, "usage": None} if counted else told)

    yield chunk({"role": "assistant", "content": ""})
    try:
        while isinstance(first, str):
            yield chunk({"content": first})
            first = await anext(rest)
    except Exception as error:
        yield f"event: error\n{event(body(as_refused(error)))}"
        return
    yield chunk({}, _finish(first))
    if counted:
        yield event({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(first)})
    yield "data: [DONE]\n\n"


def _finish(reply: Reply) -> str:
    """Returns why the words end."""
    return "stop" if reply.ended else "length"


def _usage(reply: Reply) -> dict[str, int]:
    """Returns how many tokens were read and written."""
    total = reply.read + reply.written
    return {"prompt_tokens": reply.read, "completion_tokens": reply.written, "total_tokens": total}
