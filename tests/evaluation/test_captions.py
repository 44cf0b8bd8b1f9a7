import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.evaluation.captions import (
    DocumentFrequencies,
    bleu,
    captions,
    cider,
    cider_each,
    document_frequencies,
    longest_common_subsequence,
    rouge,
    rouge_each,
    words,
)

VOCABULARY = ("a", "dog", "cat", "runs", "on", "the", "grass", "red")
SENTENCE = st.lists(st.sampled_from(VOCABULARY), min_size=5, max_size=12).map(" ".join)
CORPUS = st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=3)), min_size=2, max_size=5)
MADE = ["a dog runs on the grass", "the red cat sat on a mat today", "two men play"]
WANTED = [
    ["a brown dog runs on grass", "the dog is running on the grass"],
    ["a red cat sits on the mat", "the red cat sat on the mat", "cat on a mat"],
    ["two men play football on the grass near a house"],
]


def test_words_are_those_of_the_treebank_less_punctuation():
    assert words("A dog's T-shirt -- \"red\", isn't it? 3.5 m, 1,000!") == (
        ["a", "dog", "'s", "t-shirt", "red", "is", "n't", "it", "3.5", "m", "1,000"]
    )
    assert words("They’re in Čapek’s café...") == ["they", "'re", "in", "čapek", "'s", "café"]
    assert words(" ?! ") == []


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smooth", [False, True])
def test_bleu_equals_torchmetrics(order, smooth):
    peer = pytest.importorskip("torchmetrics.functional.text.bleu").bleu_score(MADE, WANTED, order, smooth)
    assert bleu(MADE, WANTED, str.split, smooth=smooth)[f"bleu_{order}"] == pytest.approx(peer.item(), abs=1e-6)
    assert peer.item() > 0.1


@given(CORPUS)
@settings(max_examples=30)
def test_bleu_equals_torchmetrics_on_any_corpus(corpus):
    oracle = pytest.importorskip("torchmetrics.functional.text.bleu").bleu_score
    made, wanted = [made for made, _ in corpus], [sorted(wanted, key=lambda t: len(t.split())) for _, wanted in corpus]
    assert bleu(made, wanted, order=2)["bleu_2"] == pytest.approx(oracle(made, wanted, 2).item(), abs=1e-6)


def test_bleu_by_hand():
    found = bleu(["the the the the", "a cat"], [["the cat is here now"], ["a cat", "a cat sat"]])
    assert found["bleu_1"] == pytest.approx(math.exp(1 - 7 / 6) * 3 / 6)
    assert found["bleu_2"] == pytest.approx(math.exp(1 - 7 / 6) * math.sqrt(3 / 6 * 1 / 4))
    assert found["bleu_4"] == 0.0
    assert (found["count"], found["reference_count"]) == (2.0, 3.0)
    assert bleu([""], [["a"]])["brevity_penalty"] == 0.0
    assert bleu(WANTED[2], [WANTED[2]])["bleu_4"] == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "key"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_equals_torchmetrics(name, key):
    oracle = pytest.importorskip("torchmetrics.functional.text.rouge").rouge_score
    each = rouge_each(MADE, WANTED)
    for i in range(3):
        peer = oracle(MADE[i : i + 1], WANTED[i : i + 1], accumulate="best", rouge_keys=key)
        assert each[name][i] == pytest.approx(peer[f"{key}_fmeasure"].item(), abs=1e-6)
    assert rouge(MADE, WANTED)[name] == pytest.approx(each[name].mean())


def test_rouge_for_captions_takes_the_best_precision_and_the_best_recall():
    # against the first reference 2 of 2 made words and 2 of 4 wanted; against the second 1 of 2 and 1 of 1
    found = rouge(["a cat"], [["a cat sat here", "cat"]])
    assert found["rouge_l_coco"] == pytest.approx(1.0)
    assert found["rouge_l"] == pytest.approx(2 / 3)
    assert rouge(["a cat"], [["a cat sat here"]])["rouge_l_coco"] == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_the_longest_common_subsequence_equals_the_recursion(a, b):
    def slow(x, y):
        if not x or not y:
            return 0
        if x[-1] == y[-1]:
            return slow(x[:-1], y[:-1]) + 1
        return max(slow(x[:-1], y), slow(x, y[:-1]))

    assert longest_common_subsequence(a, b) == slow(a, b)


