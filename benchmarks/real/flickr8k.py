"""Photographs with five captions each: Flickr8k by its official splits, 6,000, 1,000 and 1,000 photographs.

The 91 photographs that are in no official split are left without one.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _steps

TRAIN = ["train", "clip", "--data", "{data}", "--out", "{out}", "--fields", "image,text", "--set", "train.minutes=10"]
COMMANDS: _steps.Commands = {
    "train": TRAIN,
    "search": ["evaluate", "{out}/model", "--data", "{data}", "--split", "test"],
}
ASKED = {"image>text": ("22.3", "48.7", "59.8"), "text>image": ("14.9", "38.3", "51.6")}
FIGURES = [
    _steps.Figure(
        f"flickr8k.{pair.replace('>', '_to_')}.recall_at_{k}",
        "search",
        ("pairs", pair, f"recall_at_{k}"),
        f"{asked} (VSE on VGG19 features)",
    )
    for pair, values in ASKED.items()
    for k, asked in zip((1, 5, 10), values, strict=True)
]


def prepare(shared: Path, work: Path) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``flickr8k``.
        work: where to write.
    """
    source = shared / "flickr8k"

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        with zipfile.ZipFile(source / "images.zip") as archive:
            archive.extractall(folder)
        for row in _steps.read_rows(source / "pairs.jsonl"):
            split = row["split"] if row["split"] in ("train", "dev", "test") else None
            yield {"image_file_name": row["image"], "text": row["captions"], "split": split}

    return _steps.prepared(work / "flickr8k", source, write)


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(__doc__ or "")
    _steps.measure(chosen, prepare(chosen.shared, chosen.work), COMMANDS, FIGURES)


if __name__ == "__main__":
    main()
