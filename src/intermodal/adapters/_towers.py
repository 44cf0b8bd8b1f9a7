"""One tower of a model as one function of tensors: from prepared items to the vector that ``embed`` gives.

``embed`` itself sorts items, packs rows and keeps prepared weights; a graph needs the plain way through the same
modules. Known are the systems that embed field by field (``clip``, ``unified``, ``connected``, ``blip``) and published
dual encoders. Items to try a tower with are made here too: short ones and long ones of its modality.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import saving
from intermodal.adapters._dual import Dual
from intermodal.adapters._frozen import Frozen, alone
from intermodal.adapters.blip import Matcher
from intermodal.decoders.projection import Said
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import UnknownName, Unsupported
from intermodal.media.source import printable
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video
from intermodal.systems.blip import Blip
from intermodal.systems.clip import Clip
from intermodal.systems.connected import Connected
from intermodal.systems.unified import Unified
from intermodal.types import Batch, Embeds, Encoded, Item

LONG_S = 3.0
"""Seconds of the longest sound and series that a tower is tried with."""

LONG_TOKENS = 96
"""Tokens of the longest text, where the tower reads so many."""


@dataclass(frozen=True, eq=False)
class Tower:
    """One field of a model that embeds.

    Attributes:
        field: of the model.
        preprocessor: items -> batch.
        parts: the modules with the weights that are used.
        vectors: a batch -> ``(B, D)``, of any length; it asks nothing of the values but their shapes.
        model: that it is a tower of.
    """

    field: str
    preprocessor: Any
    parts: Sequence[nn.Module]
    vectors: Callable[[Batch], Float[Tensor, "B D"]]
    model: Any

    @property
    def modality(self) -> str:
        """What it reads."""
        return str(self.preprocessor.modality)

    def embed(self, items: Sequence[Item]) -> Float[Tensor, "N D"]:
        """Returns what the model gives for items, in fp32."""
        with in_fp32(self.model):
            found: Tensor = self.model.embed(items, fields=self.field)
        return found.float()


def load(name: str | Path, field: str | None = None) -> Tower:
    """Returns one tower of a model by the model's name, on the CPU: see ``tower_of`` and ``saving.load_model``."""
    return tower_of(saving.load_model(name, device="cpu"), field)


def named(model: Any) -> tuple[str, Any]:
    """Returns a model, loaded on the CPU where its name was given, and its name without the folders before it."""
    if isinstance(model, nn.Module):
        return Path(str(getattr(model, "name", type(model).__name__))).name, model
    name = str(model)
    return name if ":" in name else Path(name).name, saving.load_model(name, device="cpu")


@contextmanager
def in_fp32(model: Any) -> Iterator[None]:
    """Returns a context in which a model that can choose embeds in fp32."""
    chooses = hasattr(model, "precision")
    before = model.precision if chooses else None
    if chooses:
        model.precision = "fp32"
    try:
        yield
    finally:
        if chooses:
            model.precision = before


def tower_of(model: Any, field: str | None = None) -> Tower:
    """Returns one tower of a model.

    Args:
        model: a loaded one.
        field: of it; None for the only one that it makes vectors of.

    Raises:
        Unsupported: the model does not embed, or not field by field; or the encoder of the field is no model.
        UnknownName: it has no such field, or several and none was named.
    """
    if not isinstance(model, Embeds):
        raise Unsupported(f"a {type(model).__name__} does not embed, so it has no tower; give a model with encoders")
    own = model.reader if isinstance(model, Unified) else model.model if isinstance(model, Matcher) else model
    if isinstance(own, Clip | Connected | Blip):
        known: Any = own.config.towers
    elif isinstance(own, Dual):
        known = own.preprocessors
    else:
        raise Unsupported(
            f"a {type(model).__name__} has no towers that stand by themselves; those of clip, unified, connected, blip "
            "and published dual encoders can be written"
        )
    if field is None and len(known) == 1:
        field = next(iter(known))
    if field is None or field not in known:
        raise UnknownName("tower of this model", str(field), known)
    ways: dict[type, Callable[[Any, str], Tower]] = {
        Clip: _of_clip,
        Connected: _of_connected,
        Blip: _of_blip,
        Dual: _of_dual,
    }
    made = next(way for kind, way in ways.items() if isinstance(own, kind))(own, field)
    return replace(made, model=model)


def _of_clip(model: Clip, field: str) -> Tower:
    encoder, head, centre = model.encoders[field], model.heads[field], model.get_buffer(f"centre_{field}")

    def vectors(batch: Batch) -> Tensor:
        return F.normalize(head(encoder(batch).pooled), dim=-1) - centre

    return Tower(field, model.config.towers[field].preprocessor, (encoder, head), vectors, model)


def _of_connected(model: Connected, field: str) -> Tower:
    tower, heads = model.config.towers[field], model.heads[model.config.space(field)]
    centre, scale = (model.get_buffer(f"{name}_{field}") for name in ("centre", "scale"))
    say: Callable[[Batch], Encoded | Said]
    if isinstance(tower, TowerConfig):
        preprocessor, parts, say = tower.preprocessor, [model.encoders[field]], model.encoders[field]
    else:
        preprocessor, parts, say = _said(model.preprocessors[field])

    def vectors(batch: Batch) -> Tensor:
        told = say(batch)
        tokens = told.tokens * told.mask[..., None]
        said = Said(tokens, told.mask, (told.pooled - centre) * scale)
        return model.finished(field, torch.cat([head(said) for head in heads], dim=1))  # type: ignore[attr-defined]

    own = (heads, model.hubs) if model.hubs is not None else (heads,)
    return Tower(field, preprocessor, (*parts, *own), vectors, model)


