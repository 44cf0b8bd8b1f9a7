from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import intermodal as im
from intermodal import fetching, saving
from intermodal.adapters import compound
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Answers, Classifies, Embeds, Scores, Translates

PICTURE = Image(np.full((2, 2, 3), 7, np.uint8))
SOUND = Audio(np.zeros((1, 80), np.float32), 8000)


def reads(*kinds: str) -> dict[str, Any]:
    return {kind: SimpleNamespace(modality=kind) for kind in kinds}


class Captions(nn.Module):
    """Pictures to words, and answers."""

    fingerprint, name = "captions", "captions"
    directions = (("image", "text"),)

    def __init__(self) -> None:
        super().__init__()
        self.preprocessors = reads("image", "text")

    def translate(
        self, items: Sequence[Any], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Any]:
        return [Text(f"a picture of {item.pixels[0, 0, 0]}") for item in items]

    def answer(self, sample: Any, question: str) -> str:
        return f"{question} yes"


class Voice(nn.Module):
    """Words to sounds as long as they."""

    fingerprint, name = "voice", "voice"
    directions = (("text", "audio"),)

    def __init__(self) -> None:
        super().__init__()
        self.preprocessors = reads("text", "audio")

    def translate(
        self, items: Sequence[Any], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Any]:
        return [Audio(np.zeros((1, len(item.text)), np.float32), 8000) for item in items]


class Space(nn.Module):
    """Vectors of texts and one other modality."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.preprocessors, self.fingerprint = reads(other, "text"), other

    def field_of(self, modality: str) -> str:
        if modality not in self.preprocessors:
            raise Unsupported(f"this model has no tower for {modality}")
        return modality

    def embed(self, items: Sequence[Any], fields: str | None = None) -> Tensor:
        for item in items:
            self.field_of(item.modality)
        return torch.eye(len(items))

    def score(self, a: Sequence[Any], b: Sequence[Any]) -> Tensor:
        return torch.full((len(a), len(b)), float(len(self.fingerprint)))

    def classify(self, items: Sequence[Any], labels: Sequence[str]) -> Tensor:
        return torch.full((len(items), len(labels)), 1 / len(labels))


def test_a_chain_goes_through_several_models() -> None:
    both = im.Compound([Voice(), Captions()])
    assert both.directions == (("text", "audio"), ("image", "text"), ("image", "audio"))
    made = both.translate([PICTURE], "audio")
    assert made[0].samples.shape == (1, len("a picture of 7"))
    assert isinstance(both, Translates)
    assert both.answer({"image": PICTURE}, "is it?") == "is it? yes"


def test_it_can_do_what_one_of_its_models_can_and_says_so() -> None:
    voice, space = im.Compound([Voice()]), im.Compound([Space("image")])
    assert isinstance(voice, Translates)
    assert not any(isinstance(voice, kind) for kind in (Embeds, Scores, Classifies, Answers))
    assert all(isinstance(space, kind) for kind in (Embeds, Scores, Classifies))
    assert not isinstance(space, Translates)
    assert not hasattr(space, "segments")


def test_each_modality_goes_to_the_model_that_knows_it_and_vectors_are_of_one_space() -> None:
    both = im.Compound([Space("image"), Space("audio")])
    assert float(both.score([PICTURE], [Text("a")])[0, 0]) == len("image")
    assert float(both.score([SOUND], [Text("a")])[0, 0]) == len("audio")
    assert both.classify([SOUND], ["a", "b"]).shape == (1, 2)
    assert both.embed([PICTURE, Text("a")]).shape == (2, 2)
    with pytest.raises(Unsupported, match="no tower for audio"):
        both.embed([SOUND])
    with pytest.raises(Unsupported, match="no model here can score audio and image"):
        both.score([SOUND], [PICTURE])


def test_models_and_their_order_tell_compounds_apart() -> None:
    made = [im.Compound(models).fingerprint for models in ([Voice(), Captions()], [Captions(), Voice()], [Voice()])]
    assert len(set(made)) == 3


def test_a_folder_names_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    folder = compound.save(tmp_path / "both", [tmp_path / "one", "hub:someone/voice"])
    asked: list[str] = []

    def given(name: str, *rest: Any) -> Any:
        asked.append(name)
        return Captions() if "one" in name[-3:] else Voice()

    whole = saving.load_model
    monkeypatch.setattr(saving, "load_model", given)
    model = compound.load(folder)
    assert asked == [str((tmp_path / "one").resolve()), "hub:someone/voice"]
    assert ("image", "audio") in model.directions
    assert not whole(folder).training
    (folder / "config.json").write_text('{"model_type": "compound", "models": []}')
    with pytest.raises(InvalidCheckpoint, match="names no models"):
        whole(folder)


def test_a_preset_tells_licence_and_size_and_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr(saving, "load_model", refuse)
    told = str(im.Compound.preset("everyday"))
    preset = compound.PRESETS["everyday"]
    assert str(sum(part.megabytes for part in preset.parts))[-3:] in told
    for part in preset.parts:
        assert part.name in told
        assert part.licence in told
        assert part.name.startswith(fetching.HUB)
    with pytest.raises(AssertionError, match="siglip"):
        preset.load()
    with pytest.raises(UnknownName, match="everyday"):
        im.Compound.preset("sunday")
    with pytest.raises(InvalidValue, match="at least one model"):
        im.Compound([])
