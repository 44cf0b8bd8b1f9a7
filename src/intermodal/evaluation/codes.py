"""What a codec keeps: its media, and on Diorama what their readers still read in them.

``keeps`` gives the error of what comes back, how many of the codes are used and, where the source knows the scenes, how
many attributes and whole scenes are read right in the reconstructions, beside what is read in the originals.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intermodal.diorama.scene import CARRIES, Scene
from intermodal.errors import InvalidData, Unsupported
from intermodal.evaluation.scenes import Found, read_back, translation_accuracy
from intermodal.tokenizers.codebook import usage
from intermodal.types import Codes, Item


def keeps(
    model: Codes, source: Any, batch_size: int = 100, progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Returns what a codec keeps of the items of ``source``.

    Args:
        model: the codec.
        source: data that has its field.
        batch_size: items at once; changes nothing but the memory needed.
        progress: called with the share that is done.

    Returns:
        ``items``; ``ids_per_item``, of the longest; ``absolute_error`` of the preprocessor's values, and
        ``variance_lost``, the squared error as a share of their variance; ``share_used`` and ``perplexity`` of the
        codes; and on Diorama ``read``, from the reconstructions, and ``originals_read`` (see ``evaluation.scenes``).

    Raises:
        Unsupported: the data has no such field.
        InvalidData: no sample has an item of it.
    """
    field, make = next(iter(model.preprocessors.items()))  # type: ignore[attr-defined]
    if field not in source.fields:
        raise Unsupported(f"the data has no field {field!r}; it has {', '.join(source.fields)}")
    truth: list[Scene] = []
    originals: list[Found] = []
    again: list[Found] = []
    sums, ids, longest, items_seen = np.zeros(5), [], 0, 0
    for start in range(0, len(source), batch_size):
        index = range(start, min(start + batch_size, len(source)))
        there = [(i, sample[field]) for i, sample in zip(index, source.samples(index), strict=True) if field in sample]
        if there:
            items: list[Item] = [item for _, item in there]
            coded = model.tokens(items)
            made = model.items(coded.values, coded.mask)
            ids.append(coded.values[coded.mask].cpu())
            items_seen += len(items)
            longest = max(longest, coded.mask.shape[1] * coded.values.shape[2])
            sums += _sums(make(items).values.double(), make(made).values.double())
            if hasattr(source, "scenes") and field in CARRIES:
                truth += list(source.scenes([i for i, _ in there]))
                originals += read_back(field, items)
                again += read_back(field, made)
        if progress:
            progress(min(1.0, (start + batch_size) / len(source)))
    if not ids:
        raise InvalidData(f"no sample of the data has the field {field!r}; leave it out or check the files")
    result = {
        "protocol": f"ids of {field} and back",
        **source.describe(),
        "field": field,
        "items": items_seen,
        "ids_per_item": longest,
        "absolute_error": float(sums[0] / sums[4]),
        "variance_lost": float(sums[1] / max(sums[3] - sums[2] ** 2 / sums[4], 1e-12)),
        **usage(torch.cat(ids), model.codes),
    }
    if truth:
        result["read"] = translation_accuracy(truth, again, field, field)
        result["originals_read"] = translation_accuracy(truth, originals, field, field)
    return result


def _sums(before: Tensor, after: Tensor) -> NDArray[np.float64]:
    """Returns the sums of absolute and squared errors, of what was and of its squares, and how many numbers it is."""
    away = before - after
    parts = (away.abs().sum(), away.square().sum(), before.sum(), before.square().sum())
    return np.array([*map(float, parts), before.numel()])
