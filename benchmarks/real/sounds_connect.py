"""Pictures and sounds that never meet: each connected to sentences alone, in one space with them.

python3 benchmarks/real/sounds_connect.py             20 minutes on 2 cores; what the encoders say is kept in --work
python3 benchmarks/real/sounds_connect.py --quick     a few of each; its figures mean nothing

Three frozen encoders: MobileNet v2 (``_mobilenet.py``), all-MiniLM-L6-v2, and for sounds a plain function, the levels
of 40 mel bands: their mean, spread and largest over time, and the levels themselves at 16 moments. Pairs: Flickr8k,
ESC-10 (fold 5 is the test split) and FSDD by its official rule, each with words only. No row has a picture and a sound.

Measured on test splits: sounds named by words alone, and, across the two spaces, what a sound finds among pictures and
a picture among sounds, on classes that both have: a picture is of a class where two of its five sentences name it.
The figure is the mean average precision; chance is what a constant gets.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _steps
import flickr8k_connect
import numpy as np
from _mobilenet import WEIGHTS, MobileNet

BANDS, MOMENTS, RATE_HZ = 40, 16, 16_000
WINDOW, HOP = 512, 160
SHARED = {
    "dog bark": r"\b(dog|dogs|puppy|puppies)\b",
    "baby cry": r"\b(baby|babies|infant|toddler)\b",
    "sea waves": r"\b(sea|ocean|wave|waves|surf|surfer|surfing|surfboard)\b",
    "rain": r"\b(rain|raining|rainy|umbrella|umbrellas)\b",
    "fire crackling": r"\b(fire|campfire|bonfire|flame|flames)\b",
}
"""Label of ESC-10 -> words of sentences."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def bands() -> np.ndarray:
    """Returns triangles ``(BANDS, WINDOW // 2 + 1)`` evenly spaced in mel up to half the rate."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE_HZ / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1) * WINDOW / RATE_HZ
    places = np.arange(WINDOW // 2 + 1)
    rise = (places - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - places) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rise, fall))


def levels(items: Sequence[Any]) -> Any:
    """Returns of each sound a ``Said`` of two rows: what its bands come to over time, and at ``MOMENTS``."""
    import torch

    from intermodal.decoders.projection import Said

    rows, triangles, hann = [], bands(), np.hanning(WINDOW)
    for item in items:
        sound = item.mixed(1).resampled(RATE_HZ).samples[0]
        sound = np.pad(sound, (0, max(0, WINDOW + HOP * MOMENTS - len(sound))))
        frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP] * hann
        level = np.log(np.square(np.abs(np.fft.rfft(frames, axis=1))) @ triangles.T + 1e-6)
        loud = level[level.mean(axis=1) > level.mean() - 3] if len(level) > MOMENTS else level
        parts = np.array_split(loud if len(loud) >= MOMENTS else level, MOMENTS)
        grid = np.concatenate([part.mean(axis=0) for part in parts])
        grid = grid - grid.mean()
        steps = np.abs(np.diff(level, axis=0)).mean(axis=0)
        over = np.concatenate((level.mean(axis=0), level.std(axis=0), level.max(axis=0), steps))
        rows.append(np.concatenate((np.pad(over, (0, len(grid) - len(over))), grid)))
    pooled = torch.from_numpy(np.stack(rows).astype(np.float32))
    width = BANDS * MOMENTS
    return Said(torch.zeros(len(rows), 0, width), torch.zeros(len(rows), 0, dtype=torch.bool), pooled)


def prepare(shared: Path, work: Path, few: bool) -> Path:
    """Returns the folder with all three data sets, written if it is not there; ``few`` keeps some rows of each."""
    from digits import recordings
    from flickr8k import prepare as photographs

    photos, most = photographs(shared, work), {"train": 60, "dev": 20, "test": 20}

    def rows(folder: Path) -> Iterator[dict[str, Any]]:
        for row in _steps.read_rows(photos / "metadata.jsonl"):
            if row["split"] is not None:
                yield {**row, "image_file_name": f"photos/{row['image_file_name']}"}
        shutil.copytree(shared / "esc10" / "audio", folder / "esc10", copy_function=shutil.copyfile, dirs_exist_ok=True)
        for number, row in enumerate(_steps.read_rows(shared / "esc10" / "pairs.jsonl")):
            split = "test" if row["fold"] == 5 else "dev" if number % 8 == 0 else "train"
            place = f"esc10/{Path(row['audio']).name}"
            for _ in range(4 if split == "train" else 1):  # 6,000 pictures are in each epoch
                yield {"audio_file_name": place, "text": row["text"], "label": row["label"], "split": split}
        seen: set[str] = set()
        for row in recordings(shared, folder, None):
            if row["audio_file_name"] not in seen:
                seen.add(row["audio_file_name"])
                yield {**row, "label": row["text"]}

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        shutil.copytree(photos / "images", folder / "photos" / "images", dirs_exist_ok=True)
        counts: dict[tuple[str, str], int] = {}
        for row in rows(folder):
            label, split = str(row.get("label", "")), str(row["split"])
            kind = "photo" if not label else "digit" if label in DIGITS else "sound"
            counts[kind, split] = counts.get((kind, split), 0) + 1
            if not few or counts[kind, split] <= most[split]:
                yield {k: v for k, v in row.items() if k not in ("label", "digit", "about")} | (
                    {"about": {"label": label}} if label else {}
                )

    return _steps.prepared(work / f"sounds-and-pictures{'-quick' if few else ''}", shared / "esc10", write)


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Returns the mean over the rows, the queries, of their average precision; one with nothing right is left out."""
    found = []
    for row, wanted in zip(scores, right, strict=True):
        hits = wanted[np.argsort(-row, kind="stable")]
        if hits.any():
            found.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    return float(np.mean(found)) if found else float("nan")


