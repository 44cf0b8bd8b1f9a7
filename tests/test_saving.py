import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidCheckpoint, UnknownName
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip, Config, build, sized
from intermodal.tokenizers.word import WordTokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "one", model(), card="# One")


def model() -> Clip:
    torch.manual_seed(0)
    return build(sized("tiny", {"text": "text", "timeseries": "timeseries"}, WordTokenizer(words=Diorama.vocabulary)))


def copy(saved: Path, to: Path) -> Path:
    to.mkdir()
    for path in saved.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_half_precision_is_half_the_size_and_nearly_the_same(saved: Path, tmp_path: Path) -> None:
    small = save_model(tmp_path / "half", model(), half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small, saved)]
    assert sizes[0] < 0.55 * sizes[1]
    items = [s["text"] for s in Diorama("test", fields=("text",)).samples(range(5))]
    cosine = (load_model(small).embed(items) * load_model(saved).embed(items)).sum(dim=1)
    assert float(cosine.min()) > 0.999


def test_a_loaded_model_is_trained_where_it_was_and_keeps_what_is_made_when_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model()
    config = first.config
    towers = {**config.towers, "text": dataclasses.replace(config.towers["text"], frozen=True)}
    save_model(tmp_path / "m", build(dataclasses.replace(config, towers=towers)))

    def with_more(chosen: Config) -> Clip:
        made = build(chosen)
        made.register_buffer("more", torch.arange(3), persistent=False)
        return made

    for make in (build, with_more):
        monkeypatch.setattr("intermodal.systems.clip.build", make)
        loaded = load_model(tmp_path / "m")
        assert {n for n, p in loaded.named_parameters() if not p.requires_grad} == {
            n for n, _ in first.named_parameters() if n.startswith("encoders.text.")
        }
        assert not any(t.is_meta for t in (*loaded.parameters(), *loaded.buffers()))
    assert loaded.more.tolist() == [0, 1, 2]


def test_every_key_that_does_not_fit_is_listed(saved: Path, tmp_path: Path) -> None:
    broken = copy(saved, tmp_path / "broken")
    state = load_file(broken / "model.safetensors")
    state["extra.weight"] = state.pop("heads.text.weight")
    state["heads.timeseries.weight"] = torch.zeros(2, 2)
    save_file(state, broken / "model.safetensors")
    with pytest.raises(
        InvalidCheckpoint,
        match=r"missing heads.text.weight; unexpected extra.weight; heads.timeseries.weight is \(2, 2\)",
    ):
        load_model(broken)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "cannot be read"),
        ("config.json", "{}", "lacks the keys system and config"),
        (
            "config.json",
            json.dumps({"model_type": "convnext"}),
            "weights of the type 'convnext'; this package reads: .*clip",
        ),
        ("config.json", "[]", "lacks the keys system and config"),
        ("config.json", json.dumps({"format": 99, "system": "clip", "config": {}}), "newer than"),
        ("model.safetensors", "no weights", "cannot be read"),
    ],
)
def test_damaged_files_are_explained(saved: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    broken = copy(saved, tmp_path / "broken")
    (broken / name).write_text(content)
    with pytest.raises(InvalidCheckpoint, match=message):
        load_model(broken)


def test_unknown_name_lists_the_shipped_models_and_an_empty_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="'no-such-model'"):
        load_model("no-such-model")
    with pytest.raises(InvalidCheckpoint, match="holds no config.json"):
        load_model(tmp_path)


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for card in ("# First", "# Second"):
        save_model(tmp_path / "m", model(), card=card)
    assert (tmp_path / "m" / "README.md").read_text() == "# Second"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_shipped_model_loads_in_a_fresh_process() -> None:
    """Nothing that another test has loaded before may be needed."""
    code = (
        "from intermodal.saving import load_model; assert not any(p.is_meta for p in load_model('diorama').buffers())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
