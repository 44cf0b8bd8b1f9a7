"""The hosted API's own client against the application: models, embeddings and pictures."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import openai
import pytest

import intermodal as im
from intermodal.serving.media import SOURCE_TYPE
from intermodal.serving.settings import Settings
from tests.serving.places import client, picture, plain, server, small, tone

MODEL = small()
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture()).decode()}"}}
SOUND = {"type": "input_audio", "input_audio": {"data": base64.b64encode(tone()).decode(), "format": "wav"}}


def with_client(work: Callable[[openai.AsyncOpenAI], Awaitable[Any]], settings: Settings | None = None) -> Any:
    async def main() -> Any:
        app = server({"tiny": MODEL}, settings) if settings else server({"tiny": MODEL})
        async with client(app) as asked:
            return await work(asked)

    return asyncio.run(main())


def test_models_say_what_they_can() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        listed = await asked.models.list()
        assert [model.id for model in listed.data] == ["tiny"]
        one = await asked.models.retrieve("tiny")
        assert "embed" in one.intermodal["verbs"]
        with pytest.raises(openai.NotFoundError, match="use one of: tiny"):
            await asked.models.retrieve("gpt-4o")

    with_client(work)


def test_embeddings_are_those_of_the_model_as_floats_and_as_base64() -> None:
    texts = ["a red circle", "a large blue star"]
    wanted = MODEL.embed([im.Text(text) for text in texts]).numpy()

    async def work(asked: openai.AsyncOpenAI) -> None:
        packed = await asked.embeddings.create(model="tiny", input=texts)
        floats = await asked.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
        for told in (packed, floats):
            np.testing.assert_allclose([one.embedding for one in told.data], wanted, atol=1e-6)
            assert [one.index for one in told.data] == [0, 1]
            assert told.model == "tiny"
            assert told.usage.total_tokens > 6
        (short,) = (await asked.embeddings.create(model="tiny", input=texts[0], dimensions=4)).data
        np.testing.assert_allclose(short.embedding, wanted[0, :4] / np.linalg.norm(wanted[0, :4]), atol=1e-6)

    with_client(work)


def test_media_are_embedded_beside_words() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        parts: Any = ["a red circle", PICTURE, SOUND]
        told = await asked.embeddings.create(model="tiny", input=parts, encoding_format="float")
        wanted = MODEL.embed([im.Text("a red circle"), im.Image.open(picture()), im.Audio.open(tone())])
        np.testing.assert_allclose([one.embedding for one in told.data], wanted.numpy(), atol=1e-5)

    with_client(work)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"input": []}, "0 inputs"),
        ({"input": ["x"] * 4}, "1 to 3"),
        ({"input": [1, 2]}, "token ids"),
        ({"input": "x", "dimensions": 17}, "this model has 16"),
        ({"input": "word " * 60}, "more than 50 tokens"),
        ({"input": [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]}, "not fetched"),
        ({"input": [{"type": "media", "data": "eHg="}, "y", {"type": "text"}]}, "not understood"),
    ],
)
def test_what_cannot_be_embedded_is_refused(options: dict[str, Any], match: str) -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match=match):
            await asked.embeddings.create(model="tiny", **options)

    with_client(work, Settings(inputs=3, tokens=50, threads=1))


def test_pictures_are_made_and_marked() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        told = await asked.images.generate(model="dall-e-3", prompt="a red circle", n=2)
        assert told.data
        files = [base64.b64decode(one.b64_json or "") for one in told.data]
        assert len(files) == 2
        assert all(SOURCE_TYPE.encode() in file for file in files)
        (one,) = (await asked.images.generate(model="tiny", prompt="a red circle")).data or []
        (wanted,) = MODEL.translate([im.Text("a red circle")], "image")
        assert im.Image.open(base64.b64decode(one.b64_json or "")) == wanted
        more: Any = {"size": "32x16", "output_format": "webp", "response_format": "url"}
        (small_one,) = (await asked.images.generate(model="tiny", prompt="x", **more)).data or []
        head, _, data = (small_one.url or "").partition(",")
        assert head == "data:image/webp;base64"
        assert im.Image.open(base64.b64decode(data)).pixels.shape == (16, 32, 3)
        with pytest.raises(openai.BadRequestError, match="1x1 to 4096x4096"):
            await asked.images.generate(model="tiny", prompt="x", size="9999x9999")  # type: ignore[call-overload]

    with_client(work)


def test_what_is_not_offered_is_refused() -> None:
    async def work(asked: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="not streamed"):
            await asked.images.generate(model="tiny", prompt="x", stream=True)

    with_client(work)


def test_a_client_without_the_library_gets_floats() -> None:
    async def main() -> None:
        async with plain(server({"tiny": MODEL})) as asked:
            told = (await asked.post("/v1/embeddings", json={"input": "a red circle"})).json()
            assert isinstance(told["data"][0]["embedding"][0], float)

    asyncio.run(main())
