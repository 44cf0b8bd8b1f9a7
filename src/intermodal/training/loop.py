"""The one training loop: whatever ``Trains`` is trained by it.

Batches come by number, so that a run resumed from a checkpoint sees what an uninterrupted one would have seen and ends
with the same weights. Gradient accumulation averages gradients of smaller batches; it adds no negatives to a
contrastive loss: ``micro_batch`` does, see ``caching.py``. Several processes share each batch, see ``processes.py``.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from intermodal import runtime
from intermodal.errors import InvalidValue, UnknownName
from intermodal.training.caching import kept, measure, pieces
from intermodal.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from intermodal.training.log import NoLog, RunLog
from intermodal.training.optimizer import OPTIMIZERS, optimizers, rate
from intermodal.training.processes import ALONE, Processes, current
from intermodal.training.processes import parts as shares
from intermodal.training.watch import Watch, logger
from intermodal.types import Batch


class Batches(Protocol):
    """Numbered batches; a batch depends on its number alone."""

    batch_size: int

    def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
        """Yields batches ``first`` to ``last - 1``."""
        ...


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes:
        steps: optimizer steps of the whole run; None for as many as ``minutes`` allow, or 1,000 without minutes.
        optimizer: muon (with AdamW for what is no matrix of a linear layer) or adamw.
        learning_rate: the peak of AdamW.
        matrix_rate: the peak of Muon.
        weight_decay: of matrices.
        warmup_steps: linear rise of the learning rate.
        clip_norm: the gradient's norm is cut to this.
        accumulate: batches per optimizer step; their gradients are averaged.
        micro_batch: rows computed at once, to save memory; the gradient is that of the whole batch. 0 for all.
        minutes: stop after so much training time even if steps are left; the schedule then follows the time.
        precision: fp32 or bf16; None for the best of the device.
        seed: of what is random in the loop.
        evaluate_every: steps between evaluations; 0 for none but the last.
        checkpoint_every: steps between checkpoints; 0 for none but the last.
        log_every: steps between lines of the log.
    """

    steps: int | None = None
    optimizer: str = "muon"
    learning_rate: float = 1e-3
    matrix_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup_steps: int = 50
    clip_norm: float = 1.0
    accumulate: int = 1
    micro_batch: int = 0
    minutes: float | None = None
    precision: str | None = None
    seed: int = 0
    evaluate_every: int = 0
    checkpoint_every: int = 500
    log_every: int = 10

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.last < 1 or self.accumulate < 1 or self.learning_rate <= 0 or self.log_every < 1:
            raise InvalidValue(
                f"steps {self.steps}, accumulate {self.accumulate}, log_every {self.log_every} must be at least 1 and "
                f"learning_rate {self.learning_rate} above 0"
            )
        if self.optimizer not in OPTIMIZERS:
            raise UnknownName("optimizer", self.optimizer, OPTIMIZERS)
        if self.micro_batch < 0:
            raise InvalidValue(f"micro_batch is {self.micro_batch}; give at least 1 row, or 0 for the whole batch")
        if self.minutes is not None and self.minutes <= 0:
            raise InvalidValue(f"minutes is {self.minutes}; give more than 0, or leave it out")

    @property
    def last(self) -> int:
        """The step at which the run ends at the latest."""
        if self.steps is None:
            return 1000 if self.minutes is None else 10**9
        return self.steps


@dataclass(frozen=True)
class Progress:
    """Where a run is: given to ``on_step`` after every step."""

    step: int
    share: float
    seconds: float
    samples: int
    losses: Mapping[str, float]

    @property
    def samples_per_s(self) -> float:
        """Training speed so far, evaluations and checkpoints left out."""
        return self.samples / max(self.seconds, 1e-9)


def train(
    model: nn.Module,
    batches: Batches,
    options: Options,
    run: Path,
    resume: bool = False,
    evaluate: Callable[[int], Mapping[str, Any]] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = logger.warning,
) -> Progress:
    """Trains ``model`` in place and returns where it ended.

    Args:
        model: a system that ``Trains``, on its device.
        batches: numbered batches.
        options: how to train.
        run: folder of the log and the checkpoints.
        resume: go on from the newest complete checkpoint in ``run``, if there is one.
        evaluate: called with the step; what it returns is logged.
        on_step: called after every step.
        say: receives each warning.

    Raises:
        InvalidValue: the folder holds another run, nothing is left to train, or the loss is not finite for many steps
            in a row.
    """
    runtime.seed(options.seed)
    made = optimizers(model, options.optimizer, options.learning_rate, options.matrix_rate, options.weight_decay)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    among = current()
    parts = shares(batches.batch_size, options.micro_batch, among)
    found = checkpoints(run)
    if found and not resume:
        raise InvalidValue(f"{run} holds a run of {found[-1].name}: go on with --resume, or give another folder")
    if found:
        state = load_checkpoint(found[-1], model, made)
    among.same_weights(model)
    with RunLog(run, resume_step=state["step"] if found else None) if among.first else NoLog() as log:
        loop = Loop(model, made, options, log, state, say, among, parts)
        try:
            _run(loop, batches, run, evaluate if among.first else None, on_step)
        except KeyboardInterrupt:
            loop.save(run)
            raise
        loop.save(run)
    model.eval()
    return loop.progress(batches.batch_size)


