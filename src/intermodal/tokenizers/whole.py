"""Whole texts: each of a closed list is one id, such as the answers that a classifier chooses from.

Capitals and runs of blanks do not count. A text outside the list becomes one unknown id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from intermodal.errors import InvalidValue
from intermodal.tokenizers import content

SPECIALS = ("<pad>", "<begin>", "<end>", "<unknown>")
"""What ids 0 to 3 stand for; they stand around and beside the texts, so any text can be in the list."""


def plain(text: str) -> str:
    """Returns a text as it is looked up: without capitals, one blank between words."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class WholeTokenizer:
    """Whole texts to ids by a fixed list.

    Attributes:
        texts: ``texts[i]`` has id ``i + 4``; no two that differ in capitals or blanks alone.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks that each text is there once."""
        seen: set[str] = set()
        for text in self.texts:
            if plain(text) in seen:
                raise InvalidValue(f"the text {text!r} is in the list more than once; give each once")
            seen.add(plain(text))

    @property
    def vocab_size(self) -> int:
        """Number of ids, the four special ones included."""
        return len(SPECIALS) + len(self.texts)

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
        """3, the id of every text outside the list."""
        return 3

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {plain(text): i for i, text in enumerate(self.texts, len(SPECIALS))}

    def encode(self, text: str) -> list[int]:
        """Returns begin, the id of the text, end."""
        return [1, self._ids.get(plain(text), 3), 2]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the texts up to the first end, a blank between them; an unknown one reads ``<unknown>``.

        Raises:
            InvalidValue: an id is outside ``range(vocab_size)``.
        """
        return " ".join((*SPECIALS, *self.texts)[i] for i in content(self, ids))


TOKENIZER = WholeTokenizer
