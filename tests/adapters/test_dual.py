"""What published dual encoders share, over one of them."""

from typing import Any

import pytest
import torch

import intermodal as im
from tests import published

ITEMS = [im.Text("a dog"), im.Image(published.picture(50, 40)), im.Text("the red house"), im.Text("")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("published") / "siglip"
    published.siglip(folder)
    return im.load(folder)


@pytest.mark.peer
def test_batches_do_not_change_vectors(model: Any) -> None:
    whole = model.embed(ITEMS)
    assert float((whole.norm(dim=1) - 1).abs().max()) < 1e-5
    assert float((model.embed(ITEMS, batch_size=1) - whole).abs().max()) < 1e-5
    assert float((torch.cat([model.embed([item]) for item in ITEMS]) - whole).abs().max()) < 1e-5
    assert model.embed([]).shape[0] == 0
    assert not whole.requires_grad


@pytest.mark.peer
def test_half_precision_is_close(model: Any) -> None:
    half = model.embed(ITEMS, precision="bf16")
    assert half.dtype == torch.float32
    assert float((half * model.embed(ITEMS)).sum(dim=1).min()) > 0.99
    model.precision = "bf16"
    try:
        assert torch.equal(model.embed(ITEMS), half)
    finally:
        model.precision = None


@pytest.mark.peer
def test_prompts_are_averaged_and_labels_checked(model: Any) -> None:
    pictures = [ITEMS[1]]
    one = model.classify(pictures, ["dog", "cat"], ["a photo of the {}"])
    assert torch.equal(one, model.classify(pictures, ["a photo of the dog", "a photo of the cat"]))
    two = model.classify(pictures, ["dog", "cat"], ["a {}", "the {}"])
    assert two.shape == (1, 2)
    for labels, prompts in (([], ["{}"]), (["dog"], ["no place"])):
        with pytest.raises(im.InvalidValue, match="classify needs labels"):
            model.classify(pictures, labels, prompts)


@pytest.mark.peer
def test_modalities_without_a_tower_are_told(model: Any) -> None:
    assert model.field_of("image") == "image"
    with pytest.raises(im.Unsupported, match="no tower for audio; it reads image, text"):
        model.field_of("audio")
