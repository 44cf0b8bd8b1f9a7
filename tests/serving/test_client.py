"""The Python client against a server on a real socket: the same verbs, the same results."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import torch

import intermodal as im
from intermodal.library.library import Library
from intermodal.sampling.autoregressive import Sampling
from intermodal.serving.keys import from_words
from intermodal.types import Answers, Embeds, Translates
from tests.serving.places import QUICK, listening, picture, server, small, tone

MODEL = small(video="video")
KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    library = Library.create(tmp_path_factory.mktemp("served") / "library", MODEL)
    with listening(server({"tiny": MODEL}, QUICK, library, from_words([KEY]))) as address:
        yield address


@pytest.fixture
def there(url: str) -> im.Client:
    return im.Client(url, key=KEY)


def test_it_stands_where_a_model_can(there: im.Client) -> None:
    for contract in (Embeds, Translates, Answers):
        assert isinstance(there, contract)
    assert set(there.directions) == set(MODEL.directions)
    items = [im.Text("a red circle"), im.Image.open(picture()), im.Audio.open(tone())] * 30
    torch.testing.assert_close(there.embed(items), MODEL.embed(items), atol=1e-5, rtol=0)
    assert there.embed([]).shape == (0, 0)
    question = "what colour is the circle?"
    sample = {"image": im.Image.open(picture())}
    assert there.answer(sample, question) == MODEL.answer(sample, question)


@pytest.mark.parametrize("to", ["image", "audio", "video"])
def test_what_is_translated_there_is_what_would_be_here(there: im.Client, to: str) -> None:
    texts = [im.Text("a red circle"), im.Text("a blue star")]
    assert there.translate(texts, to) == MODEL.translate(texts, to)


def test_sampling_goes_along(there: im.Client) -> None:
    how = Sampling(1.0, 3, 0.8, 5)
    sound = im.Audio.open(tone())
    assert there.translate([sound], "text", sampling=how) == MODEL.translate([sound], "text", sampling=how)


def test_the_library_is_searched_and_added_to(there: im.Client, tmp_path: Path) -> None:
    path = tmp_path / 'odd "name".png'
    path.write_bytes(picture())
    done = there.add(path, im.Text("a blue star"), metadata={"year": 1990})
    assert (done["added"], done["failed"]) == (2, [])
    (hit,) = there.search(im.Text("a red circle"), among="image", top=5, where={"year": 1990})
    assert hit.item == im.Image.open(picture())
    assert hit.metadata["year"] == 1990
    nearest = max(there.search(hit, top=2), key=lambda found: found.cosine)  # scores are comparable, not cosines
    assert (nearest.id, round(nearest.cosine, 2)) == (hit.id, 1.0)
    assert there.stats()["items"] == 2
    assert there.remove(hit.id) == 1
    with pytest.raises(im.InvalidValue, match="no item"):
        there.remove(hit.id)


def test_what_is_wrong_there_is_the_error_it_would_be_here(url: str, there: im.Client) -> None:
    with pytest.raises(im.Unsupported, match="no way"):
        there.translate([im.Text("x")], "timeseries")
    with pytest.raises(im.InvalidValue, match="no valid key"):
        im.Client(url).directions  # noqa: B018
    with pytest.raises(im.InvalidValue, match="no model 'x'"):
        im.Client(url, KEY, "x").embed([im.Text("x")])
    with pytest.raises(im.InvalidValue, match="is no item"):
        there.embed(["words"])  # type: ignore[list-item]
    with pytest.raises(im.InvalidValue, match="no address"):
        im.Client("localhost:8000")
    with pytest.raises(im.IntermodalError, match="does not answer"):
        im.Client("http://127.0.0.1:9", timeout_s=5).stats()
    assert KEY not in repr(there)


def test_the_hosted_apis_own_client_over_a_socket(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as asked:
        told = asked.embeddings.create(model="tiny", input="a red circle")
        assert len(told.data[0].embedding) == 16
        stream = asked.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": _url()}}]}],
            stream=True,
        )
        words = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert words == MODEL.translate([im.Image.open(picture())], "text")[0].text
    wrong = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def _url() -> str:
    import base64

    return f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
