"""Published SigLIP 2 weights of native resolution (NaFlex): pictures of nearly any shape and texts in one space.

What comes out embeds, scores and classifies; a probability is each label's own, as with ``siglip``. A picture keeps its
proportions and becomes as many patches as fit. Folders of fixed resolution are of the type "siglip". Left out:
training.

Source: Tschannen et al. 2025, arXiv 2502.14786.
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
from intermodal.adapters.siglip import sigmoid
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.modalities.image import Image
from intermodal.types import Batch, Grid

PLACES = 64
"""Ids of a text, as the weights were trained."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures as patches, each with the rows and columns of patches that its picture has.

    Attributes:
        made: the library's preparation.
    """

    modality: ClassVar[str] = "image"
    made: Any

    @property
    def layout(self) -> Grid:
        """A row of patches."""
        return Grid(1, 3 * int(self.made.patch_size) ** 2 + 2, (1,))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, numbers + 2, patches)``: of each patch its colours, then the rows and columns of the picture.

        Raises:
            InvalidValue: an item is no picture, or there is none.
        """
        if not items or not all(isinstance(item, Image) for item in items):
            kinds = sorted({type(item).__name__ for item in items})
            raise InvalidValue(f"pictures were expected, not {', '.join(kinds) or 'nothing'}")
        made = self.made([Pillow.fromarray(item.pixels) for item in items], return_tensors="pt")
        patches: Tensor = made["pixel_values"].float()
        shapes = made["spatial_shapes"].float()[:, None].expand(-1, patches.shape[1], -1)
        return Batch(torch.cat((patches, shapes), dim=2).transpose(1, 2), made["pixel_attention_mask"].bool())


def load(folder: Path) -> Dual:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """

    def read(config: Any) -> dict[str, Reading]:
        words, seen = config.text_config, config.vision_config
        tokens = _tokens.load(folder, "PreTrainedTokenizerFast", words.vocab_size)
        texts = _tokens.Texts(tokens, min(PLACES, words.max_position_embeddings), whole=True, lower=True)
        made = _transformers.preparation(folder, ("Siglip2ImageProcessorPil",))
        if made.patch_size != seen.patch_size:
            raise InvalidCheckpoint(
                f"{folder} cuts pictures into patches of {made.patch_size} and its network reads {seen.patch_size}; "
                "use the preprocessor_config.json that belongs to it"
            )
        return {
            "image": Reading(Pictures(made), _look),
            "text": Reading(texts, lambda network, batch: network.get_text_features(batch.values)),
        }

    return _dual.load(folder, "Siglip2Model", read, sigmoid)


def _look(network: Any, batch: Batch) -> Any:
    """Returns the vectors of pictures."""
    patches, shapes = batch.values[:, :-2].transpose(1, 2), batch.values[:, -2:, 0].long()
    return network.get_image_features(patches, batch.mask.long(), shapes)
