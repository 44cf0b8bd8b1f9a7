"""A bidirectional recurrent network over the tokens of any layout.

Sources: Cho et al. 2014, arXiv 1406.1078 (GRU); Hochreiter and Schmidhuber 1997 (LSTM). Padding is never stepped over:
sequences are packed to their real length.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from intermodal.errors import UnknownName
from intermodal.layers.pooling import Pooling
from intermodal.types import Batch, Encoded

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(nn.Module):
    """Stem, recurrence in both directions, normalisation, pooling; real tokens must stand before padding."""

    def __init__(self, stem: nn.Module, width: int, depth: int, cell: str = "gru", pooling: str = "mean") -> None:
        """Builds ``depth`` layers of ``cell`` (gru or lstm), ``width`` / 2 in each direction.

        Raises:
            UnknownName: there is no such cell.
        """
        super().__init__()
        if cell not in CELLS:
            raise UnknownName("recurrent cell", cell, CELLS)
        self.width = width
        self.stem = stem
        self.network = CELLS[cell](width, width // 2, depth, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(width)
        self.pool = Pooling(pooling, width)

    def forward(self, batch: Batch) -> Encoded:
        """Returns tokens, mask and pooled vectors."""
        x, _ = self.stem(batch)
        lengths = batch.mask.sum(dim=1).clamp(min=1).cpu()
        with torch.autocast(x.device.type, enabled=False):  # the CPU recurrence has no reduced precision
            packed = pack_padded_sequence(x.float(), lengths, batch_first=True, enforce_sorted=False)
            output, _ = self.network(packed)
            x, _ = pad_packed_sequence(output, batch_first=True, total_length=batch.mask.shape[1])
        x = self.norm(x)
        return Encoded(x, batch.mask, self.pool(x, batch.mask))
