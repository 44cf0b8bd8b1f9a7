"""Sentences: a scene in words, from a small grammar with paraphrases, and the exact reader of those sentences.

Every object is one phrase: its noun ("a small red circle"), its place ("at the top left") and, unless it is still
and nothing is said of it, its motion ("moving up"). Forms with a longer place or motion drop the article, so that no
object takes more than ten words and no sentence more than 32 symbols: a batch is as long as its longest text.

The reader takes every sentence of the grammar exactly and much that a person would write besides: other word orders
inside an object, articles, punctuation, capitals, American spelling. It refuses what it would have to guess.
"""

import re
from collections.abc import Iterable
from itertools import chain, pairwise, product

import numpy as np
from numpy.typing import ArrayLike

from intermodal.diorama.draws import uniform
from intermodal.diorama.scene import CELLS, COLOURS, MOTIONS, OBJECTS, SHAPES, SIZES, Scene, Scenes, Thing
from intermodal.errors import UnreadableMedia

# Each list holds the choices for one value; a choice that stands there twice is drawn twice as often.
_SIZES = (("small", "small", "little", "tiny"), ("large", "large", "big", "huge"))
_COLOURS = (
    *((name, name, name, name) for name in COLOURS[:6]),
    ("purple", "purple", "purple", "violet"),
    ("white", "white", "white", "white"),
)
_SHAPES = (
    ("circle", "circle", "circle", "disc"),
    ("square", "square", "square", "square"),
    ("triangle", "triangle", "triangle", "triangle"),
    ("diamond", "diamond", "diamond", "rhombus"),
    ("star", "star", "star", "star"),
    ("cross", "cross", "cross", "plus"),
)


def _ways_to_place(row: str, column: str) -> tuple[tuple[str, ...], ...]:
    """Returns four ways to name a cell in at most three words, four in at most four and four in at most five."""
    other = {"top": "upper", "bottom": "lower"}.get(row, row)
    if row == "middle" and column == "centre":
        return (("in the centre", "in the middle", "at the centre", "at the centre"),) * 3
    if row == "middle":
        short = (f"on the {column}", f"on the {column}", f"at the {column}", f"at middle {column}")
        longer = (f"on the {column}", f"at the {column}", f"at the middle {column}", f"on the {column} side")
        return short, longer, (f"on the {column} side", f"at the {column} edge", f"in the middle {column}", longer[3])
    if column == "centre":
        short = (f"at the {row}", f"at the {row}", f"at {row} centre", f"at {row} centre")
        longer = (f"at the {row}", f"at the {row} centre", f"in the {row} centre", f"in the {row} middle")
        return short, longer, (f"at the {row} edge", *longer[1:])
    short = (f"at {row} {column}", f"at {row} {column}", f"at {row} {column}", f"at {other} {column}")
    longer = (f"at the {row} {column}", f"at the {row} {column}", f"in the {row} {column}", f"in the {other} {column}")
    corner = (*(f"in the {row} {column} corner",) * 3, f"in the {other} {column} corner")
    return short, longer, corner


_PLACES = tuple(zip(*(_ways_to_place(*cell.split()) for cell in CELLS), strict=True))  # by length, cell and way
_MOTIONS = (  # for each length: short <= 2 words, long <= 4
    (
        ("", "", "not moving", "staying still"),
        ("moving left", "moving left", "drifting left", "going left"),
        ("moving right", "moving right", "drifting right", "going right"),
        ("moving up", "going up", "drifting up", "rising"),
        ("moving down", "going down", "drifting down", "sinking"),
    ),
    (
        ("", "", "that stays still", "that is still"),
        *(
            (f"drifting to the {side}", f"moving to the {side}", f"that moves {side}", f"that goes {side}")
            for side in ("left", "right")
        ),
        *(
            (f"drifting {way}wards", f"moving {way}wards", f"that moves {way}", f"that goes {way}")
            for way in ("up", "down")
        ),
    ),
)
_NOUN_PLACE_MOTION, _NOUN_MOTION_PLACE, _PLACE_NOUN_MOTION = range(3)
_FORMS = (  # order of the parts, article, length of place, length of motion, how often in 16
    (_NOUN_PLACE_MOTION, "a", 1, 0, 4),
    (_NOUN_PLACE_MOTION, "a", 0, 0, 3),
    (_NOUN_PLACE_MOTION, "", 2, 0, 2),
    (_NOUN_PLACE_MOTION, "", 0, 1, 2),
    (_NOUN_MOTION_PLACE, "a", 1, 0, 1),
    (_NOUN_MOTION_PLACE, "", 0, 1, 1),
    (_PLACE_NOUN_MOTION, "a", 1, 0, 2),
    (_PLACE_NOUN_MOTION, "a", 0, 0, 1),
)
_DRAWN_FORMS = np.repeat(np.arange(len(_FORMS)), [form[-1] for form in _FORMS])
_JOINERS = (" and", " and", ",", ",", ",", ";", " with", ",", "")
_WITH, _COMMA, _NOTHING = 6, 2, 8

