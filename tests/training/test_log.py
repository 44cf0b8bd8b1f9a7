"""The log of a run: every line kept, none twice, whatever ended the run."""

import json
from pathlib import Path

import pytest

from intermodal.training.log import NoLog, RunLog, read_log


def test_lines_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    with RunLog(tmp_path / "new" / "run", tensorboard=False) as log:
        log.write("step", 1, {"loss": 0.5, "rate": 1e-3})
        log.write("warning", 1, {"text": "the loss has stayed where it was"})
        log.write("evaluation", 2, {"recall_at_1": 0.25})
        assert len(read_log(tmp_path / "new" / "run")) == 3  # while it is open
    rows = read_log(tmp_path / "new" / "run")
    assert [(row["kind"], row["step"]) for row in rows] == [("step", 1), ("warning", 1), ("evaluation", 2)]
    assert (rows[0]["loss"], rows[0]["rate"], rows[2]["recall_at_1"]) == (0.5, 1e-3, 0.25)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert read_log(tmp_path / "nowhere") == []


def test_log_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write("step", 1, {"loss": 0.5})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    assert [row["loss"] for row in read_log(tmp_path)] == [0.5]
    with RunLog(tmp_path, resume_step=1, tensorboard=False) as log:
        log.write("step", 2, {"loss": 0.4})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_resumed_log_is_cut_at_the_checkpoint_and_its_time_goes_on(tmp_path: Path) -> None:
    lines = [{"kind": "step", "step": step, "seconds": 100.0 * step} for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with RunLog(tmp_path, resume_step=2, tensorboard=False) as log:
        log.write("step", 3, {})
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert 200.0 <= rows[2]["seconds"] < 260.0
    with RunLog(tmp_path, tensorboard=False):
        assert read_log(tmp_path) == []  # a new run begins anew


def test_numbers_become_tensorboard_scalars_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path) as log:
        log.write("step", 1, {"loss": 0.5, "text": "no number"})
        log.write("step", 2, {"loss": 0.25})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["step/loss"]
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(1, 0.5), (2, 0.25)]


def test_the_other_processes_write_nothing(tmp_path: Path) -> None:
    with NoLog() as log:
        log.write("step", 1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
