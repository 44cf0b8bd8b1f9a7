"""Outlines and sprites: true distances, shapes that fit their window and cannot be mistaken for each other."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.scene import SHAPES, SIZES
from intermodal.diorama.shapes import (
    OPAQUE,
    RADII,
    SCALES,
    STEPS,
    WINDOW,
    outline_distance,
    shape_distance,
    sprite_alpha,
    sprite_number,
    sprites,
)

_SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_distance_to_a_square_is_the_textbook_one(x, y):
    across, down = abs(x) - 1, abs(y) - 1
    truth = np.hypot(max(across, 0), max(down, 0)) + min(max(across, down), 0)
    assert outline_distance(np.array([x]), np.array([y]), _SQUARE)[0] == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_negative_inside_and_grows_by_one_per_pixel_at_most(shape):
    line = np.linspace(-12, 12, 97)
    x, y = np.meshgrid(line, line)
    distance = shape_distance(shape, x, y, RADII[1])
    assert distance[48, 48] < 0
    assert (distance[0] > 0).all()
    for axis in (0, 1):
        assert np.abs(np.diff(distance, axis=axis)).max() <= 0.25 + 1e-9
    np.testing.assert_allclose(distance, distance[:, ::-1], atol=1e-9)  # all shapes are alike left and right


def test_sprites_fit_their_window_and_their_area_grows_with_size_and_scale():
    table = sprites()
    assert table.shape == (len(SHAPES), len(SIZES), len(SCALES), STEPS, STEPS, WINDOW, WINDOW)
    assert table.max() == OPAQUE
    for edge in (table[..., 0], table[..., -1], table[..., 0, :], table[..., -1, :]):
        assert not edge.any()
    area = table.sum(axis=(-1, -2), dtype=np.int64) / OPAQUE
    assert (np.diff(area, axis=2) > 0).all()
    assert (area[:, 1].min(axis=(1, 2, 3)) > 1.8 * area[:, 0].max(axis=(1, 2, 3))).all()
    steps = area.max(axis=(3, 4)) / area.min(axis=(3, 4))
    assert steps.max() < 1.02  # a shape keeps its area wherever it is


def test_a_step_moves_the_sprite_by_its_share_of_a_pixel():
    table = sprites().astype(np.float64)
    along = np.arange(WINDOW) + 0.5
    weight = table.sum(axis=(-1, -2))
    x, y = (table.sum(axis=-2) @ along) / weight, (table.sum(axis=-1) @ along) / weight
    np.testing.assert_allclose(np.diff(x, axis=4), 1 / STEPS, atol=0.05)
    np.testing.assert_allclose(np.diff(y, axis=3), 1 / STEPS, atol=0.05)
    np.testing.assert_allclose(x[..., 0], WINDOW / 2, atol=0.02)


def test_no_two_shapes_look_alike_at_any_scale():
    table = sprites()[:, :, :, 0, 0].reshape(len(SHAPES), len(SIZES), len(SCALES), -1).astype(np.float64)
    table /= np.linalg.norm(table, axis=-1, keepdims=True)
    for size in range(len(SIZES)):
        for a, b in itertools.combinations(range(len(SHAPES)), 2):
            assert (table[a, size] @ table[b, size].T).max() < 0.98


def test_a_cut_is_the_sprite_seen_from_the_corner_of_its_window():
    number = sprite_number(np.array([4]), np.array([1]), np.array([2]))
    place = np.array([[4 * 30 + 1, 4 * 25 + 3]])
    corner = np.array([[30 - WINDOW // 2, 25 - WINDOW // 2]])
    whole = sprites()[4, 1, 2, 3, 1]
    np.testing.assert_array_equal(sprite_alpha(number, place, corner)[0], whole)
    np.testing.assert_array_equal(sprite_alpha(number, place, corner + np.array([3, 0]))[0, :, :-3], whole[:, 3:])
    np.testing.assert_array_equal(sprite_alpha(number, place, corner - np.array([0, 2]))[0, 2:], whole[:-2])
    np.testing.assert_array_equal(sprite_alpha(number, place, corner, 3)[0], np.repeat(whole, 3, axis=1))
