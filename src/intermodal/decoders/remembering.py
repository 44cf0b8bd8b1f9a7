"""Writing an id after the other, sooner: what ``looking.py`` computes of a whole row, of what is new of it alone.

Each layer's keys and values are remembered: those of what is looked at are computed once, those of what was written are
added to.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from intermodal.decoders.looking import WRITES, TextTransformer
from intermodal.layers.attention import attend
from intermodal.layers.block import Norms, added
from intermodal.types import Encoded


class Writing:
    """Rows that are written: it remembers what each layer has seen of them, and of what they look at.

    An object of ``sampling.autoregressive.Steps``.
    """

    def __init__(self, text: TextTransformer, seen: Encoded) -> None:
        """Begins rows that look at ``seen``."""
        self.text, self.length = text, 0
        self.looked = [self._parts(layer, seen.tokens) for layer in text.layers]
        self.mask = None if bool(seen.mask.all()) else seen.mask
        self.own: list[tuple[Tensor, Tensor] | None] = [None] * len(self.looked)

    @staticmethod
    def _parts(layer: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of what is looked at."""
        attention = layer.rest.attend_cross
        k, v = (_heads(x, attention.heads) for x in attention.kv(tokens).chunk(2, dim=-1))
        return k, v

    def __call__(self, ids: Int64[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Returns the logits of what follows each row, after these further ids of it."""
        x = self.text.entering(ids, self.length)
        for number, layer in enumerate(self.text.layers):
            x = self._passed(x, number, layer)
        self.length += ids.shape[1]
        return self.text.words(self.text.norm(x[:, -1]))

    def keep(self, rows: Int64[Tensor, " N"]) -> None:
        """Goes on with these rows, any of them several times."""
        self.looked = [(k[rows], v[rows]) for k, v in self.looked]
        self.own = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.own]
        self.mask = None if self.mask is None else self.mask[rows]

    def _passed(self, x: Tensor, number: int, layer: Any) -> Tensor:
        """Returns new tokens after a layer."""
        own, rest = layer.ways[WRITES], layer.rest
        norms: Norms = rest.norms

        def gather(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            before = self.own[number]
            if before is not None:
                k, v = torch.cat((before[0], k), dim=2), torch.cat((before[1], v), dim=2)
            self.own[number] = k, v
            new, every = q.shape[2], k.shape[2]
            sees = torch.ones(new, every, dtype=torch.bool, device=q.device).tril(every - new)
            return attend(q, k, v, None if new == 1 else sees.expand(len(q), 1, new, every))

        def look(y: Tensor) -> Tensor:
            attention = rest.attend_cross
            k, v = self.looked[number]
            there = None if self.mask is None else self.mask.any(dim=1)[:, None]
            allowed = None if there is None or self.mask is None else (self.mask | ~there)[:, None, None]
            found = attend(_heads(attention.q(y), attention.heads), k, v, allowed)
            mixed: Tensor = attention.out(found.transpose(1, 2).flatten(2))
            return mixed if there is None else mixed * there[..., None]

        x = added(x, own.norm, lambda y: own.attend.extend(y, gather), norms.after)
        x = added(x, rest.norm_cross, look, norms.after)
        after: Tensor = rest(x)
        return after


def _heads(x: Float[Tensor, "B T D"], heads: int) -> Float[Tensor, "B H T E"]:
    """Returns tokens split among heads."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)
