import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.tokenizers import Tokenizer
from intermodal.tokenizers.byte import ByteTokenizer


def test_it_keeps_the_contract():
    tokenizer = ByteTokenizer()
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer == ByteTokenizer()
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id) == (259, 0, 1, 2)


def test_ids_are_utf8_bytes_after_the_special_ones():
    assert ByteTokenizer().encode("aé\x00") == [1, 100, 198, 172, 3, 2]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_exactly(text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids == [1, *(byte + 3 for byte in text.encode()), 2]


@given(st.lists(st.integers(0, 258)))
def test_whatever_a_model_makes_decodes_to_text_that_can_be_written(ids):
    ByteTokenizer().decode(ids).encode("utf-8")


def test_a_lone_surrogate_and_broken_bytes_are_replaced():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"
    assert tokenizer.decode([1, 3 + 0xC3, 3 + 0x41, 2]) == "\ufffdA"


def test_decoding_stops_at_the_end_and_refuses_other_ids():
    assert ByteTokenizer().decode([1, 100, 0, 101, 2, 102]) == "ab"
    for wrong in (-1, 259):
        with pytest.raises(InvalidValue, match="0 to 258"):
            ByteTokenizer().decode([wrong])
