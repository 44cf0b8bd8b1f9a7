"""Published BLIP weights in the Hugging Face layout, read without it into our own ``systems/blip.py``.

    BlipForConditionalGeneration   pictures to captions                         Captioner
    BlipForQuestionAnswering       a picture and a question to an answer        Answerer
    BlipForImageTextRetrieval      vectors, and whether picture and text match  Matcher

Which of these a folder is, is told by the class that wrote it (``architectures`` in ``config.json``). A folder holds
its settings, its weights as safetensors, and ``vocab.txt`` or ``tokenizer.json``. Each of the three has the verbs that
the weights were trained for; its ``model`` is a ``Blip`` like any other, which trains and is saved in our own layout.

Strict: every key of the file is spent, every weight is set. As in transformers, a text that is read with a picture
begins with [CLS]; in the authors' own code with [ENC]. Left out: other folders of BLIP, refused by name.

Source: Li et al. 2022, arXiv 2201.12086; the layout is that of transformers 5.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intermodal.adapters import _bert
from intermodal.adapters._files import Weights, is_number, read_object
from intermodal.adapters.clip import PICTURES, RESIZES, fit_of, picture_settings
from intermodal.decoders.asking import Roles
from intermodal.decoders.looking import READS, WRITES, Stack
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.layers.block import Norms
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import TextPreprocessor
from intermodal.saving import fingerprint
from intermodal.systems.blip import CONTRAST, MATCHING, WRITING, Blip, Config, build
from intermodal.types import Candidate, Item, Sample

CAPTIONS, ANSWERS = "BlipForConditionalGeneration", "BlipForQuestionAnswering"
RETRIEVAL = "BlipForImageTextRetrieval"
ROLES: dict[str, tuple[Roles, tuple[str, ...]]] = {
    CAPTIONS: (Roles(caption="text"), (WRITING,)),
    ANSWERS: (Roles(question="question", answer="answer"), ()),
    RETRIEVAL: (Roles(caption="text"), (CONTRAST, MATCHING)),
}
"""What each kind of folder is: its fields, and what was learnt of captions."""

TEXT = {
    "vocab_size": 30_524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 30_522,
    "sep_token_id": 102,
}
"""What the settings of the text transformers are where the file does not say."""

IMAGE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 16,
}
"""The same of the transformer over pictures."""

PREPARED = {**PICTURES, "do_center_crop": False, "size": {"height": 384, "width": 384}}
"""How pictures are prepared where the file does not say."""

LONGEST = 20
"""Ids that are written at most where the folder does not say."""


class Captioner(nn.Module):
    """Translates, Completes: image to text. ``begin`` may be set: words that each caption begins with."""

    directions = (("image", "text"),)

    def __init__(self, model: Blip, fingerprint: str) -> None:
        """Wraps a model that writes captions."""
        super().__init__()
        self.model, self.preprocessors, self.fingerprint = model, model.preprocessors, fingerprint

    @property
    def begin(self) -> str:
        """Words that each caption begins with."""
        return self.model.begin

    @begin.setter
    def begin(self, words: str) -> None:
        self.model.begin = words

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns a caption of each picture: see ``Blip.translate``."""
        return self.model.translate(items, to, source=source, sampling=sampling, count=count)

    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns several captions of each picture: see ``Blip.candidates``."""
        return self.model.candidates(samples, to, sampling=sampling, count=count)


class Answerer(nn.Module):
    """Answers questions about a picture."""

    def __init__(self, model: Blip, fingerprint: str) -> None:
        """Wraps a model that writes answers."""
        super().__init__()
        self.model, self.preprocessors, self.fingerprint = model, model.preprocessors, fingerprint

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words.

        Raises:
            Unsupported: the sample is no picture alone.
        """
        if set(sample) != {"image"}:
            raise Unsupported(f"this model answers about one image, not about {', '.join(sample) or 'nothing'}")
        return self.model.answer(sample, question)


