"""Published X-CLIP folders, made with random weights, against the library that wrote them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from tests import published

TEXTS = ("a photo", "the cat", "cat photo of the dog")
SIDE, FRAMES = 32, 4


def clip(frames: int, seed: int) -> im.Video:
    """Returns a clip whose frames differ."""
    return im.Video(np.stack([published.picture(40, 60, seed + i) for i in range(frames)]), 8.0)


CLIPS = [clip(4, 0), clip(9, 10), clip(2, 30)]
TAKEN = [[0, 1, 2, 3], [1, 3, 5, 7], [0, 0, 1, 1]]


def build(folder: Path) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    folder.mkdir(exist_ok=True)
    letters = sorted({letter for word in published.WORDS for letter in word})
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = library.CLIPTokenizer.from_pretrained(folder)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, **ids}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "pad_token_id": tokenizer.pad_token_id}
    seen = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    seen |= {"image_size": SIDE, "patch_size": 8, "num_frames": FRAMES, "mit_hidden_size": 16}
    seen |= {"mit_intermediate_size": 24, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    config = library.XCLIPConfig(text_config=text, vision_config=seen, projection_dim=16, prompt_num_attention_heads=2)
    torch.manual_seed(0)
    network = published.shaken(library.XCLIPModel(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    processor(library)(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "xclip"
    return folder, build(folder)


def processor(library: Any) -> Any:
    """Returns the library's preparation of frames that needs no torchvision."""
    return library.models.videomae.image_processing_pil_videomae.VideoMAEImageProcessorPil


@pytest.mark.peer
def test_vectors_and_probabilities_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    library = published.library()
    ours = im.load(folder)
    words = library.CLIPTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="pt")
    frames = [[Pillow.fromarray(item.frames[i]) for i in taken] for item, taken in zip(CLIPS, TAKEN, strict=True)]
    seen = processor(library).from_pretrained(folder)(frames, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        both = network(words["input_ids"], seen, words["attention_mask"])
        alone = network.get_text_features(**words).pooler_output
        shown = network.get_video_features(seen).pooler_output
    texts: list[im.Text] = [im.Text(t) for t in TEXTS]
    cosines = (both.logits_per_video / network.logit_scale.exp()).detach()
    unit = torch.nn.functional.normalize
    assert float((ours.embed(CLIPS) - unit(shown, dim=-1)).abs().max()) < 1e-5
    assert float((ours.embed(texts) - unit(alone, dim=-1)).abs().max()) < 1e-5
    torch.testing.assert_close(ours.score(CLIPS, texts), cosines, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.score(texts, CLIPS), cosines.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.classify(CLIPS, TEXTS), both.logits_per_video.softmax(1), rtol=1e-4, atol=1e-6)
    assert float((cosines - ours.embed(CLIPS) @ ours.embed(texts).T).abs().max()) > 1e-6  # the clip changes the text
    assert torch.equal(ours.score(texts, texts), ours.embed(texts) @ ours.embed(texts).T)


@pytest.mark.peer
def test_a_library_of_clips_is_searched(made: tuple[Path, Any], tmp_path: Path) -> None:
    ours = im.load(made[0])
    (tmp_path / "clips").mkdir()
    for i, item in enumerate(CLIPS):
        item.save(tmp_path / "clips" / f"{i}.mp4")
    library = im.Library.create(tmp_path / "library", ours)
    library.add(tmp_path / "clips")
    assert len(library.search(im.Text("the cat"), among="video", top=2)) == 2


@pytest.mark.peer
def test_mistakes_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    ours = im.load(made[0])
    with pytest.raises(im.Unsupported, match="give videos"):
        ours.classify([im.Text("a cat")], ["cat"])
    with pytest.raises(im.InvalidValue, match="classify needs labels"):
        ours.classify(CLIPS, ["cat"], ["nothing"])
    with pytest.raises(im.InvalidValue, match="clips were expected, not Text"):
        ours.preprocessors["video"]([im.Text("a cat")])
    published.check_strict(made[0], tmp_path)
