"""From data to a config: which towers, which vocabulary, which numbers of the preprocessors.

What the data says is read from its first samples: channels and rate of series, channels of sound, size of pictures.
Whatever is chosen here is in the saved config and can be overridden by its dotted path.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from intermodal import catalog
from intermodal.config import override
from intermodal.decoders.tasks import task_of
from intermodal.errors import InvalidData, UnknownName
from intermodal.types import Sample

_PEEK = 64  # samples that numbers are taken from
_TEXTS = 20_000  # samples that words are taken from
_WORDS = 8_000
_TOLD = 5_000  # samples that classes and labels are taken from, at least
_ANSWERS = 4_000


def recipe(
    system: str,
    source: Any,
    size: str = "tiny",
    fields: Sequence[str] | None = None,
    changes: Mapping[str, str] | None = None,
    parts: Mapping[str, Any] | None = None,
    start: Any = None,
) -> Any:
    """Returns the config of ``system`` for the data in ``source``.

    Args:
        system: a name of ``systems/``.
        source: data; its fields become towers, or the one field of a system that has no towers.
        size: a size of that system.
        fields: leave out all other fields.
        changes: overrides by dotted path; they come last.
        parts: whole configs of parts by dotted path, of models that are taken into this one: ``codecs.image``.
        start: the config of a model whose weights this one starts with: its words keep their ids, new ones follow.

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
    config = module.sized(size, chosen, _continued(_tokenizer(source, chosen), tokenizer_of(start)))
    own = {f.name for f in dataclasses.fields(config)}
    if "tasks" in own:
        config = dataclasses.replace(config, tasks={name: task_of(_texts(source, name)) for name in config.tasks})
    if size == "tiny":
        numbers = _numbers(chosen, samples)
        if "towers" in own:
            config = override(config, numbers)
        elif "preprocessor" in own:  # a system of one field: its preprocessor stands in the config itself
            numbers = {path.split(".", 2)[2]: value for path, value in numbers.items()}
            config = _centred(override(config, numbers), samples)
    config = override(override(config, parts or {}), changes or {})
    if getattr(config, "answers", None) == () and config.roles.answer:
        config = dataclasses.replace(config, answers=_answers(source, config.roles.answer))
    return config


def _tokenizer(source: Any, fields: Mapping[str, str]) -> Any:
    """Returns a word tokenizer of the data's texts, or one of pieces of words where the data says which."""
    if pieces := getattr(source, "pieces", None):
        return catalog.module("tokenizers", "wordpiece").TOKENIZER(tuple(pieces))
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
    if names and not texts:  # there is nothing that tells them, or they lie in files
        for i in index:
            sample = source.samples([i])[0]
            for name in names:
                several = captions(i, name) if captions else ()
                texts += list(several) or ([sample[name].text] if name in sample else [])
    return word.train(texts, _WORDS) if texts else word(words=())


def tokenizer_of(config: Any) -> Any:
    """Returns the first tokenizer of words in a config; None where there is none."""
    word = catalog.module("tokenizers", "word").TOKENIZER
    if isinstance(config, word):
        return config
    inside: list[Any] = list(config.values()) if isinstance(config, Mapping) else []
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        inside = [getattr(config, f.name) for f in dataclasses.fields(config)]
    return next((found for part in inside if (found := tokenizer_of(part)) is not None), None)


def _continued(made: Any, start: Any) -> Any:
    """Returns a tokenizer of words in which those of ``start``, if there is one, come first, in their order."""
    return made if start is None else type(made)(words=tuple(dict.fromkeys((*start.words, *made.words))))


def _answers(source: Any, field: str) -> tuple[str, ...]:
    """Returns the answers of the data, the most frequent first; no two that differ in capitals or blanks alone.

    Raises:
        InvalidData: there are none.
    """
    choices = getattr(source, "choices", None)
    if choices:
        known: tuple[str, ...] = choices(field)
        return known
    readable = getattr(source, "texts", None)
    every = range(len(source))
    texts = readable(field, every) if readable else [s[field].text for s in source.samples(every) if field in s]
    counts = Counter(" ".join(text.casefold().split()) for text in texts)
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    if not ranked:
        raise InvalidData(f"no sample has an answer in the field {field!r}; leave it out or check the files")
    return tuple(ranked[:_ANSWERS])


def _texts(source: Any, name: str) -> list[str]:
    """Returns the texts of a field, of some thousands of samples evenly spaced; of what is rendered only that field."""
    step = max(1, len(source) // _TOLD)
    index = range(0, len(source), step)
    readable = getattr(source, "texts", None)
    found = list(readable(name, index)) if readable else []
    if not found:
        narrow = copy(source)
        narrow.fields = {name: "text"}
        found = [sample[name].text for sample in narrow.samples(index) if name in sample]
    return found


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