class Matcher(nn.Module):
    """Embeds and Scores: pictures and texts."""

    def __init__(self, model: Blip, fingerprint: str) -> None:
        """Wraps a model that has vectors and matches."""
        super().__init__()
        self.model, self.preprocessors, self.fingerprint = model, model.preprocessors, fingerprint
        self.config = model.config

    def embed(self, items: Sequence[Item], fields: str | None = None) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item: see ``Blip.embed``."""
        return self.model.embed(items, fields)

    def matches(self, pictures: Sequence[Item], texts: Sequence[Item]) -> Float[Tensor, " N"]:
        """Returns the log-odds that each picture and the text beside it belong together."""
        return self.model.matches(pictures, texts)

    def score(self, a: Sequence[Item], b: Sequence[Item], nearest: int = 0) -> Float[Tensor, "A B"]:
        """Returns the log-odds that each picture and text belong together: see ``Blip.score``."""
        return self.model.score(a, b, nearest)


WRAPPERS = {CAPTIONS: Captioner, ANSWERS: Answerer, RETRIEVAL: Matcher}


def load(folder: Path) -> Any:
    """Returns the published model in ``folder``, in fp32: a ``Captioner``, an ``Answerer`` or a ``Matcher``.

    Raises:
        InvalidCheckpoint: a file is missing or damaged, a setting is not supported, or the weights do not fit the
            settings; lists every missing, unexpected and misshapen key.
    """
    settings = read_object(folder / "config.json")
    kind = (settings.get("architectures") or [CAPTIONS])[0]
    if kind not in ROLES:
        raise InvalidCheckpoint(f"{folder} was written by {kind}; of BLIP this package reads {', '.join(ROLES)}")
    text, image = _settings(settings, "text_config", TEXT), _settings(settings, "vision_config", IMAGE)
    try:
        config = _config(folder, kind, text, image, int(settings.get("image_text_hidden_size", 256)))
        with torch.device("meta"):
            model = build(config)
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} describes no model of this package: {error}") from error
    weights = _bert.load(folder)
    filled = _bert.filled(model, _state(weights, config), weights, folder)
    read = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".safetensors"))
    return WRAPPERS[kind](filled, fingerprint(read)).eval()


# ---- Settings


def _settings(settings: Mapping[str, Any], part: str, known: Mapping[str, int]) -> dict[str, int]:
    """Returns the numbers of a transformer, all else checked."""
    found = settings.get(part) or {}
    if not isinstance(found, dict):
        raise InvalidCheckpoint(f"config.json has a {part} that is no object; give a whole, published folder")
    usual = 1e-12 if part == "text_config" else 1e-5
    if found.get("hidden_act", "gelu") != "gelu" or not is_number(found.get("layer_norm_eps", usual), usual):
        raise InvalidCheckpoint(
            f"{part} has hidden_act {found.get('hidden_act')!r} and layer_norm_eps {found.get('layer_norm_eps')}; "
            f"expected 'gelu' and {usual}: nothing else is followed"
        )
    numbers: dict[str, int] = {}
    for name, default in known.items():
        value = found.get(name, default)
        if isinstance(value, list | tuple) and len(set(value)) == 1:  # a square
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidCheckpoint(f"{part} has {name} {value!r}; expected a whole number of at least 1")
        numbers[name] = value
    return numbers


def _config(folder: Path, kind: str, text: Mapping[str, int], image: Mapping[str, int], space: int) -> Config:
    """Returns the config of our own system."""
    tokenizer = _bert.tokenizer_of(folder)
    rows, begin = text["vocab_size"], text["bos_token_id"]
    if tokenizer.vocab_size > rows or begin >= rows or tokenizer.end_id != text["sep_token_id"]:
        raise InvalidCheckpoint(
            f"{folder} has a vocabulary of {tokenizer.vocab_size} pieces that ends texts with {tokenizer.end_id}, and "
            f"weights for {rows} that begin them with {begin} and end them with {text['sep_token_id']}; use the one "
            "that belongs to the weights"
        )
    side, patch = image["image_size"], image["patch_size"]
    found = picture_settings(folder, PREPARED)
    mean, std, resize = tuple(found["image_mean"]), tuple(found["image_std"]), RESIZES[found["resample"]]
    roles, learns = ROLES[kind]
    return Config(
        roles,
        ImagePreprocessor(side, side, patch, mean, std, fit_of(found, side), resize, "pillow"),
        TextPreprocessor(tokenizer, text["max_position_embeddings"]),
        learns,
        _stack(image),
        _stack(text),
        grid=(side // patch, side // patch),
        space=space,
        shared=False,
        begins=(tokenizer.begin_id, begin),
        rows=rows,
        kept=0.0,
        norms=Norms(True, 1e-12),
        longest=_longest(folder),
    )


def _stack(settings: Mapping[str, int]) -> Stack:
    """Returns how large a transformer is."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return Stack(*(settings[name] for name in names))


def _longest(folder: Path) -> int:
    """Returns how many ids are written at most behind the first one."""
    text = read_object(folder / "config.json").get("text_config") or {}
    path = folder / "generation_config.json"
    told = (read_object(path).get("max_length") if path.exists() else None) or text.get("max_length")
    return told - 1 if isinstance(told, int) and told > 1 else LONGEST


# ---- Weights by our names


