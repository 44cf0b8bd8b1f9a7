"""Published folders give the ids that transformers gives."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intermodal.tokenizers.bpe import CLIP_SPECIALS, BPETokenizer, byte_symbols

AWKWARD = (
    "",
    "   ",
    "\n\t tabs\tand\r\nlines \n",
    "A PHOTO of a Café, a cafe\u0301 and a CAFÉ",
    "it's John's; they'll've I'M we'd o'clock 'tis ''s 'S'T",
    "1984 12,345.67 3rd ½ ² Ⅳ ١٢٣ 0x1F",
    "😀👍🏽👨\u200d👩\u200d👧 ❤️ ☃",
    "<b>bold &amp; &lt;i&gt;</b> <br/> http://a.b/c?d=e&f=%20",
    "<|start|> <|end|> <| endoftext |>",
    "猫が好き Привет мир שלום नमस्ते ไทย İstanbul ǅ ß ſ ﬁ Å \u212b",
    "under_score __init__ snake_case-kebab+plus=equals",
    "!!!???... --- *** ((())) [[]] {{}} ~~ ^^ $$ €€ ££",
    "non\xa0breaking\u3000wide\u2009thin\u200bzero\ufeffmark",
    "a" * 300,
    "word " * 120,
    "\u0300\u0301 lone marks \u0660",
)


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers")


def write(folder: Path, tokenizer: BPETokenizer) -> Path:
    """Writes a tokenizer as the first published folders have it."""
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(tokenizer.vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges, ""]))
    roles = {"bos_token": tokenizer.begin, "eos_token": tokenizer.end, "pad_token": tokenizer.pad}
    (folder / "special_tokens_map.json").write_text(json.dumps({**roles, "unk_token": tokenizer.end}))
    return folder


def small() -> BPETokenizer:
    """Returns a made-up vocabulary: a few words, and some pairs inside accents and emoji."""
    merges: list[str] = []
    for word in ("photo", "cat", "'s", "'ll", "19", "ca", "café", "😀", "--", "&amp", "猫"):
        symbols = [byte_symbols()[byte] for byte in word.encode()]
        parts = [*symbols[:-1], f"{symbols[-1]}</w>"]
        merges += [f"{''.join(parts[:i])} {parts[i]}" for i in range(1, len(parts))]
    merges = list(dict.fromkeys(merges))
    first = sorted(byte_symbols())
    vocabulary = [*first, *(s + "</w>" for s in first), *(m.replace(" ", "") for m in merges), *CLIP_SPECIALS]
    return BPETokenizer(tuple(merges), tuple(vocabulary), True, "</w>", *CLIP_SPECIALS, CLIP_SPECIALS[1])


@pytest.fixture(scope="module")
def small_pair(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[BPETokenizer, Any]:
    folder = write(tmp_path_factory.mktemp("small"), small())
    return BPETokenizer.from_folder(folder), transformers.CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def published_pair(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[BPETokenizer, Any]:
    spec = importlib.util.find_spec("open_clip")  # found, not imported: importing it needs torchvision
    path = spec and spec.origin and Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    if not path or not path.exists():
        pytest.skip("CLIP's list of merges is not here; pip install --no-deps open_clip_torch brings it")
    folder = write(tmp_path_factory.mktemp("published"), BPETokenizer.from_clip_merges(path))
    return BPETokenizer.from_folder(folder), transformers.CLIPTokenizer.from_pretrained(folder)


@pytest.mark.peer
def test_a_small_vocabulary_gives_equal_ids(small_pair: tuple[BPETokenizer, Any]) -> None:
    ours, theirs = small_pair
    assert ours == small()
    for text in (*AWKWARD, "photo's cat 19 café CAFÉ 😀😀 -- &amp 猫 photocat"):
        assert ours.encode(text) == theirs(text)["input_ids"], text


@pytest.mark.peer
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(text=st.text(st.sampled_from("acfhopt's' 19é😀-&;<>_\n\u0301½²猫ß"), max_size=40))
def test_any_text_gives_equal_ids(small_pair: tuple[BPETokenizer, Any], text: str) -> None:
    ours, theirs = small_pair
    assert ours.encode(text) == theirs(text)["input_ids"]


@pytest.mark.peer
def test_the_published_vocabulary_gives_equal_ids(published_pair: tuple[BPETokenizer, Any]) -> None:
    ours, theirs = published_pair
    for text in AWKWARD:
        assert ours.encode(text) == theirs(text)["input_ids"], text


@pytest.mark.peer
@pytest.mark.data("flickr8k")
def test_ten_thousand_captions_have_equal_ids(published_pair: tuple[BPETokenizer, Any], shared_data: Path) -> None:
    ours, theirs = published_pair
    lines = (shared_data / "flickr8k" / "pairs.jsonl").read_text().splitlines()
    captions = [caption for line in lines for caption in json.loads(line)["captions"]][::4]
    assert len(captions) > 10_000
    assert [ours.encode(c) for c in captions] == theirs(captions)["input_ids"]
