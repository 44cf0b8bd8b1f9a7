"""CLIP's vectors in every precision: the same item, the same vector; never those of weights that are gone."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, Unsupported
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip, Config, build, sized
from intermodal.testing import batches, check_embeds
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.optimizer import optimizers

SAMPLES = Diorama("train", size=64).samples(range(12))
WORDS = WordTokenizer(words=Diorama.vocabulary)
ITEMS = [sample[name] for sample in SAMPLES for name in ("text", "image", "timeseries")]
COSINE = {"fp32": 1 - 1e-6, "bf16": 0.999, "int8": 0.99}


def clip(width: int = 64) -> Clip:
    """Returns a model whose pictures are patches and whose tokens are ``width`` wide."""
    torch.manual_seed(0)
    made = sized("tiny", {"text": "text", "image": "image", "timeseries": "timeseries"}, WORDS)
    towers = {
        name: dataclasses.replace(tower, width=width, first=(), channels=()) for name, tower in made.towers.items()
    }
    return build(Config(towers)).eval()


def by_modules(model: Clip) -> torch.Tensor:
    """Returns the vectors of ``ITEMS`` one by one, as training computes them."""
    with torch.no_grad():
        rows = [model.vectors(x.modality, model.preprocessors[x.modality]([x])) for x in ITEMS]
    return torch.cat(rows)


@pytest.mark.parametrize("precision", COSINE)
def test_vectors_are_those_of_the_modules_in_the_callers_order(precision: str) -> None:
    model = clip()
    expected = by_modules(model)
    for size in (1, 5, 64):
        found = model.embed(ITEMS, batch_size=size, precision=precision)
        assert float((found * expected).sum(dim=1).min()) >= COSINE[precision]
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(ITEMS)))
        if precision == "fp32":
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", COSINE)
def test_an_item_has_the_same_vector_alone_and_in_any_company(precision: str) -> None:
    model = clip()
    model.precision = precision
    check_embeds(model, ITEMS)


def test_the_precision_is_the_callers_then_the_models_then_that_of_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(encoder: torch.nn.Module, batch: object, precision: str, *_: object) -> torch.Tensor:
        seen.append(precision)
        return torch.ones(1, int(encoder.width))

    monkeypatch.setattr("intermodal.systems.clip.pooled", spy)
    monkeypatch.setattr("intermodal.runtime.has_bf16", lambda _: True)
    monkeypatch.delenv("INTERMODAL_PRECISION", raising=False)
    for width in (64, 256):
        model = clip(width)
        model.embed(ITEMS[:1])
        model.precision = "int8"
        model.embed(ITEMS[:1])
        model.embed(ITEMS[:1], precision="fp32")
    assert seen == ["fp32", "int8", "fp32", "bf16", "int8", "fp32"]
    with pytest.raises(InvalidValue, match="'fp16' is not known"):
        model.embed(ITEMS[:1], precision="fp16")


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("precision", COSINE)
def test_a_step_of_training_changes_the_vectors(precision: str, name: str) -> None:
    model = clip()
    before = model.embed(ITEMS, precision=precision)
    model.train()
    torch.stack(list(model.losses(batches(model, SAMPLES)).values())).sum().backward()
    for optimizer in optimizers(model, name, 1e-2, 1e-2, 0.0):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        optimizer.step()
    after = model.embed(ITEMS, precision=precision)
    assert model.training
    assert float((before * after).sum(dim=1).max()) < 0.999
    assert float((after * by_modules(model.eval())).sum(dim=1).min()) >= COSINE[precision]


@pytest.mark.parametrize("precision", COSINE)
def test_a_model_that_has_embedded_is_saved_copied_and_sent_as_one_that_has_not(precision: str, tmp_path: Path) -> None:
    model, fresh = clip(), clip()
    model.precision = precision
    rows = model.embed(ITEMS)
    assert model.state_dict().keys() == fresh.state_dict().keys()
    loaded = load_model(save_model(tmp_path / "m", model), precision=precision)
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.precision == precision
        assert torch.equal(other.embed(ITEMS), rows)


def test_a_model_is_loaded_for_a_precision_that_exists_and_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path / "m", clip())
    assert load_model(folder).precision is None
    with pytest.raises(InvalidValue, match="precision 'fp8' is not known; use one of: fp32, bf16, int8"):
        load_model(folder, precision="fp8")
    monkeypatch.setattr("intermodal.saving._loaded", lambda *_: torch.nn.Identity())
    with pytest.raises(Unsupported, match="does not embed, so precision 'int8' means nothing to it"):
        load_model(folder, precision="int8")


def test_words_by_the_hundred_come_back_in_order() -> None:
    model = clip()
    texts = [sample["text"] for sample in Diorama("test", fields=("text",)).samples(range(300))]
    found = model.embed(texts, precision="fp32", batch_size=4)
    for i in range(0, 300, 37):
        torch.testing.assert_close(found[i], model.embed([texts[i]], precision="fp32")[0], rtol=0, atol=1e-5)


def test_centres_are_taken_off_in_every_precision() -> None:
    model = clip()
    images = [x for x in ITEMS if x.modality == "image"]
    for precision, least in COSINE.items():
        plain = model.embed(images, precision=precision)
        model.set_centres({"image": 0.5 * plain.mean(dim=0)})
        found = model.embed(images, precision=precision)
        expected = F.normalize(plain - 0.5 * plain.mean(dim=0), dim=1)
        model.set_centres({"image": torch.zeros(model.config.width)})
        assert float((found * expected).sum(dim=1).min()) >= least