def _said(one: Frozen) -> tuple[Any, list[nn.Module], Callable[[Batch], Encoded | Said]]:
    """Returns how items of an encoder are prepared, its modules, and what it says of a batch: see ``of_model``.

    Raises:
        Unsupported: it is no model, or one that is made of others itself.
    """
    model, field, space = one.model, str(one.record.get("field")), bool(one.record.get("space"))
    if model is None or isinstance(getattr(model, "preprocessors", {}).get(field), Frozen):
        raise Unsupported(
            f"the encoder {one.origin} is no single network of this package or of published weights, so nothing can be "
            "written of it; export a tower whose encoder is a model"
        )
    own = getattr(model, "encoders", {})
    if not space and hasattr(model, "told"):
        return model.preprocessors[field], [model.network], model.told
    if not space and field in own:
        return model.preprocessors[field], [own[field]], own[field]
    inner = tower_of(model, field)
    return inner.preprocessor, list(inner.parts), lambda batch: alone(F.normalize(inner.vectors(batch), dim=-1))


def _of_blip(model: Blip, field: str) -> Tower:
    if field == model.config.roles.caption:
        return Tower(field, model.preprocessors[field], (model.texts, model.heads), model.alone, model)
    return Tower(
        field,
        model.preprocessors[field],
        (model.eyes, model.heads),
        lambda batch: model.shown(model.eyes(batch)),
        model,
    )


def _of_dual(model: Dual, field: str) -> Tower:
    reading = model.reading(field)

    def vectors(batch: Batch) -> Tensor:
        found = reading.vectors(model.network, batch)
        rows: Tensor = getattr(found, "pooler_output", found)
        return rows

    return Tower(field, reading.preprocessor, (model.network,), vectors, model)


# ---- Items to try it with


def items_for(preprocessor: Any, seed: int = 0) -> list[Item]:
    """Returns six items of the modality that a preprocessor reads, drawn: the first is short, the second is long."""
    rng = np.random.default_rng(seed)
    make = {"text": _texts, "image": _pictures, "audio": _sounds, "video": _clips, "timeseries": _series}
    return make[str(preprocessor.modality)](preprocessor, rng)


def _texts(preprocessor: Any, rng: np.random.Generator) -> list[Item]:
    """Texts of drawn ids; nothing that could be taken for a special sign of a tokenizer is in them."""
    tokenizer, longest = preprocessor.tokenizer, min(int(preprocessor.tokens_max), LONG_TOKENS)
    special = [tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id]
    ids = np.setdiff1d(np.arange(tokenizer.vocab_size), special)
    counts = [1, longest, max(1, longest // 2), 2, max(1, longest // 3), 3]
    words = [printable(tokenizer.decode(rng.choice(ids, count).tolist())) for count in counts]
    return [Text(one.translate(str.maketrans("", "", "<>[]|")).strip() or "a") for one in words]


def _pictures(preprocessor: Any, rng: np.random.Generator) -> list[Item]:
    """Smooth pictures with noise, some wide and some high, of sizes that have to be fitted."""
    high, wide = preprocessor.height, preprocessor.width
    sizes = [(high, wide), (2 * high, wide), (high, 2 * wide), (high + 7, wide + 3), (high, wide), (3 * high, wide)]
    found: list[Item] = []
    for rows, columns in sizes:
        coarse = rng.integers(0, 256, (rows // 8 + 1, columns // 8 + 1, 3))
        fine = coarse.repeat(8, axis=0).repeat(8, axis=1)[:rows, :columns] + rng.integers(-20, 21, (rows, columns, 3))
        found.append(Image(fine.clip(0, 255).astype(np.uint8)))
    return found


def _seconds(preprocessor: Any, least: float) -> list[float]:
    longest = min(float(preprocessor.seconds_max), LONG_S)
    return [max(least, longest * share) for share in (0.1, 1.0, 0.5, 0.2, 0.35, 0.7)]


def _sounds(preprocessor: Any, rng: np.random.Generator) -> list[Item]:
    rate = int(getattr(preprocessor, "sample_rate_hz", 48_000))
    found: list[Item] = []
    for seconds in _seconds(preprocessor, 0.05):
        times = np.arange(round(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * times) + 0.05 * rng.standard_normal(len(times))
        found.append(Audio(np.stack([tone, 0.5 * tone]).astype(np.float32), rate))
    return found


def _clips(preprocessor: Any, rng: np.random.Generator) -> list[Item]:
    count, high, wide = preprocessor.frames, preprocessor.height, preprocessor.width
    sizes = [(1, high, wide), (2 * count, high, wide), (count, high, wide), (count, 2 * high, wide)]
    shapes = [*sizes, (count + 1, high, wide), (count, high, wide)]
    return [Video(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), 8.0) for shape in shapes]


def _series(preprocessor: Any, rng: np.random.Generator) -> list[Item]:
    rate, channels = float(preprocessor.sample_rate_hz), int(preprocessor.channels)
    names = tuple(preprocessor.names) or tuple(str(i) for i in range(channels))
    found: list[Item] = []
    for seconds in _seconds(preprocessor, 1 / rate):
        wave = rng.standard_normal((channels, max(1, round(seconds * rate)))).astype(np.float32)
        found.append(TimeSeries(wave * preprocessor.scale + preprocessor.offset, names, rate))
    return found
