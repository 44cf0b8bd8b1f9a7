"""The model that ships as `diorama`: made, measured in every direction, and written into the package.

python benchmarks/diorama_translate.py train      codecs, reader, captions, everything: 4 hours on 2 cores
python benchmarks/diorama_translate.py measure    1,000 unseen scenes in each direction, unseen pairs, search, seconds
python benchmarks/diorama_translate.py ship       the weights in half precision, with a card, as the shipped model
python benchmarks/diorama_translate.py show       pictures for the README: one sentence in five modalities, the table

Every stage leaves its result in --work and goes on where it was stopped. On a machine with several minutes of a GPU
the same commands use it.
"""

import argparse
import base64
import html
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402
import codebooks  # noqa: E402
from _verbs import intermodal  # noqa: E402

from figures import record  # noqa: E402

SCRIPT = "python benchmarks/diorama_translate.py"
READER = ("train.steps=2100",)
CAPTIONS = ("plan.targets=text", "plan.each=true", "contrast=0.2", "train.minutes=28")
WEIGHTS = ("weights.text=0.4", "weights.audio=2", "weights.timeseries=2", "weights.video=1.3")
MODEL = ("contrast=0.2", "plan.single=0.75", "plan.alone=0.02", *WEIGHTS, "train.minutes=125")
"""What is changed of ``tiny``; minutes are those on two cores. Captions come first: see design note 0011."""

BEST_SCENES = 120
"""Scenes of which the best of four candidates is measured: each takes four times as long."""

SENTENCE = "a large red star moving right at the top left and a small green circle at the bottom"
LATENCY = {"text": 0.5, "image": 1.0, "video": 4.0, "audio": 1.0, "timeseries": 1.0}
"""Asked seconds of one item on one core; of sound and series nothing was asked, they are held to a picture's."""

CARD = """# diorama

One model of a rendered world of one to three objects, in words, pictures, clips, sounds and sensor traces: it turns any
of them into any other, several together into one, and searches any with any. It knows that world alone: photographs
and recordings mean nothing to it.

`unified`: a transformer of {writer:.2f} million weights writes ids one after the other. What is given is read by the
five towers of a CLIP ({reader:.2f} million); the ids of media are those of four codecs ({codecs:.2f} million).
Stored in half precision. Learnt from nothing in {hours:.1f} hours on two cores: the codecs, the CLIP, captions, then
all directions, with {samples:,} scenes in the last two, each in all five forms. The same stages, with the settings
that turned out best on the way (`docs/log.md`), are run by `{script} train`,
and `{script} ship` writes this folder.

Attributes that arrive, in %, of 1,000 unseen scenes, the likeliest id taken at each place; from row to column, in
brackets with shape-colour pairs never seen in training:

{table}

Whole scenes {scenes:.1f} %. Recall@1 by the same weights, of the best possible: worst direction {worst:.3f}, mean
{mean:.3f}.
"""


def trained(work: Path) -> Path:
    """Returns the folder of the whole model, each stage of which is trained unless it is there."""
    parts = []
    for field, changes in codebooks.SETTINGS.items():
        asked = ["train", "codec", "--fields", field, "--batch", str(codebooks.BATCH[field])]
        changes = (*codebooks.COMMON, *changes, f"train.minutes={codebooks.MINUTES[field]:g}")
        folder = _stages.trained(work / f"codec-{field}", [*asked, *_stages.sets(*changes)])
        parts += ["--part", f"codecs.{field}={folder}"]
    reader = _stages.trained(work / "reader", ["train", "clip", *_stages.sets(*READER)])
    first = ["train", "unified", "--batch", "32", "--part", f"reader={reader}", *parts, *_stages.sets(*CAPTIONS)]
    captions = _stages.trained(work / "captions", first)
    whole = ["train", "unified", "--batch", "64", "--start", str(captions), *_stages.sets(*MODEL)]
    return _stages.trained(work / "unified", whole)


def halved(folder: Path, work: Path) -> Path:
    """Returns the folder of the model as it ships, in half precision: this is what is measured."""
    from intermodal.saving import load_model, save_model

    def make() -> str:
        return str(save_model(work / "half", load_model(folder), "# diorama, to be measured\n", half=True))

    return Path(_stages.kept(work / "half.json", {"made": (folder / "model.safetensors").stat().st_mtime_ns}, make))


