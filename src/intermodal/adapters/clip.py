"""Published CLIP weights in the Hugging Face layout, read without that library into our own ``systems/clip.py``.

A folder holds ``config.json`` (``model_type`` "clip"), the weights as safetensors (one file, or several with an index),
the tokenizer's files and ``preprocessor_config.json``. What comes out is a ``Clip`` like any other: it embeds, scores,
classifies, trains, and is saved in our own layout.

Strict: every key of the file is spent, every weight is set, every setting that changes the result is either followed
or refused by name. Left out: the reverse, and settings that no published CLIP has (another epsilon, another
activation, a crop smaller than the resized side).

Source: Radford et al. 2021, arXiv 2103.00020; the layout is that of ``CLIPModel`` in transformers 5.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intermodal.adapters import _files
from intermodal.adapters._files import Weights, is_number, number, read_object, weight_files
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import TextPreprocessor
from intermodal.saving import fingerprint
from intermodal.systems.clip import SCALE_MAX, Clip, Config, build
from intermodal.tokenizers.bpe import BPETokenizer

TEXT = {
    "vocab_size": 49_408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49_407,
}
"""What a text tower's settings are where the file does not say."""

IMAGE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""The same of a picture tower."""

PICTURES = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
"""The same of the preparation of pictures."""

ACTIVATIONS = ("gelu", "quick_gelu")
TOKENS = ("vocab.json", "merges.txt", "tokenizer.json")
RESIZES = {2: "bilinear", 3: "bicubic"}
ARGMAX_EOS = 2  # older files say this and mean the largest id of a text
PLACES = "max_position_embeddings"
_LOG = logging.getLogger(__name__)


def load(folder: Path) -> Clip:
    """Returns the published model in ``folder``, in fp32.

    Raises:
        InvalidCheckpoint: a file is damaged, a setting is not supported, or weights do not fit; lists every such key.
    """
    settings, pictures = read_object(folder / "config.json"), picture_settings(folder)
    text, image = (_tower_settings(settings, name, known) for name, known in (("text", TEXT), ("vision", IMAGE)))
    files, width = weight_files(folder), number(settings, "projection_dim", 512)
    read = [folder / name for name in ("config.json", "preprocessor_config.json", "processor_config.json", *TOKENS)]
    return assembled(folder, (text, image, pictures), width, _files.load(files), [*read, *files])


def assembled(
    folder: Path, settings: Sequence[Mapping[str, Any]], width: int, found: Mapping[str, Tensor], files: Sequence[Path]
) -> Clip:
    """Returns the model that settings (of ``TEXT``, ``IMAGE`` and ``PICTURES``) and weights by their names here make.

    The folder holds the tokenizer; ``files``, those that are there, tell the model from others.

    Raises:
        InvalidCheckpoint: the parts do not fit each other.
    """
    text, image, pictures = settings
    try:
        towers = {"image": image_tower(image, pictures), "text": text_tower(text, BPETokenizer.from_folder(folder))}
        weights = Weights(found)
        state = _state(weights, text, image, width)
        weights.finish(folder)
        scale = float(state["log_scales.image-text"])
        if scale > SCALE_MAX + 1e-3:
            _LOG.warning("%s multiplies by exp(%.3f); probabilities are made with 100, the limit here", folder, scale)
        with torch.device("meta"):  # no weights are drawn only to be replaced
            model = build(Config(towers, len(state["heads.text.weight"]), temperature=math.exp(-scale)))
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} describes no model of this package: {error}") from error
    model.load_state_dict(state, assign=True)
    named: Any = model
    named.fingerprint = fingerprint([path for path in files if path.exists()])
    return model.eval()


# ---- Settings


def _tower_settings(settings: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one tower's settings; an older file's ``*_config_dict`` counts before its ``*_config``, defaults too."""
    plain, older = settings.get(f"{name}_config") or {}, settings.get(f"{name}_config_dict")
    if not isinstance(plain, dict) or not isinstance(older, dict | None):
        raise InvalidCheckpoint(f"config.json has a {name}_config that is no object; give a whole, published folder")
    chosen = {**known, **plain} if older is None else {**plain, **known, **older}
    if not is_number(chosen["layer_norm_eps"], 1e-5):
        raise InvalidCheckpoint(
            f"{name}_config has layer_norm_eps {chosen['layer_norm_eps']}; this package normalises with 1e-5 alone"
        )
    if chosen["hidden_act"] not in ACTIVATIONS:
        raise InvalidCheckpoint(
            f"{name}_config has hidden_act {chosen['hidden_act']!r}; supported are {' and '.join(ACTIVATIONS)}"
        )
    return chosen