def _state(weights: Weights, config: Config) -> dict[str, Tensor]:
    """Returns the weights by our names."""
    state = _eyes(weights, config)
    size, wide = config.said.width, config.seen.width
    asks, learns = bool(config.roles.question), config.learns
    if asks or MATCHING in learns:
        state |= _text(weights, "text_encoder", READS, config, wide)
    if asks or WRITING in learns:
        state |= _text(weights, "text_decoder.bert", WRITES, config, size if asks else wide)
        head = _bert.word_head(weights, state[f"texts.{WRITES}.table.weight"], "text_decoder.cls.predictions")
        state |= {f"texts.{WRITES}.{name}": value for name, value in head.items()}
    if CONTRAST in learns:
        state |= _bert.linear(weights, "vision_proj", "heads.image", config.space, wide)
        state |= _bert.linear(weights, "text_proj", "heads.text", config.space, size)
        state["log_scale"] = torch.tensor(-math.log(0.07))  # no file has it
    if MATCHING in learns:
        state |= _bert.linear(weights, "itm_head", "match", 2, size)
    return state


def _eyes(weights: Weights, config: Config) -> dict[str, Tensor]:
    """Returns the weights of the transformer over pictures."""
    width, inner = config.seen.width, config.seen.mlp_width
    patch, start = config.image.patch, "vision_model.embeddings"
    cut = weights.take(f"{start}.patch_embedding.weight", width, 3, patch, patch)
    places = weights.take(f"{start}.position_embedding", 1, math.prod(config.grid) + 1, width)[0]
    state = {
        "eyes.stem.project.weight": cut.flatten(1),  # colour, row, column: the order of layers/stem.py
        "eyes.stem.project.bias": weights.take(f"{start}.patch_embedding.bias", width),
        "eyes.first_token": weights.take(f"{start}.class_embedding", 1, 1, width)[0, 0] + places[0],
        "eyes.places.cells": places[1:].clone(),
    }
    for i in range(config.seen.depth):
        theirs, ours = f"vision_model.encoder.layers.{i}", f"eyes.blocks.{i}"
        for one, other in (("layer_norm1", "norm_self"), ("layer_norm2", "norm_mlp")):
            state |= _bert.linear(weights, f"{theirs}.{one}", f"{ours}.{other}", width)
        state |= _bert.linear(weights, f"{theirs}.self_attn.qkv", f"{ours}.attend_self.qkv", 3 * width, width)
        state |= _bert.linear(weights, f"{theirs}.self_attn.projection", f"{ours}.attend_self.out", width, width)
        state |= _bert.linear(weights, f"{theirs}.mlp.fc1", f"{ours}.mlp_in", inner, width)
        state |= _bert.linear(weights, f"{theirs}.mlp.fc2", f"{ours}.mlp_out", width, inner)
    return state | _bert.linear(weights, "vision_model.post_layernorm", "eyes.norm", width)


def _text(weights: Weights, start: str, way: str, config: Config, seen: int) -> dict[str, Tensor]:
    """Returns the weights of the text transformer of one way, which looks at something of the width ``seen``."""
    width, inner, tokens, ours = config.said.width, config.said.mlp_width, config.text.tokens_max, f"texts.{way}"
    names = f"{start}.embeddings"
    state = {
        f"{ours}.table.weight": weights.take(f"{names}.word_embeddings.weight", config.rows, width),
        f"{ours}.places.axes.0": weights.take(f"{names}.position_embeddings.weight", tokens, width),
    }
    state |= _bert.linear(weights, f"{names}.LayerNorm", f"{ours}.norm_in", width)
    for i in range(config.said.depth):
        theirs, layer = f"{start}.encoder.layer.{i}", f"{ours}.layers.{i}"
        own = _bert.attention(weights, f"{theirs}.attention.self", f"{theirs}.attention.output", width)
        state |= {f"{layer}.ways.{way}.{name}": value for name, value in own.items()}
        cross, rest = f"{theirs}.crossattention", f"{layer}.rest"
        state |= _bert.linear(weights, f"{cross}.self.query", f"{rest}.attend_cross.q", width, width)
        both = [_bert.linear(weights, f"{cross}.self.{name}", "kv", width, seen) for name in ("key", "value")]
        state |= {f"{rest}.attend_cross.{name}": torch.cat([one[name] for one in both]) for name in both[0]}
        state |= _bert.linear(weights, f"{cross}.output.dense", f"{rest}.attend_cross.out", width, width)
        state |= _bert.linear(weights, f"{cross}.output.LayerNorm", f"{rest}.norm_cross", width)
        state |= _bert.linear(weights, f"{theirs}.intermediate.dense", f"{rest}.mlp_in", inner, width)
        state |= _bert.linear(weights, f"{theirs}.output.dense", f"{rest}.mlp_out", width, inner)
        state |= _bert.linear(weights, f"{theirs}.output.LayerNorm", f"{rest}.norm_mlp", width)
    return state
