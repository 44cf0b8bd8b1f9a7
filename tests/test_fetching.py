"""Names of the hub, from a cache in the layout that the hub's own library writes; nothing is fetched."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.cli.app import run
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidCheckpoint, InvalidValue, MissingExtra
from intermodal.saving import folder_of, load_model, save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    torch.manual_seed(0)
    model = build(sized("tiny", {"text": "text", "timeseries": "timeseries"}, WordTokenizer(words=Diorama.vocabulary)))
    put(save_model(tmp_path / "made", model), folder / "models--someone--small", COMMIT, "main")
    return folder


def put(made: Path, repo: Path, commit: str, branch: str) -> Path:
    """Puts files where the library keeps them: bytes in ``blobs``, links in ``snapshots``, a branch in ``refs``."""
    snapshot = repo / "snapshots" / commit
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(made.iterdir())):
        blob = repo / "blobs" / f"{commit[:4]}{number}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    (repo / "refs" / branch).write_text(commit)
    return snapshot


def test_a_name_of_the_hub_is_loaded_offline_and_its_revision_kept(cache: Path, tmp_path: Path) -> None:
    model = load_model("hub:someone/small")
    plain = load_model(tmp_path / "made")
    items = [s["text"] for s in Diorama("test", fields=("text",)).samples(range(3))]
    assert torch.equal(model.embed(items), plain.embed(items))
    assert model.revision == COMMIT
    assert model.name == f"hub:someone/small@{COMMIT}"
    assert load_model(model.name).fingerprint == model.fingerprint


def test_a_pinned_revision_stays_when_the_branch_moves(cache: Path, tmp_path: Path) -> None:
    put(tmp_path / "made", cache / "models--someone--small", OTHER, "main")
    assert folder_of("hub:someone/small").name == OTHER
    assert folder_of(f"hub:someone/small@{COMMIT}").name == COMMIT
    put(tmp_path / "made", cache / "models--someone--small", "1" * 40, "v2")
    assert folder_of("hub:someone/small@v2").name == "1" * 40


def test_what_is_not_here_is_told_in_one_sentence(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidCheckpoint, match="hub:someone/large is not on this machine and cannot be fetched"):
        load_model("hub:someone/large")
    assert run(["embed", "hub:someone/large", "a word"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("error: hub:someone/large")
    assert "check the name and the network" in told[-1]


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_half_of_a_model_is_not_taken_for_one(cache: Path, gone: str) -> None:
    (cache / "models--someone--small" / "snapshots" / COMMIT / gone).unlink()
    with pytest.raises(InvalidCheckpoint, match="cannot be fetched"):
        load_model("hub:someone/small")


@pytest.mark.parametrize("name", ["hub:small", "hub:", "hub:a/b/c", "hub:../b", "hub:a/b@../../c", "hub:https://a/b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="is no name of the hub"):
        load_model(name)


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"intermodal\[models\]"):
        load_model("hub:someone/small")


PARTS = {"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
PARTS |= {"text_encoder": ["transformers", "CLIPTextModel"], "safety_checker": [None, None]}


def remote(folder: Path, *weights: str) -> Path:
    """Writes what the hub has of a pipeline: its index, the settings of its parts, and files that stand for weights."""
    for name, file in (("unet", "config"), ("text_encoder", "config"), ("scheduler", "scheduler_config")):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{file}.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **PARTS}))
    for name in (*weights, "whole.safetensors", "unet/diffusion_pytorch_model.bin", "unet/mine.py", "unet/x.onnx"):
        (folder / name).write_bytes(b"weights")
    return folder


def fetching(monkeypatch: pytest.MonkeyPatch, there: Path, here: Path) -> list[str]:
    """Returns the list of what is fetched from ``there`` to ``here``, by the library's own way of taking patterns."""
    hub: Any = pytest.importorskip("huggingface_hub")
    fetched: list[str] = []

    def download(
        repo: str, *, repo_type: str, revision: str | None, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        assert (repo, repo_type, revision in (None, COMMIT)) == ("someone/painter", "model", True)
        names = [str(path.relative_to(there)) for path in sorted(there.rglob("*")) if path.is_file()]
        chosen = list(hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns))
        for name in [] if local_files_only else chosen:
            if not (here / name).exists():
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(there / name, here / name)
                fetched.append(name)
        if not here.exists():
            raise FileNotFoundError
        return str(here)

    monkeypatch.setattr(hub, "snapshot_download", download)
    return fetched


UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        # plain weights before half as large ones, and no copies of them
        (
            [f"{UNET}.safetensors", f"{UNET}.fp16.safetensors", f"{UNET}.non_ema.safetensors", f"{TEXT}.safetensors"],
            [f"{UNET}.safetensors", f"{TEXT}.safetensors"],
        ),
        # half as large ones where there are no others
        ([f"{UNET}.fp16.safetensors", f"{TEXT}.safetensors"], [f"{UNET}.fp16.safetensors", f"{TEXT}.safetensors"]),
        (
            [f"{UNET}-00001-of-00002.safetensors", f"{UNET}-00002-of-00002.safetensors", f"{TEXT}.safetensors"],
            [f"{UNET}-00001-of-00002.safetensors", f"{UNET}-00002-of-00002.safetensors", f"{TEXT}.safetensors"],
        ),
    ],
)
def test_of_a_pipeline_one_form_of_the_weights_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], taken: list[str]
) -> None:
    source = remote(tmp_path / "there", *there)
    if any("-of-" in name for name in there):
        index = {"weight_map": {name: Path(name).name for name in there if name.startswith("unet")}}
        (source / f"{UNET}.safetensors.index.json").write_text(json.dumps(index))
    fetched = fetching(monkeypatch, source, tmp_path / COMMIT)
    folder = folder_of("hub:someone/painter")
    assert sorted(name for name in fetched if not name.endswith(".json")) == sorted(taken)
    assert (folder / "scheduler" / "scheduler_config.json").exists()
    fetched.clear()
    assert folder_of("hub:someone/painter") == folder
    assert fetched == []


def test_a_pipeline_that_is_not_published_as_safetensors_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = fetching(monkeypatch, remote(tmp_path / "there", f"{TEXT}.safetensors"), tmp_path / COMMIT)
    with pytest.raises(InvalidCheckpoint, match=r"cannot be fetched whole: it lacks unet/\*\.safetensors; either"):
        folder_of("hub:someone/painter")
    assert not [name for name in fetched if name.endswith((".bin", ".py", ".onnx"))]
