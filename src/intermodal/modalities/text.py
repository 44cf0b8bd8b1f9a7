"""Text: an item over a string, and its preprocessor over a tokenizer.

A text is opened from UTF-8 or, with a byte order mark, UTF-16; it is saved as UTF-8. It holds no control characters but
tabs and line ends, so whatever is saved opens again as it was.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from jaxtyping import Int64
from torch import Tensor

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.signs import binary_format
from intermodal.media.source import (
    UNPRINTABLE,
    content_hash,
    decode_text,
    printable,
    read_source,
    suffix_of,
    write_file,
)
from intermodal.tokenizers import Tokenizer
from intermodal.types import Batch, Symbols

FORMATS = ("txt", "md")
_SHOWN_MAX = 2000


@dataclass(frozen=True, repr=False)
class Text:
    """A text.

    Attributes:
        text: any string without control characters other than tabs and line ends.
    """

    modality: ClassVar[str] = "text"
    text: str

    def __post_init__(self) -> None:
        """Checks that it is a string which a text file can hold."""
        if not isinstance(self.text, str):
            raise InvalidValue(f"a text is a string, not {type(self.text).__name__}; decode bytes by Text.open")
        found = UNPRINTABLE.search(self.text)
        if found:
            raise InvalidValue(f"a text may not hold {found[0]!r} (position {found.start()}); take it out first")

    @classmethod
    def open(cls, source: str | Path | bytes) -> Self:
        """Returns the text in a file or in bytes; a table of numbers or any other text file is read as it is written.

        Raises:
            UnreadableMedia: the source cannot be read, is no text, or is in another encoding.
        """
        data, name = read_source(source)
        try:
            return cls(decode_text(data))
        except UnreadableMedia as error:
            found = binary_format(data)
            why = f"is {found[0]} ({found[1]}), no text" if found else str(error)
            raise UnreadableMedia(f"{name} {why}") from error

    def save(self, path: str | Path) -> Path:
        """Writes the text as UTF-8 and returns the path; opening it gives an equal item.

        Raises:
            InvalidValue: the suffix is neither .txt nor .md, or the folder does not exist.
        """
        suffix_of(path, FORMATS)
        mark = "\ufeff" if not self.text or self.text.startswith("\ufeff") else ""  # the reader drops the first one
        return write_file(path, (mark + self.text).encode())

    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of the modality and the text."""
        return content_hash(self.modality, self.text)

    def __repr__(self) -> str:
        """Returns the beginning of the text."""
        length = len(self.text)
        return f"Text({self.text!r})" if length <= 80 else f"Text({self.text[:77]!r}... {length:,} characters)"

    def _repr_html_(self) -> str:
        """Returns the text as a quotation; the end of a long one is left out, and said to be."""
        left = len(self.text) - _SHOWN_MAX
        more = f"<br><em>... {left:,} more characters</em>" if left > 0 else ""
        return (
            '<blockquote style="white-space:pre-wrap;overflow-wrap:anywhere;margin:0.5em 1em">'
            f"{html.escape(self.text[:_SHOWN_MAX])}{more}</blockquote>"
        )


@dataclass(frozen=True)
class TextPreprocessor:
    """Texts to ids and back.

    Attributes:
        tokenizer: gives the ids.
        tokens_max: a longer text is cut to so many ids; the last one stays the end.
    """

    modality: ClassVar[str] = "text"
    tokenizer: Tokenizer
    tokens_max: int = 64

    def __post_init__(self) -> None:
        """Checks that begin and end have room."""
        if self.tokens_max < 2:
            raise InvalidValue(f"tokens_max is {self.tokens_max}; give at least 2, for begin and end")

    @property
    def layout(self) -> Symbols:
        """Ids of the tokenizer."""
        return Symbols(self.tokenizer.vocab_size)

    def __call__(self, items: Sequence[Text | None]) -> Batch:
        """Returns ids ``(B, T)``, padded to the longest text of the batch; ``None`` gives a row of padding.

        Raises:
            InvalidValue: an item is no text, or there is none.
        """
        if not items:
            raise InvalidValue("there are no texts to preprocess; give at least one")
        rows = [self._ids(item) for item in items]
        width = max(1, max(map(len, rows)))
        pad = self.tokenizer.pad_id
        values = torch.tensor([row + [pad] * (width - len(row)) for row in rows], dtype=torch.int64)
        lengths = torch.tensor([len(row) for row in rows])
        return Batch(values, torch.arange(width) < lengths[:, None])

    def _ids(self, item: Text | None) -> list[int]:
        """Returns the ids of one text, at most ``tokens_max``, the end id last."""
        if item is None:
            return []
        if not isinstance(item, Text):
            raise InvalidValue(f"a text was expected, not {type(item).__name__}")
        ids = self.tokenizer.encode(item.text)
        return ids if len(ids) <= self.tokens_max else [*ids[: self.tokens_max - 1], ids[-1]]

    def invert(self, values: Int64[Tensor, "B T"]) -> list[Text]:
        """Returns the text of each row; what no text can hold (control characters) becomes U+FFFD."""
        pad = self.tokenizer.pad_id
        return [Text(printable(self.tokenizer.decode([i for i in row if i != pad]))) for row in values.tolist()]


def prompted(labels: Sequence[str], prompts: Sequence[str]) -> list[Text]:
    """Returns every prompt with each label in it, those of a label side by side.

    Raises:
        InvalidValue: no labels, or a prompt without a place for them.
    """
    if not labels or not prompts or any("{}" not in p for p in prompts):
        raise InvalidValue(f"classify needs labels, and prompts with {{}} for them, not {labels!r}, {prompts!r}")
    return [Text(prompt.replace("{}", label)) for label in labels for prompt in prompts]


ITEM = Text
PREPROCESSOR = TextPreprocessor
