"""BLIP on Diorama: with 40 % of the captions wrong, CapFilt recovers at least half of what the noise cost.

python benchmarks/blip.py                  three trainings and what lies between them: about an hour on 2 cores
python benchmarks/blip.py --ablation       two more trainings: captions made and not filtered, filtered and not made
python benchmarks/blip.py --quick          the same stages in a few minutes; its figures mean nothing

The claim of Li et al. 2022 (arXiv 2201.12086, section 3.3 and table 1). There are --pictures with a caption each, of
which --share got another's, and --right more that are known to be right. ``clean`` learns from the true captions of
all of them, ``noisy`` from what there is, ``capfilt`` from what captioner and filter make of it: both are the noisy
model, trained --tuning steps further on those known to be right, and ``tuned`` is that model itself. All three learn
from fresh weights, for equally many steps. Measured on 1,000 unseen scenes: Recall@1 both ways, by vectors alone and
with the nearest 16 read together with the query; attributes and whole scenes right in captions, the likeliest and by 3
beams. "recovered" is the share of the distance from noisy to clean. Stages are kept in --out; an interrupted training
goes on.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402

from figures import record  # noqa: E402

NEAREST, BEAMS = 16, 3
CLAIM = ("recall_at_1", "caption_attributes")
QUICK = {"pictures": 600, "right": 60, "steps": 30, "tuning": 5, "scenes": 40, "batch": 16}
LABELS = {
    "recall_at_1": "R@1, vectors",
    "recall_at_1_read": f"R@1, {NEAREST} read",
    "caption_attributes": "attributes",
    "caption_scenes": "whole scenes",
    "caption_attributes_beams": f"attributes, {BEAMS} beams",
}


def pairs_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns all true pairs, the same with some of them wrong, and those that are known to be right."""
    from intermodal.data.retold import Told, mistold
    from intermodal.diorama.source import Diorama

    count = arguments.pictures + arguments.right
    texts = Diorama("train", fields=("text",), size=count).samples(range(count))
    true = [Told(i, sample["text"].text) for i, sample in enumerate(texts)]
    right = true[arguments.pictures :]
    noisy = [*mistold(true[: arguments.pictures], arguments.share), *right]
    return {"clean": true, "noisy": noisy, "right": right}


def source_of(arguments: argparse.Namespace) -> Any:
    """Returns the pictures, with their sentences where the grammar's vocabulary is asked for."""
    from intermodal.diorama.source import Diorama

    return Diorama("train", fields=("text", "image"), size=arguments.pictures + arguments.right)


def trained(
    name: str, pairs: Sequence[Any], arguments: argparse.Namespace, start: Path | None = None, seed: int = 0
) -> Path:
    """Trains on pairs, from fresh weights or from a model that is kept as it is, and returns the folder of the model.

    A model that is there with the same numbers is not trained again.
    """
    from intermodal import runtime
    from intermodal.data.loader import Loader
    from intermodal.data.retold import Retold
    from intermodal.saving import build_from, load_model, save_model
    from intermodal.systems.blip import Config
    from intermodal.training.loop import Options, train
    from intermodal.training.recipe import recipe

    folder = arguments.out / name
    source = Retold(source_of(arguments), pairs)
    steps = arguments.tuning if start else arguments.steps
    rate = 0.2 if start else 1.0  # further training is gentle
    usual = Options()
    options = dataclasses.replace(
        usual,
        steps=steps,
        learning_rate=rate * usual.learning_rate,
        matrix_rate=rate * usual.matrix_rate,
        checkpoint_every=200,
        seed=seed,
    )

    def make() -> dict[str, float]:
        runtime.threads()
        runtime.seed(seed)
        model: Any
        if start:
            model = load_model(start)
        else:
            config: Config = recipe("blip", source, "tiny", ("image", "text"))
            model = build_from({"system": "blip", "config": _plain(config)}).to(runtime.device())
        model.train()
        loader = Loader(source, model.preprocessors, arguments.batch, seed=seed)
        done = train(model, loader, options, run, resume=True, on_step=_told(name, steps))
        save_model(folder / "model", model, f"# BLIP on Diorama, {name}\n\n{len(pairs)} pairs, {steps} steps.\n")
        return {"seconds": done.seconds, "samples_per_s": done.samples_per_s, **done.losses}

    asked = {**_numbers(arguments), "name": name, "steps": steps, "seed": seed, "pairs": _digest(pairs)}
    run = folder / f"run-{_hash(json.dumps(asked))}"  # another training goes on from nothing of this one
    _stages.kept(folder / "trained.json", asked, make)
    return folder / "model"


