"""Byte pairs: frequent strings become one id, everything else falls back to its bytes, so nothing is unknown.

Two writings of the same method:

- *Blanks kept* (GPT-2): a blank belongs to the word after it, so decoding gives back exactly what was encoded. This
  is what ``train`` makes.
- *Word ends marked* (CLIP): text is put in Unicode's composed form, lower-cased, runs of blanks become one, and the
  last symbol of each word carries ``</w>``. This is what ``from_clip_merges`` reads; ``from_folder`` reads both.

Left out, against the published CLIP tokenizer: its repair of broken Unicode (ftfy) and its unescaping of HTML, which
change no well-formed text. On purpose, ``<|endoftext|>`` written in a text is text and never the special id.

Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1; bytes as symbols: Radford et al. 2019, "Language models are
unsupervised multitask learners", section 2.2.
"""

import gzip
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

from intermodal.errors import InvalidCheckpoint, InvalidValue

TRAINED_SPECIALS = ("<pad>", "<begin>", "<end>")
CLIP_SPECIALS = ("<|startoftext|>", "<|endoftext|>")
CLIP_VOCAB_SIZE = 49_408
CACHED_WORDS = 2**17  # beyond so many different words the cache starts anew, so that a long stream needs no more memory


@cache
def byte_symbols() -> tuple[str, ...]:
    """Returns the printable character that stands for each of the 256 bytes in published vocabularies.

    Visible Latin-1 characters stand for themselves; the others, blanks among them, take the characters from U+0100 on.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return tuple(chr(byte) if byte in visible else chr(0x100 + hidden.index(byte)) for byte in range(256))


@cache
def _byte_of() -> dict[str, int]:
    return {symbol: byte for byte, symbol in enumerate(byte_symbols())}


_BLANK = r"[^\S\x1c-\x1f]"  # white space as Unicode has it: ``\s`` takes four control characters more


@cache
def _patterns(marked: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Returns what splits a text into pieces: for texts in ASCII, and for all others.

    A letter is Unicode's class L and a number its class N, for which ``re`` has no names. What it takes for a letter
    also holds numbers such as the Roman ones and fractions, so these are listed.
    """
    numbers = [n for n in range(0x80, sys.maxunicode + 1) if unicodedata.category(chr(n)) in ("Nl", "No")]
    starts = [n for i, n in enumerate(numbers) if i == 0 or numbers[i - 1] != n - 1]
    ends = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or numbers[i + 1] != n + 1]
    more = "".join(f"{chr(low)}-{chr(high)}" for low, high in zip(starts, ends, strict=True))
    clitic = "'(?:s|t|re|ve|m|ll|d)"
    made = []
    for letter, number, other in (
        ("[A-Za-z]", "[0-9]", r"(?:[^\sA-Za-z0-9]|[\x1c-\x1f])"),
        (rf"[^\W\d_{more}]", rf"[\d{more}]", r"(?:[^\s\w]|[_\x1c-\x1f])"),
    ):
        if marked:
            made.append(re.compile(f"{clitic}|{letter}+|{number}|{other}+"))
        else:
            made.append(re.compile(rf"{clitic}| ?{letter}+| ?{number}+| ?{other}+|{_BLANK}+(?!{other}|\w)|{_BLANK}+"))
    return made[0], made[1]


def _pieces(text: str, marked: bool) -> list[str]:
    ascii_only, any_text = _patterns(marked)
    return (ascii_only if text.isascii() else any_text).findall(text)


def _symbols(piece: str) -> list[str]:
    table = byte_symbols()
    return [table[byte] for byte in piece.encode("utf-8", errors="replace")]


