"""Answers and words of a config: those of the data, the words of the model that it starts from first."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from intermodal.diorama.questions import ANSWERS
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidData
from intermodal.modalities.text import Text
from intermodal.training.recipe import recipe, tokenizer_of
from tests import grounded


class Asked:
    """Pictures with questions and answers."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = answers
        self.fields = {"image": "image", "question": "text", "answer": "text"}

    def __len__(self) -> int:
        return 100

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {"image": grounded.picture("red", "left"), "question": Text("Which zebra?"), "answer": Text(a)}
            for a in (self.answers[i % len(self.answers)] for i in index)
        ]

    def texts(self, field: str, index: Iterable[int]) -> list[str]:
        return [self.answers[i % len(self.answers)] if field == "answer" else "Which zebra?" for i in index]


def test_answers_are_those_of_the_data_the_most_frequent_first() -> None:
    for source in (Asked(("no", "YES", "yes", "top left")),):
        assert recipe("visualbert", source).answers == ("yes", "no", "top left")
    chosen = recipe("visualbert", Asked(("yes",)), changes={"answers": "no,maybe"})
    assert chosen.answers == ("no", "maybe")


def test_answers_of_diorama_are_all_but_the_ways_to_move() -> None:
    source = Diorama("train", fields=("image", "question", "answer"), size=20)
    made = recipe("lxmert", source)
    assert set(made.answers) < set(ANSWERS)
    assert "still" not in made.answers
    every = {sample["answer"].text for sample in source.samples(range(20))}
    assert every <= set(made.answers)
    assert source.choices("image") == ()


def test_words_of_the_model_that_it_starts_from_keep_their_ids() -> None:
    source = Diorama("train", fields=("image", "text"), size=20)
    before = recipe("vilbert", source)
    after = recipe("vilbert", Asked(("yes",)), start=before)
    first = tokenizer_of(before).words
    assert tokenizer_of(after).words[: len(first)] == first
    assert {"which", "zebra"} <= set(tokenizer_of(after).words[len(first) :])
    assert tokenizer_of(None) is None


def test_data_without_answers_is_refused() -> None:
    class Silent(Asked):
        def texts(self, field: str, index: Iterable[int]) -> list[str]:
            return [] if field == "answer" else super().texts(field, index)

    with pytest.raises(InvalidData, match="no sample has an answer in the field 'answer'"):
        recipe("visualbert", Silent(("yes",)))
