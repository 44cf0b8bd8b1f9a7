"""Answers: exact matches over all and by kind, beside what the most frequent answer would get."""

import numpy as np
import pytest

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.evaluation.answers import answer_accuracy
from intermodal.evaluation.uncertainty import wilson


def test_answers_by_hand():
    wanted = ["red", "red", "blue", "yes", "no", "two words"]
    kinds = ["colour", "colour", "colour", "is", "is", "say"]
    predicted = ["red", "blue", " Blue ", "yes", "yes", "two  words"]
    low, high = wilson(4, 6)
    assert answer_accuracy(predicted, wanted, kinds) == {
        "answer_accuracy": pytest.approx(4 / 6),
        "answer_accuracy_low": low,
        "answer_accuracy_high": high,
        "majority_accuracy": pytest.approx((2 + 1 + 1) / 6),
        "count": 6.0,
        "colour_accuracy": pytest.approx(2 / 3),
        "colour_majority_accuracy": pytest.approx(2 / 3),
        "colour_count": 3.0,
        "is_accuracy": 0.5,
        "is_majority_accuracy": 0.5,
        "is_count": 2.0,
        "say_accuracy": 1.0,
        "say_majority_accuracy": 1.0,
        "say_count": 1.0,
    }


def test_nothing_but_the_exact_words_is_right():
    found = answer_accuracy(["yes.", "the red", "two", ""], ["yes", "red", "2", "no"], ["a"] * 4)
    assert found["answer_accuracy"] == 0
    assert answer_accuracy(["a"] * 4, ["a"] * 4, ["x", "x", "y", "z"])["answer_accuracy"] == 1


def test_the_majority_is_that_of_scikit_learn():
    dummy = pytest.importorskip("sklearn.dummy")
    source = Diorama("test", fields=("question", "answer"))
    asked = source.asked(range(400))
    wanted, kinds = [q.answer for q in asked], [q.kind for q in asked]
    found = answer_accuracy(["no"] * 400, wanted, kinds)
    shares = []
    for kind in sorted(set(kinds)):
        answers = np.array([a for a, k in zip(wanted, kinds, strict=True) if k == kind])
        model = dummy.DummyClassifier(strategy="most_frequent").fit(np.zeros((len(answers), 1)), answers)
        assert found[f"{kind}_majority_accuracy"] == pytest.approx(model.score(np.zeros((len(answers), 1)), answers))
        shares.append(found[f"{kind}_majority_accuracy"] * len(answers))
    assert found["majority_accuracy"] == pytest.approx(sum(shares) / 400)
    assert found["majority_accuracy"] < 0.45
    assert found["answer_accuracy"] == pytest.approx(wanted.count("no") / 400)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InvalidValue, match="0 answers, 0 wanted ones and 0 kinds"):
        answer_accuracy([], [], [])
    with pytest.raises(InvalidValue, match="1 answers, 2 wanted"):
        answer_accuracy(["a"], ["a", "b"], ["k", "k"])
    with pytest.raises(InvalidValue, match="a kind is named 'majority'"):
        answer_accuracy(["a"], ["a"], ["majority"])
