"""DALL-E 2 on Diorama: sentences to vectors to pictures, read back; beside it what each claim of the paper needs.

python benchmarks/dalle2.py                                  clip (12 minutes), the rest (45), 1,000 unseen scenes
python benchmarks/dalle2.py --clip runs/clip/model           in the space of another clip
python benchmarks/dalle2.py --clip diorama#reader --latent diorama#codecs.image    in codes, with parts that ship
python benchmarks/dalle2.py --prior autoregressive           the other prior
python benchmarks/dalle2.py --quick                          all of it in a few minutes, too little to mean anything

The claims of Ramesh et al. 2022 (arXiv 2204.06125): a prior beats giving the decoder the sentence's vector in the place
of a picture's (section 5.1, figure 8); variations keep what CLIP tells and vary the rest (figure 3); differences in
words change a picture (figure 5); guidance trades variety for fidelity (section 5.3, figure 10). And 8 steps are as
good as 100. "unseen pairs" are scenes with a shape in a colour that no stage has seen in training. What is trained or
measured already is not done again.
"""

import argparse
import html
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402

from figures import record  # noqa: E402

SPLITS = {"test": "", "compositional": "unseen_pairs."}
CLIP = ("width=256", "towers.image.width=192", "towers.image.depth=4", "towers.text.width=192")
"""What is changed of clip's ``tiny``: pictures need a tower that sees shapes; with two fields there is time for it."""

LATENT = (
    *("decoder.patch=1", "decoder.painted=0", "decoder.width=128", "decoder.depth=4"),
    *("train.learning_rate=2e-3", "train.matrix_rate=1e-2"),
)
"""What is changed of ``tiny`` to draw codes: 16 of them, so that a narrower decoder sees more pictures in its time."""

BATCH = {"clip": 256, "dalle2": 64}
GUIDANCES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
MOST = {False: 100, True: 10}
"""Steps that few of them are compared with; in a quick run."""

SHARES = (0.2, 0.3, 0.4, 0.5)
WAYS = {
    "prior, words": ("prior", True),
    "prior": ("prior", False),
    "sentence's vector, words": ("text", True),
    "sentence's vector": ("text", False),
    "picture's vector": ("image", False),
    "words alone": ("none", True),
}
"""Name -> whose vector the decoder gets, and whether it reads the words."""


def clip_of(asked: str, minutes: float, work: Path) -> str:
    """Returns the name of the clip that was asked for, or of one that is trained here."""
    if asked:
        return asked
    wanted = ["train", "clip", "--fields", "text,image", "--batch", str(BATCH["clip"])]
    return str(_stages.trained(work / "clip", [*wanted, *_stages.sets(*CLIP, f"train.minutes={minutes:g}")]))


def model_of(clip: str, arguments: argparse.Namespace, work: Path) -> Path:
    """Returns the folder of the system, trained unless it is there."""
    asked = ["train", "dalle2", "--fields", "text,image", "--part", f"clip={clip}", "--batch", str(BATCH["dalle2"])]
    changes: tuple[str, ...] = ()
    if arguments.latent:
        asked += ["--part", f"latent={arguments.latent}"]
        changes = LATENT
    own = f"prior.form={arguments.prior}", f"train.minutes={arguments.minutes:g}", "train.checkpoint_every=500"
    return _stages.trained(work / "dalle2", [*asked, *_stages.sets(*changes, *own, *arguments.set)])


