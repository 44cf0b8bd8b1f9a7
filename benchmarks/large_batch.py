"""Large batches in little memory: CLIP in the shape of ViT-B/32, trained in pieces by gradient caching.

    python benchmarks/large_batch.py [--batch 8192] [--check 256] [--quick] [--json] [--record]

Two measurements. The gradient of ``--check`` rows computed in pieces is compared with that of the whole batch at once,
in fp32, dropped tokens and all (they are drawn piece by piece, so the whole is put together from pieces that keep their
graphs, and with nothing dropped from one). Then the training loop takes a step with ``--batch`` rows in bf16 where
the processor multiplies it, and the largest memory the process ever held is read: weights, gradients, optimizer, the
batch and one piece. Pictures are noise of 224 x 224, captions 14 ids long on average; the work does not depend on it.

The floor of a step: per row 8.8 GFLOP forward for the picture and 0.08 per id of the text, four times (forward, forward
again, and twice that backward); how much of the measured peak is reached is said on standard error.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _table import Line, run
from torch import Tensor

PICTURE_FLOPS, ID_FLOPS = 8.8e9, 0.076e9
GIB = 2**30


def model(token_dropout: float) -> Any:
    """Returns ViT-B/32 for pictures and the text transformer beside it, with fresh weights."""
    from dataclasses import replace

    from intermodal.systems.clip import build, sized
    from intermodal.tokenizers.byte import ByteTokenizer

    config = sized("paper", {"image": "image", "text": "text"}, ByteTokenizer())
    towers = {name: replace(tower, token_dropout=token_dropout) for name, tower in config.towers.items()}
    torch.manual_seed(0)
    made = build(replace(config, towers=towers, equal_texts=False)).train()
    made.encoders["text"].stem.table = torch.nn.Embedding(49_408, 512)  # as large as the published one
    return made


class Noise:
    """Numbered batches of noise, made piece by piece."""

    def __init__(self, rows: int) -> None:
        """Remembers how many rows a batch has."""
        self.batch_size = rows

    def steps(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Yields whole batches."""
        return self.pieces(first, last, [slice(None)])

    def pieces(self, first: int, last: int, parts: Sequence[slice]) -> Iterator[dict[str, Any]]:
        """Yields the rows of each part of each batch."""
        from intermodal.types import Batch

        for step in range(first, last):
            for part in parts:
                start, stop, _ = part.indices(self.batch_size)
                draw = torch.Generator().manual_seed(step * self.batch_size + start)
                count = stop - start
                lengths = (2.625 + 0.28 * torch.randn(count, generator=draw)).exp().round().long().clamp(5, 40)
                longest = int(lengths.max())
                ids = torch.randint(0, 49_408, (count, longest), generator=draw)
                pictures = torch.randn(count, 3, 224, 224, generator=draw)
                yield {
                    "image": Batch(pictures, torch.ones(count, 49, dtype=torch.bool)),
                    "text": Batch(ids, torch.arange(longest) < lengths[:, None]),
                }


def gradient(made: Any) -> Tensor:
    """Returns all gradients as one vector, and takes them off."""
    found = torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
    made.zero_grad(set_to_none=True)
    return found


def check(rows: int, piece: int, token_dropout: float) -> float:
    """Returns the relative difference of the gradient in pieces from that with all graphs held."""
    from intermodal.training.caching import measure
    from intermodal.types import Batch

    made, cpu = model(token_dropout), torch.device("cpu")
    whole = next(Noise(rows).steps(0, 1))
    parts = [slice(i, i + piece) for i in range(0, rows, piece)]
    cut = [{name: Batch(b.values[p], b.mask[p]) for name, b in whole.items()} for p in parts]
    torch.manual_seed(1)
    found = [made.represent(part) for part in (cut if token_dropout else [whole])]
    losses = made.losses_of({name: torch.cat([f[name] for f in found]) for name in found[0]})
    torch.stack(list(losses.values())).sum().backward()
    del found
    expected = gradient(made)
    torch.manual_seed(1)
    cached, add = measure(made, cut, "fp32", cpu)
    add(1.0)
    apart = gradient(made).sub_(expected).norm() / expected.norm()
    told = [sum(float(value.detach()) for value in x.values()) for x in (losses, cached)]
    print(f"  loss {told[0]:.6f} with all graphs, {told[1]:.6f} in pieces", file=sys.stderr)
    return float(apart)


