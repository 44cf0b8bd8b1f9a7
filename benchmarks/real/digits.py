"""Handwritten and spoken digits that never meet: pictures and recordings joined by their words alone.

MNIST as png, FSDD as flac; each row is a picture or a recording with the word of its digit. MNIST's test set is the
test split, its last 5,000 training pictures the dev split. Takes 0 to 4 of FSDD are the test split by its official
rule, takes 5 to 9 the dev split; with ``--leave-out SPEAKER`` the test split is all that this speaker says.
"""

import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _steps
import numpy as np
from PIL import Image

TRAIN = [
    "train",
    "clip",
    "--data",
    "{data}",
    "--out",
    "{out}",
    "--fields",
    "image,audio,text",
    "--set",
    "train.minutes=8",
]
TEST = ["evaluate", "{out}/model", "--data", "{data}", "--split", "test"]
COMMANDS: _steps.Commands = {
    "train": TRAIN,
    "search": TEST,
    "pictures": [*TEST, "--classify", "image"],
    "sounds": [*TEST, "--classify", "audio"],
}
FIGURES = [
    _steps.Figure("digits.picture_named_right", "pictures", ("accuracy",), "≥ 98.5"),
    _steps.Figure("digits.sound_named_right", "sounds", ("accuracy",), "≥ 97"),
    _steps.Figure("digits.picture_finds_sound_map", "search", ("pairs", "image>audio", "map"), "≥ 95"),
    _steps.Figure("digits.sound_finds_picture_map", "search", ("pairs", "audio>image", "map"), "≥ 95"),
]
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
ALONE: _steps.Commands = {
    "train": [*TRAIN[:6], "--fields", "audio,text", "--set", "train.minutes=1"],
    "sounds": [*TEST, "--classify", "audio"],
}
"""For a speaker who was never heard: recordings and words alone."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEV_PICTURES = 5_000
REPEATS = 10
"""Each training recording is so many rows, since there are 55,000 pictures and 2,400 recordings."""


def read_idx(path: Path) -> np.ndarray:
    """Returns the bytes in an IDX file as an array."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def pictures(shared: Path, folder: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    """Writes the pictures and yields their rows; ``limit`` keeps so many of each split."""
    for name, file in (("train", "train"), ("test", "t10k")):
        images = read_idx(shared / "mnist" / f"{file}-images-idx3-ubyte.gz")
        labels = read_idx(shared / "mnist" / f"{file}-labels-idx1-ubyte.gz").tolist()
        count = {"train": 0, "dev": 0, "test": 0}
        for i, (pixels, digit) in enumerate(zip(images, labels, strict=True)):
            split = "dev" if name == "train" and i >= len(images) - DEV_PICTURES else name
            count[split] += 1
            if limit is not None and count[split] > limit:
                continue
            path = f"images/{name}/{i // 1000:02d}/{i:05d}.png"
            if i % 1000 == 0 or count[split] == 1:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / path, compress_level=1)
            yield {"image_file_name": path, "text": WORDS[digit], "digit": digit, "split": split}


def recordings(shared: Path, folder: Path, leave_out: str | None) -> Iterator[dict[str, Any]]:
    """Writes the recordings and yields their rows."""
    rows = _steps.read_rows(shared / "fsdd" / "pairs.jsonl")
    speakers = sorted({row["speaker"] for row in rows})
    if leave_out is not None and leave_out not in speakers:
        raise SystemExit(f"there is no speaker {leave_out!r}; use one of: {', '.join(speakers)}")
    with zipfile.ZipFile(shared / "fsdd" / "audio.zip") as archive:
        archive.extractall(folder, [row["audio"] for row in rows])
    for row in rows:
        split = "dev" if 5 <= row["take"] < 10 else row["split"]
        if leave_out is not None:
            split = "test" if row["speaker"] == leave_out else "dev" if split == "dev" else "train"
        about = {"speaker": row["speaker"], "take": row["take"]}
        found = {
            "audio_file_name": row["audio"],
            "text": row["word"],
            "digit": row["digit"],
            "about": about,
            "split": split,
        }
        yield from [found] * (REPEATS if split == "train" else 1)


def prepare(shared: Path, work: Path, leave_out: str | None = None, limit: int | None = None) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``mnist`` and ``fsdd``.
        work: where to write.
        leave_out: the speaker whose recordings are the test split; None for the official rule.
        limit: pictures per split; None for all.
    """
    name = "digits" + (f"-without-{leave_out}" if leave_out else "") + (f"-{limit}" if limit is not None else "")

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        yield from recordings(shared, folder, leave_out)
        yield from pictures(shared, folder, limit)

    return _steps.prepared(work / name, shared / "mnist", write)


def unheard(chosen: Any) -> None:
    """Measures each speaker by a model that never heard them."""
    each = {}
    for speaker in SPEAKERS:
        data = prepare(chosen.shared, chosen.work, speaker, limit=0)
        results = _steps.run(ALONE, data, chosen.work / "runs" / data.name)
        each[speaker] = _steps.percent(results["sounds"], ("accuracy",))
    mean = round(sum(each.values()) / len(each), 2)
    print(json.dumps({"figures": {"digits.unheard_speaker_named_right": mean}, "speakers": each}))
    if chosen.record:
        _steps.keep({"digits.unheard_speaker_named_right": (mean, "-")}, "--speakers --record")


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        __doc__ or "",
        leave_out={"metavar": "SPEAKER", "help": "test on the recordings of a speaker who was never heard"},
        speakers={
            "action": "store_true",
            "help": "leave out each of the six speakers in turn; words and recordings alone",
        },
        limit={"type": int, "help": "pictures per split, for a quick try"},
    )
    if chosen.speakers:
        unheard(chosen)
        return
    data = prepare(chosen.shared, chosen.work, chosen.leave_out, chosen.limit)
    _steps.measure(chosen, data, COMMANDS, FIGURES, chosen.leave_out is None and chosen.limit is None)


if __name__ == "__main__":
    main()
