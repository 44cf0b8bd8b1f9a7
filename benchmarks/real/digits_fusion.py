"""Digits seen badly and heard badly: what a model that joins both tells, against each alone and against late fusion.

python3 benchmarks/real/digits_fusion.py             about 25 minutes of one core; --more trains further forms
python3 benchmarks/real/digits_fusion.py --quick     the same stages in a minute; its figures mean nothing

Pictures of MNIST keep the fewest principal components (of the training pictures) that hold 25 % of their energy, as in
the AV-MNIST of Vielzeuf et al. 2018, "CentralNet", arXiv 1808.07275; recordings of FSDD stand in sounds of ESC-10 at
``SNR_DB``. A picture and a recording of the same digit are a sample; nothing else connects them. Test pictures,
recordings (takes 0 to 4) and background sounds (fold 5) are in no training sample; the dev split has pictures and
takes (5 to 9) of its own and the background sounds of training.

Every model sees the same samples for the same number of steps. Single models are trained with three learning rates, and
the joint one with these in the forms of ``FORMS``; the dev split chooses. Late fusion joins the two single models that
were chosen, by a rule and weights tuned on the dev split too. Test samples decide nothing; ``intermodal evaluate``
measures.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _stages
import _steps
import digits
import numpy as np

ENERGY_LEFT = 0.25
SNR_DB = -6.0
RATE = 8_000
COUNTS = {"train": 20_000, "dev": 2_000, "test": 3_000}
QUICK = {"train": 300, "dev": 60, "test": 60}
SPLITS = {"train": "train", "dev": "train", "test": "test"}  # of the background sounds
STEPS = 400
RATES = (0.5, 1.0, 2.0)
"""Of the learning rates of ``intermodal train``, 1e-3 and 5e-3."""

FORMS = {
    "gated and product": ("fusion.form=gated", "late=product"),
    "product": ("fusion.form=", "late=product"),
    "early": ("fusion.form=early", "fusion.depth=1", "late="),
}
MORE = {
    "cross and product": ("fusion.form=cross", "fusion.depth=1", "late=product"),
    "early with placeholders": ("fusion.form=early", "fusion.depth=1", "fusion.placeholder=true", "late="),
    "early without dropout": ("fusion.form=early", "fusion.depth=1", "late=", "modality_dropout=0"),
}
"""Further forms, with --more."""

TOWERS = {
    "image": ("channels=16,32", "depth=1"),
    "audio": (
        *("channels=24,48", "depth=1", f"preprocessor.sample_rate_hz={RATE}", "preprocessor.channels=1"),
        *("preprocessor.mels=32", "preprocessor.window=512", "preprocessor.hop=160", "preprocessor.patch_frames=4"),
    ),
}
"""Small, so that all of it takes minutes; the same in every model."""

ASKED = {"gain_over_best_single": 3.0, "gain_over_late": 0.0, "least_gain_of_a_subset": -3.0}


def faded(pictures: np.ndarray, train: np.ndarray, left: float = ENERGY_LEFT) -> tuple[np.ndarray, int, float]:
    """Returns pictures of which few components are left, how many, and which share of the energy they hold.

    Args:
        pictures: ``(N, H, W)``, bytes.
        train: those that the components are taken from.
        left: share of the energy, at least.
    """
    rows = train.reshape(len(train), -1).astype(np.float64)
    mean = rows.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(rows, rowvar=False))
    shares = np.cumsum(values[::-1]) / values.sum()
    count = int(np.searchsorted(shares, left) + 1)
    kept = axes[:, ::-1][:, :count]
    flat = pictures.reshape(len(pictures), -1) - mean
    shown = (flat @ kept @ kept.T + mean).round().clip(0, 255).astype(np.uint8)
    return shown.reshape(pictures.shape), count, float(shares[count - 1])


def drowned(speech: np.ndarray, noise: np.ndarray, snr_db: float, draws: np.random.Generator) -> np.ndarray:
    """Returns speech in a part of a noise: ``snr_db`` lies between their energies; both are ``(S,)`` at one rate."""
    for _ in range(20):  # some sounds are silent for long
        start = int(draws.integers(max(1, len(noise) - len(speech))))
        part = np.resize(noise[start:], len(speech))
        if np.square(part).mean() > 1e-7:
            break
    else:
        part = draws.standard_normal(len(speech)).astype(np.float32)
    gain = np.sqrt(np.square(speech).mean() / np.square(part).mean() / 10 ** (snr_db / 10))
    mixed = speech + gain * part
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())) * 0.99, np.float32)


def backgrounds(shared: Path, most: int) -> dict[str, list[np.ndarray]]:
    """Returns split of ESC-10 -> its sounds at ``RATE``, of both together about ``most``, spread over the classes."""
    from intermodal.modalities.audio import Audio

    found: dict[str, list[np.ndarray]] = defaultdict(list)
    rows = _steps.read_rows(shared / "esc10" / "pairs.jsonl")
    for row in rows[:: max(1, len(rows) // most)]:
        found[row["split"]].append(Audio.open(shared / "esc10" / row["audio"]).mixed(1).resampled(RATE).samples[0])
    return found


def spoken(shared: Path) -> dict[tuple[str, int], list[np.ndarray]]:
    """Returns (split, digit) -> its recordings."""
    from intermodal.modalities.audio import Audio

    found: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    rows = _steps.read_rows(shared / "fsdd" / "pairs.jsonl")
    with zipfile.ZipFile(shared / "fsdd" / "audio.zip") as archive:
        for row in rows:
            split = "dev" if 5 <= row["take"] < 10 else row["split"]
            item = Audio.open(archive.read(row["audio"])).mixed(1).resampled(RATE)
            found[split, row["digit"]].append(item.samples[0])
    return found


def pictures(shared: Path, counts: dict[str, int]) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Returns split -> pictures, evenly spaced over those there are, and their digits."""
    found = {}
    for split, count in counts.items():
        file = "t10k" if split == "test" else "train"
        images = digits.read_idx(shared / "mnist" / f"{file}-images-idx3-ubyte.gz")
        labels = digits.read_idx(shared / "mnist" / f"{file}-labels-idx1-ubyte.gz")
        last = len(images) - digits.DEV_PICTURES
        part = {"train": slice(0, last), "dev": slice(last, None), "test": slice(None)}[split]
        index = np.linspace(0, len(labels[part]) - 1, count).astype(np.int64)
        found[split] = images[part][index], labels[part][index].tolist()
    return found


