import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from sklearn.cross_decomposition import CCA

from intermodal.errors import InvalidValue
from intermodal.evaluation.alignment import (
    alignment,
    canonical_correlations,
    linear_cka,
    modality_gap,
    mutual_information_bound,
    uniformity,
)
from intermodal.objectives.contrastive import info_nce


def normal(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


def unit(count, width, seed=0):
    x = normal(count, width, seed)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def half_shared(count=300, seed=0):
    """Returns two sides that share two of their four and three directions, partly."""
    shared = normal(count, 2, seed)
    left = np.hstack([shared + 0.5 * normal(count, 2, seed + 1), normal(count, 2, seed + 2)])
    right = np.hstack([shared + 0.3 * normal(count, 2, seed + 3), normal(count, 1, seed + 4)])
    return left @ normal(4, 4, 5), right @ normal(3, 3, 6)


@pytest.mark.parametrize("regularisation", [0.0, 0.1])
def test_correlations_equal_the_generalised_eigenproblem(regularisation):
    x, y = half_shared()
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    xx = a.T @ a + regularisation * np.trace(a.T @ a) / 4 * np.eye(4)
    yy = b.T @ b + regularisation * np.trace(b.T @ b) / 3 * np.eye(3)
    squares = linalg.eigh(b.T @ a @ np.linalg.solve(xx, a.T @ b), yy, eigvals_only=True)[::-1]
    np.testing.assert_allclose(canonical_correlations(x, y, regularisation), np.sqrt(squares), atol=1e-9)


def test_correlations_equal_scikit_learn():
    x, y = half_shared()
    left, right = CCA(n_components=2, tol=1e-12, max_iter=10_000).fit_transform(x, y)
    peer = [np.corrcoef(left[:, i], right[:, i])[0, 1] for i in range(2)]
    np.testing.assert_allclose(canonical_correlations(x, y)[:2], peer, atol=1e-6)


def test_linear_images_correlate_perfectly_and_noise_hardly():
    x = normal(500, 6)
    np.testing.assert_allclose(canonical_correlations(x, x @ normal(6, 9, 1) + 3.0), np.ones(6), atol=1e-9)
    np.testing.assert_allclose(canonical_correlations(x, x @ normal(6, 2, 1)), np.ones(2), atol=1e-9)
    assert canonical_correlations(x, normal(500, 6, 2)).max() < 0.3


def test_no_invertible_map_changes_the_correlations():
    x, y = half_shared()
    there = canonical_correlations(x, y)
    np.testing.assert_allclose(canonical_correlations(y, x), there, atol=1e-9)
    np.testing.assert_allclose(canonical_correlations(x @ normal(4, 4, 8) - 1, 5 * y), there, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(canonical_correlations(x[order], y[order]), there, atol=1e-9)


def test_directions_that_do_not_vary_have_no_correlation():
    x, y = half_shared()
    constant = np.hstack([x, np.full((len(x), 1), 7.3), x[:, :1]])
    np.testing.assert_allclose(canonical_correlations(constant, y), canonical_correlations(x, y), atol=1e-9)
    assert len(canonical_correlations(np.ones((20, 3)), y[:20])) == 0


def test_regularisation_tells_noise_from_likeness_with_few_items():
    x, y = normal(30, 40), normal(30, 40, 1)
    with pytest.raises(InvalidValue, match="30 items in 29 and 29 dimensions"):
        canonical_correlations(x, y)
    strong = np.where(np.arange(40) < 2, 30.0, 1.0)
    related = np.hstack([x[:, :2] + 0.1 * y[:, :2], y[:, 2:]])
    assert canonical_correlations(x * strong, related * strong, 1.0)[:2].min() > 0.9
    assert canonical_correlations(x * strong, y * strong, 1.0).max() < 0.7


def slow_cka(x, y, unbiased):
    """Returns the alignment from whole kernel matrices."""
    k, m = x @ x.T, y @ y.T
    n = len(x)
    if not unbiased:
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ m @ h) / math.sqrt(np.trace(k @ h @ k @ h) * np.trace(m @ h @ m @ h))

    def hsic(a, b):
        a, b = a - np.diag(a.diagonal()), b - np.diag(b.diagonal())
        return np.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b).sum()

    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


