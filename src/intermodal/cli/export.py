"""``intermodal export``: a model, or one tower of it, for libraries and runtimes that know nothing of this package."""

from pathlib import Path
from typing import Annotated

import typer

from intermodal.cli.console import JSON, finish


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, a shipped one's name, or hub:owner/name.")],
    field: Annotated[str, typer.Option(help="Of the model, such as image; default: the only one.")] = "",
    out: Annotated[Path | None, typer.Option(help="File, tower/tower.onnx by default; else a new folder.")] = None,
    form: Annotated[
        str, typer.Option("--as", help="onnx: one tower; transformers, open_clip, sentence_transformers: a whole CLIP.")
    ] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights as bytes: about a quarter of the size.")] = False,
    cosine: Annotated[float, typer.Option(help="With --int8: refuse a lower cosine to the vectors in fp32.")] = 0.99,
    json: bool = JSON,
) -> None:
    """Write a tower as an ONNX file, or a CLIP as other libraries read it, checked against the model."""
    from intermodal import runtime
    from intermodal.adapters._layouts import export

    runtime.threads()
    out = out or Path("tower/tower.onnx" if form == "onnx" else f"{Path(model).name}-{form}")
    result = export(model, field or None, out, int8, cosine, form)
    if form != "onnx":
        lines = [
            f"{out}: {result['bytes'] / 2**20:.1f} MiB, {', '.join(result['files'])}",
            f"largest distance to the model's own vectors: {result['largest_difference']:.1e}",
        ]
        finish(result, json, "\n".join(lines), f"intermodal embed {out} TEXT")
        return
    shapes = ", ".join(f"{one['name']} ({', '.join(map(str, one['shape']))})" for one in result["inputs"])
    lines = [
        f"{out}: {result['bytes'] / 2**20:.1f} MiB, {shapes} to unit vectors of {result['width']}",
        f"largest distance to the model's own vectors: {result['largest_difference']:.1e}",
    ]
    if result["int8_cosine"] is not None:
        lines.append(f"lowest cosine of int8 to fp32: {result['int8_cosine']:.4f}")
    lines.append(f"beside it: {', '.join(name for name in result['files'] if name != out.name)}")
    finish(result, json, "\n".join(lines), f"intermodal connect {out} OTHER --pairs FOLDER")
