"""``intermodal translate``: text, files and folders into any field, by one model or a chain of several directions.

One input is made anew each time. Of several, or of a folder, what exists already is kept unless ``--again`` is given,
so that an interrupted run goes on where it stopped: a file is written beside its place and renamed, whole or absent.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, settings, table
from intermodal.errors import IntermodalError, InvalidData, InvalidValue

if TYPE_CHECKING:
    from intermodal.cli.outputs import Job
    from intermodal.translation import Translated
    from intermodal.types import Item

BATCH = 16
"""Inputs of one field that are translated together."""
LONG = 200  # letters of a text that is not shown again
SHOWN = 20  # failures that are told to a person
PARTLY = 1  # the exit status where some inputs were translated and others not


def command(
    inputs: Annotated[list[str], typer.Argument(help="A text in words, files, folders of files, or patterns.")],
    to: Annotated[str, typer.Option(help="What to make: text, image, audio, video, timeseries, or another field.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The field the inputs are of; default: told by their content.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Saved or shipped model; given several times, a way may go through all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; for several inputs a folder.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--with", help="FIELD=FILE or FIELD=WORDS: a further field of every input, given together."),
    ] = None,
    candidates: Annotated[int, typer.Option(help="How many to make of each input, best first.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(help="0: the likeliest; default: 0, or 1 with any of the options below.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among so many of the likeliest only; default: all.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the likeliest that make up this share; default: 0.9.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of what is drawn; default: 0.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Of several inputs, also make what exists already.")] = False,
    json: bool = JSON,
) -> None:
    """Translate text, pictures, sounds, clips and series into each other."""
    from intermodal import runtime
    from intermodal.cli.items import item_of
    from intermodal.cli.outputs import check_suffix, jobs_of
    from intermodal.saving import load_model

    runtime.threads()
    names = model or ["diorama"]
    further = settings(beside or [], "--with", "audio=sound.wav")
    if to in further or source in further or candidates < 1:
        raise InvalidValue(
            f"--to {to}, --from {source}, --with {', '.join(further) or '(none)'} and --candidates {candidates}: "
            "fields must differ, and at least one candidate be asked for"
        )
    chosen = sampling(temperature, top_k, top_p, seed)
    extra = {name: item_of(words) for name, words in further.items()}
    check_suffix(out, to)
    run = Run([load_model(name) for name in names], to, source, extra, chosen, candidates)
    jobs, several = jobs_of(inputs, to, out, run.modality != "text")
    if not several:
        _one(run, jobs[0], json, names)
        return
    many = Many(run, again, json)
    many.all(jobs)
    folder = next((job.target.parent for job in jobs if job.target), None) if out is None else out
    many.finish(folder, names)


def sampling(temperature: float | None, top_k: int | None, top_p: float | None, seed: int | None) -> Any:
    """Returns how ids are chosen; None, the model's own way, where nothing is said."""
    from intermodal.sampling.autoregressive import Sampling

    if temperature is None and top_k is None and top_p is None and seed is None:
        return None
    heat = 1.0 if temperature is None else temperature
    return Sampling(heat, top_k or 0, (0.9 if top_p is None else top_p), seed or 0)


