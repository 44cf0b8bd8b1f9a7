"""Masks and boxes: whether the right part of a picture was marked.

A map is a number per pixel that says how much it is marked; a mask is True or False per pixel. A box is x0, y0, x1, y1
in pixels, x to the right and y down, and ends before x1 and y1. Pictures and boxes of one row belong together.

Source: the pointing game: Zhang et al. 2016, arXiv 1608.00507, section 4.2, without its margin of 15 pixels. A box
counts from an overlap of 0.5 on: Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge".
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array
from intermodal.evaluation.uncertainty import wilson

_FULL = 255.0  # of a byte


def maps_of(pixels: UInt8[Array, "N H W 3"]) -> Float[np.ndarray, "N H W"]:
    """Returns how bright each pixel of the pictures is: 0 black to 1 white, the mean of the channels."""
    return np.asarray(np.asarray(pixels, dtype=np.float64).mean(axis=3) / _FULL)


def intersection_over_union(a: Bool[Array, "N H W"], b: Bool[Array, "N H W"]) -> Float[np.ndarray, " N"]:
    """Returns for each pair of masks the pixels in both as a share of those in either; 1 where both are empty.

    Raises:
        InvalidValue: masks of other numbers or sizes.
    """
    one, other = np.asarray(a), np.asarray(b)
    if one.shape != other.shape:
        raise InvalidValue(f"masks of the shapes {one.shape} and {other.shape}; give pairs of one size")
    both = (one & other).sum(axis=(1, 2))
    either = (one | other).sum(axis=(1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def box_of(mask: Bool[Array, "N H W"]) -> Int[np.ndarray, "N 4"]:
    """Returns the smallest box around each mask; zeros for an empty one."""
    m = np.asarray(mask)
    sides: list[NDArray[np.int64]] = []
    for axis in (1, 2):
        some: NDArray[np.bool_] = np.asarray(m.any(axis=axis))
        there = some.any(axis=1)
        sides.append(np.where(there, some.argmax(axis=1), 0))
        sides.append(np.where(there, some.shape[1] - some[:, ::-1].argmax(axis=1), 0))
    return np.stack([sides[0], sides[2], sides[1], sides[3]], axis=1).astype(np.int64)


def box_iou(a: Shaped[Array, "N 4"], b: Shaped[Array, "N 4"]) -> Float[np.ndarray, " N"]:
    """Returns for each pair of boxes the area in both as a share of that in either; 0 where neither has an area.

    Raises:
        InvalidValue: other numbers of both, or a box that ends before it begins.
    """
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.shape != other.shape:
        raise InvalidValue(f"there are {len(one)} boxes and {len(other)} boxes; give one for each")
    for boxes in (one, other):
        if (boxes[:, 2:] < boxes[:, :2]).any():
            row = int((boxes[:, 2:] < boxes[:, :2]).any(axis=1).argmax())
            raise InvalidValue(f"the box {boxes[row].tolist()} ends before it begins; give x0, y0, x1, y1")
    shared = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    both = shared.clip(0).prod(axis=1)
    either = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - both
    return np.where(either > 0, both / np.where(either > 0, either, 1.0), 0.0)


def pointing_accuracy(
    made: Float[Array, "N H W"], wanted: Bool[Array, "N H W"], threshold: float = 0.5, overlap: float = 0.5
) -> dict[str, float]:
    """Returns how well maps mark what was wanted: by their heaviest point, their box and their mask.

    ``pointing_accuracy`` is the share of maps whose heaviest pixel lies in the wanted mask. Of several equally heavy
    ones each is taken as likely as the others, so that a map of two levels scores the share of its upper level that
    lies there. ``box_accuracy`` is the share whose box overlaps the wanted one by ``overlap`` or more, between
    ``box_accuracy_low`` and ``_high`` with 95 % (Wilson). ``mask_iou`` is the mean over maps of the overlap of the
    masks. A map that marks nothing misses in all three; ``unmarked`` counts those that stay under the threshold
    everywhere, ``count`` all.

    Args:
        made: how much each pixel is marked, at least 0.
        wanted: what should be marked; something in each.
        threshold: a pixel belongs to the made mask from here on, above 0.
        overlap: intersection over union from which a box is right, above 0 to 1.

    Raises:
        InvalidValue: no maps, other numbers or sizes of both, values that are below 0 or not finite, an empty mask
            that is wanted, or a setting outside its range.
    """
    maps, masks = np.asarray(made, dtype=np.float64), np.asarray(wanted)
    if not len(maps) or maps.shape != masks.shape:
        raise InvalidValue(f"maps of the shape {maps.shape} and masks of {masks.shape}; give one of each, at least one")
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise InvalidValue("a map has values below 0 or not finite; give how much each pixel is marked, from 0 up")
    if not masks.any(axis=(1, 2)).all():
        raise InvalidValue(f"{int((~masks.any(axis=(1, 2))).sum())} of the wanted masks are empty; leave them out")
    if threshold <= 0 or not 0 < overlap <= 1:
        raise InvalidValue(f"threshold is {threshold} and overlap {overlap}; give one above 0 and one in (0, 1]")
    peaks = maps.max(axis=(1, 2), keepdims=True)
    heaviest = (maps == peaks) & (peaks > 0)
    hits = (heaviest & masks).sum(axis=(1, 2)) / np.maximum(heaviest.sum(axis=(1, 2)), 1)
    marked = maps >= threshold
    right = box_iou(box_of(marked), box_of(masks)) >= overlap
    low, high = wilson(int(right.sum()), len(right))
    return {
        "pointing_accuracy": float(hits.mean()),
        "box_accuracy": float(right.mean()),
        "box_accuracy_low": low,
        "box_accuracy_high": high,
        "mask_iou": float(intersection_over_union(marked, masks).mean()),
        "unmarked": float((~marked.any(axis=(1, 2))).sum()),
        "count": float(len(maps)),
    }
