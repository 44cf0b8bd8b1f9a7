"""Heads on what frozen encoders say: trained, and chosen by what they come to on samples that they did not see.

All of it works on features that were computed once (``data/features.py``), so that a head costs seconds.
"""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from intermodal import config as configs
from intermodal import runtime
from intermodal.data.features import Features, Paired
from intermodal.decoders.projection import Head
from intermodal.errors import InvalidValue
from intermodal.systems.connected import Config, Connected, Given, Passing
from intermodal.training.loop import Options as Loop
from intermodal.training.loop import train
from intermodal.training.watch import logger

GRID = (
    Head(),
    Head(512, 0.3),
    Head(1024, 0.3),
    Head(512, 0.3, 2),
    Head(1024, 0.3, 2),
)
"""Heads that are tried: one product; a layer between, narrow and wide; the same with tokens gathered."""

WARMUP = 0.3
"""Share of the steps in which the learning rate rises: runs are short."""
HELD_BACK = 10
"""One in so many samples chooses the heads where the data has no dev split."""


@dataclass(frozen=True)
class Options:
    """How encoders are connected.

    Attributes:
        epochs: each shows every sample once, with one of its captions.
        batch: samples of a batch; all others in it are what each has to differ from.
        width: of what a head gives.
        heads: side by side in the model that is kept; trials have one.
        hard: weight of the hinge on the hardest mismatch of a batch; 0 for none.
        grid: heads that are tried on the dev split; one alone is taken as it is.
        temperatures: that they start with, tried too.
        seed: of the weights and the order.
        minutes: of training at most, the learning rate then falls with the time; a trial has the share of one head.
        learning_rate: peak of AdamW.
        hubs: take hubs off the vectors, where that helps on the dev split; see ``decoders/projection.py``.
    """

    epochs: int = 10
    batch: int = 512
    width: int = 512
    heads: int = 4
    hard: float = 0.0
    grid: tuple[Head, ...] = GRID
    temperatures: tuple[float, ...] = (0.05,)
    seed: int = 0
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    hubs: bool = True

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if min(self.epochs, self.width, self.heads) < 1 or self.batch < 2 or not self.grid or not self.temperatures:
            raise InvalidValue(
                f"epochs {self.epochs}, width {self.width} and heads {self.heads} must be at least 1, batch "
                f"{self.batch} at least 2, and at least one head and temperature be tried"
            )


@dataclass(frozen=True)
class Split:
    """One split of the data: what is said of each field, and which samples belong together."""

    given: Mapping[str, Any]
    groups: Int64[Tensor, " S"]


def part(features: Features, kept: Bool[Tensor, " S"]) -> Features:
    """Returns the items of the samples where ``kept`` says so; samples keep their numbers."""
    chosen = kept[features.owner].nonzero()[:, 0]
    lengths = (features.starts[1:] - features.starts[:-1])[chosen]
    ends = lengths.cumsum(0)
    first = torch.repeat_interleave(features.starts[chosen] - (ends - lengths), lengths)
    rows = features.rows[first + torch.arange(len(first))]
    return Features(rows, torch.cat((ends.new_zeros(1), ends)), features.owner[chosen])


def held_back(whole: Split) -> tuple[Split, Split]:
    """Returns a split in two: what is trained on, and one in ``HELD_BACK`` groups of samples to choose by.

    Where most samples share their group with another, as those of a class do, single samples are held back.
    """
    alike = 2 * len(torch.unique(whole.groups)) < len(whole.groups)
    keys = torch.arange(len(whole.groups)) if alike else whole.groups
    away = keys * 2654435761 % 2**32 < 2**32 // HELD_BACK  # Knuth's multiplicative hash: they are no runs
    made = [Split({name: part(one, kept) for name, one in whole.given.items()}, whole.groups) for kept in (~away, away)]
    return made[0], made[1]


def heads_over(config: Config, seed: int = 0) -> Connected:
    """Returns the system over features of frozen encoders, with fresh heads."""
    runtime.seed(seed)
    encoders = {name: Passing(tower) for name, tower in config.towers.items() if isinstance(tower, Given)}
    return Connected(config, encoders, {})


