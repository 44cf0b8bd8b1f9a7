"""What a library does with files that are wrong in every way: reported or added, never fatal, in bounded memory.

    python benchmarks/library_malformed.py --files 500

Small valid files of every format are damaged (cut off, bits flipped, headers that lie, names that lie), files that
unpack to terabytes lie among them, and all are added to a library at once. Peak memory is the process's, above what it
took before.
"""

import argparse
import gc
import json
import re
import resource
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tools"))
from figures import machine, record
from intermodal import runtime
from intermodal.library.library import Library
from tests.library.fake import MAKERS, FakeModel
from tests.media.malformed import malformed_files

_KIND = re.compile(r"^(the sound of )?\d{5}-.*?\.\w+ (\(\w+\) )?")
"""What stands before the reason: the name of the file, and its format."""


def memory_mib(peak: bool) -> float:
    """Returns the memory that this process has, or the most it has had since ``forget_peak``."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Makes the peak begin anew, where the system can."""
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def measure(count: int, seed: int) -> dict[str, object]:
    """Returns what became of the files."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "media").mkdir()
        paths = malformed_files(folder / "media", count, seed)
        library = Library.create(folder / "library", FakeModel())
        library.add([maker(3) for maker in MAKERS.values()])  # so that everything is loaded before memory is counted
        library.search(MAKERS["text"](3))
        gc.collect()
        idle = memory_mib(peak=False)
        forget_peak()
        began = time.perf_counter()
        done = library.add(folder / "media")
        seconds = time.perf_counter() - began
        peak = memory_mib(peak=True) - idle
        held = library._store.snapshot().select(None, ["source"]).column("source").to_pylist()
        added = {Path(source) for source in held if source}
        reported = {Path(source): reason for source, reason in done.failed}
        silent = len(paths) - len(added) - len(reported) - done.skipped
        table = {}
        for ending in sorted({path.suffix for path in paths}):
            mine = [path for path in paths if path.suffix == ending]
            table[ending or "(none)"] = {
                "files": len(mine),
                "added": sum(path in added for path in mine),
                "reported": sum(path in reported for path in mine),
            }
        kinds = Counter(_KIND.sub("", reason)[:60] for reason in reported.values())
        unexpected = {str(path.name): why for path, why in reported.items() if re.match(r"\w+Error: ", why)}
    return {
        "files": len(paths),
        "added": len(added),
        "reported": len(reported),
        "skipped": done.skipped,
        "silent": silent,
        "both": len(added & set(reported)),
        "seconds": seconds,
        "idle_mib": idle,
        "peak_mib": peak,
        "by_ending": table,
        "reasons": dict(kinds.most_common(12)),
        "unexpected": unexpected,
    }


def show(result: dict[str, object]) -> None:
    """Prints the table for people."""
    print(f"{'ending':<10} {'files':>6} {'added':>6} {'reported':>9}")
    for ending, row in result["by_ending"].items():  # type: ignore[attr-defined]
        print(f"{ending:<10} {row['files']:>6} {row['added']:>6} {row['reported']:>9}")
    print(
        f"{'all':<10} {result['files']:>6} {result['added']:>6} {result['reported']:>9}   "
        f"{result['skipped']} equal to another, {result['silent']} without a word, {result['both']} both"
    )
    print(f"{result['seconds']:.1f} s; {result['peak_mib']:.0f} MiB at most above the {result['idle_mib']:.0f} at rest")
    for reason, count in result["reasons"].items():  # type: ignore[attr-defined]
        print(f"  {count:>4}  ... {reason}")
    for name, reason in result["unexpected"].items():  # type: ignore[attr-defined]
        print(f"  not said by the readers: {name}: {reason}")


def main() -> None:
    """Adds the files and prints what became of them; ends with 1 where one is unaccounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the figures asked for to docs/figures.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runtime.threads()
    command, where = shlex.join(["python", *sys.argv]), machine()
    if not arguments.json:
        print(f"{command}\n{where}")
    result = measure(arguments.files, arguments.seed)
    if arguments.record:
        asked = "all reported or added, none fatal"
        value = f"{result['reported']} reported, {result['added']} added, {result['silent']} neither, 0 fatal"
        record("library.malformed", value, "", asked, command)
        record(
            "library.malformed_peak_mib", round(float(str(result["peak_mib"]))), "MiB", "below 1024 above idle", command
        )
    if arguments.json:
        print(json.dumps({"command": command, "machine": where, **result}))
    else:
        show(result)
    sys.exit(1 if result["silent"] or result["both"] else 0)


if __name__ == "__main__":
    main()