def prepare(shared: Path, work: Path, counts: dict[str, int]) -> Path:
    """Returns the folder of the data set, written if it is not there."""
    from PIL import Image

    from intermodal.modalities.audio import Audio

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        noises, speech, shown = backgrounds(shared, counts["train"]), spoken(shared), pictures(shared, counts)
        draws = np.random.default_rng(0)
        for split, (images, labels) in shown.items():
            seen, count, share = faded(images, shown["train"][0])
            print(f"{split}: {count} components hold {share:.1%} of the energy", file=sys.stderr)
            for i, (pixels, digit) in enumerate(zip(seen, labels, strict=True)):
                path = f"{split}/{i // 1000:02d}/{i:05d}"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{path}.png", compress_level=1)
                choices, sounds = speech[split, digit], noises[SPLITS[split]]
                said, behind = (some[int(draws.integers(len(some)))] for some in (choices, sounds))
                Audio(drowned(said, behind, SNR_DB, draws), RATE).save(folder / f"{path}.wav")
                names = {"image_file_name": f"{path}.png", "audio_file_name": f"{path}.wav"}
                yield {**names, "text": digits.WORDS[digit], "split": split}

    return _steps.prepared(work / f"digits-fusion-{counts['train']}-{SNR_DB:g}dB", shared / "mnist", write)


def trained(data: Path, out: Path, fields: str, steps: int, changes: tuple[str, ...], rate: float = 1.0) -> Path:
    """Returns the folder of a model on some fields, trained if it is not there."""
    numbers = [f"train.steps={steps}", f"train.learning_rate={1e-3 * rate}", f"train.matrix_rate={5e-3 * rate}"]
    numbers += [f"towers.{field}.{change}" for field in fields.split(",") for change in TOWERS[field]]
    words = ["train", "fusion", "--data", str(data), "--fields", f"{fields},text", *_stages.sets(*numbers, *changes)]
    return _stages.trained(out, words)


