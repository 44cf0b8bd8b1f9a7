import dataclasses
import gzip
import importlib.util
import json
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.tokenizers import Tokenizer
from intermodal.tokenizers.bpe import BPETokenizer, byte_symbols

TEXTS = (
    "low lower lowest",
    "new newer newest wider",
    "the lowest of the low",
    "aaaa aaa aa",
    "it's 1984, isn't it? ½ café",
)
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn", "Co"])
PLAIN = st.text(st.one_of(ASSIGNED, st.sampled_from("abc'stre 12_é½Ⅳ²\n\t\x1c　猫")), max_size=30)


def slow_merge(symbols, merges):
    """Returns the symbols after trying every merge in turn, from the first."""
    for left, right in merges:
        i = 0
        while i + 1 < len(symbols):
            if (symbols[i], symbols[i + 1]) == (left, right):
                symbols[i : i + 2] = [left + right]
            else:
                i += 1
    return symbols


def char_class(c):
    """Returns L, N, blank or other, character by character, without a pattern."""
    if c in "\t\n\v\f\r \x85\xa0" or (ord(c) > 0xFF and c.isspace()):
        return "blank"
    return unicodedata.category(c)[0] if unicodedata.category(c)[0] in "LN" else "other"


def slow_clip_words(text):
    """Returns CLIP's words by walking over the cleaned text."""
    text = "".join(" " if char_class(c) == "blank" else c for c in unicodedata.normalize("NFC", text)).lower()
    words, i = [], 0
    while i < len(text):
        kind = char_class(text[i])
        clitic = next((e for e in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(e, i)), None)
        if clitic:
            end = i + len(clitic)
        else:
            end = i + 1
            while kind in ("L", "other") and end < len(text) and char_class(text[end]) == kind:
                end += 1
        if kind != "blank":
            words.append(text[i:end])
        i = end
    return words


def slow_clip_ids(tokenizer, text):
    merges = [tuple(merge.split(" ")) for merge in tokenizer.merges]
    ids = []
    for word in slow_clip_words(text):
        symbols = [byte_symbols()[byte] for byte in word.encode()]
        symbols[-1] += "</w>"
        ids += [tokenizer.vocabulary.index(symbol) for symbol in slow_merge(symbols, merges)]
    return [tokenizer.begin_id, *ids, tokenizer.end_id]


@pytest.fixture(scope="module")
def trained():
    return BPETokenizer.train(TEXTS, vocab_size=300)


def clip_style():
    """Returns a small tokenizer written as CLIP's."""
    merges = ("l o", "lo w</w>", "lo w", "t h", "th e</w>", "' s</w>", "Ã ©", "Ã ©</w>", "e r</w>", "low er</w>", "1 9")
    first = tuple(sorted(byte_symbols()))
    vocabulary = (*first, *(s + "</w>" for s in first), *(m.replace(" ", "") for m in merges), "<|begin|>", "<|end|>")
    return BPETokenizer(merges, vocabulary, True, "</w>", "<|begin|>", "<|end|>", "<|end|>")


CLIP_STYLE = clip_style()


@pytest.fixture(scope="module")
def clip_file():
    spec = importlib.util.find_spec("open_clip")  # found, not imported: importing it needs torchvision
    path = spec and spec.origin and Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    if not path or not path.exists():
        pytest.skip("CLIP's list of merges is not here; pip install --no-deps open_clip_torch brings it")
    return path


@pytest.fixture(scope="module")
def clip(clip_file):
    return BPETokenizer.from_clip_merges(clip_file)


@pytest.fixture(scope="module")
def captions(shared_data):
    lines = (shared_data / "flickr8k" / "pairs.jsonl").read_text().splitlines()[:200]
    return [caption for line in lines for caption in json.loads(line)["captions"]]


def test_it_keeps_the_contract(trained):
    assert isinstance(trained, Tokenizer)
    assert (trained.pad_id, trained.begin_id, trained.end_id, trained.vocab_size) == (0, 1, 2, 274)


def test_training_equals_counting_every_pair_anew():
    words = Counter(piece for text in TEXTS for piece in re.findall(r"'(?:s|t)| ?[^\W\d_½]+| ?[\d½]+| ?[^\s\w]+", text))
    symbols = {word: [byte_symbols()[byte] for byte in word.encode()] for word in words}
    merges = []
    while True:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(symbols[word], symbols[word][1:], strict=False):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        merges.append(best)
        for word in words:
            slow_merge(symbols[word], [best])
    trained = BPETokenizer.train(TEXTS, vocab_size=300)
    assert trained.merges == tuple(" ".join(pair) for pair in merges)
    assert BPETokenizer.train(TEXTS, vocab_size=265).merges == trained.merges[:6]
    assert BPETokenizer.train(reversed(TEXTS), vocab_size=300) == trained


