"""Our own routes: translate, answer, directions; search is tested with the library."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

import intermodal as im
from intermodal.sampling.autoregressive import Sampling
from tests.serving.places import picture, plain, server, small, tone

MODEL = small()


def asked(work: Callable[[httpx2.AsyncClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with plain(server({"tiny": MODEL})) as client:
            return await work(client)

    return asyncio.run(main())


def test_words_are_translated_by_json_with_candidates_and_a_seed() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        body = {"input": "a red circle", "to": "image", "count": 2, "seed": 3, "temperature": 1.0, "top_p": 0.9}
        answer = await client.post("/v1/translate", json=body)
        told = answer.json()
        (wanted,) = MODEL.candidates(
            [{"text": im.Text("a red circle")}], "image", sampling=Sampling(1.0, 0, 0.9, 3), count=2
        )
        made = [im.Image.open(base64.b64decode(one["url"].partition(",")[2])) for one in told["candidates"]]
        assert made == [candidate.item for candidate in wanted]
        assert [one["score"] for one in told["candidates"]] == pytest.approx([c.score for c in wanted], rel=1e-4)
        assert told["way"] == [{"from": "text", "to": "image"}]
        assert (told["model"], answer.headers["x-intermodal-generated"]) == ("tiny", "true")

    asked(work)


def test_a_file_is_translated_by_a_form_and_comes_back_as_one() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        files = {"file": ("p.png", picture())}
        answer = await client.post("/v1/translate", data={"to": "audio", "response": "file"}, files=files)
        assert answer.headers["content-type"] == "audio/wav"
        assert im.Audio.open(answer.content).seconds > 0
        answer = await client.post("/v1/translate", data={"to": "text"}, files=files)
        wanted = MODEL.translate([im.Image.open(picture())], "text")[0]
        assert answer.json()["candidates"][0]["text"] == wanted.text

    asked(work)


def test_several_fields_make_one() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        sound = {"type": "media", "data": base64.b64encode(tone()).decode()}
        body = {"input": "a red circle", "with": {"audio": sound}, "to": "image", "format": "lossless"}
        (one,) = (await client.post("/v1/translate", json=body)).json()["candidates"]
        sample = {"text": im.Text("a red circle"), "audio": im.Audio.open(tone())}
        wanted = MODEL.candidates([sample], "image")[0][0].item
        assert im.Image.open(base64.b64decode(one["url"].partition(",")[2])) == wanted

    asked(work)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": "x"}, "invalid_value"),
        ({"to": "image"}, "invalid_value"),
        ({"input": "x", "to": "video"}, "unsupported"),
        ({"input": "x", "to": "image", "count": 17}, "invalid_value"),
        ({"input": "x", "to": "image", "format": "exe"}, "invalid_format"),
        ({"input": "x", "to": "image", "response": "x"}, "invalid_value"),
        ({"input": "x", "to": "image", "else": 1}, "unknown_field"),
        ({"input": 3, "to": "image"}, "invalid_value"),
        ({"input": "x\x00", "to": "image"}, "invalid_value"),
        ({"input": "x", "to": "image", "temperature": -1}, "invalid_value"),
        ({"input": "x", "to": "image", "model": "y"}, "model_not_found"),
        ({"input": {"type": "media", "data": "AAEC"}, "to": "image"}, "unreadable_media"),
    ],
)
def test_a_translation_that_cannot_be_is_refused(body: dict[str, Any], code: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        answer = await client.post("/v1/translate", json=body)
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["code"] == code

    asked(work)


def test_a_question_is_answered() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        question = "what colour is the circle?"
        wanted = MODEL.answer({"image": im.Image.open(picture())}, question)
        part = {"type": "media", "data": base64.b64encode(picture()).decode()}
        body = {"question": question, "sample": {"image": part}}
        assert (await client.post("/v1/answer", json=body)).json() == {"answer": wanted, "model": "tiny"}
        files = {"file": ("p.png", picture())}
        form = await client.post("/v1/answer", data={"question": question}, files=files)
        assert form.json()["answer"] == wanted
        assert (await client.post("/v1/answer", json={"question": question})).status_code == 400

    asked(work)


def test_directions_are_those_of_the_models_and_ways_through_them() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        told = (await client.get("/v1/directions")).json()["directions"]
        assert {(one["from"], one["to"]) for one in told} == set(MODEL.directions)
        assert told[0]["by"] == ["tiny"]
        assert all((one["from_modality"], one["modality"]) == (one["from"], one["to"]) for one in told)

    asked(work)
