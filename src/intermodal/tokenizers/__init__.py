"""Text to whole numbers and back: words, bytes, and byte pairs; and codebooks, which do it with vectors.

Each is a frozen dataclass of numbers, strings and tuples of strings, so that it is saved as JSON inside the model it
belongs to. Ids in the range of ``vocab_size`` are all there is between a tokenizer of text and a model. What a codebook
holds is learnt, so its record builds a module, with an interface of its own: see ``codebook.py``.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from intermodal.errors import InvalidValue


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; the same text always gives the same ids."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; every id is in ``range(vocab_size)``."""
        ...

    @property
    def pad_id(self) -> int:
        """Id that fills a row beyond its text; its place is False in the mask."""
        ...

    @property
    def begin_id(self) -> int:
        """Id that stands before every text."""
        ...

    @property
    def end_id(self) -> int:
        """Id that stands after every text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of ``text`` between ``begin_id`` and ``end_id``."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ``ids`` up to the first ``end_id``, without begin and padding."""
        ...


def content(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[int]:
    """Gives the ids up to the first ``end_id``, without begin and padding, for a tokenizer in which these differ.

    Raises:
        InvalidValue: an id is outside ``range(vocab_size)``.
    """
    for i in ids:
        if not 0 <= i < tokenizer.vocab_size:
            raise InvalidValue(f"{i} is no id of this tokenizer; ids are 0 to {tokenizer.vocab_size - 1}")
        if i == tokenizer.end_id:
            return
        if i not in (tokenizer.pad_id, tokenizer.begin_id):
            yield i
