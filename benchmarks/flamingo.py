"""Flamingo on Diorama: new words and styles learnt from 0, 1, 2, 4 and 8 shots in the prompt, no weight changed.

python benchmarks/flamingo.py                        reader, language model, Flamingo, measured: 65 minutes on 2 cores
python benchmarks/flamingo.py --ablations --record   and three others without one of its parts: 2 hours more
python benchmarks/flamingo.py --reader runs/clip/model --minutes 60
python benchmarks/flamingo.py --quick                every stage in seconds: shows that it runs, and nothing else

The claim of Alayrac et al. 2022 (arXiv 2204.14198, figure 2 and table 1): the more shots the prompt has, the better new
tasks are done. Words: four made-up words that training never had are bound to colours, shapes, places or things in the
prompt alone; the likeliest of the four is taken, so that one in four is right by guessing. "possible" is what could be
known: one of the values that were not shown is as good as another. Styles: the caption is written, and right if it is
in the style of the shots word by word. "unseen pairs" are pictures of a shape in a colour that training never had.

Ablations, as in the paper's table 3: gates that are open from the start, words that look at all pictures before them,
and training on single pictures with their texts, as many pictures in all. The language model's perplexity on texts is
measured alone and inside Flamingo. What is trained or measured already is not done again.
"""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "benchmarks" / "real")]
import _stages  # noqa: E402

from figures import record  # noqa: E402

COUNTS = (0, 1, 2, 4, 8)
CHANCE = 0.25
ASKED = 85.0
BATCH = 12  # episodes: what has to be learnt needs steps, not large ones
RATES = ("train.learning_rate=5e-4", "train.matrix_rate=2.5e-3")
SPLITS = {"test": "", "compositional": "unseen_pairs."}


@dataclass(frozen=True)
class Variant:
    """A training of Flamingo.

    Attributes:
        changes: of the config.
        interleaved: the texts of an episode follow each other; else each picture is learnt with its text alone.
    """

    changes: tuple[str, ...] = ()
    interleaved: bool = True


WHOLE = "flamingo"
VARIANTS = {
    WHOLE: Variant(),
    "open_gates": Variant(("gate=2",)),
    "all_pictures": Variant(("sees=all",)),
    "single_pictures": Variant(interleaved=False),
}


def parts(arguments: argparse.Namespace) -> dict[str, Path]:
    """Returns the folders of the reader and the language model, which are trained unless they are there."""
    from intermodal.diorama.shots import SHOTS

    minutes = _stages.sets(f"train.minutes={arguments.reader_minutes:g}")
    reader = arguments.reader or _stages.trained(
        arguments.work / "reader", ["train", "clip", "--fields", "text,image", *minutes]
    )
    told = ",".join([*(f"told_{i + 1}" for i in range(SHOTS)), "told"])
    minutes = _stages.sets(f"train.minutes={arguments.language_minutes:g}")
    asked = ["train", "language", "--data", "shots", "--fields", told, "--batch", str(BATCH), *minutes]
    return {"reader": reader, "language": _stages.trained(arguments.work / "language", asked)}


def trained(name: str, found: dict[str, Path], arguments: argparse.Namespace) -> Path:
    """Returns the folder of one variant, which is trained unless it is there."""
    variant = VARIANTS[name]
    asked = ["train", "flamingo", "--data", "shots"]
    for path, folder in found.items():
        asked += ["--part", f"{path}={folder}"]
    if variant.interleaved:
        asked += ["--batch", str(BATCH)]
    else:  # as many pictures
        asked += ["--fields", "image,text", "--batch", str(9 * BATCH)]
    minutes = f"train.minutes={arguments.minutes:g}"
    return _stages.trained(arguments.work / name, [*asked, *_stages.sets(minutes, *RATES, *variant.changes)])


def possible(shots: int, words: int = 4) -> float:
    """Returns the share of new words that could be right at most, values coming in turn."""
    known = min(shots, words)
    return known / words + (words - known) / words / max(1, words - known)


def measured(model: Any, split: str, kind: str, shots: int, episodes: int) -> dict[str, float]:
    """Returns the share of episodes that are right: chosen among the words, and written without a choice."""
    from intermodal.diorama.shots import Shots

    source = Shots(split, shots=shots, kinds=(kind,), size=episodes)
    chosen = written = 0
    for start in range(0, episodes, 50):
        index = range(start, min(start + 50, episodes))
        truth = source.episodes(index)
        prompts = [{n: item for n, item in s.items() if n != "text"} for s in source.samples(index)]
        asked = [episode.question for episode in truth]
        right = [episode.answers[-1] for episode in truth]
        written += sum(a == b for a, b in zip(model.answers(prompts, asked), right, strict=True))
        if truth[0].options:
            options = [episode.options for episode in truth]
            best = model.log_likelihood(prompts, asked, options).argmax(dim=1).tolist()
            chosen += sum(o[i] == b for o, i, b in zip(options, best, right, strict=True))
    return {"chosen": chosen / episodes, "written": written / episodes}


