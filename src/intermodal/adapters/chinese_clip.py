"""Published Chinese-CLIP weights: pictures and Chinese texts in one space.

What comes out embeds, scores and classifies. Left out: training.

Source: Yang et al. 2022, arXiv 2211.01335.
"""

from pathlib import Path
from typing import Any

from intermodal.adapters import _dual, _tokens, _transformers
from intermodal.adapters._dual import Dual, Reading
from intermodal.adapters.clip import PICTURES

PLACES = 52
"""Ids of a text that are read at most, as the weights were trained."""


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
        pictures = _transformers.pictures(folder, config.vision_config.image_size, PICTURES)
        return {
            "image": _dual.pictures(pictures),
            "text": _dual.words(texts),
        }

    return _dual.load(folder, "ChineseCLIPModel", read, _dual.softmax_of("logit_scale"))