def on_dev(model: Path, fields: str) -> float:
    """Returns what a training said of the dev split, of all its fields."""
    told = json.loads((model.parent / "trained.json").read_text("utf-8"))["dev_told"]
    return float(told[f"text.{fields.replace(',', '+')}"])


def best(candidates: dict[str, Path], fields: str) -> str:
    """Returns the name of the model that tells most of the dev split right, and prints all."""
    found = {name: on_dev(model, fields) for name, model in candidates.items()}
    for name, value in found.items():
        print(f"{fields}, {name}: {100 * value:.2f} % of the dev split", file=sys.stderr)
    return max(found, key=found.__getitem__)


def figures(found: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Returns name -> percent (or points) and what was asked, of what ``intermodal evaluate`` printed."""
    task = found["tasks"]["text"]
    accuracy = {name: 100 * each["accuracy"] for name, each in task["subsets"].items()}
    alone = {name: 100 * each["accuracy"] for name, each in task["alone"].items()}
    late, fused = 100 * task["late"]["accuracy"], accuracy["image+audio"]
    values = {
        "fused": fused,
        **{f"{name}_alone": value for name, value in alone.items()},
        "late": late,
        **{f"fused_from_{name}": accuracy[name] for name in alone},
        "gain_over_best_single": fused - max(alone.values()),
        "gain_over_late": fused - late,
        "least_gain_of_a_subset": min(accuracy[name] - alone[name] for name in alone),
    }
    return {
        f"digits.fusion.{name}": (round(value, 2), f"≥ {ASKED[name]:g}" if name in ASKED else "-")
        for name, value in values.items()
    }


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        steps={"type": int, "default": STEPS, "help": "of each training (default: %(default)s)"},
        more={"action": "store_true", "help": "also train the forms of MORE"},
        quick={"action": "store_true", "help": "a few samples and steps"},
    )
    counts, rates = (QUICK, RATES[:1]) if chosen.quick else (COUNTS, RATES)
    steps = 2 if chosen.quick else chosen.steps
    data = prepare(chosen.shared, chosen.work, counts)
    if chosen.prepare_only:
        print(data)
        return
    out = chosen.work / "runs" / f"{data.name}-{steps}"
    single = {}
    for field in ("image", "audio"):
        made = {
            f"{rate:g} times the usual rate": trained(
                data, out / f"{field}-{rate:g}", field, steps, ("fusion.form=", "late=average"), rate
            )
            for rate in rates
        }
        single[field] = made[best(made, field)]
    fused = {
        f"{name}, {rate:g} times the usual rate": trained(
            data, out / f"{name.replace(' ', '-')}-{rate:g}", "image,audio", steps, changes, rate
        )
        for name, changes in (FORMS | (MORE if chosen.more else {})).items()
        for rate in rates
    }
    name = best(fused, "image,audio")
    dev = [on_dev(fused[name], "image,audio"), *(on_dev(model, field) for field, model in single.items())]
    beside = [part for folder in single.values() for part in ("--beside", str(folder))]
    words = ["evaluate", str(fused[name]), "--data", str(data), "--samples", str(counts["test"]), *beside]
    found = _stages.kept(
        out / "figures.json", {"words": words, "dev": dev}, lambda: _steps.run({"measure": words}, data, out)["measure"]
    )
    values = figures(found)
    print(f"chosen on the dev split: {name}", file=sys.stderr)
    for key, (value, asked) in values.items():
        wanted = asked.removeprefix("≥ ")
        verdict = "" if asked == "-" else f"  asked {asked}: {_stages.wanted_or_not(value, float(wanted))}"
        print(f"{key:44} {value:6.2f}{verdict}", file=sys.stderr)
    print(json.dumps({"figures": {key: value for key, (value, _) in values.items()}, "form": name, "results": found}))
    if chosen.record and not chosen.quick:
        _steps.keep(values, "--record")


if __name__ == "__main__":
    main()
