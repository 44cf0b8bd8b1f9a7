"""Masks and boxes against loops, against torchmetrics, and by hand where something is empty or equal."""

import numpy as np
import pytest
import torch

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.evaluation.masks import box_iou, box_of, intersection_over_union, maps_of, pointing_accuracy
from intermodal.evaluation.uncertainty import wilson


def _masks(seed: int, share: float = 0.3, count: int = 20) -> np.ndarray:
    """Returns masks of 9 x 12, of rectangles with holes."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 9, 12), bool)
    for mask in masks:
        y, x = rng.integers(0, 6), rng.integers(0, 8)
        mask[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
    return masks & (rng.random(masks.shape) > share / 2)


def _loop_iou(a: np.ndarray, b: np.ndarray) -> float:
    both = either = 0
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            both += bool(a[y, x] and b[y, x])
            either += bool(a[y, x] or b[y, x])
    return both / either if either else 1.0


def _loop_box(mask: np.ndarray) -> list[int]:
    marked = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    if not marked:
        return [0, 0, 0, 0]
    across, down = zip(*marked, strict=True)
    return [min(across), min(down), max(across) + 1, max(down) + 1]


def test_overlap_of_masks_equals_a_loop():
    a, b = _masks(1), _masks(2)
    a[3] = b[3] = False
    b[4] = a[4]
    expected = [_loop_iou(one, other) for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(intersection_over_union(a, b), expected)
    np.testing.assert_allclose(intersection_over_union(torch.tensor(a), torch.tensor(b)), expected)
    assert expected[3] == expected[4] == 1
    assert 0.02 < np.mean(expected) < 0.9


def test_overlap_of_masks_equals_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    a, b = _masks(3), _masks(4)
    found = intersection_over_union(a, b)
    for one, other, value in zip(a, b, found, strict=True):
        assert value == pytest.approx(float(functional.binary_jaccard_index(torch.tensor(one), torch.tensor(other))))


def test_boxes_around_masks_equal_a_loop():
    masks = _masks(5)
    masks[0] = False
    masks[1] = False
    masks[1, 8, 11] = True
    assert box_of(masks).tolist() == [_loop_box(mask) for mask in masks]
    assert box_of(masks)[1].tolist() == [11, 8, 12, 9]


def test_boxes_are_those_that_diorama_tells():
    source = Diorama("dev", fields=("mask",))
    masks = maps_of(np.stack([sample["mask"].pixels for sample in source.samples(range(40))])) > 0.5
    boxes = [one.box for one in source.pointed(range(40))]
    assert box_of(masks).tolist() == [list(box) for box in boxes]
    found = pointing_accuracy(masks.astype(float), masks)
    assert (found["pointing_accuracy"], found["box_accuracy"], found["mask_iou"]) == (1, 1, 1)


def test_overlap_of_boxes_is_that_of_the_masks_that_they_fill():
    rng = np.random.default_rng(6)
    low = rng.integers(0, 8, (60, 2, 2))
    boxes = np.concatenate((low, low + rng.integers(0, 5, (60, 2, 2))), axis=2)
    filled = np.zeros((60, 2, 16, 16), bool)
    for i, k in np.ndindex(60, 2):
        x0, y0, x1, y1 = boxes[i, k]
        filled[i, k, y0:y1, x0:x1] = True
    some = filled.any(axis=(1, 2, 3))
    expected = np.where(some, [_loop_iou(one, other) for one, other in filled], 0)
    np.testing.assert_allclose(box_iou(boxes[:, 0], boxes[:, 1]), expected)
    assert 0 < expected.mean() < 1
    half = box_iou(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[0.5, 0.0, 1.5, 1.0]]))
    np.testing.assert_allclose(half, [1 / 3])


def test_pointing_by_hand():
    wanted = np.zeros((5, 4, 4), bool)
    wanted[:, :2, :2] = True
    made = np.zeros((5, 4, 4))
    made[0] = wanted[0]  # all of it
    made[1, 0, 0], made[1, 3, 3] = 0.4, 0.3  # its peak is right, but under the threshold
    made[2, 0, 1:3] = 0.9  # half of its peak, and a box of 2 pixels, one of them in the 4 wanted
    made[3, :2, :3] = 0.6  # a column too many: 4 of 6 pixels
    low, high = wilson(2, 5)
    assert pointing_accuracy(made, wanted) == {  # the last map marks nothing
        "pointing_accuracy": pytest.approx((1 + 1 + 0.5 + 4 / 6 + 0) / 5),
        "box_accuracy": 2 / 5,
        "box_accuracy_low": low,
        "box_accuracy_high": high,
        "mask_iou": pytest.approx((1 + 0 + 1 / 5 + 4 / 6 + 0) / 5),
        "unmarked": 2.0,
        "count": 5.0,
    }
    assert pointing_accuracy(made, wanted, threshold=0.35)["unmarked"] == 1
    assert pointing_accuracy(made, wanted, overlap=0.7)["box_accuracy"] == 1 / 5
    assert pointing_accuracy(torch.tensor(made), torch.tensor(wanted)) == pointing_accuracy(made, wanted)


def test_an_evenly_grey_map_points_by_chance():
    wanted = np.zeros((1, 8, 8), bool)
    wanted[0, :2, :4] = True
    assert pointing_accuracy(np.full((1, 8, 8), 0.2), wanted)["pointing_accuracy"] == pytest.approx(8 / 64)


def test_pictures_become_maps():
    pixels = np.zeros((2, 3, 3, 3), np.uint8)
    pixels[0, 1, 1] = 255
    pixels[1, 0, 2] = (255, 0, 51)
    maps = maps_of(pixels)
    assert (maps[0] == (pixels[0, ..., 0] == 255)).all()
    assert maps[1, 0, 2] == pytest.approx(0.4)


def test_shapes_that_do_not_fit_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    overlap, boxes, pointing = (
        getattr(function, "__wrapped__", function) for function in (intersection_over_union, box_iou, pointing_accuracy)
    )
    masks, maps = np.ones((2, 3, 3), bool), np.ones((2, 3, 3))
    with pytest.raises(InvalidValue, match=r"\(2, 3, 3\) and \(1, 3, 3\)"):
        overlap(masks, masks[:1])
    with pytest.raises(InvalidValue, match="1 boxes and 2 boxes"):
        boxes(np.zeros((1, 4)), np.zeros((2, 4)))
    with pytest.raises(InvalidValue, match="one of each"):
        pointing(maps[:1], masks)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InvalidValue, match=r"\[3.0, 0.0, 1.0, 2.0\] ends before"):
        box_iou(np.array([[3, 0, 1, 2]]), np.zeros((1, 4)))
    maps, wanted = np.ones((2, 3, 3)), np.ones((2, 3, 3), bool)
    empty = wanted.copy()
    empty[1] = False
    for made, masks, options, message in (
        (maps[:0], wanted[:0], {}, "at least one"),
        (-maps, wanted, {}, "below 0"),
        (maps * np.nan, wanted, {}, "not finite"),
        (maps, empty, {}, "1 of the wanted masks are empty"),
        (maps, wanted, {"threshold": 0.0}, "threshold is 0.0"),
        (maps, wanted, {"overlap": 1.5}, "overlap 1.5"),
    ):
        with pytest.raises(InvalidValue, match=message):
            pointing_accuracy(made, masks, **options)
