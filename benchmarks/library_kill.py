"""What a library holds after its writers are killed: every acknowledged item, once, and it opens.

    python benchmarks/library_kill.py --rounds 20 --writers 2

Each round starts one or more processes that add the same folder (texts, and sounds of several windows) and print the
ids of each commit once it is done. After a random time all of them are killed with SIGKILL, and a new process's view of
the library is checked against what was printed: lost (printed and absent), doubled (an id twice), in part (a sound with
some of its windows), not opened. The last run goes on to the end and must hold every file once.
"""

import argparse
import json
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Thread

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tools"))
from figures import ROOT, machine, record

WINDOWS_OF_A_SOUND = 5
COMMIT_ROWS = 24


def writer(library: Path, media: Path) -> None:
    """Adds a folder and prints what each commit acknowledges; runs in a process of its own."""
    from intermodal.library import ingest
    from intermodal.library.library import Library
    from tests.library.fake import FakeModel

    class Slow(FakeModel):
        def embed(self, items):  # type: ignore[no-untyped-def]
            time.sleep(0.002)
            return super().embed(items)

    ingest.COMMIT_ROWS = COMMIT_ROWS
    ingest.BATCH = 12
    print("ready", flush=True)
    sys.stdin.readline()
    Library.open(library, Slow()).add(media, committed=lambda ids: print(json.dumps(ids), flush=True))
    print("done", flush=True)


def make_media(folder: Path, files: int) -> int:
    """Writes texts and every tenth a sound; returns how many items they are in a library."""
    from intermodal.modalities.audio import Audio

    folder.mkdir()
    for number in range(files):
        if number % 10 == 9:
            samples = np.full((1, 8000 * 42), number / files, np.float32)
            Audio(samples, 8000).save(folder / f"{number:05d}.wav")
        else:
            (folder / f"{number:05d}.txt").write_text(f"kind {number % 50}, number {number}")
    sounds = files // 10
    return files - sounds + sounds * WINDOWS_OF_A_SOUND


class Writer:
    """A process that adds, and what it has acknowledged."""

    def __init__(self, library: Path, media: Path) -> None:
        """Starts it; it waits for ``go``."""
        command = [sys.executable, __file__, "--write", str(library), str(media)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.acknowledged: set[str] = set()
        self.commits = 0
        self.done = False
        self._reader = Thread(target=self._read)

    def go(self) -> None:
        """Lets it add."""
        assert self.process.stdin is not None
        self._reader.start()
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            if line == "done\n":
                self.done = True
            elif line.endswith("]\n"):
                self.acknowledged.update(json.loads(line))
                self.commits += 1

    def kill(self) -> bool:
        """Kills it and returns whether it was still adding."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        return not self.done

    def finish(self) -> None:
        """Waits for its end."""
        self.process.wait()
        self._reader.join()


def wait(writers: list[Writer], commits: int, seconds: float) -> None:
    """Waits until one of them has acknowledged some commits, and some time more."""
    deadline = time.monotonic() + 120
    while max(each.commits for each in writers) < commits and time.monotonic() < deadline:
        if all(each.done for each in writers):
            return
        time.sleep(0.002)
    time.sleep(seconds)


def state(library: Path) -> Counter[str]:
    """Returns how often the library holds each id, read by a new object."""
    from intermodal.library.library import Library

    opened = Library.open(library)
    held = Counter(opened._store.snapshot().select(None, ["id"]).column("id").to_pylist())
    if held and len(opened.search(np.ones(32), top=5)) != min(5, len(held)):
        raise RuntimeError("a search found too few")
    return held


def check(library: Path, acknowledged: set[str], sums: Counter[str]) -> Counter[str]:
    """Adds what is wrong with a library to ``sums`` and returns what it holds."""
    try:
        held = state(library)
    except Exception as error:
        print(f"does not open: {error}", file=sys.stderr)
        sums["not_opened"] += 1
        return Counter()
    windows = Counter(name[:32] for name in held if "-" in name)
    sums["lost"] += len(acknowledged - set(held))
    sums["doubled"] += sum(count > 1 for count in held.values())
    sums["in_part"] += sum(count != WINDOWS_OF_A_SOUND for count in windows.values())
    return held


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Runs all rounds and returns what was found."""
    from intermodal.library.library import Library
    from tests.library.fake import FakeModel

    rng, sums, rows = random.Random(arguments.seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        library, media = Path(folder) / "library", Path(folder) / "media"
        expected = make_media(media, arguments.files)
        Library.create(library, FakeModel())
        acknowledged: set[str] = set()
        for number in range(arguments.rounds):
            writers = [Writer(library, media) for _ in range(arguments.writers)]
            for each in writers:
                each.go()
            wait(writers, rng.randrange(arguments.commits), rng.uniform(0, 0.3))
            killed = [each.kill() for each in writers]
            acknowledged |= {name for each in writers for name in each.acknowledged}
            held = check(library, acknowledged, sums)
            sums["killed"] += any(killed)
            rows.append({"round": number, "killed": sum(killed), "acknowledged": len(acknowledged), "held": len(held)})
            if not arguments.json:
                print(rows[-1], flush=True)
        last = [Writer(library, media) for _ in range(arguments.writers)]
        for each in last:
            each.go()
        for each in last:
            each.finish()
        held = check(library, acknowledged | {name for each in last for name in each.acknowledged}, sums)
    names = ("killed", "lost", "doubled", "in_part", "not_opened")
    return {"rounds": rows, **{name: sums[name] for name in names}, "expected": expected, "held": len(held)}


def main() -> None:
    """Runs the rounds and prints what was found; ends with 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--commits", type=int, default=8, help="kill before so many of a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the figures asked for to docs/figures.json")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        writer(*arguments.write)
        return
    command, where = shlex.join(["python", *sys.argv]), machine()
    if not arguments.json:
        print(f"{command}\n{where}")
    result = measure(arguments)
    wrong = sum(int(str(result[name])) for name in ("lost", "doubled", "in_part", "not_opened"))
    wrong += result["held"] != result["expected"]
    if arguments.record:
        value = f"{result['lost']} lost, {result['doubled']} doubled, {result['not_opened']} not opened"
        record("library.kill", value, "", f"0, 0, 0 in {arguments.rounds} rounds", command)
    if arguments.json:
        print(json.dumps({"command": command, "machine": where, **result}))
    else:
        print({name: value for name, value in result.items() if name != "rounds"})
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
