"""Published wav2vec 2.0 weights with a CTC head: speech to words, letter by letter.

Each sound is read by itself, since the network reads padding too; a long one in windows of half a minute, cut where it
is quiet. Left out: language models beside it, and several candidates: the likeliest letter of each frame is taken.

Source: Baevski et al. 2020, arXiv 2006.11477; Graves et al. 2006, "Connectionist temporal classification".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.errors import Unsupported
from intermodal.media.source import printable
from intermodal.modalities.text import Text
from intermodal.types import Batch, Grid, Item

WINDOW_S = 30.0
SPARE = ("wav2vec2.masked_spec_embed",)
"""Read in training alone; the first published files do not have it."""


@dataclass(frozen=True, eq=False)
class Waves:
    """Sounds to samples, as the network reads them.

    Attributes:
        made: the library's extractor.
        shortest: samples that the network needs at least.
    """

    modality: ClassVar[str] = "audio"
    made: Any
    shortest: int

    @property
    def sample_rate_hz(self) -> int:
        """Sounds are resampled to it."""
        return int(self.made.sampling_rate)

    @property
    def layout(self) -> Grid:
        """Samples of one channel."""
        return Grid(1, 1, (1,))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, 1, S)``, the shorter ones filled with silence whose mask is False.

        Raises:
            InvalidValue: an item is no sound.
        """
        rows = [self.values(_transformers.waveform(item, self.sample_rate_hz))[0] for item in items]
        lengths = torch.tensor([len(row) for row in rows])
        values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)[:, None]
        return Batch(values, torch.arange(values.shape[2]) < lengths[:, None])

    def values(self, samples: np.ndarray) -> torch.Tensor:
        """Returns ``(1, S)`` of one sound."""
        whole = np.pad(samples, (0, max(0, self.shortest - len(samples))))
        values: torch.Tensor = self.made(whole, sampling_rate=self.sample_rate_hz, return_tensors="pt")["input_values"]
        return values


class Recogniser(_transformers.Published):
    """Translates: audio to text."""

    directions = (("audio", "text"),)

    def __init__(self, folder: Path, network: Any, waves: Waves, tokenizer: _tokens.Tokens) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            waves: reads sounds.
            tokenizer: of letters.
        """
        super().__init__(folder, network, {"audio": waves})
        self.waves, self.tokenizer = waves, tokenizer

    @torch.no_grad()
    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns what is said in each sound.

        Args:
            items: sounds of any length.
            to: "text".
            source: "audio", if anything.
            sampling: must choose the likeliest.
            count: must be 1.

        Raises:
            Unsupported: another direction, drawing, or several candidates.
        """
        self.check(items, to, source)
        if count != 1 or (sampling is not None and sampling.temperature > 0):
            raise Unsupported(
                f"this model takes the likeliest letter of each moment, so it gives 1 candidate at temperature 0, not "
                f"{count} at {getattr(sampling, 'temperature', 0)}"
            )
        result: list[Item] = []
        for item in items:
            samples = _transformers.waveform(item, self.waves.sample_rate_hz)
            parts = []
            for start, stop in _transformers.windows(samples, self.waves.sample_rate_hz, WINDOW_S):
                logits = self.network(self.waves.values(samples[start:stop]).to(self.device)).logits[0]
                parts.append(printable(self.tokenizer.decode(logits.argmax(dim=-1).tolist())).strip())
            result.append(Text(" ".join(part for part in parts if part)))
        return result


def load(folder: Path) -> Recogniser:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    network = _transformers.load(folder, "Wav2Vec2ForCTC", SPARE)
    tokens = _tokens.load(folder, "Wav2Vec2CTCTokenizer", network.config.vocab_size)
    shortest = 1
    for kernel, stride in zip(reversed(network.config.conv_kernel), reversed(network.config.conv_stride), strict=True):
        shortest = (shortest - 1) * stride + kernel
    waves = Waves(_transformers.extractor(folder, "Wav2Vec2FeatureExtractor"), shortest)
    return Recogniser(folder, network, waves, tokens)
