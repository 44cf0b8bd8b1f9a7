"""Published X-CLIP weights: clips and texts in one space.

    clip ─ frames at even distances ─ network, frames looking at each other ─┐
                                                                             ├─ unit vectors
    text ─────────────────────────── network ────────────────────────────────┘

A vector of a text knows no clip, so that a library can be searched. Where both are given, in ``score`` and
``classify``, each text is read in the light of each clip, as published. Left out: training.

Source: Ni et al. 2022, arXiv 2208.02816.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from intermodal.adapters import _dual, _tokens, _transformers
from intermodal.adapters._dual import Reading
from intermodal.adapters.clip import PICTURES
from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import prompted
from intermodal.modalities.video import Video
from intermodal.types import Batch, Grid, Item


@dataclass(frozen=True)
class Clips:
    """Clips to some frames of one size.

    Attributes:
        pictures: prepares a frame.
        frames: taken at even distances; of a shorter clip some are taken twice.
    """

    modality: ClassVar[str] = "video"
    pictures: ImagePreprocessor
    frames: int

    @property
    def layout(self) -> Grid:
        """Frames, rows and columns, three colours; the whole is one token."""
        return Grid(3, 3, (self.frames, self.pictures.height, self.pictures.width))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, 3, frames, side, side)``.

        Raises:
            InvalidValue: an item is no clip, or there is none.
        """
        if not items or not all(isinstance(item, Video) for item in items):
            kinds = sorted({type(item).__name__ for item in items})
            raise InvalidValue(f"clips were expected, not {', '.join(kinds) or 'nothing'}")
        rows = []
        for item in items:
            index = (np.arange(self.frames) * 2 + 1) * len(item.frames) // (2 * self.frames)
            rows.append(self.pictures([Image(frame) for frame in item.frames[index]]).values.transpose(0, 1))
        return Batch(torch.stack(rows), torch.ones(len(items), 1, dtype=torch.bool))


class Watcher(_dual.Dual):
    """Embeds, Scores, Classifies; a clip and a text are compared with the text read in the light of the clip."""

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair; higher fits better."""
        kinds = {item.modality for item in a}, {item.modality for item in b}
        if kinds == ({"video"}, {"text"}):
            return self._seen(a, b)
        if kinds == ({"text"}, {"video"}):
            return self._seen(b, a).T
        return super().score(a, b)

    def classify(
        self, items: Sequence[Item], labels: Sequence[str], prompts: Sequence[str] = ("{}",)
    ) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each clip, from words alone (zero-shot).

        Args:
            items: N clips.
            labels: L labels in words.
            prompts: sentences with ``{}`` in place of the label; the cosines of a label's sentences are averaged.

        Raises:
            InvalidValue: no labels, or a prompt without a place for them.
            Unsupported: an item is no clip.
        """
        asked = prompted(labels, prompts)
        if any(item.modality != "video" for item in items):
            raise Unsupported("this model sorts clips into labels; give videos")
        cosines = self._seen(items, asked).view(len(items), len(labels), len(prompts)).mean(dim=2)
        return self._probabilities(self.network, cosines)

    @torch.no_grad()
    def _seen(self, clips: Sequence[Item], texts: Sequence[Item]) -> Float[Tensor, "N M"]:
        """Returns the cosine of each clip and each text as it is read in the light of that clip."""
        words = self.preprocessors["text"](texts).to(self.device)
        rows = []
        for clip in clips:
            seen = self.preprocessors["video"]([clip]).to(self.device).values.transpose(1, 2)
            found = self.network(words.values, seen, words.mask.long())
            rows.append(F.normalize(found.text_embeds[0], dim=-1) @ F.normalize(found.video_embeds[0], dim=-1))
        return torch.stack(rows)


def load(folder: Path) -> Watcher:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    network = _transformers.load(folder, "XCLIPModel")
    words, seen = network.config.text_config, network.config.vision_config
    tokens = _tokens.load(folder, "CLIPTokenizer", words.vocab_size)
    clips = Clips(_transformers.pictures(folder, int(seen.image_size), PICTURES), int(seen.num_frames))
    readings = {
        "video": Reading(clips, lambda network, batch: network.get_video_features(batch.values.transpose(1, 2))),
        "text": _dual.words(_tokens.Texts(tokens, int(words.max_position_embeddings))),
    }
    return Watcher(folder, network, readings, _dual.softmax_of("logit_scale"))