class Judge:
    """The unseen scenes of a split: what is drawn of them is read back, and compared with true pictures."""

    def __init__(self, model: Any, split: str, scenes: int) -> None:
        from intermodal.diorama.source import Diorama

        self.model, self.split = model, split
        source = Diorama(split, fields=("text", "image"), size=2 * scenes)
        self.scenes = list(source.scenes(range(scenes)))
        self.samples: list[Any] = source.samples(range(scenes))
        self.others = [sample["image"] for sample in source.samples(range(scenes, 2 * scenes))]
        """True pictures of other scenes, which generated ones are compared with."""

    def drawn(self, whose: str, words: bool, how: Any, tries: int = 0) -> list[Any]:
        """Returns a picture of each scene.

        Args:
            whose: vector the decoder gets: prior, text, image or none.
            words: whether it reads the words.
            how: drawing.
            tries: number of the candidate.
        """
        import torch

        model, made, start = self.model, [], time.perf_counter()
        with torch.no_grad():
            for first in range(0, len(self.samples), 64):
                part = self.samples[first : first + 64]
                said = [{"text": sample["text"]} for sample in part]
                wanted, asked = model.wanted(said, [tries] * len(part), how.seed)
                vectors = {"prior": wanted.vectors, "text": asked}.get(whose)
                if vectors is None:
                    pictures = model.preprocessors["image"]([sample["image"] for sample in part])
                    vectors = model.vectors(pictures.to(asked.device)) * (whose == "image")
                wanted = replace(wanted, vectors=vectors, words=wanted.words if words else None)
                made += model.preprocessors["image"].invert(model.pictures(wanted, how))
        told = f"{self.split}: {whose}{' + words' if words else ''}, {how.steps} steps, guidance {how.guidance:g}"
        print(f"{told}: {len(made) / (time.perf_counter() - start):.1f} pictures/s", file=sys.stderr, flush=True)
        return made

    def right(self, items: Sequence[Any], scenes: Sequence[Any] | None = None) -> dict[str, float]:
        """Returns which share of the attributes and of the whole scenes is read right, and of each attribute."""
        from intermodal.evaluation.scenes import read_back, translation_accuracy

        found = translation_accuracy(scenes or self.scenes, read_back("image", items), "text", "image")
        each = {name: found[f"{name}_accuracy"] for name in ("shape", "colour", "size", "cell")}
        return {"attributes": found["attribute_accuracy"], "scenes": found["scene_accuracy"], **each}

    def like_true_ones(self, items: Sequence[Any]) -> dict[str, float]:
        """Returns how far pictures are from true ones as a set, and which share of the true ones' variety they have."""
        from intermodal.evaluation.distributions import frechet_distance, precision_recall

        result = {}
        for name, features in {"blocks": blocks, "clip": self.vectors}.items():
            true, made = features(self.others), features(items)
            if len(made) > made.shape[1]:
                result[f"frechet_{name}"] = frechet_distance(true, made, name).figures["frechet_distance"]
            figures = precision_recall(true, made, name).figures
            result |= {f"{what}_{name}": figures[what] for what in ("precision", "coverage")}
        return result

    def vectors(self, items: Sequence[Any]) -> np.ndarray:
        """Returns CLIP's vectors of pictures."""
        return self.model.clip.embed(items).numpy()


