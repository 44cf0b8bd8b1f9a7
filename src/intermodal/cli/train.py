"""``intermodal train``: a system, some data, a folder with the model at the end."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, SILENT, bar, finish, say, settings
from intermodal.errors import InvalidValue

if TYPE_CHECKING:
    from intermodal.training.loop import Progress

DEV_SCENES = 200  # of Diorama, which has no end
DEV_TRANSLATED = 32  # of them, in every direction
LISTED = 10  # weights that are told by name, at most


GENTLE = {"train.optimizer": "adamw", "train.learning_rate": "1e-5"}
"""Unless it is said otherwise, where published weights are trained further: they are good already."""


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and where it goes.

    Attributes:
        system: its name.
        out: folder.
        data: name of the data source.
        size: of the system.
        fields: only these, or all.
        parts: dotted path -> saved model that becomes this part.
        batch: samples per batch.
        resume: from the newest checkpoint.
        start: saved model that this one starts from; empty for fresh weights.
        changes: overrides by dotted path; those of the loop begin with ``train.``.
    """

    system: str
    out: Path
    data: str = "diorama"
    size: str = "tiny"
    fields: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    batch: int = 128
    resume: bool = False
    start: str = ""
    changes: Mapping[str, str] = field(default_factory=dict)


def command(
    system: Annotated[str, typer.Argument(help="Which system: a name that `intermodal list` shows.")],
    data: Annotated[
        str, typer.Option(help="diorama, shots, a folder with metadata.jsonl, wds:SHARDS or hf:NAME.")
    ] = "diorama",
    out: Annotated[Path, typer.Option(help="Folder for the model, the log and the checkpoints.")] = Path("runs/model"),
    size: Annotated[str, typer.Option(help="tiny trains on a laptop; paper is the published size.")] = "tiny",
    fields: Annotated[str, typer.Option(help="Only these fields of the data, with commas.")] = "",
    batch: Annotated[int, typer.Option(help="Samples per batch.")] = 128,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in --out.")] = False,
    start: Annotated[
        str, typer.Option(help="Start with the weights of a saved model, as far as they fit; says which do not.")
    ] = "",
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Take in a saved model, config and weights: codecs.image=runs/codec/model; or what is inside one: "
            "clip=diorama#reader; repeatable."
        ),
    ] = None,
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
    parts = settings(part or [], "--part", "codecs.image=runs/codec/model")
    with joined() as among:
        result = train(Job(system, out, data, size, chosen, parts, batch, resume, start, settings(change or [])))
    if not among.first:
        return
    lines = [
        f"model: {result['model']}",
        "nothing was left to train"
        if result["loss"] is None
        else f"{result['samples']} samples in {result['seconds']:.0f} s, {result['samples_per_s']:.0f}/s, "
        f"loss {result['loss']:.3f}",
    ]
    finish(result, json, "\n".join(lines), f"intermodal evaluate {out / 'model'} --data {shlex.quote(data)}")


def train(job: Job) -> dict[str, Any]:
    """Returns what the training came to; the model is in ``out``. Of several processes the first writes and speaks."""
    from intermodal import runtime
    from intermodal.config import override
    from intermodal.data.loader import Loader
    from intermodal.data.sources import open_source
    from intermodal.saving import save_model
    from intermodal.training.loop import Options
    from intermodal.training.loop import train as run
    from intermodal.training.processes import current

    first = current().first
    tell = say if first else lambda text: None
    runtime.threads(beside=1)  # the loader's
    runtime.keep_memory()
    further = _is_published(job.start)
    loops = {k: v for k, v in job.changes.items() if k.startswith("train.")}
    changes = {k: v for k, v in job.changes.items() if k not in loops}
    ours = {**GENTLE, **loops} if further else loops
    options: Options = override({"train": Options()}, ours)["train"]
    source = open_source(job.data, "train", fields=job.fields or None)
    runtime.seed(options.seed)
    model = (_further if further else _built)(job, source, changes, tell).to(runtime.device())
    fields = job.fields
    if set(model.preprocessors) < set(source.fields):  # what it does not take need not be read
        fields = tuple(model.preprocessors)
        source = open_source(job.data, "train", fields=fields)
    loader = Loader(source, model.preprocessors, job.batch, seed=options.seed)
    size = "" if job.start else f" {job.size}"
    tell(f"{job.system}{size}: {_weights(model) / 1e6:.2f} M weights; {len(source)} of {', '.join(source.fields)}")
    measured: dict[str, dict[str, float]] = {}
    with bar("training") if first else nullcontext(SILENT) as progress:
        end = run(
            model,
            loader,
            options,
            job.out,
            job.resume,
            evaluate=_dev(model, job.data, fields, measured) if first else None,
            on_step=lambda p: progress.update(p.share, f"loss {p.losses['loss']:.3f}  {p.samples_per_s:.0f} samples/s"),
            say=lambda text: tell(f"warning: {text}"),
        )
    result = _result(end, model, dict(measured))
    result |= {"system": job.system, "data": job.data, "model": str(job.out / "model")}
    if first:
        save_model(job.out / "model", model, _card(result, job, options.seed))
    return result


