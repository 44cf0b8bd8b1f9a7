"""A tower of a model as an ONNX file, for runtimes that know nothing of this package; checked against the model.

    tower.onnx               prepared items -> unit vectors, any number of rows, and any length where items differ
    preprocessor_config.json pictures, in the layout of published folders
    tokenizer.json           texts, the same
    README.md                shapes, units, how to prepare, how far from the model's own vectors

What goes through the graph is what goes through the model: its own modules are traced, once, with rows of different
lengths, so that masks stay in it. That other sizes are right too is not believed but measured, on batches of several
sizes and lengths, against ``embed`` in fp32; a file that differs is not kept. The record in the file's own metadata
holds how items are prepared, so that ``_frozen.of_onnx`` reads it again alone.

Written by torch's exporter of traces: the newer one needs two packages more, and asks a condition of every branch that
looks at a mask.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from jaxtyping import config as checks
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from intermodal.adapters import _beside, _frozen, _readme
from intermodal.adapters._frozen import optional
from intermodal.adapters._towers import Tower, in_fp32, items_for, named, tower_of
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.types import Batch, Item, Symbols

OPSET = 17
"""The first with a normalisation of layers of its own; every runtime of the last years reads it."""

DISTANCE_MAX = 1e-4
"""Between a vector of the file and the model's, which both have length 1."""

COSINE_MIN = 0.99
BYTES_MAX = 2**31 - 2**24
"""Of one file."""

ROWS = (1, 2, 6)
"""Of the batches that a file is checked with."""

OUTPUT = "embedding"


class View(nn.Module):
    """A tower as a module of plain tensors."""

    def __init__(self, tower: Tower, tokens: int) -> None:
        """Keeps the parts that have weights.

        Args:
            tower: one.
            tokens: of every row, where no mask is given.
        """
        super().__init__()
        self.parts = nn.ModuleList(tower.parts)
        self._vectors, self._tokens = tower.vectors, tokens

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Float[Tensor, "B D"]:
        """Returns unit vectors."""
        real = torch.ones(values.shape[0], self._tokens, dtype=torch.bool) if mask is None else mask.bool()
        return F.normalize(self._vectors(Batch(values, real)).float(), dim=-1)


class _Plain(TorchFunctionMode):
    """Two functions as the exporter can write them: axes counted from the start, and widths as plain numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.movedim and isinstance(args[1], int):
            args = (args[0], *(axis % args[0].dim() for axis in args[1:]))
        if func is F.layer_norm:
            args = (args[0], [int(size) for size in args[1]], *args[2:])
        return func(*args, **(kwargs or {}))


@contextmanager
def _unchecked() -> Iterator[None]:
    """Returns a context in which no shape is checked against a signature: while a trace is made, sizes are tensors."""
    before = checks.jaxtyping_disable
    checks.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        checks.update("jaxtyping_disable", before)


@dataclass(frozen=True)
class Input:
    """One input of a file.

    Attributes:
        name: of it.
        shape: sizes, or words for those that may be any.
        kind: of its numbers.
    """

    name: str
    shape: tuple[int | str, ...]
    kind: str

    @property
    def free(self) -> dict[int, str]:
        """Axis -> its word, of those that may be any."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}


def export(
    model: Any,
    field: str | None,
    path: str | Path,
    int8: bool = False,
    cosine_min: float = COSINE_MIN,
) -> dict[str, Any]:
    """Writes one tower of a model as an ONNX file with what prepares its input beside it; returns what it came to.

    The file gives the unit vector of ``embed``. Its folder may hold another export of the same name, which is replaced,
    but no other: give every tower a folder of its own.

    Args:
        model: a loaded one, on the CPU, or its name as ``load_model`` takes it.
        field: of the model; None for the only one.
        path: of the file, ``.onnx``; its folder is made if absent.
        int8: weights as bytes, the products in bytes too (a quarter of the size).
        cosine_min: an int8 file whose vectors have a lower cosine to those in fp32 is refused.

    Raises:
        MissingExtra: onnx or onnxruntime is not installed.
        Unsupported: the tower cannot be written, or what was written gives other vectors; nothing is left.
        UnknownName: the model has no such field.
        InvalidValue: the path is no .onnx file, or its folder holds what is not of this export.
    """
    target = Path(path)
    if target.suffix != ".onnx" or not -1 <= cosine_min <= 1:
        raise InvalidValue(f"an export goes to a file .onnx with a cosine from -1 to 1, not {target} and {cosine_min}")
    for package in ("onnx", "onnxruntime"):
        optional(package, "onnx", "writing an ONNX file")
    _readme.check_place(target)
    name, model = named(model)
    tower = tower_of(model, field)
    _check_size(tower)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as beside, _resting(model):
        made = Path(beside) / target.name
        result = _written(tower, name, made, int8, cosine_min)
        files = _readme.placed(Path(beside), target)
    return {"out": str(target), **result, "files": files}


