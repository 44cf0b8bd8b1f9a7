"""Questions about a scene, with their answers.

    attribute   "what colour is the small circle?"        a colour, shape, size or cell
    count       "how many red things are there?"          zero to three
    existence   "is there a blue star?"                   yes or no
    relation    "is the circle to the left of the star?"  yes or no
    motion      "which way does the star move?"           a direction, or still

Only objects that their description fits alone are asked about. Answers are balanced where they are drawn: yes and no
are equally likely whatever the scene, numbers nearly so over many scenes, and the rest as the scenes are. A pair of
shape and colour that the compositional split holds out is never named where it is absent, so that no training question
gives it away.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, permutations, product
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from intermodal.diorama.draws import uniform
from intermodal.diorama.scene import (
    ATTRIBUTES,
    CARRIES,
    CELLS,
    COLOURS,
    HELD_OUT,
    MOTIONS,
    SHAPES,
    SIZES,
    Scene,
    Scenes,
    Thing,
)
from intermodal.errors import InvalidValue, UnknownName

KINDS = ("attribute", "count", "existence", "relation", "motion")
NUMBERS = ("zero", "one", "two", "three")
ANSWERS: tuple[str, ...] = ("yes", "no", *NUMBERS, *SHAPES, *COLOURS, *SIZES, *CELLS, *MOTIONS)
"""Every answer there is."""

_DESCRIBING = ("size", "colour", "shape")  # in the order in which they are said
DESCRIPTIONS = tuple(some for count in (1, 2, 3) for some in combinations(_DESCRIBING, count))
"""The attributes that a description may name, each in the order in which they are said."""

_COUNT_WEIGHTS = ((1.0,), (0.5, 0.5), (0.25, 0.25, 0.5), (0.2045, 0.2045, 0.1365, 0.4545))
# by number of objects: how often zero, one, two and three are asked for. With 10 % of the scenes of one object, 35 % of
# two and 55 % of three, every number is the answer to a quarter of the questions.
_SIDES = {"column": ("to the left of", "to the right of"), "row": ("above", "below")}
ASKING = {
    "colour": "what colour is {}?",
    "shape": "what shape is {}?",
    "size": "what size is {}?",
    "cell": "where is {}?",
}
MOVING = ("which way does {} move?", "how does {} move?")
AT = tuple(f"the thing at the {cell}" for cell in CELLS)
"""Cell -> the thing there."""

_COUNTING = "how many {} are there?"
_EXISTING = "is there {}?"
_RELATING = "is {} {} {}?"
_DRAWS = 8  # numbers for each kind
_PLACE = frozenset(("column", "row"))
_LOOKS = frozenset(_DESCRIBING)
_MAY_NEED = {"attribute": _LOOKS | _PLACE, "count": _LOOKS, "existence": _LOOKS, "relation": _LOOKS | _PLACE}
_MAY_NEED["motion"] = _LOOKS | {"motion"}
_OFTEN = {"relation": 1.23}  # the weight of a kind, 1 else: 15 % of the scenes have no two things to relate

T = TypeVar("T")
Words = tuple[tuple[str, int], ...]
"""A description: attributes with their values."""


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    Attributes:
        text: the question in words.
        answer: one of ``ANSWERS``.
        kind: one of ``KINDS``.
        carries: the attributes that a rendering has to carry for the answer to be found in it.
    """

    text: str
    answer: str
    kind: str
    carries: frozenset[str]

    def answerable_from(self, field: str) -> bool:
        """Returns whether the rendering ``field`` (text, image, audio ...) tells what the answer needs."""
        if field not in CARRIES:
            raise UnknownName("rendering of diorama", field, CARRIES)
        return self.carries <= CARRIES[field]


def kinds_answerable_from(field: str) -> tuple[str, ...]:
    """Returns the kinds of questions that the rendering ``field`` answers whatever is asked: see ``CARRIES``.

    A picture answers all kinds but motion, a clip or a sentence all. Of other kinds a rendering may answer some
    questions and not others: ``Question.answerable_from`` says which.

    Raises:
        UnknownName: no such rendering.
    """
    if field not in CARRIES:
        raise UnknownName("rendering of diorama", field, CARRIES)
    return tuple(kind for kind in KINDS if _MAY_NEED[kind] <= CARRIES[field])


