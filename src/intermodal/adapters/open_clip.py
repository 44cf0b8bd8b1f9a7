"""CLIP weights in open_clip's layout, read without that library into our own ``systems/clip.py``.

A folder holds ``open_clip_config.json``, ``open_clip_model.safetensors`` and the tokenizer's files. Its names are put
into those of the Hugging Face layout, and ``adapters/clip.py`` does the rest; what comes out is a ``Clip`` like any
other.

Strict: every key of the file is spent, every weight is set, every setting that changes the result is followed or
refused by name. Followed are the vision and text transformers of the paper, with either activation and of any size.
Left out: all other architectures (ResNet, timm and Hugging Face towers, SigLIP's bias, CoCa). Where what is left over
of a resized picture is odd, the middle is cut by Hugging Face's rule, which is up to one pixel beside torchvision's.

Source: the layout is that of open_clip 3 (Ilharco et al. 2021); Cherti et al. 2022, arXiv 2212.07143.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intermodal.adapters import _files
from intermodal.adapters._files import number, read_object
from intermodal.adapters.clip import ARGMAX_EOS, IMAGE, PICTURES, RESIZES, TEXT, TOKENS, assembled
from intermodal.errors import InvalidCheckpoint
from intermodal.fetching import OPEN_CLIP, OPEN_CLIP_WEIGHTS
from intermodal.systems.clip import Clip

TOWER = {"width", "layers", "mlp_ratio", "patch_dropout", "output_tokens"}
"""Settings of both towers that are followed, or that change nothing of a vector."""

FOLLOWED = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"}
    | {"nonscalar_logit_scale", "output_dict", "cast_dtype"},
    "vision_cfg": TOWER | {"head_width", "patch_size", "image_size"},
    "text_cfg": TOWER | {"heads", "context_length", "vocab_size", "hf_tokenizer_name", "pad_id", "eos_id"},
    "preprocess_cfg": {"size", "mean", "std", "interpolation", "resize_mode", "fill_color"},
}
"""The same of each part of the file."""

USUAL = {"pos_embed_type": "learnable", "block_type": "default", "proj_type": "linear", "mode": "RGB"} | {
    "attn_pooler_queries": 256,
    "attn_pooler_heads": 8,
    "timm_pool": "avg",
    "timm_proj": "linear",
    "hf_model_pretrained": True,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "mean_pooler",
}
"""Values of all other settings with which a tower is the paper's, beside none, false and 0."""

POOLS = {"vision_cfg": "tok", "text_cfg": "argmax"}

