"""From bytes to the items of a library: long sound and video in windows of some seconds, long text in paragraphs.

A hit is then a moment or a paragraph. Only a part of a long file is decoded at a time: memory depends on the window.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

from intermodal import catalog
from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.types import Item

SOUND_S = 300.0  # sound decoded at a time: a minute of stereo at 48 kHz is 23 MB
VIDEO_PIXELS = 48_000_000  # of a window; one with more is read at a lower frame rate
LOSSLESS = {"text": ".txt", "image": ".png", "audio": ".wav", "video": ".mkv", "timeseries": ".npz"}
"""How an item without a file is kept."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Windows:
    """How long items are cut; a library keeps to one such record for good.

    Attributes:
        window_s: length of a window of sound or video.
        overlap_s: how much of it the next one repeats, so that nothing is lost at a cut.
        characters: longest text that stays whole.
    """

    window_s: float = 10.0
    overlap_s: float = 2.0
    characters: int = 1000

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0 < self.window_s < float("inf"):
            raise InvalidValue(f"window_s is {self.window_s}; give seconds above 0")
        if not 0 <= self.overlap_s <= self.window_s / 2:
            raise InvalidValue(f"overlap_s is {self.overlap_s}; give 0 up to half of window_s = {self.window_s}")
        if self.characters < 1:
            raise InvalidValue(f"characters is {self.characters}; give at least 1")

    def spans(self, seconds: float) -> tuple[Span, ...]:
        """Returns the windows of something that lasts ``seconds``: all as long, the last one ends with it."""
        if seconds <= self.window_s:
            return ((0.0, seconds),)
        step = self.window_s - self.overlap_s
        count = ceil((seconds - self.window_s) / step - 1e-9)
        starts = [round(number * step, 6) for number in range(count)] + [seconds - self.window_s]
        return tuple((start, start + self.window_s) for start in starts)

    def paragraphs(self, text: str) -> tuple[tuple[int, int], ...]:
        """Returns the places of the paragraphs of a text, none with more than ``characters``, without blank ends.

        A cut falls on the last blank line, else the last end of a sentence, else the last space, else anywhere.
        """
        places: list[tuple[int, int]] = []
        start, end = 0, len(text)
        while start < end:
            stop = end if end - start <= self.characters else start + _cut(text[start : start + self.characters])
            first = start + len(text[start:stop]) - len(text[start:stop].lstrip())
            last = start + len(text[start:stop].rstrip())
            if first < last:
                places.append((first, last))
            start = stop
        return tuple(places)


def _cut(text: str) -> int:
    """Returns where to end a paragraph that is cut out of a longer text."""
    for pattern in (r"\n\s*\n", r"[.!?]\s", r"\s"):
        ends = [found.end() for found in re.finditer(pattern, text)]
        if ends and ends[-1] > len(text) // 4:
            return ends[-1]
    return len(text)


@dataclass(frozen=True, eq=False)
class Piece:
    """An item to be embedded, and which part of its source it is.

    Attributes:
        item: the whole source, a window or a paragraph.
        number: of the window or paragraph; None for a whole source.
        start_s: where it begins; None for what has no time.
        stop_s: where it ends.
        metadata: ``start_char`` and ``stop_char`` of a paragraph.
    """

    item: Item
    number: int | None = None
    start_s: float | None = None
    stop_s: float | None = None
    metadata: Mapping[str, Any] = dataclass_field(default_factory=dict)


Plan = tuple[tuple[int, Span], ...]
"""The windows to be decoded together: number and span of each; empty for a whole file."""


