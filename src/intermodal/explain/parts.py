"""Which region, word or second of an item decides how well it fits another: parts are hidden, and the loss is told.

It needs nothing but vectors, so it works for every model that embeds, whoever made it. A part weighs as much as the
cosine falls when it is hidden; below 0 the item fits better without it.

    picture   a window over it takes the picture's usual colour
    sound     a window is silent
    clip      a window takes the usual colour in all frames; or for a while nothing moves
    series    in a window nothing changes; or a whole channel is 0
    text      a word, or a few in a long text, is left out

Follows: occlusion (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2). Windows overlap, and a place gets the mean of
the windows over it. Left out: what two parts do together, for which no one of them alone is missed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video
from intermodal.types import Embeds, Item

WORDS_MAX = 64
"""Parts of a text; a longer one is hidden several words at a time."""


@dataclass(frozen=True)
class Part:
    """A part of an item, and what it gives to the cosine.

    Attributes:
        weight: by how much the cosine falls without it.
        box: of a picture or a clip: left, top, right, bottom as shares of its sides.
        start_s: of a sound, a clip or a series: where the part begins.
        stop_s: where it ends.
        channel: of a series.
        words: of a text.
        place: the first and the last letter, not counted, of the words in the text.
    """

    weight: float
    box: tuple[float, float, float, float] | None = None
    start_s: float | None = None
    stop_s: float | None = None
    channel: str | None = None
    words: str | None = None
    place: tuple[int, int] | None = None

    def told(self) -> dict[str, Any]:
        """Returns what is known of it, for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Explanation:
    """How well an item fits another, and which of its parts decide.

    Attributes:
        cosine: of the two.
        parts: of the item, in their order there. Of a clip the regions come first, then the seconds; of a series the
            seconds, then the channels.
    """

    cosine: float
    parts: tuple[Part, ...]

    @property
    def strongest(self) -> Part:
        """The part without which the cosine falls most."""
        return max(self.parts, key=lambda part: part.weight)


@dataclass(frozen=True)
class _Hidden:
    """An item with a window hidden, and which cells of its parts the window covers."""

    item: Item
    over: tuple[int, ...]


def explain(model: Embeds, item: Item, query: Item, cells: int = 6, spans: int = 12) -> Explanation:
    """Returns which parts of ``item`` decide how well it fits ``query``.

    Args:
        model: embeds both.
        item: whose parts are told.
        query: what it is compared with.
        cells: a picture has cells x cells regions; a clip too, but at most 4 x 4.
        spans: a sound, a clip or a series has so many spans of time, or one per frame or value where that is less.

    Raises:
        InvalidValue: fewer than 2 cells or spans.
        Unsupported: ``item`` is of a modality whose parts are not known.
    """
    if min(cells, spans) < 2:
        raise InvalidValue(f"{cells} cells and {spans} spans were asked for; give at least 2 of each")
    if item.modality not in _WAYS:
        raise Unsupported(f"the parts of {item.modality} are not known; those of {', '.join(_WAYS)} are")
    parts, hidden = _WAYS[item.modality](item, cells, spans)
    found = list(hidden)
    vectors = model.embed([query, item, *(one.item for one in found)]).float()
    cosines = torch.nn.functional.normalize(vectors[1:], dim=-1) @ torch.nn.functional.normalize(vectors[0], dim=0)
    falls = (cosines[0] - cosines[1:]).tolist()
    total, count = np.zeros(len(parts)), np.zeros(len(parts))
    for one, fall in zip(found, falls, strict=True):
        total[list(one.over)] += fall
        count[list(one.over)] += 1
    weights = (total / np.maximum(count, 1)).tolist()
    return Explanation(
        float(cosines[0]), tuple(Part(weight, **part) for part, weight in zip(parts, weights, strict=True))
    )


def _windows(count: int) -> Iterator[tuple[int, int]]:
    """Yields windows over ``count`` places in a row, two wide, each a place further: over every place there are two."""
    yield from ((max(i - 1, 0), min(i + 1, count)) for i in range(count + 1))


def _edges(length: int, count: int) -> list[int]:
    """Returns where ``count`` parts of a length begin, and its end; fewer where it is shorter."""
    places: list[int] = np.linspace(0, length, min(count, length) + 1).round().astype(int).tolist()
    return places


