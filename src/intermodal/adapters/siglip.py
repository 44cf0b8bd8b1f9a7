"""Published SigLIP weights, 1 and 2 of fixed resolution: pictures and texts in one space, scored by a sigmoid.

What comes out embeds, scores and classifies. A probability is each label's own, so those of several do not add up to
1: it says whether label and picture belong together, as the loss was trained to.

Texts are lower-cased and filled up to all places, which the network reads, because both were trained so; folders of
SigLIP 2 leave the lower-casing to whoever reads them. The tokenizer is read from ``tokenizer.json`` alone. Left out:
SigLIP 2 of native resolution (``model_type`` "siglip2"), training.

Source: Zhai et al. 2023, arXiv 2303.15343; Tschannen et al. 2025, arXiv 2502.14786.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from intermodal.adapters import _dual, _tokens, _transformers
from intermodal.adapters._dual import Dual, Reading

PICTURES = {**_transformers.SQUEEZED, "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
"""How pictures are prepared where the file does not say."""


def load(folder: Path) -> Dual:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """

    def read(config: Any) -> dict[str, Reading]:
        words = config.text_config
        tokens = _tokens.load(folder, "PreTrainedTokenizerFast", words.vocab_size)
        texts = _tokens.Texts(tokens, words.max_position_embeddings, whole=True, lower=True)
        pictures = _transformers.pictures(folder, config.vision_config.image_size, PICTURES)
        return {
            "image": _dual.pictures(pictures),
            "text": Reading(texts, lambda network, batch: network.get_text_features(batch.values)),
        }

    return _dual.load(folder, "SiglipModel", read, sigmoid)


def sigmoid(network: Any, cosines: Tensor) -> Tensor:
    """Returns the probability that each pair belongs together (arXiv 2303.15343, equation 2)."""
    found: Tensor = (cosines * network.logit_scale.exp() + network.logit_bias).sigmoid()
    return found
