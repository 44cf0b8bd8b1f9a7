"""dev.py installs once, takes a broken installation up again, passes exit codes on, and says what is missing."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import dev

SCRIPT = Path(dev.__file__)
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and paths of POSIX")

PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
[project]
name = "intermodal"
dependencies = []
[project.optional-dependencies]
speech = []
test = []
bench = []
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project whose .venv holds a stand-in for Python that writes down how it was called."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev.time, "sleep", lambda _: None)
    return tmp_path


def stand_in(project: Path, script: str) -> None:
    """Puts a shell script in the place of the Python of .venv."""
    path = project / ".venv" / "bin" / "python"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$*" >> \'{project}/calls\'\n{script}\n')
    path.chmod(0o755)


def calls(project: Path) -> list[str]:
    path = project / "calls"
    return path.read_text().splitlines() if path.exists() else []


@POSIX
def test_the_second_run_installs_nothing_and_more_extras_are_added(project: Path) -> None:
    stand_in(project, "exit 0")
    dev.install(("speech",))
    dev.install(("speech",))
    dev.install(())
    pip = "-m pip install --progress-bar off --retries 5 -c constraints.txt -e"
    assert calls(project) == [f"{pip} .[speech]"]
    dev.install(("test",))
    dev.install(("speech", "test"))
    assert calls(project)[1:] == [f"{pip} .[speech,test]"]


@POSIX
@pytest.mark.parametrize(
    ("file", "text", "again"),
    [
        ("constraints.txt", "torch==2.14.0\n", True),
        ("pyproject.toml", PYPROJECT.replace("dependencies = []", 'dependencies = ["numpy>=2"]'), True),
        ("pyproject.toml", PYPROJECT + "[tool.ruff]\nline-length = 100\n", False),
        (".venv/pyvenv.cfg", "version = 3.12.1\n", True),
        (".venv/installed.json", "{", True),
    ],
)
def test_it_installs_again_when_what_it_installs_has_changed(project: Path, file: str, text: str, again: bool) -> None:
    stand_in(project, "exit 0")
    dev.install(("speech",))
    (project / file).write_text(text)
    dev.install(("speech",))
    assert len(calls(project)) == 1 + again


@POSIX
def test_a_failed_installation_leaves_no_stamp_and_says_what_pip_said(project: Path) -> None:
    stand_in(project, "echo 'ERROR: ResolutionImpossible: no'; exit 3")
    with pytest.raises(dev.Stop, match="ResolutionImpossible") as caught:
        dev.install(("speech",))
    assert caught.value.code == 3
    assert len(calls(project)) == 1
    assert dev.stamp() == {}
    assert "ResolutionImpossible" in (project / ".venv" / "install.log").read_text()
    stand_in(project, "exit 0")
    dev.install(("speech",))
    assert dev.stamp()["extras"] == ["speech"]


@POSIX
def test_a_broken_download_is_tried_again_and_not_for_ever(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(project, f"[ $(wc -l < '{project}/calls') -ge 3 ] && exit 0\necho 'IncompleteRead(7 bytes read)'; exit 1")
    dev.install(("speech",))
    assert len(calls(project)) == 3
    assert "trying again, 3 of 3" in capsys.readouterr().err
    stand_in(project, "echo 'Connection broken'; exit 2")
    with pytest.raises(dev.Stop, match="exit code 2"):
        dev.install(("test",))
    assert len(calls(project)) == 3 + dev.TRIES


@POSIX
def test_what_pip_sees_of_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_TARGET", "PYTHONPATH", "PIP_USER"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    stand_in(project, f"env > '{project}/environment'")
    dev.install(("speech",))
    seen = (project / "environment").read_text().splitlines()
    assert {"PIP_USER=0", "PIP_INDEX_URL=kept"} <= set(seen)
    assert not [line for line in seen if line.startswith(("PIP_TARGET=", "PYTHONPATH="))]


@POSIX
def test_a_peer_that_would_bring_another_torch_is_installed_alone(project: Path) -> None:
    stand_in(project, "exit 0")
    dev.install(("bench",))
    dev.install(("bench",))
    pip = "-m pip install --progress-bar off --retries 5 -c constraints.txt"
    assert calls(project) == [f"{pip} -e .[bench]", f"{pip} --no-deps open_clip_torch"]
    dev.install(("test",))
    assert calls(project)[2:] == [f"{pip} -e .[bench,test]", f"{pip} --no-deps open_clip_torch"]


@POSIX
def test_a_peer_that_cannot_be_installed_leaves_no_stamp(project: Path) -> None:
    stand_in(project, 'case "$*" in *--no-deps*) echo no such thing; exit 4;; *) exit 0;; esac')
    with pytest.raises(dev.Stop, match="pip could not install open_clip_torch") as caught:
        dev.install(("bench",))
    assert caught.value.code == 4
    assert dev.stamp() == {}


def test_an_unknown_extra_is_refused_before_anything_is_made(project: Path) -> None:
    with pytest.raises(dev.Stop, match="there is no extra named nonsense; use bench, speech, test"):
        dev.install(("nonsense",))
    assert not (project / ".venv").exists()


def test_without_ensurepip_it_names_the_package_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(dev.Stop, match=r"apt install python3\.\d+-venv") as caught:
        dev.install(("speech",))
    assert caught.value.code == 2


@POSIX
@pytest.mark.slow
def test_a_venv_whose_python_does_not_run_is_made_anew(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    dev.make_venv()
    assert subprocess.run([python, "-c", "import pip"], check=False).returncode == 0
    before = python.stat().st_mtime_ns
    dev.make_venv()
    assert python.stat().st_mtime_ns == before


@pytest.mark.parametrize("code", [0, 1, 7])
def test_exit_codes_are_passed_on(code: int) -> None:
    assert dev.run([sys.executable, "-c", f"raise SystemExit({code})"]) == code


@POSIX
def test_a_killed_command_gives_the_code_of_the_shell() -> None:
    assert dev.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == 137


def run_in_a_group(tmp_path: Path, child: str) -> subprocess.Popen[str]:
    """Starts dev.run on a script in a process group of its own, and waits until the script is under way."""
    (tmp_path / "child.py").write_text(textwrap.dedent(child))
    # A shell makes a command in the background ignore Ctrl-C, and its children inherit that: heed it again here.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys, dev; sys.exit(dev.run([sys.executable, {str(tmp_path / 'child.py')!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=SCRIPT.parent, start_new_session=True, text=True)
    until = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return process


CHILD = """
    import pathlib, signal, sys, time
    here = pathlib.Path(__file__).parent
    try:
        (here / "started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
        (here / "finished").touch()
"""


@POSIX
def test_ctrl_c_lets_the_command_finish_its_own_way(tmp_path: Path) -> None:
    process = run_in_a_group(tmp_path, CHILD)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert (tmp_path / "finished").exists()


@POSIX
def test_being_ended_ends_the_command_too(tmp_path: Path) -> None:
    process = run_in_a_group(tmp_path, CHILD)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM


def test_an_old_python_is_told_what_it_needs(tmp_path: Path) -> None:
    code = "import sys; sys.version_info = (3, 9, 6, 'final', 0); sys.argv = ['dev.py', 'demo']; exec(sys.stdin.read())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=SCRIPT.read_text("utf-8"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("intermodal needs Python 3.11 or later; this one is ")
    assert done.stderr.endswith("python3.11 dev.py demo\n")


@POSIX
def test_an_old_python_hands_over_to_a_newer_one(tmp_path: Path) -> None:
    newer = tmp_path / "python3.12"
    newer.write_text('#!/bin/sh\necho "$@"\n')
    newer.chmod(0o755)
    code = "import sys; sys.version_info = (3, 9); sys.argv = ['dev.py', 'demo', '--x']; exec(sys.stdin.read())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=SCRIPT.read_text("utf-8"),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.stdout == "dev.py demo --x\n"


def test_benchmarks_are_listed_by_what_they_say(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "benchmarks" / "real").mkdir(parents=True)
    (project / "benchmarks" / "real" / "photos.py").write_text("")
    (project / "benchmarks" / "search.py").write_text('"""How fast a search is.\n\nMore."""\n')
    (project / "benchmarks" / "_shared.py").write_text("")
    assert dev.bench(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["real/photos", "search", "How", "fast", "a", "search", "is."]
    with pytest.raises(dev.Stop, match="there is no benchmark named 'x'; use one of: real/photos, search"):
        dev.bench(["x"])


@POSIX
@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["demo", "--small"], "-m intermodal demo --small"),
        (["bench", "search", "--rows", "9"], "benchmarks/search.py --rows 9"),
        (["bench"], "benchmarks/_table.py"),
        (["bench", "--full"], "benchmarks/_table.py --full"),
        (["test"], f"-m pytest -m not slow -n {min(4, os.cpu_count() or 1)} --dist loadfile"),
        (["test", "-k", "x"], "-m pytest -m not slow -k x"),
        (["check"], "-m pytest tests/layout"),
    ],
)
def test_each_verb_runs_its_command_with_the_arguments(project: Path, arguments: list[str], ran: str) -> None:
    for folder, name in (("benchmarks", "search.py"), ("tools", "figures.py")):
        (project / folder).mkdir()
        (project / folder / name).write_text("")
    stand_in(project, 'case "$*" in "-m pytest"*) exit 5;; *) exit 0;; esac')
    assert dev.main(arguments) == (5 if ran.startswith("-m pytest") else 0)
    assert calls(project)[-1].replace(f"{project}/", "") == ran


@POSIX
def test_a_check_that_fails_is_named_and_the_others_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tools").mkdir()
    (project / "tools" / "figures.py").write_text("raise SystemExit(1)")
    stand_in(project, 'case "$*" in *mypy*) exit 4;; *) exit 0;; esac')
    assert dev.main(["test"]) == 4
    assert "these failed: types, figures" in capsys.readouterr().err
    assert [call.split()[1] for call in calls(project)] == ["pip", "ruff", "ruff", "mypy", "pytest"]


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["nonsense"], 2), (["check", "x"], 2)])
def test_wrong_words_are_answered_with_the_right_ones(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    said = done.stdout + done.stderr
    assert "demo" in said or "takes no arguments" in said
    assert "Traceback" not in said


def test_the_stamp_names_what_decides(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "installed.json").write_text(json.dumps({"fingerprint": "x", "extras": ["test"]}))
    assert dev.stamp() == {"fingerprint": "x", "extras": ["test"]}
    assert len(dev.fingerprint()) == 64
