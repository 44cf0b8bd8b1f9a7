"""Tokenizers of published folders, by the interface of ours, and texts as published networks read them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from intermodal.adapters._transformers import library, quiet
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.media.source import printable
from intermodal.modalities.text import Text
from intermodal.types import Batch, Symbols


@dataclass(frozen=True, eq=False)
class Tokens:
    """A tokenizer of the library, by the interface of ours; used by one thread at a time, since it keeps settings.

    Attributes:
        made: the library's.
    """

    made: Any
    lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.made)

    @property
    def pad_id(self) -> int:
        """Id that fills rows; 0 where it has none."""
        return int(self.made.pad_token_id or 0)

    @property
    def begin_id(self) -> int:
        """Id before a text; -1 where it has none."""
        return _id(self.made, "bos", "cls")

    @property
    def end_id(self) -> int:
        """Id after a text; -1 where it has none."""
        return _id(self.made, "eos", "sep")

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, with those that stand around it."""
        with self.lock:
            return list(self.made(text)["input_ids"])

    def rows(self, texts: Sequence[str], longest: int, whole: bool) -> tuple[Tensor, Tensor]:
        """Returns ids and mask ``(B, T)``, cut to ``longest``, filled to it where ``whole``."""
        with self.lock:
            made = self.made(
                list(texts),
                padding="max_length" if whole else True,
                truncation=True,
                max_length=longest,
                return_attention_mask=True,
            )
        return torch.tensor(made["input_ids"]), torch.tensor(made["attention_mask"]).bool()

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, special ones left out."""
        with self.lock:
            return str(self.made.decode(list(ids), skip_special_tokens=True))


def _id(made: Any, *names: str) -> int:
    """Returns the first id that is there; -1 for none."""
    found = (getattr(made, f"{name}_token_id", None) for name in names)
    return next((int(i) for i in found if i is not None), -1)


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts to ids, as a published model reads them.

    Attributes:
        tokenizer: gives the ids.
        tokens_max: a longer text is cut to so many.
        whole: the model reads padding too, always up to ``tokens_max``.
        lower: texts are lower-cased first.
    """

    modality: ClassVar[str] = "text"
    tokenizer: Tokens
    tokens_max: int
    whole: bool = False
    lower: bool = False

    @property
    def layout(self) -> Symbols:
        """Ids of the tokenizer."""
        return Symbols(self.tokenizer.vocab_size)

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ids ``(B, T)``; ``None`` gives a row whose mask is False.

        Raises:
            InvalidValue: an item is no text, or there is none.
        """
        if not items or not all(item is None or isinstance(item, Text) for item in items):
            kinds = sorted({type(item).__name__ for item in items})
            raise InvalidValue(f"texts were expected, not {', '.join(kinds) or 'nothing'}")
        texts = [item.text if item else "" for item in items]
        values, mask = self.tokenizer.rows(
            [t.lower() for t in texts] if self.lower else texts, self.tokens_max, self.whole
        )
        there = torch.tensor([item is not None for item in items])
        return Batch(values, (mask | self.whole) & there[:, None])

    def invert(self, values: Int64[Tensor, "B T"]) -> list[Text]:
        """Returns the text of each row."""
        return [Text(printable(self.tokenizer.decode(row)).strip()) for row in values.tolist()]


def load(folder: Path, kind: str, rows: int) -> Tokens:
    """Returns the tokenizer in a folder.

    Args:
        folder: a published one.
        kind: the library's class; ``PreTrainedTokenizerFast`` reads ``tokenizer.json`` as it is.
        rows: ids that the network knows.

    Raises:
        InvalidCheckpoint: its files are missing or damaged, or it has ids that the network does not know.
    """
    with quiet(folder, "the tokenizer"):
        made = getattr(library(), kind).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        ids = made.get_vocab().values()
    if len(ids) < 2:
        raise InvalidCheckpoint(f"{folder} holds no tokenizer; download tokenizer.json and tokenizer_config.json too")
    if max(ids) >= rows:
        raise InvalidCheckpoint(
            f"the tokenizer in {folder} gives ids up to {max(ids)} and the network knows {rows}; use the one that "
            "belongs to it"
        )
    return Tokens(made)