class Run:
    """What is asked of every input; ``ways`` are those that were taken, by field."""

    def __init__(
        self, models: Sequence[Any], to: str, source: str | None, extra: "Mapping[str, Item]", how: Any, count: int
    ) -> None:
        """Keeps the request.

        Args:
            models: loaded.
            to: the field to make.
            source: the field of the inputs; None: by modality.
            extra: further fields of every input.
            how: sampling.
            count: candidates.
        """
        from intermodal.translation import modality_of
        from intermodal.types import Completes, Embeds, Translates

        self.models, self.to, self._source, self._extra = models, to, source, dict(extra)
        self._how, self._count = how, count
        self.translating = [model for model in models if isinstance(model, Translates)]
        self.modality = modality_of(models, to)
        self.shown = count if any(isinstance(model, Completes) for model in models) else 1
        self.embeds = isinstance(models[0], Embeds)
        self.ways: dict[str, list[dict[str, str]]] = {}

    def field(self, item: "Item") -> str:
        """Returns the field that an item is of.

        Raises:
            InvalidValue: the item is of another modality than ``--from`` says, or of a field that ``--with`` gives.
        """
        from intermodal.translation import field_of, modality_of

        name = self._source or field_of(self.translating, [item])
        wanted = modality_of(self.models, name)
        if wanted not in (None, item.modality):
            raise InvalidValue(f"the input is {item.modality} and --from {name} says {wanted}; leave --from out")
        if name in self._extra:
            raise InvalidValue(f"the input is of the field {name!r}, which --with gives too; give another field there")
        return name

    def idle(self, field: str) -> bool:
        """Returns whether items of ``field`` are what is to be made."""
        to_itself = any((field, field) in model.directions for model in self.translating)
        return field == self.to and not to_itself and not self._extra

    def __call__(self, field: str, items: "Sequence[Item]") -> "Translated":
        """Returns what becomes of items of one field; says by which way, the first time."""
        from intermodal.translation import by_way_of, complete, translate

        if self._extra:
            samples = [{field: item, **self._extra} for item in items]
            done = complete(self.models, samples, self.to, sampling=self._how, count=self._count)
        else:
            done = translate(self.models, items, self.to, source=field, sampling=self._how, count=self._count)
        if field not in self.ways:
            self.ways[field] = [{"model": s.name, "from": s.source, "to": s.to} for s in done.way]
            path = " > ".join([done.way[0].source, *(step.to for step in done.way)])
            chain = f"; there is no direct direction, so by way of {by_way_of(done.way)}" if len(done.way) > 1 else ""
            say(f"{path} by {', '.join(dict.fromkeys(Path(s.name).name for s in done.way))}{chain}")
        return done


def made_of(job: "Job", field: str, done: "Translated", place: int) -> dict[str, Any]:
    """Returns what was made of one input, written where it is to be: its source, and the candidates, best first."""
    from intermodal.cli.outputs import SUFFIXES

    found = done.candidates[place]
    paths = job.paths(SUFFIXES[found[0].item.modality], len(found))
    rows = []
    for n, candidate in enumerate(found):
        item: Any = candidate.item
        row: dict[str, Any] = {"score": None if math.isnan(candidate.score) else candidate.score}
        if item.modality == "text":
            row["text"] = item.text
        if paths:
            paths[n].parent.mkdir(parents=True, exist_ok=True)
            row["file"] = str(item.save(paths[n]))
        rows.append(row)
    told = {"source": job.name, "from": field, "candidates": rows}
    if done.between:
        told["between"] = [getattr(items[place], "text", items[place].modality) for items in done.between]
    return told


@contextmanager
def watched(models: Sequence[Any]) -> Iterator[None]:
    """Shows the steps, and the steps per second, of models that draw something in steps."""
    drawing = [model for model in models if hasattr(model, "on_step")]
    if not drawing:
        yield
        return
    with bar("drawing") as progress:

        def show(what: str, now: Any) -> None:
            progress.update(now.step / now.steps, f"{what}: {now.steps_per_s:.1f} steps/s")

        for model in drawing:
            model.on_step = show
        try:
            yield
        finally:
            for model in drawing:
                model.on_step = None


def _one(run: Run, job: "Job", as_json: bool, names: Sequence[str]) -> None:
    """Translates one input, made anew; whatever is wrong with it ends the command."""
    start = time.monotonic()
    item = job.opened()
    field = run.field(item)
    with watched(run.models):
        made = made_of(job, field, run(field, [item]), 0)
    seconds = time.monotonic() - start
    result = {"to": run.to, "ways": run.ways, "seconds": seconds, "outputs": [made], "kept": 0, "failed": []}
    finish(result, as_json, _shown(made, seconds), _next(run, field, made, names))


def _shown(made: Mapping[str, Any], seconds: float) -> str:
    """Returns what was made of one input, for people: the words, or the files; several beside their scores."""
    rows = made["candidates"]
    if len(rows) == 1:
        written = [f"{rows[0]['file']} written in {seconds:.1f} s"] if "file" in rows[0] else []
        return "\n".join([*([rows[0]["text"]] if "text" in rows[0] else []), *written])
    columns = [name for name in ("text", "file") if name in rows[0]]
    cells = [["-" if r["score"] is None else f"{r['score']:.3f}", *(r[name] for name in columns)] for r in rows]
    return table(cells, ["score", *columns])


