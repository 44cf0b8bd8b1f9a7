"""Episodes: a few pictures with texts that show what is wanted, then one more picture, whose text is to be told.

    image_1 "colour ? dapo"   image_2 "colour ? kusi"   ...   image "colour ?" -> kusi

Words: made-up ones of two syllables are bound to four colours, shapes, places, or things (a shape in a colour), drawn
anew in every episode, so that only its own pictures tell what a word means. Styles: captions that name some attributes
in some order, begun, joined and worded in one way throughout an episode, which its captions alone show.

A picture shows one object that stands still. Each split has made-up words, styles and objects that no other split has;
the compositional one has those words and styles of test, and pairs of shape and colour that are in no other. In train
every picture shows any of the four values; elsewhere they come in turn, each once before any comes again, and an
episode with fewer shots is the same with the last shots left out.

The fields ``told`` hold the same in words alone, for a language model: "a small red star . colour ? dapo". Most of the
time the picture is described, but for some attributes that are not needed; in some episodes not at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np

from intermodal.diorama import pictures
from intermodal.diorama.draws import mix, uniform
from intermodal.diorama.scene import CELLS, COLOURS, SHAPES, SIZES, SPLITS, Scene, Scenes, Thing
from intermodal.errors import InvalidValue, UnknownName
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Sample

SHOTS = 8
"""At most."""
BOUND = 4
"""Words of an episode: by guessing one in four is right."""

ATTRIBUTES_OF = {"colour": ("colour",), "shape": ("shape",), "place": ("place",), "thing": ("colour", "shape")}
"""Kind of episode -> what its words are bound to."""
STYLE = "style"
KINDS = (*ATTRIBUTES_OF, STYLE)
QUESTIONS = {**{kind: f"{kind} ?" for kind in ATTRIBUTES_OF}, STYLE: "caption ?"}

FIRST = tuple(f"{a}{b}" for a in "bdgkmpt" for b in "aeou")[:24]
SECOND = tuple(f"{a}{b}" for a in "lnrsvz" for b in "aiou")
"""Syllables of made-up words: 24 of each."""

_SIZE_WORDS = (("small", "little", "tiny"), ("large", "big", "huge"))
_ORDERS = tuple(p for n in (2, 3) for p in permutations(("size", "colour", "shape", "place"), n))
_JOINERS = (" ", " , ", " - ", " and ")
_BEGINS = ("", "look : ", "there is ", "i see ")
_STYLES = len(_ORDERS) * len(_JOINERS) * len(_BEGINS)
_TENTHS = {"train": range(3, 10), "dev": (0,), "test": (1, 2), "compositional": (1, 2)}
_NAMED = 0.4  # how often an attribute that is not needed is described
_SILENT = 0.25  # how many episodes in words alone describe nothing
_DRAWS = 200


def _words() -> tuple[str, ...]:
    """Returns every word and sign that the texts hold, made-up words left out, sorted."""
    plain = [*SHAPES, *COLOURS, *CELLS, *QUESTIONS.values(), *_JOINERS, *_BEGINS, *_SIZE_WORDS[0], *_SIZE_WORDS[1]]
    return tuple(sorted({word for text in plain for word in text.split()} | {"a", "at", "thing", "."}))


PIECES: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *_words(), *FIRST, *(f"##{two}" for two in SECOND))
"""The vocabulary for ``tokenizers/wordpiece.py``: a made-up word is two pieces, so that any of them can be spelt."""


@dataclass(frozen=True)
class Episode:
    """What an episode is about.

    Attributes:
        kind: one of ``KINDS``.
        things: that the pictures show, the one that is asked about last.
        question: what each text begins with.
        answers: what each text ends with.
        options: the made-up words, the right one among them; empty where the answer is a caption.
        described: per picture the attributes that its description in words names; empty for none.
    """

    kind: str
    things: tuple[Thing, ...]
    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...]
    described: tuple[tuple[str, ...], ...]

    def last(self, shots: int) -> "Episode":
        """Returns the same with fewer shots: the first ones."""
        kept = [*range(shots), len(self.things) - 1]
        things, answers = tuple(self.things[i] for i in kept), tuple(self.answers[i] for i in kept)
        described = tuple(self.described[i] for i in kept)
        return Episode(self.kind, things, self.question, answers, self.options, described)


def named(thing: Thing, attribute: str) -> str:
    """Returns what an attribute of a thing is called."""
    if attribute == "place":
        return CELLS[thing.cell]
    options: tuple[str, ...] = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[attribute]
    return options[int(getattr(thing, attribute))]


def described(thing: Thing, attributes: Sequence[str]) -> str:
    """Returns a thing in words; empty for no attributes."""
    if not attributes:
        return ""
    noun = [named(thing, name) for name in ("size", "colour", "shape") if name in attributes]
    noun += [] if "shape" in attributes else ["thing"]
    place = ["at", named(thing, "place")] if "place" in attributes else []
    return " ".join(["a", *noun, *place, "."])


@cache
def things_of(split: str) -> tuple[Thing, ...]:
    """Returns the things that the pictures of a split show."""
    every = [
        Thing(cell, shape, colour, size, 0)
        for cell in range(len(CELLS))
        for shape in range(len(SHAPES))
        for colour in range(len(COLOURS))
        for size in range(len(SIZES))
    ]
    within = Scenes.of([Scene((thing,)) for thing in every]).belongs_to(split)
    return tuple(thing for thing, mine in zip(every, within, strict=True) if mine)


@cache
def words_of(split: str) -> tuple[tuple[str, ...], ...]:
    """Returns the made-up words of a split: for each first syllable at least two."""
    tenths = _TENTHS[split]
    return tuple(
        tuple(f"{one}{two}" for j, two in enumerate(SECOND) if (7 * i + 11 * j) % 10 in tenths)
        for i, one in enumerate(FIRST)
    )


@cache
def styles_of(split: str) -> tuple[int, ...]:
    """Returns the numbers of the styles of a split."""
    tenth = mix(np.arange(1, _STYLES + 1, dtype=np.uint64)) % np.uint64(10)
    return tuple(int(i) for i in np.flatnonzero(np.isin(tenth, list(_TENTHS[split]))))


@cache
def _by_value(split: str, kind: str) -> dict[tuple[str, ...], tuple[Thing, ...]]:
    """Returns what words can be bound to, and the things of the split that are so."""
    found: dict[tuple[str, ...], list[Thing]] = {}
    for thing in things_of(split):
        found.setdefault(tuple(named(thing, name) for name in ATTRIBUTES_OF[kind]), []).append(thing)
    return {value: tuple(things) for value, things in found.items()}


def _some(options: Sequence[Any], count: int, draws: Iterator[float]) -> list[Any]:
    """Returns so many of the options, each at most once, in a drawn order."""
    left = list(options)
    return [left.pop(int(next(draws) * len(left))) for _ in range(count)]


def _values(balanced: bool, draws: Iterator[float]) -> list[int]:
    """Returns which of the values each shot shows, and the picture that is asked about."""
    if not balanced:
        return [int(next(draws) * BOUND) for _ in range(SHOTS + 1)]
    turns = [value for _ in range(-(-SHOTS // BOUND)) for value in _some(range(BOUND), BOUND, draws)]
    return [*turns[:SHOTS], int(next(draws) * BOUND)]


def _bound(split: str, kind: str, balanced: bool, draws: Iterator[float]) -> tuple[list[Thing], list[str], list[str]]:
    """Returns the things of an episode with words, the word of each, and all words."""
    by_value = _by_value(split, kind)
    values = _some(list(by_value), BOUND, draws)
    words = [_some(ways, 1, draws)[0] for ways in _some(words_of(split), BOUND, draws)]
    shown = _values(balanced, draws)
    return [_some(by_value[values[i]], 1, draws)[0] for i in shown], [words[i] for i in shown], words


def _styled(split: str, draws: Iterator[float]) -> tuple[list[Thing], list[str]]:
    """Returns the things of an episode with a style, and the caption of each."""
    number = _some(styles_of(split), 1, draws)[0]
    order, rest = _ORDERS[number % len(_ORDERS)], number // len(_ORDERS)
    joiner, begin = _JOINERS[rest % len(_JOINERS)], _BEGINS[rest // len(_JOINERS)]
    sizes = [_some(ways, 1, draws)[0] for ways in _SIZE_WORDS]
    things = [_some(things_of(split), 1, draws)[0] for _ in range(SHOTS + 1)]
    said = [[sizes[t.size] if name == "size" else named(t, name) for name in order] for t in things]
    return things, [begin + joiner.join(each) for each in said]


def draw_episode(split: str, kinds: Sequence[str], balanced: bool, draws: Iterator[float]) -> Episode:
    """Returns an episode of the most shots.

    Args:
        split: one of ``diorama.scene.SPLITS``.
        kinds: that it may be of.
        balanced: the bound values come in turn.
        draws: numbers in [0, 1).
    """
    kind = _some(kinds, 1, draws)[0]
    needed: tuple[str, ...] = ("size", "colour", "shape", "place")
    options: list[str] = []
    if kind == STYLE:
        things, answers = _styled(split, draws)
    else:
        things, answers, options = _bound(split, kind, balanced, draws)
        needed = ATTRIBUTES_OF[kind]
    silent = next(draws) < _SILENT
    told = []
    for _ in things:
        named_here = [n for n in ("size", "colour", "shape", "place") if next(draws) < _NAMED or n in needed]
        told.append(() if silent else tuple(named_here))
    return Episode(kind, tuple(things), QUESTIONS[kind], tuple(answers), tuple(options), tuple(told))


class Shots:
    """Episodes of one split; sample ``i`` is the same for ever.

    Attributes:
        fields: field name -> modality: ``image_1``, ``text_1`` and so on for the shots, then ``image`` and ``text``.
        split: which words, styles and objects.
        pieces: the vocabulary of its texts.
    """

    pieces = PIECES

    def __init__(
        self,
        split: str = "train",
        fields: Sequence[str] | None = None,
        size: int | None = None,
        seed: int = 0,
        shots: int = SHOTS,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        """Opens a split.

        Args:
            split: train, dev, test or compositional.
            fields: some of those there are; default: all pictures and their texts. ``told_1`` and so on, then ``told``,
                are the episode in words alone.
            size: number of episodes; default a million for training, a thousand else.
            seed: another seed draws other episodes of the same split.
            shots: before the picture that is asked about, 0 to 8.
            kinds: some of ``KINDS``.

        Raises:
            UnknownName: no such split, field or kind.
            InvalidValue: a number of shots or episodes out of range, or no kind.
        """
        if split not in SPLITS:
            raise UnknownName("split of shots", split, SPLITS)
        if not 0 <= shots <= SHOTS or (size is not None and size < 1) or not kinds:
            raise InvalidValue(
                f"{shots} shots in {size} episodes of {len(kinds)} kinds were asked for; give 0 to {SHOTS} shots, at "
                "least 1 episode and 1 kind"
            )
        marks = [*(f"_{i + 1}" for i in range(shots)), ""]
        every = {
            f"{name}{mark}": modality for mark in marks for name, modality in (("image", "image"), ("text", "text"))
        }
        told = {f"told{mark}": "text" for mark in marks}
        for name in fields or ():
            if name not in every | told:
                raise UnknownName(f"field of {shots} shots", name, every | told)
        for kind in kinds:
            if kind not in KINDS:
                raise UnknownName("kind of episode", kind, KINDS)
        self.split, self.kinds, self.shots = split, tuple(kinds), shots
        self.fields = {name: (every | told)[name] for name in fields} if fields else every
        self._size = size or (1_000_000 if split == "train" else 1_000)
        self._seed = seed

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return self._size

    def describe(self) -> dict[str, Any]:
        """Returns what a report should say of this data."""
        about = {"name": "shots", "split": self.split, "count": len(self), "seed": self._seed, "fields": self.fields}
        return about | {"shots": self.shots, "kinds": list(self.kinds)}

    def episodes(self, index: Sequence[int]) -> list[Episode]:
        """Returns the truth behind samples ``index``."""
        ids = np.asarray(index, np.int64) % self._size
        rows = uniform(self._seed, f"shots {self.split} {' '.join(self.kinds)}", ids, _DRAWS).tolist()
        balanced = self.split != "train"
        return [draw_episode(self.split, self.kinds, balanced, iter(row)).last(self.shots) for row in rows]

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the samples ``index``, rendered together."""
        episodes, places = self.episodes(index), self.shots + 1
        marks = [*(f"_{i + 1}" for i in range(self.shots)), ""]
        shown = [i for i, mark in enumerate(marks) if f"image{mark}" in self.fields]
        pixels = iter(self._pictures(episodes, index, shown))
        found: list[Sample] = []
        for episode in episodes:
            told = [f"{described(t, d)} " if d else "" for t, d in zip(episode.things, episode.described, strict=True)]
            made: dict[str, Any] = {}
            for i in range(places):
                text = f"{episode.question} {episode.answers[i]}"
                made |= {f"text{marks[i]}": Text(text), f"told{marks[i]}": Text(told[i] + text)}
                if i in shown:
                    made[f"image{marks[i]}"] = Image(next(pixels))
            found.append({name: made[name] for name in self.fields})
        return found

    def _pictures(self, episodes: Sequence[Episode], index: Sequence[int], shown: Sequence[int]) -> np.ndarray:
        """Returns the pictures at these places of each episode, one episode after the other."""
        things = [episode.things[i] for episode in episodes for i in shown]
        if not things:
            return np.zeros((0, 1, 1, 3), np.uint8)
        places = [SHOTS if i == self.shots else i for i in shown]  # the one asked about is the same after fewer shots
        ids = [int(number) % self._size * (SHOTS + 1) + i for number in index for i in places]
        seed = (self._seed + 1) * 1_009 + SPLITS.index(self.split)
        pixels = pictures.render_images(Scenes.of([Scene((thing,)) for thing in things]), ids, seed)
        pixels.setflags(write=False)
        return pixels
