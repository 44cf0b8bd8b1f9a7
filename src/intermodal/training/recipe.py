"""From data to a config: which towers, which vocabulary, which numbers of the preprocessors.

What the data says is read from its first samples: channels and rate of series, channels of sound, size of pictures.
Whatever is chosen here is in the saved config and can be overridden by its dotted path.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intermodal import catalog
from intermodal.config import override
from intermodal.errors import InvalidData, UnknownName
from intermodal.types import Sample

_PEEK = 64  # samples that numbers are taken from
_TEXTS = 20_000  # samples that words are taken from
_WORDS = 8_000


def recipe(
    system: str,
    source: Any,
    size: str = "tiny",
    fields: Sequence[str] | None = None,
    changes: Mapping[str, str] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Any:
    """Returns the config of ``system`` for the data in ``source``.

    Args:
        system: a name of ``systems/``.
        source: data; its fields become towers, or the one field of a system that has no towers.
        size: a size of that system.
        fields: leave out all other fields.
        changes: overrides by dotted path; they come last.
        parts: whole configs of parts by dotted path, of models that are taken into this one: ``codecs.image``.

    Raises:
        UnknownName: a system, size, field or path that does not exist.
        InvalidValue: a value, or a part of another kind, that its place does not take.
    """
    module = catalog.module("systems", system)
    for name in fields or ():
        if name not in source.fields:
            raise UnknownName("field in the data", name, source.fields)
    chosen = {name: modality for name, modality in source.fields.items() if not fields or name in fields}
    samples = source.samples(range(min(_PEEK, len(source))))
    missing = [name for name in chosen if not any(name in s for s in samples)]
    if missing and len(source) <= _PEEK:
        raise InvalidData(f"no sample has the field {missing[0]!r}; leave it out or check the files")
    config = module.sized(size, chosen, _tokenizer(source, chosen))
    if size == "tiny":
        numbers = _numbers(chosen, samples)
        own = {f.name for f in dataclasses.fields(config)}
        if "towers" in own:
            config = override(config, numbers)
        elif "preprocessor" in own:  # a system of one field: its preprocessor stands in the config itself
            numbers = {path.split(".", 2)[2]: value for path, value in numbers.items()}
            config = _centred(override(config, numbers), samples)
    return override(override(config, parts or {}), changes or {})


def _tokenizer(source: Any, fields: Mapping[str, str]) -> Any:
    """Returns a word tokenizer of the data's texts."""
    word = catalog.module("tokenizers", "word").TOKENIZER
    vocabulary = getattr(source, "vocabulary", None)
    if vocabulary:
        return word(words=tuple(vocabulary))
    names = [name for name, modality in fields.items() if modality == "text"]
    texts: list[str] = []
    captions = getattr(source, "captions", None)
    readable = getattr(source, "texts", None)
    step = max(1, len(source) // _TEXTS)
    index = range(0, len(source), step)
    if readable:
        texts = [t for name in names for t in readable(name, index)]
    elif names:
        for i in index:
            sample = source.samples([i])[0]
            for name in names:
                several = captions(i, name) if captions else ()
                texts += list(several) or ([sample[name].text] if name in sample else [])
    return word.train(texts, _WORDS) if texts else word(words=())


def _centred(config: Any, samples: Sequence[Sample]) -> Any:
    """Returns a config whose ``offset`` and ``scale`` are the mean and twice the spread of the first samples."""
    values = config.preprocessor([s[config.name] for s in samples if config.name in s]).values
    spread = float(values.std()) or 0.5
    return override(config, {"offset": f"{float(values.mean()):.4f}", "scale": f"{2 * spread:.4f}"})


def _numbers(fields: Mapping[str, str], samples: Sequence[Sample]) -> dict[str, str]:
    """Returns overrides that fit the preprocessors of small towers to what the first samples look like."""
    changes: dict[str, str] = {}
    for name, modality in fields.items():
        items: list[Any] = [s[name] for s in samples if name in s]
        path = f"towers.{name}"
        if not items:
            continue
        if modality == "image" and np.median([max(i.pixels.shape[:2]) for i in items]) <= 40:
            changes |= {f"{path}.preprocessor.height": "32", f"{path}.preprocessor.width": "32"}
            changes |= {f"{path}.preprocessor.patch": "8", f"{path}.first": "2,2"}
        elif modality == "audio" and max(i.samples.shape[0] for i in items) == 1:
            changes[f"{path}.preprocessor.channels"] = "1"
        elif modality == "timeseries":
            changes |= _series_numbers(path, items)
    return changes


def _series_numbers(path: str, items: Sequence[Any]) -> dict[str, str]:
    """Returns overrides for series: channels, rate, scale, and a patch that gives about four tokens."""
    values = np.concatenate([i.values.ravel() for i in items])
    length = float(np.median([i.values.shape[1] for i in items]))
    spread = float(values.std()) or 1.0
    return {
        f"{path}.preprocessor.channels": str(max(i.values.shape[0] for i in items)),
        f"{path}.preprocessor.sample_rate_hz": str(float(np.median([i.sample_rate_hz for i in items]))),
        f"{path}.preprocessor.patch": str(2 ** max(0, int(math.log2(max(1.0, length / 4))))),
        f"{path}.preprocessor.offset": str(float(values.mean())),
        f"{path}.preprocessor.scale": str(spread),
    }