def _next(run: Run, field: str, made: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the command that translates what was made: back, or into something else."""
    import shlex

    from intermodal.translation import ways

    known = list(ways(run.translating, run.to))
    best = made["candidates"][0]
    words = best.get("text", best.get("file", ""))
    if not known or not words.strip():
        return f"intermodal evaluate {names[0]} --translate"
    target = field if field in known and "text" not in best else next((n for n in known if n != field), field)
    models = [part for name in names if list(names) != ["diorama"] for part in ("--model", name)]
    command = ["intermodal", "translate", words if len(words) <= LONG else "WORDS", "--to", target, *models]
    return shlex.join(command)


class Many:
    """Translates many inputs, batch by batch of one field; what is wrong with one is reported, the rest is done."""

    def __init__(self, run: Run, again: bool, as_json: bool) -> None:
        """Begins with nothing done.

        Args:
            run: what is asked.
            again: also make what exists already.
            as_json: how the end is told.
        """
        self._run, self._again, self._json = run, again, as_json
        self._start = time.monotonic()
        self._waiting: dict[str, list[tuple[Job, Item]]] = {}
        self._kept = self._already = self._asked = 0
        self._outputs: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []

    def all(self, jobs: "Sequence[Job]") -> None:
        """Translates them, with progress."""
        self._asked = len(jobs)
        with bar("translating") as progress:
            for done, job in enumerate(jobs, 1):
                self._add(job)
                progress.update(done / len(jobs), f"{done:,} of {len(jobs):,}, {len(self._failed):,} failed")
            for field in list(self._waiting):
                self._flush(field)

    def _add(self, job: "Job") -> None:
        """Takes one input; a full batch is translated."""
        try:
            if not self._again and job.exists(self._run.modality, self._run.shown):
                self._kept += 1
                return
            item = job.opened()
            field = self._run.field(item)
        except IntermodalError as error:
            self._failed.append({"source": job.name, "reason": str(error)})
            return
        if self._run.idle(field):
            self._already += 1
            return
        self._waiting.setdefault(field, []).append((job, item))
        if len(self._waiting[field]) == BATCH:
            self._flush(field)

    def _flush(self, field: str) -> None:
        """Translates the inputs of a field that wait; where the batch fails, each by itself."""
        batch = self._waiting.pop(field)
        try:
            done = self._run(field, [item for _, item in batch])
        except IntermodalError as error:
            if len(batch) == 1:
                self._failed.append({"source": batch[0][0].name, "reason": str(error)})
                return
            for one in batch:
                self._waiting[field] = [one]
                self._flush(field)
            return
        for place, (job, _) in enumerate(batch):
            try:
                made = made_of(job, field, done, place)
            except IntermodalError as error:
                self._failed.append({"source": job.name, "reason": str(error)})
                continue
            self._outputs.append(made)
            if not self._json and "file" not in made["candidates"][0]:
                print(f"{made['source']}\t{made['candidates'][0]['text']}", flush=True)

    def finish(self, folder: Path | None, names: Sequence[str]) -> None:
        """Says what was done, and ends with 1 where something was skipped.

        Args:
            folder: where the results are.
            names: of the models.

        Raises:
            InvalidData: there was nothing to do, or nothing could be done.
        """
        for problem in self._failed[:SHOWN]:
            say(f"skipped {problem['source']}: {problem['reason']}")
        if len(self._failed) > SHOWN:
            say(f"and {len(self._failed) - SHOWN} more; all of them with --json")
        if not self._asked:
            raise InvalidData("there is no file in what was given; name files, or a folder that holds some")
        if self._failed and not (self._outputs or self._kept or self._already):
            first = self._failed[0]["reason"]
            raise InvalidData(f"none of the {self._asked} inputs could be translated; the first: {first}")
        seconds = time.monotonic() - self._start
        result = {"to": self._run.to, "ways": self._run.ways, "seconds": seconds, "outputs": self._outputs}
        result |= {"kept": self._kept, "already": self._already, "failed": self._failed}
        parts = [f"{len(self._outputs)} of {self._asked} inputs translated into {self._run.to} in {seconds:.1f} s"]
        parts += [f"results in {folder}"] if folder else []
        parts += [f"{self._kept} kept that were there (--again makes them anew)"] if self._kept else []
        parts += [f"{self._already} were {self._run.to} already"] if self._already else []
        parts += [f"{len(self._failed)} skipped"] if self._failed else []
        index = f"intermodal index my-library {folder} --model {names[0]}"
        then = index if folder and self._run.embeds else f"intermodal evaluate {names[0]} --translate"
        finish(result, self._json, "; ".join(parts), then)
        if self._failed:
            raise typer.Exit(PARTLY)
