"""``intermodal connect``: encoders that never met, joined into one space by pairs; the encoders stay as they are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, table

ONNX = ".onnx"


def command(
    encoders: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: a saved model, a published folder, hub:owner/name or an .onnx file. FIELD@ before it "
            "says which of a model's fields, FIELD= before that which field of the data it reads."
        ),
    ],
    pairs: Annotated[str, typer.Option(help="Folder with metadata.jsonl, wds:SHARDS or hf:NAME that has both fields.")],
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = Path("connected"),
    epochs: Annotated[int, typer.Option(help="Each shows every sample once, with one of its captions.")] = 10,
    batch: Annotated[int, typer.Option(help="Samples of a batch.")] = 512,
    width: Annotated[int, typer.Option(help="Numbers of each head.")] = 512,
    heads: Annotated[int, typer.Option(help="Heads side by side; their cosines are averaged.")] = 4,
    hard: Annotated[float, typer.Option(help="Weight of the hinge on the hardest mismatch of a batch.")] = 0.0,
    hubs: Annotated[bool, typer.Option(help="Take off what is near to all queries, where that helps on dev.")] = True,
    head: Annotated[
        str, typer.Option(help="HIDDEN,DROPOUT,QUERIES: this head alone, none is tried on the dev split.")
    ] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder of what the encoders said; default: the cache.")] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=blocks:N or FIELD=lora:RANK: part of this encoder is trained too; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order.")] = 0,
    json: bool = JSON,
) -> None:
    """Join encoders that never met into one space, from a few thousand pairs; only small heads are trained."""
    from intermodal import runtime
    from intermodal.adapters.connected import Options, connect
    from intermodal.training.heads import GRID

    runtime.threads()
    grid = (_head(head),) if head else GRID
    how = Options(epochs, batch, width, heads, hard, grid, seed=seed, hubs=hubs)
    tuning = _tuning(tune or [])
    named = _named(encoders)
    shown: dict[str, Any] = {}
    with bar("connecting") as progress:

        def show(what: str, share: float) -> None:
            if shown.get("what") != what:
                shown["what"] = what
                say(what)
            progress.update(share, what)

        result = connect(named, pairs, out, how, cache, say, show, tuning)
    finish(result, json, _told(result), f"intermodal index my-library FOLDER --model {out}")


def _head(words: str) -> Any:
    """Returns the head that ``HIDDEN,DROPOUT,QUERIES`` stands for.

    Raises:
        InvalidValue: it stands for none.
    """
    from intermodal.decoders.projection import Head
    from intermodal.errors import InvalidValue

    try:
        hidden, dropout, queries = words.split(",")
        return Head(int(hidden), float(dropout), int(queries))
    except ValueError as error:
        raise InvalidValue(f"--head {words!r} is no head ({error}); write it like 512,0.3,2") from error


def _tuning(given: list[str]) -> dict[str, Any]:
    """Returns how much of each encoder is trained.

    Raises:
        InvalidValue: words that do not say so.
    """
    from intermodal.adapters.connected import Tuning
    from intermodal.cli.console import settings
    from intermodal.errors import InvalidValue

    found = {}
    for field, words in settings(given, "--tune", "text=blocks:2").items():
        way, _, number = words.partition(":")
        if way not in ("blocks", "lora") or not number.isdigit():
            raise InvalidValue(f"--tune {field}={words} says no way to train; write {field}=blocks:2 or {field}=lora:8")
        found[field] = Tuning(blocks=int(number)) if way == "blocks" else Tuning(rank=int(number))
    return found


def _named(given: list[str]) -> dict[str, Any]:
    """Returns each encoder by the field of the data that it reads.

    Raises:
        InvalidValue: two of them read the same field.
    """
    from intermodal.adapters.connected import of_model, of_onnx
    from intermodal.errors import InvalidValue

    found: dict[str, Any] = {}
    for words in given:
        data, rest = _before(words, "=")
        inside, name = _before(rest, "@")
        one = of_onnx(name) if name.lower().endswith(ONNX) else of_model(name, inside or None)
        field = data or inside or one.modality
        if field in found:
            raise InvalidValue(
                f"two encoders read the field {field!r} of the data; write for one of them OTHER_FIELD={words}"
            )
        found[field] = one
    return found


def _before(words: str, mark: str) -> tuple[str, str]:
    """Returns the name before ``mark`` and what follows; an empty name where none is before it, as in a path."""
    name, found, rest = words.partition(mark)
    return (name, rest) if found and name.isidentifier() else ("", words)


def _told(result: dict[str, Any]) -> str:
    """Returns what a run came to, for people."""
    rows = []
    for split in ("dev", "test"):
        for pair, one in result.get(f"{split}_figures", {}).items():
            rows.append([split, pair, *(f"{100 * one[f'recall_at_{k}']:.1f}" for k in (1, 5, 10))])
    seconds = result["seconds"]
    hubs = ", ".join(f"{name} {strength:g}" for name, strength in result["hubs"].items())
    return (
        f"{table(rows, ['split', 'direction', 'R@1', 'R@5', 'R@10'])}\n\nhubs taken off: {hubs or 'none'}\n"
        f"model: {result['model']}, made in "
        f"{seconds['total']:.0f} s ({seconds['features']:.0f} s what the encoders say, {seconds['choice']:.0f} s "
        f"choosing heads, {seconds['training']:.0f} s training)"
    )
