"""Published sentence encoders, made with random weights, against the library that wrote them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import intermodal as im
from intermodal.adapters._frozen import of_model
from intermodal.types import Embeds, Scores
from tests import published

TEXTS = ("a photo of the cat", "the dog barks", "what is a red house of the cat of the dog")
ITEMS = [im.Text(text) for text in TEXTS]


def write(folder: Path) -> Any:
    """Writes a sentence encoder and returns the network in it."""
    library = published.library()
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = published.word_tokenizer(specials, lower=True, eos_token="[SEP]", **names)
    config = library.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
    )
    torch.manual_seed(0)
    network = published.shaken(library.BertModel(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    parts = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(parts))
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "sentences"
    return folder, write(folder)


def pooling(folder: Path, target: Path, **told: bool) -> Path:
    copy = shutil.copytree(folder, target)
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(told))
    return copy


@pytest.mark.peer
def test_vectors_are_the_means_of_the_tokens_of_the_library(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, network = made
    tokenizer = published.library().PreTrainedTokenizerFast.from_pretrained(folder)
    words = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = network(**words, output_hidden_states=True).hidden_states
    mask = words["attention_mask"][..., None]
    model = im.load(folder)
    assert isinstance(model, Embeds)
    assert isinstance(model, Scores)
    means = [(x * mask).sum(dim=1) / mask.sum(dim=1) for x in states]
    assert torch.allclose(model.embed(ITEMS), F.normalize(means[-1], dim=1), atol=1e-5)
    assert torch.allclose(model.states(ITEMS).pooled, torch.cat(means, dim=1), atol=1e-5)
    first = im.load(pooling(folder, tmp_path / "first", pooling_mode_cls_token=True))
    assert torch.allclose(first.embed(ITEMS), F.normalize(states[-1][:, 0], dim=1), atol=1e-5)


@pytest.mark.peer
def test_as_a_frozen_encoder_it_tells_each_layer_and_each_token(made: tuple[Path, Any]) -> None:
    one = of_model(made[0])
    assert one.modality == "text"
    assert one.shape(ITEMS[0]) == (16, 3)  # words, and two layers
    batch, alone = one(ITEMS), one(ITEMS[:1])
    count = int(alone.mask.sum())
    assert count == 3 + 7  # five words between two marks
    assert torch.allclose(batch.values[0, :, :count], alone.values[0], atol=1e-5)


@pytest.mark.peer
def test_loading_is_strict(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder = made[0]
    published.check_strict(folder, tmp_path)
    copy = shutil.copytree(folder, tmp_path / "plain")
    shutil.rmtree(copy / "1_Pooling")
    assert "not trained to place sentences" in published.refused(copy)
    assert "pooling_mode_max_tokens" in published.refused(
        pooling(folder, tmp_path / "max", pooling_mode_max_tokens=True)
    )
    (shutil.copytree(folder, tmp_path / "dense") / "modules.json").write_text('[{"type": "a.b.Dense"}]')
    assert "the parts Dense" in published.refused(tmp_path / "dense")
    (shutil.copytree(folder, tmp_path / "torn") / "modules.json").write_text("{")
    assert "cannot be read" in published.refused(tmp_path / "torn")
