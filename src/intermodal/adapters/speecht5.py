"""Published SpeechT5 weights for speech from words, with their vocoder: words to speech, in the voice of a vector.

    words ─ encoder ─ decoder, frame by frame, in the voice of ``speaker`` ─ mel frames ─ vocoder ─ samples

The vocoder is another folder (``speecht5_hifigan``): inside this one as ``vocoder``, or beside it by its own name. The
voice is a vector such as those of the x-vectors of CMU Arctic: ``speaker.npy`` in this folder, or set by hand. A text
is spoken sentence by sentence. Part of the decoder drops out at random even when it speaks, as published: what is
drawn depends on the seed and the sentence alone. Left out: speech to words and speech to speech, refused by name.

Source: Ao et al. 2022, arXiv 2110.07205; the vocoder: Kong et al. 2020, arXiv 2010.05646.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._files import read_object
from intermodal.adapters._frozen import optional
from intermodal.adapters.vits import Spoken, whole
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.types import Item

KIND = "SpeechT5ForTextToSpeech"
VOCODER = "speecht5_hifigan"
VOICE = "speaker.npy"


class Voice(_transformers.Published):
    """Translates: text to speech. ``speaker`` is the vector of the voice, and may be set."""

    directions = (("text", "speech"), ("text", "audio"))

    def __init__(self, folder: Path, network: Any, vocoder: nn.Module, texts: _tokens.Texts) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            vocoder: mel frames to samples.
            texts: reads words.
        """
        spoken = Spoken(int(vocoder.config.sampling_rate))  # type: ignore[union-attr, arg-type]
        super().__init__(folder, network, {"text": texts, "speech": spoken, "audio": spoken})
        self.vocoder, self.tokenizer = vocoder, texts.tokenizer
        self.sample_rate_hz = spoken.sample_rate_hz
        self.speaker: Any = None

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns each text, spoken.

        Args:
            items: texts.
            to: "speech", or "audio", which is the same.
            source: "text", if anything.
            sampling: its seed is that of what is drawn; default: 0.
            count: is not looked at, since nothing here says which of several is better.

        Raises:
            Unsupported: another direction.
            InvalidValue: a text has nothing that can be spoken or too long a sentence, or ``speaker`` is no voice.
        """
        self.check(items, to, source)
        width = int(self.network.config.speaker_embedding_dim)
        if self.speaker is None:
            raise InvalidValue(
                f"there is no voice to speak with: set model.speaker to a vector of {width} numbers, or put one into "
                f"the model's folder as {VOICE}"
            )
        voice = torch.as_tensor(np.asarray(self.speaker, np.float32)).flatten()
        if len(voice) != width or not bool(voice.isfinite().all()):
            raise InvalidValue(f"speaker has {len(voice)} numbers; this model takes {width} finite ones")
        return [whole(item, lambda one: self._speak(one, voice, sampling), self.sample_rate_hz) for item in items]

    @torch.no_grad()
    def _speak(self, sentence: str, voice: torch.Tensor, sampling: Any) -> np.ndarray:
        """Returns the samples of one sentence; none where it has no letter that is known."""
        ids = self.tokenizer.encode(sentence)
        if not any(letter.isalnum() for letter in self.tokenizer.decode(ids)):  # what is unknown is left out
            return np.zeros(0, np.float32)
        longest = int(self.network.config.max_text_positions)
        if len(ids) > longest:
            raise InvalidValue(
                f"the sentence {sentence[:40]!r} has {len(ids)} letters, and this model reads {longest}; put full stops"
            )
        with _transformers.drawing(sampling):
            made = self.network.generate_speech(
                torch.tensor([ids], device=self.device), voice[None].to(self.device), vocoder=self.vocoder
            )
        samples: np.ndarray = made.float().cpu().numpy()
        return samples.clip(-1.0, 1.0)


def load(folder: Path) -> Voice:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    _transformers.library()
    kind = (read_object(folder / "config.json").get("architectures") or [KIND])[0]
    if kind != KIND:
        raise InvalidCheckpoint(f"{folder} was written by {kind}; of SpeechT5 this package reads {KIND}")
    places = (folder / "vocoder", folder.parent / VOCODER)
    place = next((path for path in places if (path / "config.json").exists()), None)
    if place is None:
        raise InvalidCheckpoint(
            f"{folder} makes mel frames and no sound by itself; put the folder {VOCODER} into it as 'vocoder', or "
            "beside it"
        )
    network, vocoder = _transformers.load(folder, KIND), _transformers.load(place, "SpeechT5HifiGan")
    made, read = int(network.config.num_mel_bins), int(vocoder.config.model_in_dim)
    if made != read:
        raise InvalidCheckpoint(f"{folder} makes {made} mels and {place} reads {read}; use the one that belongs to it")
    optional("sentencepiece", _transformers.EXTRA, "reading the letters of this kind of weights")
    tokens = _tokens.load(folder, "SpeechT5Tokenizer", network.config.vocab_size)
    voice = Voice(folder, network, vocoder, _tokens.Texts(tokens, int(network.config.max_text_positions)))
    if (folder / VOICE).exists():
        with _transformers.quiet(folder, VOICE):
            voice.speaker = np.load(folder / VOICE, allow_pickle=False)
    return voice
