"""Encoders that stay as they are, whatever they are: a model, an ONNX file, a function; what they say, as batches.

Each is asked for all that it can tell: the vector that stands for an item, and, where they are to be had, what lies
between its layers and its tokens or regions, since heads trained on pairs find more in these than in the one vector.
"""

import hashlib
import importlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from intermodal import saving
from intermodal.adapters import _beside, _transformers
from intermodal.data.features import Features
from intermodal.decoders.projection import Said
from intermodal.errors import InvalidCheckpoint, InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.layers.pooling import pool_mean
from intermodal.types import MODALITIES, Batch, Embeds, Encoded, Item

Says = Callable[[Sequence[Item]], Encoded | Said]
"""Items -> what is said of them: tokens ``(B, T, W)``, and pooled ``(B, P * W)``."""

Function = Callable[[Sequence[Item]], Any]
"""A person's own: items -> vectors ``(N, D)``, or ``Said``, which holds tokens too."""


RECORD = "intermodal"
"""Key in an ONNX file's metadata, of a JSON object that says how items are prepared: see ``_onnx.py``."""

AS_IT_IS = (2**31, 2**31)
"""A size that no picture has, so that none is decoded smaller than it is."""


SAID = 2
"""One more whenever models say something else of an item: what was kept on disk is then not taken for it."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """An encoder that is not trained, as the preprocessor of what it says.

    Attributes:
        modality: that it reads.
        says: items -> what is said of them.
        origin: where it comes from.
        revision: tells it from all others.
        record: what ``load`` has to know of it.
        keep: writes its files into an empty folder.
        source: where these are now; encoders of one source are kept once.
        decoded: height and width to decode a picture at least in.
        model: that it is of; None for any other.
    """

    modality: str
    says: Says
    origin: str
    revision: str
    record: Mapping[str, Any]
    keep: Callable[[Path], None]
    source: Path | None = None
    decoded: tuple[int, int] = AS_IT_IS
    model: Any = None

    def __call__(self, items: Sequence[Item | None]) -> Batch:
        """Returns ``(B, W, rows)``: first the rows of the pooled vector, then the tokens; ``None`` is an absent row.

        Raises:
            InvalidValue: nothing to read, an item of another modality, or the encoder gave something else.
        """
        given = [item for item in items if item is not None]
        if not given:
            raise InvalidValue("there are no items to read; give at least one")
        for item in given:
            if item.modality != self.modality:
                raise InvalidValue(f"{self.origin} reads {self.modality}, not {item.modality}")
        with torch.no_grad():
            said = self.says(given)
        rows, mask = _rows(said, len(given), self.origin)
        there = torch.tensor([item is not None for item in items])
        values = rows.new_zeros(len(items), *rows.shape[1:])
        seen = mask.new_zeros(len(items), mask.shape[1])
        values[there], seen[there] = rows, mask
        return Batch(values.transpose(1, 2), seen)

    def shape(self, item: Item) -> tuple[int, int]:
        """Returns the width of a row, and how many rows the pooled vector has, by what is said of one item."""
        with torch.no_grad():
            said = self.says([item])
        width = said.tokens.shape[2]
        return width, said.pooled.shape[1] // width


def _rows(said: Encoded | Said, count: int, origin: str) -> tuple[Float[Tensor, "B R W"], Tensor]:
    """Returns the rows of the pooled vectors and the tokens behind each other, with their mask.

    Raises:
        InvalidValue: they do not fit each other or the number of items.
    """
    width = said.tokens.shape[2]
    if len(said.pooled) != count or len(said.tokens) != count or not width or said.pooled.shape[1] % width:
        raise InvalidValue(
            f"{origin} gave {tuple(said.pooled.shape)} and tokens {tuple(said.tokens.shape)} for {count} items; "
            "expected (N, P * W) and (N, T, W)"
        )
    pooled = said.pooled.float().reshape(count, -1, width)
    real = torch.ones(pooled.shape[:2], dtype=torch.bool, device=said.mask.device)
    return torch.cat((pooled, said.tokens.float()), dim=1).cpu(), torch.cat((real, said.mask), dim=1).cpu()


def alone(vectors: Float[Tensor, "N D"]) -> Said:
    """Returns vectors as what an encoder says that tells nothing else."""
    none = vectors.new_zeros(len(vectors), 0, vectors.shape[1])
    return Said(none, torch.zeros(len(vectors), 0, dtype=torch.bool, device=vectors.device), vectors)


# ---- A model


def of_model(name: str | Path, field: str | None = None, space: bool = False, model: Any = None) -> Frozen:
    """Returns the encoder of one field of a model: a saved or shipped one, a published folder, a name of the hub.

    Args:
        name: as ``load_model`` takes it.
        field: of the model; None for the only one that it reads.
        space: only the vectors of the model's own space, nothing between its layers: in it fields meet already.
        model: that is loaded already; default: loaded now.

    Raises:
        Unsupported: the model does not embed.
        UnknownName: it has no such field, or several and none was named.
    """
    model = saving.load_model(name) if model is None else model
    if not isinstance(model, Embeds):
        raise Unsupported(f"{name} does not embed, so nothing can be connected to it; give a model with encoders")
    known: Mapping[str, Any] = getattr(model, "preprocessors", {})
    if field is None and len(known) == 1:
        field = next(iter(known))
    if field is None or field not in known:
        raise UnknownName(f"single field of {name}; write one as FIELD@{name}", str(field), known)
    chosen, asked = str(field), {"kind": "model", "field": field, "space": space}
    device = getattr(model, "device", None) or next(iter(model.parameters())).device  # type: ignore[attr-defined]

    def says(items: Sequence[Item]) -> Encoded | Said:
        if not space and hasattr(model, "states"):
            told: Encoded | Said = model.states(items, chosen)
            return told
        own = getattr(model, "encoders", {})
        if not space and chosen in own:
            told = own[chosen](known[chosen](items).to(device))
            return told
        return alone(model.embed(items, fields=chosen).float())  # type: ignore[call-arg]

    source = saving.folder_of(name)
    preprocessor = known[chosen]
    revision = f"{model.fingerprint}/{chosen}" + ("/space" if space else f"/{SAID}")  # type: ignore[attr-defined]
    origin = str(getattr(model, "name", name)) if str(name).startswith("hub:") else Path(name).name
    decoded = getattr(preprocessor, "decoded", AS_IT_IS)
    return Frozen(preprocessor.modality, says, origin, revision, asked, partial(_copy, source), source, decoded, model)


def _copy(source: Path, folder: Path) -> None:
    """Copies the files of a model, not what lies beside them: downloads and checkpoints of others."""
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and path.suffix in (*_transformers.READ, ".md", ".onnx") and inside.parts[0][:1] != ".":
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / inside)  # what a link of the hub's cache points to, too


def fields_of(name: str | Path) -> dict[str, Frozen]:
    """Returns an encoder for each field of a model: of the vectors of its own space alone.

    Raises:
        Unsupported: it does not embed.
    """
    model = saving.load_model(name)
    return {field: of_model(name, field, True, model) for field in getattr(model, "preprocessors", {})}


def spoken(one: Frozen, items: Sequence[Item], batch_size: int = 64) -> Features:
    """Returns what an encoder says of items, each a sample of its own."""
    rows, lengths = [], []
    for start in range(0, len(items), batch_size):
        batch = one(items[start : start + batch_size])
        rows.append(batch.values.transpose(1, 2)[batch.mask].half())
        lengths.append(batch.mask.sum(dim=1))
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), torch.cat(lengths).cumsum(0)))
    return Features(torch.cat(rows), starts, torch.arange(len(items)))


# ---- An ONNX file


def of_onnx(path: str | Path) -> Frozen:
    """Returns the encoder in an ONNX file: of pictures ``(N, 3, H, W)``, or of texts by ``input_ids``.

    How items are prepared stands beside it, as with published weights: ``preprocessor_config.json``, or
    ``tokenizer.json``. A file that this package wrote says it itself, of any modality. Of its outputs the first is
    read: vectors ``(N, D)``, tokens ``(N, T, D)`` or a grid ``(N, D, H, W)``; the mean of the last two stands for the
    whole.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidCheckpoint: the file cannot be read, or reads something else.
    """
    file = Path(path)
    runtime = optional("onnxruntime", "onnx", "reading an ONNX file")
    try:
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library documents none of what it raises
        reason = " ".join(str(error).split())[:300]
        raise InvalidCheckpoint(f"{file} cannot be read as an ONNX file: {reason}") from error
    inputs = {one.name: one.shape for one in session.get_inputs()}
    prepare = _beside.load(file, inputs, session.get_modelmeta().custom_metadata_map.get(RECORD, "{}"))
    lock = threading.Lock()

    def says(items: Sequence[Item]) -> Encoded | Said:
        batch = prepare(items)
        named = {"input_ids": batch.values, "attention_mask": batch.mask.long(), "mask": batch.mask}
        named["token_type_ids"] = torch.zeros_like(named["attention_mask"])
        if "input_ids" not in inputs:
            named[next(iter(inputs))] = batch.values
        with lock:
            first = session.run(None, {name: named[name].numpy() for name in inputs})[0]
        return _said(torch.from_numpy(np.asarray(first)).float(), batch)

    def keep(folder: Path) -> None:
        for name in (file.name, "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
            if (file.parent / name).exists():
                shutil.copyfile(file.parent / name, folder / name)

    record = {"kind": "onnx", "file": file.name}
    return Frozen(prepare.modality, says, file.name, saving.fingerprint([file]), record, keep)


def _said(first: Tensor, batch: Batch) -> Said:
    """Returns an output as what an encoder says."""
    if first.dim() == 4:
        first = first.flatten(2).transpose(1, 2)
    if first.dim() == 2:
        return alone(first)
    mask = batch.mask if batch.mask.shape[1] == first.shape[1] else torch.ones(first.shape[:2], dtype=torch.bool)
    return Said(first, mask, pool_mean(first, mask))


# ---- A function


def of_function(function: Function, modality: str, name: str, revision: str) -> Frozen:
    """Returns a person's own function as an encoder; it is asked by one thread at a time.

    Args:
        function: items -> vectors ``(N, D)``, or ``Said`` with tokens too.
        modality: of the items.
        name: of it, for messages and the record; a folder that is loaded again asks for the function by its field.
        revision: say another one whenever the function gives something else.

    Raises:
        UnknownName: there is no such modality.
        InvalidValue: there is no revision, so that what is kept on disk could be another's.
    """
    if modality not in MODALITIES:
        raise UnknownName("modality", modality, MODALITIES)
    if not revision:
        raise InvalidValue(f"the function {name} has no revision; name one, and another when it gives something else")
    lock = threading.Lock()

    def says(items: Sequence[Item]) -> Encoded | Said:
        with lock:
            found = function(items)
        if isinstance(found, Encoded | Said):
            return found
        rows = torch.as_tensor(found if isinstance(found, Tensor) else np.asarray(found)).float()
        if rows.dim() != 2:
            raise InvalidValue(f"the function {name} gave the shape {tuple(rows.shape)}; expected vectors (N, D)")
        return alone(rows)

    digest = hashlib.sha256(f"{name}/{revision}".encode()).hexdigest()[:16]
    return Frozen(modality, says, name, digest, {"kind": "function", "name": name}, lambda folder: None)


# ---- All of them


def save(folder: Path, frozen: Mapping[str, Frozen]) -> dict[str, dict[str, Any]]:
    """Writes the files of encoders into a folder, those of one model once, and returns a record of each."""
    places: dict[Path, str] = {}
    records = {}
    for field, one in frozen.items():
        place = field if one.source is None else places.get(one.source, field)
        if place == field:
            (folder / field).mkdir(parents=True)
            one.keep(folder / field)
            if one.source is not None:
                places[one.source] = field
        records[field] = {**one.record, "folder": place}
    return records


def load(folder: Path, records: Mapping[str, Any], functions: Mapping[str, Frozen]) -> dict[str, Frozen]:
    """Returns the encoders that ``save`` wrote.

    Args:
        folder: that it was given.
        records: that it returned.
        functions: field -> a function as an encoder, where one is needed.

    Raises:
        InvalidCheckpoint: a record is none, or a function is needed that is not given.
    """
    found: dict[str, Frozen] = {}
    models: dict[Path, Any] = {}
    for field, record in records.items():
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind not in ("model", "onnx", "function"):
            raise InvalidCheckpoint(f"the encoder of {field!r} is of the kind {kind!r}; expected model, onnx, function")
        place = folder / Path(str(record.get("folder", field))).name
        if kind == "model":
            if place not in models:
                models[place] = saving.load_model(place)
            found[field] = of_model(place, str(record.get("field")), bool(record.get("space")), models[place])
        elif kind == "onnx":
            found[field] = of_onnx(place / Path(str(record.get("file"))).name)
        elif field in functions:
            found[field] = functions[field]
        else:
            raise InvalidCheckpoint(
                f"the encoder of {field!r} is the Python function {record.get('name')!r}, which no folder holds; load "
                f"with intermodal.adapters.connected.load(folder, {{{field!r}: of_function(...)}})"
            )
    return found


def optional(package: str, extra: str, purpose: str) -> Any:
    """Returns an optional package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package, extra, purpose) from error
