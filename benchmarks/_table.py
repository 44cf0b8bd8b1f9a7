"""The one table of all speed benchmarks: every line measured against a named peer in the same run.

    python benchmarks/_table.py [NAME ...]      run these scripts of SCRIPTS, or all, and print one table

A script that takes part measures, and says on standard error what people want to read; ``run`` does the rest:

    from _table import Line, run

    def measure(chosen):
        return [Line("texts to vectors, bf16", ours=277, unit="/s", peer="transformers 5.23", shipped=12.8,
                     used_well=201, asked_shipped=22, asked_used_well=1.7, agreement="cosine 0.99996 or more")]

    raise SystemExit(run(__doc__, measure))     # with --json one JSON object on standard output, else the table

Only the standard library is used here, so that a table can be printed where nothing is installed.
"""

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = (
    "startup",
    "inference",
    "bytes_to_vectors",
    "contrastive_loss",
    "training_step",
    "indexing",
    "search_peers",
)
"""The scripts that take part, the quickest first; each is ``benchmarks/<name>.py``."""
NOTHING = "-"


@dataclass(frozen=True)
class Line:
    """One measurement beside its peer.

    Attributes:
        what: in a few words, the precision among them: ``pictures to vectors, bf16``.
        ours: the median of ours, in ``unit``.
        unit: of all three values. A rate (it ends in ``/s``) is better when larger; anything else when smaller.
        peer: who, with the version.
        shipped: the peer as its documentation has it used; None where that was not measured.
        used_well: the peer with every setting that helps it; None where that was not measured.
        asked_shipped: the ratio asked for against the peer as shipped; None where none is.
        asked_used_well: the same against the peer used well.
        asked: what is asked of ``ours`` itself, the largest value allowed (the smallest, for a rate); None: nothing.
        agreement: how far the results agree, in words; empty where there is nothing to compare.
        name: of the figure, for ``--record``: the ratios become ``<name>.shipped`` and ``<name>.used_well``.
    """

    what: str
    ours: float
    unit: str
    peer: str = ""
    shipped: float | None = None
    used_well: float | None = None
    asked_shipped: float | None = None
    asked_used_well: float | None = None
    asked: float | None = None
    agreement: str = ""
    name: str = ""

    def _ratio(self, peer: float | None) -> float | None:
        if peer is None or not self.ours or not peer:
            return None
        return self.ours / peer if self.unit.endswith("/s") else peer / self.ours

    @property
    def ratio_shipped(self) -> float | None:
        """How many times better ours is than the peer as shipped."""
        return self._ratio(self.shipped)

    @property
    def ratio_used_well(self) -> float | None:
        """How many times better ours is than the peer used well."""
        return self._ratio(self.used_well)

    @property
    def met(self) -> bool | None:
        """Whether everything asked of this line holds; None where nothing is asked of what was measured."""
        pairs = [(self.ratio_shipped, self.asked_shipped), (self.ratio_used_well, self.asked_used_well)]
        held = [ratio >= asked for ratio, asked in pairs if ratio is not None and asked is not None]
        if self.asked is not None:
            held.append(self.ours >= self.asked if self.unit.endswith("/s") else self.ours <= self.asked)
        return all(held) if held else None


class MissingPeer(ImportError):
    """A peer is not installed; the message says which."""


