"""Published CLIP folders, made with random weights, against the library that wrote them."""

import json
import logging
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file

import intermodal as im
from intermodal.adapters import _files
from intermodal.adapters import clip as adapter
from intermodal.errors import InvalidCheckpoint
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.saving import load_model, save_model
from intermodal.tokenizers.bpe import CLIP_SPECIALS, byte_symbols

WORDS = ("photo", "cat", "dog", "of", "the", "house", "lower", "runs")
TEXTS = (
    "a photo of the cat",
    "The DOG runs",
    "",
    "lower house, lower dog: it's 1984!",
    "the cat of the house of the dog of the photo of the lower cat of the lower house runs and runs and runs",
    "café ☃",
)
SMALL: dict[str, Any] = {
    "text": {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3},
    "image": {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 2},
    "patch": 16,
    "side": 48,
    "places": 20,
    "act": ("quick_gelu", "quick_gelu"),
    "old_end": True,
    "width": 20,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "quick-gelu, old end, patch 16": {},
    "gelu, new end, patch 14": {"patch": 14, "side": 56, "act": ("gelu", "gelu"), "old_end": False},
    "one of each, patch 32": {"patch": 32, "side": 64, "act": ("gelu", "quick_gelu"), "old_end": False, "width": 33},
    "wider text than picture": {
        "text": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 8},
        "image": {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1},
        "patch": 8,
        "side": 32,
        "places": 77,
    },
}


def vocabulary() -> tuple[list[str], list[str]]:
    """Returns the symbols by id and the merges of a small tokenizer written as CLIP's."""
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        for i in range(1, len(parts)):
            merge = f"{''.join(parts[:i])} {parts[i]}"
            if merge not in merges:
                merges.append(merge)
    first = sorted(byte_symbols())
    made = [merge.replace(" ", "") for merge in merges]
    return [*first, *(s + "</w>" for s in first), *made, *CLIP_SPECIALS], merges


def write_texts(folder: Path) -> int:
    """Writes a tokenizer as the first published folders have it, and returns its number of ids."""
    symbols, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    begin, end = CLIP_SPECIALS
    special = {"bos_token": begin, "eos_token": end, "pad_token": end, "unk_token": end}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(symbols)