# Flat tables of every part with a leading space, so that rendering is three look-ups and a join for each object.
_NOUNS = [
    f" {size} {colour} {shape}"
    for sizes, colours, shapes in product(_SIZES, _COLOURS, _SHAPES)
    for size, colour, shape in product(sizes, colours, shapes)
]
_ARTICLES = [f" {article}".rstrip() for _, article, *_ in _FORMS]
_PLACE_TEXTS = [f" {text}" for form in _FORMS for cell in _PLACES[form[2]] for text in cell]
_MOTION_TEXTS = [f" {text}".rstrip() for form in _FORMS for motion in _MOTIONS[form[3]] for text in motion]
_ORDERS = [form[0] for form in _FORMS]
_PLACE_FIRST = np.array([form[0] == _PLACE_NOUN_MOTION for form in _FORMS])


def render_texts(scenes: Scenes, index: ArrayLike, seed: int = 0) -> list[str]:
    """Returns one sentence for each scene; wording and the order of the objects depend on ``seed`` and each index.

    Args:
        scenes: N scenes.
        index: N whole numbers, 0 or more.
        seed: another seed words the same scenes otherwise.
    """
    u = uniform(seed, "sentences", index, 9 * OBJECTS)
    order = np.argsort(u[:, :OBJECTS] + ~scenes.present, axis=1)

    def slot(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, order, axis=1)

    def pick(row: int, options: int) -> np.ndarray:
        return (u[:, row * OBJECTS : (row + 1) * OBJECTS] * options).astype(np.int64)

    form = _DRAWN_FORMS[pick(1, len(_DRAWN_FORMS))]
    noun = (slot(scenes.size) * len(COLOURS) + slot(scenes.colour)) * len(SHAPES) + slot(scenes.shape)
    noun = ((noun * 4 + pick(2, 4)) * 4 + pick(3, 4)) * 4 + pick(4, 4)
    place = (form * len(CELLS) + slot(scenes.cell)) * 4 + pick(5, 4)
    motion = (form * len(MOTIONS) + slot(scenes.motion)) * 4 + pick(6, 4)
    joiner = pick(7, _NOTHING)
    joiner[(joiner == _WITH) & _PLACE_FIRST[form]] = _COMMA  # "with at the top a star" is no English
    joiner[:, 0] = _NOTHING
    present = slot(scenes.present)
    rows = [0, *np.cumsum(present.sum(axis=1)).tolist()]
    phrases = [
        _phrase(f, n, p, m)
        for f, n, p, m in zip(*(a[present].tolist() for a in (form, noun, place, motion)), strict=True)
    ]
    joints = [_JOINERS[j] for j in joiner[present].tolist()]
    joined = [joint + phrase for joint, phrase in zip(joints, phrases, strict=True)]
    return ["".join(joined[a:b])[1:] for a, b in pairwise(rows)]


def _phrase(form: int, noun: int, place: int, motion: int) -> str:
    """Returns the phrase of one object with a leading space."""
    order = _ORDERS[form]
    named = _ARTICLES[form] + _NOUNS[noun]
    if order == _NOUN_PLACE_MOTION:
        return named + _PLACE_TEXTS[place] + _MOTION_TEXTS[motion]
    if order == _NOUN_MOTION_PLACE:
        return named + _MOTION_TEXTS[motion] + _PLACE_TEXTS[place]
    return _PLACE_TEXTS[place] + named + _MOTION_TEXTS[motion]


VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {
            symbol
            for texts in (_NOUNS, _ARTICLES, _PLACE_TEXTS, _MOTION_TEXTS, _JOINERS)
            for text in texts
            for symbol in text.split()
        }
    )
)
"""Every word and every punctuation mark that a sentence can hold, sorted."""


def _tree(texts: Iterable[str]) -> str:
    """Returns the alternatives ``texts`` in the JSpeech Grammar Format, with the words they begin with written once."""
    following: dict[str, list[str]] = {}
    ends = False
    for text in sorted(set(texts)):
        word, _, rest = text.partition(" ")
        ends |= not word
        if word:
            following.setdefault(word, []).append(rest)
    some = " | ".join(f"{word} {_tree(rests)}".strip() for word, rests in following.items())
    return "" if not some else f"[{some}]" if ends else f"({some})"


