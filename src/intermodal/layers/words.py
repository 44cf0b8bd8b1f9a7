"""Words as they enter a transformer: vectors from a table, each with its place, some of them hidden.

Source: Devlin et al. 2018, arXiv 1810.04805, figure 2. Changed: what stands in the place of a hidden word is a vector
of its own and no word of the vocabulary, so that any tokenizer will do. Left out: second sentences, hence segments.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from intermodal.layers.positions import Positions


class Words(nn.Module):
    """A table of words, one vector per place, and one that stands for a hidden word."""

    def __init__(self, vocab_size: int, width: int, tokens_max: int, hides: bool = True) -> None:
        """Builds the tables.

        Args:
            vocab_size: ids.
            width: D.
            tokens_max: places.
            hides: words may be hidden.
        """
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)  # what tells words by it needs logits of about 1
        self.places = Positions(width, (tokens_max,))
        self.blank = nn.Parameter(torch.randn(width) * 0.02) if hides else None

    def forward(self, ids: Int64[Tensor, "B T"], hidden: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        """Returns the words, those where ``hidden`` says so blanked."""
        x: Tensor = self.table(ids)
        if hidden is not None and self.blank is not None:
            x = torch.where(hidden[..., None], self.blank.to(x.dtype), x)
        placed: Tensor = x + self.places((ids.shape[1],))
        return placed