def test_training_ends_when_nothing_occurs_twice():
    trained = BPETokenizer.train(["abab"], vocab_size=1000)
    assert trained.merges == ("a b",)
    assert trained.vocab_size == 260
    assert BPETokenizer.train([], vocab_size=259).vocab_size == 259


@given(PLAIN)
@example("  two  blanks \n at  ends  ")
@example("a\x1c \x1d\x85b")
def test_the_trained_one_gives_every_text_back(text):
    trained = BPETokenizer.train(TEXTS, vocab_size=280)
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert ids[0] == trained.begin_id
    assert ids[-1] == trained.end_id
    assert all(i > 2 for i in ids[1:-1])


@given(st.text(st.sampled_from("ab "), max_size=40))
def test_encoding_equals_trying_every_merge_in_turn(text):
    trained = BPETokenizer.train(["ab abab aab bba", "abba baab", "aaaa bbbb ab"] * 3, vocab_size=275)
    merges = [tuple(merge.split(" ")) for merge in trained.merges]
    slow = []
    for piece in re.findall(r" ?[ab]+|\s+(?!\S)|\s+", text):
        slow += slow_merge([byte_symbols()[byte] for byte in piece.encode()], merges)
    assert [trained.vocabulary[i] for i in trained.encode(text)[1:-1]] == slow


@given(PLAIN)
@example("The lower LOW's the1984 café cafe\u0301 ½Ⅳ _ don't'll")
def test_clip_style_equals_a_slow_walk(text):
    assert CLIP_STYLE.encode(text) == slow_clip_ids(CLIP_STYLE, text)


def test_decoding_clip_style_parts_words():
    assert CLIP_STYLE.decode(CLIP_STYLE.encode("  The LOWER\n café's ")) == "the lower café 's"


def test_special_symbols_in_a_text_stay_text(trained):
    assert trained.encode("<end>").count(trained.end_id) == 1
    assert trained.decode(trained.encode("<pad> <end>")) == "<pad> <end>"
    assert CLIP_STYLE.encode("<|end|>").count(CLIP_STYLE.end_id) == 1


def test_lower_cases_and_tidies_where_asked():
    trained = BPETokenizer.train(TEXTS, vocab_size=270, lower=True)
    assert trained.decode(trained.encode("  The  CAFE\u0301 ")) == "the caf\u00e9"


def test_decoding_stops_at_the_end_and_replaces_broken_bytes(trained):
    b = 3 + ord("b")
    assert trained.decode([1, 0, b, 2, b]) == "b"
    assert trained.decode([1, 3 + 0xC3, 2]) == "\ufffd"
    assert trained.decode(trained.encode("a\ud800")) == "a?"
    with pytest.raises(InvalidValue, match="0 to 273"):
        trained.decode([274])


def test_begin_may_be_the_same_symbol_as_end(trained):
    same = dataclasses.replace(trained, begin="<end>", pad="<end>")
    assert same.decode([*same.encode("it's"), 2, 2]) == "it's"


def test_it_survives_json(trained):
    saved = json.loads(json.dumps(dataclasses.asdict(trained)))
    saved |= {"merges": tuple(saved["merges"]), "vocabulary": tuple(saved["vocabulary"])}
    assert BPETokenizer(**saved) == trained


def test_a_long_stream_needs_no_more_memory(monkeypatch, trained):
    tokenizer = dataclasses.replace(trained)
    words = [f"w{i}" for i in range(50)]
    expected = [tokenizer.encode(word) for word in words]
    monkeypatch.setattr("intermodal.tokenizers.bpe.CACHED_WORDS", 8)
    tokenizer = dataclasses.replace(trained)
    assert [tokenizer.encode(word) for word in words] == expected
    assert 0 < len(tokenizer._known) <= 8


def test_a_long_word_takes_little_more_than_its_length(trained):
    start = time.process_time()
    assert len(trained.encode("lowest" * 20_000)) < 120_000
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merges": ("a b",), "vocabulary": (*byte_symbols(), "<begin>", "<end>", "<pad>")}, "lacks 1 symbols"),
        ({"merges": ("ab",)}, "not two symbols"),
        ({"vocabulary": (*byte_symbols(), "a")}, "'a' is in the vocabulary more than once"),
        ({"begin": "<start>"}, "'<start>'"),
    ],
)
def test_what_cannot_encode_everything_is_refused(trained, change, message):
    with pytest.raises(InvalidValue, match=message):
        dataclasses.replace(trained, **change)
    with pytest.raises(InvalidValue, match="at least 259"):
        BPETokenizer.train(TEXTS, vocab_size=258)


