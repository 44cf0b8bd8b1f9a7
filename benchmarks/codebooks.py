"""Media of Diorama to ids and back: what the readers still read, the error, the codes used, for each quantizer.

python benchmarks/codebooks.py                                    all four modalities with FSQ, 69 minutes in all
python benchmarks/codebooks.py --fields image --quantizer all     FSQ, VQ and Gumbel at equal size on pictures
python benchmarks/codebooks.py --fields audio --minutes 3 --out runs/codecs

Each codec is trained by ``intermodal train codec``, stored in half precision as OUT/<field>-<quantizer>/model, and
measured as loaded from there on 1,000 unseen scenes and on 1,000 with shape-colour pairs never seen in training.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
from _verbs import intermodal  # noqa: E402

from figures import record  # noqa: E402

SETTINGS = {
    "image": ("first=4,4", "channels=96,192"),
    "video": ("preprocessor.patch=4,16,16", "sizes=2,4,4", "first=4,4,4", "channels=128,192", "width=192"),
    "audio": ("first=8,4", "channels=96,128"),
    "timeseries": (),
}
"""What is changed of ``tiny``."""

COMMON = ("codebook.levels=8,8", "codebook.groups=8", "train.checkpoint_every=0")
BATCH = {"image": 32, "video": 32, "audio": 32, "timeseries": 64}
MINUTES = {"image": 11.0, "video": 40.0, "audio": 11.0, "timeseries": 7.0}
QUANTIZERS = ("fsq", "vq", "gumbel")
SHOWN = ("ids", "codes", "read", "scenes", "unseen pairs", "originals", "lost", "used", "perplexity", "ms in", "ms out")


def trained(field: str, quantizer: str, minutes: float, out: Path) -> Path:
    """Trains a codec, unless it is there, and returns the folder of its weights in half precision."""
    run = out / f"{field}-{quantizer}"
    if not (run / "trained.json").exists():
        changes = (*SETTINGS[field], *COMMON, f"codebook.quantizer={quantizer}", f"train.minutes={minutes}")
        sets = [part for change in changes for part in ("--set", change)]
        made = intermodal(
            *("train", "codec", "--fields", field, "--batch", str(BATCH[field]), "--out", str(run), *sets)
        )
        from intermodal.saving import load_model, save_model

        card = f"# codec of {field} for diorama\n\n`{json.dumps(made)}`\n"
        save_model(run / "model", load_model(run / "model"), card, half=True)
        (run / "trained.json").write_text(json.dumps(made))
    return run / "model"


def latency(folder: Path, field: str, rounds: int) -> tuple[float, float]:
    """Returns the median milliseconds of one item to ids, and back to an item."""
    from intermodal import runtime
    from intermodal.diorama.source import Diorama
    from intermodal.saving import load_model

    runtime.threads(1)
    model = load_model(folder)
    there, back = [], []
    for sample in Diorama("test", fields=(field,)).samples(range(rounds)):
        start = time.perf_counter()
        coded = model.tokens([sample[field]])
        middle = time.perf_counter()
        model.items(coded.values, coded.mask)
        there.append(middle - start)
        back.append(time.perf_counter() - middle)
    return 1000 * statistics.median(there), 1000 * statistics.median(back)


def measured(folder: Path, field: str) -> dict[str, float]:
    """Returns the figures of one codec, by the names of ``SHOWN``."""
    test, novel = (intermodal("evaluate", str(folder), "--split", split) for split in ("test", "compositional"))
    (folder.parent / "evaluated.json").write_text(json.dumps({"test": test, "compositional": novel}))
    config = json.loads((folder / "config.json").read_text())["config"]["codebook"]
    codes = 1
    for levels in config["levels"]:
        codes *= levels
    there, back = latency(folder, field, 12)
    return {
        "ids": test["ids_per_item"],
        "codes": codes,
        "read": test["read"]["attribute_accuracy"],
        "scenes": test["read"]["scene_accuracy"],
        "unseen pairs": novel["read"]["scene_accuracy"],
        "originals": test["originals_read"]["scene_accuracy"],
        "lost": test["variance_lost"],
        "used": test["share_used"],
        "perplexity": test["perplexity"],
        "ms in": there,
        "ms out": back,
    }


def kept(field: str, quantizer: str, found: dict[str, float], command: str) -> None:
    """Records the figures of one codec."""
    name = f"codebooks.{field}.{quantizer}"
    note = f"{found['ids']:.0f} ids of {found['codes']:.0f} codes"
    record(f"{name}.attributes", round(100 * found["read"], 2), "%", "≥ 99", command, note=note)
    record(f"{name}.scenes", round(100 * found["scenes"], 1), "%", "-", command)
    record(f"{name}.scenes_unseen_pairs", round(100 * found["unseen pairs"], 1), "%", "-", command)
    record(f"{name}.variance_lost", round(100 * found["lost"], 2), "%", "-", command)
    record(f"{name}.codes_used", round(100 * found["used"], 1), "%", "-", command)
    record(f"{name}.decode_ms", round(found["ms out"], 1), "ms", "-", command)


def cell(name: str, value: float) -> str:
    """Returns a figure as text."""
    if name in ("read", "scenes", "unseen pairs", "originals", "lost", "used"):
        return f"{value:.2%}"
    return f"{value:.0f}" if name in ("ids", "codes", "perplexity") else f"{value:.1f}"


def main() -> None:
    """Trains and measures what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", default=",".join(SETTINGS), help="with commas")
    parser.add_argument("--quantizer", default="fsq", choices=(*QUANTIZERS, "all"))
    parser.add_argument("--minutes", type=float, help=f"of training, for each codec (default: {MINUTES})")
    parser.add_argument("--out", type=Path, default=Path("runs/codecs"), help="what is there is not trained again")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    rows = []
    for field in arguments.fields.split(","):
        for quantizer in QUANTIZERS if arguments.quantizer == "all" else (arguments.quantizer,):
            minutes = arguments.minutes or MINUTES[field]
            found = measured(trained(field, quantizer, minutes, arguments.out), field)
            rows.append([f"{field} {quantizer}", *(cell(name, found[name]) for name in SHOWN)])
            if arguments.record:
                command = f"python benchmarks/codebooks.py --fields {field} --quantizer {arguments.quantizer}"
                kept(field, quantizer, found, f"{command} --minutes {minutes:g}")
    widths = [max(len(row[i]) for row in (["", *SHOWN], *rows)) for i in range(len(SHOWN) + 1)]
    for row in (["", *SHOWN], *rows):
        print("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
