"""Tensor fusion: every product of one number of each field, in full or of low rank.

Follows: Zadeh et al. 2017, "Tensor Fusion Network", arXiv 1707.07250, eq. 3 (a 1 stands behind each field's numbers, so
that products of fewer fields are there too); low rank: Liu et al. 2018, "Efficient Low-rank Multimodal Fusion with
Modality-Specific Factors", arXiv 1806.00064, eq. 6: the full form's weight as a sum of products of one factor a field,
so that the product of all fields is never built. An absent field is its 1 alone: all products with it vanish, and
the row gets the tensor of the others. Left out: the papers' dropout.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.fusion import FusionConfig, Projected, as_encoded
from intermodal.types import Encoded

ENTRIES = 2**14
"""Products of one sample that the full form takes at most."""


def outer(parts: list[Float[Tensor, "B _"]]) -> Float[Tensor, "B P"]:
    """Returns all products of one number of each part, the last part's index running fastest."""
    result = parts[0]
    for part in parts[1:]:
        result = (result[:, :, None] * part[:, None]).flatten(1)
    return result


class FullTensor(nn.Module):
    """All products, and one linear map of them."""

    def __init__(self, count: int, inner: int, width: int) -> None:
        """Builds it for ``count`` fields of ``inner`` numbers.

        Raises:
            InvalidValue: there would be more than ``ENTRIES`` products.
        """
        super().__init__()
        if (inner + 1) ** count > ENTRIES:
            raise InvalidValue(
                f"a full product of {count} fields of {inner} numbers has {(inner + 1) ** count:,} entries, {ENTRIES:,}"
                " at most; lower inner, or give a rank above 0"
            )
        self.out = nn.Linear((inner + 1) ** count, width)

    def forward(self, parts: list[Float[Tensor, "B I"]]) -> Float[Tensor, "B D"]:
        """Returns what is linear in the products of ``parts``, each with its 1 behind it."""
        mixed: Tensor = self.out(outer(parts))
        return mixed


class LowRank(nn.Module):
    """A sum of products of one linear map per field."""

    def __init__(self, count: int, inner: int, width: int, rank: int) -> None:
        """Builds ``rank`` factors for each of ``count`` fields of ``inner`` numbers."""
        super().__init__()
        self.factors = nn.Parameter(torch.randn(count, rank, inner + 1, width) / math.sqrt(inner + 1))
        with torch.no_grad():  # an absent field multiplies by about one
            self.factors[:, :, -1] += 1.0
        self.weights = nn.Parameter(torch.randn(rank) / math.sqrt(rank))
        self.bias = nn.Parameter(torch.zeros(width))

    def full(self) -> Float[Tensor, "D P"]:
        """Returns the weight of the full form that does the same, in the order of ``outer``."""
        rows = []
        for weight, factors in zip(self.weights, self.factors.transpose(0, 1), strict=True):
            rows.append(weight * outer([factor.T for factor in factors]))
        return torch.stack(rows).sum(dim=0)

    def forward(self, parts: list[Float[Tensor, "B I"]]) -> Float[Tensor, "B D"]:
        """Returns what the full form with the weight ``full()`` does, without building any product of all fields."""
        product = torch.stack([torch.einsum("bi,rid->brd", x, f) for x, f in zip(parts, self.factors, strict=True)])
        return torch.einsum("brd,r->bd", product.prod(dim=0), self.weights.to(product.dtype)) + self.bias


class TensorFusion(nn.Module):
    """A few numbers of each field, and what is linear in their products."""

    def __init__(self, fields: Projected, inner: int, products: nn.Module, width: int) -> None:
        """Assembles it; ``products`` is of one of the two forms."""
        super().__init__()
        self.width = width
        self.fields = fields
        self.narrow = nn.ModuleDict({name: nn.Linear(width, inner) for name in fields.maps})
        self.products = products
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns one token per row, which is the vector."""
        parts = []
        for name, part in self.fields(encoded).items():
            numbers = self.narrow[name](F.gelu(part.pooled)).tanh() * part.mask.any(dim=1, keepdim=True)
            parts.append(F.pad(numbers, (0, 1), value=1.0))
        return as_encoded(self.norm(self.products(parts)))


def build(config: FusionConfig, widths: Mapping[str, int]) -> TensorFusion:
    """Returns the fusion of fields of these widths, with fresh weights."""
    count, inner, width = len(widths), config.inner, config.width
    products = LowRank(count, inner, width, config.rank) if config.rank else FullTensor(count, inner, width)
    return TensorFusion(Projected(widths, width, config.placeholder), inner, products, width)
