"""Captions of photographs from a frozen picture encoder: Flickr8k by its official splits, five references each.

python3 benchmarks/real/flickr8k_captions.py             100 minutes on 2 cores: regions 6, reader 10, model 60
python3 benchmarks/real/flickr8k_captions.py --quick     the same stages in a few minutes; its figures mean nothing

The encoder is MobileNet v2, trained on ImageNet, never on these photographs, run by the package ``ai-edge-litert``
(pip install ai-edge-litert). Its last map, 7 x 7 regions of 1,280 numbers, is reduced to ``COMPONENTS`` numbers by the
principal components of the training regions, and kept on disk as a series of 49 steps, one per region, row by row. Of a
training photograph its mirror image is kept too. The field ``regions`` is only ever read, by the tower of a CLIP that
learns the training captions first and goes on learning while captions are written.

Captions are scored whole and in words alone (lower case, no punctuation) by BLEU and CIDEr-D: ``greedy``, and the one
of ``--count`` draws that agrees most with the others (``consensus``: mean BLEU-4 against each of them, Kumar and Byrne
2004, "Minimum Bayes-risk decoding"), which looks at no reference. Numbers of draws and temperature were not chosen on
the test split: ``--split dev`` measures there.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import io
import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _stages
import _steps
import numpy as np

WEIGHTS = "mobilenet_v2_1.0_224_quant.tflite"
MAP = "MobilenetV2/Conv_1/Relu6"
SIZE, SIDE, CHANNELS = 224, 7, 1280
COMPONENTS = 256
RATE_HZ = 32.0  # that a series has to have; regions have none
FITTED_ON = 1_500  # photographs
READER = (
    *("towers.regions.preprocessor.patch=1", f"towers.regions.sizes={SIDE * SIDE}", "towers.regions.depth=2"),
    *("towers.regions.dropout=0.2", "towers.caption.dropout=0.2", "train.weight_decay=0.1"),
)
READER_MINUTES = 10.0
MODEL = ("width=256", "depth=3", "dropout=0.2", "contrast=0.1", "train.weight_decay=0.1")
ASKED = 18.0


def encoder(weights: Path) -> Any:
    """Returns picture ``(224, 224, 3)`` of bytes -> regions ``(49, 1280)``, as the frozen network has them.

    Exits where the package that runs it is not installed, or the network has no such map.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        sys.exit("the frozen encoder needs a package that is not installed: pip install ai-edge-litert")
    network = Interpreter(str(weights), experimental_preserve_all_tensors=True, num_threads=1)
    network.allocate_tensors()
    given = network.get_input_details()[0]["index"]
    shape = [1, SIDE, SIDE, CHANNELS]
    maps = [one for one in network.get_tensor_details() if list(one["shape"]) == shape and MAP in one["name"]]
    if len(maps) != 1:
        sys.exit(f"{weights} has {len(maps)} maps of the shape {shape} named {MAP}; expected one")
    scale, zero = maps[0]["quantization"]

    def regions(pixels: np.ndarray) -> np.ndarray:
        network.set_tensor(given, pixels[None])
        network.invoke()
        found = network.get_tensor(maps[0]["index"])[0].reshape(SIDE * SIDE, CHANNELS)
        return (found.astype(np.float32) - zero) * np.float32(scale)

    return regions


