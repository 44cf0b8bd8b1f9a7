import dataclasses
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.tokenizers import Tokenizer
from intermodal.tokenizers.word import WordTokenizer, split_words

CAPTIONS = ("A dog runs.", "a dog, a cat", "the dog's ball isn't red!")


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer.train(CAPTIONS, vocab_size=100)


def test_it_keeps_the_contract(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    assert (tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id, tokenizer.unknown_id) == (0, 1, 2, 3)


def test_text_splits_into_lower_case_words_clitics_and_marks():
    assert split_words("The Dog's ball -- isn't RED_1!") == [
        *("the", "dog", "'s", "ball", "-", "-", "isn", "'t", "red_1", "!")
    ]
    assert split_words("'sand' 'S") == ["'", "sand", "'", "'s"]
    assert split_words(" \n\t") == []


def test_words_are_ranked_by_frequency_then_alphabet():
    trained = WordTokenizer.train(["b a c", "c b", "b"], vocab_size=7)
    assert trained.words == ("b", "c", "a")
    assert trained.encode("a b c d") == [1, 6, 4, 5, 3, 2]
    assert WordTokenizer.train(["b a c", "c b", "b"], vocab_size=6).words == ("b", "c")
    assert WordTokenizer.train(["b a c", "c b", "b"], vocab_size=9, count_min=2).words == ("b", "c")
    assert WordTokenizer.train(reversed(["b a c", "c b", "b"]), vocab_size=7) == trained


def test_decoding_writes_marks_and_clitics_close(tokenizer):
    assert (
        tokenizer.decode(tokenizer.encode("The dog's ball ISN'T red , a cat .")) == "the dog's ball isn't red, a cat."
    )
    assert tokenizer.decode(tokenizer.encode("a zebra")) == "a <unknown>"


def test_decoding_stops_at_the_end_and_skips_padding(tokenizer):
    a, cat = tokenizer.encode("a cat")[1:-1]
    assert tokenizer.decode([0, 1, a, 0, cat, 2, a, a]) == "a cat"
    assert tokenizer.decode([]) == ""


@given(st.lists(st.sampled_from(["a", "dog", "'s", ",", "!", "'", "(", "-", "_", "3", "'t", "é", "猫"]), max_size=12))
def test_whatever_is_decoded_encodes_to_the_same_ids(pieces):
    tokenizer = WordTokenizer(("a", "dog", "'s", ",", "!", "'", "(", "-", "_", "3", "'t", "é", "猫"))
    ids = tokenizer.encode(" ".join(pieces))
    assert len(ids) == len(pieces) + 2
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


@given(st.text(st.characters(), max_size=40))
def test_any_text_encodes_and_trains(text):
    trained = WordTokenizer.train([text], vocab_size=1000)
    ids = trained.encode(text)
    assert trained.unknown_id not in ids
    assert all(0 <= i < trained.vocab_size for i in ids)
    assert len(ids) == len(split_words(text)) + 2


def test_it_survives_json(tokenizer):
    saved = json.loads(json.dumps(dataclasses.asdict(tokenizer)))
    assert WordTokenizer(words=tuple(saved["words"])) == tokenizer


@pytest.mark.parametrize("words", [("Dog",), ("two words",), ("",), ("a", "b", "a"), ("dog's",)])
def test_words_that_cannot_occur_are_refused(words):
    with pytest.raises(InvalidValue, match="vocabulary"):
        WordTokenizer(words)


def test_wrong_sizes_and_ids_are_refused(tokenizer):
    with pytest.raises(InvalidValue, match="vocab_size is 4"):
        WordTokenizer.train(CAPTIONS, vocab_size=4)
    with pytest.raises(InvalidValue, match="count_min 0"):
        WordTokenizer.train(CAPTIONS, vocab_size=10, count_min=0)
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(InvalidValue, match="no id"):
            tokenizer.decode([wrong])


@pytest.mark.slow
def test_fifty_thousand_sentences_in_a_second():
    sentence = "a small red circle moving left, and a large blue square at the top"
    tokenizer = WordTokenizer.train([sentence], vocab_size=100)
    tokenizer.encode(sentence)

    def seconds():
        start = time.process_time()
        for _ in range(10_000):
            tokenizer.encode(sentence)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.2