@given(st.integers(6, 20), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_cka_equals_whole_kernel_matrices(count, width, other, unbiased, seed):
    x = normal(count, width, seed) + 2.0
    y = normal(count, other, seed + 1) + x[:, :1]
    assert linear_cka(x, y, unbiased) == pytest.approx(slow_cka(x, y, unbiased), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_sees_no_rotation_shift_or_scale(unbiased):
    x, y = half_shared()
    rotation = np.linalg.qr(normal(4, 4, 9))[0]
    there = linear_cka(x, y, unbiased)
    assert linear_cka(3 * x @ rotation + 1, 0.1 * y, unbiased) == pytest.approx(there, abs=1e-9)
    assert linear_cka(y, x, unbiased) == pytest.approx(there, abs=1e-12)
    assert linear_cka(x, x @ rotation - 2, unbiased) == pytest.approx(1.0)
    assert 0.01 < there < 0.99


def test_only_the_unbiased_form_is_near_zero_for_unrelated_sides():
    pairs = [(normal(30, 60, i), normal(30, 60, 1000 + i)) for i in range(40)]
    assert np.mean([linear_cka(x, y) for x, y in pairs]) > 0.5
    assert abs(np.mean([linear_cka(x, y, unbiased=True) for x, y in pairs])) < 0.02


def test_the_gap_is_the_distance_of_the_centres():
    a, b = unit(50, 8), unit(70, 8, 1)
    expected = math.dist(a.mean(axis=0).tolist(), b.mean(axis=0).tolist())
    assert modality_gap(a, torch.tensor(b)) == pytest.approx(expected)
    assert modality_gap(a, a[::-1]) == pytest.approx(0.0, abs=1e-12)
    north = np.array([[0.0, 1.0]])
    assert modality_gap(north, -north) == 2.0


def test_alignment_and_uniformity_equal_loops():
    a, b = unit(30, 5), unit(30, 5, 1)
    for exponent in (1.0, 2.0):
        distances = [math.dist(x, y) ** exponent for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert alignment(a, b, exponent) == pytest.approx(np.mean(distances))
    pairs = torch.pdist(torch.tensor(a)).square()
    assert uniformity(a, 3.0) == pytest.approx(pairs.mul(-3).exp().mean().log().item())
    assert alignment(a, a) == 0.0
    assert alignment(a, -a) == pytest.approx(4.0)
    assert uniformity(np.repeat(a[:1], 5, axis=0)) == pytest.approx(0.0, abs=1e-12)


def test_uniformity_is_lowest_where_rows_are_spread(monkeypatch):
    spread = unit(500, 64)
    assert -4.0 < uniformity(spread) < uniformity(np.abs(spread)) < 0.0
    whole = uniformity(spread)
    monkeypatch.setattr("intermodal.evaluation.alignment._ROWS", 7)
    assert uniformity(spread) == pytest.approx(whole, abs=1e-12)


def test_the_bound_holds_for_a_known_joint_distribution():
    """Partners are equal and one of 8 alike letters: they tell ln 8 of each other, and the bound comes close below."""
    letters = torch.eye(8)
    rng = torch.Generator().manual_seed(0)
    bounds = []
    for _ in range(200):
        x = letters[torch.randint(0, 8, (64,), generator=rng)]
        bounds.append(mutual_information_bound(info_nce(x, x, 50.0).item(), 64))
    assert 0.9 * math.log(8) < np.mean(bounds) <= math.log(8)
    assert mutual_information_bound(0.0, 64) == math.log(64)
    assert mutual_information_bound(math.log(64), 64) == 0.0


def refusals():
    x = normal(10, 3)
    yield lambda: canonical_correlations(x * np.nan, x), "not finite"
    yield lambda: canonical_correlations(x, x, -1.0), "regularisation is -1.0"
    yield lambda: linear_cka(x[:3], x[:3], unbiased=True), "at least 4"
    yield lambda: linear_cka(x, np.ones((10, 2))), "does not vary"
    yield lambda: modality_gap(x[:0], x), "0 rows"
    yield lambda: alignment(x[:0], x[:0]), "0 rows"
    yield lambda: uniformity(x[:1]), "at least 2"
    yield lambda: mutual_information_bound(0.1, 1), "1 candidates"
    yield lambda: mutual_information_bound(math.nan, 4), "the loss is nan"


def test_shapes_that_do_not_fit_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    x = normal(10, 3)
    for function, other, message in (
        (canonical_correlations, x[:9], "10 and 9"),
        (modality_gap, x[:, :2], "one space"),
    ):
        with pytest.raises(InvalidValue, match=message):
            getattr(function, "__wrapped__", function)(x, other)


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in refusals()])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()
