"""A data source told anew: its samples with other words, as many or as few as there are for each.

Which words belong to which sample is a list of pairs. It is short beside the media, and is kept as a file of lines:

    {"sample": 17, "words": "a small red circle"}
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intermodal.data.sources import Source
from intermodal.errors import InvalidData, InvalidValue
from intermodal.modalities.text import Text
from intermodal.types import Sample


@dataclass(frozen=True)
class Told:
    """Words about a sample.

    Attributes:
        sample: its number in the source.
        words: what is said of it.
    """

    sample: int
    words: str


class Retold:
    """One sample for each pair: all that the source has of it, but in one field the words of the pair.

    Attributes:
        fields: those of the source, and the one that the words are in.
        vocabulary: every word that may occur, where the source knows; else empty.
    """

    def __init__(self, source: Source, pairs: Sequence[Told], field: str = "text") -> None:
        """Tells ``source`` anew.

        Args:
            source: where all else comes from.
            pairs: at least one, each of a sample that the source has.
            field: that the words are in.

        Raises:
            InvalidData: no pairs, or one of a sample that is not there.
        """
        outside = [pair.sample for pair in pairs if not 0 <= pair.sample < len(source)]
        if not pairs or outside:
            raise InvalidData(
                f"there are {len(pairs)} pairs, {len(outside)} of them of samples that the source of {len(source)} has "
                "not; give at least one, and the source that they were made of"
            )
        self.source, self.pairs, self.field = source, tuple(pairs), field
        self.fields = {**source.fields, field: "text"}
        self.vocabulary: tuple[str, ...] = tuple(getattr(source, "vocabulary", ()))

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.pairs)

    def describe(self) -> dict[str, Any]:
        """Returns what a report should say of this data."""
        return {**self.source.describe(), "count": len(self), "fields": self.fields, "retold": self.field}

    def texts(self, field: str, index: Sequence[int]) -> list[str]:
        """Returns the words of pairs ``index``; of another field none are known without reading samples."""
        return [self.pairs[i].words for i in index] if field == self.field else []

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the samples of pairs ``index``."""
        chosen = [self.pairs[i] for i in index]
        found = self.source.samples([pair.sample for pair in chosen])
        return [{**one, self.field: Text(pair.words)} for one, pair in zip(found, chosen, strict=True)]


def mistold(pairs: Sequence[Told], share: float, seed: int = 0) -> list[Told]:
    """Returns the pairs, of which a share got each other's words, so that these are wrong but as likely as before.

    Args:
        pairs: N of them.
        share: 0 to 1; of so many pairs, drawn at random, each gets the words of the next one.
        seed: of the draw.

    Raises:
        InvalidValue: the share is out of range, or leaves a single pair that has none to exchange with.
    """
    count = round(share * len(pairs))
    if not 0 <= share <= 1 or count == 1:
        raise InvalidValue(f"a share of {share} of {len(pairs)} pairs was to be wrong; give 0 to 1, of at least two")
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count].tolist()
    result = list(pairs)
    for here, there in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        result[here] = Told(pairs[here].sample, pairs[there].words)
    return result


def write_pairs(pairs: Iterable[Told], path: Path) -> Path:
    """Writes pairs, whole or not at all, and returns the path."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    return path


def read_pairs(path: Path) -> list[Told]:
    """Returns the pairs in a file.

    Raises:
        InvalidData: it cannot be read, or a line is no pair; names the first such line.
    """
    try:
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            row = json.loads(line)
            pair = Told(**row)
        except (ValueError, TypeError) as error:
            raise InvalidData(f"{path}, line {number} is no pair of sample and words: {line[:80]!r}") from error
        if type(pair.sample) is not int or not isinstance(pair.words, str):
            raise InvalidData(f"{path}, line {number} is no pair of sample and words: {line[:80]!r}")
        pairs.append(pair)
    return pairs
