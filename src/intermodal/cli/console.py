"""What every verb says and how: one JSON object on stdout or text for people, messages on stderr, progress bars."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer

from intermodal.errors import InvalidValue

QUIET_S = 5.0
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout; messages go to stderr.")


class Bar(Protocol):
    """A progress bar."""

    def update(self, share: float | None, text: str = "") -> None:
        """Shows that ``share`` (0 to 1; None where the end is not known) is done, and a short text beside it."""
        ...


def say(text: str) -> None:
    """Prints a message for people on stderr."""
    print(text, file=sys.stderr, flush=True)


def finish(result: Mapping[str, Any], as_json: bool, text: str, then: str = "") -> None:
    """Ends a verb: prints ``result`` as JSON, or ``text`` and what to do next."""
    if as_json:
        print(json.dumps(result, default=str))
        return
    print(text)
    if then:
        print(f"\nNext:  {then}")


def settings(changes: Sequence[str], option: str = "--set", example: str = "towers.image.width=192") -> dict[str, str]:
    """Returns ``key=value`` options as a mapping.

    Args:
        changes: what was given.
        option: the name of the option, for the message.
        example: of what could be given.

    Raises:
        InvalidValue: an option without ``=``.
    """
    for change in changes:
        if "=" not in change:
            raise InvalidValue(f"{option} {change!r} has no value; write it as path=value, for example {example}")
    return {key.strip(): value for key, _, value in (change.partition("=") for change in changes)}


class _Lines:
    """Progress as a line every tenth, or every few seconds where the end is not known: for logs and pipes."""

    def __init__(self, title: str) -> None:
        self._title, self._next, self._last = title, 0.1, time.monotonic()

    def update(self, share: float | None, text: str = "") -> None:
        if share is None:
            if time.monotonic() - self._last > QUIET_S:
                self._last = time.monotonic()
                say(f"{self._title}: {text}")
        elif share >= self._next:
            say(f"{self._title}: {share:4.0%}  {text}".rstrip())
            self._next = int(share * 10 + 1) / 10 if share < 1 else 2.0


class _Silent:
    """No progress: for a process beside another that shows it."""

    def update(self, share: float | None, text: str = "") -> None:
        pass


SILENT: Bar = _Silent()


class _Rich:
    """Progress as a bar with the time left."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, share: float | None, text: str = "") -> None:
        self._progress.update(self._task, completed=share or 0.0, total=None if share is None else 1.0, text=text)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """Returns a context with a progress bar on stderr: a live one in a terminal, a line every tenth elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Rich(progress, progress.add_task(title, total=1.0, text=""))


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Returns a plain table: columns as wide as needed, numbers to the right."""
    cells = [list(header), *[list(r) for r in rows]]
    widths = [max(len(r[i]) for r in cells) for i in range(len(header))]
    lines = []
    for n, row in enumerate(cells):
        shown = []
        for text, width in zip(row, widths, strict=True):
            number = text.replace(".", "").replace("%", "").replace("-", "").strip().isdigit()
            shown.append(text.rjust(width) if number else text.ljust(width))
        lines.append("  ".join(shown).rstrip())
        if n == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)