def seconds(model: Any, to: str, rounds: int) -> float:
    """Returns the median seconds in which one item of a field is made of one of another, on one core."""
    from intermodal.diorama.source import Diorama

    start = next(a for a, b in model.directions if b == to)
    spent = []
    for sample in Diorama("test", fields=(start,)).samples(range(rounds)):
        begin = time.perf_counter()
        model.translate([sample[start]], to, source=start)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)


def measured(folder: Path, work: Path, samples: int) -> dict[str, Any]:
    """Returns what the model does on unseen scenes and on unseen pairs, and how long it takes.

    Each evaluation runs on a core of its own; one item at a time is timed when all of them have ended.
    """
    few = min(samples, BEST_SCENES)
    asked = {"model": (folder / "model.safetensors").stat().st_mtime_ns, "samples": samples}
    stages = {
        "test": ("test", samples, ("--translate", "--report", str(work / "report.html"))),
        "compositional": ("compositional", samples, ("--translate",)),
        "best": ("test", few, ("--translate", "--candidates", "4")),
        "search": ("test", samples, ()),
    }

    def told(stage: str) -> Any:
        split, count, more = stages[stage]
        arguments = ("evaluate", str(folder), "--split", split, "--samples", str(count), *more)
        return _stages.kept(work / f"{stage}.json", asked, lambda: intermodal(*arguments, threads=1))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(stages, pool.map(told, stages), strict=True))
    return found | {"seconds": _stages.kept(work / "seconds.json", asked, lambda: timed(folder))}


