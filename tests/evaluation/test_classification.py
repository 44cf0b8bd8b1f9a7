import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from intermodal.errors import InvalidValue
from intermodal.evaluation.classification import (
    accuracy,
    balanced_accuracy,
    classification,
    confusion_matrix,
    expected_calibration_error,
    fit_linear,
    linear_probe,
    macro_f1,
)


def data(count=200, classes=7, seed=0):
    """Returns probabilities and labels of an uneven, half-right classifier."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def blobs(count, seed, classes=4, width=6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, width))) * np.arange(1, width + 1), labels


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_accuracy_equals_scikit_learn(k):
    p, y = data()
    expected = metrics.top_k_accuracy_score(y, p, k=k, labels=np.arange(7)) if k < 7 else 1.0
    assert accuracy(p, y, k) == pytest.approx(expected)
    assert accuracy(torch.tensor(p), torch.tensor(y), k) == accuracy(p, y, k)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=5), st.integers(1, 5), st.data())
def test_accuracy_is_the_mean_over_all_orders_of_ties(scores, k, draw):
    label = draw.draw(st.integers(0, len(scores) - 1))
    hits = []
    for order in itertools.permutations(range(len(scores))):
        ranked = [scores[i] for i in order]
        if ranked == sorted(ranked, reverse=True):
            hits.append(label in order[:k])
    assert accuracy(np.array([scores]), np.array([label]), k) == pytest.approx(np.mean(hits))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_the_confusion_and_its_figures_equal_scikit_learn(pairs):
    y, predicted = np.array(pairs).T
    table = confusion_matrix(predicted, y, 5)
    np.testing.assert_array_equal(table, metrics.confusion_matrix(y, predicted, labels=np.arange(5)))
    recall = metrics.recall_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0)
    assert balanced_accuracy(table) == pytest.approx(recall)
    assert macro_f1(table) == pytest.approx(metrics.f1_score(y, predicted, average="macro", zero_division=0))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_equals_torchmetrics(bins):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    p, y = data(1000)
    peer = functional.multiclass_calibration_error(torch.tensor(p), torch.tensor(y), num_classes=7, n_bins=bins)
    assert expected_calibration_error(p, y, bins) == pytest.approx(peer.item(), abs=1e-6)


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    y = np.array([0, 1, 1, 1])
    assert expected_calibration_error(p, y, bins=10) == pytest.approx((2 * 0.4 + 0.4 + 0.0) / 4)
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0.0


def test_all_figures_together():
    p, y = data()
    found = classification(p, y)
    table = confusion_matrix(p.argmax(axis=1), y, 7)
    assert found == {
        "accuracy": accuracy(p, y),
        "accuracy_at_5": accuracy(p, y, 5),
        "balanced_accuracy": balanced_accuracy(table),
        "macro_f1": macro_f1(table),
        "expected_calibration_error": expected_calibration_error(p, y),
        "count": 200.0,
        "classes": 7.0,
    }
    assert "accuracy_at_5" not in classification(p[:, :5] / p[:, :5].sum(axis=1, keepdims=True), np.minimum(y, 4))


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_the_linear_fit_equals_scikit_learn(l2):
    x, y = blobs(300, seed=0)
    x[:, 3] = 2.0  # a feature that never varies
    model = fit_linear(torch.tensor(x), torch.tensor(y), 4, l2)
    scale = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    peer = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000).fit((x - x.mean(axis=0)) / scale, y)
    expected = peer.predict_proba((x - x.mean(axis=0)) / scale)
    np.testing.assert_allclose(model(torch.tensor(x)).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(model.weight.numpy(), peer.coef_, atol=1e-4)


def test_where_the_fit_starts_does_not_matter():
    x, y = (torch.tensor(part) for part in blobs(100, seed=0))
    other = fit_linear(x, y, 4, 1e-1)
    torch.testing.assert_close(
        fit_linear(x, y, 4, 1e-2, other).weight, fit_linear(x, y, 4, 1e-2).weight, atol=1e-4, rtol=0
    )


def test_the_probe_is_near_scikit_learn_and_beats_chance():
    train_x, train_y = blobs(400, seed=1)
    test_x, test_y = blobs(400, seed=2)
    found = linear_probe(train_x, train_y, test_x, test_y)
    peer = LogisticRegression(max_iter=10_000).fit(train_x, train_y).score(test_x, test_y)
    assert found["accuracy"] == pytest.approx(peer, abs=0.02)
    assert found["accuracy"] > 0.6
    assert found["count"] == 400.0
    assert linear_probe(torch.tensor(train_x), train_y, test_x, torch.tensor(test_y)) == found


def test_the_probe_holds_back_where_features_are_noise():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 40)), rng.integers(0, 2, 60)
    x[:, 0] += 4 * y
    found = linear_probe(x, y, x, y, l2_grid=(1e-6, 1.0))
    assert found["l2"] == 1.0
    assert found["dev_accuracy"] > 0.7


def test_the_test_part_decides_nothing():
    train_x, train_y = blobs(100, seed=1)
    test_x, test_y = blobs(50, seed=2)
    one = linear_probe(train_x, train_y, test_x, test_y)
    other = linear_probe(train_x, train_y, test_x, (test_y + 1) % 4)
    assert (one["l2"], one["dev_accuracy"]) == (other["l2"], other["dev_accuracy"])
    assert one["accuracy"] > 2 * other["accuracy"]


def refusals():
    p, y = data(10)
    yield lambda: accuracy(p[:0], y[:0]), "0 rows"
    yield lambda: accuracy(p * np.nan, y), "not numbers"
    yield lambda: accuracy(p, y + 7), "labels go from"
    yield lambda: accuracy(p, y, 0), "k is 0"
    yield lambda: confusion_matrix(y - 5, y, 7), "classes go from"
    yield lambda: expected_calibration_error(p * 2, y), "add up to 1"
    yield lambda: expected_calibration_error(p, y, 0), "bins is 0"
    yield lambda: fit_linear(torch.tensor(p), torch.tensor(y), 7, 0.0), "l2 is 0.0"
    yield lambda: fit_linear(torch.tensor(p[:0]), torch.tensor(y[:0]), 7, 1.0), "0 rows"
    yield lambda: linear_probe(p[:1], y[:1], p, y), "1 training rows"
    yield lambda: linear_probe(p, y, p, y, l2_grid=()), "0 values of l2"
    yield lambda: linear_probe(p, y - 1, p, y), "labels below 0"
    yield lambda: linear_probe(p * np.inf, y, p, y), "not finite"


def test_shapes_that_do_not_fit_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    p, y = data(10)
    for function, arguments in ((accuracy, (p, y[:9])), (confusion_matrix, (y[:9], y, 7))):
        with pytest.raises(InvalidValue, match="one label per"):
            getattr(function, "__wrapped__", function)(*arguments)


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in refusals()])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()
