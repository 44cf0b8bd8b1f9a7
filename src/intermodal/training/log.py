"""What a run writes down: JSON lines always, TensorBoard events where that package is installed.

    RUN/log.jsonl    one object per line: kind (step, evaluation, warning, note), step, seconds, values

A run that is taken up again goes on with the same file, cut at its checkpoint.
"""

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class RunLog:
    """Appends to the log of one run; use as a context manager."""

    def __init__(self, folder: Path, resume_step: int | None = None, tensorboard: bool = True) -> None:
        """Opens the log.

        Args:
            folder: of the run, made if absent.
            resume_step: keep what was logged up to that step and drop what came after; None starts anew.
            tensorboard: write events too, if the package ``tensorboard`` is installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        kept = [] if resume_step is None else [r for r in read_log(folder) if r["step"] <= resume_step]
        self.path.write_text("".join(json.dumps(r) + "\n" for r in kept))
        self._file = self.path.open("a")
        self._start = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)
        self._events: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Adds one line; numbers also become TensorBoard scalars named ``kind/key``."""
        seconds = round(time.monotonic() - self._start, 3)
        self._file.write(json.dumps({"kind": kind, "step": step, "seconds": seconds, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for key, value in values.items():
                if isinstance(value, int | float):
                    self._events.add_scalar(f"{kind}/{key}", value, step)

    def __enter__(self) -> "RunLog":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


class NoLog:
    """Writes nothing: for the processes of a run that are not its first."""

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Does nothing."""

    def __enter__(self) -> "NoLog":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's log; a last line cut off by a kill is left out."""
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
