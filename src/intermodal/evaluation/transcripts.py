"""Transcripts: word and character error rate, with what kind of errors they are.

An error is a token put for another (substitution), one too many (insertion) or one too few (deletion); counted are the
fewest that turn the reference into the transcript, and of several such ways the one with most substitutions. A rate is
errors per token of the references, over the whole corpus, so it can exceed 1.

Case and punctuation count as errors only where ``tokenize`` keeps them; the default drops them. Spelling is compared as
it stands: "5" for "five" is an error.

Source: Levenshtein 1966; the rates as in speech recognition, e.g. Morris et al. 2004, Interspeech, section 2.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from intermodal.errors import InvalidValue
from intermodal.evaluation.captions import Tokenize, words


@dataclass(frozen=True)
class Edits:
    """How a transcript differs from its reference, in tokens."""

    substitutions: int
    insertions: int
    deletions: int

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.insertions + self.deletions


def edits(transcript: Sequence[Hashable], reference: Sequence[Hashable]) -> Edits:
    """Returns the fewest edits that turn ``reference`` into ``transcript``; of several such, fewest that shift."""
    # Substituting costs K and shifting K + 1, where K is more than all shifts together: the total then holds both the
    # number of edits and that of shifts, and the lengths say how many of those are insertions.
    k = len(transcript) + len(reference) + 1
    numbers = {token: i for i, token in enumerate({*transcript, *reference})}
    ids = np.array([numbers[token] for token in transcript], dtype=np.int64)
    ramp = np.arange(len(transcript) + 1, dtype=np.int64) * (k + 1)
    row = ramp.copy()
    for token in reference:
        substituted = row[:-1] + k * (ids != numbers[token])
        row += k + 1  # deleted
        np.minimum(row[1:], substituted, out=row[1:])
        row = np.minimum.accumulate(row - ramp) + ramp  # inserted
    count, shifts = divmod(int(row[-1]), k)
    insertions = (shifts + len(transcript) - len(reference)) // 2
    return Edits(substitutions=count - shifts, insertions=insertions, deletions=shifts - insertions)


def characters(text: str) -> list[str]:
    """Returns the characters of a text in lower case, runs of white space as one space, none at the ends."""
    return list(" ".join(text.lower().split()))


def word_error_rate(
    transcripts: Sequence[str], references: Sequence[str], tokenize: Tokenize = words
) -> dict[str, float]:
    """Returns ``word_error_rate``, the three kinds of errors as shares too, ``sentence_error_rate`` and the counts.

    Raises:
        InvalidValue: no texts, other numbers of both, or references without a single word.
    """
    return _rates("word", transcripts, references, tokenize)


def character_error_rate(
    transcripts: Sequence[str], references: Sequence[str], tokenize: Tokenize = characters
) -> dict[str, float]:
    """Returns ``character_error_rate``, the three kinds of errors as shares too, ``sentence_error_rate`` and counts.

    Raises:
        InvalidValue: no texts, other numbers of both, or references without a single character.
    """
    return _rates("character", transcripts, references, tokenize)


def _rates(unit: str, transcripts: Sequence[str], references: Sequence[str], tokenize: Tokenize) -> dict[str, float]:
    if not transcripts or len(transcripts) != len(references):
        raise InvalidValue(
            f"there are {len(transcripts)} transcripts and {len(references)} references; give one of each, at least one"
        )
    wanted = [tokenize(text) for text in references]
    total = sum(map(len, wanted))
    if not total:
        raise InvalidValue(f"the {len(references)} references hold no {unit} at all; errors are counted per {unit}")
    found = [edits(tokenize(text), tokens) for text, tokens in zip(transcripts, wanted, strict=True)]
    return {
        f"{unit}_error_rate": sum(e.errors for e in found) / total,
        "substitution_rate": sum(e.substitutions for e in found) / total,
        "insertion_rate": sum(e.insertions for e in found) / total,
        "deletion_rate": sum(e.deletions for e in found) / total,
        "sentence_error_rate": sum(e.errors > 0 for e in found) / len(found),
        "count": float(len(found)),
        f"{unit}_count": float(total),
    }
