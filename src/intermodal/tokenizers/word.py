"""Whole words: the smallest vocabulary for a closed world or a small set of captions.

Text is lower-cased and split into words, English clitics (``'s``, ``'ll``) and single punctuation marks; blanks are not
kept. A word outside the vocabulary becomes one unknown id. Simplified: no stemming, no sub-words.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from intermodal.errors import InvalidValue
from intermodal.tokenizers import content

SPECIALS = ("<pad>", "<begin>", "<end>", "<unknown>")
"""What ids 0 to 3 stand for; none of them can be a word, because splitting takes the brackets off."""

_PIECE = re.compile(r"\w+|'(?:s|t|re|ve|m|ll|d)\b|[^\w\s]")
_LEFTWARD = frozenset(".,;:!?)]}")  # written close to the word before


def split_words(text: str) -> list[str]:
    """Returns the lower-cased words, clitics and punctuation marks of ``text`` in order."""
    return _PIECE.findall(text.lower())


@dataclass(frozen=True)
class WordTokenizer:
    """Words to ids by a fixed list.

    Attributes:
        words: the vocabulary; ``words[i]`` has id ``i + 4``. Distinct, each as ``split_words`` gives it.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that every word can occur."""
        for word in self.words:
            if split_words(word) != [word]:
                raise InvalidValue(
                    f"{word!r} cannot be a word of the vocabulary: text splits into {split_words(word)}; give single "
                    "lower-case words or punctuation marks"
                )
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InvalidValue(f"the word {twice!r} is in the vocabulary more than once; give each word once")

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, count_min: int = 1) -> "WordTokenizer":
        """Returns the tokenizer of the most frequent words of ``texts``; equally frequent ones go by alphabet.

        Args:
            texts: any number of texts; read once.
            vocab_size: at most so many ids, the four special ones among them.
            count_min: words that occur less often are left out.

        Raises:
            InvalidValue: ``vocab_size`` leaves no room for a word, or ``count_min`` is below 1.
        """
        if vocab_size <= len(SPECIALS) or count_min < 1:
            raise InvalidValue(
                f"vocab_size is {vocab_size} and count_min {count_min}; give a vocab_size above {len(SPECIALS)} "
                "(the special ids) and a count_min of at least 1"
            )
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split_words(text))
        ranked = sorted((-count, word) for word, count in counts.items() if count >= count_min)
        return cls(tuple(word for _, word in ranked[: vocab_size - len(SPECIALS)]))

    @property
    def vocab_size(self) -> int:
        """Number of ids, the four special ones included."""
        return len(SPECIALS) + len(self.words)

    @property
    def pad_id(self) -> int:
        """0."""
        return 0

    @property
    def begin_id(self) -> int:
        """1."""
        return 1

    @property
    def end_id(self) -> int:
        """2."""
        return 2

    @property
    def unknown_id(self) -> int:
        """3, the id of every word outside the vocabulary."""
        return 3

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, len(SPECIALS))}

    def encode(self, text: str) -> list[int]:
        """Returns begin, one id per word, clitic or punctuation mark, end."""
        ids = self._ids
        return [1, *[ids.get(piece, 3) for piece in _PIECE.findall(text.lower())], 2]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the words up to the first end, a blank between them but none before ``.,;:!?`` and clitics.

        Encoding that again gives the same ids, unless there were unknown words: these read ``<unknown>``.

        Raises:
            InvalidValue: an id is outside ``range(vocab_size)``.
        """
        text = ""
        for i in content(self, ids):
            word = SPECIALS[3] if i == self.unknown_id else self.words[i - len(SPECIALS)]
            close = not text or word in _LEFTWARD or (word[0] == "'" and len(word) > 1)
            text += word if close else " " + word
        return text


TOKENIZER = WordTokenizer
