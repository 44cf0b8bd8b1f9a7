"""Models for tests that translate without having learnt anything: a reader of Diorama, and its painter."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from intermodal.diorama import pictures, sentences, series, sounds
from intermodal.diorama.scene import CARRIES, COLOURS, Scene, Scenes, Thing
from intermodal.errors import Unsupported
from intermodal.evaluation.scenes import Found, read_back
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video
from intermodal.types import Candidate, Item

FIELDS = ("text", "image", "audio", "video", "timeseries")
ALL = tuple(permutations(FIELDS, 2))
NOTHING = Scene((Thing(0, 0, 0, 0, 0),))
Spoil = Callable[[Scene], Scene]


def keep(scene: Scene) -> Scene:
    """Returns the scene as it is."""
    return scene


def recolour(scene: Scene) -> Scene:
    """Returns the scene with the next colour on each object."""
    return Scene(tuple(replace(t, colour=(t.colour + 1) % len(COLOURS)) for t in scene.things))


def recolour_first(scene: Scene) -> Scene:
    """Returns the scene with the next colour on the object that comes first."""
    first, *others = scene.things
    return Scene((replace(first, colour=(first.colour + 1) % len(COLOURS)), *others))


def scene_of(found: Found) -> Scene:
    """Returns a scene that looks like what was found; what was not told of an object is the first of its kind."""
    if found is None or isinstance(found, Scene):
        return found or NOTHING
    heard, rows = sorted(CARRIES["audio"]), Counter[int]()
    things = []
    for values in found:
        known = dict(zip(heard, values, strict=True))
        column = known.pop("column")
        things.append(Thing(cell=3 * rows[column] + column, **known))
        rows[column] += 1
    return Scene(tuple(things))


def render(scenes: Sequence[Scene], to: str, seed: int = 7) -> list[Any]:
    """Returns each scene in one rendering."""
    many, ids = Scenes.of(list(scenes)), np.arange(len(scenes))
    if to in ("text", "transcript"):
        return [Text(words) for words in sentences.render_texts(many, ids, seed)]
    if to == "image":
        return [Image(pixels) for pixels in pictures.render_images(many, ids, seed)]
    if to == "audio":
        return [Audio(samples, sounds.RATE_HZ) for samples in sounds.render_sounds(many, ids, seed)]
    if to == "video":
        return [Video(frames, pictures.FRAMES_PER_S) for frames in pictures.render_videos(many, ids, seed)]
    return [TimeSeries(v, series.CHANNELS, series.RATE_HZ) for v in series.render_series(many, ids, seed)]


class Oracle:
    """Reads an item and renders what it read, which ``spoil`` may change before; ``calls`` are its requests."""

    def __init__(self, directions: Sequence[tuple[str, str]] = ALL, spoil: Spoil = keep, name: str = "oracle") -> None:
        self.directions = tuple(directions)
        self.spoil, self.name = spoil, name
        self.calls: list[dict[str, Any]] = []

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Any]:
        source = source or items[0].modality
        assert (source, to) in self.directions
        self.calls.append({"source": source, "to": to, "items": len(items), "sampling": sampling, "count": count})
        return render([self.spoil(scene_of(found)) for found in read_back(source, items)], to)


class Completer(Oracle):
    """An oracle that reads the field which tells most; each further candidate has other colours and a lower score."""

    def candidates(
        self, samples: Sequence[Mapping[str, Item]], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        if to not in FIELDS:
            raise Unsupported(f"{self.name} does not write {to!r}")
        made = []
        for sample in samples:
            best = max(sample, key=lambda name: len(CARRIES[name]))
            call = {"source": "+".join(sample), "to": to, "items": 1, "sampling": sampling, "count": count}
            self.calls.append(call)
            scene = self.spoil(scene_of(read_back(best, [sample[best]])[0]))
            found = []
            for n in range(count):
                found.append(Candidate(render([scene], to)[0], 0.0 - 0.5 * n))
                scene = recolour(scene)
            made.append(found)
        return made
