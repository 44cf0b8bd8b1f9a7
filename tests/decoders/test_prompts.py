"""Prompts: which text goes with which picture, and which words look at which."""

import numpy as np
import pytest
import torch

from intermodal.decoders.prompts import Slots, paired, row_of, sequences
from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Batch

PICTURES = [Image(np.full((4, 4, 3), i, np.uint8)) for i in range(3)]


def test_every_picture_has_the_text_right_after_it() -> None:
    assert paired(["image", "text", "image", "text"]) == [(0, 1), (2, 3)]
    assert paired(["text", "text"]) == [(None, 0), (None, 1)]
    assert paired(["image", "image", "text", "text"]) == [(0, None), (1, 2), (None, 3)]
    assert paired(["text", "video"]) == [(None, 0), (1, None)]
    assert paired([]) == []


def test_shots_follow_each_other_by_their_numbers() -> None:
    names = ("text", "image", "text_10", "text_2", "image_2", "image_10", "video")
    fields = {name: name.partition("_")[0] for name in names}
    assert sequences(fields) == (
        ("image_2", "text_2", "image_10", "text_10", "image", "text"),
        ("text_2", "text_10", "video", "text"),
    )


def test_a_prompt_ends_with_the_text_that_is_asked_for() -> None:
    one, two, three = PICTURES
    row = row_of({"a": one, "b": Text("x"), "c": two, "d": three}, 8)
    assert row == [(one, Text("x")), (two, Text("")), (three, None)]
    assert row_of({}, 8) == [(None, None)]
    assert row_of({"a": Text("x")}, 8) == [(None, Text("x")), (None, None)]


def test_prompts_without_place_or_of_other_things_are_refused() -> None:
    prompt = {str(i): picture for i, picture in enumerate(PICTURES)}
    with pytest.raises(InvalidValue, match="3 pictures and texts takes 3 places and the model has 2"):
        row_of(prompt, 2)
    with pytest.raises(Unsupported, match="this one has audio"):
        row_of({"sound": Audio(np.zeros((1, 8), np.float32), 8000)}, 8)


def slots() -> Slots:
    """Returns two prompts of three slots, of the first of which the second has no picture, of the second both."""
    there = torch.tensor([[True, False, True], [False, True, True]])
    text = Batch(torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.bool))
    return Slots(torch.zeros(2, 3, 2, 4), there, (text, text, text))


def test_a_word_sees_the_last_picture_before_it() -> None:
    slot = torch.tensor([[0, 1, 2], [0, 1, 2]])
    seen = slots().allowed(slot)[..., ::2].long().tolist()  # every picture has two tokens
    assert seen == [[[1, 0, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]]]


def test_or_all_before_it() -> None:
    slot = torch.tensor([[0, 1, 2], [0, 1, 2]])
    seen = slots().allowed(slot, all_before=True)[..., 1::2].long().tolist()
    assert seen == [[[1, 0, 0], [1, 0, 0], [1, 0, 1]], [[0, 0, 0], [0, 1, 0], [0, 1, 1]]]
