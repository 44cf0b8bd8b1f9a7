"""The hosted API's own client in conversation with models that answer, describe or talk."""

import asyncio
import base64
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import openai
import pytest

import intermodal as im
from intermodal.types import Reply, Turn
from tests.serving.places import client, listening, picture, server, small, tone

MODEL = small()
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture()).decode()}"}}
SOUND = {"type": "input_audio", "input_audio": {"data": base64.b64encode(tone()).decode(), "format": "wav"}}


def with_client(work: Callable[[openai.AsyncOpenAI], Awaitable[Any]], **models: Any) -> Any:
    async def main() -> Any:
        async with client(server(models or {"tiny": MODEL})) as asked:
            return await work(asked)

    return asyncio.run(main())


def user(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


class Parrot:
    """Says the words of the last turn, one by one, each as soon as ``go`` lets it; keeps what it was asked."""

    def __init__(self) -> None:
        self.preprocessors: dict[str, Any] = {}
        self.go = threading.Semaphore(0)
        self.turns: Sequence[Turn] = ()
        self.asked: dict[str, Any] = {}
        self.said: list[str] = []

    def talk(
        self,
        turns: Sequence[Turn],
        *,
        sampling: Any = None,
        longest: int | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Reply:
        self.turns, self.asked, self.said = turns, {"sampling": sampling, "longest": longest}, []
        words = [part.text for part in turns[-1].parts if isinstance(part, im.Text)][-1].split()
        for word in words[:longest]:
            assert self.go.acquire(timeout=10)
            if word == "broken":
                raise im.InvalidValue("the word is broken; say another")
            self.said.append(word)
            if heard:
                heard(word if len(self.said) == 1 else f" {word}")
        return Reply(" ".join(self.said), 7, len(self.said), len(self.said) == len(words))


def test_a_question_about_a_picture_is_answered() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        question = "what colour is the circle?"
        told = await asked.chat.completions.create(
            model="gpt-4o",
            messages=[
                {"role": "system", "content": "be brief"},
                *user(PICTURE),
                {"role": "assistant", "content": "a picture"},
                {"role": "user", "content": question},
            ],
        )
        (choice,) = told.choices
        assert choice.message.content == MODEL.answer({"image": im.Image.open(picture())}, question)
        assert (choice.finish_reason, choice.message.role, told.model) == ("stop", "assistant", "tiny")
        assert told.usage
        assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens

    with_client(work)


def test_media_without_a_question_are_described_and_streamed() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        for part, item in ((PICTURE, im.Image.open(picture())), (SOUND, im.Audio.open(tone()))):
            stream = await asked.chat.completions.create(
                model="tiny", messages=user(part), stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            words = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert words == MODEL.translate([item], "text")[0].text
            assert chunks[0].choices[0].delta.role == "assistant"
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].choices == []
            assert chunks[-1].usage
            assert all(chunk.usage is None for chunk in chunks[:-1])
        plainly = await asked.chat.completions.create(
            model="tiny", messages=user({"type": "text", "text": "Describe this picture."}, PICTURE)
        )
        assert plainly.choices[0].message.content == MODEL.translate([im.Image.open(picture())], "text")[0].text

    with_client(work)


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([{"role": "user", "content": "hello"}], "do not talk"),
        (user(PICTURE, PICTURE), "at most one"),
        ([{"role": "user", "content": 3}], "words or a list of parts"),
        (user({"type": "text", "text": "what is heard?"}, SOUND), "not learnt to answer questions about audio"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(messages: Any, match: str) -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match=match):
            await asked.chat.completions.create(model="tiny", messages=messages)

    with_client(work)


def test_what_is_not_offered_is_refused() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="tools and several choices"):
            await asked.chat.completions.create(model="tiny", messages=user(PICTURE), n=2)

    with_client(work)


def test_a_model_that_talks_gets_the_whole_conversation() -> None:
    parrot = Parrot()
    parrot.go.release(3)

    async def work(asked: openai.AsyncOpenAI) -> None:
        told = await asked.chat.completions.create(
            model="gpt-4o",
            messages=[
                {"role": "developer", "content": "be brief"},
                *user(PICTURE, {"type": "text", "text": "and"}, PICTURE),
                {"role": "assistant", "content": "two pictures"},
                {"role": "user", "content": "say it again please"},
            ],
            temperature=0.5,
            seed=4,
            max_tokens=3,
        )
        (choice,) = told.choices
        assert (choice.message.content, choice.finish_reason, told.model) == ("say it again", "length", "parrot")
        assert told.usage
        assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (7, 3, 10)

    with_client(work, tiny=MODEL, parrot=parrot)
    seen = im.Image.open(picture())
    assert [turn.speaker for turn in parrot.turns] == ["system", "user", "assistant", "user"]
    assert parrot.turns[1].parts == (seen, im.Text("and"), seen)
    assert (parrot.asked["sampling"].temperature, parrot.asked["sampling"].seed, parrot.asked["longest"]) == (0.5, 4, 3)


def test_words_are_streamed_as_they_are_written() -> None:
    parrot = Parrot()
    parrot.go.release()
    with listening(server({"parrot": parrot})) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as asked:
        stream = asked.chat.completions.create(
            model="parrot",
            messages=user({"type": "text", "text": "one two three"}),
            stream=True,
            stream_options={"include_usage": True},
        )
        words: list[str] = []
        for chunk in stream:
            piece = chunk.choices[0].delta.content if chunk.choices else ""
            if piece:
                words.append(piece)
                assert len(parrot.said) == len(words)  # the next is not written yet
                parrot.go.release()
    assert words == ["one", " two", " three"]
    assert chunk.usage
    assert chunk.usage.total_tokens == 10


def test_a_client_that_goes_away_stops_the_words() -> None:
    parrot = Parrot()
    parrot.go.release()
    app = server({"parrot": parrot})
    with listening(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as asked:
        with asked.chat.completions.create(
            model="parrot", messages=user({"type": "text", "text": "one two three four"}), stream=True
        ) as stream:
            assert next(chunk for chunk in stream if chunk.choices[0].delta.content)
        until = time.monotonic() + 5
        while app.state.load.running and time.monotonic() < until:
            time.sleep(0.01)
        parrot.go.release(9)
    assert parrot.said == ["one", "two"]  # it is stopped when the second word is to be heard


def test_what_goes_wrong_is_told_by_the_status_or_within_the_stream() -> None:
    parrot = Parrot()
    parrot.go.release(9)

    async def work(asked: openai.AsyncOpenAI) -> None:
        more: Any = {"model": "parrot", "stream": True}
        with pytest.raises(openai.BadRequestError, match="the word is broken"):
            await asked.chat.completions.create(messages=user({"type": "text", "text": "broken"}), **more)
        stream = await asked.chat.completions.create(messages=user({"type": "text", "text": "one broken"}), **more)
        with pytest.raises(openai.APIError, match="the word is broken"):
            async for _ in stream:
                pass
        for role in ("tool", "nobody"):
            wrong: Any = [{"role": role, "content": "x", "tool_call_id": "1"}]
            with pytest.raises(openai.BadRequestError, match="none of system, user, assistant"):
                await asked.chat.completions.create(model="parrot", messages=wrong)

    with_client(work, parrot=parrot)
