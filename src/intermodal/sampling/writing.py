"""Writing ids a position after the other, by a transformer that remembers what it has seen.

The buffers of the cache are made once, as long as all that will stand in them, so that a step copies one token and no
more. What is drawn is a function of the seed, the number of the candidate and the place alone: see ``autoregressive``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.decoders.vocabulary import Writer
from intermodal.errors import InvalidValue
from intermodal.layers.attention import Gather, attend
from intermodal.layers.packing import Given
from intermodal.sampling.autoregressive import Sampling, choose


class Cache:
    """What each of B rows has seen, layer by layer; some of it may be no token of that row."""

    def __init__(
        self,
        keys: Sequence[Float[Tensor, "B H S E"]],
        values: Sequence[Float[Tensor, "B H S E"]],
        mask: Bool[Tensor, "B S"],
        room: int,
    ) -> None:
        """Holds what was seen.

        Args:
            keys: per layer.
            values: per layer.
            mask: which of the S tokens are real.
            room: tokens that can be written.
        """
        self.seen = self.length = mask.shape[1]
        self.mask = mask
        self.buffers = [tuple(_longer(x, room) for x in pair) for pair in zip(keys, values, strict=True)]

    def gather(self, layer: int, allowed: Bool[Tensor, "B T S"] | None) -> Gather:
        """Returns what puts the keys and values of new tokens behind all others of a layer, and looks at them all."""

        def put(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            stop = self.length + keys.shape[2]
            held = self.buffers[layer]
            if stop > held[0].shape[2]:
                raise InvalidValue(f"{stop} tokens do not fit a cache for {held[0].shape[2]}; make it with more room")
            for buffer, new in zip(held, (keys, values), strict=True):
                buffer[:, :, self.length : stop] = new
            known, told = (x[:, :, :stop] for x in held)
            return attend(queries, known, told, None if allowed is None else allowed[:, None])

        return put

    def allowed(self, count: int) -> Bool[Tensor, "B count S"] | None:
        """Returns what each of ``count`` new tokens sees: all that is real, and the new ones up to itself."""
        if count == 1 and bool(self.mask.all()):
            return None
        rows = len(self.mask)
        written = torch.ones(rows, self.length - self.seen, dtype=torch.bool, device=self.mask.device)
        before = torch.cat((self.mask, written), dim=1)[:, None].expand(rows, count, -1)
        own = torch.ones(count, count, dtype=torch.bool, device=self.mask.device).tril()
        return torch.cat((before, own.expand(rows, count, count)), dim=2)

    def advance(self, count: int = 1) -> None:
        """Keeps the ``count`` tokens that every layer has just put."""
        self.length += count

    def rows(self, index: Int[Tensor, " N"]) -> "Cache":
        """Returns a cache of these rows, in this order, any of them several times."""
        chosen = object.__new__(Cache)
        chosen.seen, chosen.length, chosen.mask = self.seen, self.length, self.mask[index]
        chosen.buffers = [tuple(x[index] for x in pair) for pair in self.buffers]
        return chosen


def _longer(x: Float[Tensor, "B H S E"], room: int) -> Float[Tensor, "B H T E"]:
    """Returns a copy with ``room`` further places."""
    longer = x.new_zeros(*x.shape[:2], x.shape[2] + room, x.shape[3])
    longer[:, :, : x.shape[2]] = x
    return longer


@dataclass(frozen=True)
class Written:
    """What has been written so far.

    Attributes:
        choices: of each position.
        lengths: positions of each row, its end not counted.
        log_likelihood: sum of the logarithms of the probabilities of all choices, ends among them.
        ids: how many choices these are.
        done: whether the row has ended.
    """

    choices: Int64[Tensor, "B T G"]
    lengths: Int64[Tensor, " B"]
    log_likelihood: Float[Tensor, " B"]
    ids: Int64[Tensor, " B"]
    done: Bool[Tensor, " B"]


def remembered(blocks: Sequence[nn.Module] | nn.ModuleList, given: Mapping[str, Given], room: int) -> Cache:
    """Returns the keys and values of given stretches, each read by itself, with room for what is to be written."""
    held: list[list[tuple[Tensor, Tensor]]] = [[] for _ in blocks]
    for one in given.values():
        x = one.tokens
        for block, pairs in zip(blocks, held, strict=True):
            pairs.append(block.keys_values(x))  # type: ignore[operator]
            if not one.still:
                x = block(x, one.mask)
    keys, values = ([torch.cat([pair[i] for pair in pairs], dim=2) for pairs in held] for i in range(2))
    return Cache(keys, values, torch.cat([one.mask for one in given.values()], dim=1), room)


def extended(blocks: Iterable[nn.Module], cache: Cache, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """Returns what the blocks make of new tokens, which the cache remembers."""
    allowed = cache.allowed(x.shape[1])
    for layer, block in enumerate(blocks):
        x = block.extend(x, cache.gather(layer, allowed))  # type: ignore[operator]
    cache.advance(x.shape[1])
    return x


def write(
    step: Callable[[Float[Tensor, "B 1 D"]], Float[Tensor, "B 1 D"]],
    writer: Writer,
    sampling: Sampling,
    candidates: Int64[Tensor, " B"],
) -> Iterator[Written]:
    """Yields all that is written after each position, until every row has ended or there are no more places.

    Args:
        step: a token that enters the transformer -> what it makes of it.
        writer: of the field.
        sampling: how choices are made.
        candidates: number of the candidate that each row is.
    """
    spelling, table = writer.spelling, writer.table
    rows, groups, device = len(candidates), len(spelling.starts), table.device
    draws = sampling.draws(candidates, len(writer.places) * groups).to(device)
    x = table[spelling.begin].expand(rows, -1)
    choices: list[Tensor] = []
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    lengths, count = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
    total = torch.zeros(rows, device=device)
    for place, added in enumerate(writer.places):
        hidden = step((x + added)[:, None])[:, 0]
        here: list[Tensor] = []
        x = torch.zeros_like(x)
        for group, (start, size) in enumerate(zip(spelling.starts, spelling.sizes, strict=True)):
            own = table[start : start + size]
            mark = writer.speller.marks[spelling.first + group]
            spelt = writer.speller(hidden[:, None], x[:, None], mark[None], writer.source)
            logits = (spelt[:, 0] @ own.T).float()
            if group == 0 and place == 0 and spelling.end is not None:
                logits[:, spelling.end] = -torch.inf  # something is written
            chosen = choose(logits, sampling, draws[:, place * groups + group])
            real = ~done if group == 0 or spelling.end is None else ~(done | (here[0] == spelling.end))
            total += logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0] * real
            count += real
            here.append(chosen)
            x = x + F.embedding(chosen, own)
        choices.append(torch.stack(here, dim=1))
        if spelling.end is not None:
            done = done | (here[0] == spelling.end)
        lengths = lengths + ~done
        yield Written(torch.stack(choices, dim=1), lengths, total.clone(), count.clone(), done)
        if bool(done.all()):
            return
