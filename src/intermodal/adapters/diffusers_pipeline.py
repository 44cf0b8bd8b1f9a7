"""Published pipelines of the library ``diffusers``: words to pictures, to sounds and to clips.

Each thing is drawn by itself, from a generator of its own, so that it depends on its words and the seed alone and is,
bit for bit, what the library draws with a generator of that seed. Of several candidates the one of number n is what the
seed n higher gives. What checks the pictures stays as the folder has it; what it blackens is told in the log.

Left out: pipelines that start from a picture, a sound or a clip, and those that draw from nothing, such as DDPM.

Sources: Rombach et al. 2022, arXiv 2112.10752 (Stable Diffusion); Podell et al. 2023, arXiv 2307.01952 (XL); Esser et
al. 2024, arXiv 2403.03206 (3); Luo et al. 2023, arXiv 2310.04378 (LCM); Chen et al. 2024, arXiv 2403.04692 (PixArt);
Liu et al. 2024, arXiv 2308.05734 (AudioLDM 2); Evans et al. 2024, arXiv 2407.14358 (Stable Audio); Guo et al. 2024,
arXiv 2307.04725 (AnimateDiff); Yang et al. 2024, arXiv 2408.06072 (CogVideoX); Wan Team 2025, arXiv 2503.20314 (Wan).
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from intermodal.adapters import _pipelines, _tokens, _transformers
from intermodal.adapters._files import read_object
from intermodal.adapters._pipelines import lacking, wanted
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.fetching import PIPELINE
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.video import Video
from intermodal.types import Candidate, Item, Sample

__all__ = ["KINDS", "Kind", "Pipeline", "lacking", "load", "wanted"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "steps": ("num_inference_steps",),
    "guidance": ("guidance_scale",),
    "negative": ("negative_prompt",),
    "height": ("height",),
    "width": ("width",),
    "frames": ("num_frames",),
    "seconds": ("audio_length_in_s", "audio_end_in_s"),
}
"""What may be set -> what the library calls it."""

LONG = 100_000  # ids, where the tokenizer does not say how many it gives


@dataclass(frozen=True)
class Kind:
    """What the pipelines of one class make.

    Attributes:
        to: image, audio or video.
        frames_per_s: of clips, as the model was trained; the folders do not say it.
        without: what cannot be set, since the pipeline would pass over it.
    """

    to: str
    frames_per_s: float = 0.0
    without: tuple[str, ...] = ()


KINDS = {
    "StableDiffusionPipeline": Kind("image"),
    "StableDiffusionXLPipeline": Kind("image"),
    "StableDiffusion3Pipeline": Kind("image"),
    "LatentConsistencyModelPipeline": Kind("image"),
    "PixArtSigmaPipeline": Kind("image"),
    "FluxPipeline": Kind("image", without=("negative",)),
    "AudioLDM2Pipeline": Kind("audio"),
    "StableAudioPipeline": Kind("audio"),
    "AnimateDiffPipeline": Kind("video", 8.0),
    "CogVideoXPipeline": Kind("video", 8.0),
    "WanPipeline": Kind("video", 16.0),
}
"""Classes of pipelines that are read."""


@dataclass(frozen=True)
class Drawn:
    """What is known of the things that come out.

    Attributes:
        modality: theirs.
    """

    modality: str


@dataclass(frozen=True)
class Pace:
    """Where a drawing is.

    Attributes:
        step: steps that are done.
        steps: of all.
        seconds: since the first began.
    """

    step: int
    steps: int
    seconds: float

    @property
    def steps_per_s(self) -> float:
        """Speed so far."""
        return self.step / max(self.seconds, 1e-9)


class _Bar:
    """Stands for the progress bar of the library: tells of every step, and shows nothing by itself."""

    def __init__(self, told: Callable[[Pace], None], iterable: Iterable[Any] | None, total: int | None) -> None:
        """Begins at no step."""
        self._told, self._iterable, self._start, self._step = told, iterable, time.monotonic(), 0
        self._total = total if total is not None else len(iterable)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[Any]:
        """Yields what it stands around."""
        for each in self._iterable or ():
            yield each
            self.update()

    def update(self, count: int = 1) -> None:
        """Counts steps that were done."""
        self._step += count
        self._told(Pace(self._step, self._total, time.monotonic() - self._start))


class Pipeline(_transformers.Published):
    """Translates: text to what the pipeline makes.

    These may be set; at first they are what the pipeline takes by itself, None where that depends on its folder:
    ``steps``, ``guidance``, ``negative`` (words that are to be absent), ``height`` and ``width`` in pixels, ``seconds``
    of a sound, ``frames`` and ``frames_per_s`` of a clip. ``on_step`` is called after every step.
    """

    def __init__(self, folder: Path, made: Any, kind: Kind) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            made: the pipeline of the library.
            kind: what it makes.
        """
        found = {name: part for name, part in made.components.items() if isinstance(part, nn.Module)}
        tokens = _tokens.Tokens(made.tokenizer)
        longest = min(int(made.tokenizer.model_max_length), LONG)
        reads = {"text": _tokens.Texts(tokens, longest), kind.to: Drawn(kind.to)}
        super().__init__(folder, nn.ModuleDict(found), reads, _pipelines.files(folder))
        self.pulse = nn.Identity()  # runs once a step, so that whoever hooks into it can stop a drawing
        self.directions = (("text", kind.to),)
        self.on_step: Callable[[str, Pace], None] | None = None
        self._made, self._kind = made, kind
        self._title = f"{type(made).__name__} in {folder.name}"
        made.progress_bar = lambda iterable=None, total=None: _Bar(self._step, iterable, total)
        call = inspect.signature(type(made).__call__).parameters
        self._words = {
            name: next((word for word in words if word in call and name not in kind.without), "")
            for name, words in WORDS.items()
        }
        own: dict[str, Any] = {name: call[word].default if word else None for name, word in self._words.items()}
        self.steps: int = own["steps"]
        self.guidance: float = own["guidance"]
        self.negative: str | None = own["negative"]
        self.height: int | None = own["height"]
        self.width: int | None = own["width"]
        self.frames: int | None = own["frames"]
        self.seconds: float | None = own["seconds"]
        self.frames_per_s = kind.frames_per_s

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns what is drawn of each text.

        Args:
            items: texts.
            to: what the pipeline makes.
            source: "text", if anything.
            sampling: its seed counts, and nothing else of it; default: seed 0.
            count: is not looked at, since nothing here says which of several is better; see ``candidates``.

        Raises:
            Unsupported: another direction, or something is set that this pipeline does not take.
            InvalidValue: something is set to what the pipeline cannot do.
        """
        self.check(items, to, source)
        return [self._draw(getattr(item, "text", ""), _seed(sampling)) for item in items]

    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` things drawn of its text, in the order of their seeds; none has a score.

        Raises:
            Unsupported: another field is asked for, or a sample has no text or more than that.
            InvalidValue: ``count`` is below 1, or as in ``translate``.
        """
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        found = []
        for sample in samples:
            if set(sample) != {"text"}:
                raise Unsupported(
                    f"this model draws from a text alone; the sample has {', '.join(sample) or 'nothing'}"
                )
            self.check([sample["text"]], to, "text")
            text, first = getattr(sample["text"], "text", ""), _seed(sampling)
            found.append([Candidate(self._draw(text, first + n), math.nan) for n in range(count)])
        return found

    def _step(self, now: Pace) -> None:
        """Tells of a step."""
        self.pulse(torch.empty(0))
        if self.on_step:
            self.on_step("drawing", now)

    def _asked(self) -> dict[str, Any]:
        """Returns what is set, as the library calls it.

        Raises:
            Unsupported: the pipeline does not take it.
            InvalidValue: steps are none, or one side of a picture is.
        """
        found = {}
        for name, word in self._words.items():
            value = getattr(self, name)
            if value is not None and not word:
                raise Unsupported(f"{self._title} does not take {name}, which is {value!r}; set it to None")
            if value is not None:
                found[word] = value
        if (self.height is None) != (self.width is None):
            raise InvalidValue(f"height is {self.height} and width {self.width}; set both, or neither")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InvalidValue(f"steps is {self.steps!r}; give a whole number of at least 1")
        return found

    def _draw(self, text: str, seed: int) -> Item:
        """Returns what is drawn of words with a seed."""
        asked = self._asked()
        kind = "np" if self._kind.to == "audio" else "pil"
        generator = torch.Generator().manual_seed(seed)
        try:
            with _transformers.drawing(_Seed(seed)), _pipelines.telling(self._title):
                made = self._made(text, generator=generator, output_type=kind, **asked)
        except ValueError as error:
            told = ", ".join(f"{name} {getattr(self, name)!r}" for name, word in self._words.items() if word in asked)
            reason = " ".join(str(error).split())[:300]
            raise InvalidValue(f"{self._title} cannot draw with {told}: {reason}") from error
        if self._kind.to == "image":
            return Image(_pixels(made.images[0]))
        if self._kind.to == "audio":
            samples = np.asarray(made.audios[0], np.float32)
            return Audio(samples.clip(-1.0, 1.0), self.sample_rate_hz)
        return Video(np.stack([_pixels(frame) for frame in made.frames[0]]), self.frames_per_s)

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the sounds that it makes; 0 where it makes none."""
        parts = (getattr(self._made, name, None) for name in ("vocoder", "vae"))
        rates = (getattr(getattr(part, "config", None), "sampling_rate", None) for part in parts)
        return int(next((rate for rate in rates if rate), 0))


@dataclass(frozen=True)
class _Seed:
    """A seed, by the name that ``_transformers.drawing`` reads."""

    seed: int


def _seed(sampling: Any) -> int:
    """Returns the seed of what is drawn."""
    return int(sampling.seed) if sampling else 0


def _pixels(picture: Any) -> np.ndarray:
    """Returns the pixels of a picture of Pillow."""
    return np.array(picture.convert("RGB"))


def load(folder: Path) -> Pipeline:
    """Returns the published pipeline in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: the pipeline is of another kind, or files are missing, damaged or do not fit each other;
            lists what is wrong.
    """
    name = read_object(folder / PIPELINE).get("_class_name")
    if not isinstance(name, str) or name not in KINDS:
        raise InvalidCheckpoint(
            f"{folder} holds a pipeline of the class {name!r}, and what is read here turns words into pictures, sounds "
            f"or clips: {', '.join(KINDS)}"
        )
    return Pipeline(folder, _pipelines.load(folder, name), KINDS[name])