def figures(model: Any, data: Path) -> dict[str, float]:
    """Returns what is named right, and what is found across the spaces, in percent."""
    from intermodal.modalities.audio import Audio
    from intermodal.modalities.image import Image
    from intermodal.modalities.text import Text

    rows = [row for row in _steps.read_rows(data / "metadata.jsonl") if row["split"] == "test"]
    sounds = [row for row in rows if "audio_file_name" in row]
    vectors = model.embed([Audio.open(data / row["audio_file_name"]) for row in sounds]).numpy()
    labels = np.array([row["about"]["label"] for row in sounds])
    found: dict[str, float] = {}
    for name, kept in (("digit", np.isin(labels, DIGITS)), ("sound", ~np.isin(labels, DIGITS))):
        texts = sorted({row["text"] for row, one in zip(sounds, kept, strict=True) if one})
        named = (vectors[kept] @ model.embed([Text(text) for text in texts]).numpy().T).argmax(axis=1)
        wanted = [texts.index(row["text"]) for row, one in zip(sounds, kept, strict=True) if one]
        found[f"sounds_connect.{name}_named_right"] = float(np.mean(named == wanted))
    photos = [row for row in rows if "image_file_name" in row]
    pictures = model.embed([Image.open(data / row["image_file_name"]) for row in photos]).numpy()
    shown = np.array([[_names(row["text"], words) for words in SHARED.values()] for row in photos])
    heard = np.array([[label == name for name in SHARED] for label in labels])
    some = heard.any(axis=1), shown.any(axis=1)
    right = (heard[some[0]].astype(int) @ shown[some[1]].T.astype(int)) > 0
    scores = vectors[some[0]] @ pictures[some[1]].T
    for way, score, wanted in (("sound_finds_picture", scores, right), ("picture_finds_sound", scores.T, right.T)):
        found[f"sounds_connect.{way}_map"] = average_precision(score, wanted)
        found[f"sounds_connect.{way}_map_of_chance"] = float(wanted.mean())
    return {name: round(100 * value, 2) for name, value in found.items()}


def _names(sentences: Sequence[str], words: str) -> bool:
    return sum(re.search(words, sentence.lower()) is not None for sentence in sentences) >= 2


def main() -> None:
    """Prepares, connects, measures and prints."""
    chosen = _steps.options(__doc__ or "", quick={"action": "store_true", "help": "a few of each; nothing is recorded"})
    data = prepare(chosen.shared, chosen.work, chosen.quick)
    if chosen.prepare_only:
        print(data)
        return
    import os

    from intermodal import runtime
    from intermodal.adapters import connected

    runtime.threads()
    work = chosen.work / "runs" / f"sounds-connect{'-quick' if chosen.quick else ''}"
    seen = MobileNet(chosen.shared / "mobilenet_v2" / WEIGHTS, len(os.sched_getaffinity(0)))
    functions = {
        "image": connected.of_function(seen, "image", "mobilenet_v2", seen.revision),
        "audio": connected.of_function(levels, "audio", "mel_levels", "1"),
    }
    encoders = {**functions, "text": connected.of_model(flickr8k_connect.sentences())}
    how = flickr8k_connect.heads(chosen.quick)
    told = connected.connect(
        encoders, str(data), work / "connected", how, work / "features", lambda text: print(text, file=sys.stderr)
    )
    found = figures(connected.load(work / "connected", functions), data)
    print(json.dumps({"figures": found, **told}))
    if chosen.record and not chosen.quick:
        _steps.keep({name: (value, "-") for name, value in found.items()})


if __name__ == "__main__":
    main()
