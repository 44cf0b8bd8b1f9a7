"""How long a person waits for the first useful output: our import, our help and our verbs, beside importing the peers.

    python benchmarks/startup.py [--quick] [--json] [--record]

Every measurement is a fresh process with the files in the system's cache, from its start to its end (of ``train`` to
its first line), all in turns, medians. Beside our import and our help stands a script that imports open_clip and does
nothing else; beside the vector of one text with ViT-B/32 weights (random, 600 MB) the same done with transformers, from
the same folder (not with ``--quick``). The other verbs have no peer; ``import torch`` is what they cannot do without.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from _table import Line, MissingPeer, run
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


def commands(folder: Path, quick: bool) -> dict[str, list[str]]:
    """Returns all command lines by name, ``quick`` those without published weights; makes a small library to search."""
    media, library = folder / "media", str(folder / "library")
    media.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        (media / f"{number}.txt").write_text(f"a {colour} circle")
    index = [*INTERMODAL, "index", library, str(media)]
    subprocess.run(index, check=True, capture_output=True)
    made = {
        "import intermodal": [sys.executable, "-c", "import intermodal"],
        "intermodal --help": [*INTERMODAL, "--help"],
        "intermodal list": [*INTERMODAL, "list"],
        "intermodal embed": [*INTERMODAL, "embed", "diorama", "a red circle", "--out", str(folder / "v.npz")],
        "intermodal search": [*INTERMODAL, "search", library, "a red circle"],
        "intermodal train": [*INTERMODAL, "train", "clip", "--out", str(folder / "run")],
        "import torch": [sys.executable, "-c", "import torch"],
        "import open_clip": PEERS["import open_clip"],
    }
    if quick:
        return made
    weights = folder / "weights"
    weights.mkdir()
    write_weights(weights)
    return {
        **made,
        OURS_CLIP: [*INTERMODAL, "embed", str(weights), TEXT, "--out", str(folder / "w.npz")],
        PEERS_CLIP: [sys.executable, "-c", EMBED, str(weights), TEXT],
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


def measure(rounds: int, quick: bool) -> dict[str, float]:
    """Returns the median of each in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given = commands(Path(folder), quick)
        times: dict[str, list[float]] = {name: [] for name in given}
        for turn in range(-1, rounds):  # the first fills the system's cache
            for name in list(given)[:: 1 if turn % 2 == 0 else -1]:
                took = seconds(given[name], name in FIRST_LINE)
                times[name] += [took] if turn >= 0 else []
    return {name: statistics.median(taken) for name, taken in times.items()}


def lines(chosen: Namespace) -> list[Line]:
    """Measures, says everything and returns what the table shows.

    Raises:
        MissingPeer: a peer cannot be imported.
    """
    for name, command in list(PEERS.items())[: 1 if chosen.quick else None]:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise MissingPeer(f"{name} fails")
    found = measure(chosen.rounds or (1 if chosen.quick else 9), chosen.quick)
    for name, took in found.items():
        print(f"{name:<32} {took:6.3f} s", file=sys.stderr)
    clip = f"open_clip {version('open_clip_torch')}, imported"
    published = f"transformers {version('transformers')}"
    made = [
        Line(name, found[name], "s", clip, found["import open_clip"], asked=ASKED_S, name=f"startup.{short}_s")
        for name, short in (("import intermodal", "import"), ("intermodal --help", "help"))
    ]
    if OURS_CLIP in found:
        name = "startup.embed_vit_b_32"
        made.append(Line(OURS_CLIP, found[OURS_CLIP], "s", published, found[PEERS_CLIP], name=name))
    made += [
        Line(f"intermodal {verb}", found[f"intermodal {verb}"], "s", name=f"startup.{verb}_s")
        for verb in ("list", "embed", "search", "train")
    ]
    return made


if __name__ == "__main__":
    rounds = {"type": int, "help": "default 9, or 1 with --quick"}
    raise SystemExit(run(__doc__, lines, rounds=rounds))
