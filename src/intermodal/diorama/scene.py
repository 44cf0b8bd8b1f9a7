"""The world: what a scene is, how scenes are drawn, and how they are split.

A scene is one to three objects in distinct cells of a 3 x 3 grid. ``Scenes`` holds many of them as arrays, because
everything here is done for a whole batch at once; ``Scene`` is one of them for people and for comparing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import mix, uniform
from intermodal.errors import InvalidValue, UnknownName

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SIZES = ("small", "large")
CELLS = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))
MOTIONS = ("still", "left", "right", "up", "down")
OBJECTS = 3

ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "cell": CELLS, "motion": MOTIONS}

CARRIES: dict[str, frozenset[str]] = {
    "text": frozenset({"shape", "colour", "size", "column", "row", "motion"}),
    "speech": frozenset({"shape", "colour", "size", "column", "row", "motion"}),
    "image": frozenset({"shape", "colour", "size", "column", "row"}),
    "video": frozenset({"shape", "colour", "size", "column", "row", "motion"}),
    "audio": frozenset({"shape", "colour", "size", "column", "motion"}),
    "timeseries": frozenset({"size", "column", "row", "motion"}),
}
"""What each rendering tells of every object; a cell is a row and a column."""

SPLITS = ("train", "dev", "test", "compositional")
HELD_OUT = frozenset({(0, 6), (1, 3), (2, 5), (3, 1), (4, 4), (5, 0)})
"""Pairs (shape, colour) that only the compositional split shows: purple circle, green square, blue triangle, orange
diamond, cyan star, red cross."""

_ARRAYS = ("present", "shape", "colour", "size", "cell", "motion")
_OBJECT_COUNTS = (0.1, 0.45, 1.0)  # cumulated: 10 % one object, 35 % two, 55 % three


@dataclass(frozen=True, order=True)
class Thing:
    """One object; each attribute is an index into its tuple of names."""

    cell: int
    shape: int
    colour: int
    size: int
    motion: int

    def __str__(self) -> str:
        """Returns it in words."""
        moving = "" if self.motion == 0 else f" moving {MOTIONS[self.motion]}"
        return f"{SIZES[self.size]} {COLOURS[self.colour]} {SHAPES[self.shape]} at {CELLS[self.cell]}{moving}"

    @property
    def column(self) -> int:
        """0 left, 1 centre, 2 right."""
        return self.cell % 3

    @property
    def row(self) -> int:
        """0 top, 1 middle, 2 bottom."""
        return self.cell // 3


@dataclass(frozen=True)
class Scene:
    """One to three things in distinct cells, sorted by cell."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        """Checks the scene and sorts the things."""
        cells = [t.cell for t in self.things]
        if not 1 <= len(cells) <= OBJECTS or len(set(cells)) != len(cells):
            raise InvalidValue(
                f"a scene has 1 to {OBJECTS} objects in distinct cells, not {len(cells)} in cells {cells}"
            )
        object.__setattr__(self, "things", tuple(sorted(self.things)))

    def __str__(self) -> str:
        """Returns it in words."""
        return "; ".join(map(str, self.things))

    def seen_by(self, *fields: str) -> tuple[tuple[int, ...], ...]:
        """Returns what all of ``fields`` carry of this scene, as a sorted multiset: equal keys cannot be told apart."""
        carried = sorted(frozenset.intersection(*(CARRIES[f] for f in fields)))
        return tuple(sorted(tuple(int(getattr(t, name)) for name in carried) for t in self.things))


@dataclass(frozen=True)
class Scenes:
    """N scenes as arrays ``(N, 3)``; slots that hold no object are False in ``present`` and 0 elsewhere.

    The order of the slots carries no information (it is drawn); objects fill the first slots.
    """

    present: NDArray[np.bool_]
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    size: NDArray[np.int64]
    cell: NDArray[np.int64]
    motion: NDArray[np.int64]

    def __len__(self) -> int:
        """Returns the number of scenes."""
        return len(self.present)

    def __getitem__(self, i: int) -> Scene:
        """Returns scene ``i``."""
        return Scene(
            tuple(
                Thing(
                    int(self.cell[i, k]),
                    int(self.shape[i, k]),
                    int(self.colour[i, k]),
                    int(self.size[i, k]),
                    int(self.motion[i, k]),
                )
                for k in range(OBJECTS)
                if self.present[i, k]
            )
        )

    def __iter__(self) -> Iterator[Scene]:
        """Yields each scene."""
        return (self[i] for i in range(len(self)))

    def take(self, index: ArrayLike) -> "Scenes":
        """Returns the scenes at ``index`` (whole numbers or a boolean mask)."""
        i = np.asarray(index)
        return Scenes(self.present[i], self.shape[i], self.colour[i], self.size[i], self.cell[i], self.motion[i])

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> "Scenes":
        """Returns the arrays of a list of scenes, things in slots 0, 1, 2 in the order of their cells."""
        arrays = {
            name: np.zeros((len(scenes), OBJECTS), np.int64) for name in ("shape", "colour", "size", "cell", "motion")
        }
        present = np.zeros((len(scenes), OBJECTS), bool)
        for i, scene in enumerate(scenes):
            for k, thing in enumerate(scene.things):
                present[i, k] = True
                for name, array in arrays.items():
                    array[i, k] = getattr(thing, name)
        return cls(present=present, **arrays)

    @cached_property
    def _hash(self) -> NDArray[np.float64]:
        """A number in [0, 1) per scene that does not depend on the order of its objects."""
        code = (((self.cell * 8 + self.shape) * 8 + self.colour) * 2 + self.size) * 8 + self.motion + 1
        words = np.sort(np.where(self.present, code, 0), axis=1).astype(np.uint64)
        mixed = mix(words[:, 0] + np.uint64(1))
        for k in (1, 2):
            with np.errstate(over="ignore"):
                mixed = mix(mixed * np.uint64(3) + words[:, k])
        return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def belongs_to(self, split: str) -> NDArray[np.bool_]:
        """Returns which scenes are in ``split``: 85 % train, 5 % dev, 10 % test by hash; compositional by pair."""
        if split not in SPLITS:
            raise UnknownName("split of diorama", split, SPLITS)
        pair = np.zeros(self.present.shape, bool)
        for shape, colour in HELD_OUT:
            pair |= (self.shape == shape) & (self.colour == colour)
        novel = np.asarray((pair & self.present).any(axis=1))
        if split == "compositional":
            return novel
        low, high = {"test": (0.0, 0.10), "dev": (0.10, 0.15), "train": (0.15, 1.0)}[split]
        within: NDArray[np.bool_] = ~novel & (self._hash >= low) & (self._hash < high)
        return within


def _draw(seed: int, stream: str, index: NDArray[np.int64]) -> Scenes:
    """Returns one scene per index, of whatever split."""
    u = uniform(seed, stream, index, 24)
    count = 1 + np.searchsorted(_OBJECT_COUNTS, u[:, 0], side="right").clip(0, 2)
    present = np.arange(OBJECTS) < count[:, None]
    cell = np.argsort(u[:, 1:10], axis=1)[:, :OBJECTS]

    def pick(start: int, options: int) -> NDArray[np.int64]:
        return np.where(present, (u[:, start : start + OBJECTS] * options).astype(np.int64), 0)

    return Scenes(
        present=present,
        shape=pick(10, len(SHAPES)),
        colour=pick(13, len(COLOURS)),
        size=pick(16, len(SIZES)),
        cell=np.where(present, cell, 0),
        motion=pick(19, len(MOTIONS)),
    )


def draw_scenes(split: str, index: ArrayLike, seed: int = 0) -> Scenes:
    """Returns scene number ``index[i]`` of ``split`` for every i; the same numbers give the same scenes for ever.

    Args:
        split: one of ``SPLITS``.
        index: whole numbers, 0 or more; a split has no end.
        seed: another seed is another world of the same kind.
    """
    ids = np.asarray(index, dtype=np.int64).reshape(-1)
    scenes = _draw(seed, f"{split}0", ids)
    wrong = np.flatnonzero(~scenes.belongs_to(split))
    attempt = 0
    while wrong.size:
        attempt += 1
        again = _draw(seed, f"{split}{attempt}", ids[wrong])
        good = again.belongs_to(split)
        for name in _ARRAYS:
            getattr(scenes, name)[wrong[good]] = getattr(again, name)[good]
        wrong = wrong[~good]
    return scenes.take(np.arange(len(scenes)))  # a fresh object: the cached hash of the first draw no longer holds