def questions(scene: Scene, index: int = 0, seed: int = 0, kinds: Sequence[str] = KINDS) -> list[Question]:
    """Returns one question of each kind that ``scene`` allows, in the order of ``kinds``.

    Args:
        scene: what is asked about.
        index: which questions; the same number gives the same questions, whatever other kinds are asked for.
        seed: another seed asks otherwise.
        kinds: some of ``KINDS``.
    """
    asked = []
    draws = uniform(seed, "questions", [index], _DRAWS * len(KINDS)).reshape(len(KINDS), _DRAWS).tolist()
    for kind in kinds:
        if kind not in _ASK:
            raise UnknownName("kind of question", kind, KINDS)
        question = _ASK[kind](scene, iter(draws[KINDS.index(kind)]))
        if question is not None:
            asked.append(question)
    return asked


def draw_questions(scenes: Scenes, index: ArrayLike, seed: int = 0, kinds: Sequence[str] = KINDS) -> list[Question]:
    """Returns one question about each scene; over many scenes each of ``kinds`` is asked equally often.

    A kind is drawn first, and another one where the scene does not allow it. ``relation`` is drawn a little more often,
    since it is the one that many scenes do not allow.

    Args:
        scenes: N scenes.
        index: N whole numbers, 0 or more, that the questions are drawn from.
        seed: another seed asks otherwise.
        kinds: some of ``KINDS``, count or existence among them, which every scene allows.

    Raises:
        UnknownName: no such kind.
        InvalidValue: neither count nor existence is among the kinds, or the index has another length.
    """
    for kind in kinds:
        if kind not in _ASK:
            raise UnknownName("kind of question", kind, KINDS)
    if not {"count", "existence"} & set(kinds):
        raise InvalidValue(f"the kinds {', '.join(kinds)} leave scenes without a question; add count or existence")
    u = uniform(seed, f"one question of {' '.join(kinds)}", index, len(kinds) + _DRAWS)
    if len(u) != len(scenes):
        raise InvalidValue(f"{len(scenes)} scenes came with {len(u)} indices; give one index for each scene")
    # the order of a draw without replacement by weight: Efraimidis and Spirakis 2006
    order = np.argsort(-(u[:, : len(kinds)] ** [1 / _OFTEN.get(kind, 1.0) for kind in kinds]), axis=1)
    result = []
    for scene, places, draws in zip(scenes, order.tolist(), u[:, len(kinds) :].tolist(), strict=True):
        asked = (_ASK[kinds[place]](scene, iter(draws)) for place in places)
        result.append(next(question for question in asked if question is not None))
    return result


def pick(options: Sequence[T], draws: Iterator[float]) -> T:
    """Returns one of the options."""
    return options[int(next(draws) * len(options))]


def worded(thing: Thing, attributes: tuple[str, ...]) -> Words:
    """Returns the description of a thing by some of its attributes."""
    return tuple((name, int(getattr(thing, name))) for name in attributes)


def say(words: Words, article: str) -> str:
    """Returns a description in words."""
    said = [ATTRIBUTES[name][value] for name, value in words]
    noun = [] if any(name == "shape" for name, _ in words) else ["thing"]
    article = "an" if article == "a" and said[0][0] in "aeiou" else article
    return " ".join([article, *said, *noun])


def _described(scene: Scene, without: str = "") -> dict[Thing, list[Words]]:
    """Returns each thing with the descriptions, without one attribute, that fit it and no other of the scene."""
    result: dict[Thing, list[Words]] = {}
    for some in DESCRIPTIONS:
        if without not in some:
            said = [worded(thing, some) for thing in scene.things]
            for thing, words in zip(scene.things, said, strict=True):
                if said.count(words) == 1:
                    result.setdefault(thing, []).append(words)
    return result


def _needs(*descriptions: Words) -> frozenset[str]:
    """Returns the attributes that the descriptions name."""
    return frozenset(name for words in descriptions for name, _ in words)


def _attribute(scene: Scene, draws: Iterator[float]) -> Question | None:
    """Returns a question about an attribute of one thing, or None where no thing can be described."""
    name = pick(tuple(ASKING), draws)
    described = _described(scene, without=name)
    if not described:
        return None
    thing = pick(sorted(described), draws)
    words = pick(described[thing], draws)
    answer = ATTRIBUTES[name][getattr(thing, name)]
    needs = frozenset(("column", "row")) if name == "cell" else frozenset((name,))
    return Question(ASKING[name].format(say(words, "the")), answer, "attribute", needs | _needs(words))


