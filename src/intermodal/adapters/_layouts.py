"""A model, or one tower of it, in the form that another library reads; ``_onnx`` writes towers, the rest is here.

A ``Clip`` with the towers of the paper is written as ``clip`` and ``open_clip`` load it:

    transformers          config.json, model.safetensors, preprocessor_config.json and the tokenizer: ``CLIPModel``
    sentence_transformers the same in ``0_CLIPModel/``, and ``modules.json``
    open_clip             open_clip_config.json, open_clip_model.safetensors and the tokenizer

Written are models whose mathematics these libraries have: published weights, trained further here or not. What was
written is read again and compared with the model, item by item, before it gets its name.

Source: the layouts are those of transformers 5, sentence-transformers 5 and open_clip 3.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from intermodal import saving
from intermodal.adapters import _beside, _onnx, clip, open_clip
from intermodal.adapters._towers import in_fp32, items_for, named
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.fetching import CLIP_INSIDE, MODULES, OPEN_CLIP, OPEN_CLIP_WEIGHTS
from intermodal.systems.clip import Clip
from intermodal.tokenizers.bpe import BPETokenizer

LAYOUTS = ("transformers", "open_clip", "sentence_transformers")
FORMS = ("onnx", *LAYOUTS)
MERGES = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""SHA-256 of CLIP's own list of merges, which open_clip has built in."""

DISTANCE_MAX = 1e-5
"""Between a vector of what was written and the model's, which both have length 1."""

TRAINED: dict[str, Any] = {"dropout": 0.0, "token_dropout": 0.0, "frozen": False}
"""Settings of a tower that change nothing of a vector."""


def export(
    model: Any,
    field: str | None,
    path: str | Path,
    int8: bool = False,
    cosine_min: float = _onnx.COSINE_MIN,
    form: str = "onnx",
) -> dict[str, Any]:
    """Writes a model in the form that another library reads, checked against the model; returns what it came to.

    ``onnx`` is one tower as a file, with what prepares its input beside it; the file gives the unit vector of
    ``embed``. Its folder may hold another export of the same name, which is replaced, but no other. The others are a
    whole model of pictures and texts as a folder: published weights, or what was trained further from them.

    Args:
        model: a loaded one, on the CPU, or its name as ``load_model`` takes it.
        field: of the model; None for the only one, and for a whole model.
        path: of the file, ``.onnx``, or of a new folder; what it lies in is made if absent.
        int8: weights as bytes, the products in bytes too (a quarter of the size); of ONNX alone.
        cosine_min: an int8 file whose vectors have a lower cosine to those in fp32 is refused.
        form: onnx, transformers, open_clip or sentence_transformers.

    Raises:
        MissingExtra: onnx or onnxruntime is not installed.
        Unsupported: there is no such form of the model, or what was written gives other vectors; nothing is left.
        UnknownName: the model has no such field.
        InvalidValue: the path is no .onnx file, or there is something already that is not of this export; a form
            that does not exist, or a field or int8 with another form than onnx.
    """
    if form == "onnx":
        return _onnx.export(model, field, path, int8, cosine_min)
    if form in FORMS and (field is not None or int8):
        raise InvalidValue(f"{form} takes a whole model in fp32; leave out {'the field' if field else 'int8'}")
    return _whole(model, path, form)


def load(folder: Path) -> Clip:
    """Returns the model in a folder of one of these layouts, on the CPU.

    Raises:
        Unsupported: there is none, so what was written is not what is read.
    """
    try:
        read: Clip = saving.load_model(folder, device="cpu")
    except InvalidCheckpoint as error:
        raise Unsupported(f"what was written is not what is read: {error}") from error
    return read


