"""Digits as pictures, as speech and as words: each made from each other one, and all three from nothing.

python3 benchmarks/real/digits_translate.py             about 110 minutes on 2 cores: codecs 4, 8; reader 10; model 60
python3 benchmarks/real/digits_translate.py --quick     the same stages in a few minutes; its figures mean nothing

MNIST and FSDD are joined by their class: each training picture has a recording of the same digit, drawn anew in each of
``PAIRINGS`` rows. Training recordings are also there at other speeds and levels; nothing else is varied. Splits are
those of ``digits.py``; only 1,000 of the dev pictures are used.

One model translates. What it made is named by two classifiers trained apart, on real pictures and recordings alone;
``judges`` says how often they are right about the test sets, about recordings that went through log-mel magnitudes and
back (``inverted``), and about what the codecs make of the test sets (``coded``): no translation can be much better.
Every picture and sound is one draw, at the temperature given; words are the likeliest. ``joint`` samples begin with one
field from nothing, then the second is made from the first and the third from both; all three must be the same digit.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _judges
import _stages
import _steps
import digits
import numpy as np

FIELDS = ("text", "image", "audio")
PAIRINGS = 2
VARIANTS = 7
"""Of each training recording, besides itself."""
DEV = 1_000
RATE = 8_000
SOUND = {"sample_rate_hz": RATE, "channels": 1, "mels": 64, "window": 512, "hop": 96, "patch_frames": 4}
"""48 ms per position. Windows of 64 ms tell all mels apart; the hop is short enough for phases to be found again."""
CODECS = {
    "image": ("codebook.groups=2",),
    "audio": (*(f"preprocessor.{name}={value}" for name, value in SOUND.items()), "codebook.groups=4"),
}
CODEC_MINUTES = {"image": 4.0, "audio": 8.0}
READER = tuple(f"towers.audio.preprocessor.{name}={value}" for name, value in SOUND.items())
READER_MINUTES = 10.0
MODEL = ("depth=4", "plan.alone=0.08", "dropout=0.1", "longest=48")
ASKED = {
    "text>image": 95.0,
    "image>audio": 95.0,
    "audio>image": 95.0,
    "audio>text": 95.0,
    "image>text": 0.0,
    "text>audio": 0.0,
}
"""Direction -> the coherence asked in percent; 0 where none is."""
JOINT = 85.0
PUBLISHED = "MMVAE on MNIST-SVHN: 86 and 69 % across, 42 % joint"
AT_ONCE = 10  # samples drawn with one seed: each word once; the next ones draw otherwise


def recordings(shared: Path, folder: Path, variants: int) -> dict[tuple[str, int], list[str]]:
    """Writes the recordings and returns (split, digit) -> their paths; of training ones further ``variants``."""
    from intermodal.modalities.audio import Audio

    draws = np.random.default_rng(0)
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    rows = _steps.read_rows(shared / "fsdd" / "pairs.jsonl")
    with zipfile.ZipFile(shared / "fsdd" / "audio.zip") as archive:
        archive.extractall(folder, [row["audio"] for row in rows])
    (folder / "varied").mkdir(exist_ok=True)
    for row in rows:
        split = "dev" if 5 <= row["take"] < 10 else row["split"]
        paths = found[split, row["digit"]]
        paths.append(row["audio"])
        if split == "train" and variants:
            real = Audio.open(folder / row["audio"])
            for i in range(variants):
                path = f"varied/{Path(row['audio']).stem}-{i}.flac"
                Audio(_stages.spoken_otherwise(real.samples, RATE, draws, 0.12), RATE).save(folder / path)
                paths.append(path)
    return found


def prepare(shared: Path, work: Path, limit: int | None = None, variants: int = VARIANTS) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``mnist`` and ``fsdd``.
        work: where to write.
        limit: pictures per split; None for all.
        variants: of each training recording.
    """

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        sounds = recordings(shared, folder, variants)
        draws = np.random.default_rng(1)
        count: dict[tuple[str, int], int] = defaultdict(int)
        for row in digits.pictures(shared, folder, limit):
            split, digit = row["split"], row["digit"]
            if split == "dev" and sum(n for (name, _), n in count.items() if name == "dev") >= DEV:
                continue
            choices = sounds[split, digit]
            for _ in range(PAIRINGS if split == "train" else 1):
                at = count[split, digit]
                count[split, digit] += 1
                path = choices[int(draws.integers(len(choices))) if split == "train" else at % len(choices)]
                yield {**row, "audio_file_name": path, "about": {"recording": path}}

    name = "digits-paired" + (f"-{limit}" if limit is not None else "")
    return _steps.prepared(work / name, shared / "mnist", write)


def codec(kind: str, data: Path, out: Path, minutes: float) -> Path:
    """Returns the folder of the codec of one field, trained if it is not there."""
    changes = _stages.sets(*CODECS[kind], f"train.minutes={minutes:g}", "train.learning_rate=4e-3")
    return _stages.trained(
        out / f"codec-{kind}", ["train", "codec", "--data", str(data), "--fields", kind, "--batch", "64", *changes]
    )


