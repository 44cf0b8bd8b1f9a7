"""``intermodal demo``: a space learnt from scratch, measured, searched and shown; the shipped model translates."""

import json as json_
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, table

REFERENCE = Path(__file__).with_name("demo_reference.json")
_SUFFIXES = {"text": "txt", "image": "png", "audio": "wav", "video": "mp4", "timeseries": "csv"}


def command(
    out: Annotated[Path, typer.Option(help="Folder for the model, the media, the library and the report.")] = Path(
        "demo"
    ),
    minutes: Annotated[float, typer.Option(help="Training time.")] = 3.8,
    scenes: Annotated[int, typer.Option(help="Scenes in the library that is searched.")] = 60,
    translated: Annotated[int, typer.Option(help="Scenes that the shipped model translates in every direction.")] = 8,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser at the end.")
    ] = sys.stdout.isatty(),
    json: bool = JSON,
) -> None:
    """Learn one space over five modalities, measure all 20 directions, search a library, translate, report."""
    from intermodal.cli.train import Job, train
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.protocols import any_to_any, embed_source
    from intermodal.evaluation.report import write_report
    from intermodal.saving import load_model
    from intermodal.training.log import read_log

    start = time.monotonic()
    say("1. Learning one space from scratch: sentences, pictures, sounds, clips and sensor traces of the same scenes.")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of an earlier demo
    changes = {"train.minutes": str(minutes), **TRAINING}
    trained = train(Job("clip", out, batch=BATCH, changes=changes))
    model = load_model(out / "model")
    say("\n2. Measuring: each of 1,000 unseen scenes is searched from every modality in every other.")
    source = Diorama("test")
    with bar("embedding") as progress:
        vectors = embed_source(model, source, progress=progress.update)
    result = {"training": trained, **any_to_any(model, source, vectors)}
    show_text = say if json else print
    show_text(side_by_side(result["pairs"]))
    say(f"\n3. Writing {scenes} scenes as files of every kind and adding them to a library.")
    result["searches"], text = _search(model, out, source, scenes)
    show_text(text)
    say(f"\n4. Translating: {translated} unseen scenes by the model that comes with the package, from each into each.")
    result["translations"], text, parts = _translate(translated)
    show_text(text)
    seconds, samples, speed = trained["seconds"], trained["samples"], trained["samples_per_s"]
    note = f"Trained from scratch in {seconds:.0f} s on {samples} scenes ({speed:.0f}/s)."
    title, log = "intermodal demo", read_log(out)
    report = write_report(out / "report.html", title, result, vectors, source, log, notes=[note], more=parts)
    result |= {"report": str(report), "seconds": time.monotonic() - start}
    (out / "result.json").write_text(json_.dumps(result, indent=1, default=str))
    if show:
        import webbrowser

        webbrowser.open(report.resolve().as_uri())
    done = f"\nDone in {result['seconds']:.0f} s. Report with pictures and players: {report}"
    finish(result, json, done, f'intermodal search {out / "library"} "a large green star at the top"')


BATCH = 128
TRAINING = {"train.checkpoint_every": "0", "train.evaluate_every": "100"}


def side_by_side(pairs: dict[str, Any]) -> str:
    """Returns the measured matrix as text, each cell beside that of the reference run where it is known."""
    known = json_.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    names = list(dict.fromkeys(name for pair in pairs for name in pair.split(">")))
    rows = []
    for a in names:
        cells = [a]
        for b in names:
            pair = pairs.get(f"{a}>{b}")
            before = f" ({100 * known[f'{a}>{b}']:.1f})" if f"{a}>{b}" in known else ""
            cells.append("-" if pair is None else f"{100 * pair['share_of_ceiling']:.1f}{before}")
        rows.append(cells)
    beside = "; in brackets: the run in the README" if known else ""
    return f"\nRecall@1 in % of the ceiling, row finds column{beside}\n\n{table(rows, ['', *names])}"


def _search(model: Any, out: Path, source: Any, scenes: int) -> tuple[list[dict[str, Any]], str]:
    """Writes media files, indexes them, searches them from every modality; returns what was found, also as a table."""
    from intermodal.diorama.source import Diorama
    from intermodal.items import open_item
    from intermodal.library.library import Library

    media, queries = out / "media", out / "queries"
    samples = source.samples(range(scenes))
    with bar("writing") as progress:
        for i, sample in enumerate(samples):
            for name, item in sample.items():
                path = media / name / f"scene{i:03d}.{_SUFFIXES[name]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                item.save(path)
            progress.update((i + 1) / scenes)
    store = Library.create(out / "library", model, replace=True)
    with bar("indexing") as progress:
        store.add(media, progress=progress.update)
    found = []
    rows = []
    again = Diorama("test", variation=1).samples(range(scenes))  # the same scenes in other words, places and noise
    queries.mkdir(exist_ok=True)
    for n, (name, suffix) in enumerate(_SUFFIXES.items()):
        truth = 7 * n + 3
        asked: Any = again[truth % scenes][name]
        path = asked.save(queries / f"query.{suffix}")
        start = time.monotonic()
        hits = store.search(open_item(path), top=5)
        took = 1000 * (time.monotonic() - start)
        names = [Path(str(h.source)).relative_to(media.resolve()).as_posix() for h in hits]
        right = sum(f"scene{truth % scenes:03d}" in h for h in names)
        found.append({"query": str(path), "modality": name, "hits": names, "of_the_same_scene": right, "ms": took})
        shown = f'"{asked.text}"' if name == "text" else path.name
        rows.append([name, shown[:46], f"{right} of 5", ", ".join(names[:3]), f"{took:.0f} ms"])
    title = (
        f"{len(store)} files searched with fresh renderings of five scenes: how many of the best five are that scene"
    )
    return found, f"\n{title}\n\n{table(rows, ['query', '', 'found', 'best three', 'took'])}"


def _translate(scenes: int) -> tuple[dict[str, Any], str, list[str]]:
    """Translates with the shipped model in all directions; returns the figures, also as a table and for the report."""
    from intermodal.cli.evaluate import translations_text
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.translation_report import translation_parts
    from intermodal.evaluation.translations import examples, translations
    from intermodal.saving import load_model

    model, source = load_model("diorama"), Diorama("test", size=scenes)
    with bar("translating") as progress:
        result = translations(model, source, progress=progress.update)
    shown = examples(model, source, list(result["directions"]), count=1)
    note = "<h2>Translated</h2><p>By the model that comes with the package, which was trained before.</p>"
    return result, f"\n{translations_text(result)}", [note, *translation_parts(result, shown)]
