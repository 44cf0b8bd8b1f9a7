"""Fusion: several ``Encoded`` of one batch to one. A file of this folder is a form, and its name is the form's.

    early         one sequence of all tokens through one transformer
    cross         the tokens of each field ask those of the others
    hierarchical  the tokens of each field to one vector, then the fields to one
    gated         a share for each field, decided by what all fields say
    tensor        the products of all fields' numbers
    late          decisions, each from one field alone, to one

All but ``late`` join what the fields say before anything is decided, and are built by ``build(config, widths)``; a head
stands behind them. ``late`` joins decisions: heads stand before it.

A field that is absent from a row never enters as data. Its tokens are masked out of every attention, its vector out of
every sum, and what stands in such rows changes nothing (NaN included). The option is a placeholder: a learned vector
stands for a field wherever it is absent, as a mask token does (arXiv 1810.04805). A row without any field gets what is
learnt for that case, or zeros; it is finite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from intermodal.errors import InvalidValue, UnknownName
from intermodal.types import Encoded

FORMS = ("cross", "early", "gated", "hierarchical", "tensor")
"""Those that join before anything is decided."""

KINDS = ("classes", "labels", "number")
"""What a decision is about: one class of several, any of several labels, or a number."""


class Fusion(Protocol):
    """Several ``Encoded`` in, one out; rows are samples, and a row depends on its own row of each field alone."""

    width: int

    def __call__(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns the tokens that were joined, which of them are real, and one vector per row."""
        ...


@dataclass(frozen=True)
class FusionConfig:
    """How fields are joined before anything is decided.

    Attributes:
        form: one of ``FORMS``; empty for none.
        width: D of what comes out, and of all inside.
        depth: transformer blocks of early, hierarchical and cross (there: of each field).
        heads: of their attention.
        dropout: of each residual branch in them.
        rank: of tensor: terms of the low-rank form; 0 for the full product.
        inner: of tensor: numbers of each field that are multiplied with those of the others.
        placeholder: a learned vector stands where a field is absent; else such rows are masked out.
    """

    form: str = "gated"
    width: int = 128
    depth: int = 2
    heads: int = 4
    dropout: float = 0.0
    rank: int = 8
    inner: int = 16
    placeholder: bool = False

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if self.form and self.form not in FORMS:
            raise UnknownName("form of fusion", self.form, FORMS)
        for name, least in (("width", 1), ("depth", 1), ("heads", 1), ("rank", 0), ("inner", 1)):
            if getattr(self, name) < least:
                raise InvalidValue(f"{name} of a fusion is {getattr(self, name)}; give at least {least}")


class Projected(nn.Module):
    """Each field's tokens and vector in one width, absent rows cleared or filled by the field's placeholder."""

    def __init__(self, widths: Mapping[str, int], width: int, placeholder: bool = False) -> None:
        """Builds a product per field, whose bias also tells the fields apart.

        Args:
            widths: field -> width of its tokens.
            width: D.
            placeholder: see ``FusionConfig``.

        Raises:
            InvalidValue: there is no field.
        """
        super().__init__()
        if not widths:
            raise InvalidValue("a fusion joins at least one field, and none was given")
        self.maps = nn.ModuleDict({name: nn.Linear(size, width) for name, size in widths.items()})
        self.placeholders = nn.ParameterDict()
        if placeholder:
            self.placeholders.update({name: nn.Parameter(torch.randn(width) * 0.02) for name in widths})

    def forward(self, encoded: Mapping[str, Encoded]) -> dict[str, Encoded]:
        """Returns the fields in the order they were built for; what is not real is zero."""
        result = {}
        for name, project in self.maps.items():
            given = cleared(encoded[name])
            present = given.mask.any(dim=1)
            tokens = project(given.tokens) * given.mask[..., None]
            pooled, mask = project(given.pooled) * present[:, None], given.mask
            if name in self.placeholders:
                own = self.placeholders[name].to(tokens.dtype)
                first = torch.zeros_like(mask)
                first[:, 0] = ~present
                tokens = torch.where(first[..., None], own, tokens)
                pooled, mask = torch.where(present[:, None], pooled, own), mask | first
            result[name] = Encoded(tokens, mask, pooled)
        return result


def cleared(encoded: Encoded) -> Encoded:
    """Returns the same with zeros where nothing is real: what stood there is forgotten, even if it was no number."""
    present = encoded.mask.any(dim=1)
    return Encoded(
        encoded.tokens.masked_fill(~encoded.mask[..., None], 0.0),
        encoded.mask,
        encoded.pooled.masked_fill(~present[:, None], 0.0),
    )


def vectors(encoded: Mapping[str, Encoded]) -> tuple[Float[Tensor, "B M D"], Bool[Tensor, "B M"]]:
    """Returns the M fields' vectors beside each other, and which of them are there."""
    parts = list(encoded.values())
    return torch.stack([p.pooled for p in parts], dim=1), torch.stack([p.mask.any(dim=1) for p in parts], dim=1)


def as_encoded(rows: Float[Tensor, "B D"]) -> Encoded:
    """Returns one vector per row as one token per row, all real."""
    return Encoded(rows[:, None], torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device), rows)
