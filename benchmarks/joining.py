"""Questions on Diorama that a picture and a tracker's series answer only together, by fusion and by each alone.

python benchmarks/joining.py                      about two hours of one core; not measured yet
python benchmarks/joining.py --quick              the same stages in seconds; its figures mean nothing

"how does the blue star move?", "what shape is the thing moving up?": a picture shows no motion, a series neither colour
nor shape, and where things are tells which is which. Half of the questions are steps to these, which one of the two
answers and a place is part of; they are learnt, and measured apart (``both`` are those that need both).

Towers begin as those of a ``clip`` that is trained first on sentences, pictures and series, since what a place or a
colour is need not be learnt from answers. Then three models see the same scenes for as many steps: of both fields, of
pictures alone, of series alone; each has the question. Measured on scenes and words of the test split. ``what it
carries`` is how often the best guess is right that knows all that one rendering tells (``diorama.joining.guessed``), or
the commonest answer of what is asked for, where it tells nothing.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402

from figures import record  # noqa: E402

QUESTION, ANSWER = "joint_question", "joint_answer"
FIELDS = ("image", "timeseries")
TRACKS = ("towers.timeseries.preprocessor.sensors=3", "towers.timeseries.sizes=3,0")
"""A token is of one track, which is what has to be found again in the picture."""

FORM = ("fusion.form=early", "fusion.depth=4", "late=", "train.learning_rate=5e-4", "train.matrix_rate=2e-3")
ASKED = 95.0


def trained(work: Path, fields: Sequence[str], start: Path, steps: int, dropout: float) -> Path:
    """Returns the folder of a model on some fields and the question, trained if it is not there."""
    names = ",".join((*fields, QUESTION, ANSWER))
    words = ["train", "fusion", "--data", "diorama", "--fields", names, "--batch", "64", "--start", str(start)]
    tracks = TRACKS if "timeseries" in fields else ()
    changes = (*FORM, *tracks, f"modality_dropout={dropout if len(fields) > 1 else 0:g}", f"train.steps={steps}")
    return _stages.trained(work / "+".join(fields), [*words, *_stages.sets(*changes, "train.checkpoint_every=250")])


def carried(source: Any, count: int) -> dict[str, float]:
    """Returns how often the best guess from one rendering is right about questions that ask for both."""
    from intermodal.diorama.joining import JOINT, guessed, wanted

    index = range(count)
    both = zip(source.scenes(index), source.asked(index, QUESTION), strict=True)
    asked = [(scene, question, wanted(question)) for scene, question in both if question.kind in JOINT]
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for _, question, kind in asked:
        by_kind[kind][question.answer] += 1
    prior = {kind: max(each.values()) / each.total() for kind, each in by_kind.items()}
    return {
        field: sum(guessed(scene, question, field) or prior[kind] for scene, question, kind in asked) / len(asked)
        for field in FIELDS
    }


def measured(models: dict[str, Path], count: int) -> dict[str, Any]:
    """Returns the share of right answers of each model, of the joint one from every subset too, and by kind."""
    from intermodal import runtime
    from intermodal.diorama.joining import JOINT
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.subsets import predicted, told
    from intermodal.saving import load_model

    runtime.threads()
    source = Diorama("test", fields=(*FIELDS, QUESTION, ANSWER), size=count)
    kinds = np.array([question.kind for question in source.asked(range(count), QUESTION)])
    found: dict[str, Any] = {"carried": carried(source, count), "count": count}
    for name, folder in models.items():
        model = load_model(folder)
        test = told(source, FIELDS, ANSWER, model.tasks[ANSWER], count)
        fields = name.split("+")
        for chosen in ((*fields,), *(((one,) for one in fields) if len(fields) > 1 else ())):
            right = predicted(model, ANSWER, test.samples, (*chosen, QUESTION)).argmax(axis=1) == test.truth
            each = {str(kind): float(right[kinds == kind].mean()) for kind in np.unique(kinds)}
            key = name if chosen == (*fields,) else f"{name} from {chosen[0]}"
            found[key] = {"both": float(right[np.isin(kinds, JOINT)].mean()), **each}
    return found


def show(found: dict[str, Any]) -> None:
    """Prints the table, and whether it is what was asked."""
    both = "+".join(FIELDS)
    for name, each in found.items():
        if isinstance(each, dict) and name != "carried":
            print(f"{name:32}" + "".join(f"{kind:>8} {100 * value:5.1f} %" for kind, value in each.items()))
    for field in FIELDS:
        carries, alone, part = found["carried"][field], found[field]["both"], found[f"{both} from {field}"]["both"]
        told = f"{field} carries {100 * carries:.1f} %; the model of it alone tells {100 * alone:.1f}"
        print(f"{told}, the joint one from it {100 * part:.1f}")
    value = 100 * found[both]["both"]
    print(f"fused {value:.1f} %, asked {ASKED:g}: {_stages.wanted_or_not(value, ASKED)}")


def keep(found: dict[str, Any], command: str) -> None:
    """Records the figures."""
    both = "+".join(FIELDS)
    for name, each in found.items():
        if isinstance(each, dict) and name != "carried":
            for kind, value in each.items():
                asked = f"≥ {ASKED:g}" if (name, kind) == (both, "both") else "-"
                record(f"joining.{name.replace(' ', '_')}.{kind}", round(100 * value, 1), "%", asked, command)
    for field in FIELDS:
        record(f"joining.carried_by.{field}", round(100 * found["carried"][field], 1), "%", "-", command)


def main() -> None:
    """Trains what is missing, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-steps", type=int, default=500, help="of the towers' first training")
    parser.add_argument("--steps", type=int, default=6000, help="of each model, 64 scenes each (default: %(default)s)")
    parser.add_argument(
        "--dropout", type=float, default=0.1, help="of fields, in the joint model (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=2000, help="measured (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/joining"), help="what is there is not made again")
    parser.add_argument("--quick", action="store_true", help="every stage in seconds")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    if chosen.quick:
        chosen.clip_steps = chosen.steps = 2
        chosen.scenes, chosen.record, chosen.work = 60, False, chosen.work / "quick"
    words = ["train", "clip", "--data", "diorama", "--fields", "text,image,timeseries", "--batch", "128"]
    start = _stages.trained(chosen.work / "clip", [*words, *_stages.sets(*TRACKS, f"train.steps={chosen.clip_steps}")])
    ways = (FIELDS, *((field,) for field in FIELDS))
    models = {"+".join(way): trained(chosen.work, way, start, chosen.steps, chosen.dropout) for way in ways}
    found = measured(models, chosen.scenes)
    show(found)
    print(json.dumps(found))
    if chosen.record:
        keep(found, f"python benchmarks/joining.py --steps {chosen.steps} --record")


if __name__ == "__main__":
    main()