def _count(scene: Scene, draws: Iterator[float]) -> Question:
    """Returns a question for how many things there are of some description."""
    by_number: dict[int, list[Words]] = {len(scene.things): [()]}
    for name in _DESCRIBING:
        values = [getattr(thing, name) for thing in scene.things]
        for value in range(len(ATTRIBUTES[name])):
            by_number.setdefault(values.count(value), []).append(((name, value),))
    wanted, bounds = next(draws), accumulate(_COUNT_WEIGHTS[len(scene.things)])
    number = next((n for n, bound in enumerate(bounds) if wanted < bound), 0)
    if number not in by_number:
        number = pick(sorted(by_number), draws)
    words = pick(by_number[number], draws)
    said = [ATTRIBUTES[name][value] for name, value in words]
    plural = _plural(said[0]) if words and words[0][0] == "shape" else " ".join([*said, "things"])
    return Question(_COUNTING.format(plural), NUMBERS[number], "count", _needs(words))


def _plural(shape: str) -> str:
    """Returns the plural of a shape's name."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _existence(scene: Scene, draws: Iterator[float]) -> Question:
    """Returns a question for whether there is a thing of some description; the answer is drawn first."""
    exists = next(draws) < 0.5
    attributes = pick([some for some in DESCRIPTIONS if some != ("size",)], draws)
    near = next(draws) < 0.5
    if exists:
        words = worded(pick(scene.things, draws), attributes)
    else:
        present = {worded(thing, attributes) for thing in scene.things}
        seen = {word for words in present for word in words}
        absent = [words for words in _combined(attributes) if words not in present]
        mixed = [words for words in absent if seen.issuperset(words)]
        words = pick(mixed if near and mixed else absent, draws)
    return Question(_EXISTING.format(say(words, "a")), "yes" if exists else "no", "existence", _needs(words))


@cache
def _combined(attributes: tuple[str, ...]) -> list[Words]:
    """Returns all descriptions by these attributes, without the pairs of shape and colour that are held out."""
    values = product(*(range(len(ATTRIBUTES[name])) for name in attributes))
    every = [dict(zip(attributes, some, strict=True)) for some in values]
    return [tuple(words.items()) for words in every if (words.get("shape"), words.get("colour")) not in HELD_OUT]


def _relation(scene: Scene, draws: Iterator[float]) -> Question | None:
    """Returns a question for how two things lie to each other, or None where there are not two such things."""
    true = next(draws) < 0.5
    described = _described(scene)
    pairs = list(permutations(sorted(described), 2))
    options = [(axis, *pair) for axis in _SIDES for pair in pairs if getattr(pair[0], axis) != getattr(pair[1], axis)]
    if not options:
        return None
    axis, one, other = pick(options, draws)
    first, second = pick(described[one], draws), pick(described[other], draws)
    is_after = getattr(one, axis) > getattr(other, axis)
    side = _SIDES[axis][is_after if true else not is_after]
    text = _RELATING.format(say(first, "the"), side, say(second, "the"))
    return Question(text, "yes" if true else "no", "relation", frozenset((axis,)) | _needs(first, second))


def _motion(scene: Scene, draws: Iterator[float]) -> Question | None:
    """Returns a question for how one thing moves, or None where no thing can be described."""
    described = _described(scene)
    if not described:
        return None
    thing = pick(sorted(described), draws)
    words = pick(described[thing], draws)
    text = pick(MOVING, draws).format(say(words, "the"))
    return Question(text, MOTIONS[thing.motion], "motion", frozenset(("motion",)) | _needs(words))


_ASK: dict[str, Callable[[Scene, Iterator[float]], Question | None]] = {
    "attribute": _attribute,
    "count": _count,
    "existence": _existence,
    "relation": _relation,
    "motion": _motion,
}

_TEMPLATES = (*ASKING.values(), *MOVING, _COUNTING, _EXISTING, _RELATING, *_SIDES["column"], *_SIDES["row"])
QUESTION_VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {word for text in _TEMPLATES for word in text.replace("?", " ?").replace("{}", "").split()}
        | {"a", "an", "the", "thing", "things", *SIZES, *COLOURS, *SHAPES, *map(_plural, SHAPES)}
    )
)
"""Every word and punctuation mark that a question can hold, sorted."""
