"""Published Whisper weights: speech to words, in the language that is spoken or into English.

A long sound is read in windows of half a minute, cut where it is quiet. Left out, against the published procedure: the
words before a window as its prompt, and trying again at a higher temperature where the words repeat themselves.

Source: Radford et al. 2022, arXiv 2212.04356.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.media.source import printable
from intermodal.modalities.text import Text
from intermodal.types import Batch, Grid, Item

TOGETHER = 8
"""Windows that are read at a time; does not change the result."""

TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class Said:
    """Some words and when they are said.

    Attributes:
        start_s: where they begin in the sound.
        stop_s: where they end.
        words: what is said.
    """

    start_s: float
    stop_s: float
    words: str


@dataclass(frozen=True, eq=False)
class Sounds:
    """Sounds to log-mel magnitudes, as the network reads them.

    Attributes:
        made: the library's extractor.
    """

    modality: ClassVar[str] = "audio"
    made: Any

    @property
    def sample_rate_hz(self) -> int:
        """Sounds are resampled to it."""
        return int(self.made.sampling_rate)

    @property
    def seconds_max(self) -> float:
        """What the network reads at a time; ``Whisper`` cuts longer sounds itself."""
        return float(self.made.chunk_length)

    @property
    def layout(self) -> Grid:
        """Mels and frames."""
        return Grid(2, 1, (int(self.made.feature_size), int(self.made.nb_max_frames)))

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Returns ``(B, 1, mels, frames)``, each sound one token, filled with silence or cut to ``seconds_max``.

        Raises:
            InvalidValue: an item is no sound.
        """
        values = self.features([_transformers.waveform(item, self.sample_rate_hz) for item in items])[:, None]
        return Batch(values, torch.ones(len(items), 1, dtype=torch.bool))

    def features(self, sounds: Sequence[np.ndarray]) -> torch.Tensor:
        """Returns ``(B, mels, frames)`` of samples."""
        made = self.made(list(sounds), sampling_rate=self.sample_rate_hz, return_tensors="pt")
        values: torch.Tensor = made["input_features"]
        return values


class Whisper(_transformers.Published):
    """Translates: audio to text.

    ``language`` (such as "de"; None: heard from the sound) and ``task`` ("transcribe", or "translate" into English)
    may be set; they mean nothing to a model of one language.
    """

    directions = (("audio", "text"),)

    def __init__(self, folder: Path, network: Any, sounds: Sounds, tokenizer: _tokens.Tokens) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            sounds: reads sounds.
            tokenizer: of what is written.
        """
        texts = _tokens.Texts(tokenizer, int(network.config.max_target_positions))
        super().__init__(folder, network, {"audio": sounds, "text": texts})
        self.sounds, self.tokenizer = sounds, tokenizer
        self.language: str | None = None
        self.task = "transcribe"

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns what is said in each sound.

        Args:
            items: sounds of any length.
            to: "text".
            source: "audio", if anything.
            sampling: how ids are chosen; default: the likeliest.
            count: beams.

        Raises:
            Unsupported: another direction.
            InvalidValue: ``language`` or ``task`` is unknown to the model.
        """
        self.check(items, to, source)
        said = self._said(items, _transformers.writing(sampling, count), sampling, False)
        return [Text(" ".join(one.words for one in parts if one.words)) for parts in said]

    @property
    def timed(self) -> bool:
        """Whether it can tell when words are said."""
        return getattr(self.network.generation_config, "no_timestamps_token_id", None) is not None

    def segments(self, item: Item, *, sampling: Any = None, count: int = 1) -> list[Said]:
        """Returns what is said in a sound, phrase by phrase with its times: for subtitles.

        Args:
            item: a sound of any length.
            sampling: how ids are chosen; default: the likeliest.
            count: beams.

        Raises:
            Unsupported: the model writes no times.
        """
        if not self.timed:
            raise Unsupported("generation_config.json of this model names no ids of times; it writes words alone")
        self.check([item], "text", None)
        return self._said([item], _transformers.writing(sampling, count), sampling, True)[0]

    def _said(self, items: Sequence[Item], how: dict[str, Any], sampling: Any, timed: bool) -> list[list[Said]]:
        """Returns the words of each sound, window by window, or phrase by phrase where ``timed``."""
        rate = self.sounds.sample_rate_hz
        sounds = [_transformers.waveform(item, rate) for item in items]
        places = [
            (i, start, stop)
            for i, sound in enumerate(sounds)
            for start, stop in _transformers.windows(sound, rate, self.sounds.seconds_max)
        ]
        size = 1 if how.get("do_sample") else TOGETHER  # what is drawn would depend on what is beside it
        result: list[list[Said]] = [[] for _ in items]
        for begin in range(0, len(places), size):
            part = places[begin : begin + size]
            found = self._read([sounds[i][start:stop] for i, start, stop in part], how, sampling, timed)
            for (i, start, stop), phrases in zip(part, found, strict=True):
                for first, last, ids in phrases:
                    a, b = start / rate + first, min(start / rate + last, stop / rate)
                    words = printable(self.tokenizer.decode(ids)).strip()
                    result[i].append(Said(a, max(a, b), words))
        return result

    @torch.no_grad()
    def _read(
        self, sounds: Sequence[np.ndarray], how: dict[str, Any], sampling: Any, timed: bool
    ) -> list[list[tuple[float, float, list[int]]]]:
        """Returns for each window its phrases: when they begin and end in it, in seconds, and their ids."""
        given = self.sounds.features(sounds).to(self.device)
        if timed:
            how = {**how, "return_timestamps": True, "return_segments": True}
        with _transformers.drawing(sampling):
            made = self.network.generate(given, **self._spoken(), **how)
        if not timed:
            return [[(0.0, self.sounds.seconds_max, row)] for row in made.tolist()]
        return [
            [(float(one["start"]), float(one["end"]), one["tokens"].tolist()) for one in phrases]
            for phrases in made["segments"]
        ]

    def _spoken(self) -> dict[str, str]:
        """Returns the language and the task, as the library takes them.

        Raises:
            InvalidValue: the model does not know them.
        """
        known = getattr(self.network.generation_config, "lang_to_id", None) or {}
        if self.task not in TASKS:
            raise InvalidValue(f"task is {self.task!r}; use {' or '.join(TASKS)}")
        if not known:
            if self.language is not None or self.task != TASKS[0]:
                raise InvalidValue(
                    f"language {self.language!r} and task {self.task!r} were asked of a model of one language; "
                    "leave them as they are"
                )
            return {}
        if self.language is None:
            return {"task": self.task}
        if f"<|{self.language}|>" not in known:
            codes = ", ".join(sorted(name.strip("<|>") for name in known))
            raise InvalidValue(f"language {self.language!r} is not known to this model; use one of: {codes}")
        return {"task": self.task, "language": self.language}


def load(folder: Path) -> Whisper:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    network = _transformers.load(folder, "WhisperForConditionalGeneration")
    sounds = Sounds(_transformers.extractor(folder, "WhisperFeatureExtractor"))
    mels, frames = int(network.config.num_mel_bins), 2 * int(network.config.max_source_positions)
    found = int(sounds.made.feature_size), int(sounds.made.nb_max_frames)
    if found != (mels, frames):
        raise InvalidCheckpoint(
            f"preprocessor_config.json in {folder} makes {found[0]} x {found[1]} mels and frames, and the network "
            f"reads {mels} x {frames}; use the one that belongs to it"
        )
    tokens = _tokens.load(folder, "WhisperTokenizer", network.config.vocab_size)
    return Whisper(folder, network, sounds, tokens)
