"""Samples with holes become batches with rows that are marked as absent."""

import numpy as np
import pytest
import torch

from intermodal.data.collate import collate
from intermodal.errors import InvalidData
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.tokenizers.byte import ByteTokenizer

PREPROCESSORS = {"image": ImagePreprocessor(8, 8, 4), "question": TextPreprocessor(ByteTokenizer())}
PICTURE = Image(np.full((8, 8, 3), 200, np.uint8))


def test_a_missing_item_is_a_row_that_is_absent() -> None:
    batch = collate(
        [{"image": PICTURE}, {"question": Text("why")}, {"image": PICTURE, "question": Text("a")}], PREPROCESSORS
    )
    assert list(batch) == ["image", "question"]
    assert batch["image"].present.tolist() == [True, False, True]
    assert batch["question"].present.tolist() == [False, True, True]
    assert batch["image"].values.shape == (3, 3, 8, 8)
    assert torch.equal(batch["image"].values[0], batch["image"].values[2])


def test_a_field_that_nobody_has_is_there_and_other_fields_are_not() -> None:
    batch = collate([{"question": Text("why"), "speaker": Text("me")}] * 2, PREPROCESSORS)
    assert list(batch) == ["image", "question"]
    assert len(batch["image"]) == 2
    assert not batch["image"].mask.any()


def test_a_row_does_not_depend_on_the_others() -> None:
    texts = ["a", "longer than the others", "bb"]
    together = collate([{"question": Text(t)} for t in texts], PREPROCESSORS)["question"]
    for row, text in enumerate(texts):
        alone = collate([{"question": Text(text)}], PREPROCESSORS)["question"]
        assert together.values[row][together.mask[row]].tolist() == alone.values[0][alone.mask[0]].tolist()


def test_an_item_of_another_modality_is_refused() -> None:
    with pytest.raises(InvalidData, match="'image' holds an item of modality text, but its preprocessor takes image"):
        collate([{"image": Text("no picture")}], PREPROCESSORS)


def test_no_samples_are_refused() -> None:
    with pytest.raises(InvalidData, match="no samples"):
        collate([], PREPROCESSORS)
