"""CapFilt: what is said of pictures is said anew by a captioner, and a filter takes out what does not match.

    pictures ─ captioner ─ made captions ──┐
                                           ├─ filter ─ pairs to learn from, all over again
    captions that were found, many wrong ──┘

Follows: Li et al. 2022 (BLIP), arXiv 2201.12086, section 3.3 and figure 3: both come of one model that was trained on
all that was found, and are then trained further on a few pairs that are known to be right. Captions are made by nucleus
sampling, more varied than the likeliest ones, which say little new (table 2). Whatever writes and whatever judges may
be given, also two models; without a captioner the found captions are only filtered, without a filter all are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from intermodal.data.retold import Told
from intermodal.data.sources import Source
from intermodal.errors import InvalidValue
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Item, Translates

NUCLEUS = Sampling(temperature=1.0, top_p=0.9)
"""How captions are drawn in the paper."""
AT_ONCE = 64
"""Samples that are read together."""


class Matches(Protocol):
    """Judges pairs."""

    def matches(self, pictures: Sequence[Item], texts: Sequence[Item]) -> Float[Tensor, " N"]:
        """Returns for each picture and the text beside it the logarithm of the odds that they belong together."""
        ...


@dataclass(frozen=True)
class Bootstrapped:
    """What came out.

    Attributes:
        found: the pairs that were given and kept.
        made: those that were made and kept.
        judged: how many were judged of each.
    """

    found: tuple[Told, ...]
    made: tuple[Told, ...]
    judged: tuple[int, int]

    @property
    def pairs(self) -> tuple[Told, ...]:
        """All that was kept."""
        return self.found + self.made


def capfilt(
    source: Source,
    found: Sequence[Told],
    captioner: Translates | None,
    judge: Matches | None,
    sampling: Sampling = NUCLEUS,
    least: float = 0.0,
    fields: tuple[str, str] = ("image", "text"),
    progress: Callable[[float], None] | None = None,
) -> Bootstrapped:
    """Returns the pairs worth learning from.

    Args:
        source: of the pictures.
        found: what is said of them; every sample that is spoken of also gets one made caption.
        captioner: makes captions; None for none.
        judge: keeps what it holds to match; None to keep everything.
        sampling: how captions are drawn; each batch of samples with a seed of its own.
        least: log-odds above which a pair is kept.
        fields: the field of pictures, and what the captioner calls the field of captions.
        progress: called with the share that is done.

    Raises:
        InvalidValue: neither a captioner nor a judge.
    """
    if captioner is None and judge is None:
        raise InvalidValue("there is neither a captioner nor a filter, so nothing would change; give one of them")
    image, text = fields
    spoken = [(i, list(group)) for i, group in groupby(sorted(found, key=lambda p: p.sample), lambda p: p.sample)]
    kept: tuple[list[Told], list[Told]] = [], []
    judged = [0, 0]
    for start in range(0, len(spoken), AT_ONCE):
        part = spoken[start : start + AT_ONCE]
        shown: dict[int, Any] = {
            i: one[image]
            for (i, _), one in zip(part, source.samples([i for i, _ in part]), strict=True)
            if image in one  # a picture that cannot be read is said nothing of
        }
        given = [pair for i, group in part for pair in group if i in shown]
        made: list[Told] = []
        if captioner is not None and shown:
            seeded = replace(sampling, seed=sampling.seed + start)
            written: list[Any] = captioner.translate(list(shown.values()), text, sampling=seeded)
            made = [Told(i, words.text) for i, words in zip(shown, written, strict=True) if words.text]
        for number, pairs in enumerate((given, made)):
            judged[number] += len(pairs)
            kept[number].extend(_matching(pairs, shown, judge, least))
        if progress:
            progress(min(1.0, (start + AT_ONCE) / len(spoken)))
    return Bootstrapped(tuple(kept[0]), tuple(kept[1]), (judged[0], judged[1]))


def _matching(pairs: list[Told], shown: dict[int, Any], judge: Matches | None, least: float) -> list[Told]:
    """Returns the pairs that match."""
    if judge is None or not pairs:
        return pairs
    odds = judge.matches([shown[pair.sample] for pair in pairs], [Text(pair.words) for pair in pairs]).tolist()
    return [pair for pair, value in zip(pairs, odds, strict=True) if value > least]