def text_tower(settings: Mapping[str, Any], tokenizer: BPETokenizer) -> TowerConfig:
    """Returns the text tower: causal, read at the end of the text, whichever way the file says where that is."""
    rows, end, places = number(settings, "vocab_size"), settings["eos_token_id"], number(settings, PLACES)
    if tokenizer.vocab_size != rows:
        raise InvalidCheckpoint(
            f"the tokenizer has {tokenizer.vocab_size} ids and text_config says {rows}; they differ"
        )
    expected = rows - 1 if end == ARGMAX_EOS else end
    if tokenizer.end_id != expected:
        raise InvalidCheckpoint(
            f"a text's vector is read at id {expected} (eos_token_id {end}), but the tokenizer ends texts with "
            f"{tokenizer.end_id}; use the tokenizer that belongs to the weights"
        )
    return TowerConfig(
        TextPreprocessor(tokenizer, places), sizes=(places,), pooling="last", causal=True, **_sizes(settings)
    )


def image_tower(settings: Mapping[str, Any], pictures: Mapping[str, Any]) -> TowerConfig:
    """Returns the picture tower: a class token, one position per patch, a normalisation before the first block."""
    side, patch = number(settings, "image_size"), number(settings, "patch_size")
    if settings["num_channels"] != 3:
        raise InvalidCheckpoint(f"vision_config has num_channels {settings['num_channels']}; pictures here have 3")
    preprocessor = ImagePreprocessor(
        side,
        side,
        patch,
        tuple(pictures["image_mean"]),
        tuple(pictures["image_std"]),
        fit_of(pictures, side),
        RESIZES[pictures["resample"]],
        "pillow",
    )
    grid = (side // patch, side // patch)
    return TowerConfig(
        preprocessor, sizes=grid, pooling="first", class_token=True, norm_first=True, per_cell=True, **_sizes(settings)
    )


def _sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what both towers have."""
    return {
        "width": number(settings, "hidden_size"),
        "depth": number(settings, "num_hidden_layers"),
        "heads": number(settings, "num_attention_heads"),
        "mlp_width": number(settings, "intermediate_size"),
        "activation": settings["hidden_act"],
    }


def picture_settings(folder: Path, known: Mapping[str, Any] = PICTURES) -> dict[str, Any]:
    """Returns how pictures are prepared, every step checked that is not followed.

    Args:
        folder: a published one.
        known: what holds where its file does not say.

    Raises:
        InvalidCheckpoint: the file cannot be read, or has a step that is not followed; names it.
    """
    path = folder / "preprocessor_config.json"
    if not path.exists() and (folder / "processor_config.json").exists():
        path = folder / "processor_config.json"
    found = read_object(path)
    found = found.get("image_processor", found)
    found = found if isinstance(found, dict) else {}
    settings = {**known, **{k: v for k, v in found.items() if k in known and v is not None}}
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if settings[name] is not True:
            raise InvalidCheckpoint(
                f"{path} has {name} {settings[name]}; pictures are always resized and normalised here"
            )
    if not is_number(settings["rescale_factor"], 1 / 255):
        raise InvalidCheckpoint(
            f"{path} has rescale_factor {settings['rescale_factor']}; colours here are 0 to 1 (1/255)"
        )
    for name in ("image_mean", "image_std"):
        if not isinstance(settings[name], list | tuple):
            raise InvalidCheckpoint(f"{path} has {name} {settings[name]!r}; expected one number per colour")
    if settings["resample"] not in RESIZES:
        raise InvalidCheckpoint(
            f"{path} has resample {settings['resample']}; supported are 2 (bilinear) and 3 (bicubic)"
        )
    return settings


def fit_of(pictures: Mapping[str, Any], side: int) -> str:
    """Returns how a picture gets square: resized and cropped, or squeezed.

    Raises:
        InvalidCheckpoint: it becomes no square of ``side``.
    """
    size, crop = pictures["size"], pictures["crop_size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    square = {"height": side, "width": side}
    if size == {"shortest_edge": side} and pictures["do_center_crop"] and crop == square:
        return "resize_first"
    if size == square and (not pictures["do_center_crop"] or crop == square):
        return "squeeze"
    raise InvalidCheckpoint(
        f"pictures are resized to {size} and cropped to {crop}, but the weights read {side} x {side}; supported are a "
        "shortest edge or a square of that size"
    )


# ---- Weights


def _state(weights: Weights, text: Mapping[str, Any], image: Mapping[str, Any], projection: int) -> dict[str, Tensor]:
    """Returns the weights by our names."""
    state = {"log_scales.image-text": weights.take("logit_scale")}
    words, patch = number(text, "hidden_size"), number(image, "patch_size")
    cells, wide = (number(image, "image_size") // patch) ** 2, number(image, "hidden_size")
    start = "text_model.embeddings."
    state["encoders.text.stem.table.weight"] = weights.take(
        f"{start}token_embedding.weight", number(text, "vocab_size"), words
    )
    state["encoders.text.positions.axes.0"] = weights.take(
        f"{start}position_embedding.weight", number(text, PLACES), words
    )
    start = "vision_model.embeddings."
    cut = weights.take(f"{start}patch_embedding.weight", wide, 3, patch, patch)
    state["encoders.image.stem.project.weight"] = cut.flatten(1)  # colour, row, column: the order of layers/stem.py
    state["encoders.image.stem.project.bias"] = torch.zeros(wide)
    places = weights.take(f"{start}position_embedding.weight", cells + 1, wide)
    state["encoders.image.first_token"] = weights.take(f"{start}class_embedding", wide) + places[0]
    state["encoders.image.positions.cells"] = places[1:].clone()
    for theirs, ours, settings, size, last in (
        ("text_model", "text", text, words, "final_layer_norm"),
        ("vision_model", "image", image, wide, "post_layernorm"),
    ):
        norms = [(last, "norm"), *([("pre_layrnorm", "norm_in")] if ours == "image" else [])]  # spelt so in every file
        for published, name in norms:
            for part in ("weight", "bias"):
                state[f"encoders.{ours}.{name}.{part}"] = weights.take(f"{theirs}.{published}.{part}", size)
        inner = number(settings, "intermediate_size")
        for layer in range(number(settings, "num_hidden_layers")):
            block = _block(weights, f"{theirs}.encoder.layers.{layer}", size, inner)
            state |= {f"encoders.{ours}.blocks.{layer}.{name}": value for name, value in block.items()}
        head = "text_projection" if ours == "text" else "visual_projection"
        state[f"heads.{ours}.weight"] = weights.take(f"{head}.weight", projection, size)
        state[f"centre_{ours}"] = torch.zeros(projection)
    return state


def _block(weights: Weights, start: str, width: int, inner: int) -> dict[str, Tensor]:
    """Returns the weights of one block by our names: queries, keys and values as one product."""
    state = {}
    for part, shape in (("weight", (width, width)), ("bias", (width,))):
        attention = [weights.take(f"{start}.self_attn.{name}_proj.{part}", *shape) for name in "qkv"]
        state[f"attend_self.qkv.{part}"] = torch.cat(attention)
        state[f"attend_self.out.{part}"] = weights.take(f"{start}.self_attn.out_proj.{part}", *shape)
        for norm, ours in (("layer_norm1", "norm_self"), ("layer_norm2", "norm_mlp")):
            state[f"{ours}.{part}"] = weights.take(f"{start}.{norm}.{part}", width)
    for theirs, ours, sizes in (("fc1", "mlp_in", (inner, width)), ("fc2", "mlp_out", (width, inner))):
        state[f"{ours}.weight"] = weights.take(f"{start}.mlp.{theirs}.weight", *sizes)
        state[f"{ours}.bias"] = weights.take(f"{start}.mlp.{theirs}.bias", sizes[0])
    return state
