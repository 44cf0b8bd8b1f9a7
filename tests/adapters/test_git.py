"""Published GIT folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.sampling.autoregressive import Sampling
from tests import published

SIDE, LONGEST = 32, 12
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(32, 32, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "git"
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *published.WORDS)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24}
    image = {**sizes, "image_size": SIDE, "patch_size": 8}
    marks = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = library.GitConfig(
        vision_config=image, **sizes, **marks, vocab_size=len(vocabulary), max_position_embeddings=60
    )
    torch.manual_seed(0)
    network = published.shaken(library.GitForCausalLM(config), 0.3)
    network.generation_config.max_length = LONGEST
    network.save_pretrained(folder)
    library.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    processor(library)(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    return folder, network


def processor(library: Any) -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library.models.clip.image_processing_pil_clip.CLIPImageProcessorPil


def theirs(folder: Path, network: Any, words: str = "", **how: Any) -> list[str]:
    """Returns what the library itself writes about the pictures."""
    library = published.library()
    tokenizer = library.BertTokenizer.from_pretrained(folder)
    seen = processor(library).from_pretrained(folder)([Pillow.fromarray(p) for p in PICTURES], return_tensors="pt")
    if words:
        ids = [tokenizer.cls_token_id, *tokenizer(words, add_special_tokens=False)["input_ids"]]
        how["input_ids"] = torch.tensor([ids] * len(PICTURES))
    rows = network.generate(pixel_values=seen["pixel_values"], **how)
    return [str(text).strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


@pytest.mark.peer
def test_captions_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours, items = im.load(folder), [im.Image(p) for p in PICTURES]
    expected = theirs(folder, network)
    assert all(expected)
    assert [item.text for item in ours.translate(items, "text")] == expected
    assert [ours.translate([item], "text")[0].text for item in items] == expected
    assert [item.text for item in ours.translate(items, "text", count=2)] == theirs(folder, network, num_beams=2)
    how = Sampling(1.5, seed=5)
    assert ours.translate(items, "text", sampling=how)[2] == ours.translate(items[2:], "text", sampling=how)[0]
    ours.begin = "a photo of"
    assert [item.text for item in ours.translate(items, "text")] == theirs(folder, network, "a photo of")


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    films = published.rewritten(folder, tmp_path / "films", "config.json", num_image_with_embedding=6)
    assert "num_image_with_embedding" in published.refused(films)