NAMES = (
    (r"^(visual\.)?transformer\.resblocks\.", r"\1encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.encoder\.", "vision_model.encoder."),
    (r"^encoder\.", "text_model.encoder."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
)
"""Names of weights here and in the Hugging Face layout, one rule after the other."""


def load(folder: Path) -> Clip:
    """Returns the published model in ``folder``, in fp32.

    Raises:
        InvalidCheckpoint: a file is missing or damaged, a setting is not supported, or the weights do not fit the
            settings; lists every missing, unexpected and misshapen key.
    """
    config = read_object(folder / OPEN_CLIP)
    model = _part(config, "model_cfg", config)
    text, image = _part(model, "text_cfg", config), _part(model, "vision_cfg", config)
    pictures = _part(config, "preprocess_cfg", config)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    texts, images = _text(text) | {"hidden_act": activation}, _image(image) | {"hidden_act": activation}
    width = number(model, "embed_dim")
    files = [folder / OPEN_CLIP_WEIGHTS]
    if not files[0].exists():
        raise InvalidCheckpoint(
            f"{folder} holds no {OPEN_CLIP_WEIGHTS}; download it too: weights that are pickled are never opened here"
        )
    found = {re.sub(r"^text\.", "", name): value for name, value in _files.load(files).items()}
    _check(folder, found, _shapes(texts, images, width))
    settings = (texts, images, _pictures(pictures, images["image_size"]))
    told = [folder / name for name in (OPEN_CLIP, *TOKENS)]
    return assembled(folder, settings, width, _renamed(found), [*told, *files])


# ---- Settings


def _part(settings: Mapping[str, Any], name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one part of the file, every setting of it checked that is not followed.

    Raises:
        InvalidCheckpoint: it is absent, or has settings of another architecture; names all of them.
    """
    found = settings.get(name, {} if name == "preprocess_cfg" else None)
    if not isinstance(found, dict):
        raise InvalidCheckpoint(f"{OPEN_CLIP} has no object {name}; give a whole, published folder")
    if name == "vision_cfg" and isinstance(found.get("layers"), list):
        raise InvalidCheckpoint(
            f"{OPEN_CLIP} describes a ResNet (vision_cfg has a list of layers); read are ViTs alone"
        )
    usual = USUAL | {"pool_type": POOLS.get(name)}
    wrong = [
        f"{name}.{key} {value!r}"
        for key, value in sorted(found.items())
        if key not in FOLLOWED[name] and value and value != usual.get(key)
    ]
    if wrong:
        raise InvalidCheckpoint(
            f"{OPEN_CLIP} has {', '.join(wrong)}, which is not followed here; read are the transformers of CLIP's paper"
        )
    return found


def _sizes(settings: Mapping[str, Any], known: Mapping[str, Any], default: tuple[int, int, float]) -> dict[str, Any]:
    """Returns what both towers have, by its names in the Hugging Face layout.

    Args:
        settings: of a tower.
        known: its settings there where the file does not say.
        default: width, layers and the ratio of the inner width, where it does not say.
    """
    width, ratio = number(settings, "width", default[0]), settings.get("mlp_ratio", default[2])
    if not isinstance(ratio, int | float) or ratio <= 0:
        raise InvalidCheckpoint(f"mlp_ratio is {ratio!r}; expected a number above 0")
    depth = number(settings, "layers", default[1])
    inner = int(width * ratio)
    return {**known, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": depth}


def _text(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the text tower's settings."""
    return _sizes(settings, TEXT, (512, 12, 4.0)) | {
        "num_attention_heads": number(settings, "heads", 8),
        "max_position_embeddings": number(settings, "context_length", 77),
        "vocab_size": number(settings, "vocab_size", 49_408),
        "eos_token_id": ARGMAX_EOS,
    }


def _image(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the picture tower's settings."""
    made = _sizes(settings, IMAGE, (768, 12, 4.0))
    return made | {
        "num_attention_heads": made["hidden_size"] // number(settings, "head_width", 64),
        "image_size": number(settings, "image_size", 224),
        "patch_size": number(settings, "patch_size", 16),
    }


def _pictures(settings: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Returns how pictures are prepared.

    Raises:
        InvalidCheckpoint: in a way that is not followed.
    """
    size, mode = number(settings, "size", side), settings.get("resize_mode") or "shortest"
    way = settings.get("interpolation") or "bicubic"
    way = "bicubic" if way == "random" else way  # random in training alone
    if mode not in ("shortest", "squash") or way not in RESIZES.values() or size != side:
        raise InvalidCheckpoint(
            f"{OPEN_CLIP} prepares pictures of {size} pixels, {mode!r} and {way!r}, for a tower of {side}; followed "
            "are equal sizes, shortest or squash, bicubic or bilinear"
        )
    square = {"height": side, "width": side}
    return PICTURES | {
        "size": {"shortest_edge": side} if mode == "shortest" else square,
        "crop_size": square,
        "do_center_crop": mode == "shortest",
        "resample": next(number for number, name in RESIZES.items() if name == way),
        "image_mean": _colours(settings.get("mean") or PICTURES["image_mean"]),
        "image_std": _colours(settings.get("std") or PICTURES["image_std"]),
    }


def _colours(given: Any) -> tuple[float, ...]:
    """Returns a number per colour."""
    return tuple(given) if isinstance(given, list | tuple) else (given,) * 3


# ---- Weights


def _shapes(text: Mapping[str, Any], image: Mapping[str, Any], width: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight by its name in the file."""
    words, wide, patch = text["hidden_size"], image["hidden_size"], image["patch_size"]
    cells = (image["image_size"] // patch) ** 2
    found: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "token_embedding.weight": (text["vocab_size"], words),
        "positional_embedding": (text["max_position_embeddings"], words),
        "text_projection": (words, width),
        "visual.conv1.weight": (wide, 3, patch, patch),
        "visual.class_embedding": (wide,),
        "visual.positional_embedding": (cells + 1, wide),
        "visual.proj": (wide, width),
    }
    norms = [("ln_final", words), ("visual.ln_pre", wide), ("visual.ln_post", wide)]
    for start, settings in (("", text), ("visual.", image)):
        size, inner = settings["hidden_size"], settings["intermediate_size"]
        for layer in range(settings["num_hidden_layers"]):
            block = f"{start}transformer.resblocks.{layer}"
            norms += [(f"{block}.ln_1", size), (f"{block}.ln_2", size)]
            for name, rows, columns in (
                ("attn.in_proj_", 3 * size, size),
                ("attn.out_proj.", size, size),
                ("mlp.c_fc.", inner, size),
                ("mlp.c_proj.", size, inner),
            ):
                found |= {f"{block}.{name}weight": (rows, columns), f"{block}.{name}bias": (rows,)}
    return found | {f"{name}.{part}": (size,) for name, size in norms for part in ("weight", "bias")}


def _check(folder: Path, found: dict[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that every weight is there and has its shape, and that nothing is left; takes a scale out of a list.

    Raises:
        InvalidCheckpoint: lists all that is wrong.
    """
    if "logit_scale" in found and tuple(found["logit_scale"].shape) == (1,):
        found["logit_scale"] = found["logit_scale"][0]
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        if tuple(found[name].shape) != wanted[name]:
            problems.append(f"{name} is {tuple(found[name].shape)}, not {wanted[name]}")
    if problems:
        raise InvalidCheckpoint(f"the weights in {folder} do not fit its {OPEN_CLIP}: {'; '.join(problems)}")


def _renamed(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights by their names in the Hugging Face layout, the joint product of attention in three."""
    made = {}
    for theirs, value in found.items():
        name = theirs
        for pattern, other in NAMES:
            name = re.sub(pattern, other, name)
        if theirs in ("text_projection", "visual.proj"):
            made[name] = value.T
        elif ".attn.in_proj_" in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                made[re.sub(r"\.attn\.in_proj_", f".self_attn.{letter}_proj.", name)] = part
        else:
            made[name] = value
    return made


def named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights of the Hugging Face layout by their names here: what ``load`` reads, the other way round."""
    rules = [
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        *(("text_projection.weight", "text_projection"), ("visual_projection.weight", "visual.proj")),
        *(("text_model.encoder.layers.", "transformer.resblocks."), ("text_model.final_layer_norm.", "ln_final.")),
        ("text_model.embeddings.token_embedding.", "token_embedding."),
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        *(("vision_model.pre_layrnorm.", "visual.ln_pre."), ("vision_model.post_layernorm.", "visual.ln_post.")),
        *((".layer_norm1.", ".ln_1."), (".layer_norm2.", ".ln_2."), (".self_attn.out_proj.", ".attn.out_proj.")),
        *((".mlp.fc1.", ".mlp.c_fc."), (".mlp.fc2.", ".mlp.c_proj.")),
    ]
    made = {}
    for theirs, value in weights.items():
        name = theirs
        for other, own in rules:
            name = name.replace(other, own)
        if ".self_attn.q_proj." in theirs:
            three = [weights[theirs.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
            made[name.replace(".self_attn.q_proj.", ".attn.in_proj_")] = torch.cat(three)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", theirs):
            made[name] = value.T.contiguous() if name in ("text_projection", "visual.proj") else value
    return made
