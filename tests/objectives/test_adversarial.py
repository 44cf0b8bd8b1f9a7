"""Adversarial terms against their formulas, and the Gaussian's against torch's own."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from intermodal.objectives.adversarial import (
    SHAKE,
    STEADY,
    divergence,
    feature_distance,
    fooled,
    shaken,
    squared_error,
    surprise,
    told_apart,
)


def test_terms_are_the_logarithms_of_probabilities() -> None:
    real, made = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0, 1.0])
    chance = 1 / (1 + np.exp(-real.numpy())), 1 / (1 + np.exp(-made.numpy()))
    wanted = -np.log(chance[0]).mean() - np.log(1 - chance[1]).mean()
    assert float(told_apart(real, made, real)) == pytest.approx(wanted, rel=1e-5)
    assert float(fooled(made)) == pytest.approx(-np.log(chance[1]).mean(), rel=1e-5)
    assert float(told_apart(torch.zeros(3), torch.zeros(2), torch.zeros(3))) == pytest.approx(2 * math.log(2))


def test_who_changes_their_mind_over_noise_pays() -> None:
    real = torch.tensor([1.0, 1.0])
    steady, moved = (float(told_apart(real, real, other)) for other in (real, torch.tensor([1.0, 2.0])))
    assert moved - steady == pytest.approx(STEADY / 2)
    values = torch.zeros(4, 1, 32, 32)
    assert float((shaken(values) - values).std()) == pytest.approx(SHAKE, rel=0.1)


def test_features_are_compared_by_direction_where_they_are_real() -> None:
    one = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])  # one row of two cells
    other = torch.tensor([[[[5.0, 0.0], [3.0, 0.0]]]])
    mask = torch.tensor([[[True, True]]])
    assert float(feature_distance([one], [other], mask)) == pytest.approx(1.0)  # 0 and 2
    assert float(feature_distance([one], [other], torch.tensor([[[True, False]]]))) == pytest.approx(0.0)
    assert float(feature_distance([one, one], [other, one], mask)) == pytest.approx(0.5)
    assert float(feature_distance([one], [-one], mask)) == pytest.approx(4.0)


def test_errors_beyond_the_mask_do_not_count() -> None:
    made, wanted = torch.zeros(2, 1, 4), torch.ones(2, 1, 4)
    wanted[1, :, 2:] = 100.0
    mask = torch.tensor([[True, True], [True, False]])
    assert float(squared_error(made, wanted, mask)) == pytest.approx(1.0)
    assert float(squared_error(made, wanted, torch.zeros_like(mask))) == 0.0


def test_divergence_and_surprise_are_those_of_torch() -> None:
    torch.manual_seed(0)
    mean, variance, z = torch.randn(3, 5), torch.rand(3, 5) + 0.1, torch.randn(3, 5)
    one = Normal(mean, variance.sqrt())
    expected = kl_divergence(one, Normal(torch.zeros(5), torch.ones(5))).sum(dim=1)
    torch.testing.assert_close(divergence(mean, variance), expected)
    torch.testing.assert_close(surprise(z, mean, variance), -one.log_prob(z).sum(dim=1))