def write_folder(folder, tokenizer, layout):
    ids = {symbol: i for i, symbol in enumerate(tokenizer.vocabulary)}
    if layout == "two files":
        (folder / "vocab.json").write_text(json.dumps(ids))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges, ""]))
    else:
        pairs = [merge.split(" ") for merge in tokenizer.merges] if layout == "pairs" else list(tokenizer.merges)
        added = [{"content": symbol, "id": ids.pop(symbol)} for symbol in (tokenizer.begin, tokenizer.end)]
        whole = {"model": {"type": "BPE", "vocab": ids, "merges": pairs}, "added_tokens": added}
        (folder / "tokenizer.json").write_text(json.dumps(whole))
    special = {"bos_token": {"content": tokenizer.begin}, "eos_token": tokenizer.end, "pad_token": tokenizer.pad}
    (folder / "special_tokens_map.json").write_text(json.dumps({**special, "additional_special_tokens": ["x"]}))


@pytest.mark.parametrize("layout", ["two files", "pairs", "lines"])
@pytest.mark.parametrize("style", ["clip", "trained"])
def test_a_published_folder_reads_back(tmp_path, trained, layout, style):
    tokenizer = CLIP_STYLE if style == "clip" else trained
    write_folder(tmp_path, tokenizer, layout)
    assert BPETokenizer.from_folder(tmp_path) == tokenizer


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("merges.txt", None, "cannot be read"),
        ("vocab.json", "{", "no JSON"),
        ("vocab.json", "[]", "holds a list"),
        ("vocab.json", '{"a": 0, "b": 2}', "each once"),
        ("vocab.json", '{"a": 0, "b": 1}', "no byte-level tokenizer"),
        ("special_tokens_map.json", b"\xff", "cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, trained, file, content, message):
    write_folder(tmp_path, trained, "two files")
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidCheckpoint, match=message):
        BPETokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", [{}, {"model": {"vocab": {}}}, {"model": {"vocab": {}, "merges": 3}}, {"model": 1}])
def test_a_tokenizer_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InvalidCheckpoint):
        BPETokenizer.from_folder(tmp_path)


def test_damaged_merges_are_refused(tmp_path):
    (tmp_path / "few.txt").write_text("version\na b\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"version\na b\n" * 100)[:-20])
    for name, message in (("few.txt", "does not hold"), ("cut.gz", "cannot be read"), ("absent", "cannot be read")):
        with pytest.raises(InvalidCheckpoint, match=message):
            BPETokenizer.from_clip_merges(tmp_path / name)


@pytest.mark.peer
def test_the_published_vocabulary_has_the_published_ids(clip):
    assert (clip.vocab_size, clip.begin_id, clip.end_id) == (49408, 49406, 49407)
    assert clip.encode("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert clip.decode(clip.encode("A photo of a CAT!")) == "a photo of a cat !"


@pytest.mark.peer
@pytest.mark.data("flickr8k")
def test_a_thousand_captions_have_the_ids_of_another_implementation(clip, captions):
    tokenizers = pytest.importorskip("tokenizers")
    ids = {symbol: i for i, symbol in enumerate(clip.vocabulary)}
    pairs = [tuple(merge.split(" ")) for merge in clip.merges]
    peer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=pairs, end_of_word_suffix="</w>"))
    blanks = tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    steps = [tokenizers.normalizers.NFC(), blanks, tokenizers.normalizers.Lowercase()]
    peer.normalizer = tokenizers.normalizers.Sequence(steps)
    words = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = tokenizers.pre_tokenizers.Split(words, behavior="removed", invert=True)
    to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    peer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
    assert len(captions) == 1000
    assert [clip.encode(c)[1:-1] for c in captions] == [peer.encode(c).ids for c in captions]


@pytest.mark.peer
@pytest.mark.data("flickr8k")
def test_blanks_kept_has_the_ids_of_another_implementation(captions):
    tokenizers = pytest.importorskip("tokenizers")
    trained = BPETokenizer.train(captions, vocab_size=1000)
    ids = {symbol: i for i, symbol in enumerate(trained.vocabulary)}
    peer = tokenizers.Tokenizer(tokenizers.models.BPE(ids, [tuple(merge.split(" ")) for merge in trained.merges]))
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [*captions, "  two  blanks \n at  ends  ", "½ Ⅳ² x²3 _a_ 猫 café's\u0301 \x85 I'LL"]
    assert [trained.encode(text)[1:-1] for text in texts] == [peer.encode(text).ids for text in texts]


@pytest.mark.peer
@pytest.mark.slow
def test_the_published_one_is_built_within_a_second(clip_file):
    start = time.process_time()
    BPETokenizer.from_clip_merges(clip_file).encode("a photo of a cat")
    assert time.process_time() - start < 1.0
