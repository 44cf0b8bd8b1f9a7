"""Routes of the OpenAI API about sound: transcriptions, and words spoken.

A sound longer than the model reads at a time is transcribed piece by piece; each piece is a segment with its times, and
a stream gives them as they are done. Left out, and refused where asked for: times of single words, log probabilities,
several voices, and other speeds.
"""

import base64
import json
import math
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import Field

from intermodal.serving import media
from intermodal.serving.engine import Engine, direction
from intermodal.serving.faults import Refused, as_refused, body
from intermodal.serving.openai import STREAM, Here, Name, event, words_of

router = APIRouter(tags=["OpenAI"])

HEARD = (("speech", "transcript"), ("speech", "text"), ("audio", "text"))
SPOKEN = (("text", "speech"), ("transcript", "speech"))
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
PIECE_S = 30.0  # of a sound, for a model that does not say how much it reads


@dataclass(frozen=True)
class Segment:
    """Some seconds of a sound, in words.

    Attributes:
        start_s: where it begins.
        stop_s: where it ends.
        words: what is heard.
        score: mean log-likelihood that the model gave them; NaN where it gives none.
    """

    start_s: float
    stop_s: float
    words: str
    score: float


@router.post("/v1/audio/transcriptions", summary="Sounds to words")
async def transcriptions(
    engine: Here,
    file: Annotated[UploadFile, File(description="wav, flac, mp3, ogg, m4a, or a video with sound")],
    model: Annotated[str, Form()] = "",
    language: Annotated[str, Form(max_length=40)] = "",
    response_format: Annotated[str, Form(pattern=f"^({'|'.join(FORMATS)})$")] = "json",
    stream: Annotated[bool, Form()] = False,
    granularities: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None,
) -> Response:
    """Returns what is heard, in the format that was asked for; streamed, a piece at a time."""
    if "word" in (granularities or ()):
        raise Refused(
            400, "times of single words are not known; ask for segments", "unsupported", "timestamp_granularities"
        )
    models = engine.translating(model)
    pair = direction(models, HEARD, "transcribe sounds")
    item: Any = await engine.aside(media.opened, await file.read(), engine.settings, "audio")
    pieces = heard(engine, models, item, pair)
    if stream:
        first = await anext(pieces)  # so that what is wrong is told by the status of the answer
        return StreamingResponse(_events(first, pieces), media_type="text/event-stream", headers=STREAM)
    segments = [segment async for segment in pieces]
    words = " ".join(segment.words for segment in segments if segment.words)
    if response_format in ("text", "srt", "vtt"):
        return PlainTextResponse({"text": f"{words}\n", "srt": srt(segments), "vtt": vtt(segments)}[response_format])
    usage = {"type": "duration", "seconds": item.seconds}
    if response_format == "json":
        return JSONResponse({"text": words, "usage": usage})
    told = {"task": "transcribe", "language": language or "und", "duration": item.seconds, "text": words}
    return JSONResponse({**told, "segments": [_told(i, one) for i, one in enumerate(segments)], "usage": usage})


async def heard(engine: Engine, models: dict[str, Any], item: Any, pair: tuple[str, str]) -> AsyncIterator[Segment]:
    """Gives the segments of a sound in their order: phrases, or as much as the model reads at a time.

    Args:
        engine: makes them.
        models: of which one has the direction.
        item: a sound.
        pair: the direction.
    """
    readers: list[Any] = [(getattr(model, "preprocessors", None) or {}).get(pair[0]) for model in models.values()]
    longest = min((p.seconds_max for p in readers if hasattr(p, "seconds_max")), default=PIECE_S)
    timed = next((name, model) for name, model in models.items() if pair in model.directions)
    for number in range(max(1, math.ceil(item.seconds / longest - 1e-6))):
        start, stop = number * longest, min((number + 1) * longest, item.seconds)
        if getattr(timed[1], "timed", False):
            for one in await phrases(engine, *timed, item.cut(start, stop)):
                yield Segment(start + one.start_s, start + one.stop_s, one.words, math.nan)
            continue
        (made,) = await engine.translate(models, [item.cut(start, stop)], pair[1], pair[0])
        yield Segment(start, stop, words_of(made), made.candidates[0].score)


