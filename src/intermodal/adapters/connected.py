"""Models made of encoders that never met: joined from pairs, saved as one folder, loaded like any other.

    config.json          ``model_type`` "connected", the config of ``systems/connected.py``, a record of each encoder
    model.safetensors    the heads and temperatures
    encoders/<field>/    the files of each encoder, as they were; of one model once
    README.md            what was measured, and on what

``connect`` joins encoders from a data set of pairs; ``join_spaces`` joins two models whose fields are in a space of
their own already, by texts alone: no picture and no sound of a pair is needed. Encoders stay frozen, so what they say
is computed once and kept on disk; the heads are chosen on the dev split.

Source: Zhai et al. 2021, "LiT", arXiv 2111.07991; joining spaces through what they share, Wang et al. 2023, "Connecting
Multi-modal Contrastive Representations", arXiv 2305.14381. Changed there: the heads are trained on texts alone, and the
mean of each field is taken off instead of adding noise against the gap between modalities.
"""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from intermodal import config as configs
from intermodal import runtime, saving
from intermodal.adapters import _frozen, _live
from intermodal.adapters._files import read_object
from intermodal.adapters._frozen import Frozen, fields_of, of_function, of_model, of_onnx, spoken
from intermodal.adapters._live import Tuning
from intermodal.data.features import features, groups_of, items_of
from intermodal.data.sources import open_source
from intermodal.decoders.projection import Head
from intermodal.errors import InvalidCheckpoint, InvalidData, InvalidValue, UnknownName, Unsupported
from intermodal.evaluation.connected import mean_recall, recalls
from intermodal.evaluation.hubs import take_off
from intermodal.modalities.text import Text
from intermodal.systems.connected import Config, Connected, Given, Passing
from intermodal.training.heads import Options, Split, chosen, fitted, held_back, numbers
from intermodal.types import Item

__all__ = ["Options", "Tuning", "connect", "join_spaces", "load", "of_function", "of_model", "of_onnx", "save"]

FORMAT = 2
KIND = "connected"
TUNED = 128
"""Samples of a batch at most, where encoders are trained too."""


def load(folder: str | Path, functions: Mapping[str, Frozen] | None = None) -> Connected:
    """Returns the connected model in a folder.

    Args:
        folder: that ``save`` wrote.
        functions: field -> the function that reads it, as an encoder, where the model has one.

    Raises:
        InvalidCheckpoint: files are missing or do not fit each other, or a function is needed.
    """
    folder = Path(folder)
    header = read_object(folder / "config.json")
    if (made := header.get("format", 0)) != FORMAT:
        remedy = "update intermodal" if made > FORMAT else "connect its encoders again, heads are made otherwise now"
        raise InvalidCheckpoint(f"{folder} has format {made}, not {FORMAT}; {remedy}")
    records = header.get("encoders")
    if not isinstance(records, dict) or "config" not in header:
        raise InvalidCheckpoint(f"{folder / 'config.json'} lacks the keys config and encoders; give a whole folder")
    config: Config = configs.from_dict(Config, header["config"])
    if set(records) != set(config.towers):
        raise InvalidCheckpoint(
            f"{folder} has encoders of {', '.join(sorted(records))} and a config of {', '.join(sorted(config.towers))}"
        )
    frozen = _frozen.load(folder / "encoders", records, functions or {})
    for name, tower in config.towers.items():
        if not isinstance(tower, Given) or frozen[name].modality != tower.modality:
            raise InvalidCheckpoint(
                f"{folder / 'config.json'} says of {name} that it is {tower.modality}, and its encoder reads "
                f"{frozen[name].modality}; give a whole folder"
            )
    model = _assembled(config, frozen)
    saving.load_weights(model, folder / "model.safetensors")
    named: Any = model
    named.fingerprint = saving.fingerprint([folder / "config.json", folder / "model.safetensors"])
    return model.eval()


def _assembled(config: Config, frozen: Mapping[str, Frozen]) -> Connected:
    """Returns the system with fresh heads."""
    encoders = {name: Passing(tower) for name, tower in config.towers.items() if isinstance(tower, Given)}
    return Connected(config, encoders, frozen)


