"""Folders in open_clip's layout: against the same weights in the other one, and against open_clip itself."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import intermodal as im
from intermodal import fetching
from intermodal.errors import InvalidCheckpoint
from intermodal.fetching import OPEN_CLIP, OPEN_CLIP_WEIGHTS
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip
from tests import published
from tests.adapters import test_clip as other

ROOT = Path(__file__).parents[2]
SIZES: dict[str, Any] = {
    "text": {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3},
    "image": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2},
}
ITEMS = [*(im.Text(t) for t in other.TEXTS), *(im.Image(p) for p in other.pictures())]


def config(ids: int, quick: bool = True, **more: Any) -> dict[str, Any]:
    """Returns what the file says of a model of ``SIZES``."""
    text = {"width": 24, "layers": 2, "heads": 3, "context_length": 20, "vocab_size": ids}
    image = {"width": 32, "layers": 3, "head_width": 16, "mlp_ratio": 1.5, "image_size": 48, "patch_size": 16}
    model = {"embed_dim": 20, "vision_cfg": image, "text_cfg": text} | ({"quick_gelu": True} if quick else {})
    known = other.adapter.PICTURES
    return {"model_cfg": model, "preprocess_cfg": {"mean": known["image_mean"], "std": known["image_std"], **more}}


def as_open_clip(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weights of the Hugging Face layout by open_clip's names; written by hand, the other way round."""
    made = {
        "logit_scale": theirs["logit_scale"],
        "text_projection": theirs["text_projection.weight"].T,
        "visual.proj": theirs["visual_projection.weight"].T,
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        made[f"ln_final.{kind}"] = theirs[f"text_model.final_layer_norm.{kind}"]
        made[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        for tower, start, count in (("text", "", 2), ("vision", "visual.", 3)):
            for i in range(count):
                there, here = f"{tower}_model.encoder.layers.{i}", f"{start}transformer.resblocks.{i}"
                joint = [theirs[f"{there}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
                made[f"{here}.attn.in_proj_{kind}"] = torch.cat(joint)
                made[f"{here}.attn.out_proj.{kind}"] = theirs[f"{there}.self_attn.out_proj.{kind}"]
                made[f"{here}.ln_1.{kind}"] = theirs[f"{there}.layer_norm1.{kind}"]
                made[f"{here}.ln_2.{kind}"] = theirs[f"{there}.layer_norm2.{kind}"]
                made[f"{here}.mlp.c_fc.{kind}"] = theirs[f"{there}.mlp.fc1.{kind}"]
                made[f"{here}.mlp.c_proj.{kind}"] = theirs[f"{there}.mlp.fc2.{kind}"]
    return {name: value.contiguous() for name, value in made.items()}


def write(folder: Path, weights: dict[str, torch.Tensor], quick: bool = True, **more: Any) -> Path:
    """Writes a folder in open_clip's layout."""
    folder.mkdir(exist_ok=True)
    ids = other.write_texts(folder)
    (folder / OPEN_CLIP).write_text(json.dumps(config(ids, quick, **more)))
    save_file(weights, folder / OPEN_CLIP_WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Returns folders with the same weights: in the Hugging Face layout, and in open_clip's."""
    place = tmp_path_factory.mktemp("published")
    other.published(place / "theirs", published.library(), 3, **SIZES)
    return place / "theirs", write(place / "ours", as_open_clip(load_file(place / "theirs" / "model.safetensors")))


def test_vectors_are_those_of_the_same_weights_in_the_other_layout(both: tuple[Path, Path]) -> None:
    theirs, ours = (load_model(folder) for folder in both)
    assert isinstance(ours, Clip)
    torch.testing.assert_close(ours.embed(ITEMS), theirs.embed(ITEMS), atol=1e-6, rtol=0)
    assert ours.config == theirs.config
    assert ours.fingerprint != theirs.fingerprint


def test_it_is_saved_and_loaded_in_our_own_layout(both: tuple[Path, Path], tmp_path: Path) -> None:
    first = load_model(both[1])
    torch.testing.assert_close(
        load_model(save_model(tmp_path / "ours", first)).embed(ITEMS), first.embed(ITEMS), atol=1e-6, rtol=0
    )


def test_towers_by_themselves_and_a_scale_in_a_list_are_read_too(both: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(both[1] / OPEN_CLIP_WEIGHTS)
    alone = {n if n.startswith(("visual.", "logit")) else f"text.{n}": value for n, value in weights.items()}
    alone["logit_scale"] = alone["logit_scale"].reshape(1)
    folder = write(tmp_path / "custom", alone)
    torch.testing.assert_close(load_model(folder).embed(ITEMS), load_model(both[1]).embed(ITEMS), atol=1e-6, rtol=0)


def test_pictures_are_squeezed_where_the_file_says_so(both: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(both[1] / OPEN_CLIP_WEIGHTS)
    more = {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3, "size": 48}
    reads = load_model(write(tmp_path / "squash", weights, **more)).preprocessors["image"]
    assert (reads.fit, reads.resize, reads.mean, reads.std) == ("squeeze", "bilinear", (0.5,) * 3, (0.25,) * 3)
    reads = load_model(both[1]).preprocessors["image"]
    assert (reads.fit, reads.resize, reads.resize_by) == ("resize_first", "bicubic", "pillow")


def test_which_layout_is_read_of_a_folder_with_both(both: tuple[Path, Path], tmp_path: Path) -> None:
    theirs, ours = both
    folder = shutil.copytree(theirs, tmp_path / "both")
    for name in (OPEN_CLIP, OPEN_CLIP_WEIGHTS):
        shutil.copyfile(ours / name, folder / name)
    assert load_model(folder).fingerprint == load_model(theirs).fingerprint
    (folder / "model.safetensors").unlink()
    assert load_model(folder).fingerprint == load_model(ours).fingerprint
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch32_clip_224"}))
    assert load_model(folder).fingerprint == load_model(ours).fingerprint
    assert fetching._lacking(folder) == []
    (folder / OPEN_CLIP_WEIGHTS).unlink()
    assert fetching._lacking(folder) == [OPEN_CLIP_WEIGHTS]
    assert "holds no open_clip_model.safetensors" in published.refused(folder)


def test_weights_that_do_not_fit_are_listed(both: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(both[1] / OPEN_CLIP_WEIGHTS)
    weights["visual.proj"] = weights["visual.proj"].T.contiguous()
    weights["visual.head.weight"] = weights.pop("transformer.resblocks.1.attn.in_proj_weight")
    sentence = published.refused(write(tmp_path / "spoilt", weights))
    assert "missing transformer.resblocks.1.attn.in_proj_weight" in sentence
    assert "unexpected visual.head.weight" in sentence
    assert "visual.proj is (20, 32), not (32, 20)" in sentence


@pytest.mark.parametrize(
    ("part", "settings", "told"),
    [
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "a ResNet"),
        ("vision_cfg", {"timm_model_name": "vit_base"}, "vision_cfg.timm_model_name 'vit_base'"),
        (
            "vision_cfg",
            {"attentional_pool": True, "no_ln_pre": True},
            "attentional_pool True, vision_cfg.no_ln_pre True",
        ),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type 'avg'"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "text_cfg.hf_model_name 'roberta-base'"),
        ("text_cfg", {"pool_type": "last"}, "text_cfg.pool_type 'last'"),
        ("text_cfg", {"norm_kwargs": {"eps": 1e-6}}, "text_cfg.norm_kwargs"),
        ("text_cfg", {"vocab_size": 9}, "they differ"),
        ("text_cfg", {"width": 0}, "width is 0"),
        ("text_cfg", {"mlp_ratio": "4"}, "mlp_ratio is '4'"),
        ("model_cfg", {"init_logit_bias": -10}, "model_cfg.init_logit_bias -10"),
        ("model_cfg", {"text_cfg": None}, "no object text_cfg"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "'longest'"),
        ("preprocess_cfg", {"size": 64}, "pictures of 64 pixels"),
        ("preprocess_cfg", {"mode": "L"}, "preprocess_cfg.mode 'L'"),
    ],
)
def test_other_architectures_are_refused_in_a_sentence(
    both: tuple[Path, Path], tmp_path: Path, part: str, settings: dict[str, Any], told: str
) -> None:
    folder = shutil.copytree(both[1], tmp_path / "m")
    found = json.loads((folder / OPEN_CLIP).read_text())
    {**found, **found["model_cfg"]}[part].update(settings)
    (folder / OPEN_CLIP).write_text(json.dumps(found))
    if told == "they differ":
        weights = load_file(folder / OPEN_CLIP_WEIGHTS)
        weights["token_embedding.weight"] = weights["token_embedding.weight"][:9].clone()
        save_file(weights, folder / OPEN_CLIP_WEIGHTS)
    assert told in published.refused(folder)


def test_settings_that_change_nothing_are_passed_over(both: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(both[1], tmp_path / "m")
    found = json.loads((folder / OPEN_CLIP).read_text())
    usual = {"attentional_pool": False, "pool_type": "tok", "ls_init_value": None, "patch_dropout": 0.5}
    found["model_cfg"]["vision_cfg"] |= usual | {"pos_embed_type": "learnable", "block_type": None, "timm_pool": "avg"}
    found["model_cfg"]["text_cfg"] |= {"pool_type": "argmax", "proj_type": "linear", "hf_proj_type": "mlp", "eos_id": 2}
    found["preprocess_cfg"] |= {"mode": "RGB", "interpolation": "random", "fill_color": 0}
    (folder / OPEN_CLIP).write_text(json.dumps(found))
    torch.testing.assert_close(load_model(folder).embed(ITEMS), load_model(both[1]).embed(ITEMS), atol=1e-6, rtol=0)


WRITE = """
import json, sys
sys.path.insert(0, ".")
import numpy as np
import torch
from pathlib import Path
import _contest

library = _contest.open_clip()
from open_clip.model import CLIP
from safetensors.torch import save_file

folder = Path(sys.argv[1])
for name in ("quick", "plain"):
    settings = json.loads((folder / name / "open_clip_config.json").read_text())["model_cfg"]
    torch.manual_seed(len(name))
    model = CLIP(**settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
        save_file(model.state_dict(), folder / name / "open_clip_model.safetensors")
        given = np.load(folder / "given.npz")
        images = model.encode_image(torch.from_numpy(given["images"]), normalize=True)
        texts = model.encode_text(torch.from_numpy(given["texts"]), normalize=True)
    np.savez(folder / name / "found.npz", images=images, texts=texts, scale=model.logit_scale.detach().exp())
"""


@pytest.mark.peer
def test_vectors_are_those_of_open_clip(both: tuple[Path, Path], tmp_path: Path) -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not here; pip install --no-deps open_clip_torch brings it")
    first = load_model(both[1])
    texts, pictures = ITEMS[: len(other.TEXTS)], ITEMS[len(other.TEXTS) :]
    ids = first.preprocessors["text"](texts).values
    rows = np.zeros((len(ids), 20), np.int64)  # open_clip fills rows with 0
    for row, found, mask in zip(rows, ids, first.preprocessors["text"](texts).mask, strict=True):
        row[: int(mask.sum())] = found[mask]
    images = first.preprocessors["image"](pictures).values.numpy()
    np.savez(tmp_path / "given.npz", images=images, texts=rows)
    for name in ("quick", "plain"):
        write(tmp_path / name, {"none": torch.zeros(1)}, quick=name == "quick")
    command = [sys.executable, "-W", "ignore", "-c", WRITE, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT / "benchmarks", timeout=100)
    for name in ("quick", "plain"):
        ours, wanted = load_model(tmp_path / name), np.load(tmp_path / name / "found.npz")
        np.testing.assert_allclose(ours.embed(texts), wanted["texts"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(ours.embed(pictures), wanted["images"], rtol=0, atol=1e-5)
        assert ours.log_scales["image-text"].exp().item() == pytest.approx(float(wanted["scale"]), rel=1e-5)


def test_a_folder_without_either_layout_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidCheckpoint, match="holds no config.json"):
        load_model(tmp_path / "empty")
