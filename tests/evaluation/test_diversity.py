import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.evaluation.captions import bleu
from intermodal.evaluation.diversity import distinct, pairwise_diversity, self_bleu

SENTENCE = st.lists(st.sampled_from("abcd"), min_size=4, max_size=9).map(" ".join)


def test_distinct_by_hand():
    found = distinct(["a cat sat", "a cat ran"], orders=(1, 2, 3))
    assert found == {"distinct_1": 4 / 6, "distinct_2": 3 / 4, "distinct_3": 1.0, "count": 2.0}
    assert distinct(["a a a a"])["distinct_2"] == pytest.approx(1 / 3)


@given(st.lists(SENTENCE, min_size=2, max_size=6))
def test_self_bleu_is_the_mean_bleu_against_the_others(texts):
    each = [bleu([t], [texts[:i] + texts[i + 1 :]], smooth=True)["bleu_4"] for i, t in enumerate(texts)]
    assert self_bleu(texts)["self_bleu"] == pytest.approx(np.mean(each))


def test_self_bleu_equals_torchmetrics():
    oracle = pytest.importorskip("torchmetrics.functional.text.bleu").bleu_score
    texts = ["a red cat sat on a mat", "a red cat sat on the road", "a blue cat sat on a mat there"]
    # each shares a run of four words with another: without one the peer gives 0 in spite of smoothing
    each = [oracle([t], [sorted(texts[:i] + texts[i + 1 :], key=len)], 4, True).item() for i, t in enumerate(texts)]
    assert self_bleu(texts)["self_bleu"] == pytest.approx(np.mean(each), abs=1e-6)


def test_self_bleu_is_high_for_copies_and_low_for_others():
    assert self_bleu(["a red cat sat here"] * 3)["self_bleu"] == pytest.approx(1.0)
    assert self_bleu(["one two three", "four five six"])["self_bleu"] == 0.0
    assert self_bleu(["red", "red"])["self_bleu"] == pytest.approx(1.0)
    assert self_bleu(["", "red"])["self_bleu"] == 0.0


def test_pairwise_diversity_equals_a_loop():
    samples = np.random.default_rng(0).normal(size=(3, 4, 5)) * np.arange(1, 5)[:, None]
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for group in samples for a, b in itertools.combinations(group, 2)
    ]
    found = pairwise_diversity(torch.tensor(samples), "random projection")
    assert found.figures == {"pairwise_diversity": pytest.approx(1 - np.mean(cosines))}
    assert (found.network, found.width, found.count) == ("random projection", 5, 12)


def test_pairwise_diversity_spans_from_copies_to_opposites():
    vectors = np.array([[[1.0, 2.0], [2.0, 4.0]]])
    assert pairwise_diversity(vectors, "own").figures["pairwise_diversity"] == pytest.approx(0.0)
    opposite = np.array([[[1.0, 2.0], [-1.0, -2.0]]])
    assert pairwise_diversity(opposite, "own").figures["pairwise_diversity"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distinct(["a", "b"]), "2 texts hold no run of 2 words"),
        (lambda: distinct(["a b"], orders=(0,)), "no run of 0 words"),
        (lambda: self_bleu(["a"]), "1 texts and order 4"),
        (lambda: pairwise_diversity(np.ones((3, 1, 2)), "own"), "1 samples of each condition"),
        (lambda: pairwise_diversity(np.zeros((1, 2, 2)), "own"), "2 samples have features of length 0"),
        (lambda: pairwise_diversity(np.full((1, 2, 2), np.nan), "own"), "not all finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()
