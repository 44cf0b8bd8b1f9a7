"""The contracts that every part keeps: what flows between parts, and what a system can be asked to do.

Axes: B batch, T tokens, D width, C channels, N items. A mask is True where there is something real, and False for
padding or for an absent modality, everywhere in this package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped
from torch import Tensor

MODALITIES = ("text", "image", "audio", "video", "timeseries")


@dataclass(frozen=True)
class Grid:
    """Layout of values that lie on a grid.

    Attributes:
        rank: number of grid axes (series 1, of several sensors 2, picture and spectrogram 2, video 3).
        channels: size of the channel axis.
        patch: grid cells per token along each axis; every grid size is a multiple of it.
    """

    rank: int
    channels: int
    patch: tuple[int, ...]


@dataclass(frozen=True)
class Symbols:
    """Layout of values that are ids in ``range(vocab_size)``."""

    vocab_size: int


Layout = Grid | Symbols


@dataclass(frozen=True)
class Batch:
    """What a preprocessor gives: one row per item, padded to the longest of this batch.

    Attributes:
        values: ids ``(B, T)`` or a media grid ``(B, C, *grid)``.
        mask: True where a token (an id, or a patch of the grid in row-major order) is real. A row that is all False
            is an absent modality.
    """

    values: Shaped[Tensor, "B ..."]
    mask: Bool[Tensor, "B T"]

    def __len__(self) -> int:
        """Returns the number of rows."""
        return int(self.mask.shape[0])

    @property
    def present(self) -> Bool[Tensor, " B"]:
        """True for each row that holds an item."""
        return self.mask.any(dim=1)

    def to(self, device: torch.device | str) -> "Batch":
        """Returns the same batch on ``device``."""
        return Batch(self.values.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))

    def rows(self, index: Shaped[Tensor, " N"]) -> "Batch":
        """Returns the rows that ``index`` (ids or a boolean mask) selects."""
        return Batch(self.values[index], self.mask[index])

    def keys(self) -> Int64[Tensor, " B"]:
        """Returns a number, 0 or more, per row of ids: equal where all real ids are, else all but surely different.

        Each id is mixed with its place into 64 bits and these are added up, so padding does not matter. Source of the
        mixing: Steele et al. 2014, "Fast splittable pseudorandom number generators" (SplitMix64).
        """
        places = torch.arange(1, self.values.shape[1] + 1, device=self.values.device)
        x = self.values.long() + places * -0x61C8864680B583EB
        for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
            x = (x ^ (x >> shift & (1 << 64 - shift) - 1)) * factor
        x = x ^ (x >> 31 & (1 << 33) - 1)
        return (x * self.mask).sum(dim=1) & (1 << 63) - 1


@dataclass(frozen=True)
class Encoded:
    """What every encoder returns.

    Attributes:
        tokens: one vector per token.
        mask: True where a token is real.
        pooled: one vector per item; zero where the item is absent.
    """

    tokens: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    pooled: Float[Tensor, "B D"]


class Item(Protocol):
    """A thing a person sees, hears or reads: a frozen dataclass over a ``str`` or NumPy arrays, units in the names."""

    modality: ClassVar[str]

    @classmethod
    def open(cls, source: str | Path | bytes) -> Self:
        """Returns the item in a file or in bytes.

        Raises:
            UnreadableMedia: whatever is wrong with them.
        """
        ...

    def save(self, path: str | Path) -> Path:
        """Writes the item in the format that the suffix of ``path`` names and returns the path."""
        ...

    def _repr_html_(self) -> str:
        """Returns HTML that shows or plays the item in a notebook or report."""
        ...


Sample = Mapping[str, Item]
"""Field name -> item; a missing modality is a missing key."""


@runtime_checkable
class Preprocessor(Protocol):
    """Items -> Batch and back. A frozen dataclass of numbers and strings, saved inside the model."""

    modality: ClassVar[str]

    @property
    def layout(self) -> Layout:
        """How the values lie."""
        ...

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns one row per item; ``None`` gives a row whose mask is all False."""
        ...

    def invert(self, values: Shaped[Tensor, "B ..."]) -> list[Any]:
        """Returns the items that these values stand for."""
        ...


