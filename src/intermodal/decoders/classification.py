"""Heads that choose one of a list: a word of the vocabulary, an answer.

Source: Devlin et al. 2018, arXiv 1810.04805 (a product, GELU and a normalisation before the table of words itself); the
head of answers is that of LXMERT, arXiv 1908.07490, in the code that its authors published.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Transform(nn.Module):
    """A product, GELU, a normalisation."""

    def __init__(self, width: int, inner: int, epsilon: float = 1e-5) -> None:
        """Builds it from ``width`` to ``inner``."""
        super().__init__()
        self.project = nn.Linear(width, inner)
        self.norm = nn.LayerNorm(inner, epsilon)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n E"]:
        """Returns the transformed vectors."""
        transformed: Tensor = self.norm(F.gelu(self.project(x)))
        return transformed


class WordHead(nn.Module):
    """Vectors to words: what the table of words itself makes of them, and a bias per word."""

    def __init__(self, width: int, vocab_size: int, epsilon: float = 1e-5) -> None:
        """Builds all but the table, which is given with each call."""
        super().__init__()
        self.transform = Transform(width, width, epsilon)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Float[Tensor, "*n D"], table: Float[Tensor, "V D"]) -> Float[Tensor, "*n V"]:
        """Returns one logit per word."""
        return F.linear(self.transform(x), table, self.bias)


class Classifier(nn.Module):
    """Vectors to one of ``classes``, with one layer between."""

    def __init__(self, width: int, classes: int, inner: int = 0, epsilon: float = 1e-5) -> None:
        """Builds it; ``inner`` is the width between, 0 for twice ``width``."""
        super().__init__()
        self.transform = Transform(width, inner or 2 * width, epsilon)
        self.choose = nn.Linear(inner or 2 * width, classes)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n K"]:
        """Returns one logit per class."""
        logits: Tensor = self.choose(self.transform(x))
        return logits


class FirstToken(nn.Module):
    """Tokens to one vector: the first of each row, a product, a hyperbolic tangent (BERT's pooler)."""

    def __init__(self, width: int, inner: int = 0) -> None:
        """Builds the product, from ``width`` to ``inner``, 0 for the same."""
        super().__init__()
        self.project = nn.Linear(width, inner or width)

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B E"]:
        """Returns one vector per row."""
        pooled: Tensor = self.project(tokens[:, 0]).tanh()
        return pooled
