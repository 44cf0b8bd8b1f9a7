"""Gated fusion: a share for each field and number, decided by what all fields say.

Follows: Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion", arXiv 1702.01992, figure 2b. Changed: the
gates of the fields that are there add up to one (a softmax over fields) where the paper's are sigmoids of their own, so
that a sample with few fields gives a vector of the same size as one with many.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intermodal.fusion import FusionConfig, Projected, as_encoded, vectors
from intermodal.types import Encoded


class Gated(nn.Module):
    """A tanh layer per field, and gates that choose among them."""

    def __init__(self, fields: Projected, width: int) -> None:
        """Builds them."""
        super().__init__()
        self.width = width
        self.fields = fields
        names = list(fields.maps)
        self.says = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.gates = nn.ModuleDict({name: nn.Linear(width, len(names) * width, bias=False) for name in names})
        self.favour = nn.Parameter(torch.zeros(len(names), width))
        self.norm = nn.LayerNorm(width)

    def shares(self, parts: Mapping[str, Encoded]) -> Float[Tensor, "B M D"]:
        """Returns the share of each field in each number, of projected fields: 0 where it is absent, else adding to 1.

        An absent field has no say in the gates of the others: their sum goes over those that are there.
        """
        each, present = vectors(parts)
        said = [gate(each[:, i]) * present[:, i, None] for i, gate in enumerate(self.gates.values())]
        scores = torch.stack(said).sum(dim=0).view(-1, *self.favour.shape) + self.favour
        scores = scores.masked_fill(~present[..., None], torch.finfo(scores.dtype).min)
        shares: Tensor = scores.softmax(dim=1) * present[..., None]
        return shares

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns one token per row, which is the vector."""
        parts = self.fields(encoded)
        said = torch.stack([self.says[name](part.pooled).tanh() for name, part in parts.items()], dim=1)
        return as_encoded(self.norm((said * self.shares(parts)).sum(dim=1)))


def build(config: FusionConfig, widths: Mapping[str, int]) -> Gated:
    """Returns the fusion of fields of these widths, with fresh weights."""
    return Gated(Projected(widths, config.width, config.placeholder), config.width)
