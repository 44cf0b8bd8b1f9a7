"""Errors of grids, against loops over their cells."""

import numpy as np
import pytest
import torch

from intermodal.objectives.reconstruction import distance, prominence, slopes

SHAPES = [(2, 3, 8), (2, 3, 6, 8), (2, 1, 4, 6, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_the_weighted_mean_of_absolute_and_squared_error(shape: tuple[int, ...]) -> None:
    guess, truth, weights = torch.randn(shape), torch.randn(shape), torch.rand(shape[0], *shape[2:])
    total = 0.0
    for place in np.ndindex(*weights.shape):
        away = (guess - truth)[(place[0], slice(None), *place[1:])]
        total += float(weights[place] * (away.abs() + away.square()).mean())
    assert float(distance(guess, truth, weights)) == pytest.approx(total / float(weights.sum()), rel=1e-4)
    assert float(distance(guess, truth, weights * 0)) == 0.0
    assert float(distance(truth, truth, weights)) == 0.0


@pytest.mark.parametrize("shape", SHAPES)
def test_slopes_at_one_scale_are_differences_of_neighbours(shape: tuple[int, ...]) -> None:
    guess, truth = torch.randn(shape), torch.randn(shape)
    away, ones = (guess - truth).numpy(), torch.ones(shape[0], *shape[2:])
    axes = [np.abs(np.diff(away, axis=axis)).mean() for axis in range(2, len(shape))]
    assert float(slopes(guess, truth, ones, scales=1)) == pytest.approx(float(np.mean(axes)), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_slopes_see_no_level_and_second_scale_sees_means(shape: tuple[int, ...]) -> None:
    truth, ones = torch.randn(shape), torch.ones(shape[0], *shape[2:])
    assert float(slopes(truth + 3.0, truth, ones)) == pytest.approx(0.0, abs=1e-5)
    ripple = torch.tensor([1.0, -1.0]).repeat(shape[-1] // 2).expand(shape)
    fine, both = slopes(ripple, 0 * ripple, ones, 1), slopes(ripple, 0 * ripple, ones, 2)
    assert float(both) == pytest.approx(float(fine) / 2)  # averaged away by the second scale


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_counts_nowhere(shape: tuple[int, ...]) -> None:
    guess, truth = torch.randn(shape), torch.randn(shape)
    real = torch.ones(shape[0], *shape[2:])
    real[1, ..., shape[-1] // 2 :] = 0.0
    wild = torch.where(real[:, None] > 0, guess, guess + 100.0)
    weights = prominence(truth, real, 4.0)
    torch.testing.assert_close(prominence(torch.where(real[:, None] > 0, truth, truth - 50.0), real, 4.0), weights)
    torch.testing.assert_close(distance(wild, truth, weights), distance(guess, truth, weights))
    torch.testing.assert_close(slopes(wild, truth, weights), slopes(guess, truth, weights))


def test_prominence_weighs_what_stands_out() -> None:
    truth = torch.zeros(1, 3, 10, 10)
    truth[0, 1, 2:4, 2:4] = 1.0
    weights = prominence(truth, torch.ones(1, 10, 10), 4.0)
    assert float(weights[0, 2, 2]) == pytest.approx(5.0)
    assert float(weights[0, 8, 8]) == pytest.approx(1.0, abs=0.5)
    assert bool((prominence(truth, torch.ones(1, 10, 10), 0.0) == 1).all())
    flat = prominence(torch.full((1, 2, 4), 7.0), torch.ones(1, 4), 4.0)
    assert bool(flat.isfinite().all())
