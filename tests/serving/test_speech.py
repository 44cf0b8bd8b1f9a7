"""Transcriptions and speech, by the hosted API's own client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

import intermodal as im
from intermodal.serving.speech import Segment, srt, vtt
from tests.serving.places import client, server, small, tone

MODEL = small(speech="audio", transcript="text")


def with_client(work: Callable[[openai.AsyncOpenAI], Awaitable[Any]], model: Any = MODEL) -> Any:
    async def main() -> Any:
        async with client(server({"tiny": model})) as asked:
            return await work(asked)

    return asyncio.run(main())


def test_every_format_of_a_transcription() -> None:
    wanted = MODEL.translate([im.Audio.open(tone())], "transcript", source="speech")[0].text

    async def work(asked: openai.AsyncOpenAI) -> None:
        async def heard(**options: Any) -> Any:
            return await asked.audio.transcriptions.create(model="whisper-1", file=("t.wav", tone()), **options)

        assert (await heard()).text == wanted
        assert await heard(response_format="text") == f"{wanted}\n"
        assert "00:00:00,000 --> 00:00:01,000" in await heard(response_format="srt")
        assert (await heard(response_format="vtt")).startswith("WEBVTT\n\n00:00:00.000 --> ")
        full = await heard(response_format="verbose_json", timestamp_granularities=["segment"], language="en")
        assert (full.text, full.language, full.duration) == (wanted, "en", 1.0)
        assert [(s.id, s.start, s.end, s.text) for s in full.segments] == [(0, 0.0, 1.0, wanted)]
        assert full.segments[0].avg_logprob < 0
        events = [event async for event in await heard(stream=True)]
        assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
        assert events[-1].text == wanted
        with pytest.raises(openai.BadRequestError, match="single words"):
            await heard(response_format="verbose_json", timestamp_granularities=["word"])
        with pytest.raises(openai.BadRequestError, match="no known format|holds no sound|no sound"):
            await asked.audio.transcriptions.create(model="tiny", file=("t.wav", b"\x00\x01\x02"))

    with_client(work)


def test_a_long_sound_is_heard_piece_by_piece() -> None:
    longest = MODEL.preprocessors["speech"].seconds_max
    sound = tone(2.5 * longest, 8_000)

    async def work(asked: openai.AsyncOpenAI) -> None:
        full: Any = await asked.audio.transcriptions.create(
            model="tiny", file=("t.wav", sound), response_format="verbose_json"
        )
        assert [(s.start, s.end) for s in full.segments] == [
            (0, longest),
            (longest, 2 * longest),
            (2 * longest, 2.5 * longest),
        ]

    with_client(work)


def test_speech_in_every_format_is_marked_as_made() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        for kind in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
            told = await asked.audio.speech.create(
                model="tts-1", voice="alloy", input="a red circle", response_format=kind
            )
            assert told.response.headers["x-intermodal-generated"] == "true"
            if kind not in ("aac", "pcm"):
                assert b"Made by a machine" in told.content
                assert im.Audio.open(told.content).seconds > 0
        with pytest.raises(openai.BadRequestError, match="speed"):
            await asked.audio.speech.create(model="tts-1", voice="alloy", input="x", speed=2.0)

    with_client(work)


def test_a_model_that_does_not_speak_says_which_one_would() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="direction from text to speech"):
            await asked.audio.speech.create(model="tiny", voice="alloy", input="x")

    with_client(work, small())


def test_subtitles_have_clocks_and_no_arrows_in_their_words() -> None:
    segments = [Segment(0.0, 1.5, "one -->\n\ntwo", 0.0), Segment(3661.0015, 3662.0, "three", 0.0)]
    assert srt(segments).splitlines() == [
        "1",
        "00:00:00,000 --> 00:00:01,500",
        "one -> two",
        "",
        "2",
        "01:01:01,002 --> 01:01:02,000",
        "three",
    ]
    assert "00:00:00.000 --> 00:00:01.500\none -> two" in vtt(segments)
