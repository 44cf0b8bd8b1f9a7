import pytest

from intermodal.config import from_dict, to_dict
from intermodal.errors import InvalidValue
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.tokenizers.whole import WholeTokenizer

ANSWERS = WholeTokenizer(("yes", "no", "Top left"))


def test_each_text_is_one_id_and_back() -> None:
    assert [ANSWERS.encode(text)[1] for text in (" YES", "no", "top  left", "left")] == [4, 5, 6, 3]
    assert ANSWERS.decode(ANSWERS.encode("top left")) == "Top left"
    assert ANSWERS.decode([1, 3, 2]) == "<unknown>"
    assert ANSWERS.vocab_size == 7
    with pytest.raises(InvalidValue, match="7 is no id"):
        ANSWERS.decode([7])


def test_it_is_saved_inside_a_preprocessor_and_makes_rows_of_three() -> None:
    made = TextPreprocessor(ANSWERS, 3)
    assert from_dict(TextPreprocessor, to_dict(made)) == made
    batch = made([Text("no"), None, Text("what")])
    assert batch.values.tolist() == [[1, 5, 2], [0, 0, 0], [1, 3, 2]]
    assert batch.present.tolist() == [True, False, True]


def test_a_text_stands_there_once() -> None:
    with pytest.raises(InvalidValue, match="'NO' is in the list more than once"):
        WholeTokenizer(("yes", "no", "NO"))