def _whole(model: Any, folder: str | Path, layout: str) -> dict[str, Any]:
    """Writes a whole model in the layout of another library, and returns what it came to.

    Args:
        model: a loaded one, on the CPU, or its name as ``load_model`` takes it.
        folder: a new or empty one; made if absent.
        layout: one of ``LAYOUTS``.

    Raises:
        InvalidValue: no such layout, or the folder holds something.
        Unsupported: the library has no such model; says what differs.
    """
    target = Path(folder)
    if layout not in LAYOUTS:
        raise InvalidValue(f"layout is {layout!r}; give onnx or one of {', '.join(LAYOUTS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidValue(f"{target} holds something already; give a new or an empty folder")
    name, model = named(model)
    settings, tokenizer = described(model)
    if layout == "open_clip":
        _check_open_clip(settings, tokenizer)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
        beside = Path(place) / "made"
        inside = beside / CLIP_INSIDE if layout == "sentence_transformers" else beside
        inside.mkdir(parents=True)
        _write_tokenizer(inside, tokenizer, int(settings[0][clip.PLACES]))
        if layout == "open_clip":
            _write_open_clip(inside, settings, model)
        else:
            _write_transformers(inside, settings, tokenizer, model)
        if layout == "sentence_transformers":
            part = {"idx": 0, "name": "0", "path": CLIP_INSIDE, "type": "sentence_transformers.models.CLIPModel"}
            _json(beside / MODULES, [part])
        told = _compared(model, beside)
        (beside / "README.md").write_text(_page(name, model, layout, told), "utf-8")
        if target.exists():
            target.rmdir()
        saving.replace_folder(beside, target)
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    size = sum((target / file).stat().st_size for file in files)
    return {"out": str(target), "layout": layout, "model": name, "bytes": size, "files": files, **told}


# ---- What it is in the words of the paper's layout


def described(model: Any) -> tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], BPETokenizer]:
    """Returns the settings of a model, of texts, of pictures and of their preparation, and its tokenizer.

    Raises:
        Unsupported: it is no model of the paper; lists what is not as it is there.
    """
    if not isinstance(model, Clip):
        raise Unsupported(
            f"a {type(model).__name__} has no form in the layouts of CLIP; those of the system clip have, where their "
            "towers are the paper's, and onnx takes towers of others"
        )
    towers = {tower.modality: (name, tower) for name, tower in model.config.towers.items()}
    if set(towers) != {"image", "text"} or len(model.config.towers) != 2:
        raise Unsupported(
            f"the model has towers for {', '.join(t.modality for t in model.config.towers.values())}; the layouts of "
            "CLIP have one for pictures and one for texts"
        )
    if any(bool(model.get_buffer(f"centre_{name}").any()) for name, _ in towers.values()):
        raise Unsupported(
            "the model takes a mean vector off (set_centres), for which the layouts of CLIP have no place"
        )
    image, text = towers["image"][1], towers["text"][1]
    pictures: Any = image.preprocessor
    tokenizer: Any = getattr(text.preprocessor, "tokenizer", None)
    told = _beside.pictures(pictures) if _beside.is_exact(pictures) else None
    marked = isinstance(tokenizer, BPETokenizer) and tokenizer.lower and tokenizer.word_end == "</w>"
    if told is None or not marked:
        raise Unsupported(
            "the layouts of CLIP have no words for how this model prepares "
            + ("pictures" if told is None else "texts: its tokenizer is not of CLIP's kind")
        )
    words = clip.TEXT | _sizes(text) | {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.end_id}
    words |= {clip.PLACES: int(getattr(text.preprocessor, "tokens_max", 0))}
    seen = clip.IMAGE | _sizes(image) | {"image_size": pictures.height, "patch_size": pictures.patch}
    try:
        _check(towers["text"], clip.text_tower(words, tokenizer))
        _check(towers["image"], clip.image_tower(seen, clip.PICTURES | told))
    except InvalidCheckpoint as error:
        raise Unsupported(f"the layouts of CLIP have no words for this model: {error}") from error
    return (words, seen, clip.PICTURES | told), tokenizer


def _sizes(tower: TowerConfig) -> dict[str, Any]:
    """Returns what both towers have."""
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width or 4 * tower.width,
        "num_hidden_layers": tower.depth,
        "num_attention_heads": tower.heads,
        "hidden_act": tower.activation,
    }


def _check(tower: tuple[str, TowerConfig], wanted: TowerConfig) -> None:
    """Checks that a tower is one of the paper.

    Raises:
        Unsupported: lists what is not.
    """
    name, given = tower
    own = replace(given, mlp_width=given.mlp_width or 4 * given.width, **TRAINED)
    odd = [
        f"{one.name} {getattr(own, one.name)!r} (there {getattr(wanted, one.name)!r})"
        for one in fields(own)
        if one.name != "preprocessor" and getattr(own, one.name) != getattr(wanted, one.name)
    ]
    if own.preprocessor != wanted.preprocessor:
        odd.append("another preparation of its items")
    if odd:
        raise Unsupported(
            f"the {name} tower is not that of CLIP's paper, which alone these layouts can hold: {', '.join(odd)}; "
            "train one further that was loaded from published weights"
        )


