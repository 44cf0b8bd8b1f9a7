"""The contrastive loss, value and gradients, of many rows: seconds and memory beside open_clip's loss.

    python benchmarks/contrastive_loss.py [--quick] [--json] [--record]

InfoNCE both ways between rows of 512 numbers. Two kinds of rows: ``new`` rows know nothing of each other, scale 1/0.07,
as when training begins; ``trained`` pairs lie at a cosine of about 0.2 at the largest scale, 100, where few pairs make
up the whole softmax, so that bf16 is not exact enough and ours takes fp32 by itself. Each contender works in a process
of its own with all cores, in turns with ours, one peer after the other for want of memory; memory is the peak above
what stood there before the first round, inputs not counted.

open_clip as shipped is its ``ClipLoss`` in fp32. Used well it may multiply in bf16 (``set_float32_matmul_precision``),
keeps its labels, and the allocator keeps its memory. The line that says "one product" is the plain form that computes
the similarities once and transposes them, which open_clip's does not. Agreement is the relative difference of the
gradients of the first rows, and of the losses. 65,536 rows are run by ours alone: the others would take 64 GiB.

The floor, D = 512 and B rows: forward 2 B B D operations, backward 4 B B D, and 2 B B D to compute every similarity
again instead of holding it; open_clip's two products make it 12 B B D. The share of the measured matrix peak that ours
reaches is said on standard error.
"""

import dataclasses
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from _contest import ALLOCATOR, Contender, Turns, contest, open_clip
from _table import Line, run
from torch import Tensor

WIDTH = 512
SCALES = {"new": 1 / 0.07, "trained": 100.0}
SEEN = 512
"""Rows whose gradients are compared."""
SHIPPED, WELL, ONE, OURS = "open_clip as shipped", "open_clip used well", "one product", "ours"
SET = (WELL, ONE)
"""The forms that are used well: the allocator keeps their memory."""
MIB = 2**20