def fitted(
    config: Config,
    data: Split,
    options: Options,
    on_step: Callable[[float], None] | None = None,
    say: Callable[[str], None] = logger.warning,
    start: Connected | None = None,
) -> Connected:
    """Returns the system over features, with heads that are trained on ``data``.

    Args:
        config: of the system.
        data: what is said of each field.
        options: how.
        on_step: called with the share that is done.
        say: receives warnings.
        start: is trained further, whatever of it asks for a gradient; default: fresh heads.
    """
    model = start or heads_over(config, options.seed).to(runtime.device())
    for name in config.towers if start is None else ():
        model.set_numbers(name, *numbers(pooled(data.given[name], config.towers[name])))
    batches = Paired(looked_at(config, data.given), data.groups, options.batch, options.seed)
    steps = options.epochs * batches.per_epoch
    loop = Loop(
        steps=steps,
        learning_rate=options.learning_rate,
        optimizer="adamw",  # Muon's own products would cost more than those of the heads, which are wide and flat
        warmup_steps=int(WARMUP * steps),
        minutes=options.minutes,
        seed=options.seed,
        checkpoint_every=0,
        log_every=50,
    )
    folder = Path(tempfile.mkdtemp(prefix="intermodal-heads-"))
    try:
        train(model, batches, loop, folder, on_step=(lambda p: on_step(p.share)) if on_step else None, say=say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return model


def pooled(features: Features, tower: Any) -> Float[Tensor, "N D"]:
    """Returns the pooled vector of each item: its first rows side by side."""
    return features.first(tower.pooled).rows.float().view(len(features), -1)


def looked_at(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns of each field only the features that heads look at: without tokens, where nothing gathers them."""
    made = {}
    for name, one in given.items():
        tower = config.towers.get(name)
        slim = isinstance(one, Features) and isinstance(tower, Given) and not config.head.queries
        made[name] = one.first(tower.pooled) if slim else one  # type: ignore[union-attr]
    return made


def numbers(vectors: Float[Tensor, "N D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Returns the mean and the spread of each number."""
    return vectors.mean(dim=0), vectors.std(dim=0, correction=0)


def chosen(
    towers: Mapping[str, Given],
    data: Split,
    measure: Callable[[Connected], Mapping[str, float]],
    options: Options,
    keep: Path,
    say: Callable[[str], None],
) -> tuple[Config, list[dict[str, Any]]]:
    """Returns the config whose heads come to most, and a row for each that was tried.

    Args:
        towers: field -> what arrives of it.
        data: to train on.
        measure: a model over features -> figures, higher is better; their mean decides.
        options: how.
        keep: folder of choices made; the same is not made twice.
        say: is told each result.
    """
    tried = [(head, t) for head in options.grid for t in options.temperatures]
    made = [Config(towers, head, options.width, 1, t, options.hard) for head, t in tried]
    if len(made) == 1:
        return dataclasses.replace(made[0], heads=options.heads), []
    trial = dataclasses.replace(options, minutes=options.minutes and options.minutes / options.heads)
    settings = [options.epochs, options.batch, options.seed, trial.minutes, options.learning_rate]
    asked = json.dumps([configs.to_dict(one) for one in made] + settings)
    counts = [[len(one), len(one.rows)] for one in data.given.values()]
    path = keep / f"choice-{hashlib.sha256((asked + json.dumps(counts)).encode()).hexdigest()[:16]}.json"
    if path.exists():
        table: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    else:
        table = []
        for one in made:
            found = measure(fitted(one, data, trial))
            row = {**dataclasses.asdict(one.head), "temperature": one.temperature}
            row |= {name: round(value, 4) for name, value in found.items()}
            table.append({**row, "mean": round(sum(found.values()) / max(1, len(found)), 4)})
            say(f"tried {table[-1]}")
        keep.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(table, indent=1), "utf-8")
        beside.replace(path)
    best = max(range(len(made)), key=lambda i: table[i]["mean"])
    return dataclasses.replace(made[best], heads=options.heads), table
