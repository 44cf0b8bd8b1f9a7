"""Word vectors: one vector per word, read from published files or learnt here, and a text as the mean of its words.

Three formats are read and told apart by their content: Word2Vec's text (a line with the two sizes, then a word and its
numbers per line) and binary (the same line, then words and little-endian float32), and GloVe's text (no such line).
``training/skipgram.py`` learns vectors from sentences.

Sources: Mikolov et al. 2013, arXiv 1301.3781 and 1310.4546; Pennington et al. 2014, "GloVe". Simplified: a text is the
plain mean; begin, end and words without a vector count for nothing. Left out: phrases, sub-words (fastText).
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from intermodal.errors import InvalidData, InvalidValue
from intermodal.layers.pooling import pool_mean
from intermodal.tokenizers.word import SPECIALS, WordTokenizer, split_words
from intermodal.types import Batch, Encoded

BYTES_MAX = 8 * 2**30  # of a file, unpacked
WIDTH_MAX = 10_000  # numbers of a vector


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: distinct.
        table: one row per word.
    """

    words: tuple[str, ...]
    table: Float32[np.ndarray, "V D"]

    def __post_init__(self) -> None:
        """Checks that each word has one finite row."""
        if self.table.ndim != 2 or len(self.words) != len(self.table) or len(set(self.words)) != len(self.words):
            raise InvalidValue(
                f"{len(self.words)} words, {len(set(self.words))} of them distinct, have a table of the shape "
                f"{self.table.shape}; give one row for each distinct word"
            )
        if not np.isfinite(self.table).all():
            raise InvalidValue("some numbers of the word vectors are not finite; train them at a lower rate")

    @property
    def width(self) -> int:
        """D."""
        return int(self.table.shape[1])

    def nearest(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """Returns the words whose vectors have the largest cosine with that of ``word``, itself left out.

        Raises:
            InvalidValue: it has no vector.
        """
        if word not in self.words:
            raise InvalidValue(f"the word {word!r} has no vector; there are {len(self.words)} words that have")
        unit = self.table / np.maximum(np.linalg.norm(self.table, axis=1, keepdims=True), 1e-12)
        own = self.words.index(word)
        cosines = unit @ unit[own]
        ranked = [i for i in np.argsort(-cosines, kind="stable").tolist() if i != own][:count]
        return [(self.words[i], float(cosines[i])) for i in ranked]

    def tokenizer(self) -> WordTokenizer:
        """Returns a tokenizer of those words that a text can be split into, in their order."""
        return WordTokenizer(tuple(word for word in self.words if split_words(word) == [word]))

    def save(self, path: str | Path, header: bool = True) -> Path:
        """Writes the text format of Word2Vec, or without ``header`` that of GloVe, and returns the path."""
        target = Path(path)
        with target.open("w", encoding="utf-8") as file:
            if header:
                file.write(f"{len(self.words)} {self.width}\n")
            for word, row in zip(self.words, self.table.tolist(), strict=True):
                file.write(f"{word} {' '.join(f'{value:.7g}' for value in row)}\n")
        return target


def read_vectors(path: str | Path, words_max: int | None = None) -> WordVectors:
    """Returns the word vectors in a file of Word2Vec (text or binary) or GloVe, packed with gzip or not.

    Of a word that is there twice the first is kept, so that the more frequent wins.

    Args:
        path: of the file.
        words_max: only so many of the first words, which are the most frequent in published files; None for all.

    Raises:
        InvalidData: the file is absent, over the limits, cut off, or holds no vectors.
    """
    data = _bytes(Path(path))
    first = data[: data.find(b"\n")].split() if b"\n" in data else []
    sized = len(first) == 2 and all(part.isdigit() for part in first)
    rows = _rows_after_sizes(data, *map(int, first)) if sized else _lines(data, 0)
    words: dict[str, int] = {}
    table: list[np.ndarray] = []
    width = int(first[1]) if sized else 0
    for word, row in rows:
        width = width or len(row)
        if len(row) != width:
            raise InvalidData(f"{path}: {word!r} has {len(row)} numbers, not {width}; is the file cut off or damaged?")
        if word not in words:
            words[word] = len(table)
            table.append(row)
        if words_max is not None and len(table) == words_max:
            break
    if not table or (sized and words_max is None and int(first[0]) > len(table)):
        said = f"{int(first[0])} words" if sized else "words"
        raise InvalidData(f"{path} should hold the vectors of {said} and holds {len(table)}; is it cut off?")
    try:
        return WordVectors(tuple(words), np.stack(table))
    except InvalidValue as error:
        raise InvalidData(f"{path}: {error}") from error


def _bytes(path: Path) -> bytes:
    """Returns the content of a file, unpacked."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidData(f"{path} cannot be read: {error}") from error
    if len(data) > BYTES_MAX:
        raise InvalidData(f"{path} holds more than {BYTES_MAX:,} bytes; cut it to the most frequent words")
    return data


def _rows_after_sizes(data: bytes, count: int, width: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the words and vectors behind a line of sizes, text or binary."""
    if not 0 < width <= WIDTH_MAX:
        raise InvalidData(f"the file says that its vectors have {width} numbers; expected 1 to {WIDTH_MAX:,}")
    start = data.find(b"\n") + 1
    line = data[start : start + 1000 + 40 * width].split(b"\n")[0].split(b" ")
    try:
        text = len([float(part) for part in line[1:] if part.strip()]) == width
    except ValueError:
        text = False
    yield from _lines(data, start) if text else _records(data, start, count, width)


def _records(data: bytes, start: int, count: int, width: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields words, each ended by a blank, and as many numbers as the file says."""
    for _ in range(count):
        end = data.find(b" ", start)
        stop = end + 1 + 4 * width
        if end < 0 or stop > len(data):
            return
        yield _word(data[start:end]), np.frombuffer(data, "<f4", width, end + 1).astype(np.float32)
        start = stop


def _lines(data: bytes, start: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a word and its numbers per line; after the first line, words may hold blanks, as some of GloVe's do."""
    width = 0
    for number, line in enumerate(data[start:].splitlines(), 1):
        parts = line.rstrip().split(b" ")
        if not line.strip():
            continue
        if len(parts) <= max(1, width):
            raise InvalidData(f"line {number} has {len(parts) - 1} numbers, not {width or 'any'}: {line[:40]!r}")
        width = width or len(parts) - 1
        try:
            row = np.array([float(part) for part in parts[-width:]], np.float32)
        except ValueError as error:
            raise InvalidData(f"line {number} holds no word and numbers: {line[:40]!r}") from error
        yield _word(b" ".join(parts[:-width])), row


def _word(data: bytes) -> str:
    return data.strip().decode("utf-8", "replace")


class WordVectorEncoder(nn.Module):
    """A text as the mean of its words' vectors: an encoder of what a ``WordTokenizer`` gives."""

    def __init__(self, tokenizer: WordTokenizer, vectors: WordVectors, frozen: bool = True) -> None:
        """Fills the table.

        Args:
            tokenizer: of the texts; a word that ``vectors`` lacks counts for nothing.
            vectors: of its words and any others.
            frozen: the vectors stay as they are.

        Raises:
            InvalidValue: none of the tokenizer's words has a vector.
        """
        super().__init__()
        self.width = vectors.width
        place = {word: i for i, word in enumerate(vectors.words)}
        known = [(i, place[word]) for i, word in enumerate(tokenizer.words, len(SPECIALS)) if word in place]
        if not known:
            raise InvalidValue(f"none of {len(tokenizer.words)} words of the tokenizer has one of these vectors")
        self.table = nn.Embedding(tokenizer.vocab_size, vectors.width)
        weight, here = torch.zeros(tokenizer.vocab_size, vectors.width), torch.zeros(tokenizer.vocab_size)
        ours, theirs = (list(column) for column in zip(*known, strict=True))
        weight[ours] = torch.from_numpy(vectors.table[theirs])
        here[ours] = 1.0
        self.table.weight = nn.Parameter(weight, requires_grad=not frozen)
        self.register_buffer("known", here > 0)

    def forward(self, batch: Batch) -> Encoded:
        """Returns a vector per id, and the mean of those that are words with vectors; zero where there is none."""
        there = batch.mask & self.get_buffer("known")[batch.values]
        tokens = self.table(batch.values) * there[..., None]
        return Encoded(tokens, batch.mask, pool_mean(tokens, there))


def shares(counts: Sequence[int], power: float) -> Float32[np.ndarray, " V"]:
    """Returns the share of each word when counts are raised to ``power``, as negatives are drawn."""
    weights = np.asarray(counts, np.float64) ** power
    found: np.ndarray = (weights / weights.sum()).astype(np.float32)
    return found