def in_words(language: Any, kind: str, shots: int, episodes: int) -> float:
    """Returns the share of new words that a language model chooses right where pictures are described in words.

    What it cannot do in words it will not do with pictures: trained too short, it guesses among the words shown.
    """
    import torch

    from intermodal.diorama.shots import Shots
    from intermodal.modalities.text import Text

    names = [*(f"told_{i + 1}" for i in range(shots)), "told"]
    source = Shots("test", fields=names, shots=shots, kinds=(kind,), size=2 * episodes)
    index = [i for i, one in enumerate(source.episodes(range(len(source)))) if any(one.described)][:episodes]
    right = 0
    for start in range(0, len(index), 50):
        here = index[start : start + 50]
        truth, samples = source.episodes(here), source.samples(here)
        likely = []
        for way in range(len(truth[0].options)):
            told = [
                {**s, "told": Text(s["told"].text.removesuffix(e.answers[-1]) + e.options[way])}  # type: ignore[attr-defined]
                for s, e in zip(samples, truth, strict=True)
            ]
            likely.append(language.log_likelihood(told)[0])
        best = torch.stack(likely, dim=1).argmax(dim=1).tolist()
        right += sum(e.options[i] == e.answers[-1] for e, i in zip(truth, best, strict=True))
    return right / len(index)


