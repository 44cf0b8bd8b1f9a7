"""Word vectors learnt here beside random ones and counts of words: do captions of one photograph find each other?

python3 benchmarks/word_vectors.py             about 5 minutes on 2 cores
python3 benchmarks/word_vectors.py --quick     a few seconds; its figures mean nothing

Skip-gram learns from the captions of Flickr8k's 6,000 training photographs. Of each of the 1,000 test photographs the
first caption asks, the four others of all photographs are searched; right is any of its own. Every text is the mean of
its words' vectors, less the mean of all texts, and the cosine decides. ``random`` are vectors of the same words and
width that were never trained: what the words themselves tell. ``counts`` weighs each word by how rare it is (tf-idf).
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent / "real"))
import _steps

TOP = (1, 10)


def found_by(rows: np.ndarray, photographs: int) -> dict[str, float]:
    """Returns Recall@k in percent; ``rows`` holds five captions of each photograph, one photograph after the other."""
    centred = rows - rows.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    asks = np.arange(photographs) * 5
    rest = np.setdiff1d(np.arange(len(rows)), asks)
    ranked = np.argsort(-(unit[asks] @ unit[rest].T), axis=1, kind="stable")[:, : max(TOP)]
    right = rest[ranked] // 5 == np.arange(photographs)[:, None]
    return {f"recall_at_{k}": 100 * float(right[:, :k].any(axis=1).mean()) for k in TOP}


def counted(texts: list[str], known: list[str]) -> np.ndarray:
    """Returns tf-idf rows of texts; how rare a word is, is taken from ``known`` texts."""
    from intermodal.tokenizers.word import split_words

    seen = Counter(word for text in known for word in set(split_words(text)))
    place = {word: i for i, word in enumerate(seen)}
    rows = np.zeros((len(texts), len(place)), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in split_words(text):
            if word in place:
                row[place[word]] += np.log(len(known) / seen[word])
    return rows


def measured(shared: Path, quick: bool, epochs: int) -> dict[str, Any]:
    """Returns the figures of each kind of vectors, and a few words with their neighbours."""
    import torch

    from intermodal.encoders.word_vectors import WordVectorEncoder, WordVectors
    from intermodal.modalities.text import Text, TextPreprocessor
    from intermodal.training.skipgram import SkipGram, train_vectors

    rows = _steps.read_rows(shared / "flickr8k" / "pairs.jsonl")
    kinds = {split: [row["captions"] for row in rows if row["split"] == split] for split in ("train", "test")}
    train, test = ([text for captions in kinds[split] for text in captions[:5]] for split in ("train", "test"))
    if quick:
        train, test, epochs = train[:2000], test[:250], 1
    start = time.monotonic()
    learnt = train_vectors(train, SkipGram(epochs=epochs))
    seconds = time.monotonic() - start
    draws = np.random.default_rng(0).normal(size=learnt.table.shape).astype(np.float32)
    tokenizer = learnt.tokenizer()
    make = TextPreprocessor(tokenizer, 64)

    def rows_of(vectors: WordVectors) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = WordVectorEncoder(tokenizer, vectors)(make([Text(t) for t in test])).pooled.numpy()
        return found

    photographs = len(test) // 5
    return {
        "skipgram": found_by(rows_of(learnt), photographs),
        "random": found_by(rows_of(WordVectors(learnt.words, draws)), photographs),
        "counts": found_by(counted(test, train), photographs),
        "seconds": seconds,
        "words": len(learnt.words),
        "near": {word: [one for one, _ in learnt.nearest(word, 5)] for word in ("dog", "red", "running")},
    }


def main() -> None:
    """Learns, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        epochs={"type": int, "default": 5, "help": "times that each caption is seen (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few captions, once"},
    )
    found = measured(chosen.shared, chosen.quick, chosen.epochs)
    for kind in ("skipgram", "random", "counts"):
        print(f"{kind:9}", "  ".join(f"{name} {value:.1f} %" for name, value in found[kind].items()))
    print(json.dumps(found))
    if chosen.record and not chosen.quick:
        sys.path.append(str(_steps.ROOT / "tools"))
        from figures import record

        command = f"python3 benchmarks/word_vectors.py --epochs {chosen.epochs} --record"
        for kind in ("skipgram", "random", "counts"):
            for name, value in found[kind].items():
                asked = f"above {found['random'][name]:.1f} (random)" if kind == "skipgram" else "-"
                record(f"word_vectors.{kind}.{name}", round(value, 1), "%", asked, command)


if __name__ == "__main__":
    main()
