"""``intermodal train``: a system, some data, a folder with the model at the end."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, SILENT, bar, finish, say, settings

if TYPE_CHECKING:
    from intermodal.training.loop import Progress

DEV_SCENES = 200  # of Diorama, which has no end


def command(
    system: Annotated[str, typer.Argument(help="Which system: a name that `intermodal list` shows.")],
    data: Annotated[str, typer.Option(help="diorama, or a folder with metadata.jsonl.")] = "diorama",
    out: Annotated[Path, typer.Option(help="Folder for the model, the log and the checkpoints.")] = Path("runs/model"),
    size: Annotated[str, typer.Option(help="tiny trains on a laptop; paper is the published size.")] = "tiny",
    fields: Annotated[str, typer.Option(help="Only these fields of the data, with commas.")] = "",
    batch: Annotated[int, typer.Option(help="Samples per batch.")] = 128,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in --out.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override a number: pairs=text, towers.image.width=192, train.steps=2000, train.minutes=5."
        ),
    ] = None,
    json: bool = JSON,
) -> None:
    """Train a system on data; resumable, with the figures on the dev split at the end.

    Started by `torchrun --nproc-per-node N -m intermodal train ...`, N processes share each batch.
    """
    from intermodal.training.processes import joined

    chosen = tuple(f for f in fields.split(",") if f)
    with joined() as among:
        result = train(system, data, out, size, chosen, batch, resume, settings(change or []))
    if not among.first:
        return
    lines = [
        f"model: {result['model']}",
        f"{result['samples']} samples in {result['seconds']:.0f} s, {result['samples_per_s']:.0f}/s, "
        f"loss {result['loss']:.3f}",
    ]
    finish(result, json, "\n".join(lines), f"intermodal evaluate {out / 'model'} --data {data}")


def train(
    system: str,
    data: str,
    out: Path,
    size: str,
    fields: tuple[str, ...],
    batch: int,
    resume: bool,
    changes: dict[str, str],
) -> dict[str, Any]:
    """Returns what the training came to; the model is in ``out``. Of several processes the first writes and speaks.

    Args:
        system: its name.
        data: name of the data source.
        out: folder.
        size: of the system.
        fields: only these, or all.
        batch: samples per batch.
        resume: from the newest checkpoint.
        changes: overrides by dotted path; those of the loop begin with ``train.``.
    """
    from intermodal import runtime
    from intermodal.config import override, to_dict
    from intermodal.data.loader import Loader
    from intermodal.data.sources import open_source
    from intermodal.saving import build_from, save_model
    from intermodal.training.loop import Options
    from intermodal.training.loop import train as run
    from intermodal.training.processes import current
    from intermodal.training.recipe import recipe

    first = current().first
    tell = say if first else lambda text: None
    runtime.threads(beside=1)  # the loader's
    runtime.keep_memory()
    ours = {k: v for k, v in changes.items() if k.startswith("train.")}
    options: Options = override({"train": Options()}, ours)["train"]
    source = open_source(data, "train", fields=fields or None)
    config = recipe(system, source, size, fields or None, {k: v for k, v in changes.items() if k not in ours})
    runtime.seed(options.seed)
    model = build_from({"system": system, "config": to_dict(config)}).to(runtime.device())
    loader = Loader(source, model.preprocessors, batch, seed=options.seed)
    tell(f"{system} {size}: {_weights(model) / 1e6:.2f} M weights; {len(source)} of {', '.join(model.preprocessors)}")
    measured: dict[str, float] = {}
    with bar("training") if first else nullcontext(SILENT) as progress:
        end = run(
            model,
            loader,
            options,
            out,
            resume,
            evaluate=_dev(model, data, fields, measured) if first else None,
            on_step=lambda p: progress.update(p.share, f"loss {p.losses['loss']:.3f}  {p.samples_per_s:.0f} samples/s"),
            say=lambda text: tell(f"warning: {text}"),
        )
    result = _result(end, model, dict(measured)) | {"system": system, "data": data, "model": str(out / "model")}
    if first:
        save_model(out / "model", model, _card(result, options.seed))
    return result


def _weights(model: Any) -> int:
    """Returns the number of weights."""
    return sum(p.numel() for p in model.parameters())


def _result(end: "Progress", model: Any, measured: dict[str, float]) -> dict[str, Any]:
    """Returns what a run came to."""
    from intermodal.types import Embeds

    return {
        "samples": end.samples,
        "steps": end.step,
        "seconds": end.seconds,
        "samples_per_s": end.samples_per_s,
        "loss": end.losses.get("loss"),
        "weights": _weights(model),
        "dev_recall_at_1" if isinstance(model, Embeds) else "dev": measured,
    }


def _dev(
    model: Any, data: str, fields: tuple[str, ...], measured: dict[str, float]
) -> Callable[[int], dict[str, float]] | None:
    """Returns what measures a model on the dev split and keeps it in ``measured``; None without such a split.

    A model that embeds is measured by Recall@1, a codec by what it keeps; None for any other.
    """
    from intermodal.data.sources import open_source
    from intermodal.errors import InvalidData, UnknownName
    from intermodal.types import Codes, Embeds

    if not isinstance(model, Embeds | Codes):
        return None
    size = {"size": DEV_SCENES} if data == "diorama" else {}
    try:
        source = open_source(data, "dev", fields=fields or None, **size)
    except (InvalidData, UnknownName):
        return None

    def measure(step: int) -> dict[str, float]:
        measured.update(_found(model, source) if isinstance(model, Embeds) else _kept(model, source))
        if isinstance(model, Embeds):
            best = sorted(measured, key=lambda name: -measured[name])
            mean = sum(measured.values()) / max(1, len(measured))
            shown = "  ".join(f"{name} {measured[name]:.2f}" for name in (*best[:2], *best[2:][-1:]))
            say(f"step {step}: Recall@1 on {len(source)} unseen samples, mean {mean:.2f}; best and worst {shown}")
        else:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in measured.items())
            say(f"step {step}: on {len(source)} unseen samples {shown}")
        return dict(measured)

    return measure


def _found(model: Any, source: Any) -> dict[str, float]:
    """Returns Recall@1 of every direction."""
    from intermodal.evaluation.protocols import any_to_any

    return {name: pair["recall_at_1"] for name, pair in any_to_any(model, source)["pairs"].items()}


def _kept(model: Any, source: Any) -> dict[str, float]:
    """Returns what a codec keeps, and what is still read in it where the data knows its scenes."""
    from intermodal.evaluation.codes import keeps

    kept = keeps(model, source)
    figures = {name: kept[name] for name in ("absolute_error", "variance_lost", "share_used", "perplexity")}
    read = kept.get("read", {})
    return figures | {name: read[name] for name in ("attribute_accuracy", "scene_accuracy") if name in read}


def _card(result: dict[str, Any], seed: int) -> str:
    """Returns the model card of a trained model."""
    lines = [f"- {name}: {value}" for name, value in result.items()]
    system, data, model = result["system"], result["data"], result["model"]
    return (
        f"# {system} trained on {data}\n\nMade by `intermodal train {system} --data {data}`, seed {seed}. "
        f"Figures of the run:\n\n" + "\n".join(lines) + "\n\nWhat it can do is measured by "
        f"`intermodal evaluate {model} --data {data}`.\n"
    )
