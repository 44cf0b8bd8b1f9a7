"""Scores that mean the same whatever the modality: how far a cosine stands above what is usual for its pair.

Cosines between modalities are not comparable: in most models all pictures lie in one cone and all texts in another, so
that every text is nearer to every text than to its own picture. So a score is ``(cosine - centre) / spread`` of the
background: the cosines that items of the query's modality usually have with items of the hit's. Both come from a fair
sample of the store, the median and the median deviation, which true matches in the sample hardly move. Where the store
holds too few items of the query's modality (only pictures, searched by text), the query's own cosines with the sample
are the background. Within one modality the order of scores is that of cosines, because a spread is above 0.

The sample is drawn by the items' ids, so equal stores give equal scores, whatever the order they were filled in; it
is kept in memory and drawn again when the store changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
from jaxtyping import Float

SAMPLE = 256  # items per modality
_ASKERS_MIN = 32  # fewer items of the query's modality say too little of what is usual
_PRIOR = 8.0  # weight, in cosines, of the spread that unrelated directions have
_DEVIATION = 1.4826  # median deviation to standard deviation, of a normal distribution


@dataclass(frozen=True, eq=False)
class Background:
    """A sample of a store.

    Attributes:
        vectors: modality -> unit vectors of at most ``SAMPLE`` items.
    """

    vectors: Mapping[str, Float[np.ndarray, "N D"]]
    _known: dict[tuple[str, str], tuple[float, float]] = dataclass_field(default_factory=dict)

    def usual(self, query: Float[np.ndarray, " D"], asker: str, modality: str) -> tuple[float, float]:
        """Returns centre and spread of the cosines that are usual.

        Args:
            query: unit vector.
            asker: its modality; empty where that is not known.
            modality: of the items to score.
        """
        askers = self.vectors.get(asker)
        if askers is None or len(askers) < _ASKERS_MIN:
            return _centre_and_spread(self.vectors[modality] @ query, len(query))
        key = (asker, modality)
        if key not in self._known:
            cosines = askers @ self.vectors[modality].T
            others = ~np.eye(len(cosines), dtype=bool) if asker == modality else np.ones(cosines.shape, bool)
            self._known[key] = _centre_and_spread(cosines[others], len(query))
        return self._known[key]


def _centre_and_spread(cosines: Float[np.ndarray, " N"], dimension: int) -> tuple[float, float]:
    """Returns the median and the deviation; of few cosines the deviation is drawn to that of unrelated directions."""
    centre = _median(cosines)
    deviation = _DEVIATION * _median(np.abs(cosines - centre))
    count = len(cosines)
    return centre, float(np.sqrt((count * deviation**2 + _PRIOR / dimension) / (count + _PRIOR)))


def _median(values: Float[np.ndarray, " N"]) -> float:
    """Returns the median; ``np.median`` takes five times as long over so few, at every search."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    ordered = np.partition(values, (half - 1, half))
    return (float(ordered[half - 1]) + float(ordered[half])) / 2
