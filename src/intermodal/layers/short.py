"""Attention over short sequences, trained in bf16 on a CPU: what ``attention.attend`` says, sooner.

It holds whole matrices of weights. The blockwise product never does, but its backward pass is slow there, in bf16
beyond use; where the weights are small, holding them is twice as fast as blocks in fp32. Where queries, keys and values
come from one product, one node of the graph takes them as they lie there, and rows of several lengths at once: cutting
them out and putting their gradients together again costs as much as attending does. Left out: gradients of gradients.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

LONGEST = 256
"""Tokens on either side up to which whole matrices of weights are held in training."""


def narrow(*parts: Tensor) -> bool:
    """Returns whether these are trained in bf16 on a CPU."""
    trained = any(part.requires_grad for part in parts)
    return parts[0].device.type == "cpu" and parts[0].dtype == torch.bfloat16 and trained


def attend_short(
    q: Float[Tensor, "B H T E"],
    k: Float[Tensor, "B H S E"],
    v: Float[Tensor, "B H S E"],
    allowed: Bool[Tensor, "B #H #T S"] | None = None,
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
    bias = _bias(q.shape[2], k.shape[2], allowed, causal, q.device)
    gathered: Tensor = _Short.apply(q, k, v, bias)  # type: ignore[no-untyped-call]
    return gathered


def attend_rows(
    qkv: Float[Tensor, "N 3 H E"],
    shapes: Sequence[Sequence[int]],
    allowed: Sequence[Bool[Tensor, "_ 1 _ _"] | None],
    causal: bool = False,
) -> Float[Tensor, "N H E"]:
    """Returns what the tokens of rows gather, each row of its own tokens.

    Args:
        qkv: queries, keys and values of all tokens: the rows of the first group one behind the other, then the next.
            Tokens behind those of all groups gather nothing: zero.
        shapes: rows and tokens per row of each group.
        allowed: for each group, which tokens each one sees, at least one; ``None`` for all.
        causal: each token sees only itself and those before it.
    """
    seen = zip(shapes, allowed, strict=True)
    bias = [_bias(length, length, one, causal, qkv.device) for (_, length), one in seen]
    gathered: Tensor = _Rows.apply(qkv, shapes, bias)  # type: ignore[no-untyped-call]
    return gathered


def _bias(queries: int, keys: int, allowed: Tensor | None, causal: bool, device: torch.device) -> Tensor | None:
    """Returns what is added to scores: nothing where a key is seen, minus infinity where not."""
    bias = torch.full((queries, keys), -torch.inf, device=device).triu_(1) if causal else None
    if allowed is None:
        return bias
    masked = torch.zeros(allowed.shape, device=device).masked_fill_(~allowed, -torch.inf)
    return masked if bias is None else masked + bias


class _Short(torch.autograd.Function):
    """The product and its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        flat = [t.contiguous().flatten(0, 1) for t in (q, k, v)]
        weights = _weights(flat[0], flat[1], bias, q.shape[:2])
        ctx.save_for_backward(*flat, weights)
        return torch.bmm(weights, flat[2]).view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        own = (*gradient.shape[:2], -1, gradient.shape[-1])
        to = [torch.empty_like(t) for t in (q, k, v)]
        _gradients((q, k, v), weights, gradient.reshape(q.shape), to)
        return to[0].view(own), to[1].view(own), to[2].view(own), None


class _Rows(torch.autograd.Function):
    """The same of queries, keys and values that lie beside each other, group by group."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, qkv: Tensor, shapes: Sequence[Sequence[int]], bias: Sequence[Tensor | None]
    ) -> Tensor:
        gathered, kept = qkv.new_empty(len(qkv), *qkv.shape[2:]), []
        gathered[_count(shapes) :] = 0
        for shape, group, out, own in zip(shapes, *_split(shapes, qkv, gathered), bias, strict=True):
            parts = group.view(*shape, *group.shape[1:]).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
            weights = _weights(parts[0], parts[1], own, (shape[0], qkv.shape[2]))
            found = torch.bmm(weights, parts[2]).view(shape[0], qkv.shape[2], shape[1], -1)
            out.view(*shape, *out.shape[1:]).copy_(found.transpose(1, 2))
            kept += [parts, weights]
        ctx.save_for_backward(*kept)
        ctx.shapes = shapes  # type: ignore[attr-defined]
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        kept, shapes = ctx.saved_tensors, ctx.shapes  # type: ignore[attr-defined]
        to_all = gradient.new_empty(len(gradient), 3, *gradient.shape[1:])
        to_all[_count(shapes) :] = 0
        split = _split(shapes, gradient, to_all)
        for shape, own, out, parts, weights in zip(shapes, *split, kept[::2], kept[1::2], strict=True):
            given = own.view(*shape, *own.shape[1:]).transpose(1, 2).reshape(parts.shape[1:])
            to = torch.empty_like(parts)
            _gradients(parts, weights, given, to)
            back = to.view(3, shape[0], -1, shape[1], to.shape[-1])
            out.view(*shape, *out.shape[1:]).copy_(back.permute(1, 3, 0, 2, 4))
        return to_all, None, None


def _split(shapes: Sequence[Sequence[int]], *of: Tensor) -> list[tuple[Tensor, ...]]:
    """Returns the tokens of each group, of each of some tensors."""
    sizes = [rows * length for rows, length in shapes]
    return [torch.split(one[: _count(shapes)], sizes) for one in of]


def _count(shapes: Sequence[Sequence[int]]) -> int:
    """Returns how many tokens all groups have."""
    return sum(rows * length for rows, length in shapes)


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    """Returns how much each query takes of each key ``(B * H, T, S)``; ``shape`` is B and H."""
    scores = _wide(torch.bmm(q, k.transpose(1, 2))).mul_(q.shape[-1] ** -0.5)
    if bias is not None:
        scores.view(*shape, *scores.shape[1:]).add_(bias)
    return scores.softmax(dim=-1).to(q.dtype)


def _gradients(parts: Sequence[Tensor] | Tensor, weights: Tensor, given: Tensor, to: Sequence[Tensor] | Tensor) -> None:
    """Puts the gradients of queries, keys and values ``(B * H, T, E)`` into ``to``."""
    q, k, v = parts
    torch.bmm(weights.transpose(1, 2), given, out=to[2])
    to_weights, wide = _wide(torch.bmm(given, v.transpose(1, 2))), _wide(weights)
    inner = (to_weights * wide).sum(dim=-1, keepdim=True)
    to_scores = to_weights.sub_(inner).mul_(wide).mul_(q.shape[-1] ** -0.5).to(q.dtype)
    torch.bmm(to_scores, k, out=to[0])
    torch.bmm(to_scores.transpose(1, 2), q, out=to[1])


def _wide(x: Tensor) -> Tensor:
    """Returns ``x`` in fp32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
