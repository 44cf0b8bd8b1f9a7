"""Warns of what silently ruins a run.

A batch of one; a loss that stays at the logarithm of the batch size; equal captions counted as negatives; numbers that
are not finite; a trained parameter without gradient; a part called frozen that is trained; a codebook of which hardly
anything is used.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from intermodal.errors import InvalidValue
from intermodal.types import Batch

logger = logging.getLogger("intermodal.training")
PATIENCE = 200  # steps that a loss may sit at ln B
COLLAPSED = 0.003  # of the codes: a perplexity below this share, and 1 more, is a collapse
BROKEN_MAX = 20  # steps in a row that may be skipped


class Watch:
    """Looks at every step and says each thing once; ``say`` receives the sentence."""

    def __init__(self, model: nn.Module, say: Callable[[str], None] = logger.warning) -> None:
        """Starts watching ``model`` and checks what can be seen before the first step."""
        self.model = model
        self._say = say
        self._said: set[str] = set()
        self._losses: deque[float] = deque(maxlen=PATIENCE)
        self._without = {n for n, p in model.named_parameters() if p.requires_grad}
        self._broken = 0
        config: Any = getattr(model, "config", None)
        for name, tower in getattr(config, "towers", {}).items():
            trained = [n for n, p in model.named_parameters() if n.startswith(f"encoders.{name}.") and p.requires_grad]
            if getattr(tower, "frozen", False) and trained:
                self.warn(
                    "frozen",
                    f"tower {name} is frozen in the config, but {len(trained)} of its parameters ask for a gradient",
                )

    def warn(self, kind: str, sentence: str) -> None:
        """Says ``sentence`` unless its kind was said before."""
        if kind not in self._said:
            self._said.add(kind)
            self._say(sentence)

    def batch(self, batch: Mapping[str, Batch]) -> None:
        """Looks at what is about to be learnt from."""
        rows = max((len(b) for b in batch.values()), default=0)
        if rows == 1:
            self.warn("one", "the batch holds one sample: a contrastive loss has nothing to compare with and stays 0")
        if getattr(getattr(self.model, "config", None), "equal_texts", True):
            return
        for name, part in batch.items():
            if part.values.dim() == 2 and not part.values.is_floating_point() and rows > 1:
                distinct = len(torch.unique(part.values[part.present], dim=0))
                repeated = int(part.present.sum()) - distinct
                if repeated:
                    self.warn(
                        "equal",
                        f"{repeated} of {rows} rows of {name} repeat another's words and count as negatives of it; "
                        "set equal_texts=true",
                    )

    def loss(self, step: int, losses: Mapping[str, Tensor], rows: int) -> bool:
        """Returns whether the step is fit to be learnt from; looks for a stuck or broken loss.

        Raises:
            InvalidValue: too many steps in a row were not finite, or there is no loss at all.
        """
        if not losses:
            raise InvalidValue(f"step {step} has no loss: no two trained fields meet in the batch; check the fields")
        total = sum(float(value.detach()) for value in losses.values())
        if not math.isfinite(total):
            return self._break(step, f"the loss is {total}")
        self._losses.append(total - math.log(rows))
        if len(self._losses) == PATIENCE and rows > 1 and max(map(abs, self._losses)) < 0.02:
            self.warn(
                "stuck",
                f"the loss has stayed at ln({rows}) = {math.log(rows):.2f} for {PATIENCE} steps: nothing is being "
                "learnt; lower the learning rate, check that pairs belong together, lengthen the warm-up",
            )
        return True

    def gradients(self, step: int, norm: float) -> bool:
        """Returns whether the gradients are finite; looks for parameters that never get one."""
        if not math.isfinite(norm):
            return self._break(step, f"the gradient's norm is {norm}")
        self._broken = 0
        self._codes(step)
        if self._without:
            self._without -= {n for n, p in self.model.named_parameters() if p.grad is not None}
            if step >= 20 and self._without:
                names = sorted(self._without)
                self.warn(
                    "without",
                    f"{len(names)} trained parameters got no gradient in {step} steps, e.g. {names[0]}: "
                    "is their field missing from the data, or their pair not trained?",
                )
                self._without = set()
        return True

    def _codes(self, step: int) -> None:
        """Looks now and then at how many codes a model's codebook uses, if it has one."""
        use = getattr(self.model, "codebook_use", None)
        if use and step and step % PATIENCE == 0:
            codes, perplexity = int(getattr(self.model, "codes", 0)), use()["perplexity"]
            if perplexity < 1 + COLLAPSED * codes:
                self.warn(
                    "collapse",
                    f"the codebook has collapsed: at step {step} a perplexity of {perplexity:.1f} among {codes} codes; "
                    "lower the learning rate, or use quantizer fsq, which has no dead codes",
                )

    def _break(self, step: int, what: str) -> bool:
        self._broken += 1
        self.warn("broken", f"{what} at step {step}; such steps are skipped")
        if self._broken > BROKEN_MAX:
            raise InvalidValue(
                f"{BROKEN_MAX} steps in a row were not finite ({what}): lower the learning rate or use fp32"
            )
        return False