def rows(count: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the unit rows of both sides and the scale, which ask for gradients."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(count, WIDTH, generator=draw) for _ in range(2))
    if kind == "trained":
        b.mul_(4.9).add_(a)
    for side in (a, b):
        for part in side.split(1024):
            part.div_(part.norm(dim=1, keepdim=True))
    return a.requires_grad_(), b.requires_grad_(), torch.tensor(SCALES[kind], requires_grad=True)


def prepare(form: str, count: int, kind: str) -> Callable[[], np.ndarray]:
    """Returns one round: the loss and its gradients; what it gives back is described by ``seen``."""
    made = rows(count, kind)
    loss_of = _loss(form, count)
    before = _memory("VmRSS")
    _forget_peak()

    def turn() -> np.ndarray:
        for x in made:
            x.grad = None
        loss = loss_of(*made)
        loss.backward()
        above = _memory("VmHWM") - before
        shown = [x.grad[:SEEN].flatten() for x in made[:2]]
        first = torch.stack((loss.detach(), made[2].grad)).double()
        return np.concatenate(([above], first.numpy(), *(x.double().numpy() for x in shown)))

    return turn


def _loss(form: str, count: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if form == OURS:
        from intermodal.objectives.contrastive import info_nce

        return info_nce
    if form != SHIPPED:
        torch.set_float32_matmul_precision("medium")
    if form == ONE:
        labels = torch.arange(count)
        entropy = torch.nn.functional.cross_entropy

        def plain(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
            logits = scale * a @ b.T
            return (entropy(logits, labels) + entropy(logits.T, labels)) / 2

        return plain
    made: Callable[[Tensor, Tensor, Tensor], Tensor] = open_clip().ClipLoss(cache_labels=form == WELL)
    return made


def _memory(field: str) -> int:
    """Returns a size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def _forget_peak() -> None:
    """Lets the peak begin anew; where that is not allowed, what was used before counts too."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        print(f"the peak of memory includes the preparation: {error}", file=sys.stderr)


def peak_per_s(threads: int) -> float:
    """Returns the most operations per second of fp32 products that are reached here with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x, y = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        x @ y
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return 2 * 2048**3 / min(seconds)


def run_forms(count: int, kind: str, forms: list[str], rounds: tuple[int, int], threads: int) -> dict[str, Turns]:
    """Returns what ours and the other forms did; ``rounds`` are those timed and those before."""
    print(f"{count:,} {kind} rows", file=sys.stderr, flush=True)
    found: dict[str, Turns] = {}
    seconds: tuple[float, ...] = ()
    for peer in forms or [OURS]:
        contenders = [
            Contender(
                form, "prepare", {"form": form, "count": count, "kind": kind}, threads, ALLOCATOR if form in SET else {}
            )
            for form in dict.fromkeys((peer, OURS))
        ]
        found |= contest(__file__, contenders, *rounds)
        seconds += found[OURS].seconds
    found[OURS] = dataclasses.replace(found[OURS], seconds=seconds)
    for form, turns in found.items():
        loss, scale = turns.result[1:3]
        print(
            f"  {form:22} {turns.median_s:7.2f} s  {turns.result[0] / MIB:7.0f} MiB  loss {loss:.5f}  "
            f"gradient of the scale {scale:.3e}",
            file=sys.stderr,
        )
    return found


def agreement(found: dict[str, Turns]) -> str:
    """Returns how far ours is from the form as shipped, or from the plain one."""
    ours, peer = found[OURS].result, (found.get(SHIPPED) or found[ONE]).result
    gap = np.linalg.norm(ours[3:] - peer[3:]) / np.linalg.norm(peer[3:])
    return f"gradient {gap:.0e}, loss {abs(ours[1] - peer[1]):.0e}"


def lines_of(count: int, kind: str, found: dict[str, Turns], asked: bool) -> list[Line]:
    """Returns the lines of one measurement; ``asked``: this is the one that figures are asked of."""
    peer = f"open_clip {version('open_clip_torch')}"
    seconds = {form: turns.median_s for form, turns in found.items()}
    sizes = {form: float(turns.result[0] / MIB) for form, turns in found.items()}
    what, name = f"InfoNCE, {count:,} {kind} rows", f"contrastive_loss.{count}.{kind}"
    made = [
        Line(
            f"{what}: loss and gradients", seconds[OURS], "s", peer, seconds.get(SHIPPED), seconds.get(WELL),
            3.0 if asked else None, 2.0 if asked else None, None, agreement(found), f"{name}.seconds",
        ),
        Line(
            f"{what}: memory", sizes[OURS], "MiB", peer, sizes.get(SHIPPED), sizes.get(WELL), 20.0 if asked else None,
            name=f"{name}.memory",
        ),
    ]  # fmt: skip
    if ONE in found:
        made.append(
            Line(
                f"{what}: against one product", seconds[OURS], "s", "the plain form, transposed", None, seconds[ONE],
                name=f"{name}.one_product",
            )
        )  # fmt: skip
    return made


def alone(count: int, threads: int) -> list[Line]:
    """Returns what ours takes where no other form fits."""
    turns = run_forms(count, "new", [], (1, 0), threads)[OURS]
    name = f"contrastive_loss.{count}.new"
    return [
        Line(f"InfoNCE, {count:,} new rows: loss and gradients", turns.median_s, "s", name=f"{name}.seconds"),
        Line(
            f"InfoNCE, {count:,} new rows: whole process", turns.peak_bytes / MIB, "MiB", asked=1024.0,
            name=f"{name}.process",
        ),
    ]  # fmt: skip


def measure(chosen: Namespace) -> list[Line]:
    """Runs everything and returns what the table shows; quick: a quarter of the pairs, of which nothing is asked."""
    forms, threads = [SHIPPED, WELL, ONE][: 2 if chosen.quick else 3], chosen.threads
    largest = 8_192 if chosen.quick else 16_384
    found = run_forms(largest, "new", forms, (1, 0) if chosen.quick else (2, 0), threads)
    peak = peak_per_s(threads)
    share = 8 * largest**2 * WIDTH / found[OURS].median_s / peak
    print(f"  ours does {share:.2f} of the fp32 peak, {peak / 1e9:.0f} GFLOP/s", file=sys.stderr)
    lines = lines_of(largest, "new", found, not chosen.quick)
    if chosen.quick:
        return lines + alone(16_384, threads)
    small = run_forms(4_096, "new", forms, (5, 1), threads)
    sharp = run_forms(16_384, "trained", [SHIPPED, WELL], (1, 0), threads)
    lines += lines_of(4_096, "new", small, False) + lines_of(16_384, "trained", sharp, False)
    return lines + alone(32_768, threads) + alone(65_536, threads)


if __name__ == "__main__":
    threads = {"type": int, "default": min(2, torch.get_num_threads()), "help": "of each process"}
    raise SystemExit(run(__doc__, measure, threads=threads))
