"""Checkpoints: whole or absent, and complete enough to go on as if nothing had happened."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from intermodal.errors import InvalidCheckpoint
from intermodal.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from intermodal.training.optimizer import optimizers


def model(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))


def moved_by(made: nn.Module) -> list[Optimizer]:
    return optimizers(made, "muon", 1e-3, 5e-3, 0.05)


def steps(made: nn.Module, movers: list[Optimizer], count: int) -> Tensor:
    """Takes steps whose input and dropout are drawn from torch's generator; returns the weights."""
    for _ in range(count):
        made.zero_grad()
        made(torch.randn(8, 4)).square().mean().backward()
        for optimizer in movers:
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in made.parameters()])


def test_what_is_loaded_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    whole = model()
    movers = moved_by(whole)
    steps(whole, movers, 3)
    path = save_checkpoint(tmp_path, 3, whole, movers, {"seconds": 1.5})
    expected = steps(whole, movers, 2)
    other = model(seed=2)
    again = moved_by(other)
    assert load_checkpoint(path, other, again) == {"step": 3, "seconds": 1.5}
    assert torch.equal(steps(other, again, 2), expected)


def test_only_the_newest_are_kept_in_the_order_of_their_steps(tmp_path: Path) -> None:
    made = model()
    for step in (9, 99_999_999, 100_000_000):
        path = save_checkpoint(tmp_path, step, made, moved_by(made), {})
    assert [p.name for p in checkpoints(tmp_path)] == ["step-99999999", "step-100000000"]
    assert checkpoints(tmp_path)[-1] == path
    assert {p.name for p in path.iterdir()} == {"model.safetensors", "optimizer.safetensors", "state.json"}
    assert checkpoints(tmp_path / "nowhere") == []


def test_checkpoint_cut_off_by_a_kill_is_never_seen(tmp_path: Path) -> None:
    made = model()
    save_checkpoint(tmp_path, 3, made, moved_by(made), {})
    beside = tmp_path / "checkpoints" / ".step-00000009.tmp"
    beside.mkdir()
    (beside / "model.safetensors").write_bytes(b"half")
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000003"]
    save_checkpoint(tmp_path, 9, made, moved_by(made), {})
    assert not beside.exists()


def test_checkpoint_of_another_model_is_refused_with_every_key(tmp_path: Path) -> None:
    made = model()
    path = save_checkpoint(tmp_path, 1, made, moved_by(made), {})
    other = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    with pytest.raises(InvalidCheckpoint, match=r"missing 1.bias; missing 1.weight; unexpected 2.bias"):
        load_checkpoint(path, other, moved_by(other))


def test_checkpoint_of_other_optimizers_is_refused(tmp_path: Path) -> None:
    made = model()
    movers = moved_by(made)
    steps(made, movers, 1)
    path = save_checkpoint(tmp_path, 1, made, movers, {})
    with pytest.raises(InvalidCheckpoint, match="is of 2 optimizers, the run has 1"):
        load_checkpoint(path, made, movers[:1])
    with pytest.raises(InvalidCheckpoint, match="is of 2 optimizers, the run has 3"):
        load_checkpoint(path, made, [*movers, torch.optim.SGD(made.parameters())])
    fewer = [torch.optim.SGD([made[0].weight]), movers[1]]
    with pytest.raises(InvalidCheckpoint, match="moments of 2 parameters, more than the model has"):
        load_checkpoint(path, made, fewer)


@pytest.mark.parametrize("name", ["optimizer.safetensors", "state.json"])
def test_damaged_file_is_explained(tmp_path: Path, name: str) -> None:
    made = model()
    path = save_checkpoint(tmp_path, 1, made, moved_by(made), {})
    (path / name).write_bytes(b"{")
    with pytest.raises(InvalidCheckpoint, match="delete it to go on from the one before"):
        load_checkpoint(path, made, moved_by(made))
