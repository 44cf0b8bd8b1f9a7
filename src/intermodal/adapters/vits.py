"""Published VITS weights, those of MMS among them: words to speech.

A text is spoken sentence by sentence, each by itself, with a short silence between them. What is drawn (rhythm, and how
exactly it sounds) depends on the seed and the sentence alone. Left out: folders whose texts have to be turned into
phonemes or Latin letters first, unless the package that the library takes for it is installed.

Source: Kim et al. 2021, arXiv 2106.06103; Pratap et al. 2023, arXiv 2305.13516.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.modalities.audio import Audio
from intermodal.types import Item

PAUSE_S = 0.2
"""Silence between two sentences."""

LONG = 100_000
"""Letters of a text that is counted; what is spoken is never cut."""


@dataclass(frozen=True)
class Spoken:
    """What is known of the sounds that come out.

    Attributes:
        sample_rate_hz: their rate.
    """

    modality: ClassVar[str] = "audio"
    sample_rate_hz: int


class Voice(_transformers.Published):
    """Translates: text to speech. ``speaker`` chooses among several, ``rate`` how fast they speak (1: as trained)."""

    directions = (("text", "speech"), ("text", "audio"))

    def __init__(self, folder: Path, network: Any, texts: _tokens.Texts) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            texts: reads words.
        """
        spoken = Spoken(int(network.config.sampling_rate))
        super().__init__(folder, network, {"text": texts, "speech": spoken, "audio": spoken})
        self.sample_rate_hz = spoken.sample_rate_hz
        self.tokenizer = texts.tokenizer
        self.speaker = 0
        self.rate = float(network.config.speaking_rate)

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns each text, spoken.

        Args:
            items: texts.
            to: "speech", or "audio", which is the same.
            source: "text", if anything.
            sampling: its seed is that of what is drawn, and its temperature, where above 0, how freely; default: the
                folder's, with seed 0.
            count: is not looked at, since nothing here says which of several is better.

        Raises:
            Unsupported: another direction.
            InvalidValue: a text has nothing that can be spoken, or ``speaker`` is none.
        """
        self.check(items, to, source)
        return [whole(item, lambda one: self._speak(one, sampling), self.sample_rate_hz) for item in items]

    @torch.no_grad()
    def _speak(self, sentence: str, sampling: Any) -> np.ndarray:
        """Returns the samples of one sentence; none where it has no letter that is known."""
        ids = self.tokenizer.encode(sentence)
        if not any(i not in (self.tokenizer.pad_id, 0) for i in ids):
            return np.zeros(0, np.float32)
        config = self.network.config
        if not 0 <= self.speaker < max(1, config.num_speakers):
            raise InvalidValue(f"speaker is {self.speaker}; this model has {config.num_speakers}, counted from 0")
        given: dict[str, Any] = {"speaker_id": self.speaker} if config.num_speakers > 1 else {}
        free = 1.0 if sampling is None or sampling.temperature == 0 else float(sampling.temperature)
        self.network.noise_scale = config.noise_scale * free
        self.network.noise_scale_duration = config.noise_scale_duration * free
        with _transformers.drawing(sampling):
            made = self.network(torch.tensor([ids], device=self.device), speaking_rate=self.rate, **given)
        samples: np.ndarray = made.waveform[0].float().cpu().numpy()
        return samples.clip(-1.0, 1.0)


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, with their ends; lines end sentences too."""
    return [part.strip() for part in re.split(r"(?<=[.!?…。！？])\s+|\n+", text) if part.strip()]


def whole(item: Any, speak: Callable[[str], np.ndarray], sample_rate_hz: int) -> Audio:
    """Returns a text, spoken sentence by sentence.

    Args:
        item: a text.
        speak: a sentence -> its samples; none where it has nothing to say.
        sample_rate_hz: of the samples.

    Raises:
        InvalidValue: it has nothing that can be spoken.
    """
    text = getattr(item, "text", "")
    parts = [part for part in map(speak, sentences(text)) if len(part)]
    if not parts:
        raise InvalidValue(f"{text[:80]!r} has no letter that this voice speaks; give words in its language")
    gap = np.zeros(round(PAUSE_S * sample_rate_hz), np.float32)
    return Audio(np.concatenate([piece for part in parts for piece in (part, gap)][:-1]), sample_rate_hz)


def load(folder: Path) -> Voice:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    network = _transformers.load(folder, "VitsModel")
    tokens = _tokens.load(folder, "VitsTokenizer", network.config.vocab_size)
    for setting, package in (("phonemize", "phonemizer"), ("is_uroman", "uroman")):
        if getattr(tokens.made, setting, False) and find_spec(package) is None:
            raise InvalidCheckpoint(
                f"{folder} was trained on texts that the package {package!r} prepares ({setting} in "
                f"tokenizer_config.json): run  pip install {package}  or take a folder that reads letters"
            )
    return Voice(folder, network, _tokens.Texts(tokens, LONG))
