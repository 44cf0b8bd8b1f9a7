"""How long a person waits for the first useful output: our import, our help and our verbs, beside importing the peers.

    python benchmarks/startup.py [--quick] [--json] [--record]

Every measurement is a fresh process with the files in the system's cache, from its start to its end (of ``train`` to
its first line), all in turns, medians. Beside our import and our help stands a script that imports open_clip and does
nothing else; beside the vector of one text with ViT-B/32 weights (random, 600 MB) the same done with transformers, from
the same folder. The other verbs have no peer; ``import torch`` is what they cannot do without.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from _table import Line, options, publish
from bytes_to_vectors import write_weights

INTERMODAL = [sys.executable, "-m", "intermodal"]
HERE = Path(__file__).parent
OPEN_CLIP = f"import sys; sys.path.insert(0, {str(HERE)!r}); from _contest import open_clip; open_clip()"
TEXT = "a red circle"
EMBED = """
import sys, torch
from transformers import CLIPModel, CLIPTokenizer
model, tokenizer = CLIPModel.from_pretrained(sys.argv[1]), CLIPTokenizer.from_pretrained(sys.argv[1])
with torch.inference_mode():
    found = model.get_text_features(**tokenizer([sys.argv[2]], return_tensors="pt"))
print(torch.nn.functional.normalize(getattr(found, "pooler_output", found)).shape)
"""
PEERS = {
    "import open_clip": [sys.executable, "-c", OPEN_CLIP],
    "import transformers, CLIPModel": [sys.executable, "-c", "from transformers import CLIPModel"],
}
OURS_CLIP, PEERS_CLIP = "intermodal embed, ViT-B/32", "transformers, a text to a vector"
ASKED_S = 0.3
FIRST_LINE = ("intermodal train",)
"""Verbs whose first line is waited for, not their end."""


def commands(folder: Path) -> dict[str, list[str]]:
    """Returns all command lines by name; makes a small library to search, and weights."""
    weights = folder / "weights"
    weights.mkdir()
    write_weights(weights)
    media, library = folder / "media", str(folder / "library")
    media.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        (media / f"{number}.txt").write_text(f"a {colour} circle")
    index = [*INTERMODAL, "index", library, str(media)]
    subprocess.run(index, check=True, capture_output=True)
    return {
        "import intermodal": [sys.executable, "-c", "import intermodal"],
        "intermodal --help": [*INTERMODAL, "--help"],
        "intermodal list": [*INTERMODAL, "list"],
        "intermodal embed": [*INTERMODAL, "embed", "diorama", "a red circle", "--out", str(folder / "v.npz")],
        "intermodal search": [*INTERMODAL, "search", library, "a red circle"],
        "intermodal train": [*INTERMODAL, "train", "clip", "--out", str(folder / "run")],
        OURS_CLIP: [*INTERMODAL, "embed", str(weights), TEXT, "--out", str(folder / "w.npz")],
        PEERS_CLIP: [sys.executable, "-c", EMBED, str(weights), TEXT],
        "import torch": [sys.executable, "-c", "import torch"],
        **PEERS,
    }


def seconds(command: Sequence[str], first_line: bool) -> float:
    """Returns the wall time of a process, or of it up to its first line.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    began = time.perf_counter()
    if not first_line:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return took
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None  # it is a pipe
    line = process.stdout.readline()
    took = time.perf_counter() - began
    process.kill()
    process.wait()
    process.stdout.close()
    if not line or line.startswith(("Traceback", "error")):
        raise RuntimeError(f"{' '.join(command)} gave no first line but {line!r}")
    return took


def measure(rounds: int) -> dict[str, float]:
    """Returns the median of each in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given = commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in given}
        for turn in range(-1, rounds):  # the first fills the system's cache
            for name in list(given)[:: 1 if turn % 2 == 0 else -1]:
                took = seconds(given[name], name in FIRST_LINE)
                times[name] += [took] if turn >= 0 else []
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> int:
    """Measures, prints and returns the exit code: 0 done, 2 a peer is missing."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="default 9, or 3 with --quick")
    chosen = parser.parse_args()
    for name, command in PEERS.items():
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print(f"{name} fails; `python3 dev.py bench` installs the peers", file=sys.stderr)
            return 2
    found = measure(chosen.rounds or (3 if chosen.quick else 9))
    for name, took in found.items():
        print(f"{name:<32} {took:6.3f} s", file=sys.stderr)
    clip = f"open_clip {version('open_clip_torch')}, imported"
    published = f"transformers {version('transformers')}"
    lines = [
        Line(name, found[name], "s", clip, found["import open_clip"], asked=ASKED_S, name=f"startup.{short}_s")
        for name, short in (("import intermodal", "import"), ("intermodal --help", "help"))
    ]
    name = "startup.embed_vit_b_32"
    lines.append(Line(OURS_CLIP, found[OURS_CLIP], "s", published, found[PEERS_CLIP], name=name))
    lines += [
        Line(f"intermodal {verb}", found[f"intermodal {verb}"], "s", name=f"startup.{verb}_s")
        for verb in ("list", "embed", "search", "train")
    ]
    publish("startup", lines, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