def timed(folder: Path) -> dict[str, float]:
    """Returns the seconds of one item of each field, and the memory of the process in MiB, on one core."""
    import resource

    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads(1)
    model = load_model(folder)
    found = {to: seconds(model, to, 15) for to in LATENCY}
    return found | {"MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


Figure = tuple[str, float, str, str, str]
"""Name, value, unit, what was asked, what it is of."""


def recorded(found: dict[str, Any], work: Path) -> None:
    """Records the figures."""
    for name, value, unit, asked, note in (*arrived(found), *costs(found, work)):
        record(f"translate.diorama.{name}", value, unit, asked, f"{SCRIPT} measure --record", note=note)


def arrived(found: dict[str, Any]) -> Iterator[Figure]:
    """Yields how much of the scenes arrives, and how well is searched."""

    def shares(stage: str) -> dict[str, float]:
        return {name: 100 * way["attribute_accuracy"] for name, way in found[stage]["directions"].items()}

    def mean(values: Any) -> float:
        return round(statistics.mean(values), 1)

    own, best, novel = shares("test"), shares("best"), shares("compositional")
    few = f"best of 4, {found['best']['count']} scenes"
    what = "attributes that arrive"
    worst, least = min(own, key=lambda n: own[n]), min(best, key=lambda n: best[n])
    yield "attributes.mean", mean(own.values()), "%", "≥ 98", f"{what}, mean of the 20 directions"
    yield "attributes.worst", round(own[worst], 1), "%", "≥ 95", f"{what}, worst direction ({worst})"
    yield "attributes.image_to_text", round(own["image>text"], 1), "%", "≥ 99", f"{what} from pictures in sentences"
    yield "attributes.text_to_image", round(own["text>image"], 1), "%", "≥ 97", f"{what} from sentences in pictures"
    yield "best_of_4.mean", mean(best.values()), "%", "≥ 98", f"{what}, mean, {few}"
    yield "best_of_4.worst", round(best[least], 1), "%", "≥ 95", f"{what}, worst direction ({least}), {few}"
    for stage, name, note in (("test", "scenes", ""), ("best", "best_of_4.scenes", f", {few}")):
        whole = round(100 * found[stage]["mean"]["scene_accuracy"], 1)
        yield name, whole, "%", "≥ 85", f"whole scenes, mean of the 20 directions{note}"
    drops = {name: own[name] - novel[name] for name in own}
    most = max(drops, key=lambda n: drops[n])
    yield "unseen_pairs.drop_mean", mean(drops.values()), "points", "≤ 5", f"{what}, mean drop on unseen pairs"
    yield "unseen_pairs.drop_worst", round(drops[most], 1), "points", "≤ 5", f"largest drop on unseen pairs ({most})"
    for to, told in found["test"]["completions"]["fields"].items():
        share = round(100 * told["attribute_accuracy"], 1)
        yield f"completed.{to}", share, "%", "≥ 97", f"{what} in {to} from the four others together"
    ranked = {name: pair["share_of_ceiling"] for name, pair in found["search"]["pairs"].items()}
    last = min(ranked, key=lambda n: ranked[n])
    yield "search.worst", round(ranked[last], 3), "of the ceiling", "≥ 0.90", f"Recall@1, worst direction ({last})"
    yield "search.mean", round(statistics.mean(ranked.values()), 3), "of the ceiling", "-", "Recall@1, mean"


def costs(found: dict[str, Any], work: Path) -> Iterator[Figure]:
    """Yields the time and the memory that it takes, to use and to make."""
    ways = found["test"]["directions"]
    for to, limit in LATENCY.items():
        yield f"seconds.{to}", round(found["seconds"][to], 2), "s", f"≤ {limit:g}", f"one {to} on one core"
        batch = statistics.mean(way["seconds_per_item"] for name, way in ways.items() if name.endswith(f">{to}"))
        yield f"per_second.{to}", round(1 / batch, 1), "items/s", "-", f"{to} in batches of 32, one core"
    yield "hours", round(spent(work)[0], 1), "h", "≤ 4", "training on 2 cores, all stages"
    yield "memory", round(found["seconds"]["MiB"]), "MiB", "≤ 1024", "memory of the process, one item at a time"


def spent(work: Path) -> tuple[float, int]:
    """Returns the hours that all stages took, and the scenes of those of the whole model."""
    made = {path.parent.name: json.loads(path.read_text("utf-8")) for path in work.glob("*/trained.json")}
    seconds = sum(one["seconds"] for one in made.values())
    return seconds / 3600, made["captions"]["samples"] + made["unified"]["samples"]


def table(found: dict[str, Any]) -> str:
    """Returns the attributes that arrive in each direction as Markdown."""
    ways, novel = found["test"]["directions"], found["compositional"]["directions"]
    names = list(dict.fromkeys(name.split(">")[0] for name in ways))
    lines = [f"| | {' | '.join(names)} |", f"|---{'|---' * len(names)}|"]
    for a in names:
        cells = [
            f"{100 * ways[f'{a}>{b}']['attribute_accuracy']:.1f} ({100 * novel[f'{a}>{b}']['attribute_accuracy']:.1f})"
            if a != b
            else ""
            for b in names
        ]
        lines.append(f"| {a} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ship(folder: Path, found: dict[str, Any], work: Path) -> None:
    """Writes the model into the package, with its card."""
    from intermodal.evaluation.kept import kept
    from intermodal.saving import load_model, save_model

    model = load_model(folder)
    hours, samples = spent(work)
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) / 1e6 for part in ("reader", "codecs")}
    shares = [pair["share_of_ceiling"] for pair in found["search"]["pairs"].values()]
    card = CARD.format(
        **sizes,
        writer=sum(p.numel() for p in model.parameters()) / 1e6 - sum(sizes.values()),
        script=SCRIPT,
        hours=hours,
        samples=samples,
        table=table(found),
        scenes=100 * found["test"]["mean"]["scene_accuracy"],
        worst=min(shares),
        mean=statistics.mean(shares),
    )
    out = save_model(ROOT / "src/intermodal/weights/diorama", model, card, half=True)
    kept(out, found["test"])
    kept(out, found["search"])
    size = (out / "model.safetensors").stat().st_size / 2**20
    print(json.dumps({"ship": str(out), "MiB": round(size, 2)}))


