"""Published SigLIP 2 folders of native resolution, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from tests import published

TEXTS = ("a photo of the cat", "the dog barks", "")
PLACES, PATCH, MOST = 8, 8, 16
PICTURES = [published.picture(60, 90), published.picture(133, 37, 1), published.picture(16, 16, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "siglip2"
    tokenizer = published.word_tokenizer(("<pad>", "</s>", "<unk>"), pad_token="</s>")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": PLACES, "projection_size": 16}
    text |= {"bos_token_id": 1, "eos_token_id": 1}
    config = library.Siglip2Config(text_config=text, vision_config={**sizes, "patch_size": PATCH, "num_patches": 16})
    torch.manual_seed(0)
    network = published.shaken(library.Siglip2Model(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor(library)(patch_size=PATCH, max_num_patches=MOST).save_pretrained(folder)
    return folder, network


def processor(library: Any) -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil


@pytest.mark.peer
def test_vectors_and_probabilities_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    library = published.library()
    ours = im.load(folder)
    tokenizer = library.PreTrainedTokenizerFast.from_pretrained(folder)
    words = tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=PLACES, return_tensors="pt")
    seen = processor(library).from_pretrained(folder)([Pillow.fromarray(p) for p in PICTURES], return_tensors="pt")
    assert len(set(map(tuple, seen["spatial_shapes"].tolist()))) == len(PICTURES)  # each of another shape
    with torch.no_grad():
        both = network(input_ids=words["input_ids"], **seen)
    texts, images = [im.Text(t) for t in TEXTS], [im.Image(p) for p in PICTURES]
    assert float((ours.embed(texts) - both.text_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images) - both.image_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images[1:2]) - both.image_embeds[1:2]).abs().max()) < 1e-5
    torch.testing.assert_close(ours.classify(images, TEXTS), both.logits_per_image.sigmoid(), rtol=1e-4, atol=1e-6)
    assert torch.equal(ours.embed([im.Text("The CAT")]), ours.embed([im.Text("the cat")]))
    with pytest.raises(im.InvalidValue, match="pictures were expected, not Text"):
        ours.preprocessors["image"](texts)


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    published.check_strict(made[0], tmp_path)
    wrong = published.rewritten(made[0], tmp_path / "patch", "preprocessor_config.json", patch_size=4)
    assert "patches of 4 and its network reads 8" in published.refused(wrong)
