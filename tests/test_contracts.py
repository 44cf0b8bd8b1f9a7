"""The contract checks over the whole catalogue: a new modality or system is found here by its file."""

from typing import Any

import pytest
import torch

from intermodal import catalog
from intermodal.diorama.source import Diorama
from intermodal.testing import (
    check_embeds,
    check_encoder,
    check_preprocessor,
    check_saves,
    check_trains,
)
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES

FIELDS = {name: name for name in MODALITIES}
SOURCE = Diorama("train", size=64)
SAMPLES = SOURCE.samples(range(8))
TOKENIZER = WordTokenizer(words=Diorama.vocabulary)


def preprocessor(modality: str) -> Any:
    make = catalog.module("modalities", modality).PREPROCESSOR
    return make(tokenizer=TOKENIZER) if modality == "text" else make()


def system(name: str) -> Any:
    torch.manual_seed(0)
    module = catalog.module("systems", name)
    return module.build(module.sized("tiny", FIELDS, TOKENIZER))


def test_every_modality_of_the_contract_has_its_file() -> None:
    assert set(catalog.names("modalities")) == set(MODALITIES)


@pytest.mark.parametrize("modality", catalog.names("modalities"))
def test_preprocessor(modality: str) -> None:
    items = [s[modality] for s in SAMPLES[:3]]
    if modality == "audio":
        items[1] = items[1].cut(0.0, 0.5)
    check_preprocessor(preprocessor(modality), items)


@pytest.mark.parametrize("name", catalog.names("systems"))
def test_system_trains(name: str) -> None:
    check_trains(system(name), SAMPLES)


@pytest.mark.parametrize("name", catalog.names("systems"))
def test_system_embeds_and_saves(name: str) -> None:
    model = system(name)
    items = [sample[field] for sample in SAMPLES[:3] for field in FIELDS]
    check_embeds(model, items)
    check_saves(model, items)


@pytest.mark.parametrize("name", catalog.names("systems"))
@pytest.mark.parametrize("field", FIELDS)
def test_encoders_of_systems(name: str, field: str) -> None:
    model = system(name)
    if field in model.encoders:
        check_encoder(model.encoders[field], model.preprocessors[field]([SAMPLES[0][field], None, SAMPLES[1][field]]))