def jsgf() -> str:
    """Returns a grammar in the JSpeech Grammar Format, for a speech recogniser.

    It holds every sentence without its punctuation, which makes no sound. It is kept small by holding more besides: any
    number of objects, and every place with every motion.
    """
    noun = " ".join(_tree(chain(*choices)) for choices in (_SIZES, _COLOURS, _SHAPES))
    rules = (
        f"<noun> = [a] {noun};",
        f"<place> = {_tree(chain(*chain(*_PLACES)))};",
        f"<motion> = {_tree(text for text in chain(*chain(*_MOTIONS)) if text)};",
        "<one> = <noun> (<place> [<motion>] | <motion> <place>) | <place> <noun> [<motion>];",
        "public <scene> = <one> ([and | with] <one>)*;",
    )
    return "\n".join(["#JSGF V1.0;", "grammar diorama;", *rules, ""])


def describe(scene: Scene) -> str:
    """Returns the one canonical sentence of ``scene``: always the same words, objects in the order of their cells."""
    phrases = []
    for thing in scene.things:
        moving = f" moving {MOTIONS[thing.motion]}" if thing.motion else ""
        noun = f"a {SIZES[thing.size]} {COLOURS[thing.colour]} {SHAPES[thing.shape]}"
        phrases.append(f"{noun} {_PLACES[1][thing.cell][0]}{moving}")
    return ", ".join(phrases[:-1]) + (" and " if phrases[1:] else "") + phrases[-1]


_KINDS = ("size", "colour", "shape", "place", "motion")
_SEPARATORS = {";": 4, ".": 4, "and": 3, "with": 3, ",": 2, "a": 1, "an": 1, "another": 1, "one": 1}  # and how strongly
_SEPARATOR, _SEPARATES = "separator", 2
_MEANINGS: dict[str, tuple[str, int]] = {
    word: (kind, value)
    for kind, choices in (("size", _SIZES), ("colour", _COLOURS), ("shape", _SHAPES))
    for value, words in enumerate(choices)
    for word in words
}
_MEANINGS |= dict.fromkeys(("still", "motionless", "stationary", "rest"), ("motion", 0))
_MEANINGS |= dict.fromkeys(("rising", "rises", "up", "upward", "upwards"), ("motion", 3))
_MEANINGS |= dict.fromkeys(("sinking", "sinks", "falling", "falls", "down", "downward", "downwards"), ("motion", 4))
_VERBS = frozenset(("moving", "moves", "drifting", "drifts", "going", "goes", "sliding", "slides", "heading", "heads"))
_WAYS = {
    **dict.fromkeys(("left", "leftward", "leftwards"), 1),
    **dict.fromkeys(("right", "rightward", "rightwards"), 2),
    **dict.fromkeys(("up", "upward", "upwards"), 3),
    **dict.fromkeys(("down", "downward", "downwards"), 4),
}
_WAYS_TO = {**_WAYS, "top": 3, "bottom": 4}  # "moving to the top"
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_CENTRE = frozenset(("middle", "centre", "center", "central"))
_PLACE_FILLERS = frozenset(("corner", "edge", "side"))
_FILLERS = _PLACE_FILLERS | {"the", "there", "is", "are", "it", "that", "which", "stays", "staying", "standing"}
_FILLERS |= {"in", "at", "on", "of", "to", "stands", "picture", "image", "scene", "shows"}
_SYMBOL = re.compile(r"[a-z]+|[,;.]")
_SYMBOLS_MAX = 100  # three times the longest of the grammar; the search for the objects grows with its square
_Slot = tuple[str, int]


def read_text(text: str) -> Scene:
    """Returns the scene that ``text`` describes; motion that is not named is still.

    Exact for every sentence of the grammar. Besides, the parts of an object may come in any order and in pieces ("a red
    circle, small, in the top left corner"); a motion between two objects belongs to the one before.

    Raises:
        UnreadableMedia: a word is not known, something is missing, or something is said twice; the message says what.
    """
    symbols = _SYMBOL.findall(text.lower())
    if len(symbols) > _SYMBOLS_MAX:
        raise UnreadableMedia(f"the text has {len(symbols)} words; a sentence of diorama has at most {_SYMBOLS_MAX}")
    slots = _slots(symbols)
    count = sum(kind == "shape" for kind, _ in slots)
    if not 1 <= count <= OBJECTS:
        raise UnreadableMedia(f"{count} shapes are named in {text[:200]!r}; a scene has 1 to {OBJECTS} objects")
    things = [_thing(group) for group in _groups(slots, count)]
    for i, thing in enumerate(things):
        if any(thing.cell == other.cell for other in things[:i]):
            raise UnreadableMedia(f"two objects stand at the {CELLS[thing.cell]} in {text[:200]!r}; a cell holds one")
    return Scene(tuple(things))


