"""What all adapters over the library share: strict and offline loading, windows of sound, what is drawn."""

import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import intermodal as im
from intermodal import catalog
from intermodal.adapters import _transformers as shared
from intermodal.errors import MissingExtra
from intermodal.sampling.autoregressive import Sampling
from tests import published


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "siglip"
    published.siglip(path)
    return path


OWN = ("blip", "clip", "open_clip", "sentence_clip", "lxmert", "visual_bert", "compound", "connected")
OWN += ("diffusers_pipeline",)
"""Families that our own code computes, folders of several models, and pipelines, which another library reads."""


@pytest.mark.parametrize("kind", [name for name in catalog.names("adapters") if name not in OWN])
def test_without_the_library_the_command_that_installs_it_is_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingExtra, match=r"needs the package 'transformers': run  pip install 'intermodal\[models\]'"
    ):
        im.load(tmp_path)


@pytest.mark.peer
def test_what_would_not_be_the_weights_as_they_are_is_refused(folder: Path, tmp_path: Path) -> None:
    quantised = published.rewritten(folder, tmp_path / "a", "config.json", quantization_config={"bits": 4})
    assert "holds quantised weights or an adapter" in published.refused(quantised)
    adapted = shutil.copytree(folder, tmp_path / "b")
    (adapted / "adapter_config.json").write_text("{}")
    assert "holds quantised weights or an adapter" in published.refused(adapted)
    pickled = shutil.copytree(folder, tmp_path / "c")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "is pickled and never opened here" in published.refused(pickled)
    damaged = shutil.copytree(folder, tmp_path / "d")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    assert "the model in" in published.refused(damaged)
    odd = published.rewritten(folder, tmp_path / "e", "config.json", vision_config={"hidden_size": "wide"})
    assert "the model in" in published.refused(odd)


@pytest.mark.peer
def test_code_that_comes_with_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    named = {"AutoModel": "own.Own", "AutoConfig": "own.Own"}
    copy = published.rewritten(folder, tmp_path / "copy", "config.json", auto_map=named)
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Own: pass\n")
    assert torch.equal(im.load(copy).embed([im.Text("a dog")]), im.load(folder).embed([im.Text("a dog")]))
    assert not (tmp_path / "ran").exists()


@pytest.mark.peer
def test_the_library_says_nothing_and_is_left_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    library = published.library()
    library.logging.set_verbosity(logging.WARNING)
    library.logging.enable_progress_bar()
    try:
        im.load(folder)
        assert library.logging.get_verbosity() == logging.WARNING
        assert library.logging.is_progress_bar_enabled()
    finally:
        published.library()
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


@pytest.mark.peer
def test_weights_in_half_precision_and_several_files_are_read_in_fp32(folder: Path, tmp_path: Path) -> None:
    library = published.library()
    whole = im.load(folder)
    half = published.changed(folder, tmp_path / "half", lambda s: s.update({k: v.bfloat16() for k, v in s.items()}))
    assert {p.dtype for p in im.load(half).parameters()} == {torch.float32}
    cosine = (im.load(half).embed([im.Text("the red house")]) * whole.embed([im.Text("the red house")])).sum()
    assert 0.99 < float(cosine) < 1 - 1e-9
    split = shutil.copytree(folder, tmp_path / "split")
    (split / "model.safetensors").unlink()
    library.SiglipModel.from_pretrained(folder).save_pretrained(split, max_shard_size="8KB")
    assert len(list(split.glob("model-*.safetensors"))) > 2
    assert torch.equal(im.load(split).embed([im.Text("a dog")]), whole.embed([im.Text("a dog")]))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.integers(50, 200), st.floats(0.2, 3.0))
def test_windows_cover_a_sound_and_none_is_too_long(loud: list[float], rate: int, longest_s: float) -> None:
    samples = np.array(loud, np.float32)
    found = shared.windows(samples, rate, longest_s)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == len(samples)
    assert all(0 < stop - start <= round(longest_s * rate) for start, stop in found)


def test_a_sound_is_cut_where_it_is_quiet() -> None:
    samples = np.ones(200, np.float32)
    samples[88:90] = 0.0
    assert shared.windows(samples, 100, 1.0)[0] == (0, 89)


def test_what_is_drawn_leaves_the_state_of_torch_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    with shared.drawing(Sampling(1.0, seed=4)):
        first = torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
    with shared.drawing(Sampling(1.0, seed=4)):
        assert torch.equal(torch.rand(3), first)
    with shared.drawing(None):
        assert not torch.equal(torch.rand(3), first)


def test_how_ids_are_written_is_told_to_the_library() -> None:
    assert shared.writing(None, 1) == {}
    assert shared.writing(None, 4) == {"num_beams": 4}
    assert shared.writing(Sampling(), 2) == {"do_sample": False, "num_beams": 2}
    drawn = {"do_sample": True, "num_beams": 1, "temperature": 0.5, "top_k": 0, "top_p": 0.9}
    assert shared.writing(Sampling(0.5, top_p=0.9), 1) == drawn
