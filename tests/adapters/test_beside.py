"""Our ways of preparing items in the published layouts, read by the libraries that these are of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from intermodal.adapters import _beside, _transformers
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.tokenizers import Tokenizer, bpe
from intermodal.tokenizers.bpe import BPETokenizer
from intermodal.tokenizers.byte import ByteTokenizer
from intermodal.tokenizers.whole import WholeTokenizer
from intermodal.tokenizers.word import WordTokenizer
from intermodal.tokenizers.wordpiece import WordPieceTokenizer
from tests import published

STORY = "The cat's house is red, isn't it? We'll see 12 dogs; they've barked."
TEXTS = [
    *("a", STORY, STORY.upper(), "  two   blanks ", "tab\tand\nline", "'s 's't", "snake_case 3.5% x²", "½ Ⅳ ٣"),
    *("naïve café déjà", "Straße ÉTÉ", "日本語 text", "emoji 😀 here", "<pad> <end> [CLS]", "...!?", "word " * 40, ""),
]


def clip_words() -> BPETokenizer:
    """Returns a tokenizer of CLIP's kind with a few merges."""
    merges = ("t h", "th e</w>", "c a", "ca t</w>", "r e", "re d</w>")
    first = sorted(bpe.byte_symbols())
    vocabulary = (*first, *(s + "</w>" for s in first), *(m.replace(" ", "") for m in merges), *bpe.CLIP_SPECIALS)
    return BPETokenizer(merges, vocabulary, True, "</w>", *bpe.CLIP_SPECIALS, bpe.CLIP_SPECIALS[1])


PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "house",
    "##s",
    "is",
    "re",
    "##d",
    "a",
    "'",
    "s",
    ",",
)
KNOWN: dict[str, Tokenizer] = {
    "word": WordTokenizer.train([STORY], 40),
    "wordpiece": WordPieceTokenizer(PIECES),
    "bpe": BPETokenizer.train([STORY] * 3, 300),
    "bpe lower": BPETokenizer.train([STORY] * 3, 300, lower=True),
    "bpe clip": clip_words(),
    "byte": ByteTokenizer(),
}


@pytest.mark.peer
@pytest.mark.parametrize("kind", KNOWN)
def test_the_library_gives_the_ids_that_we_give(kind: str, tmp_path: Path) -> None:
    library: Any = pytest.importorskip("tokenizers")
    ours = TextPreprocessor(KNOWN[kind], 24)
    texts = [Text(text) for text in TEXTS]
    assert _beside.write_tokenizer(tmp_path, ours, texts)
    theirs = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    batch = ours(texts)
    rows = theirs.encode_batch(TEXTS)
    assert torch.equal(torch.tensor([row.ids for row in rows]), batch.values)
    assert torch.equal(torch.tensor([row.attention_mask for row in rows]).bool(), batch.mask)


@pytest.mark.peer
def test_the_larger_library_opens_the_folder_too(tmp_path: Path) -> None:
    library = published.library()
    ours = TextPreprocessor(KNOWN["bpe clip"], 24)
    assert _beside.write_tokenizer(tmp_path, ours, [Text("the cat")])
    made = library.AutoTokenizer.from_pretrained(tmp_path)
    found = made(["the cat", "the red cat's house"], padding=True, return_tensors="pt")
    batch = ours([Text("the cat"), Text("the red cat's house")])
    assert torch.equal(found["input_ids"], batch.values)
    assert torch.equal(found["attention_mask"].bool(), batch.mask)


def test_what_the_layout_cannot_say_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _beside.write_tokenizer(tmp_path, TextPreprocessor(WholeTokenizer(("yes", "no")), 8), [])
    other = _beside.described(TextPreprocessor(KNOWN["bpe"], 24))
    monkeypatch.setattr(_beside, "described", lambda _: other)
    assert not _beside.write_tokenizer(tmp_path, TextPreprocessor(KNOWN["word"], 24), [Text(STORY)])
    assert list(tmp_path.iterdir()) == []
    assert _beside.pictures(ImagePreprocessor(32, 64, 16)) is None


@pytest.mark.peer
@pytest.mark.parametrize(("fit", "resize"), [("resize_first", "bicubic"), ("squeeze", "bilinear")])
def test_pictures_are_prepared_by_the_library_as_by_us(fit: str, resize: str, tmp_path: Path) -> None:
    library = published.library()
    ours = ImagePreprocessor(32, 32, 8, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), fit, resize, "pillow")
    assert _beside.is_exact(ours)
    settings: Any = _beside.pictures(ours)
    family = library.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    pixels = [published.picture(60, 90), published.picture(133, 57, 1)]
    found = family(**settings)([Pillow.fromarray(one) for one in pixels], return_tensors="pt")["pixel_values"]
    wanted = ours([Image(one) for one in pixels]).values
    np.testing.assert_allclose(np.asarray(found), wanted.numpy(), atol=1e-5)
    (tmp_path / "preprocessor_config.json").write_text(__import__("json").dumps(settings))
    again = _transformers.pictures(tmp_path, 32)
    assert torch.equal(again([Image(one) for one in pixels]).values, wanted)


def test_our_own_way_of_fitting_is_said_to_be_another() -> None:
    assert not _beside.is_exact(ImagePreprocessor(32, 32, 8))
    settings: Any = _beside.pictures(ImagePreprocessor(32, 32, 8))
    assert settings["size"] == {"shortest_edge": 32}
    assert settings["do_center_crop"]
