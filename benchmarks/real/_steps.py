"""What the scripts beside it share: writing a data set as a folder, running the command line, recording figures."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"

Commands = Mapping[str, Sequence[str]]
"""Name -> arguments of ``intermodal``; ``{data}`` and ``{out}`` stand for the data set and the folder of the run."""


@dataclass(frozen=True)
class Figure:
    """A number to record.

    Attributes:
        name: in docs/figures.json.
        command: the command whose result holds it.
        path: the keys that lead to it.
        asked: what it is held against.
    """

    name: str
    command: str
    path: tuple[str, ...]
    asked: str


def options(description: str, **flags: Mapping[str, Any]) -> argparse.Namespace:
    """Returns the parsed command line: what every script takes, and its own ``flags``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="where to write (default: real/ in the cache of intermodal)")
    parser.add_argument("--prepare-only", action="store_true", help="write the folder and stop")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/figures.json")
    for name, settings in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    chosen = parser.parse_args()
    if chosen.work is None:
        from intermodal.runtime import cache_folder

        chosen.work = cache_folder() / "real"
    return chosen


def prepared(folder: Path, needs: Path, write: Callable[[Path], Iterable[Mapping[str, Any]]]) -> Path:
    """Returns ``folder`` with a ``metadata.jsonl``; where it has none, ``write`` makes the media and gives the rows.

    The metadata is renamed into place when everything else is there, so a folder that has it is whole.
    """
    metadata = folder / "metadata.jsonl"
    if metadata.exists():
        return folder
    if not needs.is_dir():
        sys.exit(f"needs the folder {needs}, which is absent; give --shared the folder that holds {needs.name}")
    print(f"writing {folder}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / ".metadata.jsonl"
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in write(folder))
    beside.rename(metadata)
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a data set's ``pairs.jsonl``."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def run(commands: Commands, data: Path, out: Path) -> dict[str, Any]:
    """Returns what each command printed as JSON, by its name; stops at the first that fails."""
    results: dict[str, Any] = {}
    for name, arguments in commands.items():
        filled = [argument.format(data=data, out=out) for argument in arguments]
        print("intermodal", *filled, file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "intermodal", *filled, "--json"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.returncode)
        results[name] = json.loads(done.stdout)
    return results


def percent(result: Any, path: Sequence[str]) -> float:
    """Returns 100 times the number at the end of ``path``."""
    for key in path:
        result = result[key]
    return round(100 * float(result), 2)


def measure(
    chosen: argparse.Namespace, data: Path, commands: Commands, figures: Sequence[Figure], recorded: bool = True
) -> None:
    """Runs the commands and prints one JSON object with the figures; with ``--prepare-only`` prints the folder alone.

    Args:
        chosen: of ``options``.
        data: the folder of the data set.
        commands: to run.
        figures: in what they print.
        recorded: False where figures of such a run are not to be recorded, even if asked for.
    """
    if chosen.prepare_only:
        print(data)
        return
    results = run(commands, data, chosen.work / "runs" / data.name)
    values = {figure.name: percent(results[figure.command], figure.path) for figure in figures}
    print(json.dumps({"figures": values, "results": results}))
    if chosen.record and recorded:
        keep({figure.name: (values[figure.name], figure.asked) for figure in figures})


def keep(values: Mapping[str, tuple[float, str]], flags: str = "--record") -> None:
    """Records figures in percent: name -> (value, what it is held against)."""
    sys.path.append(str(ROOT / "tools"))
    import figures as recorded

    script = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix()
    for name, (value, asked) in values.items():
        recorded.record(f"real.{name}", value, "%", asked, f"python3 {script} {flags}")
