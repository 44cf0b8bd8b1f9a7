"""Renderings that ask for something, and what is wanted: questions and answers, pointing, restyling.

    question, answer              about what a picture shows: every kind but motion
    clip_question, clip_answer    about what a clip shows: every kind
    joint_question, joint_answer  about what a picture and a series tell together, and steps to it (see ``joining``)
    phrase, mask, tone            one object of the scene: in words, in the picture, by its sound (see ``pointing``)
    palette, restyled             another picture's colour, and the picture in that colour (see ``restyling``)

A question about motion is never paired with a picture, which would teach guessing. ``mask`` and ``restyled`` belong to
the rendering ``image`` of the same sample: same places, same scale.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from intermodal.diorama import joining, pointing, restyling
from intermodal.diorama.pictures import silhouettes
from intermodal.diorama.questions import (
    ANSWERS,
    KINDS,
    QUESTION_VOCABULARY,
    Question,
    draw_questions,
    kinds_answerable_from,
)
from intermodal.diorama.scene import CELLS, COLOURS, MOTIONS, SHAPES, Scenes
from intermodal.diorama.sounds import RATE_HZ
from intermodal.errors import UnknownName
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Item

TASKS = {
    "question": "text",
    "answer": "text",
    "clip_question": "text",
    "clip_answer": "text",
    "joint_question": "text",
    "joint_answer": "text",
    "phrase": "text",
    "mask": "image",
    "tone": "audio",
    "palette": "image",
    "restyled": "image",
}
"""Every field of this kind and its modality."""

ASKING = {"question": kinds_answerable_from("image"), "clip_question": KINDS, "joint_question": joining.KINDS}
"""The fields with questions, and the kinds of them."""

CHOICES: dict[str, tuple[str, ...]] = {
    "answer": tuple(each for each in ANSWERS if each not in MOTIONS),
    "clip_answer": ANSWERS,
}
CHOICES["joint_answer"] = (*MOTIONS, *COLOURS, *SHAPES, *CELLS)
"""The fields with answers, and every answer that there is in them."""

_ANSWERED = {"answer": "question", "clip_answer": "clip_question", "joint_answer": "joint_question"}
_POINTING = frozenset(("phrase", "mask", "tone"))
_RESTYLING = frozenset(("palette", "restyled"))

TASK_VOCABULARY: tuple[str, ...] = tuple(
    sorted({*QUESTION_VOCABULARY, "at", "moving", *(word for answer in ANSWERS for word in answer.split())})
)
"""Every word and punctuation mark that the texts of these fields can hold, sorted."""


def draw_asked(field: str, scenes: Scenes, ids: NDArray[np.int64], seed: int) -> list[Question]:
    """Returns the question about each scene that a field with questions holds.

    Raises:
        UnknownName: another field.
    """
    if field not in ASKING:
        raise UnknownName("field with questions", field, ASKING)
    if field == "joint_question":
        return joining.draw_joined(scenes, ids, seed)
    return draw_questions(scenes, ids, seed, ASKING[field])


def render_tasks(
    fields: Collection[str], split: str, scenes: Scenes, ids: NDArray[np.int64], seed: int
) -> dict[str, list[Item]]:
    """Returns those of ``TASKS`` that are among ``fields``, one item for each scene; what they share is drawn once.

    Args:
        fields: names of fields; others are left out.
        split: that the scenes are of.
        scenes: N scenes.
        ids: N whole numbers, 0 or more, that all is drawn from.
        seed: that of the scenes' pictures.
    """
    made: dict[str, list[Item]] = {}
    for answer, question in _ANSWERED.items():
        if answer in fields or question in fields:
            asked = draw_asked(question, scenes, ids, seed)
            made[question] = [Text(each.text) for each in asked]
            made[answer] = [Text(each.answer) for each in asked]
    if not _POINTING.isdisjoint(fields):
        made |= _render_pointing(fields, scenes, ids, seed)
    if not _RESTYLING.isdisjoint(fields):
        drawn = restyling.draw_restyling(split, scenes, ids, seed)
        if "palette" in fields:
            made["palette"] = _pictures(restyling.render_palettes(drawn, ids, seed))
        if "restyled" in fields:
            made["restyled"] = _pictures(restyling.render_restyled(drawn, ids, seed))
    return {name: items for name, items in made.items() if name in fields}


def _render_pointing(
    fields: Collection[str], scenes: Scenes, ids: NDArray[np.int64], seed: int
) -> dict[str, list[Item]]:
    """Returns those of phrase, mask and tone that are asked for."""
    made: dict[str, list[Item]] = {}
    slot, _ = pointing.choose(scenes, ids, seed)
    if "phrase" in fields:
        made["phrase"] = [Text(words) for words in pointing.phrases(scenes, slot, ids, seed)]
    if "mask" in fields:
        made["mask"] = _pictures(np.repeat(silhouettes(scenes, slot, ids, seed)[..., None] * np.uint8(255), 3, axis=3))
    if "tone" in fields:
        sounds = pointing.render_tones(scenes, slot, ids, seed + 1)  # so that it varies apart from the scene's sound
        sounds.setflags(write=False)
        made["tone"] = [Audio(samples, RATE_HZ) for samples in sounds]
    return made


def _pictures(pixels: NDArray[np.uint8]) -> list[Item]:
    """Returns the pictures as items that hold views of ``pixels``."""
    pixels.setflags(write=False)
    return [Image(each) for each in pixels]
