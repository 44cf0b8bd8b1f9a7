"""What is written for other libraries is the same model there: vectors, ids and what is refused."""

import hashlib
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.adapters import _layouts
from intermodal.encoders.tower import tiny
from intermodal.errors import InvalidValue, Unsupported
from intermodal.fetching import OPEN_CLIP, OPEN_CLIP_WEIGHTS
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip, Config, build
from intermodal.tokenizers.bpe import BPETokenizer
from tests import published
from tests.adapters import test_clip as other

ROOT = Path(__file__).parents[2]
TEXTS = [im.Text(t) for t in other.TEXTS]
PICTURES = [im.Image(p) for p in other.pictures()]
EVEN: dict[str, Any] = {
    "text": {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3},
    "image": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2},
}


def trained(folder: Path, **changes: Any) -> Clip:
    """Returns a model that came from a published folder, and that no weight is left of as it was."""
    library = published.library()
    other.published(folder, library, **changes)
    model: Clip = load_model(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():  # also the bias of the patches, which the published layout does not have
            weight.add_(0.1 * torch.randn(weight.shape))
    return model


@pytest.mark.peer
@pytest.mark.parametrize("name", other.CONFIGURATIONS)
def test_transformers_gives_the_same_vectors(tmp_path: Path, name: str) -> None:
    library = published.library()
    model = trained(tmp_path / "published", **other.CONFIGURATIONS[name])
    saved = save_model(tmp_path / "own", model)
    told = im.export(saved, None, tmp_path / "out", form="transformers")
    assert told["largest_difference"] < 1e-5
    assert told["files"] == sorted(p.name for p in (tmp_path / "out").iterdir())
    theirs, about = library.CLIPModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(about[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = library.CLIPTokenizer.from_pretrained(tmp_path / "out")
    processor = other.pil_processor(library, tmp_path / "out")
    places = theirs.config.text_config.max_position_embeddings
    words = tokenizer([t.text for t in TEXTS], padding=True, truncation=True, max_length=places, return_tensors="pt")
    seen = processor([Pillow.fromarray(p.pixels) for p in PICTURES], return_tensors="pt")
    with torch.no_grad():
        texts, images = other.unit(theirs.get_text_features(**words)), other.unit(theirs.get_image_features(**seen))
    assert float((model.embed(TEXTS) - texts).abs().max()) < 1e-5
    assert float((model.embed(PICTURES) - images).abs().max()) < 1e-5
    again = load_model(tmp_path / "out")
    assert again.log_scales["image-text"].item() == pytest.approx(model.log_scales["image-text"].item())
    assert again.preprocessors == model.preprocessors


@pytest.mark.peer
def test_sentence_transformers_reads_it(tmp_path: Path) -> None:
    model = trained(tmp_path / "published")
    told = im.export(model, None, tmp_path / "out", form="sentence_transformers")
    assert {"modules.json", "0_CLIPModel/config.json", "0_CLIPModel/model.safetensors"} <= set(told["files"])
    again = load_model(tmp_path / "out")
    assert isinstance(again, Clip)
    assert float((again.embed(PICTURES) - model.embed(PICTURES)).abs().max()) < 1e-5
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    for items, given in ((TEXTS, [t.text for t in TEXTS]), (PICTURES, [Pillow.fromarray(p.pixels) for p in PICTURES])):
        found = theirs.encode(given, normalize_embeddings=True, convert_to_tensor=True)
        assert float((model.embed(items) - found).abs().max()) < 1e-5


READ = """
import json, sys
from pathlib import Path

import numpy as np
import torch
from _contest import open_clip
from safetensors.torch import load_file

folder = Path(sys.argv[1])
settings = json.loads((folder / "out" / "open_clip_config.json").read_text())["model_cfg"]
model = open_clip().CLIP(**settings).eval()
model.load_state_dict(load_file(folder / "out" / "open_clip_model.safetensors"))
given = np.load(folder / "given.npz")
with torch.no_grad():
    images = model.encode_image(torch.from_numpy(given["images"]), normalize=True)
    texts = model.encode_text(torch.from_numpy(given["texts"]), normalize=True)
np.savez(folder / "found.npz", images=images, texts=texts)
"""


def own_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the small tokenizer pass for CLIP's own."""
    _, merges = other.vocabulary()
    monkeypatch.setattr(_layouts, "MERGES", hashlib.sha256("\n".join(merges).encode()).hexdigest())


@pytest.mark.peer
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_open_clip_gives_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    own_merges(monkeypatch)
    model = trained(tmp_path / "published", act=(act, act), **EVEN)
    told = im.export(model, None, tmp_path / "out", form="open_clip")
    assert {OPEN_CLIP, OPEN_CLIP_WEIGHTS} <= set(told["files"])
    again = load_model(tmp_path / "out")
    assert float((again.embed([*TEXTS, *PICTURES]) - model.embed([*TEXTS, *PICTURES])).abs().max()) < 1e-5
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not here; pip install --no-deps open_clip_torch brings it")
    batch = model.preprocessors["text"](TEXTS)
    rows = np.zeros((len(TEXTS), 20), np.int64)  # open_clip fills rows with 0
    for row, found, mask in zip(rows, batch.values, batch.mask, strict=True):
        row[: int(mask.sum())] = found[mask]
    np.savez(tmp_path / "given.npz", images=model.preprocessors["image"](PICTURES).values.numpy(), texts=rows)
    command = [sys.executable, "-W", "ignore", "-c", READ, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT / "benchmarks", timeout=100)
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(model.embed(TEXTS), found["texts"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.embed(PICTURES), found["images"], rtol=0, atol=1e-5)


@pytest.mark.peer
def test_what_has_no_form_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = BPETokenizer.train(["a cat", "a dog"], 300, lower=True)
    own = build(Config({"photo": tiny("image", tokenizer), "words": tiny("text", tokenizer)}))
    exact = replace(tiny("image", tokenizer), preprocessor=replace(own.preprocessors["photo"], fit="squeeze"))

    def refused(model: Any, form: str = "transformers", **more: Any) -> str:
        with pytest.raises((Unsupported, InvalidValue)) as raised:
            im.export(model, more.pop("field", None), tmp_path / "out", form=form, **more)
        assert not (tmp_path / "out").exists()
        return str(raised.value)

    assert "prepares pictures" in refused(own)
    pillow = replace(exact, preprocessor=replace(exact.preprocessor, resize_by="pillow"))
    two = {"photo": pillow, "words": tiny("text", tokenizer)}
    assert "tokenizer is not of CLIP's kind" in refused(build(Config(two)))
    symbols, merges = other.vocabulary()
    theirs = BPETokenizer(tuple(merges), tuple(symbols), True, "</w>", *other.CLIP_SPECIALS, other.CLIP_SPECIALS[1])
    told = refused(build(Config(two | {"words": tiny("text", theirs)})))
    assert "words tower is not" in told
    assert "pooling 'mean' (there 'last')" in told
    assert "one for pictures and one for texts" in refused(
        build(Config({"image": exact, "text": tiny("text", tokenizer), "audio": tiny("audio", tokenizer)}))
    )
    assert "layout is 'keras'" in refused(own, "keras")
    assert "leave out the field" in refused(own, field="photo")
    assert "leave out int8" in refused(own, int8=True)
    assert "a Unified has no form" in refused("diorama")
    model = trained(tmp_path / "published")
    assert "open_clip's own tokenizer is CLIP's" in refused(model, "open_clip")
    own_merges(monkeypatch)
    mixed = trained(tmp_path / "mixed", act=("gelu", "quick_gelu"))
    assert "one activation for both towers" in refused(mixed, "open_clip")
    model.set_centres({"image": torch.full((model.config.width,), 0.1)})
    assert "takes a mean vector off" in refused(model)


@pytest.mark.peer
def test_nothing_of_yours_is_overwritten(tmp_path: Path) -> None:
    model = trained(tmp_path / "published")
    out = tmp_path / "out"
    out.mkdir()
    im.export(model, None, out, form="transformers")  # an empty one is taken
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InvalidValue, match="holds something already"):
        im.export(model, None, out, form="transformers")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "published"]
    assert "CLIPModel.from_pretrained" in (out / "README.md").read_text()


@pytest.mark.peer
def test_a_weight_that_is_lost_on_the_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(tmp_path / "published")
    right = _layouts.weights_of

    def wrong(given: Clip) -> dict[str, torch.Tensor]:
        found = right(given)
        found["vision_model.embeddings.position_embedding.weight"].zero_()
        return found

    monkeypatch.setattr(_layouts, "weights_of", wrong)
    with pytest.raises(Unsupported, match="gives vectors up to"):
        im.export(model, None, tmp_path / "out", form="transformers")
    assert [p.name for p in tmp_path.iterdir()] == ["published"]
