"""Translations of Diorama judged by reading them back: which attributes of which objects arrived.

Only what both sides carry is judged: ``attributes_shared``. A cell counts as one attribute where both carry row and
column; sounds carry the column alone.

Objects are matched in two steps. First by place: a true object and a found one in the same cell (or column) are the
same object. Then whatever is left is matched so that most attributes agree. So a swap of two objects' colours is two
wrong colours, although the right colours are there; and an object in the wrong cell has only its cell wrong. Several
objects may share a column; among them the matching with most agreement is taken. Equally good matchings are decided
by the order of the attributes' values.

A missing object is wrong in every attribute, and so is one too many: a scene counts as many objects as the larger of
the two numbers. What cannot be read has none.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from intermodal.diorama import picture_reader, sentences, series, sounds, speech
from intermodal.diorama.scene import ATTRIBUTES, CARRIES, Scene
from intermodal.errors import InvalidValue, UnknownName, UnreadableMedia
from intermodal.evaluation.uncertainty import wilson
from intermodal.types import Item

Found = Scene | tuple[tuple[int, ...], ...] | None
"""What a reader gives: a scene; of a sound, what was heard of each object, as ``Scene.seen_by`` has it; or None."""

_Object = tuple[int, ...]


def attributes_shared(source: str | Sequence[str], target: str) -> tuple[str, ...]:
    """Returns the attributes that the source and the target both carry, in the order of ``ATTRIBUTES``.

    "cell" stands for row and column together, "column" for the column alone.

    Args:
        source: a rendering, or several that were given together: what any of them carries counts.
        target: a rendering.

    Raises:
        UnknownName: no such rendering.
        InvalidValue: no source.
    """
    sources = (source,) if isinstance(source, str) else tuple(source)
    for name in (*sources, target):
        if name not in CARRIES:
            raise UnknownName("rendering of diorama", name, CARRIES)
    if not sources:
        raise InvalidValue("there is no source; name the rendering that was translated")
    shared = frozenset.union(*(CARRIES[name] for name in sources)) & CARRIES[target]
    place = "cell" if {"row", "column"} <= shared else "column"
    return tuple(name for name in (place if a == "cell" else a for a in ATTRIBUTES) if name in {*shared, "cell"})


def read_back(rendering: str, items: Sequence[Item]) -> list[Found]:
    """Returns what the reader of a rendering finds in each item, None where it finds no scene.

    Args:
        rendering: text, speech, image, video, audio or timeseries.
        items: of the modality and format of that rendering: pictures 64 x 64, clips of 8 such frames, sounds at 16 kHz
            (speech at any rate), series of 9 channels and 64 samples.

    Raises:
        UnknownName: no such rendering.
        InvalidValue: items of another modality or format; that is no poor translation but a mistake.
        MissingExtra: speech, without the recogniser.
    """
    if rendering not in CARRIES:
        raise UnknownName("rendering of diorama", rendering, CARRIES)
    modality = "audio" if rendering == "speech" else rendering
    media: list[Any] = list(items)
    for item in media:
        if item.modality != modality:
            raise InvalidValue(f"an item is of the modality {item.modality}; {rendering} is read from {modality}")
    if not media:
        return []
    if rendering in ("image", "video"):
        arrays = [item.pixels if rendering == "image" else item.frames for item in media]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise InvalidValue(f"items of the shapes {sorted(shapes)}; those of diorama have one shape, resize them")
        read = picture_reader.read_images if rendering == "image" else picture_reader.read_videos
        return list(read(np.stack(arrays)))
    return [_read(rendering, item) for item in media]


def _read(rendering: str, item: Any) -> Found:
    """Returns what is found in one text, series or sound."""
    try:
        if rendering == "text":
            return sentences.read_text(item.text)
        if rendering == "timeseries":
            return series.read_series(item.values)
        if rendering == "speech":
            return speech.read_speech(item.samples.mean(axis=0, keepdims=True), item.sample_rate_hz)
        if item.sample_rate_hz != sounds.RATE_HZ:
            raise InvalidValue(f"a sound at {item.sample_rate_hz} Hz; resample it to {sounds.RATE_HZ} Hz")
        return sounds.read_sound(item.samples)
    except UnreadableMedia:
        return None


def translation_accuracy(
    truth: Sequence[Scene], found: Sequence[Found], source: str | Sequence[str], target: str
) -> dict[str, float]:
    """Returns how much of the scenes arrived: ``scene_accuracy``, ``attribute_accuracy``, and that of each attribute.

    ``scene_accuracy`` is the share of scenes with everything right, between ``scene_accuracy_low`` and ``_high`` with
    95 % (Wilson). ``<attribute>_accuracy`` is the share of objects that have it right, over all scenes, missing objects
    and those too many included; ``attribute_accuracy`` is the mean of these. Besides the counts: ``count`` (scenes),
    ``objects``, the ``missing`` and ``extra`` ones among these, and the ``unreadable`` among the scenes.

    Args:
        truth: the scenes that were translated.
        found: what was read in the translations.
        source: the rendering, or the renderings, translated from.
        target: the rendering translated to.

    Raises:
        InvalidValue: no scenes, other numbers of both, or objects that lack what the target carries.
        UnknownName: no such rendering.
    """
    names = attributes_shared(source, target)
    right, counts = right_per_scene(truth, found, names, target)
    objects = counts[:, 0].sum()
    whole = int((right == counts[:, :1]).all(axis=1).sum())
    low, high = wilson(whole, len(truth))
    each = {f"{name}_accuracy": float(right[:, k].sum() / objects) for k, name in enumerate(names)}
    return {
        "scene_accuracy": whole / len(truth),
        "scene_accuracy_low": low,
        "scene_accuracy_high": high,
        "attribute_accuracy": float(np.mean(list(each.values()))),
        **each,
        "count": float(len(truth)),
        "objects": float(objects),
        "missing": float(counts[:, 1].sum()),
        "extra": float(counts[:, 2].sum()),
        "unreadable": float(sum(each is None for each in found)),
    }


def scene_right(
    truth: Sequence[Scene], found: Sequence[Found], source: str | Sequence[str], target: str
) -> Bool[np.ndarray, " N"]:
    """Returns which scenes arrived with everything that both sides carry; see ``translation_accuracy``."""
    right, counts = right_per_scene(truth, found, attributes_shared(source, target), target)
    whole: Bool[np.ndarray, " N"] = (right == counts[:, :1]).all(axis=1)
    return whole


def right_per_scene(
    truth: Sequence[Scene], found: Sequence[Found], attributes: Sequence[str], target: str
) -> tuple[Int[np.ndarray, "N A"], Int[np.ndarray, "N 3"]]:
    """Returns per scene how many objects have each attribute right, and how many count, are missing and are too many.

    Args:
        truth: the scenes.
        found: what was read.
        attributes: which to judge, as ``attributes_shared`` names them.
        target: the rendering that was read.

    Raises:
        InvalidValue: no scenes, other numbers of both, or objects that lack what the target carries.
    """
    if not truth or len(truth) != len(found):
        raise InvalidValue(f"there are {len(truth)} scenes and {len(found)} readings; give one of each, at least one")
    place = next(k for k, name in enumerate(attributes) if name in ("cell", "column"))
    right = np.zeros((len(truth), len(attributes)), np.int64)
    counts = np.zeros((len(truth), 3), np.int64)
    for i, (scene, reading) in enumerate(zip(truth, found, strict=True)):
        wanted, got = _objects(scene, attributes, target), _objects(reading, attributes, target)
        right[i] = _matched(wanted, got, place)
        surplus = len(got) - len(wanted)
        counts[i] = max(len(wanted), len(got)), max(0, -surplus), max(0, surplus)
    return right, counts


def _objects(found: Found, attributes: Sequence[str], target: str) -> list[_Object]:
    """Returns the values of the attributes of each object, sorted."""
    if found is None:
        return []
    if isinstance(found, Scene):
        return sorted(tuple(int(getattr(thing, name)) for name in attributes) for thing in found.things)
    carried = sorted(CARRIES[target])
    objects = []
    for values in found:
        if len(values) != len(carried):
            raise InvalidValue(f"an object is read as {values}; {target} tells of each: {', '.join(carried)}")
        known = dict(zip(carried, values, strict=True))
        if "row" in known:
            known["cell"] = 3 * known["row"] + known["column"]
        objects.append(tuple(int(known[name]) for name in attributes))
    return sorted(objects)


def _matched(wanted: list[_Object], got: list[_Object], place: int) -> list[int]:
    """Returns how many objects have each attribute right, in the best matching; see the top of the file."""
    few, many = sorted((wanted, got), key=len)
    best, result = -1, [0] * len((*wanted, *got)[0])
    for chosen in permutations(many, len(few)):
        agree = [[a == b for a, b in zip(one, other, strict=True)] for one, other in zip(few, chosen, strict=True)]
        # a place in common outweighs all that the others could agree on
        score = sum(1000 * row[place] + sum(row) for row in agree)
        if score > best:
            best, result = score, [sum(column) for column in zip(*agree, strict=True)] or result
    return result
