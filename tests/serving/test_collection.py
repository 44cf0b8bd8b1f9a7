"""The library behind the server."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

import intermodal as im
from intermodal.explain.parts import explain
from intermodal.library.library import Library
from tests.serving.places import picture, plain, server, small, tone

MODEL = small()


def asked(path: Path, work: Callable[[httpx2.AsyncClient, Any], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        library = Library.open(path) if path.exists() else Library.create(path, MODEL)
        app = server({"tiny": MODEL}, library=library)
        async with plain(app) as client:
            return await work(client, app)

    return asyncio.run(main())


def uploads(*named: tuple[str, bytes]) -> list[Any]:
    return [("file", one) for one in named]


def test_files_are_added_searched_shown_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "library"

    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        files = uploads(("../../red.png", picture()), ("tone.wav", tone()), ("bad.png", picture()[:50]))
        done = (await client.post("/v1/library", files=files, data={"metadata": '{"year": 1990}'})).json()
        assert (done["added"], done["skipped"], done["total"]) == (2, 0, 2)
        assert [one["name"] for one in done["failed"]] == ["bad.png"]
        assert str(tmp_path) not in json.dumps(done)
        again = (await client.post("/v1/library", files=files[:1])).json()
        assert (again["added"], again["skipped"]) == (0, 1)
        texts = (await client.post("/v1/library", json={"items": ["a blue star"]})).json()
        assert texts["added"] == 1
        kept = list((path / "uploads").iterdir())
        assert len(kept) == 2, "one file each, the unreadable one gone"

        told = (await client.post("/v1/search", json={"query": "a red circle"})).json()["hits"]
        assert {hit["name"] for hit in told} >= {"red.png", "tone.wav"}
        assert str(tmp_path) not in json.dumps(told)
        here = Library.open(path, MODEL).search(im.Text("a red circle"))
        scores = {hit["id"]: hit["score"] for hit in told}  # one item of each kind: their scores may be equal
        assert scores == pytest.approx({hit.id: hit.score for hit in here}, abs=1e-4)
        text = next(hit for hit in told if hit["modality"] == "text")
        assert text["text"] == "a blue star"

        only = await client.post("/v1/search", json={"query": "x", "among": ["image"], "where": {"year": 1990}})
        (red,) = only.json()["hits"]
        shown = await client.get(red["url"])
        assert shown.headers["content-type"] == "image/png"
        assert im.Image.open(shown.content) == im.Image.open(picture())
        assert (await client.get(f"/v1/library/items/{red['id']}")).json()["name"] == "red.png"
        by_id = (await client.post("/v1/search", json={"id": red["id"], "among": ["image"], "top": 1})).json()["hits"]
        assert by_id[0]["id"] == red["id"]
        by_file = await client.post(
            "/v1/search", data={"top": "1", "among": "image"}, files=uploads(("q.png", picture()))
        )
        assert by_file.json()["hits"][0]["cosine"] > 0.9

        stats = (await client.get("/v1/library")).json()
        assert (stats["items"], stats["modalities"]["image"], stats["model"]) == (3, 1, "tiny")
        assert "intermodal_library_items 3" in (await client.get("/metrics")).text
        assert (await client.delete(f"/v1/library/items/{red['id']}")).json()["removed"] == 1
        assert (await client.delete(f"/v1/library/items/{red['id']}")).status_code == 404
        assert len(list((path / "uploads").iterdir())) == 1

    asked(path, work)


def test_the_newest_come_first_each_with_a_preview(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        assert (await client.get("/v1/library/items")).json() == {"items": []}
        for name, data in (("a.png", picture()), ("b.wav", tone()), ("c.png", picture(colour=(0, 0, 250)))):
            await client.post("/v1/library", files=uploads((name, data)))
        await client.post("/v1/library", json={"items": ["a blue star"]})
        told = (await client.get("/v1/library/items")).json()["items"]
        assert [one["modality"] for one in told] == ["text", "image", "audio", "image"]
        assert [one["name"] for one in told[1:]] == ["c.png", "b.wav", "a.png"]
        assert told[0]["score"] is None
        few = (await client.get("/v1/library/items?top=1&among=image,audio")).json()["items"]
        assert [one["name"] for one in few] == ["c.png"]
        assert (await client.get("/v1/library/items?among=smell")).status_code == 400
        assert (await client.get("/v1/library/items?top=0")).status_code == 400

        shown = await client.get(f"{told[1]['url'].removesuffix('media')}preview?size=32")
        assert shown.headers["content-type"] == "image/webp"
        assert im.Image.open(shown.content).pixels.shape == (32, 32, 3)
        heard = (await client.get(f"{told[2]['url'].removesuffix('media')}preview?size=16")).json()
        assert (heard["modality"], heard["seconds"], len(heard["channels"][0]["low"])) == ("audio", 1.0, 16)
        words = (await client.get(f"/v1/library/items/{told[0]['id']}/preview")).json()
        assert words["text"] == "a blue star"
        assert (await client.get("/v1/library/items/x/preview")).status_code == 404
        assert (await client.get(f"/v1/library/items/{told[0]['id']}/preview?size=9")).status_code == 400

    asked(tmp_path / "library", work)


def test_words_refine_a_picture_whether_it_is_sent_or_of_the_library(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        files = uploads(*((f"{n}.png", picture(colour=(n, 255 - n, n))) for n in (0, 90, 180)))
        await client.post("/v1/library", files=[*files, *uploads(("tone.wav", tone()))])
        library = app.state.collection.library
        first, second = MODEL.embed([im.Image.open(picture()), im.Text("a blue star")]).numpy()
        wanted = {hit.id: hit.score for hit in library.search((first + second) / 2)}
        one = uploads(("q.png", picture()))
        both = (await client.post("/v1/search", data={"refine": "a blue star"}, files=one)).json()["hits"]
        assert {hit["id"]: hit["score"] for hit in both} == pytest.approx(wanted, abs=1e-4)
        alone = (await client.post("/v1/search", files=one)).json()["hits"]
        assert [hit["cosine"] for hit in alone] != pytest.approx([hit["cosine"] for hit in both], abs=1e-3)

        id = both[0]["id"]
        near = (library.vector(id) + second) / 2
        wanted = {hit.id: hit.score for hit in library.search(near)}
        part = {"type": "text", "text": "a blue star"}
        both = (await client.post("/v1/search", json={"id": id, "refine": part})).json()["hits"]
        assert {hit["id"]: hit["score"] for hit in both} == pytest.approx(wanted, abs=1e-4)
        assert (await client.post("/v1/search", json={"refine": "x"})).status_code == 400
        assert (await client.post("/v1/search", json={"id": id, "refine": 3})).status_code == 400

    asked(tmp_path / "library", work)


def test_a_library_of_short_vectors_is_searched_and_refined(tmp_path: Path) -> None:
    Library.create(tmp_path / "library", MODEL, width=6)

    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        await client.post(
            "/v1/library", files=uploads(*((f"{n}.png", picture(colour=(n, 9, n))) for n in (0, 90, 180)))
        )
        library = app.state.collection.library
        rows = MODEL.embed([im.Image.open(picture()), im.Text("a blue star")]).numpy()[:, :6]
        first, second = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        one = uploads(("q.png", picture()))
        for data, vector in (({}, first), ({"refine": "a blue star"}, first + second)):
            found = (await client.post("/v1/search", data=data, files=one)).json()["hits"]
            wanted = {hit.id: hit.score for hit in library.search(vector)}
            assert {hit["id"]: hit["score"] for hit in found} == pytest.approx(wanted, abs=1e-4)
        part = {"type": "text", "text": "a blue star"}
        both = (await client.post("/v1/search", json={"id": found[0]["id"], "refine": part})).json()["hits"]
        wanted = {hit.id: hit.score for hit in library.search(library.vector(found[0]["id"]) + second)}
        assert {hit["id"]: hit["score"] for hit in both} == pytest.approx(wanted, abs=1e-4)

    asked(tmp_path / "library", work)


def test_progress_is_streamed_and_what_is_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "library"

    async def add(client: httpx2.AsyncClient, app: Any) -> list[str]:
        files = uploads(*((f"{n}.png", picture(colour=(n, n, n))) for n in (50, 100, 150)))
        answer = await client.post("/v1/library?stream=true", files=files)
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        shares = [line["share"] for line in lines if line["event"] == "progress"]
        assert shares == sorted(shares)
        assert lines[-1] | {"failed": []} == {"event": "done", "added": 3, "skipped": 0, "failed": [], "total": 3}
        return [id for line in lines if line["event"] == "committed" for id in line["ids"]]

    ids = asked(path, add)
    assert len(set(ids)) == 3

    async def look(client: httpx2.AsyncClient, app: Any) -> None:
        assert (await client.get("/v1/library")).json()["items"] == 3
        for id in ids:
            assert (await client.get(f"/v1/library/items/{id}")).status_code == 200

    asked(path, look)


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        wrong = [
            await client.post("/v1/search", json={}),
            await client.post("/v1/search", json={"query": "x", "id": "y"}),
            await client.post("/v1/search", json={"query": "x", "among": ["smell"]}),
            await client.post("/v1/search", json={"query": "x", "top": 0}),
            await client.post("/v1/library", json={}),
            await client.post("/v1/library", json={"items": "x"}),
            await client.post("/v1/library", files={"file": (None, "words")}),
        ]
        assert [answer.status_code for answer in wrong] == [400] * len(wrong)
        for path in ("x", "..%2F..%2Fetc%2Fpasswd", "x/media", "%00"):
            assert (await client.get(f"/v1/library/items/{path}")).status_code == 404
        assert (await client.post("/v1/search", json={"query": "x"})).json()["hits"] == []

    asked(tmp_path / "library", work)


def test_one_addition_runs_at_a_time_and_a_cancelled_one_ends_before_the_next(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        here = app.state.collection
        said: list[dict[str, Any]] = []
        first = asyncio.create_task(here.add([im.Text(f"text {n}") for n in range(50)], {}, said.append))
        while not said:
            await asyncio.sleep(0.001)
        first.cancel()
        second = asyncio.create_task(here.add([im.Text("the last one")], {}, lambda told: None))
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1]["added"] == 1
        assert len(here.library) < 51

    asked(tmp_path / "library", work)


def test_why_an_item_matched_is_told_for_words_a_file_and_another_item(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient, app: Any) -> None:
        items = ["a blue star", {"type": "media", "data": base64.b64encode(picture()).decode()}]
        await client.post("/v1/library", json={"items": items})
        hits = (await client.post("/v1/search", json={"query": "a red circle"})).json()["hits"]
        ids = {hit["modality"]: hit["id"] for hit in hits}
        red, image = im.Text("a red circle"), im.Image.open(picture())
        told = (await client.post("/v1/explain", json={"query": red.text, "of": ids["image"], "cells": 3})).json()
        wanted = explain(MODEL, image, red, cells=3)
        assert told["cosine"] == pytest.approx(wanted.cosine, abs=1e-5)
        assert told["item"]["modality"] == "image"
        assert [part["box"] for part in told["item"]["parts"]] == [list(part.box or ()) for part in wanted.parts]
        weights = [part["weight"] for part in told["item"]["parts"]]
        assert weights == pytest.approx([part.weight for part in wanted.parts], abs=1e-5)
        assert [part["words"] for part in told["query"]["parts"]] == ["a", "red", "circle"]

        sent = {"files": {"file": ("p.png", picture())}, "data": {"of": ids["text"]}}
        told = (await client.post("/v1/explain", **sent)).json()
        assert [part["words"] for part in told["item"]["parts"]] == ["a", "blue", "star"]
        assert "query" not in told, "a picture has no words"
        again = (await client.post("/v1/explain", json={"id": ids["image"], "of": ids["text"]})).json()
        assert again["item"] == told["item"]

        for body in ({}, {"query": "x"}, {"of": ids["text"]}, {"query": "x", "id": ids["text"], "of": ids["text"]}):
            assert (await client.post("/v1/explain", json=body)).status_code == 400
        answer = await client.post("/v1/explain", json={"query": "x", "of": "0" * 32})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        answer = await client.post("/v1/explain", json={"query": "x", "of": ids["text"], "cells": 9})
        assert answer.json()["error"]["message"] == "cells is 9; give 2 to 8"

    asked(tmp_path / "library", work)