def model_of(data: Path, out: Path, codecs: dict[str, Path], minutes: float) -> Path:
    """Returns the folder of the model that translates; what reads, and it, are trained if they are not there."""
    source = ["--data", str(data), "--fields", ",".join(FIELDS)]
    changes = _stages.sets(*READER, f"train.minutes={min(READER_MINUTES, minutes):g}")
    reader = _stages.trained(out / "reader", ["train", "clip", *source, *changes])
    parts = ["--part", f"reader={reader}"]
    parts += [word for kind, folder in codecs.items() for word in ("--part", f"codecs.{kind}={folder}")]
    changes = _stages.sets(*MODEL, f"train.minutes={minutes:g}")
    source += ["--batch", "64"]
    return _stages.trained(out / "model", ["train", "unified", *source, *parts, *changes])


def judges(data: Path, out: Path, steps: dict[str, int]) -> dict[str, tuple[Any, Any]]:
    """Returns field -> a classifier and what prepares items for it; taught if they are not there."""
    import torch

    from intermodal.data.folder import Folder
    from intermodal.modalities.audio import AudioPreprocessor
    from intermodal.modalities.image import ImagePreprocessor

    prepares: dict[str, Any] = {
        "image": ImagePreprocessor(height=32, width=32, patch=8),
        "audio": AudioPreprocessor(sample_rate_hz=RATE, mels=48, window=256, hop=80, patch_frames=1),
    }
    fresh = {"image": _judges.Looker((10,)), "audio": _judges.Listener((10,), 48)}

    def real(name: str) -> Any:
        source = Folder(data, "train", ["text", name])
        seen: dict[str, int] = {}
        for i in range(0, len(source), 2 * PAIRINGS if name == "image" else 1):  # every second picture is enough
            about = source.metadata(i)
            key = about["about"]["recording"] if name == "audio" else str(i)
            if not key.startswith("varied"):  # what is varied is up to the judge
                seen.setdefault(key, i)
        samples = source.samples(list(seen.values()))
        labels = torch.tensor([[digits.WORDS.index(sample["text"].text)] for sample in samples])
        return [sample[name] for sample in samples], labels

    return {
        name: (
            _judges.kept_judge(
                out / f"judge-{name}.safetensors", judge, lambda name=name: real(name), prepares[name], steps[name]
            ),
            prepares[name],
        )
        for name, judge in fresh.items()
    }


def named(field: str, items: Sequence[Any], judged_by: dict[str, tuple[Any, Any]]) -> np.ndarray:
    """Returns the digit that each item is, -1 for words that are none."""
    if field == "text":
        return np.array([digits.WORDS.index(item.text) if item.text in digits.WORDS else -1 for item in items])
    return _judges.judged(*judged_by[field], items)[:, 0].numpy()


def made(model: Any, samples: Sequence[Any], to: str, temperature: float, count: int) -> list[Any]:
    """Returns what the model makes of samples: the likeliest words, or the best of ``count`` drawn media."""
    from intermodal.sampling.autoregressive import Sampling

    result: list[Any] = []
    for start in range(0, len(samples), AT_ONCE):
        here = list(samples[start : start + AT_ONCE])
        nothing = not any(here)
        drawn = Sampling(temperature, top_p=1.0 if nothing else 0.95, seed=1 + start)
        sampling = Sampling() if to == "text" and not nothing else drawn
        if nothing:  # one sample, many draws
            result += [each.item for each in model.candidates(here[:1], to, sampling=drawn, count=len(here))[0]]
        else:
            best = count if to != "text" else 1
            result += [each[0].item for each in model.candidates(here, to, sampling=sampling, count=best)]
        print(f"{to}: {len(result)} of {len(samples)} made", file=sys.stderr, flush=True)
    return result


def asked_of(data: Path, source: str, samples: int) -> tuple[list[Any], np.ndarray]:
    """Returns test items of a field and their digits: each word equally often, pictures spread, recordings once."""
    from intermodal.data.folder import Folder
    from intermodal.modalities.text import Text

    if source == "text":
        labels = np.arange(samples) % 10
        return [Text(digits.WORDS[label]) for label in labels], labels
    test = Folder(data, "test")
    index = np.unique(np.linspace(0, len(test) - 1, min(samples, len(test))).astype(int)).tolist()
    if source == "audio":
        first: dict[str, int] = {}
        for i in range(len(test)):
            first.setdefault(test.metadata(i)["about"]["recording"], i)
        index = list(first.values())[:samples]
    found = test.samples(index)
    return [s[source] for s in found], np.array([digits.WORDS.index(s["text"].text) for s in found])


def across(model: Any, data: Path, judged_by: Any, samples: int, temperature: float, count: int) -> dict[str, Any]:
    """Returns the coherence of each direction."""
    from intermodal.evaluation.coherence import coherence

    result = {}
    for name in ASKED:
        source, to = name.split(">")
        items, labels = asked_of(data, source, samples)
        found = made(model, [{source: item} for item in items], to, temperature, count)
        result[name] = coherence(named(to, found, judged_by), labels)
    return result


