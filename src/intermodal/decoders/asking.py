"""What a system of pictures and words is given and asked: which field is what, answers, and whether two things match.

captions    image, text                 what is learnt before: masked words and regions, matching
questions   image, question, answer     what is learnt after: answers, each one of a list
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from intermodal import catalog
from intermodal.errors import InvalidValue, Unsupported
from intermodal.types import Batch, Item, Sample

ROWS = 128
"""Samples that are read together."""
QUESTION, ANSWER = "question", "answer"
FIRST_ANSWER = 4
"""The id of the first answer in a list: see ``tokenizers/whole.py``."""

Pair = tuple[Any, Any]
"""A picture and a text, either of which may be absent."""


@dataclass(frozen=True)
class Roles:
    """Which field is what; an empty name where there is none.

    Attributes:
        image: the picture, or the regions that were found in it.
        caption: a sentence about it.
        question: a question about it.
        answer: its answer.
    """

    image: str = "image"
    caption: str = ""
    question: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        """Checks that there is something to learn."""
        named = [name for name in (self.image, self.caption, self.question, self.answer) if name]
        if not self.image or len(set(named)) < len(named) or bool(self.question) != bool(self.answer):
            raise InvalidValue(f"{self} is impossible; give an image, and different names, question and answer both")
        if not self.caption and not self.question:
            raise InvalidValue("there are neither captions nor questions to learn from; give a field of one of both")


def roles_of(system: str, fields: Mapping[str, str]) -> Roles:
    """Returns the roles of fields (field name -> modality): by the names question and answer, the rest by modality.

    Raises:
        Unsupported: there is no picture and no text to learn from, or there are several and none has the usual name.
    """
    asked = all(fields.get(name) == "text" for name in (QUESTION, ANSWER))
    texts = [name for name, modality in fields.items() if modality == "text" and name not in (QUESTION, ANSWER)]
    images = [name for name, modality in fields.items() if modality == "image"]
    for kind, found, least in (("image", images, 1), ("text", texts, 0 if asked else 1)):
        if len(found) < least or (len(found) > 1 and kind not in found):
            raise Unsupported(
                f"{system} learns from one image with a text, or with question and answer; of {kind} the data has "
                f"{', '.join(found) or 'none'}; choose with --fields"
            )
    image, caption = ("image" if "image" in images else images[0]), ("text" if "text" in texts else "".join(texts))
    return Roles(image, caption, *((QUESTION, ANSWER) if asked else ("", "")))


def preprocessors(roles: Roles, image: Any, text: Any, answers: Sequence[str]) -> dict[str, Any]:
    """Returns the preprocessor of each field that has a role; answers are read as one id each.

    Raises:
        InvalidValue: there are questions and no answers to choose from.
    """
    made = {name: text for name in (roles.caption, roles.question) if name}
    made[roles.image] = image
    if roles.answer:
        if not answers:
            raise InvalidValue("there are questions and no answers to choose from; give the list 'answers'")
        whole = catalog.module("tokenizers", "whole").TOKENIZER(tuple(answers))
        made[roles.answer] = catalog.module("modalities", "text").PREPROCESSOR(whole, 3)
    return made


def answer_ids(batch: Batch) -> Int64[Tensor, " B"]:
    """Returns the number of each row's answer in the list; below 0 where it has none, or one that is not there."""
    if batch.values.shape[1] < 2:  # of no row is there any
        return torch.full((len(batch),), -1, device=batch.mask.device)
    return torch.where(batch.mask[:, 1], batch.values[:, 1] - FIRST_ANSWER, -1)


def answerable(roles: Roles, batch: Mapping[str, Batch]) -> tuple[Batch, Batch, Int64[Tensor, " B"]]:
    """Returns the questions of a batch that have an answer of the list, their pictures, and the answers' numbers."""
    wanted = answer_ids(batch[roles.answer])
    rows = batch[roles.question].present & (wanted >= 0)
    return batch[roles.question].rows(rows), batch[roles.image].rows(rows), wanted[rows]


