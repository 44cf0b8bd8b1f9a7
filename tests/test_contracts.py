"""The contract checks over the whole catalogue: a new modality or system is found here by its file."""

import dataclasses
from typing import Any

import pytest
import torch

from intermodal import catalog
from intermodal.diorama.source import Diorama
from intermodal.testing import (
    check_codes,
    check_embeds,
    check_encoder,
    check_predicts,
    check_preprocessor,
    check_saves,
    check_trains,
    check_translates,
)
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES, Codes, Embeds, Predicts, Translates

FIELDS = {name: name for name in MODALITIES}
SOURCE = Diorama("train", size=64)
SAMPLES = SOURCE.samples(range(8))
TOKENIZER = WordTokenizer(words=Diorama.vocabulary)


def preprocessor(modality: str) -> Any:
    make = catalog.module("modalities", modality).PREPROCESSOR
    return make(tokenizer=TOKENIZER) if modality == "text" else make()


def cases() -> list[Any]:
    """Returns each system with the fields it is tested on: all five, or one after the other where it takes only one."""
    found = []
    for name in catalog.names("systems"):
        one = getattr(catalog.module("systems", name), "ONE_OF", None)
        for fields in [FIELDS] if one is None else [{field: field} for field in one]:
            found.append(pytest.param(name, fields, id=name if one is None else f"{name}-{next(iter(fields))}"))
    return found


def system(name: str, fields: dict[str, str]) -> Any:
    torch.manual_seed(0)
    module = catalog.module("systems", name)
    config = module.sized("tiny", fields, TOKENIZER)
    if hasattr(config, "longest"):  # what has not learnt to end writes as much as it may
        config = dataclasses.replace(config, longest=3)
    return module.build(config)


def test_every_modality_of_the_contract_has_its_file() -> None:
    assert set(catalog.names("modalities")) == set(MODALITIES)


@pytest.mark.parametrize("modality", catalog.names("modalities"))
def test_preprocessor(modality: str) -> None:
    items = [s[modality] for s in SAMPLES[:3]]
    if modality == "audio":
        items[1] = items[1].cut(0.0, 0.5)
    check_preprocessor(preprocessor(modality), items)


@pytest.mark.parametrize(("name", "fields"), cases())
def test_system_trains(name: str, fields: dict[str, str]) -> None:
    check_trains(system(name, fields), SAMPLES)


@pytest.mark.parametrize(("name", "fields"), cases())
def test_system_does_what_it_can_and_saves(name: str, fields: dict[str, str]) -> None:
    model = system(name, fields)
    items = [sample[field] for sample in SAMPLES[:3] for field in fields if field in model.preprocessors]
    if isinstance(model, Embeds):
        check_embeds(model, items)
    if isinstance(model, Codes):
        check_codes(model, items)
    if isinstance(model, Predicts):
        check_predicts(model, SAMPLES[:3])
    if isinstance(model, Translates):
        check_translates(model, items)
    check_saves(model, items)


@pytest.mark.parametrize(("name", "fields"), cases())
def test_encoders_of_systems(name: str, fields: dict[str, str]) -> None:
    model = system(name, fields)
    for field, encoder in getattr(model, "encoders", {}).items():
        check_encoder(encoder, model.preprocessors[field]([SAMPLES[0][field], None, SAMPLES[1][field]]))
