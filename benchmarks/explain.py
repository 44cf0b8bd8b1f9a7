"""Whether what is named as the reason is the reason: words point at one object of a picture, and the truth is known.

    python benchmarks/explain.py --record

``pointing``: a sentence fits one object of a Diorama scene of two or three; the share of pictures in which the centre
of the strongest region lies in the box of that object (the pointing game of Zhang et al. 2016, arXiv 1608.00507),
beside the share that a place drawn evenly would have. ``pointing_by_phrase``: the same with the fewest words that tell
the object from the others, such as "the small square", which the shipped model has never compared with a picture.
``words``: a sentence of one object and its picture; the share in which the strongest word is one that tells something.
``deletion``: how far the cosine falls when the strongest quarter of a picture takes its usual colour, beside a quarter
drawn at random.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from figures import record
from intermodal import runtime
from intermodal.diorama.scene import Scene
from intermodal.diorama.sentences import describe
from intermodal.diorama.source import Diorama
from intermodal.explain.parts import Part, explain, heat
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.saving import load_model

CELLS_ACROSS = 8
IDLE = {"a", "an", "the", "at", "in", "on", "and", "is", "of", "to", "there", "that", "it", "with"}


def inside(part: Part, box: tuple[int, int, int, int], side: int) -> bool:
    """Returns whether the centre of a region lies in a box of pixels."""
    left, top, right, bottom = part.box or (0, 0, 0, 0)
    x, y = side * (left + right) / 2, side * (top + bottom) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def pointing(model: Any, count: int) -> dict[str, float]:
    """Returns how often the strongest region lies on the object that is meant, and how often any place would."""
    source = Diorama("test", fields=("image",), size=20 * count)
    several = [i for i in range(3 * count) if int(source.scenes([i]).present.sum()) > 1][:count]
    hits: dict[str, list[bool]] = {"pointing": [], "pointing_by_phrase": []}
    chances = []
    for sample, one in zip(source.samples(several), source.pointed(several), strict=True):
        side = sample["image"].pixels.shape[0]  # type: ignore[attr-defined]
        for name, said in zip(hits, (describe(Scene((one.thing,))), one.phrase), strict=True):
            found = explain(model, sample["image"], Text(said), cells=CELLS_ACROSS)
            hits[name].append(inside(found.strongest, one.box, side))
        chances.append(float(np.mean([inside(part, one.box, side) for part in found.parts])))
    chance = {"pointing_chance": 100 * float(np.mean(chances))}
    return {name: 100 * float(np.mean(values)) for name, values in hits.items()} | chance


def words(model: Any, count: int) -> dict[str, float]:
    """Returns how often the strongest word of a sentence tells something, and how many of its words do."""
    samples = Diorama("test", fields=("text", "image"), size=count).samples(range(count))
    telling, shares = [], []
    for sample in samples:
        found = explain(model, sample["text"], sample["image"])
        tells = [str(part.words).strip(",.").lower() not in IDLE for part in found.parts]
        telling.append(tells[int(np.argmax([part.weight for part in found.parts]))])
        shares.append(float(np.mean(tells)))
    return {"words": 100 * float(np.mean(telling)), "words_chance": 100 * float(np.mean(shares))}


def deletion(model: Any, count: int) -> dict[str, float]:
    """Returns by how much the cosine with its sentence falls without the strongest quarter, and without any quarter."""
    samples = Diorama("test", fields=("text", "image"), size=count).samples(range(count))
    draws = np.random.default_rng(0)
    falls: list[tuple[float, float]] = []
    for sample in samples:
        picture: Any = sample["image"]
        grid = heat(explain(model, picture, sample["text"], cells=CELLS_ACROSS).parts)
        usual, side = np.median(picture.pixels, axis=(0, 1)).astype(np.uint8), picture.pixels.shape[0] // CELLS_ACROSS
        hidden = []
        for order in (np.argsort(-grid.ravel()), draws.permutation(grid.size)):
            chosen = np.zeros(grid.size, bool)
            chosen[order[: grid.size // 4]] = True
            where = np.kron(chosen.reshape(grid.shape), np.ones((side, side), bool))
            hidden.append(Image(np.where(where[..., None], usual, picture.pixels)))
        whole, strongest, random = model.score([sample["text"]], [picture, *hidden])[0].tolist()
        falls.append((whole - strongest, whole - random))
    strong, drawn = np.mean(falls, axis=0)
    return {"deletion": float(strong), "deletion_random": float(drawn)}


def main() -> None:
    """Measures, prints, and with --record keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="diorama", help="saved or shipped model")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    chosen = parser.parse_args()
    runtime.threads()
    model, began = load_model(chosen.model), time.perf_counter()
    found = pointing(model, chosen.samples) | words(model, chosen.samples) | deletion(model, chosen.samples)
    print(json.dumps(found | {"seconds": time.perf_counter() - began}, indent=1))
    if not chosen.record:
        return
    command = f"python benchmarks/explain.py --samples {chosen.samples} --record"
    chance = f"above {found['pointing_chance']:.1f} (chance)"
    record("explain.pointing", round(found["pointing"], 1), "%", chance, command, note="strongest region on the object")
    told = "the same by a phrase"
    record("explain.pointing_by_phrase", round(found["pointing_by_phrase"], 1), "%", chance, command, note=told)
    asked = f"above {found['words_chance']:.1f} (chance)"
    record("explain.words", round(found["words"], 1), "%", asked, command, note="strongest word tells something")
    asked = f"above {found['deletion_random']:.3f} (random quarter)"
    note = "cosine lost without the strongest quarter"
    record("explain.deletion", round(found["deletion"], 3), "of the cosine", asked, command, note=note)


if __name__ == "__main__":
    main()
