"""Sharpness against a direct computation, and in the order that eyes would give."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from intermodal.errors import InvalidValue
from intermodal.evaluation.sharpness import sharpness

NOISE = np.random.default_rng(0).normal(size=(3, 2, 12, 14))


def test_it_is_the_variance_of_the_laplacian() -> None:
    expected = [np.mean([laplace(plane)[1:-1, 1:-1].var() for plane in picture]) for picture in NOISE]
    np.testing.assert_allclose(sharpness(NOISE), expected)


def test_what_is_blurred_is_less_sharp_and_a_plane_is_not_sharp_at_all() -> None:
    soft = gaussian_filter(NOISE, (0, 0, 1, 1))
    assert bool((sharpness(soft) < 0.2 * sharpness(NOISE)).all())
    rise = np.broadcast_to(np.arange(14.0), (1, 1, 12, 14))
    np.testing.assert_allclose(sharpness(rise), [0.0])
    np.testing.assert_allclose(sharpness(3 * NOISE), 9 * sharpness(NOISE))


def test_what_has_no_laplacian_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least 3 x 3"):
        sharpness(np.zeros((1, 1, 2, 9)))
    with pytest.raises(InvalidValue, match="not finite"):
        sharpness(np.full((1, 1, 4, 4), np.nan))