def blocks(items: Sequence[Any]) -> np.ndarray:
    """Returns the mean colours of 16 blocks of each picture: features that no network has a part in."""
    stack = np.stack([item.pixels for item in items]).astype(np.float64) / 255
    rows = stack.reshape(len(stack), 4, stack.shape[1] // 4, 4, stack.shape[2] // 4, 3)
    return rows.mean(axis=(2, 4)).reshape(len(stack), -1)


def ways(judge: Judge, how: Any) -> dict[str, Any]:
    """Returns what arrives of the scenes by each way, with and without the prior."""
    found = {}
    for name, (whose, words) in WAYS.items():
        if words and not judge.model.config.captions:
            continue
        items = judge.drawn(whose, words, how)
        found[name] = judge.right(items) | judge.like_true_ones(items)
    return found


def varied(judge: Judge, how: Any, count: int = 3) -> dict[str, Any]:
    """Returns what variations of true pictures keep and vary: beside them other true pictures of the same scenes."""
    from intermodal.diorama import pictures
    from intermodal.diorama.scene import Scenes
    from intermodal.evaluation.diversity import pairwise_diversity
    from intermodal.modalities.image import Image

    true = [sample["image"] for sample in judge.samples]
    drawn = [judge.drawn("image", False, how, tries) for tries in range(count)]
    many = Scenes.of(judge.scenes)
    ids = np.arange(len(true))
    again = [[Image(pixels) for pixels in pictures.render_images(many, ids, 1000 + n)] for n in range(count)]
    result = {}
    for name, rows in {"variations": drawn, "same scene": again}.items():
        vectors = [judge.vectors(items) for items in rows]
        cosine = np.mean([(judge.vectors(true) * v).sum(axis=1).mean() for v in vectors])
        pixels = np.stack([[item.pixels.ravel() / 255.0 for item in items] for items in rows], axis=1)
        centred = pixels - pixels.mean(axis=(0, 1))
        result[name] = judge.right(rows[0]) | {
            "clip_cosine": float(cosine),
            "pixels_diversity": pairwise_diversity(centred, "pixels").figures["pairwise_diversity"],
            "pixels_deviation": float(pixels.std(axis=1).mean()),
        }
    return result


def guided(judge: Judge, how: Any) -> dict[str, Any]:
    """Returns fidelity and variety at each guidance."""
    found = {}
    for guidance in GUIDANCES:
        items = judge.drawn("prior", bool(judge.model.config.captions), replace(how, guidance=guidance))
        found[f"{guidance:g}"] = judge.right(items) | judge.like_true_ones(items)
    return found


def stepped(judge: Judge, how: Any, most: int) -> dict[str, Any]:
    """Returns what arrives by each solver in few steps and in many, the prior's vectors and words given."""
    found = {}
    for solver, steps in (("dpm", 4), ("dpm", 8), ("dpm", 16), ("ddim", 8), ("ddpm", 8), ("dpm", most), ("ddpm", most)):
        start = time.perf_counter()
        items = judge.drawn("prior", bool(judge.model.config.captions), replace(how, solver=solver, steps=steps))
        seconds = time.perf_counter() - start
        found[f"{solver} {steps}"] = judge.right(items) | {"pictures_per_s": len(items) / seconds}
    return found


def reworded(judge: Judge, how: Any, most: int) -> dict[str, Any]:
    """Returns what becomes of single objects that words turn into another colour: the new one, and all else kept."""
    from intermodal.diorama import sentences
    from intermodal.diorama.scene import COLOURS, Scene, Scenes
    from intermodal.modalities.text import Text
    from intermodal.sampling.editing import changed

    alone = [i for i, scene in enumerate(judge.scenes) if len(scene.things) == 1][:most]
    before = [judge.scenes[i] for i in alone]
    after = [
        Scene(tuple(replace(thing, colour=(thing.colour + 3) % len(COLOURS)) for thing in scene.things))
        for scene in before
    ]
    if not alone:
        return {}
    ids = np.arange(len(alone))
    told = [[Text(words) for words in sentences.render_texts(Scenes.of(some), ids, 5)] for some in (before, after)]
    made = [
        changed(judge.model, judge.samples[i]["image"], a, b, SHARES, how) for i, a, b in zip(alone, *told, strict=True)
    ]
    return {f"{share:g}": judge.right([row[n] for row in made], after) for n, share in enumerate(SHARES)}


def measured(folder: Path, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Returns all figures; what was measured before with the same numbers is read."""
    from intermodal import runtime
    from intermodal.sampling.diffusion import Drawing
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)
    how = Drawing("dpm", arguments.steps, arguments.guidance)
    most = MOST[arguments.quick]
    result: dict[str, Any] = {}
    for split in SPLITS:
        judge = Judge(model, split, arguments.scenes)
        stages = {"ways": lambda j=judge: ways(j, how)}
        if split == "test":
            stages |= {
                "varied": lambda j=judge: varied(j, replace(how, guidance=1.0)),
                "guided": lambda j=judge: guided(j, how),
                "stepped": lambda j=judge: stepped(j, how, most),
                "reworded": lambda j=judge: reworded(j, how, min(100, arguments.scenes)),
            }
        asked = {"model": model.fingerprint, "scenes": arguments.scenes, "steps": how.steps, "guidance": how.guidance}
        result[split] = {
            name: _stages.kept(work / f"{split}-{name}.json", asked | {"most": most}, make)
            for name, make in stages.items()
        }
    return result


def table(found: Mapping[str, Mapping[str, float]]) -> None:
    """Prints figures, one row for each way."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    rows = [["", *names], *([way, *(f"{row[n]:.3f}" if n in row else "" for n in names)] for way, row in found.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print()


def claims(found: Mapping[str, Any], most: str) -> list[tuple[str, float, str, str, bool]]:
    """Returns each claim: its name, the figure, the unit, what is asked, and whether that is met."""
    test = found["test"]
    rows = test["ways"]
    best = rows.get("prior, words", rows["prior"])
    with_prior, without = rows["prior"], rows["sentence's vector"]
    gained = 100 * (with_prior["attributes"] - without["attributes"])
    nearer = without["frechet_blocks"] / with_prior["frechet_blocks"]
    dropped = 100 * (test["stepped"][f"dpm {most}"]["attributes"] - test["stepped"]["dpm 8"]["attributes"])
    curve = [test["guided"][f"{g:g}"] for g in GUIDANCES if g >= 1]
    trades = curve[0]["coverage_blocks"] - min(row["coverage_blocks"] for row in curve)
    gains = max(row["attributes"] for row in curve) - curve[0]["attributes"]
    kept, true = test["varied"]["variations"], test["varied"]["same scene"]
    attributes = 100 * best["attributes"]
    return [
        ("attributes", attributes, "%", "≥ 95", attributes >= 95),
        ("prior.attributes_gained", gained, "points", "above 0: more than the sentence's vector", gained > 0),
        ("prior.frechet_ratio", nearer, "x", "above 1: nearer to true pictures", nearer > 1),
        ("variations.attributes", 100 * kept["attributes"], "%", "what the vector tells", kept["attributes"] > 0.5),
        ("variations.clip_cosine", kept["clip_cosine"], "", "-", kept["clip_cosine"] > 0.9 * true["clip_cosine"]),
        (
            "variations.deviation",
            kept["pixels_deviation"],
            "",
            "above 0",
            kept["pixels_deviation"] > 0.2 * true["pixels_deviation"],
        ),
        ("guidance.fidelity_gained", 100 * gains, "points", "above 0", gains > 0),
        ("guidance.coverage_lost", 100 * trades, "points", "above 0", trades > 0),
        ("steps.dropped_at_8", dropped, "points", "≤ 2", dropped <= 2),
    ]


def curve_svg(found: Mapping[str, Mapping[str, float]]) -> str:
    """Returns guidance drawn as a curve: attributes that are right against the share of true variety covered."""
    points = [(row["coverage_blocks"], row["attributes"], name) for name, row in found.items() if float(name) >= 1]
    label = "attributes right (up) against coverage of true pictures (right), at each guidance"
    x0, y0, width, height = 60, 20, 380, 220
    (left, right), (low, high) = (
        (min(values) - 0.005, max(values) + 0.005) for values in ([p[0] for p in points], [p[1] for p in points])
    )

    def at(x: float, y: float) -> tuple[float, float]:
        return x0 + width * (x - left) / (right - left), y0 + height * (high - y) / (high - low)

    placed = [(*at(x, y), name) for x, y, name in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#7aa2f7"/><text x="{x + 7:.1f}" y="{y - 6:.1f}" '
        f'fill="#e8ebf2">{name}</text>'
        for x, y, name in placed
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 290" width="500" font-family="system-ui" '
        f'font-size="12" role="img" aria-label="{html.escape(label)}"><rect width="500" height="290" rx="8" '
        f'fill="#12151c"/><polyline points="{line}" fill="none" stroke="#7aa2f7" stroke-width="1.5"/>{dots}'
        f'<text x="{x0}" y="270" fill="#8f99ad">coverage, {left:.3f} to {right:.3f}</text><text x="{x0}" y="14" '
        f'fill="#8f99ad">attributes right, {low:.3f} to {high:.3f}; numbers are guidance</text></svg>'
    )


def main() -> None:
    """Trains what is missing, measures, prints tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", default="", help="a trained one; default: one is trained")
    parser.add_argument("--clip-minutes", type=float, default=12.0, help="of its training")
    parser.add_argument("--minutes", type=float, default=45.0, help="of training prior, decoder and upsampler")
    parser.add_argument("--prior", default="diffusion", choices=("diffusion", "autoregressive"))
    parser.add_argument("--latent", default="", help="a trained codec of pictures with fsq; default: pixels are drawn")
    parser.add_argument(
        "--set", action="append", default=[], help="a change of the system: decoder.width=256; repeatable"
    )
    parser.add_argument("--scenes", type=int, default=1000, help="of each split")
    parser.add_argument("--steps", type=int, default=16, help="of drawing")
    parser.add_argument("--guidance", type=float, default=1.5, help="of drawing")
    parser.add_argument("--work", type=Path, default=Path("runs/dalle2"), help="what is there is not made again")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of a minute of training of a smaller one, 52 scenes"
    )
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if arguments.quick:
        arguments.minutes = arguments.clip_minutes = 0.1
        arguments.scenes, arguments.steps = 52, 2
        arguments.set += [f"{part}.{name}" for part in ("decoder", "upsampler") for name in ("width=64", "depth=2")]
    folder = model_of(clip_of(arguments.clip, arguments.clip_minutes, arguments.work), arguments, arguments.work)
    found = measured(folder, arguments, arguments.work)
    for split, stages in found.items():
        for name, rows in stages.items():
            print(f"{split}: {name}")
            table(rows)
    told = claims(found, str(MOST[arguments.quick]))
    for name, value, unit, asked, met in told:
        print(f"{name}: {value:.3g} {unit}, asked {asked}: {'met' if met else 'NOT MET'}")
    if arguments.record and not arguments.quick:
        words = [word for word in sys.argv[1:] if word != "--record"]
        command = shlex.join(["python", "benchmarks/dalle2.py", *words])
        group = (
            "dalle2" + (".latent" if arguments.latent else "") + (".written" if arguments.prior != "diffusion" else "")
        )
        for name, value, unit, asked, _ in told:
            record(f"{group}.{name}", round(value, 3), unit, asked, command)
        for split, prefix in SPLITS.items():
            for way, row in found[split]["ways"].items():
                name = way.replace("'s", "").replace(", ", "_").replace(" ", "_")
                note = f"attributes by {way}, {'unseen pairs' if prefix else 'unseen scenes'}"
                record(f"{group}.{prefix}ways.{name}", round(100 * row["attributes"], 1), "%", "-", command, note=note)
        (ROOT / "docs" / "dalle2_guidance.svg").write_text(curve_svg(found["test"]["guided"]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
