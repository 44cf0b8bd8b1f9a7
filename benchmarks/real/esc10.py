"""Sounds and the words for them: ESC-10 by its official five folds, each once the test split; the figure is the mean.

No recording is in two folds. ``--dev`` holds back one training recording in eight, with all its clips, as the dev
split: settings are chosen with it, figures are measured without it.
"""

import json
import shutil
import statistics
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _steps

COMMANDS: _steps.Commands = {
    "train": [
        "train",
        "clip",
        "--data",
        "{data}",
        "--out",
        "{out}",
        "--fields",
        "audio,text",
        "--set",
        "train.minutes=1.5",
    ],
    "sounds": ["evaluate", "{out}/model", "--data", "{data}", "--split", "test", "--classify", "audio"],
}
FOLDS = (1, 2, 3, 4, 5)
NAME, ASKED = "esc10.sound_named_right", "people 96"


def prepare(shared: Path, work: Path, fold: int, dev: bool = False) -> Path:
    """Returns the folder of the data set with ``fold`` as the test split, written if it is not there.

    Args:
        shared: the folder that holds ``esc10``.
        work: where to write.
        fold: 1 to 5.
        dev: hold back one training recording in eight.
    """
    if fold not in FOLDS:
        raise SystemExit(f"there is no fold {fold}; use 1 to 5")
    source = shared / "esc10"

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        shutil.copytree(source / "audio", folder / "audio", dirs_exist_ok=True, copy_function=shutil.copyfile)
        for row in _steps.read_rows(source / "pairs.jsonl"):
            held = dev and zlib.crc32(row["freesound_id"].encode()) % 8 == 0
            split = "test" if row["fold"] == fold else "dev" if held else "train"
            about = {"recording": row["freesound_id"], "label": row["label"]}
            yield {
                "audio_file_name": row["audio"],
                "text": row["text"],
                "fold": row["fold"],
                "about": about,
                "split": split,
            }

    return _steps.prepared(work / f"esc10-fold{fold}{'-dev' if dev else ''}", source, write)


def main() -> None:
    """Prepares, trains, measures and prints, for one fold or for all."""
    chosen = _steps.options(
        __doc__ or "",
        fold={"type": int, "help": "only this fold, 1 to 5; nothing is recorded then"},
        dev={"action": "store_true", "help": "hold back a dev split; nothing is recorded then"},
    )
    folds = FOLDS if chosen.fold is None else (chosen.fold,)
    folders = [prepare(chosen.shared, chosen.work, fold, chosen.dev) for fold in folds]
    if chosen.prepare_only:
        print(*folders, sep="\n")
        return
    results = {
        str(k): _steps.run(COMMANDS, f, chosen.work / "runs" / f.name) for k, f in zip(folds, folders, strict=True)
    }
    each = {fold: _steps.percent(result["sounds"], ("accuracy",)) for fold, result in results.items()}
    mean = round(statistics.mean(each.values()), 2)
    print(json.dumps({"figures": {NAME: mean}, "folds": each, "results": results}))
    if chosen.record and folds == FOLDS and not chosen.dev:
        _steps.keep({NAME: (mean, ASKED)})


if __name__ == "__main__":
    main()
