"""Several stretches of tokens side by side, each seeing what it may: one pass of the blocks instead of one for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Given:
    """A stretch that is there: its tokens see the real ones among themselves."""

    tokens: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]


@dataclass(frozen=True)
class Asked:
    """A stretch that is written: its tokens see those before them, and the real ones of some given stretches.

    Attributes:
        tokens: what enters the blocks.
        sees: name of a given stretch -> in which rows it is seen.
    """

    tokens: Float[Tensor, "B T D"]
    sees: Mapping[str, Bool[Tensor, " B"]]


def side_by_side(
    blocks: Iterable[nn.Module], given: Mapping[str, Given], asked: Mapping[str, Asked]
) -> tuple[dict[str, Float[Tensor, "B _ D"]], dict[str, Float[Tensor, "B _ D"]]]:
    """Returns what the blocks make of each given and of each asked stretch.

    A token that is not real sees itself, so that whatever comes of it is finite; nothing else sees it.
    """
    pieces: list[Given | Asked] = [*given.values(), *asked.values()]
    x = torch.cat([piece.tokens for piece in pieces], dim=1)
    stops = torch.tensor([piece.tokens.shape[1] for piece in pieces]).cumsum(0).tolist()
    places = [slice(stop - piece.tokens.shape[1], stop) for piece, stop in zip(pieces, stops, strict=True)]
    where, writes = dict(zip(given, places, strict=False)), dict(zip(asked, places[len(given) :], strict=True))
    allowed = torch.zeros(len(x), x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
    for name, here in where.items():
        allowed[:, here, here] = given[name].mask[:, None]
    for name, here in writes.items():
        own = asked[name].tokens.shape[1]
        allowed[:, here, here] = torch.ones(own, own, dtype=torch.bool, device=x.device).tril()
        for other, seen in asked[name].sees.items():
            allowed[:, here, where[other]] = (given[other].mask & seen[:, None])[:, None]
    allowed.diagonal(dim1=1, dim2=2).fill_(True)
    for block in blocks:
        x = block.extend(x, lambda keys, values: (keys, values), allowed)  # type: ignore[operator]
    return {n: x[:, at] for n, at in where.items()}, {n: x[:, at] for n, at in writes.items()}