def run(doc: str | None, measure: Callable[[argparse.Namespace], Sequence[Line]], **flags: Mapping[str, object]) -> int:
    """Returns the exit code of a script that measured and published: 0 done, 2 a peer is missing.

    Args:
        doc: the script's docstring.
        measure: chosen options -> lines.
        flags: options of this script: name -> arguments of ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, messages on the other")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    for name, settings in flags.items():
        parser.add_argument(f"--{name}", **settings)  # type: ignore[arg-type]
    chosen = parser.parse_args()
    try:
        lines = measure(chosen)
    except ImportError as error:
        print(f"{error}; `python3 dev.py bench` installs the peers", file=sys.stderr)
        return 2
    publish(Path(sys.argv[0]).stem, lines, chosen)
    return 0


def publish(script: str, lines: Sequence[Line], chosen: argparse.Namespace) -> None:
    """Prints the lines as one JSON object or as the table, and records their ratios where that is asked.

    Args:
        script: name of the benchmark.
        lines: what it measured.
        chosen: ``json`` and ``record``, as ``run`` understood them.
    """
    if chosen.json:
        print(json.dumps({"script": script, "machine": machine(), "lines": [as_json(line) for line in lines]}))
    else:
        print(render([(script, line) for line in lines]))
    if chosen.record:
        _record(script, lines)


def as_json(line: Line) -> dict[str, object]:
    """Returns a line with its ratios as plain values."""
    derived = {"ratio_shipped": line.ratio_shipped, "ratio_used_well": line.ratio_used_well, "met": line.met}
    return {**dataclasses.asdict(line), **derived}


def from_json(entry: dict[str, object]) -> Line:
    """Returns the line that ``as_json`` wrote."""
    known = {field.name for field in dataclasses.fields(Line)}
    return Line(**{key: value for key, value in entry.items() if key in known})  # type: ignore[arg-type]


def _record(script: str, lines: Sequence[Line]) -> None:
    """Writes the ratios, and what is asked for in itself, to docs/figures.json."""
    figures = _figures()
    command = shlex.join(["python3", "dev.py", "bench", script, *[a for a in sys.argv[1:] if a not in ("--json",)]])
    for line in lines:
        name = (
            line.name or f"{script}.{'_'.join(''.join(c if c.isalnum() else ' ' for c in line.what.lower()).split())}"
        )
        if line.ratio_shipped is not None:
            note = f"{line.what}: against {line.peer} as shipped"
            figures.record(f"{name}.shipped", line.ratio_shipped, "x", _at_least(line.asked_shipped), command, note)
        if line.ratio_used_well is not None:
            note = f"{line.what}: against {line.peer} used well"
            figures.record(
                f"{name}.used_well", line.ratio_used_well, "x", _at_least(line.asked_used_well), command, note
            )
        if line.asked is not None or (line.shipped is None and line.used_well is None):
            word = "at least" if line.unit.endswith("/s") else "at most"
            asked = "" if line.asked is None else f"{word} {line.asked:g}"
            figures.record(name, line.ours, line.unit, asked, command, line.what)


def _at_least(asked: float | None) -> str:
    return "" if asked is None else f"at least {asked:g}"


def _figures():  # type: ignore[no-untyped-def]
    sys.path.append(str(Path(__file__).parents[1] / "tools"))
    import figures

    return figures


def machine() -> str:
    """Returns the cores that this process may use, and the processor's name."""
    return str(_figures().machine())


def number(value: float | None) -> str:
    """Returns a value with three digits that count."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def render(lines: Sequence[tuple[str, Line]]) -> str:
    """Returns the table as text: what was asked in brackets, below each row its peer and how far the results agree."""
    header = ["what", "ours", "", "as shipped", "ours is better by", "used well", "ours is better by", ""]
    rows, below = [header], [""]
    for _, line in lines:
        ours = number(line.ours) + _asked(line.asked)
        shipped = NOTHING if line.ratio_shipped is None else f"{line.ratio_shipped:.2f} x{_asked(line.asked_shipped)}"
        well = (
            NOTHING if line.ratio_used_well is None else f"{line.ratio_used_well:.2f} x{_asked(line.asked_used_well)}"
        )
        met = {None: "", True: "met", False: "NOT MET"}[line.met]
        rows.append([line.what, ours, line.unit, number(line.shipped), shipped, number(line.used_well), well, met])
        below.append("; ".join(part for part in (line.peer and f"beside {line.peer}", line.agreement) if part))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    shown = []
    for row, more in zip(rows, below, strict=True):
        shown.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        shown += [f"    {more}"] if more else []
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def _asked(value: float | None) -> str:
    return "" if value is None else f" (asked {number(value)})"


def run_all(scripts: Sequence[tuple[str, Path]], passed: Sequence[str]) -> tuple[list[tuple[str, Line]], list[str]]:
    """Returns the lines of every script, and in words which failed; each runs in a process of its own.

    Args:
        scripts: names and paths.
        passed: options handed to each.
    """
    lines: list[tuple[str, Line]] = []
    failed = []
    for n, (name, path) in enumerate(scripts, 1):
        print(f"[{n}/{len(scripts)}] {name}", file=sys.stderr, flush=True)
        began = time.monotonic()
        command = [sys.executable, str(path), "--json", *passed]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(f"{name} (exit code {done.returncode})")
            continue
        try:
            said = json.loads(done.stdout.strip().splitlines()[-1])
            lines += [(name, from_json(entry)) for entry in said["lines"]]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            failed.append(f"{name} (it printed no lines: {error!r})")
        print(f"    {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return lines, failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the scripts, prints the table and returns the exit code: 0 all ran, 1 one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}")
    parser.add_argument("--full", action="store_true", help="every round and size; takes longer")
    chosen = parser.parse_args(arguments)
    here = Path(__file__).parent
    unknown = [name for name in chosen.names if name not in SCRIPTS]
    if unknown:
        parser.error(f"{unknown[0]!r} does not take part in the table; use {', '.join(SCRIPTS)}")
    scripts = [(name, here / f"{name}.py") for name in chosen.names or SCRIPTS]
    lines, failed = run_all(scripts, [] if chosen.full else ["--quick"])
    print(f"{machine()}; medians, interleaved, in one run; a ratio above 1 means faster, or smaller\n")
    print(render(lines))
    met = [line.met for _, line in lines if line.met is not None]
    print(f"\n{sum(met)} of {len(met)} lines with something asked meet it")
    if failed:
        print(f"failed: {', '.join(failed)}; what they said stands above", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    raise SystemExit(main())
