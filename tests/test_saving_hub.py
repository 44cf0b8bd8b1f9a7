"""Names of the hub, from a cache in the layout that the hub's own library writes; nothing is fetched."""

import os
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
