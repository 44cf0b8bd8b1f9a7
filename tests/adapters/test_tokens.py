"""Tokenizers of published folders by the interface of ours."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import intermodal as im
from intermodal.adapters import _tokens
from intermodal.modalities.text import Text
from intermodal.tokenizers import Tokenizer
from tests import published

KIND = "PreTrainedTokenizerFast"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    published.word_tokenizer(bos_token="<s>").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.peer
def test_it_keeps_the_contract_of_a_tokenizer(folder: Path) -> None:
    made = _tokens.load(folder, KIND, 18)
    assert isinstance(made, Tokenizer)
    assert (made.vocab_size, made.begin_id, made.pad_id, made.end_id) == (18, 0, 1, 2)
    ids = made.encode("the cat of mars")
    assert ids == [0, 7, 8, 6, 3, 2]
    assert made.decode(ids) == "the cat of"


@pytest.mark.peer
def test_texts_are_cut_filled_and_masked(folder: Path) -> None:
    made = _tokens.load(folder, KIND, 18)
    batch = _tokens.Texts(made, 5)([Text("a dog"), None, Text("the cat of the dog barks")])
    assert batch.values.tolist()[0] == [0, 4, 9, 2, 1]
    assert batch.values.tolist()[2] == [0, 7, 8, 6, 2]
    assert batch.mask.tolist() == [[True] * 4 + [False], [False] * 5, [True] * 5]
    whole = _tokens.Texts(made, 7, whole=True, lower=True)([Text("A DOG")])
    assert whole.values.tolist() == [[0, 4, 9, 2, 1, 1, 1]]
    assert bool(whole.mask.all())
    assert _tokens.Texts(made, 7).invert(torch.tensor([[0, 4, 9, 2]])) == [Text("a dog")]
    for wrong in ([], ["a dog"]):
        with pytest.raises(im.InvalidValue, match="texts were expected, not"):
            _tokens.Texts(made, 5)(wrong)


@pytest.mark.peer
def test_several_threads_may_use_it(folder: Path) -> None:
    texts = _tokens.Texts(_tokens.load(folder, KIND, 18), 9)
    items = [Text(" ".join(published.WORDS[: 1 + i % 7])) for i in range(64)]
    expected = [texts([item]).values.tolist() for item in items]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda item: texts([item]).values.tolist(), items)) == expected


@pytest.mark.peer
def test_what_does_not_fit_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(im.InvalidCheckpoint, match="gives ids up to 17 and the network knows 17"):
        _tokens.load(folder, KIND, 17)
    (tmp_path / "none").mkdir()
    with pytest.raises(im.InvalidCheckpoint, match="the tokenizer in|holds no tokenizer"):
        _tokens.load(tmp_path / "none", KIND, 17)
