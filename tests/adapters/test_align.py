"""Published ALIGN folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from tests import published

TEXTS = ("a photo of the cat", "the dog barks", "what is a red house of the cat of the dog", "")
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(32, 32, 2)]
SIDE, WIDTH = 32, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "align"
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *published.WORDS)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    text |= {"vocab_size": len(vocabulary), "max_position_embeddings": 20}
    stages: dict[str, Any] = {"kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24]}
    stages |= {"strides": [1, 2], "num_block_repeats": [1, 1], "expand_ratios": [1, 2], "hidden_dim": 320}
    stages |= {"image_size": SIDE, "width_coefficient": 0.25, "depth_coefficient": 1.0}
    config = library.AlignConfig(text_config=text, vision_config=stages, projection_dim=WIDTH)
    torch.manual_seed(0)
    network = published.shaken(library.AlignModel(config))
    with torch.no_grad():
        for weight in network.vision_model.parameters():
            weight.mul_(5 if weight.dim() == 4 else 1)  # else all pictures look the same
    network.save_pretrained(folder)
    library.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    processor(library)(
        size=square, crop_size=square, do_normalize=False, include_top=False, rescale_factor=1 / 127.5,
        rescale_offset=True,
    ).save_pretrained(folder)  # fmt: skip
    return folder, network


def processor(library: Any) -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library.models.efficientnet.image_processing_pil_efficientnet.EfficientNetImageProcessorPil


@pytest.mark.peer
def test_vectors_and_probabilities_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    library = published.library()
    ours = im.load(folder)
    words = library.BertTokenizer.from_pretrained(folder)(
        list(TEXTS), padding="max_length", truncation=True, max_length=20, return_tensors="pt"
    )
    seen = processor(library).from_pretrained(folder)([Pillow.fromarray(p) for p in PICTURES], return_tensors="pt")
    with torch.no_grad():
        both = network(**words, pixel_values=seen["pixel_values"])
    texts, images = [im.Text(t) for t in TEXTS], [im.Image(p) for p in PICTURES]
    assert float((ours.embed(texts) - both.text_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images) - both.image_embeds).abs().max()) < 1e-5
    assert float((ours.embed(images[:1], batch_size=1) - both.image_embeds[:1]).abs().max()) < 1e-5
    torch.testing.assert_close(ours.classify(images, TEXTS), both.logits_per_image.softmax(1), rtol=1e-4, atol=1e-6)
    assert float(both.image_embeds.std(dim=0).max()) > 0.001
    with pytest.raises(im.InvalidValue, match="pictures were expected, not Text"):
        ours.preprocessors["image"](texts)


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    published.check_strict(made[0], tmp_path)
    (made[0] / "preprocessor_config.json").rename(tmp_path / "kept.json")
    try:
        assert "how pictures are prepared" in published.refused(made[0])
    finally:
        (tmp_path / "kept.json").rename(made[0] / "preprocessor_config.json")
