"""What published models that came of BERT share: settings, vocabularies and tied weights, each refused by name."""

import json
from pathlib import Path

import pytest
import torch

from intermodal.adapters import _bert
from intermodal.adapters._files import Weights
from intermodal.errors import InvalidCheckpoint
from tests import word_pieces

KNOWN = {"width": 8, "act": "gelu", "bypass": False, "dropout": 0.1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 0}, "width 0; expected a whole number of at least 1"),
        ({"width": "8"}, "width '8'; expected a whole number"),
        ({"act": "relu"}, "act 'relu'; expected 'gelu'"),
        ({"bypass": True}, "bypass True; expected False"),
        ({"dropout": 1.0}, "dropout 1.0; expected a number from 0 to below 1"),
        ({"architectures": ["Other"]}, "was written by Other; of this type the package reads Kind"),
    ],
)
def test_settings_that_are_not_followed_are_named(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Kind"], **change}))
    with pytest.raises(InvalidCheckpoint, match=sentence):
        _bert.settings_of(tmp_path, "Kind", KNOWN)


def test_settings_that_are_not_told_are_usual(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"width": 16, "other": 1}))
    assert _bert.settings_of(tmp_path, "Kind", KNOWN) == {**KNOWN, "width": 16}


def test_the_vocabulary_has_to_be_that_of_the_weights(tmp_path: Path) -> None:
    word_pieces.write(tmp_path)
    rows = len(word_pieces.PIECES)
    assert _bert.texts_of(tmp_path, rows, 9).tokenizer.vocab_size == rows
    with pytest.raises(InvalidCheckpoint, match=f"vocabulary of {rows} pieces and weights for 7"):
        _bert.texts_of(tmp_path, 7, 9)


def test_what_is_held_twice_has_to_be_the_same() -> None:
    value = torch.randn(3, 2)
    weights = Weights({"again": value.clone(), "other": value + 1})
    _bert.tied(weights, "again", value)
    _bert.tied(weights, "absent", value)
    assert not weights.problems
    _bert.tied(weights, "other", value)
    assert weights.problems == ["other differs from what it is tied to"]
    assert not weights.left
