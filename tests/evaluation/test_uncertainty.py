import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from intermodal.errors import InvalidValue
from intermodal.evaluation.uncertainty import interval, wilson


def test_it_equals_the_theory_for_many_hits_and_misses():
    hits = np.arange(1000) < 300
    low, high = interval(hits)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.003)
    assert high == pytest.approx(0.3 + half, abs=0.003)


def test_it_agrees_with_another_implementation():
    values = np.random.default_rng(1).exponential(size=60)
    peer = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, rng=2)
    found = interval(values, confidence=0.9, resamples=20_000)
    np.testing.assert_allclose(found, peer.confidence_interval, atol=0.01)


def test_it_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for i in range(300):
        low, high = interval(rng.normal(size=50), confidence=0.8, seed=i, resamples=300)
        inside += low <= 0.0 <= high
    assert 0.72 < inside / 300 < 0.86


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_it_lies_within_the_values(values):
    low, high = interval(np.array(values), resamples=50)
    slack = 1e-9 * max(1.0, *np.abs(values))
    assert min(values) - slack <= low <= high <= max(values) + slack


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
    values = torch.rand(100)
    assert interval(values, seed=3) == interval(values.numpy(), seed=3)
    assert interval(values, seed=3) != interval(values, seed=4)
    whole = interval(values, seed=3)
    monkeypatch.setattr("intermodal.evaluation.uncertainty._ENTRIES", 700)
    np.testing.assert_allclose(interval(values, seed=3), whole, atol=1e-12)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(InvalidValue, match="finite"):
        interval(np.array(values, dtype=float))


@pytest.mark.parametrize("options", [{"confidence": 0.0}, {"confidence": 1.0}, {"resamples": 0}])
def test_settings_outside_their_range_are_refused(options):
    with pytest.raises(InvalidValue, match="confidence is"):
        interval(np.ones(3), **options)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (0, 20), (7, 20), (20, 20), (950, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_a_share_equals_scipy(successes, count, confidence):
    peer = stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(wilson(successes, count, confidence), (peer.low, peer.high), atol=1e-12)


def test_the_interval_of_a_share_has_a_width_where_all_went_well():
    low, high = wilson(20, 20)
    assert 0.8 < low < 0.9
    assert high == 1.0


@pytest.mark.parametrize(("successes", "count", "confidence"), [(0, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)])
def test_a_share_of_nothing_is_refused(successes, count, confidence):
    with pytest.raises(InvalidValue, match=f"{successes} of {count} at confidence {confidence}"):
        wilson(successes, count, confidence)
