"""Word pieces against the library that published vocabularies come with."""

import json
from pathlib import Path

import pytest

from intermodal.config import from_dict, to_dict
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.modalities.text import TextPreprocessor
from intermodal.tokenizers.wordpiece import WordPieceTokenizer
from tests import published

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = (
    *SPECIALS,
    "a",
    "play",
    "##ing",
    "##er",
    "##s",
    "cafe",
    "dog",
    "##g",
    "中",
    "文",
    ".",
    "'",
    "don",
    "t",
    "$",
    "5",
)
OURS = WordPieceTokenizer(PIECES)
TEXTS = (
    *("A player's playing.", "Café dogs", "don't", "中文dog", "$5 playings", "unheard of", "  tabs\tand\nlines ", ""),
    *("naïve [MASK] dog\u200b", "dogg\ufffds", "“a”—a…", "a" * 101, "İ dog", "a ́ a", "5£", "^dog~"),
)


def test_ids_are_those_of_the_library() -> None:
    library = published.library()
    theirs = library.BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)})
    for text in TEXTS:
        if "[MASK]" not in text:  # there it is the special id, here text
            assert OURS.encode(text) == theirs(text)["input_ids"], text


def test_pieces_and_back() -> None:
    ids = OURS.encode("A player playing!")
    assert [PIECES[i] for i in ids] == ["[CLS]", "a", "play", "##er", "play", "##ing", "[UNK]", "[SEP]"]
    assert OURS.decode([*ids[:-2], OURS.end_id, 5]) == "a player playing"
    assert OURS.mask_id == 4
    assert OURS.encode("[MASK]") == [2, 1, 1, 1, 3]
    with pytest.raises(InvalidValue, match="99 is no id"):
        OURS.decode([99])


def test_vocabularies_of_folders(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {p: i for i, p in enumerate(PIECES)}}}))
    assert WordPieceTokenizer.from_folder(tmp_path) == OURS
    (tmp_path / "vocab.txt").write_text("\n".join((*PIECES, "more")) + "\n", "utf-8")
    assert WordPieceTokenizer.from_folder(tmp_path).pieces == (*PIECES, "more")
    for wrong in ("a\nb\n", "\n".join((*PIECES, "a"))):
        (tmp_path / "vocab.txt").write_text(wrong, "utf-8")
        with pytest.raises(InvalidCheckpoint, match=r"put the vocab\.txt"):
            WordPieceTokenizer.from_folder(tmp_path)
    with pytest.raises(InvalidCheckpoint, match="holds no vocabulary"):
        WordPieceTokenizer.from_folder(tmp_path / "absent")


def test_it_is_saved_inside_a_preprocessor() -> None:
    made = TextPreprocessor(OURS, 9)
    assert from_dict(TextPreprocessor, to_dict(made)) == made
