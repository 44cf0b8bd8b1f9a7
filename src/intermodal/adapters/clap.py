"""Published CLAP weights: sounds and texts in one space.

What comes out embeds, scores and classifies. Sounds become log-mel magnitudes by the library's extractor with the
numbers of the folder; shorter ones are repeated as it says. Changed, so that a sound has one vector: of a longer sound
the beginning is read, where the library draws a random part. A library of media cuts long sounds into windows anyway.

Source: Wu et al. 2022, arXiv 2211.06687.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from intermodal.adapters import _dual, _tokens, _transformers
from intermodal.adapters._dual import Dual, Reading
from intermodal.types import Batch, Grid

AROUND = 2
"""Places of the text tower that no text fills: it counts its positions from the padding's id on."""


@dataclass(frozen=True, eq=False)
class Sounds:
    """Sounds to log-mel magnitudes, as the network reads them.

    Attributes:
        made: the library's extractor.
    """

    modality: ClassVar[str] = "audio"
    made: Any

    @property
    def seconds_max(self) -> float:
        """Longer sounds are cut there."""
        return float(self.made.max_length_s)

    @property
    def layout(self) -> Grid:
        """Frames and mels, in one channel, or in four equal ones where the network joins parts of long sounds."""
        frames = self.made.nb_max_samples // self.made.hop_length + 1
        return Grid(2, 4 if self.made.truncation == "fusion" else 1, (frames, int(self.made.feature_size)))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, C, frames, mels)``, each sound one token.

        Raises:
            InvalidValue: an item is no sound.
        """
        rate, longest = self.made.sampling_rate, self.made.nb_max_samples
        sounds = [_transformers.waveform(item, rate)[:longest] for item in items]
        values = self.made(sounds, sampling_rate=rate, return_tensors="pt")["input_features"].float()
        return Batch(values, torch.ones(len(items), 1, dtype=torch.bool))


def load(folder: Path) -> Dual:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """

    def read(config: Any) -> dict[str, Reading]:
        words = config.text_config
        tokens = _tokens.load(folder, "AutoTokenizer", words.vocab_size)
        texts = _tokens.Texts(tokens, words.max_position_embeddings - AROUND)
        sounds = Sounds(_transformers.extractor(folder, "ClapFeatureExtractor"))
        return {
            "audio": Reading(sounds, _heard),
            "text": _dual.words(texts),
        }

    return _dual.load(folder, "ClapModel", read, _dual.softmax_of("logit_scale_a"))


def _heard(network: Any, batch: Batch) -> Any:
    """Returns the vectors of sounds, none of which is longer than the network reads."""
    longer = torch.zeros(batch.values.shape[0], 1, dtype=torch.bool, device=batch.values.device)
    return network.get_audio_features(batch.values, is_longer=longer)