def _slots(symbols: list[str]) -> list[_Slot]:
    """Returns what the symbols say, piece by piece: (kind, value), separators with their strength."""
    slots: list[_Slot] = []
    i = 0
    while i < len(symbols):
        symbol = symbols[i]
        i += 1
        if symbol in _MEANINGS:
            slots.append(_MEANINGS[symbol])
        elif symbol in _SEPARATORS:
            slots.append((_SEPARATOR, _SEPARATORS[symbol]))
        elif symbol in _ROWS or symbol in _COLUMNS or symbol in _CENTRE:
            run = [symbol]
            while i < len(symbols) and (
                symbols[i] in _ROWS or symbols[i] in _COLUMNS or symbols[i] in _CENTRE or symbols[i] in _PLACE_FILLERS
            ):
                run.append(symbols[i])
                i += 1
            slots.append(("place", _cell(run)))
        elif symbol in _VERBS:
            ways, start = _WAYS, i
            while i < len(symbols) and symbols[i] in ("to", "toward", "towards", "the"):
                i += 1
                ways = _WAYS_TO
            if i == len(symbols) or symbols[i] not in ways:
                raise UnreadableMedia(
                    f"no direction is named after {' '.join(symbols[start - 1 : i])!r}; say left, right, up or down"
                )
            slots.append(("motion", ways[symbols[i]]))
            i += 1
        elif symbol == "not" and i < len(symbols) and symbols[i] in _VERBS:
            slots.append(("motion", 0))
            i += 1
        elif symbol not in _FILLERS:
            raise UnreadableMedia(
                f"the word {symbol!r} is not known; the words of diorama are {', '.join(VOCABULARY[2:])}"
            )
    return slots


def _cell(words: list[str]) -> int:
    """Returns the cell that words such as "top", "left" and "corner" name together."""
    rows = {_ROWS[word] for word in words if word in _ROWS}
    columns = {_COLUMNS[word] for word in words if word in _COLUMNS}
    if len(rows) > 1 or len(columns) > 1:
        raise UnreadableMedia(f"the place {' '.join(words)!r} is in two cells at once")
    return 3 * (rows.pop() if rows else 1) + (columns.pop() if columns else 1)


def _groups(slots: list[_Slot], count: int) -> list[list[_Slot]]:
    """Returns the slots of each object.

    Cut at the separators where that gives one shape each; else where the fewest things are missing or said twice,
    then where the separators are strongest, then as late as can be.
    """
    pieces: list[list[_Slot]] = [[]]
    for slot in slots:
        if slot[0] != _SEPARATOR:
            pieces[-1].append(slot)
        elif slot[1] >= _SEPARATES and pieces[-1]:
            pieces.append([])
    pieces = [piece for piece in pieces if piece]
    if len(pieces) == count and all(sum(kind == "shape" for kind, _ in piece) == 1 for piece in pieces):
        return pieces
    shapes = [i for i, (kind, _) in enumerate(slots) if kind == "shape"]
    best: tuple[tuple[int, int, tuple[int, ...]], list[list[_Slot]]] | None = None
    for cuts in product(*(range(a + 1, b + 1) for a, b in pairwise(shapes))):
        edges = (0, *cuts, len(slots))
        groups = [[s for s in slots[a:b] if s[0] != _SEPARATOR] for a, b in pairwise(edges)]
        faults = sum(_faults(group) for group in groups)
        strength = sum(slots[cut][1] for cut in cuts if slots[cut][0] == _SEPARATOR)
        rank = (-faults, strength, cuts)
        if best is None or rank > best[0]:
            best = rank, groups
    assert best is not None  # the product has at least one element, because every two shapes have a place between them
    return best[1]


def _faults(group: list[_Slot]) -> int:
    """Returns how many things are missing or said twice."""
    counts = dict.fromkeys(_KINDS, 0)
    for kind, _ in group:
        counts[kind] += 1
    return sum(max(n - 1, 0) if kind == "motion" else abs(n - 1) for kind, n in counts.items())


def _thing(group: list[_Slot]) -> Thing:
    """Returns the object that the slots describe."""
    said = dict(group)
    names = (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES))
    noun = " ".join(values[said[kind]] for kind, values in names if kind in said)
    for kind in _KINDS:
        if kind not in said and kind != "motion":
            raise UnreadableMedia(f"no {kind} is named for the {noun}")
        if sum(slot[0] == kind for slot in group) > 1:
            raise UnreadableMedia(f"more than one {kind} is named for the {noun}")
    return Thing(
        cell=said["place"], shape=said["shape"], colour=said["colour"], size=said["size"], motion=said.get("motion", 0)
    )