@torch.no_grad()
def found(
    model: nn.Module, compute: Callable[[Batch, Batch], Tensor], field: str, pairs: Sequence[Pair]
) -> Float[Tensor, "N ..."]:
    """Returns what ``compute`` gives for texts and pictures, row by row, in eval mode.

    Args:
        model: a system with ``preprocessors`` and ``config.roles``.
        compute: (texts, pictures) -> one row each.
        field: that the texts are of.
        pairs: N pictures and texts.
    """
    one: Any = model
    training, device = model.training, next(model.parameters()).device
    model.eval()
    parts = []
    for start in range(0, len(pairs), ROWS):
        pictures, texts = zip(*pairs[start : start + ROWS], strict=True)
        shown, said = one.preprocessors[one.config.roles.image](pictures), one.preprocessors[field](texts)
        parts.append(compute(said.to(device), shown.to(device)).float())
    model.train(training)
    return torch.cat(parts)


def answered(
    model: nn.Module, compute: Callable[[Batch, Batch], Tensor], samples: Sequence[Sample], questions: Sequence[str]
) -> list[str]:
    """Returns the likeliest answer to a question about each sample; what a sample has beside a picture is not read.

    Args:
        model: a system with ``preprocessors`` and ``config.roles``.
        compute: (questions, pictures) -> one logit for each answer.
        samples: N; one without a picture is answered from the question alone.
        questions: N.

    Raises:
        Unsupported: it has learnt no answers, or what should be the picture is none.
    """
    roles: Roles = model.config.roles  # type: ignore[union-attr, assignment]
    if not roles.question:
        raise Unsupported("this model has learnt no answers; train it further on the fields image, question and answer")
    text = catalog.module("modalities", "text").ITEM
    given = [sample.get(roles.image) for sample in samples]
    _check(model, given)
    asked: list[Pair] = list(zip(given, (text(words) for words in questions), strict=True))
    if not asked:
        return []
    answers: tuple[str, ...] = model.config.answers  # type: ignore[union-attr, assignment]
    return [answers[i] for i in found(model, compute, roles.question, asked).argmax(dim=1).tolist()]


def scored(
    model: nn.Module, compute: Callable[[Batch, Batch], Tensor], a: Sequence[Item], b: Sequence[Item]
) -> Float[Tensor, "A B"]:
    """Returns how well each of ``a`` and each of ``b`` match, of which the ones are pictures and the others texts.

    Args:
        model: a system with ``preprocessors`` and ``config.roles``.
        compute: (texts, pictures) -> one number.
        a: pictures or texts.
        b: the others.

    Raises:
        Unsupported: it has learnt no matching, or these are not pictures and texts.
    """
    roles: Roles = model.config.roles  # type: ignore[union-attr, assignment]
    if not hasattr(model, "match"):
        raise Unsupported("this model has not learnt what matches; train it on the fields image and text")
    if not a or not b:
        return torch.zeros(len(a), len(b))
    first_is_text = a[0].modality == "text"
    _check(model, b if first_is_text else a)
    texts = a if first_is_text else b
    if any(item.modality != "text" for item in texts):
        raise Unsupported(f"matched are pictures and texts, not {a[0].modality} and {b[0].modality}; give one of each")
    pairs: list[Pair] = [(y, x) if first_is_text else (x, y) for x in a for y in b]
    return found(model, compute, roles.caption, pairs).view(len(a), len(b))


def _check(model: nn.Module, pictures: Sequence[Item | None]) -> None:
    """Raises where something is no picture, or whatever else this model reads regions from."""
    one: Any = model
    wanted = one.preprocessors[one.config.roles.image].modality
    for item in pictures:
        if item is not None and item.modality != wanted:
            raise Unsupported(f"this model reads {wanted} with words, not {item.modality}; give {wanted}")