def load(path: str | Path) -> dict[str, Any]:
    """Returns the record that ``export`` kept in a file: model, field, largest difference, how items are prepared.

    Raises:
        MissingExtra: onnx is not installed.
        InvalidCheckpoint: it is no ONNX file of an export.
    """
    onnx = optional("onnx", "onnx", "reading an ONNX file")
    try:
        told = {one.key: one.value for one in onnx.load(str(path)).metadata_props}
        found: dict[str, Any] = json.loads(told[_frozen.RECORD])
    except Exception as error:  # the library documents none of what it raises
        raise InvalidCheckpoint(f"{path} holds no exported tower; give a file that was written by export") from error
    return found


def _check_size(tower: Tower) -> None:
    """Checks that the tower is where it can be traced and fits into one file.

    Raises:
        InvalidValue: it is not on the CPU.
        Unsupported: it does not fit.
    """
    weights = {id(p): p for part in tower.parts for p in part.parameters()}.values()
    if any(p.device.type != "cpu" for p in weights):
        raise InvalidValue("the model is not on the CPU, where exports are made; move it there with model.to('cpu')")
    size = sum(p.numel() * 4 for p in weights)
    if size > BYTES_MAX:
        raise Unsupported(
            f"the weights take {size:,} bytes, and one ONNX file holds {BYTES_MAX:,}; export a smaller one"
        )


@contextmanager
def _resting(model: Any) -> Iterator[None]:
    """Returns a context in which a model is in eval mode and fp32."""
    training = model.training
    model.eval()
    try:
        with in_fp32(model), torch.no_grad():
            yield
    finally:
        model.train(training)


def _written(tower: Tower, name: str, file: Path, int8: bool, cosine_min: float) -> dict[str, Any]:
    """Writes a tower with all that belongs to it, and returns what it came to.

    Raises:
        Unsupported: it cannot be written, or gives other vectors.
    """
    tried = items_for(tower.preprocessor)
    inputs, tokens = inputs_of(tower, tried)
    _trace(tower, inputs, tokens, tried, file)
    wanted = tower.embed(tried)
    distance, lowest = _compared(tower, inputs, tried, wanted, file)
    if not distance <= DISTANCE_MAX:
        raise Unsupported(
            f"the {tower.field} tower of {name} gives vectors that are up to {distance:.2g} from the model's when it "
            f"runs as ONNX, more than {DISTANCE_MAX:g}; nothing was written: use the model itself"
        )
    told = {"model": name, "field": tower.field, "modality": tower.modality, "width": int(wanted.shape[1])}
    told |= {"largest_difference": distance, "int8_cosine": None}
    if int8:
        _quantised(file)
        _, lowest = _compared(tower, inputs, tried, wanted, file)
        if not lowest >= cosine_min:
            raise Unsupported(
                f"in int8 the {tower.field} tower of {name} gives vectors with a cosine of {lowest:.4f} to those in "
                f"fp32, less than {cosine_min:g}; nothing was written: leave int8 out, or allow a lower cosine"
            )
        told["int8_cosine"] = lowest
    _kept(file, {**told, "fingerprint": getattr(tower.model, "fingerprint", ""), **_beside.record(tower.preprocessor)})
    told |= {"bytes": file.stat().st_size, "inputs": [vars(one) | {"shape": list(one.shape)} for one in inputs]}

    def vectors(values: Tensor) -> Tensor:
        return torch.from_numpy(_session(file).run(None, {inputs[0].name: values.numpy()})[0])

    prepared = _beside.write(file.parent, tower.preprocessor, tried, wanted, vectors)
    _read_again(tower, file, tried, wanted, cosine_min if int8 else None)
    (file.parent / "README.md").write_text(_readme.written(tower, file.name, told, prepared), "utf-8")
    return {**told, **prepared}


# ---- The graph


def inputs_of(tower: Tower, tried: Sequence[Item]) -> tuple[list[Input], int]:
    """Returns the inputs of a tower's file, and how many tokens a row has where that is fixed.

    Sizes in which a short item and a long one differ may be any.
    """
    short, long = (tower.preprocessor([item]) for item in tried[:2])
    symbols = isinstance(tower.preprocessor.layout, Symbols)
    sizes = ["length" if a != b else a for a, b in zip(short.values.shape[1:], long.values.shape[1:], strict=True)]
    names = ("input_ids", "attention_mask") if symbols else (_readme.VALUES.get(tower.modality, "values"), "mask")
    kind = str(long.values.dtype).removeprefix("torch.")
    found = [Input(names[0], ("batch", *sizes), kind)]
    tokens = long.mask.shape[1]
    if short.mask.shape != long.mask.shape:
        found.append(Input(names[1], ("batch", "length" if symbols else "tokens"), "int64" if symbols else "bool"))
    return found, tokens


