"""The one transformer block: attends to itself, then, if it was built for a second stream, to that, then thinks.

Source: Vaswani et al. 2017, arXiv 1706.03762, figure 1, with the normalisation first as in Xiong et al. 2020,
arXiv 2002.04745, or after each sum as in the paper itself and in BERT.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.attention import Attention, Gather


def quick_gelu(x: Tensor) -> Tensor:
    """Returns the logistic approximation of GELU that the first CLIP weights were trained with."""
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


@dataclass(frozen=True)
class Norms:
    """Where a block normalises, and how.

    Attributes:
        after: each sum with its residual branch, instead of what enters the branch.
        epsilon: added to the variance.
    """

    after: bool = False
    epsilon: float = 1e-5


class Block(nn.Module):
    """One layer of a transformer; with ``context_width`` it has a second, crossed attention."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int = 0,
        dropout: float = 0.0,
        activation: str = "gelu",
        context_width: int | None = None,
        norms: Norms = Norms(),
        attends_self: bool = True,
    ) -> None:
        """Builds a block of ``width``.

        Args:
            width: D.
            heads: of every attention.
            mlp_width: inner width of the perceptron; 0 for four times ``width``.
            dropout: of each residual branch.
            activation: one of ``ACTIVATIONS``.
            context_width: width of a second sequence that is attended to; None where there is none.
            norms: where it normalises, and how.
            attends_self: False for a block that attends to the second sequence alone.
        """
        super().__init__()
        self.norms, self.attends_self, self.has_context = norms, attends_self, context_width is not None
        if attends_self:
            self.norm_self = nn.LayerNorm(width, norms.epsilon)
            self.attend_self = Attention(width, heads)
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(width, norms.epsilon)
            self.attend_cross = Attention(width, heads, context_width)
        self.norm_mlp = nn.LayerNorm(width, norms.epsilon)
        inner = mlp_width or 4 * width
        self.mlp_in = nn.Linear(width, inner)
        self.mlp_out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]
        self.register_parameter("gates", None)

    def gated(self, start: float = 0.0) -> "Block":
        """Returns this block, what it adds from the second stream and by its perceptron now times the tanh of a number.

        At 0 it changes nothing (Alayrac et al. 2022, arXiv 2204.14198, figure 4).

        Args:
            start: of both numbers, which are learnt.
        """
        self.gates = nn.Parameter(torch.full((2,), start))
        return self

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"] | None = None,
        context: Float[Tensor, "B S E"] | None = None,
        context_mask: Bool[Tensor, "B S"] | Bool[Tensor, "B T S"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer; masks are True where a token is real.

        A row, or a token with a mask of its own, for which the second stream has no real token gathers nothing from it.
        """
        drop, after = self.dropout, self.norms.after
        if self.attends_self:
            x = added(x, self.norm_self, lambda y: drop(self.attend_self(y, mask, causal=causal)), after)
        if self.has_context and context is not None:

            def seen(y: Tensor) -> Tensor:
                return self._let(0, drop(crossed(self.attend_cross, y, context, context_mask)))

            x = added(x, self.norm_cross, seen, after)
        return added(x, self.norm_mlp, self._think, after)

    def _think(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Returns what the perceptron adds to each token by itself."""
        return self._let(1, self.dropout(self.mlp_out(self.activation(self.mlp_in(x)))))

    def _let(self, gate: int, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Returns what a gate lets through: all where there is none."""
        return x if self.gates is None else self.gates[gate].tanh() * x

    def extend(self, x: Float[Tensor, "B T D"], gather: Gather) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer, where someone else knows what each sees: see ``Attention.extend``."""
        return self.through(x, lambda y: self.attend_self.extend(y, gather))

    def through(self, x: Float[Tensor, "*B D"], attend: Callable[[Tensor], Tensor]) -> Float[Tensor, "*B D"]:
        """Returns the tokens after this layer, without a second stream; ``attend`` gives what they gather."""
        x = added(x, self.norm_self, lambda y: self.dropout(attend(y)), self.norms.after)
        return added(x, self.norm_mlp, self._think, self.norms.after)

    def keys_values(self, x: Float[Tensor, "B S D"]) -> tuple[Float[Tensor, "B H S E"], Float[Tensor, "B H S E"]]:
        """Returns the keys and values of tokens that are seen in this layer and do not go through it."""
        return self.attend_self.keys_values(self.norm_self(x))


def added(
    x: Float[Tensor, "*B D"], norm: nn.Module, branch: Callable[[Tensor], Tensor], after: bool
) -> Float[Tensor, "*B D"]:
    """Returns the sum of tokens and what a branch makes of them, normalised before the branch or after the sum."""
    if after:
        normed: Tensor = norm(x + branch(x))
        return normed
    return x + branch(norm(x))


def crossed(
    attend: Attention,
    x: Float[Tensor, "B T D"],
    context: Float[Tensor, "B S E"],
    mask: Bool[Tensor, "B S"] | Bool[Tensor, "B T S"] | None = None,
) -> Float[Tensor, "B T D"]:
    """Returns what each token gathers of a second stream; zero where that has no token which is real to it."""
    gathered: Tensor = attend(x, mask, context)
    if mask is None:
        return gathered
    real = mask.any(dim=-1)
    return gathered * (real[..., None] if mask.dim() == 3 else real[:, None, None])