def write_pictures(folder: Path, side: int) -> None:
    """Writes how pictures are prepared, as published."""
    crop = {"height": side, "width": side}
    settings = {**adapter.PICTURES, "size": {"shortest_edge": side}, "crop_size": crop}
    settings["image_processor_type"] = "CLIPImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def settings_of(chosen: dict[str, Any], ids: int) -> dict[str, Any]:
    """Returns what ``config.json`` says of a configuration."""
    text = {**chosen["text"], "vocab_size": ids, "max_position_embeddings": chosen["places"]}
    text |= {"eos_token_id": 2 if chosen["old_end"] else ids - 1, "bos_token_id": ids - 2}
    image = {**chosen["image"], "image_size": chosen["side"], "patch_size": chosen["patch"]}
    text["hidden_act"], image["hidden_act"] = chosen["act"]
    return {"model_type": "clip", "text_config": text, "vision_config": image, "projection_dim": chosen["width"]}


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    found: ModuleType = pytest.importorskip("transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


def published(folder: Path, transformers: ModuleType, seed: int = 0, **changes: Any) -> Any:
    """Writes a folder with random weights, and returns the model that the library itself makes of it."""
    chosen = {**SMALL, **changes}
    folder.mkdir(exist_ok=True)
    settings = settings_of(chosen, write_texts(folder))
    write_pictures(folder, chosen["side"])
    torch.manual_seed(seed)
    model = transformers.CLIPModel(transformers.CLIPConfig(**{k: v for k, v in settings.items() if k != "model_type"}))
    with torch.no_grad():
        for weight in model.parameters():  # biases and norms are not left at zero and one: a mix-up must show
            weight.add_(0.2 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, transformers: ModuleType) -> Path:
    path = tmp_path_factory.mktemp("published") / "clip"
    published(path, transformers)
    return path


def pil_processor(transformers: ModuleType, folder: Path) -> Any:
    """Returns the published preparation of pictures, the one that needs no torchvision."""
    return transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil.from_pretrained(folder)


def pictures(count: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = ((60, 90), (133, 57), (40, 200), (48, 48))
    return [smooth(rng, *sizes[i % len(sizes)]) for i in range(count)]


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a picture with soft and hard edges, some of it at the ends of the range."""
    few = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    pixels = np.array(Pillow.fromarray(few).resize((width, height), Pillow.Resampling.BICUBIC))
    pixels[: height // 3, : width // 3] = rng.choice([0, 255], (height // 3, width // 3, 1))
    return pixels


def unit(rows: Any) -> torch.Tensor:
    rows = getattr(rows, "pooler_output", rows)  # since transformers 5 the features come in a record
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.mark.peer
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_vectors_and_logits_are_those_of_transformers(tmp_path: Path, transformers: ModuleType, name: str) -> None:
    theirs = published(tmp_path / "m", transformers, len(name), **CONFIGURATIONS[name])
    ours = load_model(tmp_path / "m")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "m")
    processor = pil_processor(transformers, tmp_path / "m")
    places = theirs.config.text_config.max_position_embeddings
    words = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=places, return_tensors="pt")
    seen = processor([Pillow.fromarray(p) for p in pictures()], return_tensors="pt")
    with torch.no_grad():
        texts, images = unit(theirs.get_text_features(**words)), unit(theirs.get_image_features(**seen))
        logits = theirs(**words, **seen).logits_per_image
    items = [Text(t) for t in TEXTS], [Image(p) for p in pictures()]
    assert float((ours.embed(items[0]) - texts).abs().max()) < 1e-5
    assert float((ours.embed(items[1]) - images).abs().max()) < 1e-5
    alone = torch.cat([ours.embed([text]) for text in items[0]])
    assert float((alone - texts).abs().max()) < 1e-5
    mixed = ours.embed([*items[0], *items[1]])
    assert float((mixed - torch.cat((texts, images))).abs().max()) < 1e-5
    scale = ours.log_scales["image-text"].exp()
    torch.testing.assert_close(ours.score(items[1], items[0]) * scale, logits, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(ours.classify(items[1], TEXTS[:2]), logits[:, :2].softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.peer
def test_it_is_saved_and_loaded_in_our_own_layout(tmp_path: Path, folder: Path) -> None:
    first = im.load(folder)
    second = load_model(save_model(tmp_path / "ours", first))
    items = [*(Text(t) for t in TEXTS), *(Image(p) for p in pictures())]
    assert second.config == first.config
    assert torch.equal(first.embed(items), second.embed(items))
    assert first.name == str(folder)
    assert first.fingerprint == load_model(folder).fingerprint != second.fingerprint
    assert all(p.requires_grad for p in first.parameters())


@pytest.mark.peer
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read_in_fp32(tmp_path: Path, folder: Path, kind: torch.dtype) -> None:
    copy = shutil.copytree(folder, tmp_path / "half")
    state = {k: v.to(kind) for k, v in load_file(copy / "model.safetensors").items()}
    save_file(state, copy / "model.safetensors")
    half, whole = load_model(copy), load_model(folder)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    cosine = (half.embed([Text(t) for t in TEXTS]) * whole.embed([Text(t) for t in TEXTS])).sum(dim=1)
    assert 0.999 < float(cosine.min()) < 1.0 + 1e-6


@pytest.mark.peer
def test_a_split_file_and_the_newer_file_names_are_the_same_model(
    tmp_path: Path, folder: Path, transformers: ModuleType
) -> None:
    split = tmp_path / "split"
    transformers.CLIPModel.from_pretrained(folder).save_pretrained(split, max_shard_size="40KB")
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(split)
    processor = pil_processor(transformers, folder)
    (split / "processor_config.json").write_text(json.dumps({"image_processor": processor.to_dict()}, default=str))
    assert len(adapter.weight_files(split)) > 2
    assert not (split / "vocab.json").exists()
    items = [*(Text(t) for t in TEXTS), *(Image(p) for p in pictures())]
    assert torch.equal(load_model(split).embed(items), load_model(folder).embed(items))
    (split / adapter.weight_files(split)[0].name).unlink()
    with pytest.raises(InvalidCheckpoint, match="names files that .* does not hold: model-00001"):
        load_model(split)


@pytest.mark.peer
def test_older_files_load_too(tmp_path: Path, folder: Path) -> None:
    old = shutil.copytree(folder, tmp_path / "old")
    state = load_file(old / "model.safetensors")
    state |= {name: torch.arange(5)[None] for name in _files.BUFFERS}
    save_file(state, old / "model.safetensors")
    settings = json.loads((old / "config.json").read_text())
    settings["text_config_dict"] = settings.pop("text_config")
    settings["vision_config_dict"] = None
    (old / "config.json").write_text(json.dumps(settings))
    (old / "preprocessor_config.json").write_text(json.dumps({"size": 48, "crop_size": 48, "resample": 3}))
    items = [*(Text(t) for t in TEXTS), *(Image(p) for p in pictures())]
    assert torch.equal(load_model(old).embed(items), load_model(folder).embed(items))


@pytest.mark.peer
def test_pictures_may_be_squeezed(tmp_path: Path, folder: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "squeezed")
    square = {"height": 48, "width": 48}
    (copy / "preprocessor_config.json").write_text(json.dumps({"size": square, "do_center_crop": False, "resample": 2}))
    preprocessor = load_model(copy).preprocessors["image"]
    assert (preprocessor.fit, preprocessor.resize, preprocessor.resize_by) == ("squeeze", "bilinear", "pillow")


@pytest.mark.peer
def test_every_key_that_does_not_fit_is_listed(tmp_path: Path, folder: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    state = load_file(broken / "model.safetensors")
    del state["vision_model.pre_layrnorm.bias"]
    state["text_model.encoder.layers.7.layer_norm1.bias"] = torch.zeros(24)
    state["text_projection.weight"] = torch.zeros(3, 4)
    state["logit_scale"] = torch.tensor(4)
    save_file(state, broken / "model.safetensors")
    with pytest.raises(InvalidCheckpoint) as caught:
        load_model(broken)
    for expected in (
        "missing vision_model.pre_layrnorm.bias",
        "unexpected text_model.encoder.layers.7.layer_norm1.bias",
        "text_projection.weight is (3, 4), not (20, 24)",
        "logit_scale holds int64, not floating point",
    ):
        assert expected in str(caught.value)
    assert str(caught.value).count(";") == 3


@pytest.mark.peer
@pytest.mark.parametrize(
    ("file", "path", "value", "reason"),
    [
        (
            "config.json",
            ("model_type",),
            "convnext",
            "of the type 'convnext'; this package reads: align, bert, blip, .*clap, clip, ",
        ),
        ("config.json", ("text_config", "layer_norm_eps"), 1e-6, "layer_norm_eps 1e-06"),
        ("config.json", ("vision_config", "hidden_act"), "relu", "hidden_act 'relu'"),
        ("config.json", ("vision_config", "num_channels"), 4, "num_channels 4"),
        ("config.json", ("vision_config", "patch_size"), 0, "patch_size is 0"),
        ("config.json", ("vision_config", "patch_size"), 7, "48 x 48 does not divide into patches of 7"),
        ("config.json", ("vision_config", "image_size"), [48, 64], r"image_size is \[48, 64\]"),
        ("config.json", ("vision_config", "image_size"), 64, "but the weights read 64 x 64"),
        ("config.json", ("vision_config", "num_attention_heads"), 5, "no multiple of its 5 heads"),
        ("config.json", ("text_config", "vocab_size"), 99, "text_config says 99"),
        ("config.json", ("text_config", "eos_token_id"), 7, "read at id 7"),
        ("config.json", ("text_config",), [1], "text_config that is no object"),
        ("config.json", ("projection_dim",), 21, r"visual_projection.weight is \(20, 32\), not \(21, 32\)"),
        ("preprocessor_config.json", ("do_normalize",), False, "do_normalize False"),
        ("preprocessor_config.json", ("rescale_factor",), 1.0, "rescale_factor 1.0"),
        ("preprocessor_config.json", ("resample",), 0, "resample 0"),
        ("preprocessor_config.json", ("image_mean",), 0.5, "image_mean 0.5"),
        ("preprocessor_config.json", ("image_std",), [0, 0, 0], "std is"),
        ("preprocessor_config.json", ("size",), {"shortest_edge": 64}, "resized to {'shortest_edge': 64}"),
    ],
)
def test_what_is_not_supported_is_refused(
    tmp_path: Path, folder: Path, file: str, path: tuple[str, ...], value: object, reason: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "other")
    whole = json.loads((copy / file).read_text())
    part = whole
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    (copy / file).write_text(json.dumps(whole))
    with pytest.raises(InvalidCheckpoint, match=reason):
        load_model(copy)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("config.json", "holds no config.json"),
        ("vocab.json", "tokenizer.json cannot be read"),
        ("merges.txt", "merges.txt cannot be read"),
        ("preprocessor_config.json", "preprocessor_config.json cannot be read"),
        ("model.safetensors", "holds no model.safetensors; download"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, folder: Path, file: str, reason: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "other")
    (copy / file).unlink()
    with pytest.raises(InvalidCheckpoint, match=reason):
        load_model(copy)


@pytest.mark.peer
def test_pickled_and_damaged_weights_are_explained(tmp_path: Path, folder: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "other")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(InvalidCheckpoint, match="pytorch_model.bin, which is pickled and never opened here; save them"):
        load_model(copy)
    (copy / "model.safetensors").write_text("no weights")
    with pytest.raises(InvalidCheckpoint, match="model.safetensors cannot be read"):
        load_model(copy)


@pytest.mark.peer
def test_a_scale_over_the_limit_is_said(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = shutil.copytree(folder, tmp_path / "other")
    state = load_file(copy / "model.safetensors")
    save_file({**state, "logit_scale": torch.tensor(4.8)}, copy / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        load_model(copy)
    assert "exp(4.800)" in caplog.text