def joint(model: Any, judged_by: Any, samples: int, temperature: float) -> dict[str, Any]:
    """Returns the joint coherence of samples made from nothing, for each field that they begin with."""
    from intermodal.evaluation.coherence import joint_coherence

    result = {}
    for first in FIELDS:
        rows: list[dict[str, Any]] = [{} for _ in range(samples)]
        for to in (first, *(name for name in ("image", "audio", "text") if name != first)):
            for row, item in zip(rows, made(model, [dict(row) for row in rows], to, temperature, 1), strict=True):
                row[to] = item
        result[first] = joint_coherence({n: named(n, [row[n] for row in rows], judged_by) for n in FIELDS})
    return result


def about_judges(model: Any, data: Path, judged_by: Any, samples: int) -> dict[str, Any]:
    """Returns how often the judges are right about real, inverted and coded test items."""
    result: dict[str, Any] = {}
    for name in ("image", "audio"):
        items, labels = asked_of(data, name, samples)
        part, prepare_items = model.codecs[name], model.codecs[name].config.preprocessor
        coded = part.tokens(items)
        kinds = {"real": items, "coded": part.items(coded.values, coded.mask)}
        if name == "audio":
            kinds["inverted"] = [prepare_items.invert(prepare_items([item]).values)[0] for item in items]
        for kind, each in kinds.items():
            result[f"{name}, {kind}"] = float((named(name, each, judged_by) == labels).mean())
    return result


def measured(folder: Path, data: Path, chosen: Any, steps: dict[str, int]) -> dict[str, Any]:
    """Returns all figures."""
    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)
    judged_by = judges(data, folder.parent.parent, steps)
    asked = {"model": model.fingerprint, "samples": chosen.samples, "temperature": chosen.temperature}
    numbers = (chosen.samples, chosen.temperature)
    keep, out = _stages.kept, folder.parent.parent
    return {
        "judges": keep(out / "about-judges.json", asked, lambda: about_judges(model, data, judged_by, chosen.samples)),
        "across": keep(
            out / "across.json",
            {**asked, "count": chosen.count},
            lambda: across(model, data, judged_by, *numbers, chosen.count),
        ),
        "joint": keep(out / "joint.json", asked, lambda: joint(model, judged_by, *numbers)),
    }


def figures(found: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Returns name -> percent and what was asked."""
    result = {}
    for name, each in found["across"].items():
        asked = f"≥ {ASKED[name]:g}" if ASKED[name] else "-"
        result[f"digits.translate.{name.replace('>', '_to_')}"] = (100 * each["coherence"], asked)
    for first, each in found["joint"].items():
        result[f"digits.translate.joint_from_{first}"] = (100 * each["joint_coherence"], f"≥ {JOINT:g}; MMVAE 42")
    for name, value in found["judges"].items():
        result[f"digits.translate.judge_right.{name.replace(', ', '_')}"] = (100 * value, "-")
    return {name: (round(value, 2), asked) for name, (value, asked) in result.items()}


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        minutes={"type": float, "default": 60.0, "help": "of training the model (default: %(default)s)"},
        samples={"type": int, "default": 1000, "help": "made in each direction (default: %(default)s)"},
        temperature={"type": float, "default": 0.8, "help": "of drawing (default: %(default)s)"},
        count={"type": int, "default": 1, "help": "draws, of which the model takes the best (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few seconds for each stage"},
    )
    steps = {"image": 2500, "audio": 2500}
    if chosen.quick:
        chosen.minutes, chosen.samples, steps = 0.2, 20, {"image": 20, "audio": 20}
    data = prepare(chosen.shared, chosen.work, *((100, 0) if chosen.quick else ()))
    if chosen.prepare_only:
        print(data)
        return
    out = chosen.work / "runs" / f"{data.name}-translate"
    spent = {kind: 0.1 if chosen.quick else minutes for kind, minutes in CODEC_MINUTES.items()}
    codecs = {kind: codec(kind, data, out, minutes) for kind, minutes in spent.items()}
    found = measured(model_of(data, out, codecs, chosen.minutes), data, chosen, steps)
    values = figures(found)
    for name, (value, asked) in values.items():
        wanted = asked.removeprefix("≥ ").split(";")[0]
        verdict = "" if wanted == "-" else f"  asked {asked}: {_stages.wanted_or_not(value, float(wanted))}"
        print(f"{name:48} {value:6.2f} %{verdict}", file=sys.stderr)
    print(f"published: {PUBLISHED}", file=sys.stderr)
    print(json.dumps({"figures": {name: value for name, (value, _) in values.items()}, "results": found}))
    if chosen.record and not chosen.quick:
        flags = f"--minutes {chosen.minutes:g} --temperature {chosen.temperature:g} --count {chosen.count} --record"
        _steps.keep(values, flags)


if __name__ == "__main__":
    main()
