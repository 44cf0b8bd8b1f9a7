"""Skip-gram: pairs within windows, the loss by its formula, and words of one company near each other."""

import math

import numpy as np
import pytest
import torch

from intermodal.errors import InvalidData, InvalidValue
from intermodal.training.skipgram import SkipGram, loss, pairs, train_vectors

ANIMALS, TOOLS = ("cat", "dog", "horse"), ("saw", "drill", "hammer")


def sentences() -> list[str]:
    draws = np.random.default_rng(0)
    made = []
    for _ in range(400):
        group, verb, place = ((ANIMALS, "runs", "meadow"), (TOOLS, "lies", "workshop"))[int(draws.integers(2))]
        made.append(f"{group[int(draws.integers(3))]} {verb} {place}")
    return made


def test_pairs_are_neighbours_both_ways_within_the_window() -> None:
    draws, keep = np.random.default_rng(0), np.ones(5)
    found = pairs([np.arange(5)], 1, keep, draws).tolist()
    assert sorted(found) == sorted([[i, i + 1] for i in range(4)] + [[i + 1, i] for i in range(4)])
    wide = pairs([np.arange(5)] * 300, 3, keep, draws)
    away = np.abs(wide[:, 0] - wide[:, 1])
    assert set(away.tolist()) == {1, 2, 3}
    assert (away == 1).sum() > (away == 2).sum() > (away == 3).sum()
    assert len(pairs([np.arange(5)], 2, np.zeros(5), draws)) == 0
    assert len(pairs([np.arange(1)], 2, keep, draws)) == 0


def test_the_loss_is_its_formula() -> None:
    torch.manual_seed(0)
    words, around, others = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    expected = 0.0
    for n in range(3):
        expected -= math.log(1 / (1 + math.exp(-float(words[n] @ around[n]))))
        expected -= sum(math.log(1 / (1 + math.exp(float(words[n] @ others[n, k])))) for k in range(2))
    assert float(loss(words, around, others)) == pytest.approx(expected / 3, rel=1e-5)


def test_words_of_one_company_are_near_each_other() -> None:
    how = SkipGram(width=12, window=2, epochs=6, batch=128, frequent=0.0)
    found = train_vectors(sentences(), how)
    assert {word for word, _ in found.nearest("cat", 2)} == {"dog", "horse"}
    assert {word for word, _ in found.nearest("saw", 2)} == {"drill", "hammer"}
    again = train_vectors(sentences(), how)
    assert np.array_equal(found.table, again.table)
    assert not np.array_equal(found.table, train_vectors(sentences(), how, seed=1).table)
    assert set(found.words[:2]) <= {"runs", "lies", "meadow", "workshop"}  # the most frequent first


def test_what_cannot_be_learnt_from_is_refused() -> None:
    with pytest.raises(InvalidData, match="0 words occur 2 times"):
        train_vectors(["a cat", "the dog"])
    with pytest.raises(InvalidData, match="no two words"):
        train_vectors(["cat", "cat", "dog", "dog"])
    with pytest.raises(InvalidValue, match="window of skip-gram is 0"):
        SkipGram(window=0)
    with pytest.raises(InvalidValue, match="rate 0"):
        SkipGram(rate=0.0)
