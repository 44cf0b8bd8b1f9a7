"""Hubs taken off: items that are near to everything that is asked give way to those that are near to this question.

In a space of many dimensions some items are among the nearest of far more queries than their share. What an item
``g`` of a field gets from queries at large, ``b(g) = log mean exp(SHARPNESS cos(q, g)) / SHARPNESS`` over vectors kept
from training, is therefore taken off its cosines:

    score(q, g) = cos(q, g) - strength (b(g) - its mean)

Source: querybank normalisation, Bogolin et al. 2022, "Cross Modal Retrieval with Querybank Normalisation", arXiv
2112.12777, with its inverted softmax as a difference of logarithms. Changed: what is taken off depends on the item
alone, so it is written into the vector of the item, beside a constant in the vectors of all other fields: a plain dot
product of unit vectors is the score, in a library, a file or another program, and either field may ask or be found.
What a query itself is written with is the same for all it is compared with. A last number brings every vector to one
length, as Bachrach et al. 2014, "Speeding Up the Xbox Recommender System", do for inner products.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intermodal.errors import InvalidValue

SHARPNESS = 10.0
"""10 was better than 20 and 40 on Flickr8k, where the strength then hardly matters; see docs/log.md."""
REACH = 0.16
"""More than this of a cosine is never taken off, nor added."""


@dataclass(frozen=True)
class Hub:
    """How hubs of one field are taken off.

    Attributes:
        strength: 0 for not at all, 1 for all that an item gets from queries at large.
        rows: vectors of queries that are kept.
    """

    strength: float = 0.0
    rows: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.strength < 0 or self.rows < 1:
            raise InvalidValue(
                f"hubs are taken off with strength {self.strength} by {self.rows} queries; give 0 or more, and at "
                "least one query"
            )


class Hubs(nn.Module):
    """Unit vectors of a field to longer ones whose dot products are scores without hubs."""

    def __init__(self, fields: Mapping[str, Hub], width: int) -> None:
        """Makes room for what is kept of queries, of the given width, in half precision."""
        super().__init__()
        self.fields = dict(fields)
        for name, hub in fields.items():
            self.register_buffer(f"asked_{name}", torch.zeros(hub.rows, width, dtype=torch.float16))
            self.register_buffer(f"usual_{name}", torch.zeros(()))

    @torch.no_grad()
    def set(self, said: Mapping[str, Tensor], asking: Mapping[str, Sequence[str]]) -> None:
        """Keeps queries of training data.

        Args:
            said: field -> unit vectors of its training items ``(N, D)``.
            asking: field -> the fields whose items look for its items.
        """
        for name, hub in self.fields.items():
            others = torch.cat([said[other] for other in asking[name]])
            self.get_buffer(f"asked_{name}").copy_(others[torch.linspace(0, len(others) - 1, hub.rows).long()])
            usual = self.get_buffer(f"usual_{name}").zero_()
            usual.copy_(self.gets(name, said[name]).mean())

    @torch.no_grad()
    def gets(self, name: str, vectors: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Returns what items of a field get from queries at large, as a cosine, more or less than is usual."""
        asked = self.get_buffer(f"asked_{name}").float()
        found = ((SHARPNESS * vectors.float() @ asked.T).logsumexp(dim=1) - math.log(len(asked))) / SHARPNESS
        return found - self.get_buffer(f"usual_{name}")

    def forward(self, name: str, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N E"]:
        """Returns unit vectors with two more numbers for each field.

        Args:
            name: of the field.
            vectors: of length 1.
        """
        return self.without(name, vectors, self.fields[name].strength * self.gets(name, vectors))

    def without(self, name: str, vectors: Float[Tensor, "N D"], taken: Float[Tensor, " N"]) -> Float[Tensor, "N E"]:
        """Returns unit vectors with this taken off their cosines with those of all other fields."""
        own = -taken.clamp(-REACH, REACH) / REACH**0.5
        rest = (REACH - own.square()).clamp(min=0).sqrt()  # own and rest together are of length REACH ** 0.5
        columns = [own if field == name else torch.full_like(own, REACH**0.5) for field in self.fields]
        columns += [rest if field == name else torch.zeros_like(rest) for field in self.fields]
        longer = torch.cat((vectors, torch.stack(columns, dim=1)), dim=1)
        return longer / math.sqrt(1 + len(self.fields) * REACH)
