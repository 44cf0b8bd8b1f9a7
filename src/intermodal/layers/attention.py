"""The one attention of this package: of a sequence to itself, or to a second sequence.

Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.2. Queries, keys and values of
self-attention come from one fused product; the product itself is ``scaled_dot_product_attention``.

Notable: over short sequences it is trained in bf16 on a CPU by ``layers/short.py``, the same sooner.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.layers.short import LONGEST, attend_rows, attend_short, narrow

Gather = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values ``(B, H, T, E)`` of tokens -> what each of them gathers ``(B, H, T, E)``."""


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
        mask: Bool[Tensor, "B S"] | Bool[Tensor, "B T S"] | None = None,
        context: Float[Tensor, "B S E"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B T D"]:
        """Returns what each token gathers.

        Args:
            x: the tokens that ask.
            mask: True where a token of the attended sequence is real, for all that ask or for each of them; ``None``
                when all are. Who has no real token attends to all of them: what it gathers is finite and means nothing.
            context: the attended sequence; ``None`` for ``x`` itself.
            causal: each token sees only itself and those before it.
        """
        allowed = None if mask is None else visible(mask, causal)
        if context is None:
            qkv = self.qkv(x)
            if narrow(qkv) and x.shape[1] <= LONGEST:
                rows = qkv.view(-1, 3, self.heads, x.shape[2] // self.heads)
                return self._mixed(attend_rows(rows, [x.shape[:2]], [allowed], causal).view(x.shape))
            q, k, v = qkv.chunk(3, dim=-1)
        else:
            q = self.q(x)
            k, v = self.kv(context).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self._mixed(attend(q, k, v, allowed, causal and allowed is None).transpose(1, 2).flatten(2))

    def _mixed(self, gathered: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Returns what the heads of each token gathered, mixed."""
        mixed: Tensor = self.out(gathered)
        return mixed

    def extend(self, x: Float[Tensor, "B T D"], gather: Gather) -> Float[Tensor, "B T D"]:
        """Returns what each token gathers, where someone else knows what it sees.

        Args:
            x: tokens whose queries, keys and values are computed here.
            gather: takes these: the place to put others before them, to remember them, or to keep them apart.
        """
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        return self._mixed(gather(q, k, v).transpose(1, 2).flatten(2))

    def keys_values(self, x: Float[Tensor, "B S D"]) -> tuple[Float[Tensor, "B H S E"], Float[Tensor, "B H S E"]]:
        """Returns the keys and values of tokens that are seen and see nothing."""
        width = x.shape[-1]
        own = self.context_width is None
        both: Tensor = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:]) if own else self.kv(x)
        k, v = both.reshape(*x.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return k, v

    def ask(
        self,
        x: Float[Tensor, "B T D"],
        keys: Float[Tensor, "B H S E"],
        values: Float[Tensor, "B H S E"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B T D"]:
        """Returns what each token gathers of another sequence, whose keys and values are known: see ``keys_values``."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self._mixed(attend(q, keys, values, mask[:, None, None]).transpose(1, 2).flatten(2))


def visible(mask: Bool[Tensor, "B S"] | Bool[Tensor, "B T S"], causal: bool = False) -> Bool[Tensor, "B 1 #T S"]:
    """Returns what each token that asks sees, for all heads; see ``Attention.forward``."""
    allowed = mask | ~mask.any(dim=-1, keepdim=True)
    allowed = allowed[:, None] if mask.dim() == 3 else allowed[:, None, None]
    if causal:
        allowed = allowed & torch.ones(mask.shape[-1], mask.shape[-1], dtype=torch.bool, device=mask.device).tril()
    return allowed


def attend(
    q: Float[Tensor, "B H T E"],
    k: Float[Tensor, "B H S E"],
    v: Float[Tensor, "B H S E"],
    allowed: Bool[Tensor, "B #H #T S"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "B H T E"]:
    """Returns what each query gathers of the keys that it may see: all of them where ``allowed`` is None.

    Where it is trained in bf16 on a CPU, over short sequences, that is ``attend_short``.
    There the backward pass of ``scaled_dot_product_attention`` takes 18 times as long in bf16 as in fp32 (37 against
    2 ms for 256 rows of 16 tokens and 4 heads on two cores, torch 2.13). Long sequences are attended to in fp32.
    """
    if narrow(q, k, v):
        if max(q.shape[2], k.shape[2]) <= LONGEST:
            return attend_short(q, k, v, allowed, causal)
        with torch.autocast("cpu", enabled=False):
            wide = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=allowed, is_causal=causal)
        return wide.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal)
