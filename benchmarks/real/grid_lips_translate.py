"""Sentences into the speech of one man and back: GRID's speaker s1, six words of a grammar of 51.

python3 benchmarks/real/grid_lips_translate.py             about 150 minutes on 2 cores: codec 20, model 100
python3 benchmarks/real/grid_lips_translate.py --quick     the same stages in a few minutes; its figures mean nothing

One model writes both ways. What it writes is scored word by word; what it says is heard by a recogniser trained apart
on the real recordings alone: it knows the grammar, and names one word for each of the six places. ``recogniser`` says
how many words it hears right in real test recordings, in such that went through log-mel magnitudes and back
(``inverted``), and in what the codec makes of them (``coded``): no speech can be heard much better. Sounds are drawn,
and of ``--count`` draws the one is taken from which the model itself reads the sentence most likely; words are the
likeliest.

480 recordings are all there is to learn from: 480 sentences of 64,000, which a model that writes knows by heart before
it listens. So training recordings are also spliced: the first words of one and the last of another, cut at the quietest
point between the words that the recogniser attends to, and kept where it hears the six words that should be there. And
each is there at other speeds and levels. Test and dev recordings are as they are, and the recogniser hears no splice
while it is taught.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import _judges
import _stages
import _steps
import numpy as np

RATE = 16_000
VARIANTS = 5
"""Of each training recording, besides itself."""
SPLICED = 6_000
"""Training recordings made of two."""
SOUND = {"sample_rate_hz": RATE, "channels": 1, "mels": 80, "window": 800, "hop": 200, "patch_frames": 4}
"""50 ms per position."""
CODEC = (*(f"preprocessor.{name}={value}" for name, value in SOUND.items()), "codebook.groups=4", "depth=2")
READER = tuple(f"towers.audio.preprocessor.{name}={value}" for name, value in SOUND.items())
MODEL = ("depth=4", "longest=64", "dropout=0.1", "plan.single=0.96", "plan.alone=0.04", "contrast=0.1")
GRAMMAR = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
"""The words of each of the six places."""
ASKED = {"speech_to_text": 95.0, "text_to_speech": 80.0}


def places(sentence: str) -> list[int]:
    """Returns which word of the grammar stands in each of the six places.

    Raises:
        ValueError: the sentence is not of the grammar.
    """
    words = sentence.split()
    if len(words) != len(GRAMMAR):
        raise ValueError(f"{sentence!r} has {len(words)} words; a sentence of this grammar has {len(GRAMMAR)}")
    return [known.index(word) for known, word in zip(GRAMMAR, words, strict=True)]


def prepare(shared: Path, work: Path, limit: int | None = None) -> Path:
    """Returns the folder of the data set, written if it is not there.

    Args:
        shared: the folder that holds ``grid_lips``.
        work: where to write.
        limit: sentences per split; None for all.
    """
    source = shared / "grid_lips"

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        rows = _steps.read_rows(source / "pairs.jsonl")
        rows = [row for name in ("train", "dev", "test") for row in [r for r in rows if r["split"] == name][:limit]]
        with zipfile.ZipFile(source / "audio.zip") as archive:
            archive.extractall(folder, [row["audio"] for row in rows])
        for row in rows:
            yield {"audio_file_name": row["audio"], "text": row["text"], "split": row["split"]}

    return _steps.prepared(work / ("grid-lips" + (f"-{limit}" if limit is not None else "")), source, write)


def enlarged(data: Path, by: tuple[Any, Any], variants: int = VARIANTS, spliced: int = SPLICED) -> Path:
    """Returns the folder of the same data with more training recordings, written if it is not there.

    Args:
        data: the folder of the real recordings.
        by: the recogniser, which says where words end.
        variants: of each training recording, at other speeds and levels.
        spliced: recordings made of two; fewer where the recogniser hears hardly any of them right.
    """

    def write(folder: Path) -> Iterator[dict[str, Any]]:
        from intermodal.modalities.audio import Audio

        draws = np.random.default_rng(0)
        shutil.copytree(data / "audio", folder / "audio", dirs_exist_ok=True)
        (folder / "made").mkdir(exist_ok=True)
        yield from _steps.read_rows(data / "metadata.jsonl")
        recordings, sentences = spoken(data, "train")
        made = ((real.resampled(RATE).samples, text) for real, text in zip(recordings, sentences, strict=True))
        again = [pair for pair in made for _ in range(variants)]
        for number, (samples, text) in enumerate(chain(again, splices(recordings, sentences, by, spliced, draws))):
            path = f"made/{number:05d}.flac"
            Audio(_stages.spoken_otherwise(samples, RATE, draws, 0.08), RATE).save(folder / path)
            yield {"audio_file_name": path, "text": text, "split": "train"}

    return _steps.prepared(data.with_name(f"{data.name}-more"), data, write)


def splices(
    recordings: Sequence[Any], sentences: Sequence[str], by: tuple[Any, Any], count: int, draws: np.random.Generator
) -> Iterator[tuple[np.ndarray, str]]:
    """Yields ``count`` recordings ``(1, S)`` made of two, with their sentences; at most 20 times so many are tried."""
    from intermodal.modalities.audio import Audio

    whole = [recording.resampled(RATE) for recording in recordings]
    ends = [cuts(recording, by) for recording in whole]
    left = count
    for _ in range(0, 20 * count, _judges.BATCH):
        found = []
        for a, b in draws.integers(len(whole), size=(_judges.BATCH, 2)).tolist():
            k = int(draws.integers(1, len(GRAMMAR)))
            first, last = ends[a][k - 1], ends[b][k - 1]
            if first and last:
                words = [*sentences[a].split()[:k], *sentences[b].split()[k:]]
                found.append((joined(whole[a].samples, first, whole[b].samples, last), " ".join(words)))
        if not found:
            continue
        heard_as = _judges.judged(*by, [Audio(samples, RATE) for samples, _ in found]).tolist()
        for (samples, text), words_heard in zip(found, heard_as, strict=True):
            if left and words_heard == places(text):
                left -= 1
                yield samples, text
        if not left:
            return


def cuts(recording: Any, by: tuple[Any, Any]) -> list[int]:
    """Returns the sample at which each of the first five words ends; 0 where the recogniser does not tell."""
    judge, prepares = by
    centres = judge.centres(*_judges.rows(prepares, [recording]))[0].tolist()
    power = np.convolve(recording.samples.mean(axis=0) ** 2, np.ones(RATE // 40), "same")
    at = [int(centre * len(power)) for centre in centres]
    margin = RATE // 50
    return [a + int(power[a:b].argmin()) if b - a > margin else 0 for a, b in pairwise(at)]


def joined(a: np.ndarray, first: int, b: np.ndarray, last: int) -> np.ndarray:
    """Returns ``a`` up to one sample and then ``b`` from another on, faded into each other over at most 5 ms."""
    over = min(RATE // 200, first, b.shape[1] - last)
    rise = np.linspace(0, 1, over, dtype=np.float32)
    middle = a[:, first - over : first] * (1 - rise) + b[:, last : last + over] * rise
    return np.concatenate((a[:, : first - over], middle, b[:, last + over :]), axis=1)


def spoken(data: Path, split: str) -> tuple[list[Any], list[str]]:
    """Returns the recordings of a split and their sentences."""
    from intermodal.data.folder import Folder

    source = Folder(data, split)
    samples = source.samples(range(len(source)))
    return [sample["audio"] for sample in samples], [sample["text"].text for sample in samples]


def recogniser(data: Path, out: Path, steps: int) -> tuple[Any, Any]:
    """Returns what hears the six words, and what prepares recordings for it; taught if it is not there."""
    import torch

    from intermodal.modalities.audio import AudioPreprocessor

    def real() -> Any:
        recordings, sentences = spoken(data, "train")
        return recordings, torch.tensor([places(sentence) for sentence in sentences])

    fresh = _judges.Listener([len(words) for words in GRAMMAR], 64, 192)
    prepares = AudioPreprocessor(sample_rate_hz=RATE, mels=64, window=400, hop=160, patch_frames=1)
    return _judges.kept_judge(out / "recogniser.safetensors", fresh, real, prepares, steps), prepares


def heard(items: Sequence[Any], sentences: Sequence[str], by: tuple[Any, Any]) -> dict[str, float]:
    """Returns the share of the words, in all and in each place, that a recogniser hears in items as they were asked."""
    found = _judges.judged(*by, items).numpy()
    right = found == np.array([places(sentence) for sentence in sentences])
    names = ("command", "colour", "preposition", "letter", "digit", "adverb")
    each = {name: float(share) for name, share in zip(names, right.mean(axis=0), strict=True)}
    return {"words": float(right.mean()), **each, "count": float(right.size)}


def about_recogniser(model: Any, data: Path, by: tuple[Any, Any]) -> dict[str, Any]:
    """Returns what the recogniser hears in real, inverted and coded test recordings."""
    items, sentences = spoken(data, "test")
    codec = model.codecs["audio"]
    prepares = codec.config.preprocessor
    coded = codec.tokens(items)
    kinds = {
        "real": items,
        "inverted": [prepares.invert(prepares([item]).values)[0] for item in items],
        "coded": codec.items(coded.values, coded.mask),
    }
    return {name: heard(each, sentences, by) for name, each in kinds.items()}


def written(model: Any, data: Path) -> dict[str, Any]:
    """Returns how many words of the test recordings are written right, and some of what was written."""
    from intermodal.evaluation.transcripts import word_error_rate

    items, sentences = spoken(data, "test")
    found = [item.text for item in model.translate(items, "text", source="audio")]
    rates = word_error_rate(found, sentences)
    pairs = list(zip(sentences, found, strict=True))[:10]
    return {"words": 1 - rates["word_error_rate"], **rates, "examples": pairs}


def said(model: Any, data: Path, by: tuple[Any, Any], temperature: float, count: int) -> dict[str, Any]:
    """Returns what the recogniser hears in test sentences as the model says them."""
    from intermodal.modalities.text import Text
    from intermodal.sampling.autoregressive import Sampling

    _, sentences = spoken(data, "test")
    made = []
    for i, sentence in enumerate(sentences):
        drawn = Sampling(temperature, top_p=0.95, seed=1 + i)
        made.append(model.candidates([{"text": Text(sentence)}], "audio", sampling=drawn, count=count)[0][0].item)
        print(f"said {len(made)} of {len(sentences)}", file=sys.stderr, flush=True)
    return heard(made, sentences, by)


def measured(folder: Path, data: Path, by: tuple[Any, Any], chosen: Any) -> dict[str, Any]:
    """Returns all figures."""
    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads()
    model, out = load_model(folder), folder.parent.parent
    asked = {"model": model.fingerprint}
    drawn = {**asked, "temperature": chosen.temperature, "count": chosen.count}
    return {
        "recogniser": _stages.kept(out / "recogniser.json", asked, lambda: about_recogniser(model, data, by)),
        "speech_to_text": _stages.kept(out / "written.json", asked, lambda: written(model, data)),
        "text_to_speech": _stages.kept(
            out / "said.json", drawn, lambda: said(model, data, by, chosen.temperature, chosen.count)
        ),
    }


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        minutes={"type": float, "default": 100.0, "help": "of training the model (default: %(default)s)"},
        codec_minutes={"type": float, "default": 20.0, "help": "of training the codec (default: %(default)s)"},
        temperature={"type": float, "default": 0.7, "help": "of drawing sounds (default: %(default)s)"},
        count={"type": int, "default": 4, "help": "draws, of which the model takes the best (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few seconds for each stage"},
    )
    steps = 3000
    if chosen.quick:
        chosen.minutes, chosen.codec_minutes, chosen.count, steps = 0.2, 0.2, 2, 10
    data = prepare(chosen.shared, chosen.work, 8 if chosen.quick else None)
    if chosen.prepare_only:
        print(data)
        return
    out = chosen.work / "runs" / f"{data.name}-translate"
    by = recogniser(data, out, steps)
    more = enlarged(data, by, *((1, 8) if chosen.quick else ()))
    source = ["--data", str(more), "--batch", "8" if chosen.quick else "32"]
    minutes = f"train.minutes={chosen.codec_minutes:g}"
    changes = _stages.sets(*CODEC, minutes, "train.learning_rate=4e-3")
    codec = _stages.trained(out / "codec-audio", ["train", "codec", *source, "--fields", "audio", *changes])
    source += ["--fields", "text,audio"]
    changes = _stages.sets(*READER, f"train.minutes={chosen.codec_minutes:g}")
    reader = _stages.trained(out / "reader", ["train", "clip", *source, *changes])
    changes = _stages.sets(*MODEL, f"train.minutes={chosen.minutes:g}")
    parts = ["--part", f"codecs.audio={codec}", "--part", f"reader={reader}"]
    folder = _stages.trained(out / "model", ["train", "unified", *source, *parts, *changes])
    found = measured(folder, data, by, chosen)
    values = {
        f"grid_lips.{name}.words": (round(100 * found[name]["words"], 2), f"≥ {asked:g}")
        for name, asked in ASKED.items()
    }
    for name, each in found["recogniser"].items():
        values[f"grid_lips.recogniser_hears.{name}"] = (round(100 * each["words"], 2), "-")
    for name, asked in ASKED.items():
        value = values[f"grid_lips.{name}.words"][0]
        print(f"{name}: {value:.2f} % of words, {_stages.wanted_or_not(value, asked)} ({asked:g})", file=sys.stderr)
    print(json.dumps({"figures": {name: value for name, (value, _) in values.items()}, "results": found}))
    if chosen.record and not chosen.quick:
        flags = f"--minutes {chosen.minutes:g} --temperature {chosen.temperature:g} --count {chosen.count} --record"
        _steps.keep(values, flags)


if __name__ == "__main__":
    main()
