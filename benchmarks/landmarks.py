"""Every landmark on the same scenes, with about as many weights and as many minutes: what each can do, and how well.

python benchmarks/landmarks.py                     all of them: 10 minutes each on 2 cores, two hours with measuring
python benchmarks/landmarks.py --systems clip,blip some of them; what is trained already is not trained again
python benchmarks/landmarks.py --draw              only the diagrams of docs/landmarks/: seconds
python benchmarks/landmarks.py --quick             every stage in seconds; its figures mean nothing

Diorama's pictures, sentences and questions; 1,000 unseen scenes. ``found``: Recall@1 between pictures and sentences, as
a share of the best possible, the worse direction. ``written``: attributes that arrive from pictures in sentences;
``painted``: from sentences in pictures. ``answered``: questions about pictures. The minutes of a system are those of
all its parts together, and so are its weights, but for a copy that only follows. The claims of the papers are not
shown by this table: each has a script of its own. Flamingo, which learns from prompts, is not in it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402
from _answers import answers_right  # noqa: E402

from figures import record  # noqa: E402

CAPTIONS, ASKED = ("text", "image"), ("image", "text", "question", "answer")
BATCH, SCENES = 64, 1000


@dataclass(frozen=True)
class Landmark:
    """A system as it is compared.

    Attributes:
        title: of its diagram.
        fields: that it learns from.
        tasks: what is measured.
        changes: of its tiny size, so that it has about as many weights as the others.
        parts: path -> what is trained before it: a system, its fields, and its share of the minutes.
        drawn: fields of its diagram, where they are others.
    """

    title: str
    fields: tuple[str, ...]
    tasks: tuple[str, ...]
    changes: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, tuple[str, ...], float]] | None = None
    drawn: tuple[str, ...] = ()


CODEC = ("codec", ("image",), 0.2)
READER = ("clip", CAPTIONS, 0.3)
LANDMARKS = {
    "clip": Landmark(
        "CLIP",
        CAPTIONS,
        ("found",),
        tuple(f"towers.{field}.{change}" for field in CAPTIONS for change in ("width=256", "heads=8")),
        drawn=("text", "image", "audio"),
    ),
    "visualbert": Landmark("VisualBERT", ASKED, ("answered",), ("depth=8",)),
    "vilbert": Landmark("ViLBERT", ASKED, ("answered",)),
    "lxmert": Landmark("LXMERT", ASKED, ("answered",)),
    "blip": Landmark("BLIP", ASKED, ("found", "written", "answered"), ("seen.width=192", "said.width=192")),
    "dalle1": Landmark("DALL-E", CAPTIONS, ("painted",), parts={"codecs.image": CODEC}),
    "dalle2": Landmark("DALL-E 2", CAPTIONS, ("painted",), ("decoder.width=128", "decoder.depth=4"), {"clip": READER}),
    "vae_gan": Landmark(
        "VAE-GAN",
        CAPTIONS,
        ("written", "painted"),
        ("towers.text.width=256", "towers.image.width=256"),
        drawn=("image", "audio", "text"),
    ),
    "unified": Landmark(
        "A unified token transformer",
        CAPTIONS,
        ("found", "written", "painted"),
        ("depth=4",),
        parts={"codecs.image": CODEC, "reader": READER},
        drawn=("text", "image", "audio", "video", "timeseries"),
    ),
}


def draw(folder: Path) -> None:
    """Writes a diagram of each system, drawn from fresh weights and one batch."""
    import torch

    from intermodal import catalog
    from intermodal.diorama.source import Diorama
    from intermodal.explain.diagram import diagram
    from intermodal.explain.flow import flow
    from intermodal.testing import batches
    from intermodal.training.recipe import recipe

    folder.mkdir(parents=True, exist_ok=True)
    for name, landmark in LANDMARKS.items():
        fields = landmark.drawn or landmark.fields
        source = Diorama("train", fields=fields, size=64)
        torch.manual_seed(0)
        model: Any = catalog.module("systems", name).build(recipe(name, source, "tiny", fields))
        found = flow(model.train(), batches(model, source.samples(range(8))))
        (folder / f"{name}.svg").write_text(diagram(found, f"{landmark.title}, as it learns") + "\n", "utf-8")
        print(folder / f"{name}.svg", file=sys.stderr)


def trained(name: str, minutes: float, work: Path, quick: bool) -> Path:
    """Returns the folder of a system, trained after its parts unless they are there."""
    landmark = LANDMARKS[name]
    changes = ("train.checkpoint_every=200", *(("train.warmup_steps=1",) if quick else ()))
    batch = str(8 if quick else BATCH)
    given, left = [], 1.0
    for path, (system, fields, share) in (landmark.parts or {}).items():
        words = ["train", system, "--fields", ",".join(fields), "--batch", batch]
        out = work / f"{system}-{share:g}"
        part = _stages.trained(out, [*words, *_stages.sets(f"train.minutes={minutes * share:g}", *changes)])
        given += ["--part", f"{path}={part}"]
        left -= share
    words = ["train", name, "--fields", ",".join(landmark.fields), "--batch", batch, *given]
    changes = (f"train.minutes={minutes * left:g}", *changes, *landmark.changes)
    return _stages.trained(work / name, [*words, *_stages.sets(*changes)])


def measured(folder: Path, landmark: Landmark, scenes: int) -> dict[str, float]:
    """Returns the figure of each task, and how many million weights there are."""
    from intermodal import runtime
    from intermodal.diorama.source import Diorama
    from intermodal.saving import load_model

    runtime.threads()
    model: Any = load_model(folder)
    slow = set(getattr(model, "slow", ()) and model.slow.parameters())
    found = {"weights": sum(p.numel() for p in model.parameters() if p not in slow) / 1e6}
    source = Diorama("test", fields=CAPTIONS, size=scenes)
    for task in landmark.tasks:
        found[task] = TASKS[task](model, source)
        print(f"{folder.parent.name}: {task} {100 * found[task]:.1f} %", file=sys.stderr, flush=True)
    return found


def found_share(model: Any, source: Any) -> float:
    """Returns Recall@1 between pictures and sentences as a share of the best possible, the worse direction."""
    from intermodal.evaluation.protocols import any_to_any, embed_source

    result = any_to_any(model, source, embed_source(model, source, list(CAPTIONS)))
    return float(min(one["share_of_ceiling"] for one in result["pairs"].values()))


def arrived(model: Any, source: Any, given: str, to: str) -> float:
    """Returns the share of the attributes that is read back from what is made of ``given``."""
    from intermodal.evaluation.scenes import read_back, translation_accuracy

    index = range(len(source))
    items = [sample[given] for sample in source.samples(index)]
    made = [one for i in range(0, len(items), BATCH) for one in model.translate(items[i : i + BATCH], to)]
    found = translation_accuracy(list(source.scenes(index)), read_back(to, made), given, to)
    return float(found["attribute_accuracy"])


def answered(model: Any, source: Any) -> float:
    """Returns the share of the questions that is answered rightly."""
    return answers_right(model, "test", len(source))["answer_accuracy"]


TASKS: dict[str, Callable[[Any, Any], float]] = {
    "found": found_share,
    "written": partial(arrived, given="image", to="text"),
    "painted": partial(arrived, given="text", to="image"),
    "answered": answered,
}


def table(found: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a row for each system."""
    print(f"{'':12} {'weights':>9}" + "".join(f"{task:>10}" for task in TASKS))
    for name, row in found.items():
        cells = "".join(f"{100 * row[task]:>9.1f}%" if task in row else f"{'':>10}" for task in TASKS)
        print(f"{name:12} {row['weights']:>7.2f} M{cells}")