def step(rows: int, piece: int, steps: int) -> tuple[float, float]:
    """Returns the seconds of the last step and its loss."""
    from intermodal import runtime
    from intermodal.training.caching import pieces
    from intermodal.training.log import RunLog
    from intermodal.training.loop import Loop, Options
    from intermodal.training.optimizer import optimizers
    from intermodal.training.processes import ALONE, parts

    runtime.threads()
    runtime.keep_memory()
    made, settings = model(0.0), Options(steps=10**6, optimizer="adamw", micro_batch=piece)
    moved = optimizers(made, "adamw", 5e-4, 1.0, 0.2)
    shares = parts(rows, piece, ALONE)
    with TemporaryDirectory() as folder, RunLog(Path(folder)) as log:
        loop = Loop(made, moved, settings, log, {"step": 0, "seconds": 0.0}, print, ALONE, shares)
        source = pieces(Noise(rows), 0, steps, shares)
        for _ in range(steps):
            before = loop.seconds
            loop.take(source)
    return loop.seconds - before, loop.losses["loss"]


def alone(work: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Returns what a function gives in a fresh process, and the most memory that process held, in bytes."""
    from multiprocessing import get_context

    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_told, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        found: tuple[Any, int] = here.recv()
    except EOFError as error:
        process.join()
        raise SystemExit(f"{work.__name__} ended with exit code {process.exitcode}") from error
    process.join()
    return found


def _told(pipe: Any, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    result = work(*arguments)
    status: Mapping[str, str] = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    pipe.send((result, int(status["VmHWM"].split()[0]) * 1024))


def peak_per_s() -> float:
    """Returns the most operations per second that products in bf16 reach here with all threads."""
    x, y = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        x @ y
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def measure(chosen: Namespace) -> list[Line]:
    """Runs everything and returns what the table shows."""
    batch, checked = chosen.batch or (128 if chosen.quick else 512), chosen.check or (16 if chosen.quick else 64)
    lines = []
    for dropped in (0.0, 0.5):
        print(f"gradient of {checked} rows in pieces, {dropped:.0%} of the tokens dropped", file=sys.stderr)
        gap, _ = alone(check, checked, max(1, checked // 4), dropped)
        what = f"gradient of {checked} rows in pieces, {dropped:.0%} of the tokens dropped: difference"
        lines.append(Line(what, gap, "of 1", asked=1e-4, name=f"large_batch.gradient.{checked}.{dropped:g}"))
    print(f"a step of {batch} rows in pieces of {chosen.piece}", file=sys.stderr)
    (seconds, loss), peak = alone(step, batch, chosen.piece, chosen.steps)
    needed = 4 * batch * (PICTURE_FLOPS + 14.4 * ID_FLOPS)
    print(
        f"  {seconds:.1f} s, loss {loss:.4f}, {peak / GIB:.2f} GiB; {needed / seconds / 1e9:.0f} GFLOP/s, "
        f"{needed / seconds / peak_per_s():.2f} of the peak of products in bf16",
        file=sys.stderr,
    )
    what = f"ViT-B/32, a step of {batch:,} rows"
    lines.append(Line(f"{what}: whole process", peak / GIB, "GiB", asked=8.0, name=f"large_batch.{batch}.memory"))
    lines.append(Line(f"{what}: trained", batch / seconds, "rows/s", name=f"large_batch.{batch}.rows_per_s"))
    return lines


if __name__ == "__main__":
    flags = {
        "batch": {"type": int, "default": 0, "help": "rows of the step (default: 512, quick: 128)"},
        "check": {"type": int, "default": 0, "help": "rows whose gradient is checked (default: 64, quick: 16)"},
        "piece": {"type": int, "default": 64, "help": "rows of a piece"},
        "steps": {"type": int, "default": 1, "help": "steps; the last is timed"},
    }
    raise SystemExit(run(__doc__, measure, **flags))
