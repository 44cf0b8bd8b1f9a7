from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.evaluation.transcripts import Edits, character_error_rate, characters, edits, word_error_rate

HEARD = ["a small red circle", "Hello, wrld!", "one two", ""]
SAID = ["a small blue circle moving", "hello world", "two", "gone"]


def test_rates_equal_torchmetrics():
    words = pytest.importorskip("torchmetrics.functional.text.wer").word_error_rate
    letters = pytest.importorskip("torchmetrics.functional.text.cer").char_error_rate
    found = word_error_rate(HEARD, SAID, str.split)
    assert found["word_error_rate"] == pytest.approx(words(HEARD, SAID).item())
    assert character_error_rate(HEARD, SAID, list)["character_error_rate"] == pytest.approx(letters(HEARD, SAID).item())


@given(st.lists(st.tuples(st.text("ab ", max_size=9), st.text("abc", min_size=1, max_size=9)), min_size=1, max_size=4))
def test_character_errors_equal_torchmetrics_on_any_text(pairs):
    oracle = pytest.importorskip("torchmetrics.functional.text.cer").char_error_rate
    heard, said = [a for a, _ in pairs], [b for _, b in pairs]
    found = character_error_rate(heard, said, list)["character_error_rate"]
    assert found == pytest.approx(oracle(heard, said).item(), abs=1e-6)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_equal_the_recursion(a, b):
    @cache
    def slow(i, j):
        """Returns (errors, shifts, substitutions, insertions, deletions) of the best way, most substitutions first."""
        if i == 0 or j == 0:
            return (i + j, i + j, 0, i, j)
        ways = []
        for di, dj, kind in ((1, 1, 2), (1, 0, 3), (0, 1, 4)):
            way = list(slow(i - di, j - dj))
            if (di, dj) != (1, 1) or a[i - 1] != b[j - 1]:
                way[0] += 1
                way[1] += kind > 2
                way[kind] += 1
            ways.append(tuple(way))
        return min(ways)

    assert edits(a, b) == Edits(*slow(len(a), len(b))[2:])


def test_kinds_of_errors_by_hand():
    assert edits(["the", "cat", "sat", "down"], ["a", "cat", "sat"]) == Edits(1, 1, 0)
    assert edits([], ["a", "b"]) == Edits(0, 0, 2)
    assert edits("ab", "ba") == Edits(2, 0, 0)
    found = word_error_rate(HEARD, SAID)
    assert found == {
        "word_error_rate": 5 / 9,
        "substitution_rate": 2 / 9,
        "insertion_rate": 1 / 9,
        "deletion_rate": 2 / 9,
        "sentence_error_rate": 1.0,
        "count": 4.0,
        "word_count": 9.0,
    }


def test_case_punctuation_and_spacing_are_no_errors_unless_kept():
    assert word_error_rate(["Red circle."], ["red  circle"])["word_error_rate"] == 0.0
    assert word_error_rate(["Red circle."], ["red circle"], str.split)["word_error_rate"] == 1.0
    assert characters(" A  b\n") == ["a", " ", "b"]
    assert character_error_rate(["A b"], [" a  b "])["character_error_rate"] == 0.0


def test_a_rate_can_exceed_one():
    assert word_error_rate(["a b c"], ["d"])["word_error_rate"] == 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: word_error_rate([], []), "0 transcripts"),
        (lambda: word_error_rate(["a"], ["a", "b"]), "1 transcripts and 2 references"),
        (lambda: word_error_rate(["a"], ["..."]), "1 references hold no word"),
        (lambda: character_error_rate(["a"], [" "]), "hold no character"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()