def _built(job: Job, source: Any, changes: Mapping[str, str], tell: Callable[[str], None]) -> Any:
    """Returns the model, fresh but for what is taken from saved models; what of them is not taken is told.

    Raises:
        InvalidValue: a part that is frozen is not given, so that it would stay as it is drawn.
    """
    from intermodal.config import parts_of, to_dict
    from intermodal.saving import build_from, load_part, saved_config, take_weights
    from intermodal.training.recipe import recipe, tokenizer_of

    saved = {path: saved_config(name) for path, name in job.parts.items()}
    start = saved_config(job.start) if job.start else None
    config = recipe(job.system, source, job.size, job.fields or None, changes, saved, start)
    taken = {p: c for p, c in parts_of(start).items() if p in parts_of(config) and p not in saved} if start else {}
    if taken:  # whole systems inside the one that it starts from
        config = recipe(job.system, source, job.size, job.fields or None, changes, saved | taken, start)
    model = build_from({"system": job.system, "config": to_dict(config)})
    if start is not None:
        words = [tokenizer_of(one) for one in (start, config)]
        rows = None if None in words else (words[0].vocab_size, words[1].vocab_size)
        left = take_weights(model, job.start, rows)
        tell(f"started from {job.start}; not taken: {listed(left)}")
    for path, name in job.parts.items():
        load_part(model, path, name)
    for path, part in parts_of(config).items():
        given = path in job.parts or path in taken
        if not given and not any(p.requires_grad for p in model.get_submodule(path).parameters()):
            kind = type(part).__module__.rpartition(".")[2]
            raise InvalidValue(
                f"{path} of {job.system} is a {kind} that is trained before and not given: train one and give its "
                f"folder with --part {path}=FOLDER"
            )
    return model


def listed(left: Sequence[str]) -> str:
    """Returns weights that were not taken, as ``take_weights`` names them, in words; of many the number in each part.

    Those of another shape, which are worth a look, are always named.
    """
    changed = [name for name in left if name.endswith(" here")]
    absent = [name for name in left if name not in changed]
    if len(absent) > LISTED:
        counts = Counter(name.partition(".")[0] for name in absent)
        absent = [f"{part} (weights: {count})" for part, count in counts.items()]
    return ", ".join(absent + changed) or "nothing"


def _is_published(start: str) -> bool:
    """Returns whether a training starts from weights that others published, as they are."""
    from intermodal.saving import folder_of, header_of

    return bool(start) and "system" not in header_of(folder_of(start))


def _further(job: Job, source: Any, changes: Mapping[str, str], tell: Callable[[str], None]) -> Any:
    """Returns published weights as they are, words and preparation too, to be trained further on other data.

    Raises:
        InvalidValue: they are none of this system, the data lack a field of theirs, or a part was given.
        UnknownName: a change of what their config does not have.
    """
    from intermodal.config import override, to_dict
    from intermodal.saving import build_from, load_model

    model = load_model(job.start, device="cpu")
    kind = type(model).__module__
    system = kind.rpartition(".")[2] if ".systems." in kind else ""
    if system != job.system or job.parts:
        found = f"is read as the system {system}" if system else "is computed by the library that published it"
        remedy = f"train {system} without --part" if system else "intermodal connect puts heads on it, or tunes it"
        raise InvalidValue(f"{job.start} {found}, and {job.system} was to be trained; {remedy}")
    if absent := [name for name in model.preprocessors if name not in source.fields]:
        raise InvalidValue(
            f"{job.start} reads {', '.join(model.preprocessors)}, and {job.data} has no {', '.join(absent)}, only "
            f"{', '.join(source.fields)}; name the columns of the data so"
        )
    config = override(model.config, changes)
    if config != model.config:
        state, model = model.state_dict(), build_from({"system": system, "config": to_dict(config)})
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise InvalidValue(
                f"{job.start} does not fit what --set asks for: {' '.join(str(error).split())[:200]}"
            ) from error
    tell(
        f"started from {job.start}, its words and its preparation of items too; the rate is "
        f"{GENTLE['train.learning_rate']} by AdamW unless --set says otherwise"
    )
    return model


def _weights(model: Any) -> int:
    """Returns the number of weights."""
    return sum(p.numel() for p in model.parameters())


