"""The asked figures on Diorama, each measured by the commands a user would run and recorded for the docs.

python benchmarks/diorama.py demo      the demo: time, Recall@1 against the ceiling
python benchmarks/diorama.py all       trained on all pairs: every direction, and unseen shape-colour pairs
python benchmarks/diorama.py bound     trained through text alone: the pairs that never met
python benchmarks/diorama.py render    samples rendered per second on one core
python benchmarks/diorama.py centring  the modality gap, with and without a mean taken off per modality
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
from _verbs import intermodal  # noqa: E402

from figures import record  # noqa: E402

TRAINING = {
    "all": ["--set", "train.steps=2500"],
    "bound": [
        *("--set", "train.minutes=22", "--set", "pairs=text", "--set", "width=256"),
        *("--set", "towers.timeseries.width=256", "--set", "towers.timeseries.heads=8"),
    ],
}
THROUGH_TEXT = ("text>image", "image>text", "text>video", "video>text", "text>audio", "audio>text")


def share(pairs: dict[str, Any], names: list[str]) -> tuple[float, str]:
    """Returns the lowest share of the ceiling among some directions, and which it is."""
    worst = min(names, key=lambda name: pairs[name]["share_of_ceiling"])
    return pairs[worst]["share_of_ceiling"], worst


def demo(out: Path) -> None:
    """Runs the demo and records its figures."""
    command = "python3 dev.py demo"
    result = intermodal("demo", "--out", str(out), "--no-open")
    pairs = result["pairs"]
    record("diorama.demo.seconds", round(result["seconds"]), "s", "≤ 360", command)
    record("diorama.demo.training_seconds", round(result["training"]["seconds"]), "s", "≤ 240", command)
    record("diorama.demo.samples_per_s", round(result["training"]["samples_per_s"]), "scenes/s", "-", command)
    for name in THROUGH_TEXT:
        record(
            "diorama.demo." + name.replace(">", "_to_"),
            round(pairs[name]["share_of_ceiling"], 3),
            "of the ceiling",
            "≥ 0.90",
            command,
        )
    worst, name = share(pairs, list(pairs))
    record(
        "diorama.demo.worst_of_20",
        round(worst, 3),
        "of the ceiling",
        "-",
        command,
        note=f"worst of all 20 directions ({name})",
    )
    reference = {name: round(pair["share_of_ceiling"], 4) for name, pair in pairs.items()}
    (ROOT / "src/intermodal/cli/demo_reference.json").write_text(json.dumps(reference, indent=1) + "\n")
    from intermodal.evaluation.report import matrix_svg

    (ROOT / "docs/matrix.svg").write_text(matrix_svg(reference) + "\n")
    print(json.dumps({"seconds": result["seconds"], "shares": reference}))


def trained(kind: str, out: Path) -> None:
    """Trains on all pairs, or on those with text, and records every direction."""
    command = f"python benchmarks/diorama.py {kind}"
    if not (out / "model" / "config.json").exists():
        made = intermodal("train", "clip", "--data", "diorama", "--out", str(out), *TRAINING[kind], "--resume")
        (out / "trained.json").write_text(json.dumps(made))
    made = json.loads((out / "trained.json").read_text())
    record(f"diorama.{kind}.minutes", round(made["seconds"] / 60, 1), "min", "≤ 40", command)
    found = {split: intermodal("evaluate", str(out / "model"), "--split", split) for split in ("test", "compositional")}
    (out / "evaluated.json").write_text(json.dumps(found))
    pairs, novel = found["test"]["pairs"], found["compositional"]["pairs"]
    apart = [name for name in pairs if "text" not in name]
    names = list(pairs) if kind == "all" else apart
    worst, name = share(pairs, names)
    asked = "≥ 0.95" if kind == "all" else "≥ 0.70"
    what = "worst_of_20" if kind == "all" else "worst_of_12_never_paired"
    said = f"worst of the {len(names)} directions {'' if kind == 'all' else 'never trained '}({name})"
    record(f"diorama.{kind}.{what}", round(worst, 3), "of the ceiling", asked, command, note=said)
    mean = sum(pairs[n]["share_of_ceiling"] for n in names) / len(names)
    record(f"diorama.{kind}.mean", round(mean, 3), "of the ceiling", "-", command)
    if kind == "all":
        drops = {n: pairs[n]["share_of_ceiling"] - novel[n]["share_of_ceiling"] for n in pairs}
        most = max(drops, key=lambda n: drops[n])
        record(
            "diorama.all.compositional_drop_mean",
            round(100 * sum(drops.values()) / len(drops), 1),
            "points",
            "≤ 5",
            command,
        )
        record(
            "diorama.all.compositional_drop_worst",
            round(100 * drops[most], 1),
            "points",
            "≤ 5",
            command,
            note=f"largest drop on unseen shape-colour pairs ({most})",
        )
    for split, result in found.items():
        shares = {n: round(p["share_of_ceiling"], 3) for n, p in result["pairs"].items()}
        print(json.dumps({"kind": kind, "split": split, "shares": shares}))


def render() -> None:
    """Measures how many samples one core renders."""
    from intermodal.diorama.source import Diorama

    command = "taskset -c 0 python benchmarks/diorama.py render"
    cases = {"without_video": ("text", "image", "audio", "timeseries"), "with_video": None}
    for name, fields in cases.items():
        source = Diorama("train", fields=fields)
        source.samples(range(256))
        speeds = []
        for n in range(1, 8):
            start = time.perf_counter()
            source.samples(range(256 * n, 256 * (n + 1)))
            speeds.append(256 / (time.perf_counter() - start))
        value = sorted(speeds)[len(speeds) // 2]
        asked = "≥ 1,000" if fields else "≥ 100"
        record(f"diorama.render.{name}", round(value), "samples/s", asked, command)
        print(json.dumps({"render": name, "samples_per_s": value}))


def centring(model: str) -> None:
    """Compares searching all modalities at once with and without centres."""
    import numpy as np

    from intermodal import runtime
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.alignment import modality_gap
    from intermodal.evaluation.protocols import embed_source
    from intermodal.saving import load_model

    runtime.threads()
    loaded, source = load_model(model), Diorama("test", size=500)
    train = embed_source(loaded, Diorama("train", size=500))
    command = f"python benchmarks/diorama.py centring --model {model}"
    for name in ("plain", "centred"):
        if name == "centred":
            loaded.set_centres({f: loaded.heads[f].weight.new_tensor(v.rows.mean(axis=0)) for f, v in train.items()})
        vectors = embed_source(loaded, source)
        fields = list(vectors)
        gap = np.mean([modality_gap(vectors[a].rows, vectors[b].rows) for a in fields for b in fields if a < b])
        everything = np.concatenate([vectors[f].rows for f in fields])
        owner = np.concatenate([vectors[f].owner for f in fields])
        hits = []
        for f in fields:
            scores = vectors[f].rows @ everything.T
            scores[np.arange(len(scores)), fields.index(f) * len(source) + np.arange(len(scores))] = -np.inf
            best = np.argsort(-scores, axis=1)[:, : len(fields) - 1]
            hits.append((owner[best] == vectors[f].owner[:, None]).mean())
        record(f"diorama.centring.{name}_gap", round(float(gap), 3), "distance of means", "-", command)
        record(
            f"diorama.centring.{name}_mixed",
            round(float(np.mean(hits)), 3),
            "of the 4 best are of the scene",
            "-",
            command,
        )
        print(json.dumps({"centring": name, "gap": float(gap), "mixed": float(np.mean(hits))}))


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("demo", "all", "bound", "render", "centring"))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--model", default="runs/all/model")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    out = arguments.out or Path("runs") / arguments.what
    if arguments.what == "demo":
        demo(out)
    elif arguments.what == "render":
        render()
    elif arguments.what == "centring":
        centring(arguments.model)
    else:
        trained(arguments.what, out)


if __name__ == "__main__":
    main()
