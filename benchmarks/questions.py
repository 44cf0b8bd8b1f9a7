"""Questions about unseen pictures of Diorama by LXMERT and ViLBERT, and what captions are worth where few are answered.

python benchmarks/questions.py                     about two and a half hours of one core, all of it for two systems
python benchmarks/questions.py --systems lxmert    one of them
python benchmarks/questions.py --quick             the same stages in seconds; its figures mean nothing

Each system first learns from captions alone, by the tasks of its paper. Then twice from 1,000 questions with their
answers, once after the captions and once with fresh weights, for as many steps: what lies between them is the gain of
the captions. And from all questions, after the captions. Measured on questions about scenes of the test split, by kind:
attributes, numbers, whether there is such a thing, and how two things lie to each other. ``unseen pairs`` are scenes
with a shape in a colour that was never trained on.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402
import _steps  # noqa: E402
from _answers import FIELDS, answers_right  # noqa: E402

from figures import record  # noqa: E402

SYSTEMS = ("lxmert", "vilbert")
SPLITS = {"test": "", "compositional": "unseen_pairs."}
LABELLED = 1000
FORM = ("image.patch=16", "train.learning_rate=5e-4", "train.matrix_rate=2e-3")
"""A picture has 16 regions, so that four times as many are seen; half the usual rates, which binding words to places
asks for: see docs/log.md."""

ASKED = {"answer": 97.0, "relation": 95.0}


def labelled(work: Path, count: int) -> Path:
    """Returns the folder of a data set of so many pictures, each with one question and its answer."""

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        from intermodal.diorama.source import Diorama

        samples = {split: Diorama(split, FIELDS, count).samples(range(count)) for split in ("train", "dev")}
        for split, rows in samples.items():
            for i, sample in enumerate(rows):
                sample["image"].save(folder / f"{split}-{i:04}.png")
                told = {name: sample[name].text for name in FIELDS[1:]}
                yield {"image_file_name": f"{split}-{i:04}.png", **told, "split": split}

    return _steps.prepared(work / f"labelled-{count}", ROOT, write)


def trained(work: Path, system: str, chosen: argparse.Namespace) -> dict[str, Path]:
    """Returns the folders of a system's models, trained if they are not there: all, few, and few with fresh weights."""
    shared, few = ["train", system, "--batch", "64"], labelled(work, chosen.labelled)
    usual = _stages.sets(*FORM, "train.checkpoint_every=500")
    base = [*shared, *usual, "--fields", "text,image", *_stages.sets(f"train.minutes={chosen.caption_minutes:g}")]
    start = ["--start", str(_stages.trained(work / system / "captions", base))]
    wanted = [*shared, *usual, "--fields", ",".join(FIELDS)]
    some = [*wanted, "--data", str(few), *_stages.sets(f"train.steps={chosen.few_steps}")]
    every = [*wanted, *start, *_stages.sets(f"train.minutes={chosen.minutes:g}")]
    stages = {"all": every, "few": [*some, *start], "few_fresh": some}
    return {name: _stages.trained(work / system / name, words) for name, words in stages.items()}


def measured(folder: Path, count: int) -> dict[str, Any]:
    """Returns the accuracy of answers about each split, over all and by kind."""
    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)
    found: dict[str, Any] = {split: answers_right(model, split, count) for split in SPLITS}
    return found | {"weights": sum(p.numel() for p in model.parameters())}


def figures(found: dict[str, Any]) -> dict[str, tuple[float, str, str]]:
    """Returns name -> value, unit and what was asked, of one system."""
    result = {"weights": (round(found["all"]["weights"] / 1e6, 2), "million", "-")}
    for name, each in found.items():
        for split, prefix in SPLITS.items():
            for what, value in each[split].items():
                kind = what.removesuffix("_accuracy")
                if kind != what and not kind.endswith("_majority") and (name == "all" or kind == "answer"):
                    asked = f"≥ {ASKED[kind]:g}" if name == "all" and not prefix and kind in ASKED else "-"
                    result[f"{name}.{prefix}{kind}"] = (round(100 * value, 1), "%", asked)
    gained = result["few.answer"][0] - result["few_fresh.answer"][0]
    return result | {"gained_by_captions": (round(gained, 1), "points", "above 0")}


def main() -> None:
    """Trains what is missing, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas (default: %(default)s)")
    parser.add_argument("--caption-minutes", type=float, default=15.0, help="of captions (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=45.0, help="of all questions (default: %(default)s)")
    parser.add_argument("--few-steps", type=int, default=800, help="of the few labelled ones (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=2000, help="measured of each split (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/questions"), help="what is there is not made again")
    parser.add_argument("--quick", action="store_true", help="every stage in seconds")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    chosen.labelled = LABELLED
    if chosen.quick:
        chosen.caption_minutes = chosen.minutes = 0.02
        chosen.few_steps, chosen.labelled, chosen.scenes, chosen.work = 2, 80, 60, chosen.work / "quick"
    for system in chosen.systems.split(","):
        models = trained(chosen.work, system, chosen)
        found = {}
        for name, folder in models.items():
            asked = {"trained": (folder.parent / "trained.json").read_text("utf-8"), "scenes": chosen.scenes}
            path = chosen.work / system / f"{name}.json"
            found[name] = _stages.kept(path, asked, lambda folder=folder: measured(folder, chosen.scenes))
        made = figures(found)
        for name, (value, unit, asked) in made.items():
            print(f"{system}.{name}: {value:g} {unit}" + (f", asked {asked}" if asked != "-" else ""))
        print(json.dumps({system: found}))
        if chosen.record and not chosen.quick:
            words = [word for word in sys.argv[1:] if word != "--record"]
            for name, (value, unit, asked) in made.items():
                command = shlex.join(["python", "benchmarks/questions.py", *words])
                record(f"questions.{system}.{name}", value, unit, asked, command)


if __name__ == "__main__":
    main()
