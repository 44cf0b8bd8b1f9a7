"""Published SigLIP folders, made with random weights, against the library that wrote them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.cli.app import run
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Classifies, Embeds, Scores
from tests import published

TEXTS = ("a photo of the cat", "the dog barks", "what is a red house of the cat of the dog", "")
SIDE, PLACES = 38, 8
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(38, 38, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "siglip"
    return folder, published.siglip(folder, SIDE, PLACES)


@pytest.mark.peer
def test_vectors_and_probabilities_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    library = published.library()
    ours = im.load(folder)
    tokenizer = library.PreTrainedTokenizerFast.from_pretrained(folder)
    words = tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=PLACES, return_tensors="pt")
    seen = published.siglip_pictures().from_pretrained(folder)(
        [Pillow.fromarray(p) for p in PICTURES], return_tensors="pt"
    )
    with torch.no_grad():
        both = network(input_ids=words["input_ids"], pixel_values=seen["pixel_values"])
    texts, images = [Text(t) for t in TEXTS], [Image(p) for p in PICTURES]
    prepared = ours.preprocessors["image"](images).values
    assert float((prepared - seen["pixel_values"]).abs().max()) < 1e-5  # the same bytes
    assert float((ours.embed(texts) - both.text_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images) - both.image_embeds).abs().max()) < 1e-5
    mixed = ours.embed([texts[0], *images, *texts[1:]])
    assert float((mixed[[0, 4, 5, 6, 1, 2, 3]] - torch.cat((both.text_embeds, both.image_embeds))).abs().max()) < 1e-5
    torch.testing.assert_close(ours.classify(images, TEXTS), both.logits_per_image.sigmoid(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.score(images, texts), both.image_embeds @ both.text_embeds.T, rtol=0, atol=1e-5)
    assert isinstance(ours, Embeds)
    assert isinstance(ours, Scores)
    assert isinstance(ours, Classifies)
    assert ours.name == str(folder)


@pytest.mark.peer
def test_texts_are_lower_cased_also_where_the_tokenizer_leaves_that_to_others(
    made: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = made
    rules = json.loads((folder / "tokenizer.json").read_text())
    plain = im.load(published.rewritten(folder, tmp_path / "plain", "tokenizer.json", **{**rules, "normalizer": None}))
    assert torch.equal(plain.embed([Text("The CAT")]), plain.embed([Text("the cat")]))
    assert plain.fingerprint != im.load(folder).fingerprint


@pytest.mark.peer
def test_weights_and_settings_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    wrong = published.rewritten(folder, tmp_path / "resample", "preprocessor_config.json", resample=1)
    assert "resample 1; supported are" in published.refused(wrong)
    wrong = published.rewritten(folder, tmp_path / "size", "preprocessor_config.json", size={"height": 9, "width": 9})
    assert "resized to {'height': 9, 'width': 9}" in published.refused(wrong)


@pytest.mark.peer
def test_the_server_gives_its_vectors(made: tuple[Path, Any]) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    ours = im.load(made[0])

    async def ask() -> Any:
        async with places.client(places.server({"siglip": ours})) as asked:
            return await asked.embeddings.create(model="siglip", input=["the cat", "a dog barks"])

    found = asyncio.run(ask())
    expected = ours.embed([Text("the cat"), Text("a dog barks")]).numpy()
    np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-5)
    assert found.usage.prompt_tokens == 7


@pytest.mark.peer
def test_the_commands_read_such_a_folder(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(PICTURES):
        Image(pixels).save(tmp_path / "photos" / f"{i}.png")
    out = tmp_path / "vectors.npz"
    assert run(["embed", str(folder), str(tmp_path / "photos"), "the cat", "--out", str(out)]) == 0
    with np.load(out) as found:
        assert found["modalities"].tolist() == ["image", "image", "image", "text"]
        expected = im.load(folder).embed([*(Image(p) for p in PICTURES), Text("the cat")])
        np.testing.assert_allclose(found["vectors"], expected.numpy(), atol=1e-5)
    library = im.Library.create(tmp_path / "library", im.load(folder))
    library.add(tmp_path / "photos")
    assert len(library.search(im.Text("a red house"), among="image", top=2)) == 2