def _fed(batch: Batch, inputs: Sequence[Input]) -> list[Tensor]:
    """Returns what a batch puts into the inputs."""
    given = [batch.values, batch.mask.long() if inputs[-1].kind == "int64" else batch.mask]
    return given[: len(inputs)]


def _trace(tower: Tower, inputs: Sequence[Input], tokens: int, tried: Sequence[Item], file: Path) -> None:
    """Writes the graph.

    Raises:
        Unsupported: torch finds no form of it.
    """
    example = _fed(tower.preprocessor([tried[1], tried[0]]), inputs)  # a long row and a short one: masks are needed
    free = {one.name: one.free for one in inputs} | {OUTPUT: {0: "batch"}}
    try:
        with warnings.catch_warnings(), _unchecked(), _Plain():
            warnings.simplefilter("ignore")  # of sizes that become constants: what comes out is measured
            torch.onnx.export(
                View(tower, tokens).eval(),
                tuple(example),
                str(file),
                input_names=[one.name for one in inputs],
                output_names=[OUTPUT],
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter documents none of what it raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unsupported(f"the {tower.field} tower has no form in ONNX: {reason}") from error


def _compared(
    tower: Tower, inputs: Sequence[Input], tried: Sequence[Item], wanted: Float[Tensor, "N D"], file: Path
) -> tuple[float, float]:
    """Returns the largest distance of a file's vectors to the model's, and the lowest cosine, over several batches."""
    distance, cosine = 0.0, 1.0
    try:
        session = _session(file)
    except Exception as error:  # the runtime documents none of what it raises
        reason = " ".join(str(error).split())[:200]
        raise Unsupported(f"what torch wrote of the {tower.field} tower is no valid file: {reason}") from error
    for count in ROWS:
        for start in range(0, len(tried), count):
            batch = tower.preprocessor(tried[start : start + count])
            fed = {one.name: value.numpy() for one, value in zip(inputs, _fed(batch, inputs), strict=True)}
            try:
                found = torch.from_numpy(np.asarray(session.run(None, fed)[0])).float()
            except Exception as error:  # the same
                reason = " ".join(str(error).split())[:200]
                raise Unsupported(f"what was written of the {tower.field} tower does not run: {reason}") from error
            right = wanted[start : start + count]
            distance = max(distance, float((found - right).norm(dim=1).max()))
            cosine = min(cosine, float(F.cosine_similarity(found, right).min()))
            if not bool(found.isfinite().all()):
                return float("inf"), -1.0
    return distance, cosine


def _session(file: Path) -> Any:
    """Returns a file ready to run."""
    runtime = optional("onnxruntime", "onnx", "running an ONNX file")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    return runtime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])


def _quantised(file: Path) -> None:
    """Replaces the products of a file by those of bytes, with a scale per column.

    Seven bits of a weight are used, because sums of products of eight and eight overflow on older processors.
    """
    library = optional("onnxruntime.quantization", "onnx", "quantising an ONNX file")
    whole = file.with_name("whole.onnx")
    file.replace(whole)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the library gives its advice to the root logger
    try:
        library.quantize_dynamic(
            whole,
            file,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=library.QuantType.QInt8,
        )
    finally:
        logging.disable(before)
    whole.unlink()


# ---- What goes with it


def _kept(file: Path, record: dict[str, Any]) -> None:
    """Puts a record into a file's metadata, whole or not at all, and checks the file."""
    onnx = optional("onnx", "onnx", "writing an ONNX file")
    made = onnx.load(str(file))
    made.producer_name = "intermodal"
    onnx.helper.set_model_props(made, {_frozen.RECORD: json.dumps(record, ensure_ascii=False)})
    onnx.checker.check_model(made)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    beside.write_bytes(made.SerializeToString())
    beside.replace(file)


def _read_again(
    tower: Tower, file: Path, tried: Sequence[Item], wanted: Float[Tensor, "N D"], cosine_min: float | None
) -> None:
    """Reads a file as ``intermodal connect`` does, and compares.

    Raises:
        Unsupported: it gives other vectors.
    """
    known = _beside.record(tower.preprocessor)
    if not known or ("texts" in known and not (file.parent / _beside.WORDS).exists()):
        return
    found = _frozen.of_onnx(file).says(list(tried)).pooled
    far = float((found - wanted).norm(dim=1).max())
    near = float(F.cosine_similarity(found, wanted).min())
    if far > DISTANCE_MAX if cosine_min is None else near < cosine_min:
        raise Unsupported(
            f"the {tower.field} tower, read again with what prepares its items beside it, gives vectors that are up to "
            f"{far:.2g} from the model's; nothing was written: use the model itself"
        )