@dataclass(frozen=True)
class BPETokenizer:
    """Byte-level byte-pair encoding.

    Attributes:
        merges: two symbols with a blank between them, the first merge first.
        vocabulary: the symbol of each id; holds every byte, every merge's result and the special ones.
        lower: texts are composed (NFC), lower-cased and their blanks made single before anything else.
        word_end: mark on the last symbol of a word, ``</w>``; empty where blanks are kept instead.
        begin: symbol before every text.
        end: symbol after every text.
        pad: symbol that fills rows; may be the same as ``end``.
    """

    merges: tuple[str, ...]
    vocabulary: tuple[str, ...]
    lower: bool = False
    word_end: str = ""
    begin: str = "<begin>"
    end: str = "<end>"
    pad: str = "<pad>"

    def __post_init__(self) -> None:
        """Checks that whatever is encoded has an id."""
        if len(self._ids) != len(self.vocabulary):
            twice = next(symbol for symbol, count in Counter(self.vocabulary).items() if count > 1)
            raise InvalidValue(f"the symbol {twice!r} is in the vocabulary more than once; give each symbol once")
        wanted = [*byte_symbols(), *(s + self.word_end for s in byte_symbols()), self.begin, self.end, self.pad]
        for merge in self.merges:
            if merge.count(" ") != 1:
                raise InvalidValue(f"the merge {merge!r} is not two symbols with one blank between them")
            wanted.append(merge.replace(" ", ""))
        absent = [symbol for symbol in wanted if symbol not in self._ids]
        if absent:
            raise InvalidValue(
                f"the vocabulary lacks {len(absent)} symbols that encoding can give, such as {absent[0]!r}; give every "
                "byte symbol, the result of every merge, and the special symbols"
            )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lower: bool = False) -> "BPETokenizer":
        """Returns the tokenizer that merges the most frequent pair of symbols of ``texts`` again and again.

        Of equally frequent pairs the first by alphabet is merged. Merging ends early when no pair occurs twice.

        Args:
            texts: any number of texts; read once.
            vocab_size: number of ids at most: 3 special ones, 256 bytes, the rest merges.
            lower: see the attribute; without it decoding gives back exactly what was encoded.

        Raises:
            InvalidValue: ``vocab_size`` is below 259.
        """
        base = (*TRAINED_SPECIALS, *byte_symbols())
        if vocab_size < len(base):
            raise InvalidValue(f"vocab_size is {vocab_size}; give at least {len(base)}: 3 special ids and 256 bytes")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_pieces(_clean(text) if lower else text, marked=False))
        words = [(_symbols(piece), count) for piece, count in sorted(counts.items())]
        merges, made = _learn(words, vocab_size - len(base), set(base))
        return cls(tuple(merges), (*base, *made), lower)

    @classmethod
    def from_clip_merges(cls, path: str | Path, vocab_size: int = CLIP_VOCAB_SIZE) -> "BPETokenizer":
        """Returns CLIP's tokenizer from its published list of merges, plain or gzipped.

        Args:
            path: ``bpe_simple_vocab_16e6.txt.gz``.
            vocab_size: number of ids: 512 bytes, merges, and the two special ones last.

        Raises:
            InvalidCheckpoint: the file cannot be read or holds too few merges.
        """
        lines = _read(Path(path)).splitlines()[1:]  # the first says the version
        count = max(0, vocab_size - 512 - len(CLIP_SPECIALS))
        merges = tuple(lines[:count])
        if len(merges) < count or any(merge.count(" ") != 1 for merge in merges):
            raise InvalidCheckpoint(f"{path} does not hold {count} merges of two symbols; give CLIP's list of merges")
        first = sorted(byte_symbols())  # the visible bytes, then the others: the order of the published ids
        vocabulary = (*first, *(s + "</w>" for s in first), *(m.replace(" ", "") for m in merges), *CLIP_SPECIALS)
        return cls(merges, vocabulary, True, "</w>", *CLIP_SPECIALS, CLIP_SPECIALS[1])

    @classmethod
    def from_folder(cls, path: str | Path) -> "BPETokenizer":
        """Returns the tokenizer in a published model's folder.

        It holds ``vocab.json`` and ``merges.txt``, or ``tokenizer.json``. Symbols that end in ``</w>`` say that it is
        written as CLIP's (then lower-cased), else as GPT-2's. The special symbols are those of
        ``special_tokens_map.json`` or ``tokenizer_config.json``, else CLIP's; a folder without a begin or pad symbol
        uses the end symbol for it.

        Raises:
            InvalidCheckpoint: a file is missing, cannot be read, or the ids have gaps.
        """
        folder = Path(path)
        ids, merges = _published(folder)
        if sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
            raise InvalidCheckpoint(
                f"the ids in {folder} are not 0 to {len(ids) - 1}, each once; repair the vocabulary"
            )
        names: dict[str, str] = {}
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            for role, symbol in _json(folder / file).items() if (folder / file).exists() else ():
                content = symbol.get("content") if isinstance(symbol, dict) else symbol
                if isinstance(content, str) and content in ids:
                    names[role] = content
        end = names.get("eos_token", CLIP_SPECIALS[1])
        begin = names.get("bos_token", CLIP_SPECIALS[0] if CLIP_SPECIALS[0] in ids else end)
        vocabulary = tuple(sorted(ids, key=ids.__getitem__))
        mark = "</w>" if any(symbol.endswith("</w>") for symbol in vocabulary) else ""
        try:
            return cls(merges, vocabulary, bool(mark), mark, begin, end, names.get("pad_token", end))
        except InvalidValue as error:
            raise InvalidCheckpoint(f"{folder} is no byte-level tokenizer: {error}") from error

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """Id of ``pad``."""
        return self._ids[self.pad]

    @property
    def begin_id(self) -> int:
        """Id of ``begin``."""
        return self._ids[self.begin]

    @property
    def end_id(self) -> int:
        """Id of ``end``."""
        return self._ids[self.end]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.vocabulary)}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        pairs = (merge.partition(" ") for merge in self.merges)
        return {(left, right): rank for rank, (left, _, right) in enumerate(pairs)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        return {}

    def encode(self, text: str) -> list[int]:
        """Returns begin, the ids of the pieces, end; a lone surrogate, which UTF-8 does not have, becomes ``?``."""
        known = self._known
        result = [self.begin_id]
        for piece in _pieces(_clean(text) if self.lower else text, bool(self.word_end)):
            ids = known.get(piece)
            if ids is None:
                symbols = _symbols(piece)
                symbols[-1] += self.word_end
                ids = [self._ids[symbol] for symbol in _merge(symbols, self._ranks)]
                if len(known) >= CACHED_WORDS:
                    known.clear()
                known[piece] = ids
            result += ids
        result.append(self.end_id)
        return result

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text up to the first end; bytes that are no UTF-8 (a model may make them) become U+FFFD.

        Raises:
            InvalidValue: an id is outside ``range(vocab_size)``.
        """
        if any(not 0 <= i < len(self.vocabulary) for i in ids):
            raise InvalidValue(f"{[*ids]} holds ids that this tokenizer lacks; ids are 0 to {self.vocab_size - 1}")
        rest = list(ids)[1:] if len(ids) and ids[0] == self.begin_id else list(ids)  # begin may be the same id as end
        if self.end_id in rest:
            rest = rest[: rest.index(self.end_id)]
        special = {self.begin_id, self.pad_id}
        symbols = [self.vocabulary[i] for i in rest if i not in special]
        if self.word_end:
            symbols = [s.removesuffix(self.word_end) + "Ġ" if s.endswith(self.word_end) else s for s in symbols]
        byte_of = _byte_of()
        text = bytes(byte_of[c] for symbol in symbols for c in symbol if c in byte_of).decode("utf-8", errors="replace")
        return text.rstrip(" ") if self.word_end else text


def _clean(text: str) -> str:
    return re.sub(f"{_BLANK}+", " ", unicodedata.normalize("NFC", text)).strip(" ").lower()


def _merge(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Returns the symbols after all merges: the lowest rank first, everywhere it occurs from left to right.

    A queue of pairs over a linked list, so that a piece of n bytes takes about n log n steps and not n squared.
    """
    after = list(range(1, len(symbols) + 1))
    before = list(range(-1, len(symbols) - 1))
    queue = [(ranks[pair], i, *pair) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
    heapify(queue)
    alive = list(symbols)  # a symbol merged into the one on its left becomes empty
    while queue:
        rank = queue[0][0]
        due = []
        while queue and queue[0][0] == rank:
            due.append(heappop(queue))
        for _, i, left, right in due:
            j = after[i]
            if j >= len(alive) or alive[i] != left or alive[j] != right:
                continue  # one of the two has been merged meanwhile
            alive[i], alive[j] = left + right, ""
            after[i] = after[j]
            if after[j] < len(alive):
                before[after[j]] = i
            for k, m in ((before[i], i), (i, after[i])):
                if k >= 0 and m < len(alive) and (alive[k], alive[m]) in ranks:
                    heappush(queue, (ranks[alive[k], alive[m]], k, alive[k], alive[m]))
    return [symbol for symbol in alive if symbol]


def _learn(words: list[tuple[list[str], int]], room: int, taken: set[str]) -> tuple[list[str], list[str]]:
    """Returns the merges and the new symbols, at most ``room`` of them; ``words`` are counted symbol lists."""
    counts: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, (symbols, count) in enumerate(words):
        for pair in pairwise(symbols):
            counts[pair] += count
            where[pair].add(i)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapify(queue)
    merges: list[str] = []
    made: list[str] = []
    while queue and len(made) < room:
        negative, pair = heappop(queue)
        if counts[pair] != -negative:
            continue  # counted again since; a newer entry is in the queue
        if counts[pair] < 2:
            break
        merges.append(" ".join(pair))
        whole = "".join(pair)
        if whole not in taken:
            taken.add(whole)
            made.append(whole)
        changed = set()
        for i in sorted(where.pop(pair)):
            symbols, count = words[i]
            for old in pairwise(symbols):
                counts[old] -= count
                changed.add(old)
            symbols[:] = _merge(symbols, {pair: 0})
            for new in pairwise(symbols):
                counts[new] += count
                where[new].add(i)
                changed.add(new)
        for touched in changed:
            if counts[touched] > 0:
                heappush(queue, (-counts[touched], touched))
    return merges, made


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(
            f"{path} cannot be read as a tokenizer file ({error}); give a whole, published one"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        if isinstance(error, InvalidCheckpoint):
            raise
        raise InvalidCheckpoint(f"{path} is no JSON ({error}); give a whole, published one") from error
    if not isinstance(content, dict):
        raise InvalidCheckpoint(f"{path} holds a {type(content).__name__}, not an object; give a whole, published one")
    return content


def _published(folder: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns the ids and merges in a folder of either layout."""
    if (folder / "vocab.json").exists():
        lines = _read(folder / "merges.txt").splitlines()
        start = 1 if lines and lines[0].startswith("#version") else 0
        return _json(folder / "vocab.json"), tuple(line for line in lines[start:] if line)
    whole = _json(folder / "tokenizer.json")
    try:
        added = {token["content"]: token["id"] for token in whole.get("added_tokens", [])}
        merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"])
        return {**whole["model"]["vocab"], **added}, merges
    except (KeyError, TypeError) as error:
        raise InvalidCheckpoint(f"{folder / 'tokenizer.json'} holds no byte-pair model ({error!r})") from error


TOKENIZER = BPETokenizer
