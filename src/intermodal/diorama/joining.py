"""Questions that neither a picture nor a tracker's series answers alone; both together do.

    follow   "how does the blue star move?"               the picture shows which thing it is, the series how it moves
    find     "what colour is the thing moving up?"        the other way round

A picture holds no motion, a series neither shape nor colour; both tell where things are, and so which thing in one is
which in the other. Who has one of them alone can still guess among the things that are there: ``guessed`` says how
often that is right.

Beside them the steps to such an answer are asked, of one rendering at a time, from which it may be learnt sooner:

    at       "what shape is the thing at the top left?"   or how it moves
    where    "where is the red thing?"                    or the thing moving up
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from intermodal.diorama.draws import uniform
from intermodal.diorama.questions import ASKING, AT, MOVING, Question, pick, say, worded
from intermodal.diorama.scene import ATTRIBUTES, CARRIES, CELLS, MOTIONS, Scene, Scenes, Thing

JOINT = ("follow", "find")
STEPS = ("at", "where")
KINDS = (*JOINT, *STEPS)
STEP_SHARE = 0.5
"""How many of the questions are of ``STEPS``."""

LOOKS = ("colour", "shape")
"""What a picture shows of a thing and a series does not."""

MOVED = tuple(f"the thing moving {name}" for name in MOTIONS)
STILL = MOTIONS.index("still")
_PLACE = ("column", "row")
_DRAWS = 6


def draw_joined(scenes: Scenes, ids: NDArray[np.int64], seed: int) -> list[Question]:
    """Returns one question about each scene, of one of ``KINDS``.

    Half of those that ask for both are of each kind where the scene allows both. A scene of a single thing is asked
    about too: there the series alone says how it moves, and the picture how it looks.

    Args:
        scenes: N scenes.
        ids: N whole numbers that the questions are drawn from.
        seed: another seed asks otherwise.
    """
    draws = uniform(seed, "joined questions", ids, _DRAWS).tolist()
    return [_asked(scene, row) for scene, row in zip(scenes, draws, strict=True)]


def _asked(scene: Scene, row: Sequence[float]) -> Question:
    """Returns a question about a scene."""
    step, kind, *rest = row
    draws = iter(rest)
    motions = Counter(thing.motion for thing in scene.things)
    described = _described(scene)
    if step < STEP_SHARE:
        return _step(scene, described, motions, kind, draws)
    alike = not described  # then whichever thing is meant, the answer is the same
    moving = sorted(thing for thing in scene.things if thing.motion != STILL)
    found = [thing for thing in moving if alike or motions[thing.motion] == 1]
    if found and (alike or kind < 0.5):
        thing, name = pick(found, draws), pick(LOOKS, draws)
        text = ASKING[name].format(MOVED[thing.motion])
        return Question(text, ATTRIBUTES[name][getattr(thing, name)], "find", frozenset((name, "motion")))
    thing, some = pick(sorted(described.items()), draws) if described else (scene.things[0], [LOOKS])
    words = worded(thing, pick(some, draws))
    text = pick(MOVING, draws).format(say(words, "the"))
    return Question(text, MOTIONS[thing.motion], "follow", frozenset(("motion", *dict(words))))


def _step(
    scene: Scene,
    described: Mapping[Thing, Sequence[tuple[str, ...]]],
    motions: Mapping[int, int],
    kind: float,
    draws: Iterator[float],
) -> Question:
    """Returns a question of ``STEPS``: of a picture or a series, what is at a place or where something is."""
    moving = sorted(thing for thing in scene.things if thing.motion != STILL and motions[thing.motion] == 1)
    if kind < 0.25 and described:
        thing, some = pick(sorted(described.items()), draws)
        words = worded(thing, pick(some, draws))
        return _where(thing, say(words, "the"), *dict(words))
    if 0.25 <= kind < 0.5 and moving:
        thing = pick(moving, draws)
        return _where(thing, MOVED[thing.motion], "motion")
    thing = pick(scene.things, draws)
    if kind < 0.75:
        name = pick(LOOKS, draws)
        text, answer = ASKING[name].format(AT[thing.cell]), ATTRIBUTES[name][getattr(thing, name)]
        return Question(text, answer, "at", frozenset((*_PLACE, name)))
    text = pick(MOVING, draws).format(AT[thing.cell])
    return Question(text, MOTIONS[thing.motion], "at", frozenset((*_PLACE, "motion")))


def _where(thing: Thing, words: str, *told: str) -> Question:
    """Returns the question where a thing is that is described by the attributes ``told``."""
    return Question(ASKING["cell"].format(words), CELLS[thing.cell], "where", frozenset((*_PLACE, *told)))


def _described(scene: Scene) -> dict[Thing, list[tuple[str, ...]]]:
    """Returns each thing with the looks that are its alone; nothing where all things look alike."""
    found: dict[Thing, list[tuple[str, ...]]] = {}
    for some in (("colour",), ("shape",), ("colour", "shape")):
        shown = Counter(tuple(getattr(thing, name) for name in some) for thing in scene.things)
        for thing in scene.things:
            if shown[tuple(getattr(thing, name) for name in some)] == 1:
                found.setdefault(thing, []).append(some)
    return found


def wanted(question: Question) -> str:
    """Returns the attribute that a question of ``JOINT`` asks for."""
    return "motion" if question.kind == "follow" else next(name for name in LOOKS if name in question.carries)


def guessed(scene: Scene, question: Question, field: str) -> float:
    """Returns how often a guess is right that knows the question and all that the rendering ``field`` tells.

    It is 0 where the rendering tells nothing of what is wanted.

    Args:
        scene: asked about.
        question: of ``draw_joined``, one of ``JOINT``.
        field: a rendering such as image or timeseries.
    """
    if question.answerable_from(field):
        return 1.0
    name = wanted(question)
    if name not in CARRIES[field]:
        return 0.0
    counts = Counter(getattr(thing, name) for thing in scene.things)
    return max(counts.values()) / len(scene.things)