def words_alone(folder: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Returns for each kind of words what the language model chooses right by itself, by number of shots."""
    from intermodal import runtime
    from intermodal.diorama.shots import ATTRIBUTES_OF
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)

    def make() -> dict[str, list[float]]:
        return {kind: [in_words(model, kind, shots, arguments.episodes) for shots in COUNTS] for kind in ATTRIBUTES_OF}

    asked = {"model": model.fingerprint, "episodes": arguments.episodes}
    found: dict[str, list[float]] = _stages.kept(arguments.work / "language" / "words.json", asked, make)
    means = [sum(column) / len(found) for column in zip(*found.values(), strict=True)]
    print(f"the language model in words alone: {' -> '.join(f'{value:.1%}' for value in means)}", flush=True)
    return {**found, "words": means}


def perplexity(model: Any, samples: Sequence[Any]) -> float:
    """Returns the perplexity of a language model on texts, per id."""
    likely, count = model.log_likelihood(samples)
    return math.exp(-float(likely.double().sum()) / int(count.sum()))


def untouched(model: Any, language: Any, episodes: int) -> dict[str, float]:
    """Returns the perplexity of unseen texts by the language model alone, in Flamingo, and by Flamingo itself."""
    import torch

    from intermodal.diorama.shots import SHOTS, Shots

    names = [*(f"told_{i + 1}" for i in range(SHOTS)), "told"]
    samples = Shots("test", fields=names, size=episodes).samples(range(episodes))
    last = names[-1]
    prompts = [{n: item for n, item in sample.items() if n != last} for sample in samples]
    texts = [[sample[last].text] for sample in samples]
    begins = [""] * episodes
    with torch.no_grad():
        by_flamingo = model.log_likelihood(prompts, begins, texts)
        by_itself, _ = language.log_likelihood(samples)
        before, _ = language.log_likelihood(prompts)
    gap = float((by_flamingo[:, 0].double() - (by_itself.double() - before.double())).abs().max())
    return {"alone": perplexity(language, samples), "inside": perplexity(model.language, samples), "gap": gap}


def figures(name: str, folder: Path, language: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the accuracy of one variant by split, kind and number of shots, and its perplexity on texts."""
    from intermodal import runtime
    from intermodal.diorama.shots import KINDS
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model(folder)
    model.eval()
    result: dict[str, Any] = {}
    for split in SPLITS if name == WHOLE else ("test",):
        for kind in KINDS:
            for shots in COUNTS:
                asked = {"model": model.fingerprint, "split": split, "kind": kind, "shots": shots}
                asked |= {"episodes": arguments.episodes}

                def make(split: str = split, kind: str = kind, shots: int = shots) -> dict[str, float]:
                    print(f"{name}: {split}, {kind}, {shots} shots", file=sys.stderr, flush=True)
                    return measured(model, split, kind, shots, arguments.episodes)

                path = arguments.work / name / f"measured-{split}-{kind}-{shots}.json"
                result.setdefault(split, {}).setdefault(kind, {})[str(shots)] = _stages.kept(path, asked, make)
    asked = {"model": model.fingerprint, "episodes": arguments.episodes}
    result["texts"] = _stages.kept(
        arguments.work / name / "texts.json", asked, lambda: untouched(model, load_model(language), arguments.episodes)
    )
    return result


def rates(found: dict[str, Any], split: str) -> dict[str, list[float]]:
    """Returns the accuracy by number of shots: of each kind of words, their mean, and of styles."""
    from intermodal.diorama.shots import STYLE

    rows = {}
    for kind, by_shots in found[split].items():
        way = "written" if kind == STYLE else "chosen"
        rows[kind] = [by_shots[str(shots)][way] for shots in COUNTS]
    words = [values for kind, values in rows.items() if kind != STYLE]
    return {**rows, "words": [sum(column) / len(words) for column in zip(*words, strict=True)]}


def show(every: dict[str, dict[str, Any]]) -> None:
    """Prints the tables, and whether the claims hold."""
    print("".join(f"{word:>18}" for word in ("right after", *(f"{shots} shots" for shots in COUNTS))))
    print(f"{'words possible':>18}" + "".join(f"{possible(shots):>18.1%}" for shots in COUNTS))
    for name, found in every.items():
        for split in (split for split in SPLITS if split in found):
            print(f"{name}, {split}")
            for kind, values in rates(found, split).items():
                print(f"{kind:>18}" + "".join(f"{value:>18.1%}" for value in values))
    whole = every[WHOLE]
    rows = rates(whole, "test")
    steps = rows["words"]
    rises = all(a < b for a, b in pairwise(steps[:-1])) and steps[-1] >= steps[-2] - 0.01
    print(f"words rise with shots up to what is possible: {'met' if rises else 'NOT MET'}")
    print(f"words at 8 shots {steps[-1]:.1%}: {_stages.wanted_or_not(100 * steps[-1], ASKED)} (at least {ASKED:.0f} %)")
    chance = abs(steps[0] - CHANCE) < 0.05
    print(f"words at 0 shots {steps[0]:.1%}, by guessing {CHANCE:.0%}: {'met' if chance else 'NOT MET'}")
    style = rows["style"]
    print(
        f"styles {' -> '.join(f'{v:.1%}' for v in style)}: {'met' if style[0] < style[1] <= style[-1] else 'NOT MET'}"
    )
    texts = whole["texts"]
    same = texts["alone"] == texts["inside"]
    print(
        f"perplexity on texts {texts['alone']:.6f} alone, {texts['inside']:.6f} inside: {'met' if same else 'NOT MET'}"
    )
    print(f"largest difference of a text's log-likelihood by Flamingo without pictures: {texts['gap']:.1e} nats")


def keep(every: dict[str, dict[str, Any]], command: str, note: str) -> None:
    """Records the figures."""
    for name, found in every.items():
        for split in (split for split in SPLITS if split in found):
            group = f"flamingo.{SPLITS[split]}" if name == WHOLE else f"flamingo.without.{name}."
            for kind, values in rates(found, split).items():
                for shots, value in zip(COUNTS, values, strict=True):
                    asked = "-"
                    if name == WHOLE and split == "test" and kind == "words":
                        asked = {0: "25 by guessing", 8: f"at least {ASKED:.0f}"}.get(shots, "rises")
                    told = f"{kind}, {shots} shots, {note}"
                    record(f"{group}{kind}.shots_{shots}", round(100 * value, 1), "%", asked, command, note=told)
    texts = every[WHOLE]["texts"]
    record("flamingo.perplexity.language", round(texts["alone"], 4), "", "-", command)
    record("flamingo.perplexity.inside", round(texts["inside"], 4), "", "the same", command)


def main() -> None:
    """Trains what is missing, measures, and prints a table."""
    from intermodal.runtime import cache_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", type=Path, help="a trained clip with a tower named image; default: one is trained")
    parser.add_argument("--reader-minutes", type=float, default=8.0, help="of its training")
    parser.add_argument("--language-minutes", type=float, default=10.0, help="of training the language model")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training Flamingo, and each ablation")
    parser.add_argument("--episodes", type=int, default=300, help="of each kind, for each number of shots")
    parser.add_argument("--ablations", action="store_true", help="train and measure these too")
    parser.add_argument("--work", type=Path, default=cache_folder() / "flamingo", help="where all is written")
    parser.add_argument("--quick", action="store_true", help="every stage in seconds")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if arguments.quick:
        arguments.reader_minutes = arguments.language_minutes = arguments.minutes = 0.05
        arguments.episodes, arguments.record = 4, False
        arguments.work = arguments.work / "quick"
    found = parts(arguments)
    alone = words_alone(found["language"], arguments)
    names = list(VARIANTS) if arguments.ablations else [WHOLE]
    folders = {name: trained(name, found, arguments) for name in names}
    every = {name: figures(name, folder, found["language"], arguments) for name, folder in folders.items()}
    show(every)
    if arguments.record:
        words = [word for word in sys.argv[1:] if word != "--record"]
        command = shlex.join(["python", "benchmarks/flamingo.py", *words])
        keep(every, command, f"{arguments.episodes} episodes of a kind")
        for shots, value in zip(COUNTS, alone["words"], strict=True):
            note = f"words, {shots} shots, the language model where pictures are described"
            record(f"flamingo.in_words.shots_{shots}", round(100 * value, 1), "%", "-", command, note=note)


if __name__ == "__main__":
    main()
