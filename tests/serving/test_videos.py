"""Videos as jobs, by the hosted API's own client."""

import asyncio
import warnings

import openai
import pytest

import intermodal as im
from intermodal.serving.keys import from_words
from intermodal.serving.settings import Settings
from tests.serving.places import client, server, small

KEYS = from_words(["the-key-of-alice", "the-key-of-bobby"])


def test_a_video_is_begun_made_fetched_and_forgotten() -> None:
    async def main() -> None:
        app = server({"tiny": small(video="video")}, Settings(wait_s=0.0, threads=1), keys=KEYS)
        async with client(app, "the-key-of-alice") as alice, client(app, "the-key-of-bobby") as bob:
            video = await alice.videos.create(model="sora-2", prompt="a red circle")
            while video.status == "in_progress":
                await asyncio.sleep(0.01)
                video = await alice.videos.retrieve(video.id)
            assert (video.status, video.progress, video.model) == ("completed", 100, "tiny")
            data = (await alice.videos.download_content(video.id)).content
            assert b"Made by a machine" in data
            assert im.Video.open(data).frames.shape[1:3] == (64, 64)
            assert [one.id for one in (await alice.videos.list()).data] == [video.id]
            assert (await bob.videos.list()).data == []
            with pytest.raises(openai.NotFoundError):
                await bob.videos.retrieve(video.id)
            assert (await alice.videos.delete(video.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await alice.videos.retrieve(video.id)
            with pytest.raises(openai.BadRequestError, match="seconds is not offered"):
                await alice.videos.create(model="tiny", prompt="x", seconds="8")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the client says that this API is being shut down
        asyncio.run(main())


def test_a_model_that_makes_no_videos_says_which_one_would() -> None:
    async def main() -> None:
        async with client(server({"tiny": small()})) as asked:
            with pytest.raises(openai.BadRequestError, match="from text to video"):
                await asked.videos.create(model="tiny", prompt="x")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.run(main())