class Encoder(Protocol):
    """Batch -> Encoded: the same item gives the same vector alone, in any batch and beside any padding."""

    width: int

    def __call__(self, batch: Batch) -> Encoded:
        """Returns tokens, mask and pooled vectors."""
        ...


@runtime_checkable
class Trains(Protocol):
    """Can be trained."""

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns named scalar losses; the trainer minimises their sum."""
        ...


@runtime_checkable
class Represents(Protocol):
    """Trains on a loss of a few numbers per row, so that a batch can be computed in pieces, and in several processes.

    ``losses(batch)`` is ``losses_of(represent(batch))``.
    """

    def represent(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns all that the loss needs to know: name -> one entry per row; only floating point gets gradients.

        The names depend on those of the batch alone, and an entry on its own row alone.
        """
        ...

    def losses_of(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the named losses of all these rows together, wherever they were computed."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """Puts items of several modalities into one space."""

    def embed(self, items: Sequence[Item]) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given, modalities mixed at will."""
        ...


@runtime_checkable
class Scores(Protocol):
    """Says how well two lists of items fit."""

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the score of every pair; higher fits better."""
        ...


@runtime_checkable
class Codes(Protocol):
    """Turns items of one field into a few ids each, and back."""

    codes: int
    groups: int

    def tokens(self, items: Sequence[Item]) -> Batch:
        """Returns ids ``(N, T, G)`` below ``codes``, G = ``groups`` per position, and which positions are real."""
        ...

    def items(self, ids: Int[Tensor, "N T G"], mask: Bool[Tensor, "N T"] | None = None) -> list[Item]:
        """Returns the item that each row of ids stands for."""
        ...


@dataclass(frozen=True)
class Candidate:
    """One thing that a model made.

    Attributes:
        item: what it made.
        score: how good it holds it to be; higher is better, comparable between the candidates of one request.
    """

    item: Item
    score: float


@runtime_checkable
class Translates(Protocol):
    """Turns items of one field into another. A field is named like its modality where it is the only one of it."""

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The (from, to) pairs of fields it was trained for."""
        ...

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns one item of field ``to`` for each item: the best of ``count`` candidates.

        Args:
            items: N items.
            to: a field.
            source: the field that the items are of; default: by their modality.
            sampling: how ids are chosen (``sampling.autoregressive.Sampling``); default: the model's own.
            count: candidates per item.

        Raises:
            Unsupported: it was not trained for that direction.
        """
        ...


@runtime_checkable
class Completes(Protocol):
    """Makes a field of a sample from all the others that are there."""

    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` candidates for its field ``to``, best first."""
        ...


@runtime_checkable
class Answers(Protocol):
    """Answers questions about a sample."""

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words."""
        ...


SPEAKERS = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        speaker: "user" asks, "assistant" is the model, "system" says how it is to behave.
        parts: words and media, in their order.
    """

    speaker: str
    parts: tuple[Item, ...]


@dataclass(frozen=True)
class Reply:
    """What a model says next.

    Attributes:
        words: all of it.
        read: tokens of the conversation, those of its media among them.
        written: tokens of the words.
        ended: False where the words were cut at the longest allowed.
    """

    words: str
    read: int
    written: int
    ended: bool


@runtime_checkable
class Talks(Protocol):
    """Goes on with a conversation of words and media."""

    def talk(
        self,
        turns: Sequence[Turn],
        *,
        sampling: Any = None,
        longest: int | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Reply:
        """Returns what is said next.

        Args:
            turns: what was said so far; the last is that of a user.
            sampling: how ids are chosen (``sampling.autoregressive.Sampling``); default: the model's own.
            longest: tokens that are written at most; default: the model's own.
            heard: called with each piece of the words as it is written; joined they are ``Reply.words``.

        Raises:
            Unsupported: a part is of a modality that it does not read.
        """
        ...


@runtime_checkable
class Classifies(Protocol):
    """Sorts items into labels given in words."""

    def classify(self, items: Sequence[Item], labels: Sequence[str]) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each item."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """Tells of samples what it was trained to tell, from whichever of their fields are there."""

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The field that each task was learnt from -> its record (``decoders.tasks.Task``)."""
        ...

    def predict(self, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "N _"]]:
        """Returns for each task, in the order of the samples, the probability of each class or label, or the number.

        The fields that tasks are learnt from are not looked at.
        """
        ...
