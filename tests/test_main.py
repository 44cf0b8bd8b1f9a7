"""``python -m intermodal``: the command line in a process of its own."""

import json
import subprocess
import sys

import pytest

from intermodal import __main__ as entry


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "intermodal", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_is_given_on_stdout() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: intermodal" in done.stdout
    assert "intermodal demo" in done.stdout


def test_verb_is_run_and_its_json_stands_alone_on_stdout() -> None:
    done = run("list", "modalities", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"modalities": ["audio", "image", "text", "timeseries", "video"]}


def test_mistake_is_one_line_on_stderr_and_status_2() -> None:
    done = run("list", "flavours")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no kind of thing to list named 'flavours'; use one of: data, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [0, 2, 130])
def test_status_of_the_command_line_is_that_of_the_process(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(arguments: list[str]) -> int:
        asked.append(arguments)
        return status

    monkeypatch.setattr("intermodal.cli.app.run", answer)
    monkeypatch.setattr(sys, "argv", ["intermodal", "list", "--json"])
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == status
    assert asked == [["list", "--json"]]
