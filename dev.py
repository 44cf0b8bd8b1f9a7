"""Runs everything in this project from a plain Python 3.11 or later, with nothing else installed.

    python3 dev.py demo              show what it does (arguments are passed on)
    python3 dev.py setup [EXTRA ...] make .venv and install the project and these extras; else all for development
    python3 dev.py check             format, lint, types, figures, layout
    python3 dev.py test [ARG ...]    check, then the tests that are not slow; arguments go to pytest
    python3 dev.py bench             one table: how fast it is on this machine, beside the named peers; minutes
    python3 dev.py bench NAME ...    run one benchmark; --list shows their names
    python3 dev.py figures           write the measured figures into the README and the docs

The first run makes .venv beside this file and installs what the verb needs; later runs start at once. An installation
that was broken off is taken up again. Settings of pip (an index, a folder of wheels, a proxy) are kept.
"""
# ruff: noqa: UP036 - an old Python has to reach the message below

import os
import shutil
import sys

if sys.version_info < (3, 11):
    newer = [path for path in map(shutil.which, ("python3.%d" % minor for minor in range(14, 10, -1))) if path]  # noqa: UP031
    if newer:
        os.execv(newer[0], [newer[0], *sys.argv])
    print("intermodal needs Python 3.11 or later; this one is", sys.version.split()[0], file=sys.stderr)
    print("Install a newer one (apt install python3.11 python3.11-venv, or brew install python)", file=sys.stderr)
    print("and run  python3.11", *sys.argv, file=sys.stderr)
    raise SystemExit(2)

import ast
import hashlib
import importlib.util
import json
import queue
import re
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
EXTRAS = {
    "demo": ("speech",),
    "setup": ("speech", "tensorboard", "test"),
    "check": ("test",),
    "test": ("test",),
    "bench": ("bench", "speech"),
}
"""What each verb needs beyond the package itself."""

ALONE = {"bench": ("open_clip_torch",)}
"""What an extra needs besides, installed without what it asks for itself: it would bring a second build of torch."""

PROCESSES_MAX = 4
"""That all tests are shared out to, one for each core up to these: each takes 1 to 2 GiB."""

TRANSIENT = re.compile(
    r"ConnectionError|Connection (broken|reset|aborted|refused)|timed out|IncompleteRead|ProtocolError|ReadTimeout"
    r"|DO NOT MATCH THE HASHES|Remote end closed|Temporary failure|Max retries exceeded|Network is unreachable"
    r"|BadZipFile|has an invalid wheel|HTTP error 5\d\d",
    re.IGNORECASE,
)
"""What pip says when a download broke and another try may do better."""

TRIES = 3
STARTED = time.monotonic()


class Stop(Exception):
    """The run cannot go on; carries the exit code, and the message is for people."""

    def __init__(self, code: int, message: str) -> None:
        """Keeps the exit code beside the message."""
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """Prints a line with the time since the start; on stderr, so that the output of a verb stays its own."""
    print(f"[dev {time.monotonic() - STARTED:5.1f} s] {text}", file=sys.stderr, flush=True)