def slow_cider(made, wanted, clipped):
    """Returns the mean CIDEr (or CIDEr-D) by dense vectors over all n-grams, one order and reference at a time."""
    total = 0.0
    for n in (1, 2, 3, 4):
        grams = lambda text: [tuple(text.split()[i : i + n]) for i in range(len(text.split()) - n + 1)]  # noqa: B023, E731
        space = sorted(
            {g for texts in wanted for text in texts for g in grams(text)} | {g for t in made for g in grams(t)}
        )
        holds = np.array([sum(any(g in grams(text) for text in texts) for texts in wanted) for g in space])
        idf = np.log(len(wanted)) - np.log(np.maximum(holds, 1))
        for candidate, texts in zip(made, wanted, strict=True):
            for text in texts:
                a, b = (np.array([Counter(grams(t))[g] for g in space]) * idf for t in (candidate, text))
                if not a.any() or not b.any():
                    continue
                product = (np.minimum(a, b) if clipped else a) @ b / np.linalg.norm(a) / np.linalg.norm(b)
                apart = len(candidate.split()) - len(text.split())
                total += product * (np.exp(-(apart**2) / 72) if clipped else 1.0) / len(texts)
    return 10 * total / (4 * len(made))


@given(CORPUS)
@settings(max_examples=15)
def test_cider_equals_a_loop_over_dense_vectors(corpus):
    made, wanted = [made for made, _ in corpus], [wanted for _, wanted in corpus]
    found = cider(made, wanted)
    assert found["cider"] == pytest.approx(slow_cider(made, wanted, clipped=False))
    assert found["cider_d"] == pytest.approx(slow_cider(made, wanted, clipped=True))


def test_cider_by_hand():
    # two items: each word of one item's references weighs ln 2, words of both nothing
    wanted = [["red cat"], ["blue cat"]]
    copies = cider_each(["red cat", "blue cat"], wanted)
    # of two words there are no runs of 3 and 4, so that a copy has half of the ten points
    np.testing.assert_allclose(copies["cider"], [5.0, 5.0])
    np.testing.assert_allclose(copies["cider_d"], [5.0, 5.0])
    found = cider_each(["red", "cat"], wanted)
    # "red" is the one word of weight: cosine 1 for words, nothing for pairs; CIDEr-D: one word too short
    np.testing.assert_allclose(found["cider"], [2.5, 0.0])
    np.testing.assert_allclose(found["cider_d"], [2.5 * math.exp(-1 / 72), 0.0])
    # repeating gains nothing in CIDEr-D: the clipped product stays, the norm grows
    again = cider_each(["red red", "cat"], wanted)
    assert again["cider"][0] == pytest.approx(2.5)
    assert again["cider_d"][0] == pytest.approx(2.5 / 2)


def test_cider_takes_given_document_frequencies():
    known = document_frequencies(WANTED)
    assert known.documents == 3
    assert known.counts[("grass",)] == 2
    assert known.weight(("two", "men")) == pytest.approx(math.log(3))
    assert known.weight(("never",)) == pytest.approx(math.log(3))
    assert cider(MADE, WANTED, known) == cider(MADE, WANTED)
    alone = cider(MADE[:1], WANTED[:1], known)
    assert alone["cider_d"] == pytest.approx(cider_each(MADE, WANTED)["cider_d"][0])
    assert alone["cider_d"] > 0.5


def test_all_figures_together():
    found = captions(MADE, WANTED)
    names = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "brevity_penalty", "rouge_1", "rouge_2", "rouge_l"}
    assert set(found) == names | {"rouge_l_coco", "cider", "cider_d", "count", "reference_count"}
    assert found["bleu_4"] == bleu(MADE, WANTED)["bleu_4"]
    assert found["cider_d"] == cider(MADE, WANTED)["cider_d"]


def test_a_right_caption_beats_a_wrong_one_on_every_figure():
    right, wrong = captions([texts[0] for texts in WANTED], WANTED), captions(MADE[1:] + MADE[:1], WANTED)
    assert all(right[name] >= wrong[name] for name in right)
    assert right["cider_d"] > 3 * wrong["cider_d"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bleu([], []), "0 candidates"),
        (lambda: bleu(MADE, WANTED[:2]), "3 candidates and references for 2"),
        (lambda: rouge(MADE, [*WANTED[:2], []]), "candidate 2 has the references \\[\\]"),
        (lambda: bleu(MADE, WANTED, order=0), "order is 0"),
        (lambda: cider(MADE[:1], WANTED[:1]), "1 items; give at least 2"),
        (lambda: DocumentFrequencies({}, 0), "0 items"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()


def test_a_bare_text_in_place_of_a_list_of_references_is_refused():
    """Asked of the plain function: a string is a sequence of strings, so that nothing else would notice."""
    with pytest.raises(InvalidValue, match="candidate 0 has the references 'a dog'"):
        bleu(["a dog"], ["a dog"])
