"""The table of the benchmarks: ratios the right way round, what was asked beside them, failing scripts named."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from tests import scripts


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return scripts.load("_table")


def test_ratios_above_one_mean_that_ours_is_better(table: ModuleType) -> None:
    rate = table.Line("pictures", ours=40, unit="/s", peer="peer 1", shipped=10, used_well=32)
    assert (rate.ratio_shipped, rate.ratio_used_well) == (4, 1.25)
    time = table.Line("a step", ours=0.5, unit="s", shipped=2.0)
    assert (time.ratio_shipped, time.ratio_used_well) == (4, None)


@pytest.mark.parametrize(
    ("given", "met"),
    [
        ({"shipped": 10, "asked_shipped": 4}, True),
        ({"shipped": 10, "asked_shipped": 4.1}, False),
        ({"shipped": 10, "asked_shipped": 4, "used_well": 40, "asked_used_well": 1.2}, False),
        ({"asked_shipped": 4}, None),
        ({}, None),
        ({"asked": 40}, True),
        ({"asked": 41}, False),
    ],
)
def test_what_was_asked_is_met_or_not(table: ModuleType, given: dict, met: bool | None) -> None:
    assert table.Line("pictures", ours=40, unit="/s", **given).met is met


def test_a_value_that_is_no_rate_is_asked_to_be_small(table: ModuleType) -> None:
    assert table.Line("help", ours=0.1, unit="s", asked=0.3).met is True
    assert table.Line("help", ours=0.4, unit="s", asked=0.3).met is False


def test_a_line_survives_json(table: ModuleType) -> None:
    line = table.Line("pictures, bf16", 40.0, "/s", "peer 1", 10.0, None, 4.4, 1.2, None, "cosine 0.9999", "a.b")
    written = json.loads(json.dumps(table.as_json(line)))
    assert table.from_json(written) == line
    assert (written["ratio_shipped"], written["ratio_used_well"], written["met"]) == (4, None, False)


def test_the_table_shows_what_was_asked(table: ModuleType) -> None:
    lines = [
        table.Line("pictures", 40, "/s", "peer 1", 10, 32, 4.4, 1.2, agreement="cosine 0.9999"),
        table.Line("help", 0.1, "s", asked=0.3),
    ]
    header, _, first, below, second = table.render([("a", line) for line in lines]).splitlines()
    assert header.split()[:3] == ["what", "ours", "as"]
    assert "4.00 x (asked 4.4)" in first
    assert "1.25 x (asked 1.2)" in first
    assert first.endswith("NOT MET")
    assert below == "    beside peer 1; cosine 0.9999"
    assert "0.1 (asked 0.3)" in second
    assert second.endswith("met")


def test_publish_prints_one_object_or_the_table(table: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [table.Line("pictures", 40, "/s", "peer 1", 10)]
    table.publish("a", lines, Namespace(record=False, json=True))
    said = json.loads(capsys.readouterr().out)
    assert (said["script"], said["lines"][0]["ratio_shipped"]) == ("a", 4)
    table.publish("a", lines, Namespace(record=False, json=False))
    assert "pictures" in capsys.readouterr().out


def test_figures_are_recorded_by_name(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[tuple] = []

    class Figures:
        @staticmethod
        def record(*given: object) -> None:
            kept.append(given)

    monkeypatch.setattr(table, "_figures", lambda: Figures)
    monkeypatch.setattr(table, "machine", lambda: "here")
    monkeypatch.setattr(sys, "argv", ["x.py", "--record", "--json"])
    lines = [
        table.Line("Pictures, bf16 (tensors)", 40, "/s", "peer 1", 10, 32, 4.4),
        table.Line("help", 0.1, "s", asked=0.3, name="startup.help_s"),
    ]
    table.publish("a", lines, Namespace(record=True, json=True))
    command = "python3 dev.py bench a --record"
    name = "a.pictures_bf16_tensors"
    note = "Pictures, bf16 (tensors): against peer 1"
    assert kept == [
        (f"{name}.shipped", 4.0, "x", "at least 4.4", command, f"{note} as shipped"),
        (f"{name}.used_well", 1.25, "x", "", command, f"{note} used well"),
        ("startup.help_s", 0.1, "s", "at most 0.3", command, "help"),
    ]
    capsys.readouterr()


def test_all_scripts_run_and_one_that_fails_is_named(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.py").write_text(
        "import json, sys\n"
        "assert sys.argv[1:] == ['--json', '--quick']\n"
        "print('noise'); print(json.dumps({'lines': [{'what': 'x', 'ours': 4, 'unit': '/s', 'shipped': 2}]}))\n"
    )
    (tmp_path / "bad.py").write_text("raise SystemExit(2)\n")
    (tmp_path / "mute.py").write_text("print('nothing')\n")
    monkeypatch.setattr(table, "SCRIPTS", ("good", "bad", "mute"))
    monkeypatch.setattr(table, "__file__", str(tmp_path / "_table.py"))
    monkeypatch.setattr(table, "machine", lambda: "here")
    assert table.main([]) == 1
    said = capsys.readouterr()
    assert "2.00" in said.out
    assert "bad (exit code 2)" in said.err
    assert "mute (it printed no lines" in said.err
    assert table.main(["good"]) == 0
    with pytest.raises(SystemExit):
        table.main(["other"])


def test_a_script_is_run_with_its_options(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(chosen: object) -> list:
        return [table.Line("a step", chosen.steps * (0.5 if chosen.quick else 1.0), "s")]

    monkeypatch.setattr(sys, "argv", ["benchmarks/steps.py", "--json", "--quick", "--steps", "4"])
    assert table.run("What it measures.", measure, steps={"type": int}) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["script"], said["lines"][0]["ours"]) == ("steps", 2.0)

    def missing(_: object) -> list:
        raise table.MissingPeer("peer 1 is not here")

    assert table.run("What it measures.", missing, steps={"type": int}) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "peer 1 is not here; `python3 dev.py bench` installs the peers\n"
