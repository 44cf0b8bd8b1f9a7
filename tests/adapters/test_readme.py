"""The page beside an exported tower, and what may be written there."""

from pathlib import Path
from typing import Any

import pytest

from intermodal.adapters import _readme
from intermodal.adapters._onnx import export
from intermodal.adapters._towers import tower_of
from intermodal.encoders.tower import tiny
from intermodal.errors import InvalidValue
from intermodal.systems import clip
from intermodal.tokenizers.whole import WholeTokenizer
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import MODALITIES

INPUTS = [{"name": "values", "shape": ["batch", "length"], "kind": "float32"}]
TOLD = {"inputs": INPUTS, "largest_difference": 1e-7, "int8_cosine": None, "model": "m", "width": 8}


@pytest.fixture(scope="module")
def small() -> clip.Clip:
    words = WordTokenizer(words=("a", "circle"))
    return clip.build(clip.Config({name: tiny(name, words) for name in MODALITIES}, 8)).eval()


def test_nothing_of_anyone_else_is_overwritten(small: clip.Clip, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(InvalidValue, match=r"holds README\.md of something else"):
        export(small, "image", tmp_path / "tower.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    own = tmp_path / "own"
    export(small, "image", own / "tower.onnx")
    assert {path.name for path in own.iterdir()} == {"README.md", "preprocessor_config.json", "tower.onnx"}
    export(small, "text", own / "tower.onnx")
    assert {p.name for p in own.iterdir()} == {"README.md", "tokenizer.json", "tokenizer_config.json", "tower.onnx"}
    with pytest.raises(InvalidValue, match="give it a folder of its own"):
        export(small, "image", own / "image.onnx")


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("image", ["64 x 64", "(bicubic, antialiased", "at least 0.9000"]),
        (
            "audio",
            ["16000 Hz", "window of 1024 samples", "96 triangular filters", "a multiple of 4, filled with -1.63"],
        ),
        ("video", ["8 frames", "floor((2 i + 1) n / 16)", "squeezed"]),
        ("timeseries", ["9 channels", "a multiple of 16", "30 s"]),
        ("text", ["`tokenizer.json` gives the ids", "At most 64 ids", "`attention_mask` is 0"]),
    ],
)
def test_the_page_says_what_is_needed_to_prepare_each_modality(small: clip.Clip, field: str, facts: list[str]) -> None:
    told: dict[str, Any] = {**TOLD, "field": field, "modality": field}
    page = _readme.written(tower_of(small, field), "t.onnx", told, {"settings_cosine": 0.9, "tokenizer": True})
    assert [fact for fact in facts if fact not in page] == []
    assert page.startswith("# t.onnx\n")


def test_a_tokenizer_without_a_form_is_said_to_have_none() -> None:
    words = WholeTokenizer(("yes", "no"))
    model = clip.build(clip.Config({"text": tiny("text", words), "timeseries": tiny("timeseries", words)}, 8))
    page = _readme.written(tower_of(model, "text"), "t.onnx", {**TOLD, "field": "text", "modality": "text"}, {})
    assert "has no form in `tokenizer.json`" in page
