"""Questions about pictures of one coloured shape: easy_vqa by its own splits, with each of three systems.

python3 benchmarks/real/easy_vqa.py                        45 minutes on 2 cores: 15 for each system
python3 benchmarks/real/easy_vqa.py --systems lxmert       one of them
python3 benchmarks/real/easy_vqa.py --quick                the same stages in a minute; its figures mean nothing

VisualBERT, ViLBERT and LXMERT at their tiny size, below 5 million weights, learn from nothing but the training split's
pictures, questions and answers: there are no captions to learn from before. The last 400 training pictures are the dev
split; numbers of training were not chosen on the test split: ``--split dev`` measures there. An answer is right when it
is the wanted one of 13. Beside the accuracy stands that of always giving the commonest answer of a kind of question.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _stages
import _steps

SYSTEMS = ("visualbert", "vilbert", "lxmert")
DEV = 400
ASKED = 99.5
WEIGHTS_MAX = 5e6
FIELDS = "image,question,answer"
YES_NO, COLOURS = ("yes", "no"), ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
LXMERT = ("depths=1,3,2", "train.learning_rate=5e-4", "train.matrix_rate=2e-3")
"""With the usual rates it stays where colours are told and shapes are not: see docs/log.md."""

BATCHES = {"lxmert": 64}
QUICK: dict[str, Any] = {"pictures": 40, "minutes": 0.05, "changes": ("train.warmup_steps=1",), "batch": 8}


def kind_of(answer: str) -> str:
    """Returns what a question asks for, by its answer."""
    return "existence" if answer in YES_NO else "colour" if answer in COLOURS else "shape"


def prepare(shared: Path, work: Path, limit: int | None = None) -> Path:
    """Returns the folder of the data set, written if it is not there: a row per picture, with all its questions.

    Args:
        shared: the folder that holds ``easy_vqa``.
        work: where to write.
        limit: pictures per split; None for all.
    """

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        rows = _steps.read_rows(shared / "easy_vqa" / "pairs.jsonl")
        last = max(i for i, row in enumerate(rows) if row["split"] == "train")
        count: dict[str, int] = {}
        with zipfile.ZipFile(shared / "easy_vqa" / "images.zip") as archive:
            for i, row in enumerate(rows):
                split = "dev" if row["split"] == "train" and i > last - DEV else row["split"]
                count[split] = count.get(split, 0) + 1
                if limit is not None and count[split] > limit:
                    continue
                archive.extract(row["image"], folder)
                questions, answers = zip(*row["qa"], strict=True)
                yield {"image_file_name": row["image"], "question": questions, "answer": answers, "split": split}

    return _steps.prepared(work / f"easy_vqa{'' if limit is None else f'-{limit}'}", shared / "easy_vqa", write)


def measured(folder: Path, data: Path, split: str) -> dict[str, Any]:
    """Returns how many of a split's answers are right, over all and by kind, and the number of the model's weights."""
    from intermodal import runtime
    from intermodal.evaluation.answers import answer_accuracy
    from intermodal.modalities.image import Image
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)
    rows = [row for row in _steps.read_rows(data / "metadata.jsonl") if row["split"] == split]
    given: list[str] = []
    for start in range(0, len(rows), 50):
        samples, asked = [], []
        for row in rows[start : start + 50]:
            picture = Image.open(data / row["image_file_name"])
            samples += [{"image": picture}] * len(row["question"])
            asked += row["question"]
        given += model.answers(samples, asked)
        print(f"{folder.parent.name}: {min(start + 50, len(rows))} of {len(rows)} pictures", file=sys.stderr)
    wanted = [answer for row in rows for answer in row["answer"]]
    found = answer_accuracy(given, wanted, [kind_of(answer) for answer in wanted])
    return {**found, "weights": sum(p.numel() for p in model.parameters())}


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        __doc__ or "",
        systems={"default": ",".join(SYSTEMS), "help": "with commas (default: %(default)s)"},
        minutes={"type": float, "default": 15.0, "help": "of training for each (default: %(default)s)"},
        split={"default": "test", "choices": ("dev", "test"), "help": "that is measured (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few pictures and seconds; its figures mean nothing"},
    )
    quick = QUICK if chosen.quick else {}
    data = prepare(chosen.shared, chosen.work, quick.get("pictures"))
    if chosen.prepare_only:
        print(data)
        return
    runs = chosen.work / "runs" / data.name
    minutes, changes = quick.get("minutes", chosen.minutes), quick.get("changes", ("train.checkpoint_every=200",))
    results = {}
    for system in chosen.systems.split(","):
        batch = quick.get("batch", BATCHES.get(system, 128))
        arguments = ["train", system, "--data", str(data), "--fields", FIELDS, "--batch", str(batch)]
        arguments += _stages.sets(f"train.minutes={minutes}", *changes, *(LXMERT if system == "lxmert" else ()))
        model = _stages.trained(runs / system, arguments)
        asked = {"model": str(model), "split": chosen.split, "minutes": minutes}
        path = runs / system / f"{chosen.split}.json"
        results[system] = _stages.kept(path, asked, lambda model=model: measured(model, data, chosen.split))
    report(results)
    figures = {
        f"easy_vqa.{system}_answers": _steps.percent(found, ("answer_accuracy",)) for system, found in results.items()
    }
    print(json.dumps({"figures": figures, "results": results}))
    if chosen.record and not chosen.quick and chosen.split == "test":
        for system, (name, value) in zip(results, figures.items(), strict=True):
            flags = f"--systems {system} --minutes {minutes:g} --record"
            _steps.keep({name: (value, f"≥ {ASKED}")}, flags)


def report(results: dict[str, Any]) -> None:
    """Prints what each system came to, on stderr."""
    for system, found in results.items():
        value = 100 * found["answer_accuracy"]
        kinds = ", ".join(f"{kind} {100 * found[f'{kind}_accuracy']:.2f}" for kind in ("existence", "colour", "shape"))
        small = "" if found["weights"] <= WEIGHTS_MAX else ", MORE THAN 5 MILLION"
        print(
            f"{system}: {value:.2f} % of {found['count']:.0f} answers right ({kinds}; by the commonest answer "
            f"{100 * found['majority_accuracy']:.2f}); asked {ASKED}: {_stages.wanted_or_not(value, ASKED)}; "
            f"{found['weights'] / 1e6:.2f} million weights{small}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
