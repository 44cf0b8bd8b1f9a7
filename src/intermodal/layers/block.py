"""The one transformer block: attends to itself, then, if it was built for a second stream, to that, then thinks.

Source: Vaswani et al. 2017, arXiv 1706.03762, figure 1, with the normalisation first as in Xiong et al. 2020,
arXiv 2002.04745.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.layers.attention import Attention, Gather


def quick_gelu(x: Tensor) -> Tensor:
    """Returns the logistic approximation of GELU that the first CLIP weights were trained with."""
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


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
    ) -> None:
        """Builds a block of ``width``.

        Args:
            width: D.
            heads: of every attention.
            mlp_width: inner width of the perceptron; 0 for four times ``width``.
            dropout: of each residual branch.
            activation: one of ``ACTIVATIONS``.
            context_width: width of a second sequence that is attended to; None where there is none.
        """
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = Attention(width, heads)
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.attend_cross = Attention(width, heads, context_width)
        self.has_context = context_width is not None
        self.norm_mlp = nn.LayerNorm(width)
        inner = mlp_width or 4 * width
        self.mlp_in = nn.Linear(width, inner)
        self.mlp_out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"] | None = None,
        context: Float[Tensor, "B S E"] | None = None,
        context_mask: Bool[Tensor, "B S"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer; masks are True where a token is real."""
        x = x + self.dropout(self.attend_self(self.norm_self(x), mask, causal=causal))
        if self.has_context and context is not None:
            x = x + self.dropout(self.attend_cross(self.norm_cross(x), context_mask, context))
        after: Tensor = x + self.dropout(self.mlp_out(self.activation(self.mlp_in(self.norm_mlp(x)))))
        return after

    def extend(self, x: Float[Tensor, "B T D"], gather: Gather) -> Float[Tensor, "B T D"]:
        """Returns the tokens after this layer, where someone else knows what each sees: see ``Attention.extend``."""
        x = x + self.dropout(self.attend_self.extend(self.norm_self(x), gather))
        after: Tensor = x + self.dropout(self.mlp_out(self.activation(self.mlp_in(self.norm_mlp(x)))))
        return after

    def keys_values(self, x: Float[Tensor, "B S D"]) -> tuple[Float[Tensor, "B H S E"], Float[Tensor, "B H S E"]]:
        """Returns the keys and values of tokens that are seen in this layer and do not go through it."""
        return self.attend_self.keys_values(self.norm_self(x))