def _regions(height: int, width: int, cells: int) -> tuple[list[dict[str, Any]], list[tuple[Any, tuple[int, ...]]]]:
    """Returns the cells of a picture, row by row, and the windows over them: rows, columns, and what they cover."""
    rows, columns = _edges(height, cells), _edges(width, cells)
    parts: list[dict[str, Any]] = [
        {"box": (left / width, top / height, right / width, bottom / height)}
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    across = len(columns) - 1
    found = []
    for (top, bottom), (left, right) in product(_windows(len(rows) - 1), _windows(across)):
        where = np.s_[rows[top] : rows[bottom], columns[left] : columns[right]]
        found.append((where, tuple(y * across + x for y in range(top, bottom) for x in range(left, right))))
    return parts, found


def _image(item: Any, cells: int, _spans: int) -> tuple[list[dict[str, Any]], Iterator[_Hidden]]:
    pixels = item.pixels
    parts, windows = _regions(pixels.shape[0], pixels.shape[1], cells)
    usual = np.median(pixels, axis=(0, 1)).astype(np.uint8)

    def made() -> Iterator[_Hidden]:
        for where, over in windows:
            changed = pixels.copy()
            changed[where] = usual
            yield _Hidden(Image(changed), over)

    return parts, made()


def _video(item: Any, cells: int, spans: int) -> tuple[list[dict[str, Any]], Iterator[_Hidden]]:
    frames, rate = item.frames, item.frames_per_s
    parts, windows = _regions(frames.shape[1], frames.shape[2], min(cells, 4))
    usual, regions = np.median(frames, axis=(0, 1, 2)).astype(np.uint8), len(parts)
    edges = _edges(len(frames), spans)
    times = list(pairwise(edges)) if len(frames) > 1 else []
    parts = [*parts, *({"start_s": a / rate, "stop_s": b / rate} for a, b in times)]

    def made() -> Iterator[_Hidden]:
        for (rows, columns), over in windows:
            changed = frames.copy()
            changed[:, rows, columns] = usual
            yield _Hidden(Video(changed, rate, item.sound), over)
        for n, (start, stop) in enumerate(times):
            changed = frames.copy()
            changed[start:stop] = frames[start - 1] if start else frames[stop]
            yield _Hidden(Video(changed, rate, item.sound), (regions + n,))

    return parts, made()


def _audio(item: Any, _cells: int, spans: int) -> tuple[list[dict[str, Any]], Iterator[_Hidden]]:
    samples, rate = item.samples, item.sample_rate_hz
    edges = _edges(samples.shape[1], spans)
    parts: list[dict[str, Any]] = [{"start_s": a / rate, "stop_s": b / rate} for a, b in pairwise(edges)]

    def made() -> Iterator[_Hidden]:
        for start, stop in _windows(len(parts)):
            changed = samples.copy()
            changed[:, edges[start] : edges[stop]] = 0
            yield _Hidden(Audio(changed, rate), tuple(range(start, stop)))

    return parts, made()


def _timeseries(item: Any, _cells: int, spans: int) -> tuple[list[dict[str, Any]], Iterator[_Hidden]]:
    values, rate = item.values, item.sample_rate_hz
    usual = np.median(values, axis=1, keepdims=True).astype(values.dtype)
    edges = _edges(values.shape[1], spans)
    times: list[dict[str, Any]] = [{"start_s": a / rate, "stop_s": b / rate} for a, b in pairwise(edges)]

    def made() -> Iterator[_Hidden]:
        for start, stop in _windows(len(times)):
            changed = values.copy()
            changed[:, edges[start] : edges[stop]] = usual
            yield _Hidden(TimeSeries(changed, item.channels, rate), tuple(range(start, stop)))
        for n in range(len(values)):
            changed = values.copy()
            changed[n] = 0
            yield _Hidden(TimeSeries(changed, item.channels, rate), (len(times) + n,))

    return [*times, *({"channel": name} for name in item.channels)], made()


def _text(item: Any, _cells: int, _spans: int) -> tuple[list[dict[str, Any]], Iterator[_Hidden]]:
    words = list(re.finditer(r"\S+", item.text))
    groups = [words[a:b] for a, b in pairwise(_edges(len(words), WORDS_MAX))]
    places = [(group[0].start(), group[-1].end()) for group in groups]
    parts: list[dict[str, Any]] = [{"words": item.text[a:b], "place": (a, b)} for a, b in places]

    def made() -> Iterator[_Hidden]:
        for n, (start, stop) in enumerate(places):
            rest = f"{item.text[:start].rstrip()} {item.text[stop:].lstrip()}".strip()
            yield _Hidden(Text(rest), (n,))

    return parts, made()


_WAYS: Mapping[str, Callable[[Any, int, int], tuple[list[dict[str, Any]], Iterator[_Hidden]]]] = {
    "text": _text,
    "image": _image,
    "audio": _audio,
    "video": _video,
    "timeseries": _timeseries,
}


def heat(parts: Sequence[Part]) -> Float[np.ndarray, "R C"]:
    """Returns the weights of the regions of a picture or a clip as a grid, the top row first.

    Raises:
        InvalidValue: no part has a box.
    """
    boxes = [part for part in parts if part.box is not None]
    if not boxes:
        raise InvalidValue("these parts have no regions; those of a picture or a clip have")
    tops = sorted({part.box[1] for part in boxes if part.box})
    return np.array([part.weight for part in boxes]).reshape(len(tops), -1)
