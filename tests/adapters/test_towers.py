"""Towers as plain functions of tensors, and the items that they are tried with."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from intermodal.adapters import _towers
from intermodal.encoders.tower import tiny
from intermodal.errors import UnknownName, Unsupported
from intermodal.saving import save_model
from intermodal.systems import clip, vae_gan
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES, Batch

WORDS = WordTokenizer(words=("a", "circle", "red", "small"))


@pytest.fixture(scope="module")
def small() -> clip.Clip:
    torch.manual_seed(0)
    return clip.build(clip.Config({name: tiny(name, WORDS) for name in MODALITIES}, 8)).eval()


@pytest.mark.parametrize("field", MODALITIES)
def test_a_tower_gives_what_embed_gives(small: clip.Clip, field: str) -> None:
    tower = _towers.tower_of(small, field)
    items = _towers.items_for(tower.preprocessor)
    batch: Batch = tower.preprocessor(items)
    with torch.no_grad():
        found = F.normalize(tower.vectors(batch), dim=-1)
    assert torch.allclose(found, small.embed(items, fields=field, precision="fp32"), atol=1e-5)
    assert len({id(p) for part in tower.parts for p in part.parameters()}) < len(list(small.parameters()))
    assert tower.modality == field


@pytest.mark.parametrize("field", ["text", "audio", "timeseries"])
def test_items_are_short_and_long(small: clip.Clip, field: str) -> None:
    prepare = _towers.tower_of(small, field).preprocessor
    counts = prepare(_towers.items_for(prepare)).mask.sum(dim=1).tolist()
    assert len(set(counts)) >= 5
    assert counts[0] < max(counts) / 4
    assert counts[1] == max(counts)
    if field == "text":
        assert counts[1] == 64


def test_vectors_are_compared_in_fp32_whatever_was_chosen(small: clip.Clip, tmp_path: Path) -> None:
    tower = _towers.load(save_model(tmp_path / "clip", small), "text")
    items = _towers.items_for(tower.preprocessor)
    tower.model.precision = "int8"
    assert torch.equal(tower.embed(items), small.embed(items, precision="fp32"))
    assert tower.model.precision == "int8"


def test_what_has_no_towers_is_told(small: clip.Clip) -> None:
    with pytest.raises(UnknownName, match="use one of: audio, image, text, timeseries, video"):
        _towers.tower_of(small)
    fields = {"image": "image", "text": "text"}
    with pytest.raises(Unsupported, match="a VaeGan does not embed"):
        _towers.tower_of(vae_gan.build(vae_gan.sized("tiny", fields, WORDS)))
