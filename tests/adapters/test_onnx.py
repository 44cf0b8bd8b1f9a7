"""Towers as ONNX files, against the models that they are of and the libraries that wrote the weights."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters import _frozen, _onnx
from intermodal.adapters._onnx import export
from intermodal.adapters._towers import items_for, tower_of
from intermodal.cli.app import run
from intermodal.diorama.source import Diorama
from intermodal.encoders.tower import TowerConfig, tiny
from intermodal.errors import InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.saving import save_model
from intermodal.systems import blip, clip, connected
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES

runtime: Any = pytest.importorskip("onnxruntime")
onnx: Any = pytest.importorskip("onnx")
WORDS = WordTokenizer(words=Diorama.vocabulary)
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
KINDS: dict[str, dict[str, Any]] = {
    "text": {"pooling": "last", "causal": True},
    "image": {"pooling": "first", "class_token": True, "norm_first": True, "per_cell": True},
    "audio": {"pooling": "attention"},
    "video": {"encoder": "convolutional", "first": (8, 4, 4), "channels": (8, 16)},
    "timeseries": {"encoder": "recurrent"},
}
"""Every kind of encoder and pooling once; of what is left the shipped model consists."""


def tower(name: str) -> TowerConfig:
    return dataclasses.replace(tiny(name, WORDS), width=16, heads=2, depth=1, **KINDS[name])


@pytest.fixture(scope="module")
def small() -> clip.Clip:
    torch.manual_seed(0)
    towers = {name: tower(name) for name in MODALITIES}
    towers["image"] = dataclasses.replace(towers["image"], first=(), channels=())
    model = clip.build(clip.Config(towers, 8)).eval()
    with torch.no_grad():
        for name in MODALITIES:
            model.get_buffer(f"centre_{name}").normal_(0, 0.1)
    return model


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    return list(Diorama("test", fields=MODALITIES).samples(range(3)))


def run_it(file: Path, batch: Any) -> torch.Tensor:
    """Returns what a file gives for a prepared batch, by the runtime alone."""
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    first, *rest = session.get_inputs()
    fed = {first.name: batch.values.numpy()}
    for one in rest:
        fed[one.name] = batch.mask.numpy() if one.type == "tensor(bool)" else batch.mask.long().numpy()
    return torch.from_numpy(session.run(None, fed)[0])


@pytest.mark.parametrize("field", MODALITIES)
def test_a_file_of_each_modality_gives_the_vectors_of_embed(
    small: clip.Clip, samples: list[Any], tmp_path: Path, field: str
) -> None:
    file = tmp_path / f"{field}.onnx"
    told = export(small, field, file)
    items = [sample[field] for sample in samples]
    wanted = small.embed(items, precision="fp32")
    assert torch.allclose(run_it(file, small.preprocessors[field](items)), wanted, **CLOSE)  # type: ignore[operator]
    read = _frozen.of_onnx(file)
    assert read.modality == field
    assert torch.allclose(read.says(items).pooled, wanted, **CLOSE)
    assert 0 < told["largest_difference"] < 1e-5
    kept = _onnx.load(file)
    assert kept["largest_difference"] == told["largest_difference"]
    assert (kept["field"], kept["modality"], kept["width"]) == (field, field, 8)
    page = (tmp_path / "README.md").read_text()
    assert "(batch, 8), float32" in page
    assert all(one["name"] in page for one in told["inputs"])


@pytest.mark.parametrize("field", ["text", "audio", "timeseries"])
def test_lengths_and_sizes_of_batches_that_were_never_tried(small: clip.Clip, tmp_path: Path, field: str) -> None:
    file = tmp_path / "tower.onnx"
    export(small, field, file)
    prepare = tower_of(small, field).preprocessor
    many = [item for seed in range(3, 6) for item in items_for(prepare, seed)]
    for part in (many[:1], many[3:14], many):
        wanted = small.embed(part, fields=field, precision="fp32")
        assert torch.allclose(run_it(file, prepare(part)), wanted, **CLOSE)


def test_bytes_are_a_fraction_of_the_size_and_refused_where_they_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = dataclasses.replace(tiny("timeseries", WORDS), width=96, depth=2)
    model = clip.build(clip.Config({"timeseries": wide, "text": tower("text")}, 8)).eval()
    items = items_for(wide.preprocessor)
    whole = export(model, "timeseries", tmp_path / "whole" / "tower.onnx")
    told = export(model, "timeseries", tmp_path / "bytes" / "tower.onnx", int8=True)
    assert told["bytes"] < 0.4 * whole["bytes"]
    assert 0.99 <= told["int8_cosine"] < 1
    found = _frozen.of_onnx(tmp_path / "bytes" / "tower.onnx").says(items).pooled
    assert float((found * model.embed(items, precision="fp32")).sum(dim=1).min()) > 0.99
    assert "Before that they were at most" in (tmp_path / "bytes" / "README.md").read_text()
    with pytest.raises(Unsupported, match=r"cosine of 0\.\d+ to those in fp32, less than 1; nothing was written"):
        export(model, "timeseries", tmp_path / "refused" / "tower.onnx", int8=True, cosine_min=1.0)
    assert list((tmp_path / "refused").iterdir()) == []


def test_a_file_that_differs_is_not_kept(small: clip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = _onnx._trace

    def other(given: Any, *rest: Any) -> None:
        traced(dataclasses.replace(given, vectors=lambda batch: given.vectors(batch) + 0.01), *rest)

    monkeypatch.setattr(_onnx, "_trace", other)
    with pytest.raises(Unsupported, match=r"up to 0\.\d+ from the model's when it runs as ONNX, more than 0\.0001"):
        export(small, "timeseries", tmp_path / "tower.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_became_a_constant_is_found_out(
    small: clip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs_of = _onnx.inputs_of

    def fixed(*given: Any) -> Any:
        found, tokens = inputs_of(*given)
        return found[:1], tokens

    monkeypatch.setattr(_onnx, "inputs_of", fixed)
    with pytest.raises(Unsupported, match="does not run|up to"):
        export(small, "audio", tmp_path / "tower.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_told(small: clip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="'smell'; use one of: audio"):
        export(small, "smell", tmp_path / "a.onnx")
    with pytest.raises(UnknownName, match="use one of: audio, image"):
        export(small, None, tmp_path / "a.onnx")
    with pytest.raises(InvalidValue, match=r"a file \.onnx"):
        export(small, "image", tmp_path / "a.pt")
    with pytest.raises(Unsupported, match="does not embed"):
        export(torch.nn.Identity(), None, tmp_path / "a.onnx")
    monkeypatch.setattr(_onnx, "BYTES_MAX", 10)
    with pytest.raises(Unsupported, match="one ONNX file holds 10"):
        export(small, "image", tmp_path / "a.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"intermodal\[onnx\]"):
        export(small, "image", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


# ---- Other systems


@pytest.fixture(scope="module")
def folder(small: clip.Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "clip", small)


def test_the_verb_says_what_it_wrote(
    folder: Path, small: clip.Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tower" / "tower.onnx"
    assert run(["export", str(folder), "--field", "text", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["field"], told["width"]) == ("clip", "text", 8)
    texts = [im.Text("a small red circle on the left"), im.Text("two")]
    found = _frozen.of_onnx(out).says(texts).pooled
    assert torch.allclose(found, small.embed(texts, precision="fp32"), **CLOSE)
    assert run(["export", str(folder), "--field", "text", "--out", str(out)]) == 0
    assert "largest distance to the model's own vectors" in capsys.readouterr().out
    assert run(["export", str(folder), "--field", "smell", "--out", str(out)]) == 2
    assert "smell" in capsys.readouterr().err


def test_towers_of_blip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = blip.sized("tiny", {"image": "image", "text": "text"}, WORDS)
    model = blip.build(config).eval()
    for field in ("image", "text"):
        export(model, field, tmp_path / field / "tower.onnx")
        items = items_for(model.preprocessors[field], 7)
        found = _frozen.of_onnx(tmp_path / field / "tower.onnx").says(items).pooled
        assert torch.allclose(found, model.embed(items), **CLOSE)


def joined(folder: Path, space: bool) -> connected.Connected:
    """Returns encoders of a saved model, connected; heads and numbers are drawn."""
    torch.manual_seed(0)
    frozen = {name: _frozen.of_model(folder, name, space) for name in ("image", "timeseries")}
    towers: dict[str, Any] = {}
    for name, one in frozen.items():
        width, pooled = one.shape(items_for(one.model.preprocessors[name])[0])
        towers[name] = connected.Given(one.modality, width, pooled)
    towers["text"] = tower("text")
    config = connected.Config(towers, connected.Head(8, 0.0, 0 if space else 2), 4, 2)
    encoders: dict[str, Any] = {name: connected.Passing(towers[name]) for name in frozen}
    encoders["text"] = connected.encoder(towers["text"])
    model = connected.Connected(config, encoders, {**frozen, "text": towers["text"].preprocessor})
    for name in towers:
        wide = len(model.get_buffer(f"centre_{name}"))
        model.set_numbers(name, 0.1 * torch.randn(wide), torch.rand(wide) + 0.5)
    return model.eval()


@pytest.mark.parametrize("space", [False, True])
def test_towers_of_connected_models_go_from_items_to_vectors(folder: Path, tmp_path: Path, space: bool) -> None:
    model = joined(folder, space)
    for field in ("timeseries",) if space else ("image", "timeseries", "text"):
        told = export(model, field, tmp_path / field / "tower.onnx")
        assert told["width"] == 8
        items = items_for(tower_of(model, field).preprocessor, 7)
        found = _frozen.of_onnx(tmp_path / field / "tower.onnx").says(items).pooled
        assert torch.allclose(found, model.embed(items, fields=field), **CLOSE)


def test_an_encoder_that_is_a_function_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    model = joined(folder, True)
    model.preprocessors["timeseries"] = _frozen.of_function(lambda items: np.zeros((1, 8)), "timeseries", "mine", "1")
    with pytest.raises(Unsupported, match="the encoder mine is no single network"):
        export(model, "timeseries", tmp_path / "tower.onnx")


# ---- Published models


def asked(name: str, place: Path) -> tuple[Any, dict[str, Any]]:
    """Returns a network that the library itself has written to a folder, and field -> what it is asked there."""
    from tests import published
    from tests.adapters import test_bert_sentences, test_blip, test_clap, test_clip

    library = published.library()

    def image(network: Any, batch: Any) -> Any:
        return network.get_image_features(batch.values)

    def text(network: Any, batch: Any) -> Any:
        return network.get_text_features(batch.values, attention_mask=batch.mask.long())

    def filled(network: Any, batch: Any) -> Any:
        return network.get_text_features(batch.values)

    def mean(network: Any, batch: Any) -> Any:
        mask = batch.mask.long()
        tokens = network(input_ids=batch.values, attention_mask=mask).last_hidden_state
        return (tokens * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def audio(network: Any, batch: Any) -> Any:
        return network.get_audio_features(batch.values, is_longer=torch.zeros(len(batch), 1, dtype=torch.bool))

    def seen(network: Any, batch: Any) -> Any:
        return network.vision_proj(network.vision_model(batch.values).last_hidden_state[:, 0])

    def read(network: Any, batch: Any) -> Any:
        ids, mask = batch.values, batch.mask.long()
        return network.text_proj(network.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])

    if name == "siglip":
        return published.siglip(place), {"image": image, "text": filled}
    if name == "clip":
        return test_clip.published(place, library), {"image": image, "text": text}
    if name == "clap":
        return test_clap.build(place, fused=False), {"audio": audio, "text": text}
    if name == "bert":
        return test_bert_sentences.write(place), {"text": mean}
    return test_blip.build(place, "BlipForImageTextRetrieval"), {"image": seen, "text": read}


@pytest.mark.peer
@pytest.mark.parametrize("name", ["siglip", "clip", "clap", "bert", "blip"])
def test_towers_of_published_models_equal_the_library_that_wrote_them(name: str, tmp_path: Path) -> None:
    network, fields = asked(name, tmp_path / name)
    model = im.load(tmp_path / name)
    for field, ask in fields.items():
        file = tmp_path / field / "tower.onnx"
        told = export(model, field, file)
        items = items_for(model.preprocessors[field], 5)
        batch = model.preprocessors[field](items)
        found = run_it(file, batch)
        with torch.no_grad():
            theirs = ask(network.eval(), batch)
        rows = torch.nn.functional.normalize(getattr(theirs, "pooler_output", theirs), dim=-1)
        assert torch.allclose(found, rows, **CLOSE)
        assert torch.allclose(found, model.embed(items, fields=field), **CLOSE)
        if field != "audio":  # how the library prepares sounds is in no file of ours
            assert torch.allclose(_frozen.of_onnx(file).says(items).pooled, found, **CLOSE)
        assert ("tokenizer.json" in told["files"]) == (field == "text")
        assert told.get("settings_cosine", 1.0) == 1.0
