"""Folders of published pipelines: what they hold, weights of every form, and what is refused; by the library's own."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import intermodal as im
from intermodal.adapters import _pipelines
from intermodal.errors import InvalidCheckpoint, MissingExtra
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from tests import pipelines, published


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a small Stable Diffusion."""
    folder = tmp_path_factory.mktemp("pipelines") / "whole"
    pipelines.written(folder, pipelines.stable_diffusion)
    return folder


def drawn(model: Any) -> Image:
    """Returns a picture, drawn in one step."""
    model.steps = 1
    (picture,) = model.translate([Text("a red cat")], "image")
    assert isinstance(picture, Image)
    return picture


def test_what_a_folder_holds_and_lacks_is_told(tmp_path: Path) -> None:
    index = {"_class_name": "X", "_diffusers_version": "0", "sure": True, "unet": ["diffusers", "UNet"]}
    index |= {"safety_checker": [None, None], "tokenizer": ["transformers", "CLIPTokenizer"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    named = {"unet": ("diffusers", "UNet"), "tokenizer": ("transformers", "CLIPTokenizer")}
    assert _pipelines.parts(tmp_path) == named
    assert _pipelines.lacking(tmp_path) == ["unet", "tokenizer"]
    for name, file in (("unet", "config.json"), ("tokenizer", "vocab.json"), ("unet", "model.fp16.safetensors")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text("{}")
    assert _pipelines.lacking(tmp_path) == []
    assert _pipelines.weights(tmp_path / "unet") == ("fp16", [tmp_path / "unet" / "model.fp16.safetensors"])
    plain = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    (tmp_path / "unet" / f"{plain.name}.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(InvalidCheckpoint, match=r"names files that .* does not hold: \.\./x\.safetensors"):
        _pipelines.weights(tmp_path / "unet")
    plain.write_bytes(b"")
    assert _pipelines.weights(tmp_path / "unet") == ("", [plain])
    found = [str(path.relative_to(tmp_path)) for path in _pipelines.files(tmp_path)]
    assert {"model_index.json", f"unet/{plain.name}", "tokenizer/vocab.json"} < set(found)
    assert "unet/model.fp16.safetensors" not in found


@pytest.mark.peer
@pytest.mark.parametrize("how", [{"variant": "fp16"}, {"max_shard_size": "20KB"}])
def test_weights_of_every_form_are_read(whole: Path, tmp_path: Path, how: dict[str, str]) -> None:
    pipelines.written(tmp_path, pipelines.stable_diffusion, **how)
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    ours, other = im.load(whole), im.load(tmp_path)
    assert drawn(ours) == drawn(other)
    assert (ours.fingerprint == other.fingerprint) == ("variant" in how)  # the same files, or others


@pytest.mark.peer
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_that_do_not_fit_are_all_named(whole: Path, tmp_path: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(whole, tmp_path / "spoilt")
    path = next((folder / part).glob("*.safetensors"))
    state = load_file(path)
    first, second, *_ = sorted(name for name, value in state.items() if value.dim() == 2)
    state[f"{first}_renamed"] = state.pop(first)
    state[second] = torch.zeros(3, 5)
    save_file(state, path, {"format": "pt"})
    sentence = published.refused(folder)
    assert f"missing {first}" in sentence
    assert f"unexpected {first}_renamed" in sentence
    assert f"{second} is (3, 5), not" in sentence
    assert str(folder / part) in sentence


@pytest.mark.peer
def test_folders_that_cannot_be_followed_are_told(whole: Path, tmp_path: Path) -> None:
    def said(**parts: Any) -> str:
        target = tmp_path / str(len(list(tmp_path.iterdir())))
        return published.refused(published.rewritten(whole, target, "model_index.json", **parts))

    assert "of the class 'DDPMPipeline', and what is read here turns words into" in said(_class_name="DDPMPipeline")
    assert "of the class ['mine', 'Mine']" in said(_class_name=["mine", "Mine"])
    assert "it has no part 'unet'" in said(unet=[None, None])
    assert "it has a part 'extra' that it does not know" in said(extra=["diffusers", "AutoencoderKL"])
    assert "names diffusers.Nothing as the part 'unet'" in said(unet=["diffusers", "Nothing"])
    assert "code in a folder is never run" in said(unet=["unet_mine", "Mine"])
    assert "names diffusers.logging as the part 'unet'" in said(unet=["diffusers", "logging"])
    assert "a library and a class are needed" in said(unet=["diffusers"])
    assert "run  pip install torchsde" in said(scheduler=["diffusers", "CosineDPMSolverMultistepScheduler"])
    for name, told in (
        ("vae", "lacks the folder 'vae'"),
        ("unet/config.json", "config.json"),
        ("tokenizer/*", "lacks"),
    ):
        copy = shutil.copytree(whole, tmp_path / f"without-{name.partition('/')[0]}")
        for path in copy.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert told in published.refused(copy)
    pickled = shutil.copytree(whole, tmp_path / "pickled")
    path = next((pickled / "unet").glob("*.safetensors"))
    path.rename(path.with_suffix(".bin"))
    assert "diffusion_pytorch_model.bin, which is pickled and never opened" in published.refused(pickled)


@pytest.mark.parametrize("absent", ["diffusers", "transformers"])
def test_without_a_library_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtra, match=r"pip install 'intermodal\[diffusers\]'"):
        im.load(tmp_path)
