"""DALL-E 1 on Diorama: sentences to pictures, read back; one sample, and the best of many by CLIP or by likelihood.

python benchmarks/dalle1.py                                    codec, transformer, 2 x 1,000 unseen scenes
python benchmarks/dalle1.py --codec runs/codecs/image-fsq/model --minutes 60
python benchmarks/dalle1.py --scenes 200 --counts 1,4,16 --temperature 0.8

The claim of Ramesh et al. 2021 (arXiv 2102.12092, section 2.6 and figure 6): the more samples CLIP chooses from, the
better the picture fits the sentence. "unseen pairs" are scenes with a shape in a colour that it had never in training.
"any" is the share of scenes of which at least one sample is right: the best that choosing could do. "codec" is what is
still read in true pictures that were coded and decoded. What is trained or measured already is not done again.
"""

import argparse
import json
import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from codebooks import QUANTIZERS, intermodal
from codebooks import trained as codec_of

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
from figures import record  # noqa: E402

SPLITS = {"test": "", "compositional": "unseen_pairs."}
SCENES_AT_ONCE = 20


def model_of(codec: Path, minutes: float, out: Path) -> Path:
    """Trains the transformer on the ids of ``codec``, unless it is there, and returns the folder of the model."""
    if not (out / "trained.json").exists():
        changes = ("--set", f"train.minutes={minutes}", "--set", "train.checkpoint_every=200")
        made = intermodal(
            *("train", "dalle1", "--part", f"codecs.image={codec}", "--batch", "64", "--out", str(out), "--resume"),
            *changes,
        )
        (out / "trained.json").write_text(json.dumps(made))
    return out / "model"


def right(scenes: Any, items: list[Any]) -> dict[str, float]:
    """Returns which share of the attributes and of the whole scenes is read right."""
    from intermodal.evaluation.scenes import read_back, translation_accuracy

    found = translation_accuracy(scenes, read_back("image", items), "text", "image")
    return {"attributes": found["attribute_accuracy"], "scenes": found["scene_accuracy"]}


def drawn(model: Any, ranker: Any, split: str, counts: list[int], scenes: int, temperature: float) -> dict[str, Any]:
    """Returns what is read right in the pictures of a split, chosen in each way."""
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.scenes import read_back, scene_right
    from intermodal.sampling.autoregressive import Sampling
    from intermodal.sampling.ranking import rank

    source = Diorama(split, fields=("text", "image"), size=scenes)
    truth: list[Any] = []
    chosen: dict[str, list[Any]] = {}
    any_right: list[bool] = []
    for start in range(0, scenes, SCENES_AT_ONCE):
        index = range(start, min(start + SCENES_AT_ONCE, scenes))
        samples = source.samples(index)
        texts = [sample["text"] for sample in samples]
        here = list(source.scenes(index))
        truth += here
        coded = model.codecs["image"].tokens([sample["image"] for sample in samples])
        chosen.setdefault("codec", []).extend(model.codecs["image"].items(coded.values, coded.mask))
        asked = [{"text": text} for text in texts]
        for count in counts:
            made = model.candidates(asked, "image", sampling=Sampling(temperature, seed=start), count=count)
            ways = {f"likeliest of {count}": made, f"best of {count}": rank(made, texts, ranker)}
            for name, rows in ways.items() if count > 1 else [("one sample", made)]:
                chosen.setdefault(name, []).extend(row[0].item for row in rows)
        every = [candidate.item for row in made for candidate in row]
        known = [scene for scene in here for _ in range(counts[-1])]
        whole = scene_right(known, read_back("image", every), "text", "image")
        any_right += whole.reshape(len(here), -1).any(axis=1).tolist()
        print(f"{split}: {len(truth)} of {scenes} scenes", file=sys.stderr, flush=True)
    result: dict[str, Any] = {name: right(truth, items) for name, items in chosen.items()}
    result[f"any of {counts[-1]}"] = {"scenes": sum(any_right) / len(any_right)}
    return result


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of both splits; what was measured before with the same numbers is read."""
    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads()
    counts = sorted({1, *map(int, arguments.counts.split(","))})
    model, ranker = load_model(folder), load_model(arguments.ranker)
    result = {}
    for split in SPLITS:
        asked = {"model": model.fingerprint, "ranker": ranker.fingerprint, "split": split, "scenes": arguments.scenes}
        asked |= {"counts": counts, "temperature": arguments.temperature}
        kept = folder.parent / f"measured-{split}.json"
        if kept.exists() and (found := json.loads(kept.read_text()))["asked"] == asked:
            result[split] = found["figures"]
            continue
        result[split] = drawn(model, ranker, split, counts, arguments.scenes, arguments.temperature)
        kept.write_text(json.dumps({"asked": asked, "figures": result[split]}, indent=1))
    return result


def kept(found: dict[str, Any], command: str, note: str) -> None:
    """Records the figures: attributes and scenes of each way to choose."""
    for split, prefix in SPLITS.items():
        for name, figures in found[split].items():
            asked = "above one sample" if name.startswith("best of") else "-"
            for what, value in figures.items():
                path = f"dalle1.{prefix}{name.replace(' ', '_')}.{what}"
                record(path, round(100 * value, 1), "%", asked, command, note=note)


def show(found: dict[str, Any]) -> None:
    """Prints the table, and whether the claim holds."""
    names = list(found["test"])
    columns = [(split, what) for split in SPLITS for what in ("attributes", "scenes")]
    header = ["", *(f"{'unseen pairs: ' if split != 'test' else ''}{what}" for split, what in columns)]
    rows = [header]
    for name in names:
        values = [found[split][name].get(what) for split, what in columns]
        rows.append([name, *("" if value is None else f"{value:.1%}" for value in values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        print("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)))
    for split, what in columns:
        ways = ["one sample", *(name for name in names if name.startswith("best of"))]
        steps = [found[split][name][what] for name in ways]
        rises = all(a < b for a, b in pairwise(steps))
        print(
            f"{split}, {what}: {' -> '.join(f'{s:.1%}' for s in steps)}: {'rises' if rises else 'DOES NOT RISE'} "
            "with the number that CLIP chooses from"
        )


def main() -> None:
    """Trains what is missing, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, default=None, help="a trained codec of pictures; default: one is trained")
    parser.add_argument("--quantizer", default="fsq", choices=QUANTIZERS, help="of that codec; gumbel is the paper's")
    parser.add_argument("--codec-minutes", type=float, default=10.0, help="of its training")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training the transformer")
    parser.add_argument("--scenes", type=int, default=1000, help="of each split")
    parser.add_argument("--counts", default="1,8,32", help="samples to choose from, with commas")
    parser.add_argument("--temperature", type=float, default=1.0, help="of drawing")
    parser.add_argument("--ranker", default="diorama", help="a model that embeds text and pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/dalle1"))
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    codec = arguments.codec or codec_of("image", arguments.quantizer, arguments.codec_minutes, arguments.out / "codecs")
    folder = model_of(codec, arguments.minutes, arguments.out)
    found = measured(folder, arguments)
    show(found)
    if arguments.record:
        words = [word for word in sys.argv[1:] if word != "--record"]
        command = shlex.join(["python", "benchmarks/dalle1.py", *words])
        kept(found, command, f"{arguments.scenes} unseen scenes, temperature {arguments.temperature:g}")


if __name__ == "__main__":
    main()
