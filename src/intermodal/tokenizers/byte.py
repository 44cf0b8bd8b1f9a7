"""Bytes: no vocabulary to learn, every language and sign, long rows.

A text is its UTF-8 bytes. Nothing is cleaned, so that decoding gives back exactly what was encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from intermodal.tokenizers import content

SPECIALS = 3
"""Ids before the bytes: pad 0, begin 1, end 2; byte ``n`` is id ``n + 3``."""


@dataclass(frozen=True)
class ByteTokenizer:
    """UTF-8 bytes to ids; it has no settings."""

    @property
    def vocab_size(self) -> int:
        """259: three special ids and 256 bytes."""
        return SPECIALS + 256

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

    def encode(self, text: str) -> list[int]:
        """Returns begin, one id per byte, end; a lone surrogate, which UTF-8 does not have, becomes ``?``."""
        return [1, *[byte + SPECIALS for byte in text.encode("utf-8", errors="replace")], 2]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text up to the first end; bytes that are no UTF-8 (a model may make them) become U+FFFD.

        Raises:
            InvalidValue: an id is outside ``range(vocab_size)``.
        """
        return bytes(i - SPECIALS for i in content(self, ids)).decode("utf-8", errors="replace")


TOKENIZER = ByteTokenizer