def plans(data: bytes, name: str, modality: str, windows: Windows) -> list[Plan]:
    """Returns what to decode of a file, one step after the other.

    Raises:
        UnreadableMedia: the header of a sound or video file is damaged.
    """
    if modality not in ("audio", "video"):
        return [()]
    from intermodal.media.containers import probe

    seconds = probe(data, name).seconds
    together = SOUND_S if modality == "audio" else windows.window_s
    if seconds is None or seconds <= together:
        return [()]
    numbered = list(enumerate(windows.spans(seconds)))
    if modality == "video":
        return [(one,) for one in numbered]
    return [tuple(group) for _, group in groupby(numbered, key=lambda one: int(one[1][0] // SOUND_S))]


def decode(
    data: bytes, name: str, modality: str, plan: Plan, windows: Windows, at_least: tuple[int, int] | None = None
) -> list[Piece]:
    """Returns the items of one step of a plan.

    Args:
        data: the file.
        name: what to call it in messages.
        modality: of the file.
        plan: which windows; empty for the whole file.
        windows: how items are cut.
        at_least: a height and width that suffice for a picture; a larger JPEG is decoded smaller.

    Raises:
        UnreadableMedia: the file is damaged, over the limits, or holds nothing.
    """
    if not plan:
        return cut(_whole(data, name, modality, at_least), windows, name)
    start, stop = plan[0][1][0], plan[-1][1][1]
    try:
        part = _part(data, name, modality, start, stop - start)
    except InvalidValue as error:
        if plan[0][0] == 0:
            raise UnreadableMedia(str(error)) from error
        return []  # the header declared more than there is; the reader has checked how much more
    if modality == "video":
        return [Piece(part, plan[0][0], start, stop)]
    inside = [(number, span) for number, span in plan if span[0] - start < part.seconds - 1e-3]
    return [Piece(part.cut(a - start, b - start), number, a, b) for number, (a, b) in inside]


def cut(item: Any, windows: Windows, name: str = "the text") -> list[Piece]:
    """Returns an item whole, or in windows or paragraphs where it is long.

    Raises:
        UnreadableMedia: a text holds nothing but white space.
    """
    if item.modality == "text":
        places = windows.paragraphs(item.text)
        if not places:
            raise UnreadableMedia(f"{name} holds nothing but white space")
        if len(item.text) <= windows.characters:
            return [Piece(item)]
        return [
            Piece(type(item)(item.text[a:b]), number, metadata={"start_char": a, "stop_char": b})
            for number, (a, b) in enumerate(places)
        ]
    if item.modality not in ("audio", "video"):
        return [Piece(item)]
    spans = windows.spans(item.seconds)
    if len(spans) == 1:
        return [Piece(item, None, *spans[0])]
    return [Piece(item.cut(start, stop), number, start, stop) for number, (start, stop) in enumerate(spans)]


def load(data: bytes, name: str, modality: str, piece: Mapping[str, Any]) -> Item:
    """Returns one item of a file again.

    Args:
        data: the file.
        name: what to call it in messages.
        modality: of the item.
        piece: ``start_s`` and ``stop_s``, or ``start_char`` and ``stop_char``; empty for the whole file.
    """
    if "start_char" in piece:
        text = _whole(data, name, modality)
        paragraph: Item = type(text)(text.text[piece["start_char"] : piece["stop_char"]])
        return paragraph
    if piece.get("start_s") is None:
        whole: Item = _whole(data, name, modality)
        return whole
    part: Item = _part(data, name, modality, piece["start_s"], piece["stop_s"] - piece["start_s"])
    return part


def encode(item: Item, folder: Path) -> bytes:
    """Returns an item as a file that keeps every bit of it; written in ``folder`` on the way."""
    path = item.save(folder / f"{uuid.uuid4().hex}{LOSSLESS[item.modality]}")
    data = path.read_bytes()
    path.unlink()
    return data


def _whole(data: bytes, name: str, modality: str, at_least: tuple[int, int] | None = None) -> Any:
    """Returns the item that a whole file is; of a large JPEG a smaller one where that suffices."""
    if modality in ("audio", "video"):
        return _part(data, name, modality, 0.0, None)
    kind = catalog.module("modalities", modality).ITEM
    try:
        return kind.open(data, at_least) if modality == "image" and at_least else kind.open(data)
    except UnreadableMedia as error:
        raise UnreadableMedia(str(error).replace(f"{len(data)} bytes", name, 1)) from error


def _part(data: bytes, name: str, modality: str, start_s: float, seconds: float | None) -> Any:
    """Returns a part of a sound or video file; of a large picture fewer frames."""
    kind = catalog.module("modalities", modality).ITEM
    if modality == "audio":
        from intermodal.media.sound import decode_sound

        return kind(*decode_sound(data, start_s, seconds, name))
    from intermodal.media.containers import probe
    from intermodal.media.frames import decode_video

    found = probe(data, name)
    lasts = seconds or found.seconds or 0.0
    pixels_per_s = (found.width or 0) * (found.height or 0) * (found.frames_per_s or 0.0)
    rate = None
    if lasts * pixels_per_s > VIDEO_PIXELS and found.frames_per_s:
        rate = found.frames_per_s * VIDEO_PIXELS / (lasts * pixels_per_s)
    clip = decode_video(data, start_s, seconds, rate, name)
    sound = None if clip.sound is None else catalog.module("modalities", "audio").ITEM(*clip.sound)
    return kind(clip.frames, clip.frames_per_s, sound)


def numbered(key: str, number: int | None) -> str:
    """Returns the id of a window of the content ``key``; the key itself for a whole."""
    return key if number is None else f"{key}-{number:05d}"
