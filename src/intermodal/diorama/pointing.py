"""One object of each scene, told by a phrase, by its sound and by its place in the picture.

    phrase   "the small red circle", "the star", "the thing at the top left": words that fit this object alone
    mask     white where the object is in the scene's picture, black elsewhere
    tone     the sound that this object makes, alone

So a phrase or a tone, with the picture, asks for the mask. A picture shows no motion and a sound tells no row; what
both carry is shape, colour, size and column. The object is one that is alone in these in its scene, so that its tone
points to one place in the picture. 11 of 10,000 scenes have none (nothing but things that look the same in one column):
there the tone fits several objects, ``Pointed.heard_alone`` is False, and the phrase still fits one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama.draws import pick, uniform
from intermodal.diorama.pictures import silhouettes
from intermodal.diorama.questions import AT, DESCRIPTIONS, say
from intermodal.diorama.scene import COLOURS, OBJECTS, SIZES, Scenes, Thing
from intermodal.diorama.sounds import render_sounds

BY_PLACE = 0.25
"""How often an object is told by its cell though other words would do."""


@dataclass(frozen=True)
class Pointed:
    """The object that a scene's phrase, mask and tone are about.

    Attributes:
        thing: the object.
        phrase: the words that fit it alone.
        box: the corners of its mask in pixels, x0, y0, x1, y1; it ends before x1 and y1.
        heard_alone: whether no other object of the scene looks and sounds like it.
    """

    thing: Thing
    phrase: str
    box: tuple[int, int, int, int]
    heard_alone: bool


def choose(scenes: Scenes, index: ArrayLike, seed: int = 0) -> tuple[Int64[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Returns the slot of one object of each scene, and whether its tone fits it alone; see the top of the file.

    Args:
        scenes: N scenes.
        index: N whole numbers, 0 or more, that the objects are drawn from.
        seed: another seed chooses otherwise.
    """
    look = ((scenes.shape * len(COLOURS) + scenes.colour) * len(SIZES) + scenes.size) * 3 + scenes.cell % 3
    look = np.where(scenes.present, look, -1)
    alone = scenes.present & ((look[:, :, None] == look[:, None, :]).sum(axis=2) == 1)
    heard_alone = alone.any(axis=1)
    options = np.where(heard_alone[:, None], alone, scenes.present)
    return pick(options, uniform(seed, "pointing", index, 1)[:, 0]), heard_alone


def phrases(scenes: Scenes, slot: Int64[np.ndarray, " N"], index: ArrayLike, seed: int = 0) -> list[str]:
    """Returns words that fit the object in ``slot`` of each scene, and no other object there.

    Args:
        scenes: N scenes.
        slot: which object.
        index: N whole numbers, 0 or more, that the wording is drawn from.
        seed: another seed words otherwise.
    """
    rows, u = np.arange(len(scenes)), uniform(seed, "phrases", index, 2)
    values = {name: getattr(scenes, name) for name in ("size", "colour", "shape")}
    same = {name: array == array[rows, slot][:, None] for name, array in values.items()}
    fits = [np.logical_and.reduce([scenes.present, *(same[name] for name in some)]) for some in DESCRIPTIONS]
    alone = np.stack([each.sum(axis=1) == 1 for each in fits], axis=1)
    by_place = ((u[:, 0] < BY_PLACE) | ~alone.any(axis=1)).tolist()
    which = pick(alone, u[:, 1]).tolist()
    own = {name: array[rows, slot].tolist() for name, array in values.items()}
    cells = scenes.cell[rows, slot].tolist()
    return [
        AT[cells[i]] if by_place[i] else say(tuple((name, own[name][i]) for name in DESCRIPTIONS[which[i]]), "the")
        for i in range(len(rows))
    ]


def render_tones(
    scenes: Scenes, slot: Int64[np.ndarray, " N"], index: ArrayLike, seed: int = 0
) -> Float32[np.ndarray, "N 2 S"]:
    """Returns the sound of a scene that holds the object in ``slot`` alone; see ``sounds.render_sounds``.

    Args:
        scenes: N scenes.
        slot: which object.
        index: N whole numbers, 0 or more, that tuning, loudness and noise are drawn from.
        seed: another seed plays otherwise.
    """
    first, rows = np.arange(OBJECTS) == 0, np.arange(len(scenes))
    columns = (scenes.shape, scenes.colour, scenes.size, scenes.cell, scenes.motion)
    alone = (np.where(first, column[rows, slot][:, None], 0) for column in columns)
    return render_sounds(Scenes(np.tile(first, (len(scenes), 1)), *alone), index, seed)


def boxes(covered: Bool[np.ndarray, "N H W"]) -> Int64[np.ndarray, "N 4"]:
    """Returns the smallest box around what is True: x0, y0, x1, y1 in pixels; it ends before x1 and y1.

    Each mask has to have something in it.
    """
    sides = []
    for axis in (1, 2):
        some: NDArray[np.bool_] = np.asarray(covered.any(axis=axis))
        sides += [some.argmax(axis=1), some.shape[1] - some[:, ::-1].argmax(axis=1)]
    return np.stack([sides[0], sides[2], sides[1], sides[3]], axis=1)


def pointed(scenes: Scenes, index: ArrayLike, seed: int = 0) -> list[Pointed]:
    """Returns the object that phrase, mask and tone of each scene are about, with its phrase and box.

    Args:
        scenes: N scenes.
        index: as given to the renderings.
        seed: as given to the renderings.
    """
    slot, heard_alone = choose(scenes, index, seed)
    around = boxes(silhouettes(scenes, slot, index, seed)).tolist()
    columns = (scenes.cell, scenes.shape, scenes.colour, scenes.size, scenes.motion)
    things = np.stack([column[np.arange(len(scenes)), slot] for column in columns], axis=1).tolist()
    parts = zip(things, phrases(scenes, slot, index, seed), around, heard_alone.tolist(), strict=True)
    return [Pointed(Thing(*values), said, (x0, y0, x1, y1), own) for values, said, (x0, y0, x1, y1), own in parts]
