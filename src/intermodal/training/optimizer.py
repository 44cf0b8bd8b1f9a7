"""What moves the weights, and the learning rate over time.

Muon for the matrices of linear layers, AdamW for all the rest (embeddings, convolutions, positions, norms, biases,
temperatures). On small contrastive models Muon reaches in a quarter of the samples what AdamW alone does;
``docs/log.md`` has the figures.

Sources: Jordan et al. 2024, "Muon"; its learning rate matched to AdamW's as in Liu et al. 2025, arXiv 2502.16982;
Loshchilov and Hutter 2017, arXiv 1711.05101 (AdamW) and arXiv 1608.03983 (cosine).
"""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from intermodal.errors import InvalidValue, UnknownName
from intermodal.training.muon import Muon

OPTIMIZERS = ("muon", "adamw")
BETAS = (0.9, 0.98)
MOMENTUM = 0.95
FUSED = ("cpu", "cuda")
"""Kinds of devices on which AdamW takes one pass over its weights."""


def optimizers(
    model: nn.Module, kind: str, learning_rate: float, matrix_rate: float, weight_decay: float
) -> list[Optimizer]:
    """Returns the optimizers that together move every parameter that asks for a gradient, each exactly once.

    Each parameter group keeps its peak learning rate under ``peak``. Matrices decay, vectors and scalars do not.

    Args:
        model: what is trained.
        kind: ``muon`` (with AdamW for what is no matrix of a linear layer) or ``adamw`` for everything.
        learning_rate: peak of AdamW.
        matrix_rate: peak of Muon.
        weight_decay: of matrices.

    Raises:
        InvalidValue: nothing is left to train.
        UnknownName: there is no such optimizer.
    """
    if kind not in OPTIMIZERS:
        raise UnknownName("optimizer", kind, OPTIMIZERS)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InvalidValue("every parameter is frozen: nothing is left to train; unfreeze a tower or its head")
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)} if kind == "muon" else set()
    matrices = [p for p in trained if id(p) in linear]
    rest = [p for p in trained if id(p) not in linear]
    made: list[Optimizer] = []
    if matrices:
        made.append(Muon(matrices, lr=matrix_rate, weight_decay=weight_decay, momentum=MOMENTUM))
    groups = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if rest:
        fused = all(p.device.type in FUSED for p in rest)  # one pass over each weight: a table of words costs a fifth
        made.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=BETAS, fused=fused))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def rate(progress: float, step: int, warmup_steps: int, floor: float = 0.01) -> float:
    """Returns the share of the peak learning rate: a linear rise over the warm-up, then a cosine down to ``floor``.

    Args:
        progress: how much of the run is done, 0 to 1.
        step: steps taken.
        warmup_steps: steps of the rise.
        floor: share left at the end.
    """
    rise = min(1.0, (step + 1) / max(1, warmup_steps))
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))))