def _run(
    loop: "Loop",
    batches: Batches,
    run: Path,
    evaluate: Callable[[int], Mapping[str, Any]] | None,
    on_step: Callable[[Progress], None] | None,
) -> None:
    """Takes every step that is left."""
    options = loop.options
    loop.model.train()
    source = pieces(batches, loop.step * options.accumulate, options.last * options.accumulate, loop.parts)
    try:
        while loop.share < 1:
            loop.take(source)
            progress = loop.progress(batches.batch_size)
            last = loop.share >= 1
            if loop.step % options.log_every == 0 or last:
                loop.log.write(
                    "step", loop.step, {**progress.losses, "samples_per_s": progress.samples_per_s, "rate": loop.rate}
                )
            if on_step:
                on_step(progress)
            if evaluate and (last or (options.evaluate_every and loop.step % options.evaluate_every == 0)):
                loop.model.eval()
                loop.log.write("evaluation", loop.step, evaluate(loop.step))
                loop.model.train()
            if options.checkpoint_every and loop.step % options.checkpoint_every == 0 and not last:
                loop.save(run)
    finally:
        close = getattr(source, "close", None)
        if close:
            close()


def clip(parameters: Iterable[nn.Parameter], norm_max: float) -> float:
    """Returns the norm of the gradient, which is cut to ``norm_max``; one that is shorter is not touched."""
    owners = [p for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in owners if p.grad is not None])
    length = float(norm)
    if length > norm_max:
        torch.nn.utils.clip_grads_with_norm_(owners, norm_max, norm)
    return length


class Loop:
    """What changes from step to step; ``train`` drives it, and so may who wants to take single steps."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        options: Options,
        log: RunLog | NoLog,
        state: Mapping[str, Any],
        say: Callable[[str], None],
        among: Processes = ALONE,
        parts: Sequence[slice] = (slice(None),),
    ) -> None:
        self.among, self.parts = among, parts
        self.model, self.optimizers, self.options, self.log = model, optimizers, options, log
        self.step: int = state["step"]
        self.seconds: float = state["seconds"]
        self.losses: dict[str, float] = {}
        self.rate = 0.0

        def warn(sentence: str) -> None:
            log.write("warning", self.step, {"text": sentence})
            say(sentence)

        self.watch = Watch(model, warn)
        self.device = next(model.parameters()).device
        self.precision = runtime.precision(options.precision, self.device)

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        by_time = self.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return max(self.step / self.options.last, by_time)

    def progress(self, batch_size: int) -> Progress:
        """Returns where the run is."""
        samples = self.step * batch_size * self.options.accumulate
        return Progress(self.step, min(1.0, self.share), self.seconds, samples, dict(self.losses))

    def save(self, run: Path) -> None:
        """Writes a checkpoint, if this is the process that writes."""
        if self.among.first:
            save_checkpoint(run, self.step, self.model, self.optimizers, {"seconds": self.seconds})

    def take(self, source: Iterator[dict[str, Batch]]) -> None:
        """Takes one optimizer step, and counts it even where it must be skipped.

        Args:
            source: gives the parts of one batch after the other.
        """
        start = time.monotonic()
        if self.among.count > 1:  # each draws its own dropout, and the same again when the run is taken up here
            torch.manual_seed((self.options.seed * 2**31 + self.step) * self.among.count + self.among.rank)
        self.rate = rate(self.share, self.step, self.options.warmup_steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self.rate
        self.model.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        fit = True
        for _ in range(self.options.accumulate):
            keep = self.precision if len(self.parts) > 1 else "fp32"
            batch = [kept(next(source), keep) for _ in self.parts]
            rows = [max(len(part) for part in piece.values()) for piece in batch]
            for piece, count in zip(batch, rows, strict=True):
                if count > 1 or len(batch) * self.among.count == 1:
                    self.watch.batch(piece)
            losses, add_gradient = measure(self.model, batch, self.precision, self.device, self.among)
            if not self.among.all(self.watch.loss(self.step, losses, sum(rows) * self.among.count)):
                fit = False
                continue
            add_gradient(1 / self.options.accumulate)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros(())) + value.detach().cpu() / self.options.accumulate
        if fit:
            self.among.add_gradients(self.model.parameters())
            if self.watch.gradients(self.step, clip(self.model.parameters(), self.options.clip_norm)):
                for optimizer in self.optimizers:
                    optimizer.step()
        self.losses = {name: float(value) for name, value in sums.items()}
        self.losses["loss"] = sum(self.losses.values())
        self.step += 1
        self.seconds = self.among.agreed(self.seconds + time.monotonic() - start)