def components(regions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the mean of regions ``(N, C)``, their first principal components ``(C, count)``, and the share they keep.

    The components are scaled by one number, so that what they give has a mean variance of 1.
    """
    mean = regions.mean(axis=0)
    covariance = np.cov((regions - mean).T.astype(np.float64))
    variance, vectors = np.linalg.eigh(covariance)
    chosen = vectors[:, ::-1][:, :count]
    kept = variance[::-1][:count]
    scaled = chosen / np.sqrt(kept.mean())
    return mean, scaled.astype(np.float32), float(kept.sum() / variance.sum())


def photographs(
    archive: zipfile.ZipFile, rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yields each row with its picture at the size of the encoder."""
    from PIL import Image

    for row in rows:
        picture = Image.open(io.BytesIO(archive.read(row["image"]))).convert("RGB")
        yield row, np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def prepare(shared: Path, work: Path, limit: int | None = None, count: int = COMPONENTS) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``flickr8k`` and ``mobilenet_v2``.
        work: where to write.
        limit: photographs per split; None for all.
        count: numbers per region.
    """
    source = shared / "flickr8k"

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        from intermodal.modalities.timeseries import TimeSeries

        regions = encoder(shared / "mobilenet_v2" / WEIGHTS)
        splits: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
        for row in _steps.read_rows(source / "pairs.jsonl"):
            if row["split"] in splits:
                splits[row["split"]].append(row)
        splits = {name: rows[:limit] for name, rows in splits.items()}
        names = tuple(f"c{i}" for i in range(count))
        (folder / "regions").mkdir(exist_ok=True)
        with zipfile.ZipFile(source / "images.zip") as archive:
            step = max(1, len(splits["train"]) // FITTED_ON)
            some = np.concatenate([regions(pixels) for _, pixels in photographs(archive, splits["train"][::step])])
            mean, matrix, share = components(some, count)
            print(f"{count} components keep {share:.1%} of the variance of regions", file=sys.stderr)
            for split, rows in splits.items():
                for row, pixels in photographs(archive, rows):
                    for mirrored in (False, True) if split == "train" else (False,):
                        found = regions(np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels)
                        path = f"regions/{Path(row['image']).stem}{'-mirrored' if mirrored else ''}.npz"
                        values = np.ascontiguousarray(((found - mean) @ matrix).T)
                        TimeSeries(values, names, RATE_HZ).save(folder / path)
                        yield {"regions_file_name": path, "caption": row["captions"], "split": split}

    name = "flickr8k-regions" + (f"-{limit}" if limit is not None else "")
    return _steps.prepared(work / name, source, write)


def consensus(texts: Sequence[str]) -> int:
    """Returns the number of the text with the highest mean BLEU-4 (add-one smoothing) against each of the others."""
    from intermodal.evaluation.captions import bleu_of_counts, n_grams, words

    made = [words(text) for text in texts]
    grams = [[n_grams(tokens, n) for n in range(1, 5)] for tokens in made]
    totals = [[one.total() for one in each] for each in grams]
    best, highest = 0, -1.0
    for i, own in enumerate(grams):
        total = 0.0
        for j, theirs in enumerate(grams):
            if i != j and made[i] and made[j]:
                shared = [(a & b).total() for a, b in zip(own, theirs, strict=True)]
                total += bleu_of_counts(shared, totals[i], len(made[i]), len(made[j]), smooth=True)
        if total > highest:
            best, highest = i, total
    return best


def captioned(model: Any, data: Path, split: str, chosen: Any) -> dict[str, Any]:
    """Returns the captions of a split made in both ways, and their figures."""
    from intermodal.data.folder import Folder
    from intermodal.evaluation.captions import captions
    from intermodal.sampling.autoregressive import Sampling

    source = Folder(data, split, cache_bytes=0)
    references = [source.captions(i, "caption") for i in range(len(source))]
    made: dict[str, list[str]] = {"greedy": [], "consensus": []}
    for start in range(0, len(source), 32):
        index = range(start, min(start + 32, len(source)))
        asked = [{"regions": sample["regions"]} for sample in source.samples(index)]
        made["greedy"] += [row[0].item.text for row in model.candidates(asked, "caption", rows=128)]
        drawn = Sampling(chosen.temperature, seed=1 + start)
        for row in model.candidates(asked, "caption", sampling=drawn, count=chosen.count, rows=256):
            texts = [candidate.item.text for candidate in row]
            made["consensus"].append(texts[consensus(texts)])
        print(f"{split}: {len(made['greedy'])} of {len(source)} photographs", file=sys.stderr, flush=True)
    figures = {name: captions(texts, references) for name, texts in made.items()}
    return {
        "figures": figures,
        "examples": [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)][:20],
    }


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        minutes={"type": float, "default": 60.0, "help": "of training the model (default: %(default)s)"},
        temperature={"type": float, "default": 0.6, "help": "of drawing captions (default: %(default)s)"},
        count={"type": int, "default": 16, "help": "draws that must agree (default: %(default)s)"},
        split={"default": "test", "choices": ("dev", "test"), "help": "that is measured (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few seconds for each stage"},
    )
    limit = None
    if chosen.quick:
        chosen.minutes, chosen.count, limit = 0.3, 4, 24
    data = prepare(chosen.shared, chosen.work, limit)
    if chosen.prepare_only:
        print(data)
        return
    from intermodal import runtime
    from intermodal.saving import load_model

    out = chosen.work / "runs" / f"{data.name}-captions"
    source = ["--data", str(data), "--fields", "regions,caption", "--batch", "16" if chosen.quick else "64"]
    changes = _stages.sets(*READER, f"train.minutes={min(READER_MINUTES, chosen.minutes):g}")
    part = ["--part", f"reader={_stages.trained(out / 'reader', ['train', 'clip', *source, *changes])}"]
    changes = _stages.sets(*MODEL, f"train.minutes={chosen.minutes:g}")
    folder = _stages.trained(out / "model", ["train", "unified", *source, *part, *changes])
    runtime.threads()
    model = load_model(folder)
    asked = {"model": model.fingerprint, "temperature": chosen.temperature, "count": chosen.count}
    found = _stages.kept(
        out / f"captions-{chosen.split}.json", asked, lambda: captioned(model, data, chosen.split, chosen)
    )
    values: dict[str, tuple[float, str]] = {}
    for way, figures in found["figures"].items():
        name = f"flickr8k.captions.{way}"
        bleu, wanted = round(100 * figures["bleu_4"], 2), f"≥ {ASKED:g}" if way == "consensus" else "-"
        values[f"{name}.bleu_4"] = (bleu, wanted)
        values[f"{name}.cider_d"] = (round(100 * figures["cider_d"], 2), "-")
        print(f"{way}: BLEU-4 {bleu:.2f}, CIDEr-D {figures['cider_d']:.3f}", file=sys.stderr)
    verdict = _stages.wanted_or_not(values["flickr8k.captions.consensus.bleu_4"][0], ASKED)
    print(f"BLEU-4 of {ASKED:g} asked: {verdict}", file=sys.stderr)
    print(json.dumps({"figures": {name: value for name, (value, _) in values.items()}, "results": found}))
    if chosen.record and not chosen.quick and chosen.split == "test":
        flags = f"--minutes {chosen.minutes:g} --temperature {chosen.temperature:g} --count {chosen.count} --record"
        _steps.keep(values, flags)


if __name__ == "__main__":
    main()
