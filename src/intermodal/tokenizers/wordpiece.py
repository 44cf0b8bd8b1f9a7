"""Pieces of words, as BERT and what came of it read text: greedily the longest piece that the vocabulary has.

Text is cleaned of control characters, lower-cased, its accents are taken off, and it is split at blanks, around every
punctuation mark and every Chinese character. A word that no pieces make up becomes one unknown id. On purpose,
``[MASK]`` written in a text is text and never the special id.

Source: Devlin et al. 2018, arXiv 1810.04805, section 3, after Wu et al. 2016, arXiv 1609.08144, section 4.1. Left out:
vocabularies that tell capitals apart.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.tokenizers import content

PAD, UNKNOWN, BEGIN, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
LONGEST = 100
"""Characters beyond which a word is unknown."""

_CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)),
    *((0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)  # as the published tokenizers have it


def _splits(sign: str) -> bool:
    """Returns whether a character is a word of its own: punctuation, any visible sign of ASCII, a Chinese character."""
    code = ord(sign)
    if code < 128:
        return code > 32 and not sign.isalnum()
    return unicodedata.category(sign).startswith("P") or any(low <= code <= high for low, high in _CHINESE)


def split_words(text: str) -> list[str]:
    """Returns the lower-cased words and signs of ``text`` in order, without accents."""
    kept = (" " if sign.isspace() else sign for sign in text if sign.isspace() or not _is_control(sign))
    plain = unicodedata.normalize("NFD", "".join(kept))
    plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Mn").lower()
    return "".join(f" {sign} " if _splits(sign) else sign for sign in plain).split()


def _is_control(sign: str) -> bool:
    """Returns whether a character is dropped: control, format, or the sign of broken text."""
    return sign in "\0\ufffd" or unicodedata.category(sign).startswith("C")


@dataclass(frozen=True)
class WordPieceTokenizer:
    """Pieces of words to ids by a fixed list.

    Attributes:
        pieces: ``pieces[i]`` has id ``i``; what goes on within a word begins with ``##``. Distinct, and the special
            ones [PAD], [UNK], [CLS] and [SEP] are among them.
    """

    pieces: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that the special pieces are there and none is there twice."""
        missing = [piece for piece in (PAD, UNKNOWN, BEGIN, END) if piece not in self._ids]
        if missing or len(self._ids) != len(self.pieces):
            raise InvalidValue(
                f"the vocabulary of {len(self.pieces)} pieces lacks {', '.join(missing) or 'none'} and has "
                f"{len(self.pieces) - len(self._ids)} twice; give each piece once, the special ones too"
            )

    @classmethod
    def from_folder(cls, folder: Path) -> "WordPieceTokenizer":
        """Returns the tokenizer of a published folder: ``vocab.txt``, else the vocabulary in ``tokenizer.json``.

        Raises:
            InvalidCheckpoint: it holds neither, or what it holds is no such vocabulary.
        """
        try:
            if (folder / "vocab.txt").exists():
                pieces = (folder / "vocab.txt").read_text("utf-8").split("\n")
                return cls(tuple(pieces[:-1] if pieces[-1] == "" else pieces))
            found = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
            return cls(tuple(sorted(found, key=found.__getitem__)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidCheckpoint(
                f"{folder} holds no vocabulary of word pieces ({error}); put the vocab.txt of the BERT that the "
                "weights were made from beside them"
            ) from error

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special ones included."""
        return len(self.pieces)

    @property
    def pad_id(self) -> int:
        """Id that fills rows."""
        return self._ids[PAD]

    @property
    def begin_id(self) -> int:
        """Id before every text."""
        return self._ids[BEGIN]

    @property
    def end_id(self) -> int:
        """Id after every text."""
        return self._ids[END]

    @property
    def mask_id(self) -> int:
        """Id that stands for a hidden piece; that of an unknown word where there is none."""
        return self._ids.get(MASK, self._ids[UNKNOWN])

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        """Returns begin, the ids of all pieces, end."""
        return [self.begin_id, *(i for word in split_words(text) for i in self._pieces_of(word)), self.end_id]

    def _pieces_of(self, word: str) -> Iterator[int]:
        """Yields the ids of a word's pieces, or the one of an unknown word."""
        found, start = [], 0
        while start < len(word) <= LONGEST:
            before = "##" if start else ""
            stop = next((e for e in range(len(word), start, -1) if before + word[start:e] in self._ids), 0)
            if not stop:
                break
            found.append(self._ids[before + word[start:stop]])
            start = stop
        yield from found if start == len(word) else [self._ids[UNKNOWN]]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text up to the first end: pieces of a word together, a blank between words and signs.

        Raises:
            InvalidValue: an id is outside ``range(vocab_size)``.
        """
        return " ".join(self.pieces[i] for i in content(self, ids)).replace(" ##", "")


TOKENIZER = WordPieceTokenizer