def _check_open_clip(settings: tuple[Mapping[str, Any], ...], tokenizer: BPETokenizer) -> None:
    """Raises Unsupported where open_clip's layout holds less than the other."""
    text, image, _ = settings
    if hashlib.sha256("\n".join(tokenizer.merges).encode()).hexdigest() != MERGES:
        raise Unsupported("open_clip's own tokenizer is CLIP's, and this model has another; write it for transformers")
    if text["hidden_act"] != image["hidden_act"]:
        raise Unsupported(
            f"open_clip has one activation for both towers, and this model has {text['hidden_act']} and "
            f"{image['hidden_act']}; write it for transformers"
        )


# ---- Files


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _write_tokenizer(folder: Path, tokenizer: BPETokenizer, places: int) -> None:
    """Writes the vocabulary as the first published folders have it, which every version of the libraries reads."""
    _json(folder / "vocab.json", {symbol: i for i, symbol in enumerate(tokenizer.vocabulary)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *tokenizer.merges, ""]), "utf-8")
    special = {"bos_token": tokenizer.begin, "eos_token": tokenizer.end, "pad_token": tokenizer.pad}
    special["unk_token"] = tokenizer.end
    _json(folder / "special_tokens_map.json", special)
    _json(folder / "tokenizer_config.json", special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": places})
    if BPETokenizer.from_folder(folder) != tokenizer:
        raise Unsupported("the tokenizer of this model has no form in CLIP's layouts, which lower-case and mark words")


def _write_transformers(
    folder: Path, settings: tuple[dict[str, Any], ...], tokenizer: BPETokenizer, model: Clip
) -> None:
    """Writes all but the tokenizer for ``CLIPModel``."""
    text, image, pictures = settings
    ids = {"bos_token_id": tokenizer.begin_id, "pad_token_id": tokenizer.pad_id}
    shared = {"projection_dim": model.config.width}
    head = {"architectures": ["CLIPModel"], "model_type": "clip", "dtype": "float32", **shared}
    parts = {
        "text_config": {"model_type": "clip_text_model", **text, **shared, **ids},
        "vision_config": {"model_type": "clip_vision_model", **image, **shared},
    }
    _json(folder / "config.json", head | parts)
    _json(folder / _beside.PICTURES, {"image_processor_type": "CLIPImageProcessor", **pictures})
    save_file(weights_of(model), folder / "model.safetensors", {"format": "pt"})


def _write_open_clip(folder: Path, settings: tuple[dict[str, Any], ...], model: Clip) -> None:
    """Writes all but the tokenizer for open_clip."""
    text, image, pictures = settings
    common: list[dict[str, Any]] = [
        {
            "width": one["hidden_size"],
            "layers": one["num_hidden_layers"],
            "mlp_ratio": one["intermediate_size"] / one["hidden_size"],
        }
        for one in (text, image)
    ]
    words = {
        "heads": text["num_attention_heads"],
        "context_length": text[clip.PLACES],
        "vocab_size": text["vocab_size"],
    }
    seen = {"head_width": image["hidden_size"] // image["num_attention_heads"]}
    seen |= {"image_size": image["image_size"], "patch_size": image["patch_size"]}
    network = {"embed_dim": model.config.width, "text_cfg": common[0] | words, "vision_cfg": common[1] | seen}
    if text["hidden_act"] == "quick_gelu":
        network["quick_gelu"] = True
    prepared = {"size": image["image_size"], "mode": "RGB", "interpolation": clip.RESIZES[pictures["resample"]]}
    prepared |= {"resize_mode": "shortest" if pictures["do_center_crop"] else "squash"}
    prepared |= {"mean": list(pictures["image_mean"]), "std": list(pictures["image_std"])}
    _json(folder / OPEN_CLIP, {"model_cfg": network, "preprocess_cfg": prepared})
    save_file(open_clip.named(weights_of(model)), folder / OPEN_CLIP_WEIGHTS, {"format": "pt"})


# ---- Weights


def weights_of(model: Clip) -> dict[str, Tensor]:
    """Returns the weights by their names in the Hugging Face layout: what ``clip`` reads, the other way round.

    A bias of the patches, which that layout does not have, goes into the places; the class token holds its own.
    """
    text, image = (model.field_of(one) for one in ("text", "image"))
    state = {name: value.detach().float().cpu() for name, value in model.state_dict().items()}
    eyes, words = (f"encoders.{name}." for name in (image, text))
    tower: Any = model.config.towers[image]
    side = tower.preprocessor.patch
    cells = state[f"{eyes}positions.cells"] + state[f"{eyes}stem.project.bias"]
    first = state[f"{eyes}first_token"]
    made = {
        "logit_scale": next(iter(model.log_scales.values())).detach().float().cpu(),
        "text_model.embeddings.token_embedding.weight": state[f"{words}stem.table.weight"],
        "text_model.embeddings.position_embedding.weight": state[f"{words}positions.axes.0"],
        "vision_model.embeddings.patch_embedding.weight": state[f"{eyes}stem.project.weight"].unflatten(
            1, (3, side, side)
        ),
        "vision_model.embeddings.class_embedding": first,
        "vision_model.embeddings.position_embedding.weight": torch.cat((torch.zeros_like(first)[None], cells)),
        "text_projection.weight": state[f"heads.{text}.weight"],
        "visual_projection.weight": state[f"heads.{image}.weight"],
    }
    norms = [("text_model.final_layer_norm", f"{words}norm"), ("vision_model.post_layernorm", f"{eyes}norm")]
    norms.append(("vision_model.pre_layrnorm", f"{eyes}norm_in"))  # spelt so in every file
    made |= {f"{theirs}.{part}": state[f"{ours}.{part}"] for theirs, ours in norms for part in ("weight", "bias")}
    for theirs, ours, field in (("text_model", words, text), ("vision_model", eyes, image)):
        for layer in range(model.config.towers[field].depth):
            made |= _block(state, f"{ours}blocks.{layer}", f"{theirs}.encoder.layers.{layer}")
    return {name: value.contiguous().clone() for name, value in made.items()}


def _block(state: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """Returns the weights of one block by their names: queries, keys and values apart."""
    names = {"attend_self.out": "self_attn.out_proj", "norm_self": "layer_norm1", "norm_mlp": "layer_norm2"}
    names |= {"mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
    made = {}
    for part in ("weight", "bias"):
        for letter, value in zip("qkv", state[f"{ours}.attend_self.qkv.{part}"].chunk(3), strict=True):
            made[f"{theirs}.self_attn.{letter}_proj.{part}"] = value
        made |= {f"{theirs}.{other}.{part}": state[f"{ours}.{own}.{part}"] for own, other in names.items()}
    return made


# ---- What it came to


def _compared(model: Clip, folder: Path) -> dict[str, Any]:
    """Returns how far the vectors of what was written are from the model's.

    Raises:
        Unsupported: further than rounding explains.
    """
    read, far = load(folder), 0.0
    for modality in ("image", "text"):
        tried = items_for(model.config.towers[model.field_of(modality)].preprocessor)
        with in_fp32(model), in_fp32(read):
            far = max(far, float((model.embed(tried) - read.embed(tried)).norm(dim=1).max()))
    if not far <= DISTANCE_MAX:
        raise Unsupported(f"what was written gives vectors up to {far:.2g} from the model's; nothing is left of it")
    return {"largest_difference": far, "width": model.config.width}


LINES = {
    "transformers": """from transformers import CLIPModel, CLIPProcessor

model, processor = CLIPModel.from_pretrained("FOLDER"), CLIPProcessor.from_pretrained("FOLDER")""",
    "open_clip": """import open_clip

model, prepare = open_clip.create_model_from_pretrained("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")""",
    "sentence_transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
model.encode(["a dog on a beach"])""",
}
"""How each library loads a folder."""


def _page(name: str, model: Clip, layout: str, told: Mapping[str, Any]) -> str:
    """Returns the page of what was written."""
    count = sum(p.numel() for p in model.parameters())
    return (
        f"# {name}, for {layout}\n\nWritten by intermodal of `{name}`: a CLIP of {count:,} weights, "
        f"pictures and texts to vectors of {told['width']} numbers. Read again, its unit vectors are at most "
        f"{told['largest_difference']:.1e} from the model's own.\n\n```python\n{LINES[layout]}\n```\n\n"
        'With intermodal: `im.load("FOLDER")`.\n'
    )