async def phrases(engine: Engine, name: str, model: Any, item: Any) -> list[Any]:
    """Returns what is said in a sound with the times of each phrase; one without words where nothing is said."""

    def work(pieces: list[Any]) -> list[Any]:
        return [model.segments(piece) or [Segment(0.0, piece.seconds, "", math.nan)] for piece in pieces]

    found: list[Any] = (await engine.slow.do(("phrases", name), work, [item]))[0]
    return found


async def _events(first: Segment, rest: AsyncIterator[Segment]) -> AsyncIterator[str]:
    """Gives the events of a streamed transcription."""
    words = [first.words]
    yield event({"type": "transcript.text.delta", "delta": first.words})
    try:
        async for segment in rest:
            words.append(segment.words)
            yield event({"type": "transcript.text.delta", "delta": f" {segment.words}"})
    except Exception as error:
        yield f"event: error\n{event(body(as_refused(error)))}"
        return
    yield event({"type": "transcript.text.done", "text": " ".join(words)})
    yield "data: [DONE]\n\n"


def _told(number: int, segment: Segment) -> dict[str, Any]:
    """Returns a segment as verbose JSON has it; what is not known of it is 0 or empty."""
    raw = segment.words.encode()
    return {
        "id": number,
        "seek": round(segment.start_s * 100),
        "start": segment.start_s,
        "end": segment.stop_s,
        "text": segment.words,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.score if math.isfinite(segment.score) else 0.0,
        "compression_ratio": len(raw) / len(zlib.compress(raw)),
        "no_speech_prob": 0.0,
    }


def srt(segments: Sequence[Segment]) -> str:
    """Returns segments as SubRip subtitles."""
    return "\n".join(
        f"{i}\n{_clock(s.start_s, ',')} --> {_clock(s.stop_s, ',')}\n{_one_line(s.words)}\n"
        for i, s in enumerate(segments, 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Returns segments as WebVTT subtitles."""
    cues = (f"{_clock(s.start_s, '.')} --> {_clock(s.stop_s, '.')}\n{_one_line(s.words)}\n" for s in segments)
    return "\n".join(["WEBVTT\n", *cues])


def _one_line(words: str) -> str:
    return " ".join(words.replace("-->", "->").split())


def _clock(seconds: float, point: str) -> str:
    """Returns a time as hours, minutes, seconds and milliseconds."""
    ms = round(1000 * seconds)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


@dataclass(frozen=True)
class Speech:
    """Words to be spoken."""

    input: Annotated[str, Field(min_length=1, max_length=4096, examples=["a small red circle"])]
    model: Name = ""
    voice: Annotated[str | dict[str, Any], Field(description="Any: a model has one voice.")] = "alloy"
    response_format: Annotated[str, Field(pattern="^(mp3|opus|aac|flac|wav|pcm)$")] = "mp3"
    speed: float = 1.0
    instructions: str | None = None
    stream_format: Annotated[str, Field(pattern="^(audio|sse)$")] = "audio"


@router.post("/v1/audio/speech", summary="Words to speech")
async def speech(asked: Speech, engine: Here) -> Response:
    """Returns the words, spoken, as a file that says it was made by a machine."""
    if asked.speed != 1 or asked.instructions:
        raise Refused(400, "speed and instructions are not offered; leave them out", "unsupported", "speed")
    models = engine.translating(asked.model)
    pair = direction(models, SPOKEN, "speak")
    engine.count([asked.input], next(iter(models)))
    (made,) = await engine.translate(models, [media.text_item(asked.input)], pair[1], pair[0])
    file = await engine.aside(media.encoded, made.candidates[0].item, made.model, asked.response_format)
    headers = {**media.MARK, "X-Intermodal-Model": made.model}
    if asked.stream_format == "audio":
        return Response(file.data, media_type=file.media_type, headers=headers)
    told = {"type": "speech.audio.delta", "audio": base64.b64encode(file.data).decode()}
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    done = f"data: {json.dumps({'type': 'speech.audio.done', 'usage': usage})}\n\n"
    return Response(event(told) + done, media_type="text/event-stream", headers={**headers, **STREAM})
