"""Published BLIP-2 folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.media.source import printable
from intermodal.sampling.autoregressive import Sampling
from tests import published, talkers

SIDE, QUERIES, LONGEST = 32, 3, 8
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1)]


def build(folder: Path, decoder: bool = True) -> Any:
    """Writes a folder, with a decoder as OPT or an encoder and a decoder as T5, and returns the network in it."""
    library = published.library()
    words = talkers.tokenizer(("<pad>", "<s>", "</s>", "<image>"), "</s>", "", "<s>" if decoder else None)
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text: dict[str, Any] = {"model_type": "opt", "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 24}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 90}
    if not decoder:
        text = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
        text["decoder_start_token_id"] = words.pad_token_id
    seen = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    asks = {**seen, "vocab_size": 20, "encoder_hidden_size": 16}
    config = library.Blip2Config(
        vision_config={**seen, "image_size": SIDE, "patch_size": 8},
        qformer_config=asks,
        text_config={**text, "vocab_size": len(words), **ids},
        num_query_tokens=QUERIES,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    network = published.shaken(library.Blip2ForConditionalGeneration(config), 0.3)
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    library.models.blip.image_processing_pil_blip.BlipImageProcessorPil(size=square).save_pretrained(folder)
    return network


def theirs(folder: Path, network: Any, pixels: Any, text: str, begun: bool, **how: Any) -> str:
    """Returns what the library itself writes about a picture; ``begun``: the words before it too."""
    library = published.library()
    pictures = library.AutoImageProcessor.from_pretrained(folder, backend="pil")
    words = library.AutoTokenizer.from_pretrained(folder)
    prepared = library.Blip2Processor(pictures, words, num_query_tokens=QUERIES)
    given = prepared(images=Pillow.fromarray(pixels), text=text, return_tensors="pt")
    rows = network.generate(**given, max_new_tokens=LONGEST, **how)[0]
    before = given["input_ids"].shape[1] if network.config.use_decoder_only_language_model else 0
    told = printable(words.decode(rows[before:], skip_special_tokens=True)).strip()
    return f"{text} {told}".strip() if begun else told


@pytest.mark.peer
@pytest.mark.parametrize("decoder", [True, False])
def test_captions_and_answers_are_those_of_transformers(tmp_path: Path, decoder: bool) -> None:
    network = build(tmp_path, decoder)
    ours = im.load(tmp_path)
    ours.longest = LONGEST
    items = [im.Image(p) for p in PICTURES]
    for begin in ("a photo of", "") if decoder else ("a photo of",):
        ours.begin = begin
        expected = [theirs(tmp_path, network, p, begin, True) for p in PICTURES]
        assert [item.text for item in ours.translate(items, "text")] == expected
        assert all(len(words) > len(begin) for words in expected)
    beams = [theirs(tmp_path, network, p, begin, True, num_beams=2) for p in PICTURES]
    assert [item.text for item in ours.translate(items, "text", count=2)] == beams
    how = Sampling(1.5, seed=5)
    assert ours.translate(items, "text", sampling=how)[1] == ours.translate(items[1:], "text", sampling=how)[0]
    asked = theirs(tmp_path, network, PICTURES[1], "Question: how many cats? Answer:", False)
    assert ours.answer({"image": items[1]}, "how many cats?") == asked
    with pytest.raises(im.Unsupported, match="about one image, not about image, other"):
        ours.answer({"image": items[0], "other": items[1]}, "how many cats?")
    ours.question = "Question:"
    with pytest.raises(im.InvalidValue, match="has no {} in place of the question"):
        ours.answer({"image": items[0]}, "how many cats?")


@pytest.mark.peer
def test_folders_that_cannot_be_followed_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    build(folder)
    published.check_strict(folder, tmp_path)
    other = published.rewritten(folder, tmp_path / "a", "config.json", architectures=["Blip2ForImageTextRetrieval"])
    assert "this package reads Blip2ForConditionalGeneration" in published.refused(other)
    other = published.rewritten(folder, tmp_path / "b", "config.json", image_token_index=None)
    assert "image_token_index" in published.refused(other)