def _plain(config: Any) -> Any:
    """Returns a config as it is saved."""
    from intermodal.config import to_dict

    return to_dict(config)


def _told(name: str, steps: int) -> Any:
    """Returns what says now and then how far a training is."""

    def say(progress: Any) -> None:
        if progress.step % 100 == 0 or progress.step == steps:
            losses = "  ".join(f"{term} {value:.2f}" for term, value in progress.losses.items())
            print(f"{name}: {progress.step} of {steps}, {progress.samples_per_s:.0f}/s  {losses}", file=sys.stderr)

    return say


def _numbers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what every stage depends on."""
    return {name: getattr(arguments, name) for name in ("pictures", "right", "share", "batch")}


def _digest(pairs: Sequence[Any]) -> str:
    """Returns a short hash of pairs."""
    return _hash("\n".join(f"{pair.sample} {pair.words}" for pair in pairs))


def _hash(text: str) -> str:
    """Returns a short hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bootstrapped(
    name: str, found: Sequence[Any], tuned: Path, arguments: argparse.Namespace, ways: tuple[bool, bool] = (True, True)
) -> list[Any]:
    """Returns the pairs that captioner and filter make of ``found``; the file with them is kept.

    Args:
        name: of the file.
        found: pairs, some wrong.
        tuned: the model that is both.
        arguments: of the command line.
        ways: whether captions are made, and whether they are filtered.
    """
    from intermodal import runtime
    from intermodal.data.retold import read_pairs, write_pairs
    from intermodal.saving import load_model
    from intermodal.training.capfilt import capfilt

    path = arguments.out / f"{name}.jsonl"

    def make() -> dict[str, Any]:
        runtime.threads()
        model = load_model(tuned)
        makes, filters = (model if way else None for way in ways)
        result = capfilt(source_of(arguments), found, makes, filters, progress=_share(name))
        write_pairs(result.pairs, path)
        return {"found": len(result.found), "made": len(result.made), "judged": result.judged}

    asked = {**_numbers(arguments), "found": _digest(found), "tuned": load_fingerprint(tuned), "ways": ways}
    kept = _stages.kept(arguments.out / f"{name}.json", asked, make)
    print(f"{name}: kept {kept['found']} of {kept['judged'][0]} found, {kept['made']} of {kept['judged'][1]} made")
    return read_pairs(path)


def load_fingerprint(folder: Path) -> str:
    """Returns what tells a saved model from others."""
    from intermodal.saving import fingerprint

    return fingerprint([folder / "config.json", folder / "model.safetensors"])


def _share(name: str) -> Any:
    """Returns what says how much is done, a tenth at a time."""
    said = [0]

    def say(share: float) -> None:
        if int(10 * share) > said[0]:
            said[0] = int(10 * share)
            print(f"{name}: {said[0]}0 %", file=sys.stderr)

    return say


def right_share(pairs: Sequence[Any], arguments: argparse.Namespace) -> float:
    """Returns the share of captions that say all of their picture right, as the grammar's reader has it."""
    from intermodal.evaluation.scenes import read_back, scene_right
    from intermodal.modalities.text import Text

    scenes = source_of(arguments).scenes([pair.sample for pair in pairs])
    return float(scene_right(list(scenes), read_back("text", [Text(p.words) for p in pairs]), "image", "text").mean())


