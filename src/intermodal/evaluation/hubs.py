"""How much of the hubs of a connected model is taken off: chosen on samples that no head was trained on."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from intermodal.decoders.projection import Hub, Hubs
from intermodal.evaluation.connected import found_first, said_of, vectors_of
from intermodal.systems.connected import Connected
from intermodal.training.heads import Split, looked_at

ASKED = 2048
"""Vectors that are kept of each field at most; from 256 on Flickr8k gained most of what 6,000 gave."""
STRENGTHS = (0.0, 0.5, 1.0)


def take_off(model: Connected, train: Split, dev: Split) -> None:
    """Has a model take hubs off its vectors from now on, where that finds more.

    Args:
        model: over features; trained.
        train: of its items queries are kept.
        dev: for each field the strength is taken that has its items found most often, the least of equal ones.
    """
    model.set_hubs(None)
    given = looked_at(model.config, {name: train.given[name] for name in model.config.towers})
    said = {n: torch.from_numpy(vectors_of(model, n, one, evenly(len(one), ASKED))) for n, one in given.items()}
    plain = {name: torch.from_numpy(rows) for name, rows in said_of(model, dev).items()}
    made = _whole(model, said)
    gets = {name: made.gets(name, one) for name, one in plain.items()}
    found: dict[str, dict[float, list[float]]] = {name: {} for name in given}
    for strength in STRENGTHS:
        rows = {name: made.without(name, one, strength * gets[name]) for name, one in plain.items()}
        for pair, share in found_first(model, dev, rows).items():
            found[pair.split(">")[1]].setdefault(strength, []).append(share)
    best = {name: max(one, key=lambda s: fmean(one[s]), default=0.0) for name, one in found.items()}
    made.fields = {name: replace(hub, strength=best[name]) for name, hub in made.fields.items()}
    model.set_hubs(made.to(model.device) if any(best.values()) else None)


def _whole(model: Connected, said: Mapping[str, Tensor]) -> Hubs:
    """Returns what takes off all that items get from queries at large.

    Args:
        model: tells which fields look for each other.
        said: field -> unit vectors of training items.
    """
    asking = {name: [b if a == name else a for a, b in model.config.pairs() if name in (a, b)] for name in said}
    rows = {name: min(ASKED, sum(len(said[other]) for other in others)) for name, others in asking.items()}
    made = Hubs({name: Hub(1.0, count) for name, count in rows.items()}, model.config.width * model.config.heads)
    made.set(said, asking)
    return made


def evenly(count: int, most: int) -> list[int]:
    """Returns up to ``most`` of ``count`` places, from the first to the last."""
    return sorted(set(torch.linspace(0, count - 1, min(count, most)).long().tolist()))
