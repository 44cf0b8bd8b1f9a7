import numpy as np
import pytest
import torch
from scipy import linalg

from intermodal.errors import InvalidValue
from intermodal.evaluation.distributions import (
    frechet_distance,
    gaussian_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)

NETWORK = "first features of the pixels"


class FirstFeatures(torch.nn.Module):
    """Gives the first features of a picture: a feature network for the peer, which asks for its width."""

    num_features = 6

    def forward(self, pictures):
        return pictures.flatten(1)[:, : self.num_features].double()


def two_sets(real=300, generated=200, width=6, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width))
    return rng.normal(size=(real, width)) @ mix, rng.normal(size=(generated, width)) @ mix * 1.2 + shift


def test_the_frechet_distance_equals_torchmetrics():
    peer = pytest.importorskip("torchmetrics.image.fid").FrechetInceptionDistance(feature=FirstFeatures())
    peer.set_dtype(torch.float64)
    real, generated = two_sets()
    for rows, is_real in ((real, True), (generated, False)):
        peer.update(torch.tensor(rows).reshape(-1, 1, 2, 3), real=is_real)
    found = frechet_distance(real, torch.tensor(generated), NETWORK)
    assert found.figures["frechet_distance"] == pytest.approx(peer.compute().item(), rel=1e-6)
    assert found.figures["frechet_distance"] > 0.1
    assert (found.network, found.width, found.count, found.reference_count) == (NETWORK, 6, 200, 300)


@pytest.mark.parametrize("width", [1, 5, 40])
def test_the_distance_of_gaussians_equals_the_matrix_root_of_scipy(width):
    rng = np.random.default_rng(width)
    a, b = (rng.normal(size=(width, width + 3)) for _ in range(2))
    means = rng.normal(size=(2, width))
    root = linalg.sqrtm(a @ a.T @ b @ b.T).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(a @ a.T + b @ b.T - 2 * root)
    assert gaussian_distance(means[0], a @ a.T, means[1], b @ b.T) == pytest.approx(expected, rel=1e-8)


def test_the_distance_of_gaussians_by_hand():
    zero, one = np.zeros(3), np.ones(3)
    assert gaussian_distance(zero, np.eye(3), one, np.eye(3)) == pytest.approx(3.0)
    scaled = np.diag([4.0, 9.0, 0.0])
    assert gaussian_distance(zero, np.eye(3), zero, scaled) == pytest.approx(1.0 + 4.0 + 1.0)
    turned = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert gaussian_distance(zero[:2], turned, zero[:2], turned) == pytest.approx(0.0, abs=1e-12)


def test_singular_covariances_stay_real_and_are_never_negative():
    rng = np.random.default_rng(0)
    thin = rng.normal(size=(50, 3)) * 1e3
    both = np.zeros(50), thin @ thin.T
    size = np.trace(both[1])
    assert 0.0 <= gaussian_distance(*both, *both) < 1e-9 * size
    other = rng.normal(size=(50, 2)) * 1e3
    # of orthogonal supports nothing is shared: the traces add up
    other -= np.linalg.qr(thin)[0] @ (np.linalg.qr(thin)[0].T @ other)
    expected = size + np.trace(other @ other.T)
    assert gaussian_distance(*both, np.zeros(50), other @ other.T) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_samples_comes_near_that_of_their_gaussians():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(20_000, 4)), 2.0 * rng.normal(size=(20_000, 4)) + 0.5
    assert frechet_distance(real, generated, NETWORK).figures["frechet_distance"] == pytest.approx(5.0, abs=0.1)


def test_the_kernel_distance_equals_torchmetrics():
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    real, generated = two_sets(1500, 1500)
    found = kernel_distance(real, generated, NETWORK)
    expected = poly_mmd(torch.tensor(real), torch.tensor(generated)).item()
    assert found.figures["kernel_distance"] == pytest.approx(expected, rel=1e-9)
    assert (found.width, found.count, found.reference_count) == (6, 1500, 1500)


def test_the_kernel_distance_equals_a_loop():
    real, generated = two_sets(25, 21)
    kernel = lambda x, y: (x @ y / 6 + 1) ** 3  # noqa: E731
    within = [
        np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in (real, generated)
    ]
    expected = sum(within) - 2 * np.mean([kernel(x, y) for x in real for y in generated])
    assert kernel_distance(real, generated, NETWORK).figures["kernel_distance"] == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "truth", "least", "most"), [(0.0, 0.0, 0.5, 1.2), (0.5, 227 / 192, 0.75, 1.25)])
def test_the_kernel_distance_has_no_bias_and_an_honest_error(shift, truth, least, most):
    """The truth is that of unit Gaussians in 6 dimensions, whose means are ``shift`` apart in each.

    Their kernel has the mean 3/2 within the first, 13/8 across and 563/192 within the second for a shift of 1/2.
    """
    draw = np.random.default_rng(1)
    found = [
        kernel_distance(draw.normal(size=(200, 6)), draw.normal(size=(200, 6)) + shift, NETWORK).figures
        for _ in range(100)
    ]
    values, errors = (np.array([f[name] for f in found]) for name in ("kernel_distance", "kernel_distance_error"))
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(100)
    assert least < values.std() / np.sqrt(np.square(errors).mean()) < most
    assert (values.min() < 0 < values.max()) == (shift == 0.0)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save:UserWarning", "ignore:std\\(\\):UserWarning")
