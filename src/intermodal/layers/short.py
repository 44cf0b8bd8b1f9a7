"""Attention over short sequences, trained in bf16 on a CPU: what ``attention.attend`` says, sooner.

It holds whole matrices of weights. The blockwise product never does, but its backward pass is slow there, in bf16
beyond use; where the weights are small, holding them is twice as fast as blocks in fp32. Left out: gradients of
gradients.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def attend_short(
    q: Float[Tensor, "B H T E"],
    k: Float[Tensor, "B H S E"],
    v: Float[Tensor, "B H S E"],
    allowed: Bool[Tensor, "B 1 #T S"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "B H T E"]:
    """Returns what each query gathers.

    Args:
        q: queries.
        k: keys.
        v: values.
        allowed: which keys each query sees, at least one; ``None`` for all.
        causal: each query sees only the keys up to its own place; T and S are then equal.
    """
    bias = None
    if causal:
        bias = torch.full((q.shape[2], k.shape[2]), -torch.inf, device=q.device).triu_(1)
    if allowed is not None:
        masked = torch.zeros(allowed.shape, device=q.device).masked_fill_(~allowed, -torch.inf)
        bias = masked if bias is None else masked + bias
    gathered: Tensor = _Short.apply(q, k, v, bias)  # type: ignore[no-untyped-call]
    return gathered


class _Short(torch.autograd.Function):
    """The product and its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        flat = [t.contiguous().flatten(0, 1) for t in (q, k, v)]
        scores = _wide(torch.bmm(flat[0], flat[1].transpose(1, 2))).mul_(q.shape[-1] ** -0.5)
        if bias is not None:
            scores.view(*q.shape[:3], -1).add_(bias)
        weights = scores.softmax(dim=-1).to(q.dtype)
        ctx.save_for_backward(*flat, weights)
        return torch.bmm(weights, flat[2]).view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        own = (*gradient.shape[:2], -1, gradient.shape[-1])
        given = gradient.reshape(q.shape)
        to_v = torch.bmm(weights.transpose(1, 2), given)
        to_weights, wide = _wide(torch.bmm(given, v.transpose(1, 2))), _wide(weights)
        inner = (to_weights * wide).sum(dim=-1, keepdim=True)
        to_scores = ((to_weights - inner) * wide).mul_(q.shape[-1] ** -0.5).to(q.dtype)
        to_q, to_k = torch.bmm(to_scores, k), torch.bmm(to_scores.transpose(1, 2), q)
        return to_q.view(own), to_k.view(own), to_v.view(own), None


def _wide(x: Tensor) -> Tensor:
    """Returns ``x`` in fp32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
