"""Published Chinese-CLIP folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from tests import published

TEXTS = ("狗和猫", "红色的房子", "猫")
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(32, 32, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "chinese_clip"
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"狗和猫红色的房子")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24}
    text = {**sizes, "vocab_size": len(vocabulary), "max_position_embeddings": 12}
    image = {**sizes, "image_size": 32, "patch_size": 8}
    config = library.ChineseCLIPConfig(text_config=text, vision_config=image, projection_dim=12)
    torch.manual_seed(0)
    network = published.shaken(library.ChineseCLIPModel(config))
    network.save_pretrained(folder)
    library.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    square = {"height": 32, "width": 32}
    processor(library)(size={"shortest_edge": 32}, crop_size=square).save_pretrained(folder)
    return folder, network


def processor(library: Any) -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library.models.chinese_clip.image_processing_pil_chinese_clip.ChineseCLIPImageProcessorPil


@pytest.mark.peer
def test_vectors_and_probabilities_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    library = published.library()
    ours = im.load(folder)
    words = library.BertTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="pt")
    seen = processor(library).from_pretrained(folder)([Pillow.fromarray(p) for p in PICTURES], return_tensors="pt")
    with torch.no_grad():
        both = network(**words, **seen)
    texts, images = [im.Text(t) for t in TEXTS], [im.Image(p) for p in PICTURES]
    assert float((ours.embed(texts) - both.text_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images) - both.image_embeds).abs().max()) < 1e-5
    torch.testing.assert_close(ours.classify(images, TEXTS), both.logits_per_image.softmax(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.peer
def test_weights_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    published.check_strict(made[0], tmp_path)
