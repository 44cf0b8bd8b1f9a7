"""Several models as one: each thing is done by the model that knows it, chains of them included.

    model = Compound([im.load("blip-folder"), im.load("vits-folder"), im.load("siglip-folder")])
    model.translate([picture], "speech")     picture -> BLIP -> words -> VITS -> speech
    model.classify([picture], ["cat"])       SigLIP, the first that reads both pictures and texts

A compound can do what one of its models can, and says so as every model does, by what it has: ``isinstance(model,
Answers)``. Vectors of two models cannot be compared, so ``embed`` is always that of one of them, the first that embeds;
what it does not read is refused, never embedded by another. ``adapters/connected.py`` joins two spaces.

A folder of it holds ``config.json`` alone: ``model_type`` "compound" and the names of its models.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from intermodal import saving, translation
from intermodal.adapters._files import read_object
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName, Unsupported
from intermodal.types import Answers, Classifies, Embeds, Item, Sample, Scores, Translates

FORMAT = 1
KIND = "compound"


@dataclass(frozen=True)
class Part:
    """A published model of a preset.

    Attributes:
        name: of the hub.
        does: what for.
        licence: of its weights, as its card said in 2026.
        megabytes: that are fetched, about.
    """

    name: str
    does: str
    licence: str
    megabytes: int


@dataclass(frozen=True)
class Preset:
    """Published models that go together. Nothing is fetched before ``load``; ``str`` of it tells what would be."""

    name: str
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        """Returns what would be fetched: each model, what for, its licence and its size."""
        lines = [f"{p.name}  {p.megabytes} MB  {p.licence}  {p.does}" for p in self.parts]
        total = sum(part.megabytes for part in self.parts)
        return f"{self.name}: {len(self.parts)} models, about {total:,} MB, kept in the cache of the hub\n" + "\n".join(
            f"  {line}" for line in lines
        )

    def load(self) -> "Compound":
        """Returns the compound of its models, fetched where they are not here.

        Raises:
            InvalidCheckpoint: one cannot be fetched.
            MissingExtra: what reads them is not installed.
        """
        return Compound([saving.load_model(part.name) for part in self.parts])


PRESETS = {
    "everyday": Preset(
        "everyday",
        (
            Part("hub:google/siglip-base-patch16-256", "pictures by words, labels of pictures", "Apache-2.0", 816),
            Part("hub:Salesforce/blip-image-captioning-large", "captions of pictures", "BSD-3-Clause", 1881),
            Part("hub:openai/whisper-base", "speech to words", "Apache-2.0", 294),
            Part("hub:facebook/mms-tts-eng", "words to speech", "CC-BY-NC-4.0: not for commerce", 145),
        ),
    )
}
"""Names of presets: models whose weights are on the hub as safetensors, in a layout that is read here."""


class Compound(nn.Module):
    """Several models as one; which Protocols it keeps depends on what they can do."""

    embed: Any
    score: Any
    classify: Any
    answer: Any
    translate: Any
    segments: Any

    def __init__(self, models: Sequence[Any]) -> None:
        """Unites built models; of several that can do the same the first does it.

        Raises:
            InvalidValue: there are none.
        """
        super().__init__()
        if not models:
            raise InvalidValue("a compound needs at least one model; none was given")
        self.models = nn.ModuleList(models)
        self.preprocessors: dict[str, Any] = {}
        for model in models:
            for field, preprocessor in (getattr(model, "preprocessors", None) or {}).items():
                self.preprocessors.setdefault(field, preprocessor)
        marks = [str(getattr(model, "fingerprint", type(model).__name__)) for model in models]
        self.fingerprint = hashlib.sha256("/".join(marks).encode()).hexdigest()[:16]
        self._unite(models)

    def _unite(self, models: Sequence[Any]) -> None:
        """Gives this object what its models can do, and nothing else, so that asking what it can do tells the truth."""
        embedding = next((model for model in models if isinstance(model, Embeds)), None)
        if embedding is not None:
            self.embed, self.field_of = embedding.embed, getattr(embedding, "field_of", None)
        if any(isinstance(model, Scores) for model in models):
            self.score = self._score
        if any(isinstance(model, Classifies) for model in models):
            self.classify = self._classify
        if any(isinstance(model, Answers) for model in models):
            self.answer = self._answer
        translating = [model for model in models if isinstance(model, Translates)]
        if translating:
            self.directions = united(translating)
            self.translate = partial(_translate, translating)
        timed = next((model for model in models if hasattr(model, "segments")), None)
        if timed is not None:
            self.segments = timed.segments

    def _score(self, a: Sequence[Item], b: Sequence[Item]) -> Tensor:
        """Returns how well two lists of items fit, by the first model that reads them all."""
        found: Tensor = self._knows(Scores, "score", {i.modality for i in (*a, *b)}).score(a, b)
        return found

    def _classify(self, items: Sequence[Item], labels: Sequence[str], **options: Any) -> Tensor:
        """Returns the probability of each label, by the first model that reads the items and words."""
        kinds = {item.modality for item in items} | {"text"}
        found: Tensor = self._knows(Classifies, "classify", kinds).classify(items, labels, **options)
        return found

    def _answer(self, sample: Sample, question: str) -> str:
        """Returns the answer of the first model that reads all fields of the sample."""
        kinds = {item.modality for item in sample.values()}
        found: str = self._knows(Answers, "answer", kinds).answer(sample, question)
        return found

    def _knows(self, protocol: Any, verb: str, kinds: set[str]) -> Any:
        """Returns the first model that can do something and reads all these modalities.

        Raises:
            Unsupported: none does; says what each of those that can reads.
        """
        told = []
        for model in self.models:
            if isinstance(model, protocol):
                read = {p.modality for p in (getattr(model, "preprocessors", None) or {}).values()}
                if kinds <= read:
                    return model
                told.append(f"{type(model).__name__} reads {', '.join(sorted(read))}")
        raise Unsupported(f"no model here can {verb} {' and '.join(sorted(kinds))}: {'; '.join(told) or 'none can'}")

    @staticmethod
    def preset(name: str) -> Preset:
        """Returns published models that go together; nothing is fetched.

        Raises:
            UnknownName: there is no such preset.
        """
        if name not in PRESETS:
            raise UnknownName("preset", name, PRESETS)
        return PRESETS[name]


def united(models: Sequence[Translates]) -> tuple[tuple[str, str], ...]:
    """Returns the directions of all models, then those that only chains of them reach."""
    direct = dict.fromkeys(direction for model in models for direction in model.directions)
    starts = dict.fromkeys(source for source, _ in direct)
    chains = {(source, to): None for source in starts for to in translation.ways(models, source)}
    return tuple({**direct, **chains})


def _translate(
    models: Sequence[Translates],
    items: Sequence[Item],
    to: str,
    *,
    source: str | None = None,
    sampling: Any = None,
    count: int = 1,
) -> list[Item]:
    """Returns one item of field ``to`` for each item, directly or through others; see ``translation.translate``."""
    return translation.translate(models, items, to, source=source, sampling=sampling, count=count).items


def save(folder: str | Path, names: Sequence[str | Path]) -> Path:
    """Writes a compound of saved models, by their names, to ``folder`` and returns the path.

    Args:
        folder: made if absent.
        names: folders, names of shipped models or of the hub; a folder is kept by its whole path.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    whole = [str(Path(name).resolve()) if Path(name).is_dir() else str(name) for name in names]
    beside = target / ".config.json"
    beside.write_text(json.dumps({"format": FORMAT, "model_type": KIND, "models": whole}, indent=2) + "\n", "utf-8")
    beside.replace(target / "config.json")
    return target


def load(folder: Path) -> Compound:
    """Returns the compound whose models ``config.json`` in a folder names.

    Raises:
        InvalidCheckpoint: it names none, or a folder that is no model.
        UnknownName: a model that is gone.
    """
    header: Mapping[str, Any] = read_object(folder / "config.json")
    names = header.get("models")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidCheckpoint(f"{folder / 'config.json'} names no models; write a list of folders or hub names there")
    return Compound([saving.load_model(name) for name in names])
