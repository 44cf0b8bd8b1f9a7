"""Roles of fields, and how answers and scores are asked for; the systems over it are tested by themselves."""

import pytest
import torch

from intermodal.decoders.asking import Roles, answer_ids, preprocessors, roles_of
from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.tokenizers.word import WordTokenizer

ASKED = {"question": "text", "answer": "text"}


@pytest.mark.parametrize(
    ("fields", "roles"),
    [
        ({"image": "image", "text": "text"}, Roles("image", "text")),
        ({"photo": "image", "caption": "text"}, Roles("photo", "caption")),
        ({"image": "image", **ASKED}, Roles("image", "", "question", "answer")),
        ({"image": "image", "mask": "image", "text": "text", "phrase": "text"}, Roles("image", "text")),
        ({"audio": "audio", "image": "image", "text": "text", **ASKED}, Roles("image", "text", "question", "answer")),
        ({"image": "image", "question": "text"}, Roles("image", "question")),
    ],
)
def test_roles_by_name_and_modality(fields: dict[str, str], roles: Roles) -> None:
    if roles.caption == "question":  # without answers a question is no question to learn from
        with pytest.raises(Unsupported, match="of text the data has none"):
            roles_of("some", fields)
    else:
        assert roles_of("some", fields) == roles


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"text": "text"}, "of image the data has none"),
        ({"image": "image"}, "of text the data has none"),
        ({"a": "image", "b": "image", "text": "text"}, "of image the data has a, b"),
        ({"image": "image", "a": "text", "b": "text"}, "of text the data has a, b"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(fields: dict[str, str], sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence):
        roles_of("some", fields)


@pytest.mark.parametrize("names", [("", "text"), ("image", "image"), ("image", "", "question", ""), ("image",)])
def test_impossible_roles_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue):
        Roles(*names)


def test_answers_are_numbers_of_a_list() -> None:
    text = TextPreprocessor(WordTokenizer(words=("what",)))
    made = preprocessors(Roles("image", "", "question", "answer"), ImagePreprocessor(), text, ("yes", "top left"))
    assert list(made) == ["question", "image", "answer"]
    batch = made["answer"]([Text("Top  left"), None, Text("no"), Text("yes")])
    assert answer_ids(batch).tolist() == [1, -1, -1, 0]
    assert answer_ids(made["answer"]([None, None])).tolist() == [-1, -1]
    assert answer_ids(batch).dtype == torch.int64
