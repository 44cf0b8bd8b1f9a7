"""Several stretches of tokens side by side, each seeing what it may: one pass of the blocks instead of one for each.

Products run over all tokens together; attention runs stretch by stretch, so that no pair of tokens is compared of which
neither may see the other.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.layers.attention import attend

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Given:
    """A stretch that is there.

    Attributes:
        tokens: what enters the blocks.
        mask: which of them are real.
        still: every block sees the tokens as they are, because something else has read them before; otherwise they go
            through the blocks and see the real ones among themselves.
    """

    tokens: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    still: bool = False


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
    blocks: Iterable[nn.Module], given: Mapping[str, Given], asked: Mapping[Name, Asked]
) -> dict[Name, Float[Tensor, "B _ D"]]:
    """Returns what the blocks make of each asked stretch.

    A token that is not real sees itself, so that whatever comes of it is finite; nothing else sees it.
    """
    still = {name: one for name, one in given.items() if one.still}
    moving = {name: one for name, one in given.items() if not one.still}
    through: list[Given | Asked] = [*moving.values(), *asked.values()]
    fixed, passed = _places([*still.values()]), _places(through)
    where = dict(zip(still, fixed, strict=True)) | dict(zip(moving, passed, strict=False))
    own = passed[len(moving) :]
    among = [_among(one.mask) for one in moving.values()]
    behind = [_behind(one, given) for one in asked.values()]
    seen = torch.cat([one.tokens for one in still.values()], dim=1) if still else None
    x = torch.cat([one.tokens for one in through], dim=1)
    for block in blocks:
        known = block.keys_values(seen) if seen is not None else ()  # type: ignore[operator]

        def gather(q: Tensor, k: Tensor, v: Tensor, known: tuple[Tensor, ...] = known) -> Tensor:
            found = [attend(q[:, :, at], k[:, :, at], v[:, :, at], m) for at, m in zip(passed, among, strict=False)]
            for one, at, allowed in zip(asked.values(), own, behind, strict=True):
                pieces = [known if name in still else (k, v) for name in one.sees]
                keys, values = (
                    torch.cat([*(p[i][:, :, where[n]] for n, p in zip(one.sees, pieces, strict=True)), x[:, :, at]], 2)
                    for i, x in enumerate((k, v))
                )
                found.append(attend(q[:, :, at], keys, values, allowed))
            return torch.cat(found, dim=2)

        x = block.extend(x, gather)  # type: ignore[operator]
    return {name: x[:, at] for name, at in zip(asked, own, strict=True)}


def _places(stretches: Sequence[Given | Asked]) -> list[slice]:
    """Returns where each stretch stands when they stand one behind the other."""
    counts = [one.tokens.shape[1] for one in stretches]
    return [slice(sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts))]


def _among(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """Returns what each token of a stretch sees: the real ones and itself."""
    return (mask[:, None] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device))[:, None]


def _behind(one: Asked, given: Mapping[str, Given]) -> Bool[Tensor, "B 1 T S"]:
    """Returns what each token of an asked stretch sees: of the given ones in their order, then itself and before."""
    rows, count = one.tokens.shape[:2]
    own = torch.ones(count, count, dtype=torch.bool, device=one.tokens.device).tril()
    others = [(given[n].mask & seen[:, None])[:, None].expand(rows, count, -1) for n, seen in one.sees.items()]
    return torch.cat([*others, own.expand(rows, count, count)], dim=2)[:, None]
