"""Published ALIGN weights: pictures and texts in one space.

What comes out embeds, scores and classifies. Left out: training.

Source: Jia et al. 2021, arXiv 2102.05918.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image as Pillow
from torch import Tensor

from intermodal.adapters import _dual, _tokens, _transformers
from intermodal.adapters._dual import Dual, Reading
from intermodal.errors import InvalidValue
from intermodal.modalities.image import Image
from intermodal.types import Batch, Grid

PLACES = 64
"""Ids of a text that are read at most, as the weights were trained."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures by the library's own preparation.

    Attributes:
        made: the library's.
        side: of the square that a picture becomes.
    """

    modality: ClassVar[str] = "image"
    made: Any
    side: int

    @property
    def layout(self) -> Grid:
        """Rows and columns, three colours; the whole is one token."""
        return Grid(2, 3, (self.side, self.side))

    @property
    def decoded(self) -> tuple[int, int]:
        """Height and width to decode a picture at least in."""
        return self.side, self.side

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, 3, side, side)``.

        Raises:
            InvalidValue: an item is no picture, or there is none.
        """
        if not items or not all(isinstance(item, Image) for item in items):
            kinds = sorted({type(item).__name__ for item in items})
            raise InvalidValue(f"pictures were expected, not {', '.join(kinds) or 'nothing'}")
        pictures = [Pillow.fromarray(item.pixels) for item in items]
        values: Tensor = self.made(pictures, return_tensors="pt")["pixel_values"]
        return Batch(values, torch.ones(len(items), 1, dtype=torch.bool))


def load(folder: Path) -> Dual:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """

    def read(config: Any) -> dict[str, Reading]:
        words = config.text_config
        tokens = _tokens.load(folder, "BertTokenizer", words.vocab_size)
        texts = _tokens.Texts(tokens, min(PLACES, words.max_position_embeddings))
        made = _transformers.preparation(folder, ("EfficientNetImageProcessorPil",))
        side = made.crop_size if made.do_center_crop else made.size
        pictures = Pictures(made, int(side["height"]))
        return {
            "image": _dual.pictures(pictures),
            "text": _dual.words(texts),
        }

    return _dual.load(folder, "AlignModel", read, _probabilities)


def _probabilities(network: Any, cosines: Tensor) -> Tensor:
    """Returns probabilities that add up to 1."""
    return (cosines / network.temperature).softmax(dim=-1)  # type: ignore[no-any-return]