def save(folder: str | Path, model: Connected, frozen: Mapping[str, Frozen], card: str) -> Path:
    """Writes a connected model with the files of its encoders to ``folder``, replacing a model there; returns the path.

    Args:
        folder: made if absent.
        model: its heads are written.
        frozen: field -> encoder.
        card: the text of ``README.md``.
    """
    target = Path(folder)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    records = _frozen.save(beside / "encoders", frozen)
    config = configs.to_dict(model.config)
    header = {"format": FORMAT, "model_type": KIND, "config": config, "encoders": records}
    (beside / "config.json").write_text(json.dumps(header, indent=2) + "\n", "utf-8")
    (beside / "README.md").write_text(card, "utf-8")
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, beside / "model.safetensors")
    saving.replace_folder(beside, target)
    return target


# ---- Encoders that never met


def connect(
    encoders: Mapping[str, Frozen],
    data: str,
    out: str | Path,
    options: Options | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, float], None] | None = None,
    tuning: Mapping[str, Tuning] | None = None,
) -> dict[str, Any]:
    """Joins encoders from pairs, writes the model to ``out``, and returns what it came to.

    Args:
        encoders: field of the data -> encoder, at least two.
        data: folder with ``metadata.jsonl``; heads are chosen on its dev split, or on a tenth of train where it has
            none, and measured on its test split where it has one.
        out: folder of the model.
        options: how; default: ``Options()``.
        cache: folder of what encoders said; default: ``features`` in the cache of this package.
        say: is told what was tried.
        progress: called with what is being done and its share.
        tuning: field -> how much of its encoder is trained too, once the heads are; default: nothing of any.

    Raises:
        InvalidValue: fewer than two encoders.
        UnknownName: a field that no encoder reads.
        Unsupported: an encoder cannot be trained.
        InvalidData: the data has no such field, or no pairs.
    """
    start = time.monotonic()
    _check(encoders, tuning or {})
    how, kept = options or Options(), cache or runtime.cache_folder() / "features"
    show = progress or (lambda text, share: None)
    splits = _splits(encoders, data, kept, show)
    ready = time.monotonic() - start
    train, dev = (splits["train"], splits["dev"]) if "dev" in splits else held_back(splits["train"])
    config, tried = chosen(_towers(encoders, data), train, lambda model: _first(recalls(model, dev)), how, kept, say)
    picked = time.monotonic() - start
    heads = fitted(config, train, how, lambda share: show("training", share))
    measured = {"dev": ("dev" if "dev" in splits else "train", dev)}
    measured |= {"test": ("test", splits["test"])} if "test" in splits else {}
    frozen = mean_recall(recalls(heads, dev)) if tuning else 0.0
    encoders, figures = _tuned(encoders, heads, data, train, measured, how, tuning or {})
    done = time.monotonic() - start
    seconds = {"features": ready, "choice": picked - ready, "training": done - picked, "total": done}
    result = {
        "model": str(out),
        "data": data,
        "samples": len(splits["train"].groups),
        **_told(heads.config, encoders, figures),
        **({"dev_recall_at_1_frozen": frozen} if tuning else {}),
        "tried": tried,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    model = _assembled(heads.config, encoders)
    model.load_state_dict({k: v for k, v in heads.state_dict().items() if not k.startswith("encoders.")})
    save(out, model, encoders, _card(result))
    return result


def _check(encoders: Mapping[str, Frozen], tuning: Mapping[str, Tuning]) -> None:
    """Raises what can be known to be wrong before anything is computed."""
    if len(encoders) < 2:
        raise InvalidValue(f"{len(encoders)} encoders were given; at least two are connected")
    for name in tuning:
        if name not in encoders:
            raise UnknownName("encoder of the field", name, encoders)


def _told(config: Config, encoders: Mapping[str, Frozen], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a report says of a connected model."""
    return {
        "fields": {
            name: {"origin": one.origin, "revision": one.revision, "space": config.space(name)}
            for name, one in encoders.items()
        },
        "head": {**dataclasses.asdict(config.head), "heads": config.heads, "temperature": config.temperature},
        "hubs": {name: hub.strength for name, hub in config.hubs.items()},
        **{f"{name}_figures": found for name, found in figures.items()},
        "dev_recall_at_1": mean_recall(figures["dev"]),
    }


def _tuned(
    encoders: Mapping[str, Frozen],
    heads: Connected,
    data: str,
    train: Split,
    measured: Mapping[str, tuple[str, Split]],
    how: Options,
    tuning: Mapping[str, Tuning],
) -> tuple[dict[str, Frozen], dict[str, dict[str, dict[str, float]]]]:
    """Returns the encoders after those of ``tuning`` were trained with the heads, and the figures with them.

    Args:
        encoders: field -> encoder.
        heads: that were trained; trained further.
        data: the folder.
        train: to train on.
        measured: name of figures -> the split of the data that they are of, and what is said of it.
        how: the heads were trained.
        tuning: field -> how much of its encoder is trained.

    Raises:
        Unsupported: an encoder cannot be trained.
    """
    if not tuning:
        return dict(encoders), _figures(heads, train, {name: split for name, (_, split) in measured.items()}, how)
    live = {name: _live.load(encoders[name], one) for name, one in tuning.items()}
    heads.encoders.update(live)

    def with_items(split: Split, name: str) -> Split:
        given = dict(split.given)
        for field, one in live.items():
            samples = torch.zeros(len(split.groups), dtype=torch.bool)
            samples[split.given[field].owner] = True
            source = open_source(data, name, fields=tuple(encoders))
            given[field] = _live.Items.of(source, field, one.preprocessor).kept(samples)
        return Split(given, split.groups)

    epochs, rate = max(t.epochs for t in tuning.values()), min(t.learning_rate for t in tuning.values())
    further = dataclasses.replace(how, epochs=epochs, learning_rate=rate, batch=min(how.batch, TUNED))
    fitted(heads.config, with_items(train, "train"), further, start=heads.to(runtime.device()))
    items = {name: with_items(split, place) for name, (place, split) in measured.items()}
    figures = _figures(heads, with_items(train, "train"), items, how)
    return {n: _live.tuned(one, live[n]) if n in live else one for n, one in encoders.items()}, figures


def _figures(
    heads: Connected, train: Split, measured: Mapping[str, Split], how: Options
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns what trained heads come to on each split, after hubs were taken off where that is wanted and helps."""
    if how.hubs:
        take_off(heads, train, measured["dev"])
    return {name: recalls(heads, split) for name, split in measured.items()}


def _splits(
    encoders: Mapping[str, Frozen], data: str, kept: Path, show: Callable[[str, float], None]
) -> dict[str, Split]:
    """Returns what the encoders say of each split that the data has, train at least.

    Raises:
        InvalidData: a field is of another modality than its encoder.
        UnknownName: the data has no train split, or lacks a field.
    """
    found = {}
    for split in ("train", "dev", "test"):
        try:
            source = open_source(data, split, fields=tuple(encoders))
        except UnknownName:
            if split == "train":
                raise
            continue
        given = {}
        for name, one in encoders.items():
            if source.fields[name] != one.modality:
                raise InvalidData(
                    f"the field {name!r} of {data} is {source.fields[name]}; {one.origin} reads {one.modality}"
                )
            told = partial(show, f"{split} {name}")
            given[name] = features(one, one.revision, source, name, kept, told)
        found[split] = Split(given, groups_of(source, tuple(encoders)))
    return found


def _first(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns Recall@1 of each direction."""
    return {name: one["recall_at_1"] for name, one in found.items()}


def _towers(encoders: Mapping[str, Frozen], data: str) -> dict[str, Given]:
    """Returns what arrives of each encoder, by what it says of the first item of its field."""
    source, made = open_source(data, "train", fields=tuple(encoders)), {}
    for name, one in encoders.items():
        places = (range(i, min(i + 16, len(source))) for i in range(0, len(source), 16))
        item = next(item for index in places for item in items_of(source, name, index)[0])
        width, pooled = one.shape(item)
        made[name] = Given(one.modality, width, pooled, "", one.origin, one.revision)
    return made


def _card(result: Mapping[str, Any]) -> str:
    """Returns the model card."""
    lines = [f"- {name}: {value}" for name, value in result.items() if name not in ("tried", "model")]
    names = " and ".join(str(one["origin"]) for one in result["fields"].values())
    return f"# {names}, connected\n\nThe encoders are as they were; the heads are new.\n\n" + "\n".join(lines) + "\n"


# ---- Two spaces


def join_spaces(
    first: str | Path,
    second: str | Path,
    texts: Sequence[Text],
    out: str | Path,
    options: Options | None = None,
    samples: Sequence[Item] = (),
) -> dict[str, Any]:
    """Joins two models with a text field each, by texts alone, writes the model, and returns what it came to.

    The fields of a model share their heads, which are trained to put a text to one place whichever model read it. The
    fields of the first model keep their names; one of the second gets ``_2`` behind it where the first has it too.

    Args:
        first: embeds texts and other modalities, such as pictures.
        second: embeds texts and other modalities, such as sounds.
        texts: a few hundred or more; one in ten measures how well they find each other.
        out: folder of the model.
        options: how; only the first head of its grid is used.
        samples: items of the other modalities, unpaired. Their mean is taken off, which narrows the gap between what a
            model says of words and of all else; of a field without any, that of the texts.

    Raises:
        InvalidValue: fewer than 20 texts.
        Unsupported: a model that does not embed, or reads no text.
    """
    how = options or Options(grid=(Head(),), epochs=60, learning_rate=1e-3)
    if len(texts) < 20:
        raise InvalidValue(f"{len(texts)} texts were given to join two spaces; give at least 20, better thousands")
    frozen, spaces, anchors = _both(first, second)
    said = {name: spoken(frozen[name], texts) for name in anchors.values()}
    towers = {
        name: Given(one.modality, said[anchors[spaces[name]]].rows.shape[1], 1, spaces[name], one.origin, one.revision)
        for name, one in frozen.items()
    }
    config = Config(towers, how.grid[0], how.width, how.heads, how.temperatures[0], how.hard)
    between = dataclasses.replace(config, towers={name: towers[name] for name in said})
    train, dev = held_back(Split(said, torch.arange(len(texts))))
    heads = fitted(between, train, how)
    model = _assembled(config, frozen)
    model.heads.load_state_dict(heads.heads.state_dict())
    for name, one in frozen.items():
        anchor = anchors[spaces[name]]
        known = [item for item in samples if item.modality == one.modality != "text"]
        centre, spread = numbers(train.given[anchor].rows.float())
        model.set_numbers(name, numbers(spoken(one, known).rows.float())[0] if known else centre, spread)
    for scale in model.log_scales.values():
        scale.data.copy_(next(iter(heads.log_scales.values())).detach())
    result = {"model": str(out), "texts": len(texts), **_told(config, frozen, {"dev": recalls(heads, dev)})}
    save(out, model, frozen, _card(result))
    return result


def _both(first: str | Path, second: str | Path) -> tuple[dict[str, Frozen], dict[str, str], dict[str, str]]:
    """Returns the encoders of two models by field, the space of each field, and the text field of each space.

    Raises:
        Unsupported: a model that reads no text.
    """
    frozen: dict[str, Frozen] = {}
    spaces: dict[str, str] = {}
    anchors: dict[str, str] = {}
    for space, name in (("first", first), ("second", second)):
        for field, one in fields_of(name).items():
            called = field if field not in frozen else f"{field}_2"
            frozen[called], spaces[called] = one, space
            if one.modality == "text":
                anchors.setdefault(space, called)
        if space not in anchors:
            raise Unsupported(f"{name} reads no text, so texts cannot join it to another; give a model that does")
    return frozen, spaces, anchors