def _result(end: "Progress", model: Any, measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Returns what a run came to."""
    return {
        "samples": end.samples,
        "steps": end.step,
        "seconds": end.seconds,
        "samples_per_s": end.samples_per_s,
        "loss": end.losses.get("loss"),
        "weights": _weights(model),
        **{f"dev_{name}": found for name, found in measured.items()},
    }


def _dev(
    model: Any, data: str, fields: tuple[str, ...], measured: dict[str, dict[str, float]]
) -> Callable[[int], dict[str, float]] | None:
    """Returns what measures a model on the dev split and keeps it in ``measured``; None without such a split.

    A model that embeds is measured by Recall@1, a codec by what it keeps, one that joins fields by what it tells from
    each subset of them, a translator by what is read back of its translations, where the data knows its scenes, one
    that learns from questions by its answers; a model that does none of these is not measured.
    """
    from intermodal.data.sources import open_source
    from intermodal.errors import InvalidData, UnknownName
    from intermodal.types import Answers, Codes, Embeds, Predicts, Translates

    size = {"size": DEV_SCENES} if data == "diorama" else {}
    try:
        source = open_source(data, "dev", fields=fields or None, **size)
    except (InvalidData, UnknownName):
        return None
    ways: dict[str, Callable[[Any, Any], dict[str, float]]] = {}
    if isinstance(model, Embeds) and len(model.config.towers) > 1:  # type: ignore[attr-defined]
        ways["recall_at_1"] = _found
    if isinstance(model, Codes):
        ways["kept"] = _kept
    if isinstance(model, Predicts):
        ways["told"] = _told
    roles = getattr(getattr(model, "config", None), "roles", None)
    if isinstance(model, Answers) and roles is not None and roles.question:  # it learns from questions alone
        ways["answered"] = _answered
    if isinstance(model, Translates) and hasattr(source, "scenes"):
        ways["attributes_translated"] = _translated
    if not ways:
        return None

    def measure(step: int) -> dict[str, float]:
        for name, figures in ways.items():
            found = measured[name] = figures(model, source)
            mean, chosen = "", list(found)
            if name != "kept":  # the same figure of many directions
                best = sorted(found, key=lambda one: -found[one])
                mean = f"mean {sum(found.values()) / max(1, len(found)):.2f}; best and worst "
                chosen = [*best[:2], *best[2:][-1:]]
            shown = "  ".join(f"{one} {found[one]:.3f}" for one in chosen)
            say(f"step {step}: {name} on unseen samples, {mean}{shown}")
        return {f"{name}.{key}": value for name, found in measured.items() for key, value in found.items()}

    return measure


def _translated(model: Any, source: Any) -> dict[str, float]:
    """Returns the share of the attributes that arrive in each direction, of a few scenes."""
    from intermodal.data.sources import open_source
    from intermodal.evaluation.translations import translations

    few = open_source("diorama", "dev", fields=tuple(source.fields), size=DEV_TRANSLATED)
    return {way: found["attribute_accuracy"] for way, found in translations(model, few)["directions"].items()}


def _found(model: Any, source: Any) -> dict[str, float]:
    """Returns Recall@1 of every direction."""
    from intermodal.evaluation.protocols import any_to_any

    return {name: pair["recall_at_1"] for name, pair in any_to_any(model, source)["pairs"].items()}


def _answered(model: Any, source: Any) -> dict[str, float]:
    """Returns the share of some questions that is answered right, in all and by kind where the data knows kinds."""
    from intermodal.evaluation.answers import answer_accuracy

    roles, index = model.config.roles, range(min(len(source), DEV_SCENES))
    asked = [question.kind for question in source.asked(index, roles.question)] if hasattr(source, "asked") else []
    rows = [
        (sample, asked[i] if asked else "any")
        for i, sample in zip(index, source.samples(index), strict=True)
        if roles.question in sample and roles.answer in sample
    ]
    if not rows:
        return {}
    samples, kinds = zip(*rows, strict=True)
    given = model.answers(samples, [sample[roles.question].text for sample in samples])
    found = answer_accuracy(given, [sample[roles.answer].text for sample in samples], kinds)
    return {name: found[f"{name}_accuracy"] for name in ("answer", *sorted(set(kinds)))}


def _told(model: Any, source: Any) -> dict[str, float]:
    """Returns what is told right of each task from every subset of the fields."""
    from intermodal.evaluation.subsets import by_subset, told

    read = [name for name in model.preprocessors if name not in model.tasks]
    found: dict[str, float] = {}
    for name, task in model.tasks.items():
        measured = by_subset(model, told(source, read, name, task), read, name, noise=())
        found |= {f"{name}.{s}": each[measured["metric"]] for s, each in measured["subsets"].items()}
    return found


def _kept(model: Any, source: Any) -> dict[str, float]:
    """Returns what a codec keeps, and what is still read in it where the data knows its scenes."""
    from intermodal.evaluation.codes import keeps

    kept = keeps(model, source)
    figures = {name: kept[name] for name in ("absolute_error", "variance_lost", "share_used", "perplexity")}
    read = kept.get("read", {})
    return figures | {name: read[name] for name in ("attribute_accuracy", "scene_accuracy") if name in read}


def _card(result: dict[str, Any], job: Job, seed: int) -> str:
    """Returns the model card of a trained model."""
    lines = [f"- {name}: {value}" for name, value in result.items()]
    system, data, model = result["system"], result["data"], result["model"]
    given = "".join(f" --part {path}={name}" for path, name in job.parts.items())
    given += f" --start {job.start}" if job.start else ""
    return (
        f"# {system} trained on {data}\n\nMade by `intermodal train {system} --data {data}{given}`, seed {seed}. "
        f"Figures of the run:\n\n" + "\n".join(lines) + "\n\nWhat it can do is measured by "
        f"`intermodal evaluate {model} --data {data}`.\n"
    )
