"""Pushing to the hub: what its library is asked to do, and that what goes up comes back by ``hub:`` offline."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from intermodal.cli.app import run
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidCheckpoint, InvalidValue, MissingExtra
from intermodal.publishing import files_of, push, tasks_of
from intermodal.saving import keep_figures, load_model, save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer
from tests.test_fetching import COMMIT, put

hub: Any = pytest.importorskip("huggingface_hub")
FIELDS = {"text": "text", "image": "image"}
FIGURES = {
    "search": {"what": "Recall@1", "data": "diorama", "split": "test", "samples": 40, "pairs": {"text>image": 0.25}}
}
CARD = "---\nlanguage: en\ntags:\n- scenes\n---\n# Small\n\nSees scenes.\n"


class Api:
    """Stands where the hub is: remembers what it was asked, and keeps what it was given."""

    def __init__(self, public: bool = False, there: tuple[str, ...] = (), fails: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.public, self.there, self.fails = public, there, fails
        self.files: dict[str, bytes] = {}

    def create_repo(self, name: str, **more: Any) -> None:
        if self.fails:
            raise self.fails
        self.asked.append(("repo", {"name": name, **more}))

    def repo_info(self, name: str) -> Any:
        return SimpleNamespace(private=not self.public)

    def create_branch(self, name: str, **more: Any) -> None:
        self.asked.append(("branch", {"name": name, **more}))

    def list_repo_files(self, name: str, revision: str | None = None) -> list[str]:
        return list(self.there)

    def create_commit(self, name: str, operations: list[Any], **more: Any) -> Any:
        self.asked.append(("commit", {"name": name, "operations": operations, **more}))
        for one in operations:
            if isinstance(one, hub.CommitOperationAdd):
                given = one.path_or_fileobj
                self.files[one.path_in_repo] = given if isinstance(given, bytes) else Path(given).read_bytes()
        return SimpleNamespace(oid=COMMIT, commit_url=f"https://hub.invalid/{name}/commit/{COMMIT}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build(sized("tiny", FIELDS, WordTokenizer(words=Diorama.vocabulary)))
    folder = save_model(tmp_path_factory.mktemp("models") / "clip", model, CARD)
    keep_figures(folder, FIGURES)
    return folder


def test_what_goes_up_comes_back_by_its_name_offline(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(there=(".gitattributes", "encoders/image/old.onnx", "notes.txt"))
    told = push(saved, "someone/small", private=True, revision="v2", licence="apache-2.0", api=api)
    kinds = [kind for kind, _ in api.asked]
    assert kinds == ["repo", "branch", "commit"]
    assert api.asked[0][1] == {"name": "someone/small", "private": True, "exist_ok": True}
    assert api.asked[1][1] == {"name": "someone/small", "branch": "v2", "exist_ok": True}
    commit = api.asked[2][1]
    assert commit["revision"] == "v2"
    assert [one.path_in_repo for one in commit["operations"]] == [
        *("README.md", "config.json", "figures.json", "model.safetensors", "encoders/image/old.onnx")
    ]
    assert isinstance(commit["operations"][-1], hub.CommitOperationDelete)
    assert {one["path"]: one["bytes"] for one in told["files"]} == {n: len(b) for n, b in api.files.items()}
    assert told["bytes"] == sum(map(len, api.files.values()))
    assert (told["commit"], told["revision"]) == (COMMIT, "v2")

    made = tmp_path / "uploaded"
    made.mkdir()
    for name, content in api.files.items():
        (made / name).write_bytes(content)
    put(made, tmp_path / "hub" / "models--someone--small", COMMIT, "v2")
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again, plain = load_model("hub:someone/small@v2"), load_model(saved)
    items = [s["text"] for s in Diorama("test", fields=("text",)).samples(range(3))]
    assert torch.equal(again.embed(items), plain.embed(items))
    assert again.figures == FIGURES


def test_the_card_says_what_it_is_and_keeps_what_a_person_wrote(saved: Path) -> None:
    api = Api()
    push(saved, "someone/small", licence="mit", api=api)
    card = hub.RepoCard(api.files["README.md"].decode())
    told = card.data.to_dict()
    assert told["language"] == "en"
    assert (told["library_name"], told["license"]) == ("intermodal", "mit")
    assert told["pipeline_tag"] == "zero-shot-image-classification"
    assert told["tags"] == ["scenes", "intermodal", "clip", "image", "text", "feature-extraction"]
    assert "Sees scenes." in card.text
    assert "| Recall@1 | diorama, test, 40 | text>image | 0.25 |" in card.text
    assert (saved / "README.md").read_text() == CARD
    assert [kind for kind, _ in api.asked] == ["repo", "commit"]
    assert api.asked[0][1]["private"] is False


def test_a_dry_run_says_what_would_go_up_and_sends_nothing(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run reached the hub")

    monkeypatch.setattr(hub, "HfApi", reached)
    monkeypatch.setattr(hub, "get_token", reached)
    assert run(["push", str(saved), "someone/small", "--dry-run", "--private"]) == 0
    shown = capsys.readouterr()
    size = (saved / "model.safetensors").stat().st_size
    assert f"{size:,}" in shown.err
    assert [line.split()[0] for line in shown.err.splitlines()[2:]] == sorted(p.name for p in saved.iterdir())
    assert "would go to someone/small (main, private): 4 files" in shown.out
    assert "nothing was sent" in shown.out


def test_the_verb_uses_the_token_of_this_machine(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api()
    monkeypatch.setattr(hub, "get_token", lambda: None)
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    assert run(["push", str(saved), "someone/small"]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: there is no token of the hub")
    assert "hf auth login" in told
    assert api.asked == []
    monkeypatch.setattr(hub, "get_token", lambda: "secret")
    assert run(["push", str(saved), "someone/small"]) == 0
    assert f"hub:someone/small@{COMMIT}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["small", "a/b/c", "../b", "a/../b", "a--b/c", "a/b.", "https://hub/a/b", "a/" + "b" * 96]
)
def test_what_is_no_name_is_refused(saved: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match="is no name of the hub; write owner/name"):
        push(saved, name, dry_run=True)


@pytest.mark.parametrize("other", ["checkpoint.pt", "encoders/image/weights.bin", ".env", "step-10/model.safetensors"])
def test_what_is_not_of_the_model_is_refused(saved: Path, tmp_path: Path, other: str) -> None:
    folder = tmp_path / "model"
    (folder / other).parent.mkdir(parents=True, exist_ok=True)
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / other).write_bytes(b"x")
    with pytest.raises(InvalidValue, match=f"not of the model: {other}; move them elsewhere"):
        push(folder, "someone/small", dry_run=True)


def test_what_is_no_whole_model_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"holds no config\.json"):
        push(tmp_path, "someone/small", dry_run=True)
    for kind, why in (("siglip", "published weights of the type 'siglip'"), ("compound", "models that lie elsewhere")):
        (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
        with pytest.raises(InvalidCheckpoint, match=why):
            push(tmp_path, "someone/small", dry_run=True)
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(InvalidCheckpoint, match=r"lacks model\.safetensors, README\.md"):
        push(tmp_path, "someone/small", dry_run=True)
    (tmp_path / "README.md").write_text("---\n[: no\n---\n")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidCheckpoint, match="cannot be read"):
        push(tmp_path, "someone/small", dry_run=True)
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    with pytest.raises(InvalidCheckpoint, match="are no YAML"):
        push(tmp_path, "someone/small", dry_run=True)
    with pytest.raises(InvalidValue, match="is on the hub already"):
        push("hub:someone/small", "someone/other", dry_run=True)


def test_what_was_to_be_private_does_not_go_where_all_can_see_it(saved: Path) -> None:
    api = Api(public=True)
    with pytest.raises(InvalidValue, match="someone/small is public already"):
        push(saved, "someone/small", private=True, api=api)
    assert api.files == {}


def test_what_the_hub_says_becomes_one_sentence(saved: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"cannot be pushed to someone/small \(OSError: no\s+network\)"):
        push(saved, "someone/small", api=Api(fails=OSError("no\n network")))


def test_files_of_joined_encoders_go_up_too(saved: Path) -> None:
    inside = saved / "encoders" / "image"
    inside.mkdir(parents=True)
    (inside / "tower.onnx").write_bytes(b"x")
    found = files_of(saved)
    assert found["encoders/image/tower.onnx"] == inside / "tower.onnx"
    (inside / "tower.onnx").unlink()
    inside.rmdir()
    inside.parent.rmdir()


def test_what_a_model_does_is_told_in_the_words_of_the_hub() -> None:
    tasks = tasks_of(load_model("diorama"))
    assert tasks[0] == "any-to-any"
    assert {"image-to-text", "text-to-video", "zero-shot-audio-classification", "feature-extraction"} <= set(tasks)


def test_without_the_library_the_message_says_what_to_install(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"intermodal\[models\]"):
        push(saved, "someone/small", dry_run=True)
