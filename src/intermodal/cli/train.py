"""``intermodal train``: a system, some data, a folder with the model at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, settings

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
    """Train a system on data; resumable, with the figures on the dev split at the end."""
    chosen = tuple(f for f in fields.split(",") if f)
    result = train(system, data, out, size, chosen, batch, resume, settings(change or []))
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
    """Returns what the training came to; the model is in ``out``.

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
    from intermodal.training.recipe import recipe

    runtime.threads()
    runtime.keep_memory()
    ours = {k: v for k, v in changes.items() if k.startswith("train.")}
    options: Options = override({"train": Options()}, ours)["train"]
    source = open_source(data, "train", fields=fields or None)
    config = recipe(system, source, size, fields or None, {k: v for k, v in changes.items() if k not in ours})
    runtime.seed(options.seed)
    model = build_from({"system": system, "config": to_dict(config)}).to(runtime.device())
    loader = Loader(source, model.preprocessors, batch, seed=options.seed)
    count = sum(p.numel() for p in model.parameters())
    say(f"{system} {size}: {count / 1e6:.2f} M weights, {', '.join(config.towers)}; {len(source)} training samples")
    measured: dict[str, float] = {}
    with bar("training") as progress:
        end = run(
            model,
            loader,
            options,
            out,
            resume,
            evaluate=_dev(model, data, fields, measured),
            on_step=lambda p: progress.update(p.share, f"loss {p.losses['loss']:.3f}  {p.samples_per_s:.0f} samples/s"),
            say=lambda text: say(f"warning: {text}"),
        )
    result = _result(end, count, dict(measured)) | {"system": system, "data": data, "model": str(out / "model")}
    save_model(out / "model", model, _card(result, options.seed))
    return result


def _result(end: "Progress", weights: int, measured: dict[str, float]) -> dict[str, Any]:
    """Returns what a run came to."""
    return {
        "samples": end.samples,
        "steps": end.step,
        "seconds": end.seconds,
        "samples_per_s": end.samples_per_s,
        "loss": end.losses.get("loss"),
        "weights": weights,
        "dev_recall_at_1": measured,
    }


def _dev(
    model: Any, data: str, fields: tuple[str, ...], measured: dict[str, float]
) -> Callable[[int], dict[str, float]] | None:
    """Returns what measures Recall@1 on the dev split and keeps it in ``measured``; None without a dev split."""
    from intermodal.data.sources import open_source
    from intermodal.errors import InvalidData, UnknownName
    from intermodal.evaluation.protocols import any_to_any

    size = {"size": DEV_SCENES} if data == "diorama" else {}
    try:
        source = open_source(data, "dev", fields=fields or None, **size)
    except (InvalidData, UnknownName):
        return None

    def measure(step: int) -> dict[str, float]:
        pairs = any_to_any(model, source)["pairs"]
        measured.update({name: pair["recall_at_1"] for name, pair in pairs.items()})
        best = sorted(measured, key=lambda name: -measured[name])
        mean = sum(measured.values()) / max(1, len(measured))
        shown = "  ".join(f"{name} {measured[name]:.2f}" for name in (*best[:2], *best[2:][-1:]))
        say(f"step {step}: Recall@1 on {len(source)} unseen samples, mean {mean:.2f}; best and worst {shown}")
        return dict(measured)

    return measure


def _card(result: dict[str, Any], seed: int) -> str:
    """Returns the model card of a trained model."""
    lines = [f"- {name}: {value}" for name, value in result.items()]
    system, data, model = result["system"], result["data"], result["model"]
    return (
        f"# {system} trained on {data}\n\nMade by `intermodal train {system} --data {data}`, seed {seed}. "
        f"Figures of the run:\n\n" + "\n".join(lines) + "\n\nWhat it can do is measured by "
        f"`intermodal evaluate {model} --data {data}`.\n"
    )