def show(found: dict[str, Any]) -> None:
    """Draws what the shipped model makes of one sentence, and the table of all directions."""
    from intermodal.evaluation.report import matrix_svg
    from intermodal.modalities.text import Text
    from intermodal.saving import load_model

    model = load_model("diorama")
    made = {to: model.translate([Text(SENTENCE)], to)[0] for to in ("image", "video", "audio", "timeseries")}
    back = model.translate([made["video"]], "text")[0].text
    (ROOT / "docs" / "scene.svg").write_text(scene_svg(SENTENCE, made, back) + "\n", "utf-8")
    shares = {name: way["attribute_accuracy"] for name, way in found["test"]["directions"].items()}
    label = "share of the attributes that arrive from each modality (row) in each other (column)"
    (ROOT / "docs" / "translated.svg").write_text(matrix_svg(shares, label=label) + "\n", "utf-8")
    print(json.dumps({"asked": SENTENCE, "read_in_the_clip": back}))


def scene_svg(asked: str, made: dict[str, Any], back: str) -> str:
    """Returns a drawing of one scene in five modalities: a sentence, and what was made of it."""
    frames = made["video"].frames
    shown = [("picture", [made["image"].pixels]), ("clip", [frames[i] for i in (0, len(frames) // 2, -1)])]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 250" width="880" font-family="system-ui, sans-serif" '
        f'font-size="15" role="img" aria-label="{html.escape(asked)}, as picture, clip, sound and sensor trace">'
        '<rect width="880" height="250" rx="8" fill="#12151c"/>',
        told(16, 28, "sentence", "#8f99ad") + told(16, 50, f"“{asked}”", "#e8ebf2"),
    ]
    x = 16
    for name, pictures in shown:
        parts.append(told(x, 84, name, "#8f99ad"))
        for pixels in pictures:
            parts.append(
                f'<image x="{x}" y="94" width="112" height="112" style="image-rendering:pixelated" '
                f'href="data:image/png;base64,{png(pixels)}"/>'
            )
            x += 116
        x += 12
    parts += [told(x, 84, "sound", "#8f99ad"), line(made["audio"].samples, x, 94, 172, 112, ("#c2a05a", "#7aa2f7"))]
    x += 188
    hues = ("#7aa2f7", "#9ece6a", "#e0af68", "#f7768e", "#bb9af7", "#7dcfff", "#c0caf5", "#73daca", "#ff9e64")
    parts += [told(x, 84, "sensor trace", "#8f99ad"), line(made["timeseries"].values, x, 94, 172, 112, hues)]
    parts.append(told(16, 234, f"read back from the clip: “{back}”", "#8f99ad"))
    return "".join(parts) + "</svg>"


def told(x: float, y: float, text: str, colour: str) -> str:
    """Returns one line of text."""
    return f'<text x="{x}" y="{y}" fill="{colour}">{html.escape(text)}</text>'


def png(pixels: Any) -> str:
    """Returns a picture as base64."""
    from intermodal.media import pictures

    return base64.b64encode(pictures.encode(pixels, "png")).decode()


def line(rows: Any, x: float, y: float, width: float, height: float, colours: Sequence[str]) -> str:
    """Returns rows of numbers ``(C, S)`` as lines in one frame, of long ones 400 values."""
    step = max(1, rows.shape[1] // 400)
    kept = rows[:, ::step]
    low, span = float(kept.min()), float(kept.max() - kept.min()) or 1.0
    drawn = []
    for row, colour in zip(kept, colours, strict=False):
        points = " ".join(
            f"{x + width * i / (len(row) - 1):.1f},{y + height * (1 - (float(v) - low) / span):.1f}"
            for i, v in enumerate(row)
        )
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return "".join(drawn)


def main() -> None:
    """Runs one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "ship", "show"))
    parser.add_argument("--work", type=Path, default=Path("runs/diorama"), help="what is there is not made again")
    parser.add_argument("--samples", type=int, default=1000, help="scenes per direction")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    folder = trained(chosen.work)
    if chosen.what == "train":
        print(json.dumps({"model": str(folder)}))
        return
    folder = halved(folder, chosen.work)
    found = measured(folder, chosen.work, chosen.samples)
    if chosen.what == "ship":
        ship(folder, found, chosen.work)
        return
    if chosen.what == "show":
        show(found)
        return
    print(table(found))
    if chosen.record:
        recorded(found, chosen.work)


if __name__ == "__main__":
    main()
