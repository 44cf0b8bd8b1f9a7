"""Two processes train as one does: loss, gradients, and what is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from intermodal.cli.train import Job, train
from intermodal.errors import InvalidValue
from intermodal.training.processes import ALONE, Processes, current, joined, parts

HERE = Path(__file__).parent
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "INTERMODAL_CACHE": str(folder), "HOME": str(folder)},
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found


def test_alone_everything_is_as_it_was() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    model = nn.Linear(2, 1)
    model(x).sum().backward()
    before = model.weight.grad.clone()
    ALONE.add_gradients(model.parameters())
    ALONE.same_weights(model)
    assert torch.equal(model.weight.grad, before)
    assert torch.equal(ALONE.gather(x), x)
    assert not ALONE.gather(x).requires_grad
    assert (ALONE.agreed(2.5), ALONE.mean(2.5), ALONE.all(True), ALONE.all(False)) == (2.5, 2.5, True, False)
    with joined() as among:
        assert among == current() == ALONE
        assert among.first


@pytest.mark.parametrize(
    ("rows", "micro_batch", "among", "expected"),
    [
        (8, 0, ALONE, [slice(None)]),
        (8, 8, ALONE, [slice(None)]),
        (8, 3, ALONE, [slice(0, 3), slice(3, 6), slice(6, 8)]),
        (8, 0, Processes(1, 2), [slice(4, 8)]),
        (8, 3, Processes(0, 2), [slice(0, 3), slice(3, 4)]),
        (9, 3, Processes(2, 3), [slice(6, 9)]),
    ],
)
def test_parts_share_a_batch(rows: int, micro_batch: int, among: Processes, expected: list[slice]) -> None:
    assert parts(rows, micro_batch, among) == expected


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(InvalidValue, match="9 rows cannot be shared by 2 processes"):
        parts(9, 0, Processes(0, 2))


@pytest.mark.timeout(400)  # two processes import everything, on a busy machine slowly
def test_two_processes_give_the_losses_and_gradients_of_one(tmp_path: Path) -> None:
    """The script asserts in both processes, for whole shares and for pieces, rows missing on one side among them."""
    done = run(*TWO, str(HERE / "two_processes.py"), folder=tmp_path)
    assert sorted(done.stdout.split()) == ["0:equal", "1:equal"]


@pytest.mark.timeout(400)  # two processes import everything, on a busy machine slowly
def test_training_under_torchrun_equals_training_alone(tmp_path: Path) -> None:
    changes = {"train.steps": "3", "train.precision": "fp32", "train.log_every": "1", "train.minutes": "5"}
    one = train(Job("clip", tmp_path / "one", fields=("text", "image"), batch=8, changes=changes))
    options = [word for path, value in changes.items() for word in ("--set", f"{path}={value}")]
    arguments = ("-m", "intermodal", "train", "clip", "--fields", "text,image", "--batch", "8", *options)
    done = run(*TWO, *arguments, "--set", "train.micro_batch=3", "--out", "two", "--json", folder=tmp_path)
    two = json.loads(done.stdout)  # one object: only the first process speaks
    assert two["samples"] == one["samples"] == 24
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    losses = [[row["loss"] for row in map(json.loads, log) if row["kind"] == "step"] for log in logs]
    assert len(losses[1]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
