"""Starting from a saved model: what fits is taken, what does not is told, words that are new begin afresh."""

import dataclasses
from pathlib import Path

import pytest
import torch

from intermodal.errors import InvalidCheckpoint
from intermodal.modalities.text import TextPreprocessor
from intermodal.saving import save_model, take_weights
from intermodal.tokenizers.word import WordTokenizer
from tests import grounded
from tests.systems.test_visualbert import make


def test_what_fits_is_taken_and_the_rest_is_told(tmp_path: Path) -> None:
    captions, questions = make(grounded.CAPTIONS, 1), make(grounded.QUESTIONS, 2)
    folder = save_model(tmp_path / "m", captions)
    before = {name: value.clone() for name, value in questions.state_dict().items()}
    left = take_weights(questions, folder)
    heads = {"tell.bias", "match.bias", "match.weight", "words.blank"}
    assert heads <= {name.split()[0] for name in left}
    state, given = questions.state_dict(), captions.state_dict()
    for name, value in state.items():
        assert torch.equal(value, given[name] if name in given else before[name]), name
    assert torch.equal(state["choose.choose.weight"], before["choose.choose.weight"])


def test_a_grown_vocabulary_keeps_the_words_that_were_there(tmp_path: Path) -> None:
    captions = make(grounded.CAPTIONS, 1)
    folder = save_model(tmp_path / "m", captions)
    words = (*grounded.WORDS.words, "more", "words")
    text = TextPreprocessor(WordTokenizer(words=words), 12)
    larger = make(grounded.BOTH, 2, text=text)
    rows = (grounded.WORDS.vocab_size, text.tokenizer.vocab_size)
    before = larger.words.table.weight.detach().clone()
    assert take_weights(larger, folder, rows) == []
    table = larger.words.table.weight
    assert torch.equal(table[: rows[0]], captions.words.table.weight)
    assert torch.equal(table[rows[0] :], before[rows[0] :])
    assert torch.equal(larger.tell.bias[: rows[0]], captions.tell.bias)
    again = make(grounded.BOTH, 3, text=text)
    left = take_weights(again, folder)
    assert left == [f"tell.bias, ({rows[1]},) here", f"words.table.weight, ({rows[1]}, 32) here"]


def test_a_model_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", make(grounded.CAPTIONS))
    with pytest.raises(InvalidCheckpoint, match="no weight that this model has too"):
        take_weights(torch.nn.Linear(2, 2), folder)
    narrow = make(grounded.CAPTIONS, width=16)
    assert len(take_weights(narrow, folder)) > 5
    assert dataclasses.replace(narrow.config, width=32) == make(grounded.CAPTIONS).config
