"""Series of twelve numbers with three captions each: TRUCE by its official splits, real share prices and drawn curves.

Training series that are also in the dev or test split are left out. Many captions fit many series, so Recall@1 is far
from 100 even for people.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _steps
import numpy as np

COMMANDS: _steps.Commands = {
    "train": [
        "train",
        "clip",
        "--data",
        "{data}",
        "--out",
        "{out}",
        "--fields",
        "timeseries,text",
        "--set",
        "train.minutes=2",
    ],
    "search": ["evaluate", "{out}/model", "--data", "{data}", "--split", "test"],
}
FIGURES = [
    _steps.Figure(
        f"truce.{pair.replace('>', '_to_')}.recall_at_10",
        "search",
        ("pairs", pair, "recall_at_10"),
        f"above {chance} (chance)",
    )
    for pair, chance in (("timeseries>text", "4.0"), ("text>timeseries", "4.0"))
]


def prepare(shared: Path, work: Path) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``truce``.
        work: where to write.
    """
    from intermodal.modalities.timeseries import TimeSeries

    source = shared / "truce"

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        rows = _steps.read_rows(source / "pairs.jsonl")
        measured = {tuple(row["series"]) for row in rows if row["split"] != "train"}
        (folder / "series").mkdir(exist_ok=True)
        for i, row in enumerate(rows):
            if row["split"] == "train" and tuple(row["series"]) in measured:
                continue
            path = f"series/{i:04d}.csv"
            TimeSeries(np.array([row["series"]], np.float32), ("value",), 1.0).save(folder / path)
            about = {key: row[key] for key in ("id", "source", "pattern") if key in row}
            yield {"timeseries_file_name": path, "text": row["captions"], "about": about, "split": row["split"]}

    return _steps.prepared(work / "truce", source, write)


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(__doc__ or "")
    _steps.measure(chosen, prepare(chosen.shared, chosen.work), COMMANDS, FIGURES)


if __name__ == "__main__":
    main()