def main() -> None:
    """Draws, trains what is missing, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(LANDMARKS), help="with commas (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, parts and all (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="to measure on (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/landmarks"), help="what is there is not made again")
    parser.add_argument("--draw", action="store_true", help="only write the diagrams")
    parser.add_argument("--quick", action="store_true", help="every stage in seconds, in a folder of its own")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if arguments.draw:
        draw(ROOT / "docs" / "landmarks")
        return
    if arguments.quick:
        arguments.minutes, arguments.scenes, arguments.work = 0.05, 20, arguments.work.with_name("landmarks-quick")
    found = {}
    for name in arguments.systems.split(","):
        folder = trained(name, arguments.minutes, arguments.work, arguments.quick)
        asked = {"minutes": arguments.minutes, "scenes": arguments.scenes}
        found[name] = _stages.kept(
            arguments.work / name / "measured.json",
            asked,
            lambda name=name, folder=folder: measured(folder, LANDMARKS[name], arguments.scenes),
        )
    table(found)
    print(json.dumps(found))
    if arguments.record and not arguments.quick:
        kept(found, arguments.minutes)


def kept(found: Mapping[str, Mapping[str, float]], minutes: float) -> None:
    """Records the figures."""
    command = f"python benchmarks/landmarks.py --minutes {minutes:g} --record"
    for name, row in found.items():
        note = f"{row['weights']:.2f} M weights, {minutes:g} minutes"
        for task in (one for one in TASKS if one in row):
            unit = "% of the ceiling" if task == "found" else "%"
            record(f"landmarks.{task}.{name}", round(100 * row[task], 1), unit, "-", command, note=note)


if __name__ == "__main__":
    main()
