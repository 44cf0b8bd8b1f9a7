"""Heads that take what an encoder says of an item to a vector of another width: a product, or one layer between.

Tokens may be looked at too: learned queries gather them, each by its own softmax, beside what was pooled already.

Source of the queries: Lee et al. 2019, "Set Transformer", arXiv 1810.00825, section 3.2. Changed: a query weighs the
tokens themselves, without products for keys and values before it, since the product after it takes all that is
gathered; over long rows of wide tokens that is what makes it cheap.

Hubs, items that are among the nearest of far more queries than their share, are taken off afterwards, inside the
vectors. With ``b(g) = log mean exp(SHARPNESS cos(q, g)) / SHARPNESS`` over vectors ``q`` kept from training,

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
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.types import Encoded

SHARPNESS = 10.0
"""10 was better than 20 and 40 on Flickr8k, where the strength then hardly matters; see docs/log.md."""
REACH = 0.16
"""More than this of a cosine is never taken off, nor added."""


@dataclass(frozen=True)
class Head:
    """How heads are made.

    Attributes:
        hidden: numbers between the two products; 0 for one product.
        dropout: share that training leaves out.
        queries: that gather tokens; 0 for none.
    """

    hidden: int = 0
    dropout: float = 0.0
    queries: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if min(self.hidden, self.queries) < 0 or not 0 <= self.dropout < 1:
            raise InvalidValue(
                f"a head has hidden {self.hidden}, queries {self.queries} and dropout {self.dropout}; give 0 or more, "
                "and a dropout below 1"
            )


@dataclass(frozen=True)
class Said:
    """What an encoder says of items, where ``Encoded`` cannot hold it: the pooled vector has a width of its own.

    Attributes:
        tokens: one vector per token.
        mask: True where a token is real.
        pooled: one vector per item: that of every layer, or of several crops, side by side.
    """

    tokens: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    pooled: Float[Tensor, "B E"]


class Gather(nn.Module):
    """Tokens to a few weighted means of them, side by side."""

    def __init__(self, width: int, queries: int) -> None:
        """Builds the queries, which begin as all but plain means."""
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)

    def forward(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """Returns E = queries times D numbers per row; zero for a row without any token."""
        scale = tokens.shape[2] ** -0.5
        logits = F.layer_norm(tokens, tokens.shape[2:]) @ self.queries.T * scale
        logits = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min)
        weights = logits.softmax(dim=1) * mask[..., None]
        return torch.einsum("btq,btd->bqd", weights, tokens).flatten(1)


class Projection(nn.Module):
    """What an encoder says of an item to one vector of length 1."""

    def __init__(self, pooled_width: int, tokens_width: int, width: int, head: Head) -> None:
        """Builds the head.

        Args:
            pooled_width: of the pooled vectors that come in.
            tokens_width: of the tokens that come in.
            width: of what comes out.
            head: how.
        """
        super().__init__()
        self.gather = Gather(tokens_width, head.queries) if head.queries else None
        known = pooled_width + head.queries * tokens_width
        self.drop = nn.Dropout(head.dropout)
        self.first = nn.Linear(known, head.hidden) if head.hidden else None
        self.norm = nn.LayerNorm(head.hidden) if head.hidden else nn.LayerNorm(known, elementwise_affine=False)
        self.last = nn.Linear(head.hidden or known, width)

    def forward(self, encoded: Encoded | Said) -> Float[Tensor, "B D"]:
        """Returns one unit vector per row."""
        x = encoded.pooled
        if self.gather is not None:
            x = torch.cat((x, self.gather(encoded.tokens, encoded.mask)), dim=1)
        x = self.norm(x) if self.first is None else x
        if self.training and self.drop.p:  # a number per column: drawing millions takes as long as all else
            x = x * self.drop(x.new_ones(x.shape[1]))
        if self.first is not None:
            x = F.gelu(self.norm(self.first(x)))
        made: Tensor = F.normalize(self.last(x).float(), dim=-1)
        return made


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
