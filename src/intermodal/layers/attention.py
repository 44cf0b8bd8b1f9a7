"""The one attention of this package: of a sequence to itself, or to a second sequence.

Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.2. Queries, keys and values of
self-attention come from one fused product; the product itself is ``scaled_dot_product_attention``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue


class Attention(nn.Module):
    """Multi-head attention; give ``context_width`` to attend to another sequence instead of to itself."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        """Builds the projections; ``width`` must be a multiple of ``heads``."""
        super().__init__()
        if width % heads:
            raise InvalidValue(f"attention width {width} is no multiple of its {heads} heads; change one of them")
        self.heads = heads
        self.context_width = context_width
        if context_width is None:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q = nn.Linear(width, width)
            self.kv = nn.Linear(context_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B S"] | None = None,
        context: Float[Tensor, "B S E"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """Returns what each token gathers.

        Args:
            x: the tokens that ask.
            mask: True where a token of the attended sequence is real; ``None`` when all are. A row without any real
                token attends to all of them: what it returns is finite and means nothing.
            context: the attended sequence; ``None`` for ``x`` itself.
            causal: each token sees only itself and those before it.
        """
        if context is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            q = self.q(x)
            k, v = self.kv(context).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        allowed = None
        if mask is not None:
            allowed = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
            if causal:
                square = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
                allowed = allowed & square
        gathered = _attend(q, k, v, allowed, causal and allowed is None)
        mixed: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return mixed


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
    """Returns the attention product; in fp32 where it is trained on a CPU.

    There the backward pass in bf16 takes 18 times as long as in fp32 (37 against 2 ms for 256 rows of 16 tokens and 4
    heads on two cores, torch 2.13).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:
        with torch.autocast("cpu", enabled=False):
            wide = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=allowed, is_causal=causal)
        return wide.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal)