def test_the_inception_score_equals_torchmetrics():
    logits = np.random.default_rng(0).normal(size=(90, 6)) * 3
    peer = pytest.importorskip("torchmetrics.image.inception").InceptionScore(feature=FirstFeatures(), splits=1)
    peer.update(torch.tensor(logits).reshape(-1, 1, 2, 3))
    found = inception_score(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), "own", splits=1)
    assert found.figures["inception_score"] == pytest.approx(peer.compute()[0].item(), rel=1e-5)
    assert 2.0 < found.figures["inception_score"] < 6.0


def test_the_inception_score_by_hand():
    sure = np.eye(4)[np.arange(40) % 4]
    assert inception_score(sure, "own", splits=1).figures["inception_score"] == pytest.approx(4.0)
    unsure = inception_score(np.full((40, 4), 0.25), "own").figures
    assert unsure == {"inception_score": pytest.approx(1.0), "inception_score_deviation": pytest.approx(0.0)}
    one_class = inception_score(np.eye(4)[np.zeros(40, int)], "own")
    assert one_class.figures["inception_score"] == pytest.approx(1.0)
    assert (one_class.width, one_class.count, one_class.reference_count) == (4, 40, 0)


def test_the_inception_score_of_sorted_items_is_that_of_mixed_ones():
    labels = np.repeat(np.arange(4), 100)
    found = inception_score(np.eye(4)[labels], "own", splits=4).figures
    assert found["inception_score"] > 3.8
    assert 0.0 < found["inception_score_deviation"] < 0.2


def slow_precision_recall(real, generated, k):
    """Returns the four figures by loops over pairs, as the papers define them."""
    far = np.linalg.norm
    reach = [sorted(far(x - y) for y in real)[k] for x in real]
    generated_reach = [sorted(far(x - y) for y in generated)[k] for x in generated]
    within = np.array([[far(g - r) <= reach[i] for i, r in enumerate(real)] for g in generated])
    found = [any(far(g - r) <= generated_reach[j] for j, g in enumerate(generated)) for r in real]
    return {
        "precision": within.any(axis=1).mean(),
        "recall": np.mean(found),
        "density": within.sum() / (k * len(generated)),
        "coverage": within.any(axis=0).mean(),
    }


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_precision_and_recall_equal_loops(neighbours):
    real, generated = two_sets(60, 50, shift=1.0)
    found = precision_recall(real + 1e4, generated + 1e4, NETWORK, neighbours)
    assert found.figures == pytest.approx(slow_precision_recall(real, generated, neighbours))
    assert 0.05 < found.figures["coverage"] < 0.95


def test_precision_and_recall_tell_what_is_wrong():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(1200, 3))
    same = precision_recall(real, rng.normal(size=(1200, 3)), NETWORK).figures
    assert all(0.9 < same[name] <= 1.0 for name in ("precision", "recall", "coverage"))
    assert same["density"] == pytest.approx(1.0, abs=0.06)
    crowded = precision_recall(real, rng.normal(size=(1200, 3)) * 0.05, NETWORK).figures
    assert crowded["precision"] > 0.95
    assert crowded["recall"] < 0.1
    assert crowded["coverage"] < 0.2
    elsewhere = precision_recall(real, real + 100.0, NETWORK).figures
    assert set(elsewhere.values()) == {0.0}


def refusals():
    real, generated = two_sets(30, 25)
    yield lambda: frechet_distance(real[:6], generated, NETWORK), "6 real items with 6 features"
    yield lambda: frechet_distance(real, generated[:6], NETWORK), "6 generated items with 6 features"
    yield lambda: frechet_distance(real, generated * np.nan, NETWORK), "of the generated items"
    yield lambda: frechet_distance(real, generated, ""), "no name"
    yield lambda: gaussian_distance(np.zeros(2), np.diag([1.0, -1.0]), np.zeros(2), np.eye(2)), "eigenvalue -1"
    yield lambda: gaussian_distance(np.zeros(2), np.eye(2) * np.nan, np.zeros(2), np.eye(2)), "not finite"
    yield lambda: kernel_distance(real, generated[:19], NETWORK), "30 real and 19 generated"
    yield lambda: inception_score(np.full((39, 4), 0.25), "own"), "39 items in 10 splits, for 4 classes"
    yield lambda: inception_score(np.full((40, 4), 0.25), "own", splits=0), "in 0 splits"
    yield lambda: inception_score(np.full((40, 4), 0.5), "own"), "needs probabilities"
    yield lambda: precision_recall(real, generated[:5], NETWORK), "5 generated items for 5 neighbours"
    yield lambda: precision_recall(real, generated, NETWORK, 0), "for 0 neighbours"


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in refusals()])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()


def test_other_widths_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    real, generated = two_sets(30, 25)
    for function in (frechet_distance, kernel_distance, precision_recall):
        with pytest.raises(InvalidValue, match="real items have 6 features and generated ones 5"):
            getattr(function, "__wrapped__", function)(real, generated[:, :5], NETWORK)
