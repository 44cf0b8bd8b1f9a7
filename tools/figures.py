"""Every figure that the project claims: kept in docs/figures.json, shown in the README and the docs as tables.

A benchmark that has measured something calls ``record``, so each number carries the command that measured it, the
machine and the day:

    sys.path.append(str(Path(__file__).parents[1] / "tools"))
    from figures import record

    record("retrieval.flickr8k.recall_at_10", 54.9, "%", "above 51.6", "python3 dev.py bench flickr8k")

A document shows all figures whose names begin with a group by holding these two lines; what stands between them is
written by ``python3 dev.py figures``, and ``python3 dev.py check`` fails when it is stale:

    <!-- figures:retrieval.flickr8k -->
    <!-- /figures -->
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*([./][a-z0-9][a-z0-9_-]*)*")
OPENING = re.compile(r"<!-- figures:(\S+) -->")
CLOSING = "<!-- /figures -->"


class FiguresError(Exception):
    """A figure or a document that is not as it should be; the message says which and why."""


def machine() -> str:
    """Returns the cores that this process may use, and the processor's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = ""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found.group(1).strip() if found else ""
    if not name and sys.platform == "darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return f"{cores} core{'s' if cores > 1 else ''}, {name or platform.processor() or platform.machine()}"


def load(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Returns every recorded figure by its name."""
    path = root / "docs" / "figures.json"
    return {entry["name"]: entry for entry in json.loads(path.read_text("utf-8"))} if path.exists() else {}


def _write(path: Path, text: str) -> None:
    """Writes a whole file or nothing: beside it first, then renamed over it."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time change the figures, where the system can lock a folder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def record(
    name: str, value: float | str, unit: str, asked: str, command: str, note: str = "", *, root: Path = ROOT
) -> dict[str, Any]:
    """Writes one figure, over the one of that name if there was one, and returns its entry.

    Args:
        name: small words joined by dots, from the group down: ``retrieval.flickr8k.recall_at_10``.
        value: the number measured, finite; or words where the answer is no number.
        unit: ``%``, ``ms``, ``x``; empty for a plain number.
        asked: what it has to be, in words: ``at least 0.95``; empty where nothing was asked.
        command: the command that measures it.
        note: what it is, in a few words for the table; made from the name where empty.
        root: the project; another one in tests.

    Raises:
        FiguresError: the name, the number or the command cannot be shown.
    """
    if not NAME.fullmatch(name):
        raise FiguresError(f"a figure is named in small words joined by dots, like search.ms; not {name!r}")
    if not isinstance(value, str):
        value = value if isinstance(value, int) else float(value)
        if not math.isfinite(value):
            raise FiguresError(f"the value of {name} is {value}; record what was measured")
    if not command.strip():
        raise FiguresError(f"{name} has no command; every number names the command that measures it")
    entry = {"name": name, "value": value, "unit": unit, "asked": asked, "command": command, "note": note}
    entry |= {"machine": machine(), "date": datetime.date.today().isoformat()}
    folder = root / "docs"
    folder.mkdir(exist_ok=True)
    with _alone(folder):
        entries = load(root) | {name: entry}
        ordered = [entries[key] for key in sorted(entries)]
        _write(folder / "figures.json", json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    return entry


def shown(value: float | str) -> str:
    """Returns a value for people: whole numbers whole, others with four digits that count."""
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(group: str, entries: dict[str, dict[str, Any]]) -> str:
    """Returns the Markdown table of every figure in ``group``.

    Raises:
        FiguresError: there is none.
    """
    rows = [
        entry for name, entry in sorted(entries.items()) if name == group or name.startswith((f"{group}.", f"{group}/"))
    ]
    if not rows:
        raise FiguresError(f"no figure is recorded under {group!r}")
    lines = ["| what | measured | asked | command |", "|---|---|---|---|"]
    for row in rows:
        what = row["note"] or row["name"].removeprefix(group).strip("./").replace("_", " ") or row["name"]
        space = "" if row["unit"] in ("", "x") else " "
        measured = f"{shown(row['value'])}{space}{row['unit']}"
        lines.append(
            f"| {_cell(what)} | {_cell(measured)} | {_cell(row['asked']) or '-'} | `{_cell(row['command'])}` |"
        )
    where = sorted({(row["machine"], row["date"]) for row in rows})
    return "\n".join([*lines, "", "; ".join(f"{name}, {day}" for name, day in where) + "."])


def filled(text: str, entries: dict[str, dict[str, Any]]) -> str:
    """Returns a document with every block of figures written anew; a marker counts only on a line of its own.

    Raises:
        FiguresError: a block is not closed, a closing line stands alone, or a group is not recorded.
    """
    lines: list[str] = []
    group = ""
    for line in text.split("\n"):
        opening = OPENING.fullmatch(line)
        if group and opening:
            raise FiguresError(f"the block figures:{group} is not closed before figures:{opening.group(1)}")
        if opening:
            group = opening.group(1)
            lines += [line, table(group, entries)]
        elif line == CLOSING:
            if not group:
                raise FiguresError("a block of figures is closed that was never opened")
            group = ""
        if not group:
            lines.append(line)
    if group:
        raise FiguresError(f"the block figures:{group} is not closed")
    return "\n".join(lines)


def stale(root: Path = ROOT) -> dict[Path, str]:
    """Returns each document whose figures are not those recorded, with the text that it should have."""
    entries = load(root)
    found = {}
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text("utf-8") if path.exists() else ""
        try:
            new = filled(text, entries)
        except FiguresError as error:
            raise FiguresError(f"{path.relative_to(root).as_posix()}: {error}") from error
        if new != text:
            found[path] = new
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Runs the command line and returns its exit code: 0 done, 1 stale, 2 wrong."""
    parser = argparse.ArgumentParser(description="Keep the figures in the documents as they were measured.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--update", action="store_true", help="write the figures into the documents")
    action.add_argument("--check", action="store_true", help="fail where a document shows other figures")
    options = parser.parse_args(arguments)
    try:
        found = stale(root)
    except FiguresError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for path, text in found.items():
        name = path.relative_to(root).as_posix()
        if options.update:
            _write(path, text)
        print(f"figures: wrote {name}" if options.update else f"figures: {name} is stale; run python3 dev.py figures")
    return 1 if found and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
