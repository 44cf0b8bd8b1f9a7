"""Figures that hold only for one feature network: what they are, with the network and the counts beside them.

A Fréchet distance of 12 says nothing by itself: it depends on what turned the items into features, on how wide those
are, and on how many items there were. So the functions that measure on features give this record and no bare number.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Num
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array


@dataclass(frozen=True)
class FeatureFigures:
    """Figures measured on features of a named network.

    Attributes:
        figures: metric -> value.
        network: what made the features, as precisely as another person needs to repeat it: name, weights, layer.
        width: how many features an item has; for figures of class probabilities, how many classes.
        count: items judged, usually the generated ones.
        reference_count: items they were compared with; 0 where the figure needs none.
    """

    figures: dict[str, float]
    network: str
    width: int
    count: int
    reference_count: int = 0

    def __post_init__(self) -> None:
        """Checks that the network is named."""
        if not self.network.strip():
            raise InvalidValue(
                "the feature network has no name; figures on features cannot be compared without it: say which "
                "network, weights and layer"
            )

    def __str__(self) -> str:
        """Returns the figures and what they depend on, in one line."""
        against = f" against {self.reference_count:,}" if self.reference_count else ""
        values = ", ".join(f"{name} {value:.6g}" for name, value in self.figures.items())
        return f"{values} ({self.count:,} items{against}; {self.width} features of {self.network})"


def feature_rows(features: Num[Array, "N D"], what: str) -> NDArray[np.float64]:
    """Returns the features in double precision.

    Args:
        features: one row per item.
        what: whose they are, for the message.

    Raises:
        InvalidValue: there are none, or some are not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if not rows.size or not np.isfinite(rows).all():
        raise InvalidValue(
            f"the features of the {what} items, {rows.shape[0]} rows of width {rows.shape[1]}, are none or not all "
            "finite; give at least one row of numbers"
        )
    return rows
