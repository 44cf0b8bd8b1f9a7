"""What a language model's heads see of a stream, by plain loops."""

from collections.abc import Sequence

import torch
from torch import Tensor


def seen_by_heads(numbers: Sequence[int], heads: int) -> Tensor:
    """Returns which ids each one sees ``(1, H, S, S)``: those of its own text for the first head, else all before it.

    Args:
        numbers: of the text of each id.
        heads: two to seven.
    """
    places = range(len(numbers))
    ways = [[[j <= i and (h > 0 or numbers[i] == numbers[j]) for j in places] for i in places] for h in range(heads)]
    return torch.tensor([ways])
