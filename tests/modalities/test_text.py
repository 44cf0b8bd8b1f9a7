import pickle
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import printable
from intermodal.modalities.text import ITEM, PREPROCESSOR, Text, TextPreprocessor, Tokenizer
from intermodal.types import Preprocessor, Symbols
from tests.media.malformed import valid_files


@dataclass(frozen=True)
class Characters:
    """One id per character: pad 0, begin 1, end 2."""

    vocab_size: int = 0x110003
    pad_id: int = 0
    begin_id: int = 1
    end_id: int = 2

    def encode(self, text: str) -> list[int]:
        return [1, *(ord(c) + 3 for c in text), 2]

    def decode(self, ids: Sequence[int]) -> str:
        kept = list(ids)[: list(ids).index(2)] if 2 in ids else ids
        return "".join(chr(i - 3) for i in kept if i > 2)


TEXTS = st.text(st.characters()).map(printable)


@given(TEXTS)
def test_any_text_survives_saving(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "a.txt"
    assert Text(text).save(path) == path
    assert Text.open(path) == Text(text)
    assert Text.open(path.read_bytes()).text == text


def test_other_unicode_encodings_and_tables_are_read_as_text() -> None:
    assert Text.open("é".encode("utf-16")).text == "é"
    assert Text.open(b"\xef\xbb\xbfa").text == "a"
    assert Text.open(b"1,2\n3,4\n").text == "1,2\n3,4\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("é".encode("latin-1"), "1 bytes is no UTF-8 text: byte 0xe9"),
        (b"a\x00b", "control character"),
        (valid_files()["png"], r"is image \(png\), no text"),
        (valid_files()["mp3"], r"is audio \(mp3\), no text"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        Text.open(data)


@pytest.mark.parametrize("text", ["a\x00", "\x1b[0m", "\ud800", "\x9f"])
def test_control_characters_and_surrogates_are_no_text(text: str) -> None:
    with pytest.raises(InvalidValue, match="a text may not hold"):
        Text(text)


def test_saving_needs_a_known_suffix(tmp_path: Path) -> None:
    assert Text("a").save(tmp_path / "a.md").read_bytes() == b"a"
    with pytest.raises(InvalidValue, match=r"\.txt, \.md"):
        Text("a").save(tmp_path / "a.doc")


def test_texts_are_values() -> None:
    a = Text("a")
    assert a == Text("a") != Text("b")
    assert {a, Text("a")} == {a}
    assert a.content_hash() == Text("a").content_hash() != Text("b").content_hash()
    assert pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(FrozenInstanceError):
        a.text = "b"  # type: ignore[misc]


def test_it_is_shown_briefly_and_escaped() -> None:
    assert repr(Text("short")) == "Text('short')"
    assert len(repr(Text("long " * 1000))) < 130
    assert "5,000 characters" in repr(Text("long " * 1000))
    shown = Text("<script>alert(1)</script> & more")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in shown
    assert "3,000 more characters" in Text("long " * 1000)._repr_html_()


def test_rows_are_as_long_as_the_longest_text() -> None:
    batch = TextPreprocessor(Characters())([Text("abc"), None, Text(""), Text("a")])
    assert batch.values.tolist() == [[1, 100, 101, 102, 2], [0] * 5, [1, 2, 0, 0, 0], [1, 100, 2, 0, 0]]
    assert batch.mask.sum(1).tolist() == [5, 0, 2, 3]
    assert batch.mask[:, 0].tolist() == batch.present.tolist() == [True, False, True, True]
    assert torch.equal(batch.mask, batch.mask.sort(dim=1, descending=True).values)


def test_a_batch_of_nothing_is_one_token_wide() -> None:
    batch = TextPreprocessor(Characters())([None, None])
    assert batch.values.tolist() == [[0], [0]]
    assert batch.mask.tolist() == [[False], [False]]


def test_long_texts_are_cut_and_keep_their_end() -> None:
    preprocess = TextPreprocessor(Characters(), tokens_max=4)
    batch = preprocess([Text("ab"), Text("abc"), Text("a" * 1000)])
    assert batch.values.tolist() == [[1, 100, 101, 2], [1, 100, 101, 2], [1, 100, 100, 2]]
    assert batch.mask.all()


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_texts_come_back(texts: list[str]) -> None:
    preprocess = TextPreprocessor(Characters(), tokens_max=10_000)
    items = [Text(text) for text in texts]
    assert preprocess.invert(preprocess(items).values) == items


def test_ids_that_no_text_has_become_a_sign_of_it() -> None:
    values = torch.tensor([[1, 3, 3 + 0xD800, 3 + ord("a"), 2, 3 + ord("b")]])
    assert TextPreprocessor(Characters()).invert(values) == [Text("\ufffd\ufffda")]


def test_it_keeps_the_contract() -> None:
    preprocess = TextPreprocessor(Characters())
    assert isinstance(Characters(), Tokenizer)
    assert isinstance(preprocess, Preprocessor)
    assert preprocess.layout == Symbols(0x110003)
    assert (ITEM, PREPROCESSOR, ITEM.modality, PREPROCESSOR.modality) == (Text, TextPreprocessor, "text", "text")


def test_mistakes_are_named() -> None:
    preprocess = TextPreprocessor(Characters())
    with pytest.raises(InvalidValue, match="at least one"):
        preprocess([])
    with pytest.raises(InvalidValue, match="tokens_max is 1"):
        TextPreprocessor(Characters(), tokens_max=1)
