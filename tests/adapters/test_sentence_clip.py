"""CLIP in the layout of sentence-transformers; that library itself reads what is written in ``test_layouts.py``."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from intermodal import fetching
from intermodal.errors import InvalidCheckpoint
from intermodal.saving import load_model
from intermodal.systems.clip import Clip
from tests import published
from tests.adapters import test_clip

CLIP = {"type": "sentence_transformers.models.CLIPModel", "path": "0_CLIPModel"}


@pytest.mark.peer
def test_it_is_the_clip_inside(tmp_path: Path) -> None:
    test_clip.published(tmp_path / "clip", published.library())
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "clip", whole / "0_CLIPModel")
    last = {"type": "sentence_transformers.models.Normalize", "path": "1_Normalize"}
    (whole / "modules.json").write_text(json.dumps([CLIP, last]))
    model, inside = load_model(whole), load_model(tmp_path / "clip")
    assert isinstance(model, Clip)
    assert model.fingerprint == inside.fingerprint
    for name, value in inside.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert fetching._lacking(whole) == []
    (whole / "0_CLIPModel" / "model.safetensors").unlink()
    assert fetching._lacking(whole) == ["0_CLIPModel/model.safetensors"]


def test_other_parts_of_sentence_transformers_are_refused(tmp_path: Path) -> None:
    def listed(*parts: dict[str, str]) -> str:
        (tmp_path / "modules.json").write_text(json.dumps(parts))
        with pytest.raises(InvalidCheckpoint) as raised:
            load_model(tmp_path)
        return str(raised.value)

    assert "has the parts Transformer" in listed({"type": "sentence_transformers.models.Transformer", "path": ""})
    assert "CLIPModel, Dense" in listed(CLIP, {"type": "sentence_transformers.models.Dense", "path": "1_Dense"})
    assert "does not list parts" in listed({"type": "x"})
    assert "not inside this one" in listed({**CLIP, "path": "../elsewhere"})
    assert "config.json" in listed(CLIP)