def measured(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the figures of a model on unseen scenes; what was measured before is read."""

    def make() -> dict[str, float]:
        from intermodal import runtime
        from intermodal.diorama.source import Diorama
        from intermodal.evaluation.retrieval import retrieval
        from intermodal.evaluation.scenes import read_back, translation_accuracy
        from intermodal.saving import load_model

        runtime.threads()
        model = load_model(folder)
        source = Diorama("test", fields=("text", "image"), size=arguments.scenes)
        index = range(len(source))
        samples, scenes = source.samples(index), list(source.scenes(index))
        sides = [[sample[field] for sample in samples] for field in ("image", "text")]
        result: dict[str, float] = {}
        for key, nearest in (("recall_at_1", 0), ("recall_at_1_read", NEAREST)):
            found = []
            for one, other in (sides, sides[::-1]):
                table = model.score(one, other, nearest) if nearest else model.embed(one) @ model.embed(other).T
                found.append(retrieval(table.cpu().numpy(), ks=(1,))["recall_at_1"])
            result |= {f"{key}_image_to_text": found[0], f"{key}_text_to_image": found[1], key: sum(found) / 2}
        for key, beams in (("", 1), ("_beams", BEAMS)):
            captions = model.translate(sides[0], "text", count=beams)
            accuracy = translation_accuracy(scenes, read_back("text", captions), "image", "text")
            result[f"caption_attributes{key}"] = accuracy["attribute_accuracy"]
            result[f"caption_scenes{key}"] = accuracy["scene_accuracy"]
        return result

    asked = {"model": load_fingerprint(folder), "scenes": arguments.scenes, "nearest": NEAREST, "beams": BEAMS}
    found: dict[str, float] = _stages.kept(arguments.out / f"measured-{name}.json", asked, make)
    return found


def recovered(found: dict[str, dict[str, float]], key: str, name: str = "capfilt") -> float:
    """Returns which share of the distance from noisy to clean a model has gone; not a number where there is none."""
    cost = found["clean"][key] - found["noisy"][key]
    return (found[name][key] - found["noisy"][key]) / cost if cost > 0 else float("nan")


def show(found: dict[str, dict[str, float]]) -> None:
    """Prints the table, and whether the claim holds."""
    rows = [["", *LABELS.values()]]
    rows += [[name, *(f"{values[key]:.1%}" for key in LABELS)] for name, values in found.items()]
    for name in (name for name in found if name not in ("clean", "noisy")):
        rows.append([f"recovered by {name}", *(f"{recovered(found, key, name):.0%}" for key in LABELS)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)))
    for key in CLAIM:
        share = recovered(found, key)
        print(f"{LABELS[key]}: {share:.0%} of what the noise cost is recovered: {_stages.wanted_or_not(share, 0.5)}")


def keep(found: dict[str, dict[str, float]], shares: dict[str, float], command: str) -> None:
    """Records the figures."""
    for name, values in found.items():
        for key, value in values.items():
            record(f"blip.{name}.{key}", round(100 * value, 1), "%", "-", command)
    for name, share in shares.items():
        record(
            f"blip.captions_right.{name}",
            round(100 * share, 1),
            "%",
            "-",
            command,
            note=f"captions learnt from that are right: {name}",
        )
    for key in LABELS:
        asked = "≥ 50" if key in CLAIM else "-"
        value = recovered(found, key)
        if value == value:
            record(
                f"blip.recovered.{key}",
                round(100 * value),
                "%",
                asked,
                command,
                note=f"{LABELS[key]}: of what noise cost",
            )


def run(arguments: argparse.Namespace) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Returns the figures of every model, and which share of the captions that it learnt from is right."""
    pairs = pairs_of(arguments)
    folders = {name: trained(name, pairs[name], arguments) for name in ("clean", "noisy")}
    folders["tuned"] = trained("tuned", pairs["right"], arguments, folders["noisy"])
    web = pairs["noisy"][: arguments.pictures]
    ways = {"capfilt": (True, True)}
    if arguments.ablation:
        ways |= {"captions_alone": (True, False), "filter_alone": (False, True)}
    for name, way in ways.items():
        pairs[name] = [*bootstrapped(name, web, folders["tuned"], arguments, way), *pairs["right"]]
        folders[name] = trained(name, pairs[name], arguments)
    shares = {name: right_share(pairs[name], arguments) for name in ("clean", "noisy", *ways)}
    print("captions that say all of their picture right:", json.dumps(shares))
    return {name: measured(name, folder, arguments) for name, folder in folders.items()}, shares


def main() -> None:
    """Trains what is missing, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000, help="with a caption that may be wrong")
    parser.add_argument("--right", type=int, default=1_000, help="further ones, whose caption is known to be right")
    parser.add_argument("--share", type=float, default=0.4, help="of the captions that are wrong")
    parser.add_argument("--steps", type=int, default=2_500, help="of each training")
    parser.add_argument("--tuning", type=int, default=200, help="steps of further training of captioner and filter")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=1_000, help="unseen ones to measure on")
    parser.add_argument("--ablation", action="store_true", help="also captions without a filter, and a filter alone")
    parser.add_argument("--out", type=Path, default=Path("runs/blip"))
    parser.add_argument("--quick", action="store_true", help="tiny numbers, in a folder of their own; proves nothing")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK, out=arguments.out.with_name(f"{arguments.out.name}-quick"))
    os.chdir(ROOT)
    found, shares = run(arguments)
    show(found)
    if arguments.record and not arguments.quick:
        words = [word for word in sys.argv[1:] if word != "--record"]
        keep(found, shares, shlex.join(["python", "benchmarks/blip.py", *words]))


if __name__ == "__main__":
    main()
