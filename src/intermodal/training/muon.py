"""Muon, matrices of equal shape moved together.

torch's own takes one matrix after the other, fifteen small products each; a model has dozens of equal ones, and stacked
they cost less than half (docs/log.md). The update is the same, the state too: a checkpoint of one is one of the other.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TOGETHER = 2**24
"""Numbers of a stack at most: what the copies of it take stays below 100 MB."""


class Muon(torch.optim.Muon):
    """``torch.optim.Muon`` with its learning rate matched to AdamW's (``match_rms_adamw``)."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        """Takes what is moved: that rate's match is the one that is computed here, so there is no choice of it."""
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.device, matrix.dtype, tuple(sorted(matrix.shape))].append(matrix)
            for (*_, shape), matrices in alike.items():
                count = max(1, TOGETHER // math.prod(shape))
                for first in range(0, len(matrices), count):
                    self._move(group, matrices[first : first + count])
        return loss

    def _move(self, group: dict[str, Any], matrices: list[Tensor]) -> None:
        """Moves matrices of one shape, or of that shape turned."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        moments = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, moments, group["momentum"]) if group["nesterov"] else moments
        stack = torch.stack([_lying(one) for one in ahead])
        moves = orthogonal(stack, group["ns_coefficients"], group["ns_steps"], group["eps"]).to(matrices[0].dtype)
        rate = float(group["lr"])
        torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
        along = [
            move if matrix.shape == move.shape else move.T
            for matrix, move in zip(matrices, moves.unbind(), strict=True)
        ]
        torch._foreach_add_(matrices, along, alpha=-0.2 * rate * math.sqrt(max(matrices[0].shape)))


def _lying(matrix: Tensor) -> Tensor:
    """Returns a matrix that is no higher than wide: itself, or turned."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def orthogonal(
    stack: Float[Tensor, "B M N"], coefficients: Sequence[float], rounds: int, eps: float
) -> Float[Tensor, "B M N"]:
    """Returns about the nearest matrix of orthonormal rows to each, in bf16, by Newton-Schulz iterations.

    Args:
        stack: matrices no higher than wide.
        coefficients: of the quintic polynomial.
        rounds: iterations.
        eps: the least norm that is divided by.
    """
    a, b, c = coefficients
    x = stack.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
