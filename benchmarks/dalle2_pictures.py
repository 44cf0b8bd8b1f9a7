"""What a trained DALL-E 2 draws, as one sheet: sentences, variations, what lies between two pictures, other words.

python benchmarks/dalle2_pictures.py --model runs/dalle2/dalle2/model      writes docs/dalle2.png, in seconds
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SENTENCES = (
    "a big red star at the top left",
    "a small blue circle in the middle",
    "a large green square at the bottom right and a tiny yellow triangle at the top",
    "a big purple cross at the left and a small orange diamond at the right",
)
WORDS = ("a red star", "a blue star")
SHARES = (0.1, 0.2, 0.3, 0.4)
GAP, SCALE = 2, 3


def rows(model: Any) -> list[list[Any]]:
    """Returns the four rows of pictures."""
    from intermodal.modalities.text import Text
    from intermodal.sampling.editing import between, changed, variations

    told = model.translate([Text(words) for words in SENTENCES], "image")
    before, after = (Text(words) for words in WORDS)
    return [
        told,
        variations(model, [told[-1]], count=len(told))[0],
        between(model, told[0], told[1], count=len(told)),
        changed(model, told[0], before, after, SHARES),
    ]


def sheet(pictures: list[list[Any]]) -> np.ndarray:
    """Returns rows of pictures of one size as one picture, with a white line between them."""
    height, width = pictures[0][0].pixels.shape[:2]
    shape = (len(pictures) * (height + GAP) - GAP, max(map(len, pictures)) * (width + GAP) - GAP, 3)
    found = np.full(shape, 255, np.uint8)
    for i, row in enumerate(pictures):
        for j, one in enumerate(row):
            top, left = i * (height + GAP), j * (width + GAP)
            found[top : top + height, left : left + width] = one.pixels
    return found.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def main() -> None:
    """Draws and writes."""
    from intermodal.modalities.image import Image
    from intermodal.saving import load_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a trained dalle2")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "dalle2.png", help="(default: docs/dalle2.png)")
    chosen = parser.parse_args()
    Image(sheet(rows(load_model(chosen.model)))).save(chosen.out)
    print(chosen.out)


if __name__ == "__main__":
    main()
