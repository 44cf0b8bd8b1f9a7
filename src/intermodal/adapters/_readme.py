"""The page beside an exported tower, for those who have nothing but its folder; and how its files get there.

A folder holds one export: its page says which, so that nothing else is ever overwritten.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal.adapters import _beside
from intermodal.adapters._towers import Tower
from intermodal.errors import InvalidValue
from intermodal.media.spectrogram import SILENCE
from intermodal.modalities.audio import AudioPreprocessor
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.modalities.video import VideoPreprocessor

VALUES = {"image": "pixel_values"}
"""Modality -> the name of the input that holds its values; ``values`` for all others that are no text."""


def _mark(name: str) -> str:
    return f"<!-- export: {name} -->"


# ---- The folder


def load(folder: Path) -> str:
    """Returns the name of the file whose page lies in a folder; empty where none does."""
    page = folder / "README.md"
    found = (
        re.search(r"^<!-- export: (.+) -->$", page.read_text("utf-8", "replace"), re.MULTILINE)
        if page.exists()
        else None
    )
    return found[1] if found else ""


def check_place(target: Path) -> None:
    """Checks that a folder holds nothing that an export would overwrite, but an earlier one of the same name.

    Raises:
        InvalidValue: it does; says what.
    """
    if load(target.parent) == target.name:
        return
    there = [name for name in (target.name, "README.md", *_beside.WHERE) if (target.parent / name).exists()]
    if there:
        raise InvalidValue(
            f"{target.parent} holds {', '.join(there)} of something else, and an export writes such files; give "
            f"it a folder of its own, for example {target.with_suffix('') / target.name}"
        )


def placed(beside: Path, target: Path) -> list[str]:
    """Moves finished files to their place, the network last, and returns their names; those of an older export go."""
    for name in _beside.WHERE:
        (target.parent / name).unlink(missing_ok=True)
    names = sorted(path.name for path in beside.iterdir() if path.name != target.name)
    for name in [*(n for n in ("README.md",) if n in names), *(n for n in names if n != "README.md"), target.name]:
        os.replace(beside / name, target.parent / name)
    return [*names, target.name]


# ---- The page


def written(tower: Tower, name: str, told: Mapping[str, Any], prepared: Mapping[str, Any]) -> str:
    """Returns the page of an export.

    Args:
        tower: that was written.
        name: of the file.
        told: what is known of it.
        prepared: what lies beside it.
    """
    rows = [f"| `{one['name']}` | {_shape(one['shape'])} | {one['kind']} |" for one in told["inputs"]]
    far = f"{told['largest_difference']:.1e}"
    measured = f"Over batches of several sizes and lengths its vectors are at most {far} from the model's own (fp32)."
    if told["int8_cosine"] is not None:
        measured = (
            "The weights of its products are bytes (dynamic quantisation): its vectors have a cosine of at least "
            f"{told['int8_cosine']:.4f} to those in fp32, and depend a little on what else is in the batch. Before "
            f"that they were at most {far} from the model's own."
        )
    return "\n".join(
        [
            f"# {name}",
            "",
            _mark(name),
            "",
            f"The tower for `{told['field']}` of `{told['model']}`, written by intermodal: "
            f"prepared items of the modality {told['modality']} to unit vectors of {told['width']} numbers. The cosine "
            "of two vectors is their product; vectors of the model's other towers lie in the same space.",
            "",
            "| input | shape | type |",
            "|---|---|---|",
            *rows,
            "",
            f"Output: `embedding`, (batch, {told['width']}), float32, each of length 1.",
            "",
            measured,
            "",
            "## How to prepare items",
            "",
            *_preparing(tower, prepared),
            "",
            "## How to run it",
            "",
            *_running(tower, name, told, prepared),
            "",
            "With intermodal: `from intermodal.adapters.connected import of_onnx` reads it as an encoder, and "
            f"`intermodal connect {name} OTHER --pairs FOLDER` joins it to another.",
            "",
        ]
    )


def _shape(sizes: list[int | str]) -> str:
    return f"({', '.join(map(str, sizes))})"


def _preparing(tower: Tower, prepared: Mapping[str, Any]) -> list[str]:
    """Returns how items of a modality become the inputs."""
    one = tower.preprocessor
    if tower.modality == "text":
        return _of_texts(one, bool(prepared.get("tokenizer")))
    if isinstance(one, ImagePreprocessor):
        return _of_pictures(one, prepared)
    if isinstance(one, AudioPreprocessor):
        return [
            f"Samples in [-1, 1] at {one.sample_rate_hz} Hz in {one.channels} channel(s), at most {one.seconds_max:g} "
            f"s. Spectra by a periodic Hann window of {one.window} samples, centred at samples 0, {one.hop}, "
            f"{2 * one.hop}, ... (silence beyond the ends); their power under {one.mels} triangular filters on "
            "Slaney's mel scale from 0 Hz to half the rate, the weights of each adding up to 1; the root of that, "
            "scaled so that a full-scale sine has 1 at its peak; (ln(x + 0.00001) + 7.6) / 2.4. `values` is (batch, "
            f"channels, mels, frames), frames a multiple of {one.patch_frames}, filled with {SILENCE:.6f}; `mask` says "
            f"of each {one.patch_frames} frames whether the sound reaches into them.",
        ]
    if isinstance(one, TimeSeriesPreprocessor):
        names = f" in this order: {', '.join(one.names)}" if one.names else ", those that a series lacks as zeros"
        shape, each = "(batch, channels, samples)", ""
        if one.sensors > 1:
            shape = f"(batch, channels of each sensor, {one.sensors} sensors, samples)"
            each = f", {one.channels // one.sensors} of each sensor, those of one behind those of the other"
        return [
            f"Samples at {one.sample_rate_hz:g} Hz (linear between others), at most {one.seconds_max:g} s, minus "
            f"{one.offset:g}, divided by {one.scale:g}. `values` is {shape} of {one.channels} "
            f"channels{names}{each}; samples a multiple of {one.patch}, filled with zeros; `mask` says of each "
            f"{one.patch} samples whether the series reaches into them.",
        ]
    if isinstance(one, VideoPreprocessor):
        fit = "the whole frame is squeezed to it" if one.stretch else "the largest centred part of its proportions"
        return [
            f"{one.frames} frames at even distances over the clip: of n frames number floor((2 i + 1) n / "
            f"{2 * one.frames}) for i from 0; resized to {one.height} x {one.width} ({fit}), red, green and blue from "
            f"0 to 1, minus {list(one.mean)}, divided by {list(one.std)}. `values` is "
            "(batch, 3, frames, rows, columns).",
        ]
    told = dataclasses.asdict(one) if dataclasses.is_dataclass(one) and not isinstance(one, type) else {}
    told = {name: value for name, value in told.items() if isinstance(value, int | float | str | list | tuple)}
    return [
        "As the published model prepares them: by the feature extractor in its own folder"
        + (f", with {told}." if told else ".")
    ]


def _of_texts(one: Any, has_tokenizer: bool) -> list[str]:
    """Returns how texts are prepared."""
    whole, lower = getattr(one, "whole", False), getattr(one, "lower", False)
    tokenizer = one.tokenizer
    lines = []
    if has_tokenizer:
        lines.append("`tokenizer.json` gives the ids, by the libraries `tokenizers` or `transformers`.")
    else:
        lines.append(
            "The tokenizer of this model has no form in `tokenizer.json`; the record in the file's metadata "
            "holds it, and intermodal reads it."
        )
    if lower:
        lines.append("Texts are lower-cased first.")
    lines.append(
        f"At most {one.tokens_max} ids; of a longer text the last id stays. "
        + ("Every row is filled up to that." if whole else "Shorter rows are filled behind their end")
        + (f" with {tokenizer.pad_id}." if whole else f" with {tokenizer.pad_id}, where `attention_mask` is 0.")
    )
    return lines


def _of_pictures(one: ImagePreprocessor, prepared: Mapping[str, Any]) -> list[str]:
    """Returns how pictures are prepared."""
    fits = {
        "crop_first": "the largest centred part of the target's proportions is taken, then resized",
        "resize_first": "the whole is resized so that its shorter side fits, then the middle is taken",
        "squeeze": "the whole is resized, whatever its proportions",
    }
    by = "antialiased, by torch on bytes" if one.resize_by == "torch" else "by Pillow"
    lines = [
        f"Red, green and blue from 0 to 1, {one.height} x {one.width}: {fits[one.fit]} ({one.resize}, {by}); minus "
        f"{list(one.mean)}, divided by {list(one.std)}; channels before rows and columns."
    ]
    cosine = prepared.get("settings_cosine")
    if cosine is not None and cosine < 1:
        lines.append(
            "`preprocessor_config.json` says the closest that its layout has a name for: over six drawn pictures, most "
            f"of them of other sizes, vectors had a cosine of at least {cosine:.4f} to those of the way above."
        )
    elif cosine is not None:
        lines.append("`preprocessor_config.json` says the same.")
    return lines


def _running(tower: Tower, name: str, told: Mapping[str, Any], prepared: Mapping[str, Any]) -> list[str]:
    """Returns a few lines of Python."""
    lines = ["```python", "import numpy as np", "import onnxruntime"]
    inputs = [one["name"] for one in told["inputs"]]
    if tower.modality == "text" and prepared.get("tokenizer"):
        given = "[t.lower() for t in texts]" if getattr(tower.preprocessor, "lower", False) else "texts"
        lines[2:2] = ["from tokenizers import Tokenizer"]
        rows = ['"input_ids": np.array([row.ids for row in rows])']
        if "attention_mask" in inputs:
            rows.append('"attention_mask": np.array([row.attention_mask for row in rows])')
        most, pad = tower.preprocessor.tokens_max, tower.preprocessor.tokenizer.pad_id
        lines += ["", 'texts = ["two words", "a few words more"]', 'tokenizer = Tokenizer.from_file("tokenizer.json")']
        if hasattr(tower.preprocessor.tokenizer, "made"):  # ours say it in the file
            length = f"length={most}, " if getattr(tower.preprocessor, "whole", False) else ""
            lines += [f"tokenizer.enable_truncation({most})", f"tokenizer.enable_padding({length}pad_id={pad})"]
        lines += [f"rows = tokenizer.encode_batch({given})", f"given = {{{', '.join(rows)}}}"]
    else:
        first = told["inputs"][0]
        sizes = [2 if axis == 0 else size for axis, size in enumerate(first["shape"])]
        shown = ", ".join(str(size) if isinstance(size, int) else "length" for size in sizes)
        lines += ["", f"given = {{{', '.join(f'{one!r}: ...' for one in inputs)}}}  # {inputs[0]}: ({shown})"]
    lines += [f'session = onnxruntime.InferenceSession("{name}")', "vectors = session.run(None, given)[0]", "```"]
    return lines
