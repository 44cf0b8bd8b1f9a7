"""A picture in the colour of another: its objects, places and sizes, painted as the object of a palette is.

The palette is a picture of one object. The restyled picture is that of the scene in every pixel but in its objects,
which all have the very shade of the palette's object: scene and palette leave no choice.

What is drawn: a colour that changes the picture, then a scene of one object in that colour. In train, dev and test no
restyled scene and no palette shows a pair of shape and colour that is held out, and the restyled scenes of train are
scenes of train (but for 4 in 100,000, where no colour allows it). In the compositional split the restyled scene shows a
held-out pair wherever that changes the picture, in 95 % of the scenes; its palettes are those of test, so that the pair
is in what is to be made and not in what shows the colour.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import pick, uniform
from intermodal.diorama.pictures import levels_of, render_images
from intermodal.diorama.scene import ATTRIBUTES, COLOURS, OBJECTS, Scene, Scenes, Thing

_PALETTES_OF = {"train": "train", "dev": "dev", "test": "test", "compositional": "test"}


@dataclass(frozen=True)
class Restyling:
    """What is to be made of N scenes.

    Attributes:
        palettes: scenes of one object, whose colour is taken.
        restyled: the scenes with that colour in all their objects.
    """

    palettes: Scenes
    restyled: Scenes


@cache
def _palettes(split: str) -> tuple[Scenes, NDArray[np.int64]]:
    """Returns the scenes of one object that a split may take a colour from, sorted by it, and where each one begins."""
    names = ("cell", "shape", "colour", "size", "motion")
    every = Scenes.of([Scene((Thing(*v),)) for v in product(*(range(len(ATTRIBUTES[name])) for name in names))])
    fit = np.flatnonzero(every.belongs_to(_PALETTES_OF[split]))
    fit = fit[np.argsort(every.colour[fit, 0], kind="stable")]
    return every.take(fit), np.searchsorted(every.colour[fit, 0], np.arange(len(COLOURS) + 1))


def _in_every_colour(scenes: Scenes) -> Scenes:
    """Returns each scene in each colour: scene i in colour c is number i x 8 + c."""
    many = scenes.take(np.repeat(np.arange(len(scenes)), len(COLOURS)))
    colour = np.where(many.present, np.tile(np.arange(len(COLOURS)), len(scenes))[:, None], 0)
    return Scenes(many.present, many.shape, colour, many.size, many.cell, many.motion)


def _first_not_empty(*choices: Bool[np.ndarray, "N K"]) -> Bool[np.ndarray, "N K"]:
    """Returns for each row that of the first of the choices in which anything is True."""
    best = choices[-1]
    for choice in reversed(choices[:-1]):
        best = np.where(choice.any(axis=1, keepdims=True), choice, best)
    return best


def draw_restyling(split: str, scenes: Scenes, index: ArrayLike, seed: int = 0) -> Restyling:
    """Returns a palette for each scene and the scene in its colour; see the top of the file.

    Args:
        split: that the scenes are of.
        scenes: N scenes.
        index: N whole numbers, 0 or more, that the palettes are drawn from.
        seed: another seed draws other palettes.
    """
    u = uniform(seed, "palettes", index, 2)
    recoloured = _in_every_colour(scenes)
    shape = (len(scenes), len(COLOURS))
    novel = recoloured.belongs_to("compositional").reshape(shape)
    differs = scenes.colour[:, :, None] != np.arange(len(COLOURS))
    changes = (scenes.present[:, :, None] & differs).any(axis=1)
    if split == "compositional":
        options = _first_not_empty(changes & novel, changes)
    elif split == "train":
        options = _first_not_empty(changes & recoloured.belongs_to(split).reshape(shape), changes & ~novel)
    else:
        options = changes & ~novel
    colour = pick(options, u[:, 0])
    palettes, begin = _palettes(split)
    number = begin[colour] + (u[:, 1] * (begin[colour + 1] - begin[colour])).astype(np.int64)
    return Restyling(palettes.take(number), recoloured.take(np.arange(len(scenes)) * len(COLOURS) + colour))


def render_palettes(drawn: Restyling, index: ArrayLike, seed: int = 0) -> UInt8[np.ndarray, "N 64 64 3"]:
    """Returns the pictures of the palettes.

    Args:
        drawn: N scenes with their palettes.
        index: N whole numbers, 0 or more, as given to ``render_restyled``.
        seed: that of the scenes' own pictures, so that these and the palettes vary apart.
    """
    return render_images(drawn.palettes, index, seed + 1)


def render_restyled(drawn: Restyling, index: ArrayLike, seed: int = 0) -> UInt8[np.ndarray, "N 64 64 3"]:
    """Returns the pictures of the scenes, as ``render_images`` gives them, with objects in the palette's shade.

    Args:
        drawn: N scenes with their palettes.
        index: as given for the scenes' own pictures.
        seed: as given for the scenes' own pictures.
    """
    shade = levels_of(drawn.palettes, index, seed + 1)[:, :1]  # of its one object
    return render_images(drawn.restyled, index, seed, levels=np.repeat(shade, OBJECTS, axis=1))