def python() -> Path:
    """Returns the Python of .venv, whether it is there or not."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(command: Sequence[str | Path], cwd: Path | None = None) -> int:
    """Returns the exit code of a command that shares this terminal; 130 after Ctrl-C, 128 + n when killed by signal n.

    Ctrl-C reaches the command by itself, so this waits for it to finish its own way; a second one ends it.
    """
    process = subprocess.Popen([str(part) for part in command], cwd=cwd)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    interrupted = False
    try:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                if interrupted:
                    process.terminate()
                interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
    if interrupted:
        return 130
    return 128 - code if code < 0 else code


def fingerprint() -> str:
    """Returns a hash of everything that decides what has to be installed, other than the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    configuration = VENV / "pyvenv.cfg"
    parts = [
        str(ROOT),  # an editable installation points here
        configuration.read_text("utf-8") if configuration.exists() else "",
        (ROOT / "constraints.txt").read_text("utf-8"),
        project["build-system"],
        project["project"],
        project.get("tool", {}).get("setuptools"),
        ALONE,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def stamp() -> dict[str, Any]:
    """Returns what the last whole installation left in .venv; empty where there was none."""
    try:
        return dict(json.loads((VENV / "installed.json").read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def make_venv() -> None:
    """Makes .venv, or makes it anew where its Python does not run, is too old, or has no pip.

    Raises:
        Stop: this Python cannot make one.
    """
    probe = "import sys, pip; raise SystemExit(sys.version_info < (3, 11))"
    if python().exists() and subprocess.run([python(), "-c", probe], capture_output=True, check=False).returncode == 0:
        return
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
        raise Stop(
            2,
            "this Python cannot make a virtual environment, because its ensurepip is not installed. Run\n"
            f"    {sudo}apt install python{version}-venv\nand then this command again.",
        )
    say("making .venv" + (" anew, because the one here does not work" if VENV.exists() else ""))
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(done.returncode, f"python -m venv failed:\n{done.stdout}{done.stderr}".rstrip())


def watched(command: Sequence[str | Path], log: Path) -> tuple[int, list[str]]:
    """Returns the exit code and the lines of a long command, showing how far it is; the lines go to ``log`` too."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")
    }
    environment |= {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("PIP_DEFAULT_TIMEOUT", "60")
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    coming: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None  # it is a pipe
        with process.stdout as output:
            for line in output:
                coming.put(line.rstrip())
        coming.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        return _follow(process, coming, log)
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        if sys.stderr.isatty():
            print(f"\r{' ' * (shutil.get_terminal_size().columns - 1)}\r", end="", file=sys.stderr, flush=True)


def _follow(process: subprocess.Popen[str], coming: "queue.Queue[str | None]", log: Path) -> tuple[int, list[str]]:
    """Shows the newest line: every second in place in a terminal, every 15 seconds on a new line elsewhere."""
    terminal = sys.stderr.isatty()
    lines: list[str] = []
    shown_at = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        while True:
            try:
                line = coming.get(timeout=1)
                if line is None:
                    return process.wait(), lines
                lines.append(line)
                file.write(line + "\n")
            except queue.Empty:
                pass
            now = time.monotonic()
            if lines and now - shown_at >= (0.1 if terminal else 15):
                shown_at = now
                short = next((text for text in reversed(lines) if text.strip() and "WARNING" not in text), "").strip()
                width = shutil.get_terminal_size().columns - 1
                if terminal:
                    row = f"[dev {now - STARTED:5.1f} s] {short}"[:width]
                    print(f"\r{row:<{width}}", end="", file=sys.stderr, flush=True)
                else:
                    say(short if len(short) < 120 else short[:117] + "...")


def pip(*wanted: str) -> None:
    """Installs with pip, in the versions of constraints.txt; tries again where a download broke.

    Raises:
        Stop: it cannot be done; the message holds the end of what pip said.
    """
    command: list[str | Path] = [
        python(),
        "-m",
        "pip",
        "install",
        "--progress-bar",
        "off",
        "--retries",
        "5",
        "-c",
        "constraints.txt",
    ]
    log = VENV / "install.log"
    for attempt in range(1, TRIES + 1):
        code, lines = watched([*command, *wanted], log)
        if code == 0:
            return
        broken = next((line.strip() for line in lines if TRANSIENT.search(line)), "")
        if not broken or attempt == TRIES:
            end = "\n".join(lines[-15:])
            raise Stop(code, f"{end}\n\npip could not install {wanted[-1]} (exit code {code}); it said: {log}")
        say(f"a download broke ({broken[:80]}); trying again, {attempt + 1} of {TRIES}")
        time.sleep(2 * attempt)


def install(extras: Sequence[str]) -> None:
    """Makes sure that .venv holds the project with these extras, and those that were asked for before.

    Raises:
        Stop: it cannot be done; the message holds the end of what pip said.
    """
    last = stamp()
    had = set(last.get("extras", []))
    if python().exists() and last.get("fingerprint") == fingerprint() and set(extras) <= had:
        return
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    if not set(extras) <= known:
        raise Stop(
            2, f"there is no extra named {' or '.join(sorted(set(extras) - known))}; use {', '.join(sorted(known))}"
        )
    wanted = sorted(set(extras) | (had & known))
    make_venv()
    (VENV / "installed.json").unlink(missing_ok=True)
    say(f"installing intermodal[{','.join(wanted)}] into .venv; the first time takes some minutes")
    pip("-e", f".[{','.join(wanted)}]")
    for package in sorted({package for extra in wanted for package in ALONE.get(extra, ())}):
        pip("--no-deps", package)
    beside = VENV / "installed.json.new"
    beside.write_text(json.dumps({"fingerprint": fingerprint(), "extras": wanted}), "utf-8")
    beside.replace(VENV / "installed.json")
    say("installed")


def check(layout: bool = True) -> int:
    """Returns 0 where every check holds, else the exit code of the first that does not; runs them all."""
    steps: dict[str, list[str | Path]] = {
        "format": [python(), "-m", "ruff", "format", "--check", "--output-format", "concise", "."],
        "lint": [python(), "-m", "ruff", "check", "--output-format", "concise", "."],
        "types": [python(), "-m", "mypy", "--strict", "src", "tools", "dev.py"],
        "figures": [sys.executable, "tools/figures.py", "--check"],
    }
    if layout:
        steps["layout"] = [python(), "-m", "pytest", "tests/layout"]
    failed: dict[str, int] = {}
    for name, command in steps.items():
        say(f"check: {name}")
        code = run(command, ROOT)
        if code == 130:
            return code
        if code:
            failed[name] = code
    say(f"check: these failed: {', '.join(failed)}" if failed else "check: all well")
    return next(iter(failed.values()), 0)


def test(arguments: Sequence[str]) -> int:
    """Returns the exit code of the checks, or of pytest where they hold; the layout is among the tests of pytest.

    All tests together are shared out to processes, a file to one of them; tests that are asked for run in one, since
    then what they print and where they stop is wanted.
    """
    checked = check(layout=False)
    if checked == 130:
        return checked
    say("test: pytest")
    shared = [] if arguments else ["-n", str(min(PROCESSES_MAX, os.cpu_count() or 1)), "--dist", "loadfile"]
    tested = run([python(), "-m", "pytest", "-m", "not slow", *shared, *arguments], ROOT)
    if checked:
        say("test: the checks before the tests failed")
    return tested or checked


def benchmarks() -> dict[str, Path]:
    """Returns the scripts of benchmarks/ by their names; one in a folder is named ``folder/script``."""
    folder = ROOT / "benchmarks"
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("[!_]*.py"))}


def bench(arguments: Sequence[str]) -> int:
    """Returns the exit code of the benchmark that is named first, run with the rest; of the table where none is named.

    Raises:
        Stop: there is no such benchmark.
    """
    scripts = benchmarks()
    if arguments and arguments[0] == "--list":
        for name, path in scripts.items():
            said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            print(f"{name:<24} {said.partition(chr(10))[0]}".rstrip())
        return 0
    if arguments and not arguments[0].startswith("-") and arguments[0] not in scripts:
        raise Stop(2, f"there is no benchmark named {arguments[0]!r}; use one of: {', '.join(scripts) or '(none)'}")
    install(EXTRAS["bench"])
    if not arguments or arguments[0].startswith("-"):
        return run([python(), ROOT / "benchmarks" / "_table.py", *arguments], ROOT)
    return run([python(), scripts[arguments[0]], *arguments[1:]], ROOT)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code of one verb."""
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb in ("", "-h", "--help", "help"):
        print(__doc__.strip())
        return 0 if verb else 2
    if verb not in (*EXTRAS, "figures"):
        raise Stop(2, f"there is no verb {verb!r}; use one of: {', '.join((*EXTRAS, 'figures'))}")
    if verb in ("check", "figures") and rest:
        raise Stop(2, f"{verb} takes no arguments; it was given {' '.join(rest)}")
    if verb == "figures":
        return run([sys.executable, "tools/figures.py", "--update"], ROOT)
    if verb == "bench":
        return bench(rest)
    install(rest if verb == "setup" and rest else EXTRAS[verb])
    if verb == "setup":
        say("ready; next: python3 dev.py demo")
        return 0
    if verb == "demo":
        return run([python(), "-m", "intermodal", "demo", *rest])
    return check() if verb == "check" else test(rest)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except Stop as stop:
        print(f"dev.py: {stop}", file=sys.stderr)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        print("\ndev.py: stopped; the next run goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
