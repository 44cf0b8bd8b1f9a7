"""A model of fusion's system for each single field: what a fusion has to be held against, tuned as well as it is.

Each has the tower of the joint model and nothing to join. It is trained once for each of a few learning rates, and the
one that tells most of the dev split right is kept.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from intermodal import catalog, runtime
from intermodal.config import to_dict
from intermodal.data.loader import Loader, in_order, in_source_order
from intermodal.data.sources import open_source
from intermodal.saving import build_from, save_model
from intermodal.training.loop import Options, train

RATES = (0.3, 1.0, 3.0)
"""Of the learning rates of ``Options``."""


def single(config: Any, field: str) -> Any:
    """Returns the config of a model that reads ``field`` alone, in the same way."""
    form = dataclasses.replace(config.fusion, form="")
    return dataclasses.replace(config, towers={field: config.towers[field]}, fusion=form, late="average")


def train_singles(
    model: Any,
    data: str,
    out: Path,
    minutes: float,
    say: Callable[[str], None],
    progress: Callable[[float], None] | None = None,
    rates: Sequence[float] = RATES,
    batch: int = 128,
) -> list[Path]:
    """Returns the folders of one trained model for each field of ``model``; one that is there already is kept.

    Args:
        model: of the system ``fusion``.
        data: name of the data source; its train split is learnt from, its dev split chooses.
        out: each model goes to ``out/FIELD``.
        minutes: of each training.
        say: receives a line for each training.
        progress: called with the share that is done.
        rates: factors of the usual learning rates.
        batch: samples per batch; all of them where there are fewer.
    """
    folders, total = [], len(model.config.towers) * len(rates)
    for number, field in enumerate(model.config.towers):
        folder = out / field
        folders.append(folder)
        if (folder / "config.json").exists():
            continue
        config = single(model.config, field)
        names = (field, *config.tasks)
        source, dev = (open_source(data, split, fields=names) for split in ("train", "dev"))
        best: tuple[float, Any, float] | None = None
        for i, rate in enumerate(rates):
            made, run = fresh(config), out / "runs" / f"{field}-{rate:g}"
            usual = Options()
            options = dataclasses.replace(
                usual, minutes=minutes, learning_rate=rate * usual.learning_rate, matrix_rate=rate * usual.matrix_rate
            )
            train(made, Loader(source, made.preprocessors, min(batch, len(source))), options, run, resume=True)
            loss = dev_loss(made, dev)
            say(f"{field} alone, {rate:g} times the usual rate: dev loss {loss:.3f}")
            if best is None or loss < best[0]:
                best = loss, made, rate
            if progress:
                progress((number * len(rates) + i + 1) / total)
        assert best is not None
        about = {"field": field, "rate": best[2], "dev_loss": best[0], "minutes": minutes}
        save_model(folder, best[1], f"# {field} alone, trained on {data}\n\n{json.dumps(about)}\n")
    return folders


def fresh(config: Any) -> Any:
    """Returns the system that ``config`` describes, on the device, with weights of a fixed seed."""
    runtime.seed(0)
    name = catalog.system_of(config).__name__.rpartition(".")[2]
    return build_from({"system": name, "config": to_dict(config)}).to(runtime.device())


@torch.no_grad()
def dev_loss(model: Any, source: Any, batch: int = 128) -> float:
    """Returns the mean over batches of the sum of the model's losses."""
    model.eval()
    device = next(model.parameters()).device
    losses = []
    for rows, part in in_order(source, model.preprocessors, batch):
        found = model.losses({name: each.to(device) for name, each in part.items()})
        losses.append((rows, torch.stack(list(found.values())).sum().cpu().expand(len(rows))))
    return float(in_source_order(losses)[1].mean())
