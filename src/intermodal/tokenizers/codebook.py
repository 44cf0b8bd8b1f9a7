"""Vectors to ids and back: three quantizers behind one interface.

    z (B, T, D) ─ inward ─ G codes of a few numbers each ─ nearest of K ─ ids (B, T, G)
                                                              │
    values (B, T, D) ─────────── outward ─────────────────────┘

``FSQ`` rounds each number to a few levels: nothing is learnt, no code dies. ``VQ`` takes the nearest of K vectors that
follow the means of what chose them; codes that nothing chooses are put where something is. ``Gumbel`` draws one of K by
softened chance while training, the warmer the earlier, and takes the likeliest afterwards. With ``groups`` above 1 each
position has that many ids, each from a codebook of its own (product quantisation).

Sources: Mentzer et al. 2023, arXiv 2309.15505 (FSQ); van den Oord et al. 2017, arXiv 1711.00937, appendix A.1 (VQ with
moving averages); codes of few numbers between two linear maps as in Yu et al. 2021, arXiv 2110.04627; Ramesh et al.
2021, arXiv 2102.12092, appendix A (Gumbel). Changed: a dead code is replaced by a vector of the batch, at the start all
of them are, so that VQ needs no initial values. Left out: averages over processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue, UnknownName

QUANTIZERS = ("fsq", "vq", "gumbel")
_DECAY = 0.99  # of the moving averages
_DEAD = 0.02  # a code chosen less often than this share of the mean is dead
_PULL = 0.25  # weight of the commitment of VQ
_TEMPERATURES = (1.0, 1 / 16)  # of Gumbel, first and last
_EVEN = 1e-3  # weight of Gumbel's divergence from even use, per nat


@dataclass(frozen=True)
class Codebook:
    """The numbers of a quantizer: saved with the model it belongs to; ``build`` makes it.

    Attributes:
        quantizer: one of ``QUANTIZERS``.
        levels: of each number of an FSQ code; their product is the number of codes, whatever the quantizer.
        groups: ids per position.
        anneal_steps: of training until Gumbel's temperature is at its lowest.
    """

    quantizer: str = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    groups: int = 1
    anneal_steps: int = 2000

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if self.quantizer not in QUANTIZERS:
            raise UnknownName("quantizer", self.quantizer, QUANTIZERS)
        if not self.levels or min(self.levels) < 2 or self.groups < 1:
            raise InvalidValue(
                f"levels are {self.levels}, groups {self.groups}; give at least one number of 2 or more, and one group"
            )

    @property
    def codes(self) -> int:
        """Ids are in ``range(codes)``."""
        return math.prod(self.levels)

    def build(self, width: int) -> nn.Module:
        """Returns the quantizer of vectors of ``width``, with fresh weights."""
        if self.quantizer == "fsq":
            return FSQ(width, self.levels, self.groups)
        if self.quantizer == "vq":
            return VQ(width, self.codes, self.groups)
        return Gumbel(width, self.codes, self.groups, anneal_steps=self.anneal_steps)


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of vectors.

    Attributes:
        values: the vectors that the ids stand for; their gradient goes through to what was quantized.
        ids: of each position, one per group, each in ``range(codes)``.
        loss: the quantizer's own; 0 where it has none.
    """

    values: Float[Tensor, "B T D"]
    ids: Int64[Tensor, "B T G"]
    loss: Float[Tensor, ""]


def _learning(quantizer: nn.Module) -> bool:
    """Returns whether it is trained by what it is shown: encoding without gradients changes nothing, in any mode."""
    return quantizer.training and torch.is_grad_enabled()


class FSQ(nn.Module):
    """Finite scalar quantization: each of a few numbers is rounded to one of its levels."""

    def __init__(self, width: int, levels: Sequence[int], groups: int = 1) -> None:
        """Builds the linear maps.

        Args:
            width: D of what is quantized.
            levels: of each number of a code, 2 or more; their product is the number of codes.
            groups: ids per position.
        """
        super().__init__()
        self.width, self.groups, self.codes = width, groups, math.prod(levels)
        self.inward = nn.Linear(width, groups * len(levels))
        self.outward = nn.Linear(groups * len(levels), width)
        count = torch.tensor(levels, dtype=torch.float32)
        steps = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))])
        for name, value in {"_levels": count, "_steps": steps}.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, z: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None) -> Quantized:
        """Returns the rounded vectors and their ids; ``mask`` makes no difference here."""
        flat = self.inward(z).unflatten(-1, (self.groups, -1)).float()
        levels: Tensor = self.get_buffer("_levels")
        even = (levels % 2 == 0).to(flat)  # these have no level at 0: all are half a step lower
        half = (levels - 1) * 1.001 / 2
        bound = (flat + (0.5 * even / half).atanh()).tanh() * half - 0.5 * even
        whole = bound + (bound.round() - bound).detach()
        return Quantized(self._out(whole), self.ids_of(whole.detach()), z.new_zeros(()))

    def ids_of(self, whole: Float[Tensor, "B T G L"]) -> Int64[Tensor, "B T G"]:
        """Returns the id of each code, given as the whole numbers that it was rounded to."""
        shifted = whole.round().long() + (self.get_buffer("_levels") // 2).long()
        return (shifted * self.get_buffer("_steps")).sum(dim=-1)

    def whole_of(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T G L"]:
        """Returns the whole numbers that each id stands for, -L/2 to L/2."""
        levels = self.get_buffer("_levels").long()
        return ((ids[..., None] // self.get_buffer("_steps")) % levels - levels // 2).to(self.get_buffer("_levels"))

    def numbers(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T N"]:
        """Returns the numbers, -1 to 1, that ids stand for: G times as many as there are levels."""
        return (self.whole_of(ids) / (self.get_buffer("_levels") // 2)).flatten(2)

    def ids_near(self, numbers: Float[Tensor, "B T N"]) -> Int64[Tensor, "B T G"]:
        """Returns the ids that stand for the numbers nearest to these."""
        levels = self.get_buffer("_levels")
        whole = (numbers.reshape(*numbers.shape[:-1], self.groups, -1).float() * (levels // 2)).round()
        return self.ids_of(torch.minimum(whole.maximum(-(levels // 2)), levels - 1 - levels // 2))

    def values(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T D"]:
        """Returns the vectors that ids stand for."""
        return self._out(self.whole_of(ids))

    def _out(self, whole: Float[Tensor, "B T G L"]) -> Float[Tensor, "B T D"]:
        mapped: Tensor = self.outward((whole / (self.get_buffer("_levels") // 2)).flatten(2))
        return mapped


class VQ(nn.Module):
    """Vector quantization: the nearest of K vectors, each the moving average of what chose it."""

    def __init__(self, width: int, codes: int, groups: int = 1, code_width: int = 8) -> None:
        """Builds the linear maps and an empty table, filled from the first batch that is trained on.

        Args:
            width: D of what is quantized.
            codes: K, per group.
            groups: ids per position.
            code_width: numbers of a code.
        """
        super().__init__()
        self.width, self.groups, self.codes = width, groups, codes
        self.inward = nn.Linear(width, groups * code_width)
        self.outward = nn.Linear(groups * code_width, width)
        self.register_buffer("table", torch.randn(groups, codes, code_width))
        self.register_buffer("chosen", torch.zeros(groups, codes))  # moving average of how often, per step

    def forward(self, z: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None) -> Quantized:
        """Returns the nearest codes and their ids; while training the codes follow what is real by ``mask``."""
        real = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
        found = self.inward(z).unflatten(-1, (self.groups, -1)).float()
        learning = _learning(self)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            vectors = found[real].detach()  # (N, G, L)
            if learning and len(vectors):
                self._revive(vectors)
            ids = self._nearest(found.detach())
            codes = self._look_up(ids)
            if learning and len(vectors):
                self._follow(vectors, ids[real])
        away = (found - codes).square().mean(dim=(2, 3))
        loss = _PULL * (away * real).sum() / real.sum().clamp(min=1)
        return Quantized(self.outward((found + (codes - found).detach()).flatten(2)), ids, loss)

    def _nearest(self, found: Float[Tensor, "B T G L"]) -> Int64[Tensor, "B T G"]:
        """Returns the code nearest to each vector."""
        table = self.get_buffer("table")
        near = torch.einsum("btgl,gkl->btgk", found, table) - table.square().sum(dim=-1) / 2
        return near.argmax(dim=-1)

    def _look_up(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T G L"]:
        return self.get_buffer("table")[torch.arange(self.groups, device=ids.device), ids]

    def _revive(self, vectors: Float[Tensor, "N G L"]) -> None:
        """Puts each code that hardly anything chooses on a vector of the batch."""
        table, chosen = self.get_buffer("table"), self.get_buffer("chosen")
        dead = chosen <= _DEAD * chosen.mean(dim=1, keepdim=True)
        for group, code in zip(*(i.tolist() for i in dead.nonzero(as_tuple=True)), strict=True):
            table[group, code] = vectors[int(torch.randint(len(vectors), ())), group]
            chosen[group, code] = len(vectors) / self.codes

    def _follow(self, vectors: Float[Tensor, "N G L"], ids: Int64[Tensor, "N G"]) -> None:
        """Moves the averages towards what chose each code in this batch."""
        table, chosen = self.get_buffer("table"), self.get_buffer("chosen")
        for group in range(self.groups):
            count = torch.bincount(ids[:, group], minlength=self.codes).to(chosen)
            total = torch.zeros_like(table[group]).index_add_(0, ids[:, group], vectors[:, group])
            before = chosen[group] * _DECAY
            chosen[group] = before + (1 - _DECAY) * count
            mean = before[:, None] * table[group] + (1 - _DECAY) * total
            table[group] = torch.where(count[:, None] > 0, mean / chosen[group, :, None], table[group])

    def values(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T D"]:
        """Returns the vectors that ids stand for."""
        mapped: Tensor = self.outward(self._look_up(ids).flatten(2))
        return mapped


class Gumbel(nn.Module):
    """One of K by softened chance while training, the likeliest otherwise; the temperature falls along a cosine."""

    def __init__(self, width: int, codes: int, groups: int = 1, code_width: int = 8, anneal_steps: int = 2000) -> None:
        """Builds the linear maps and the table.

        Args:
            width: D of what is quantized.
            codes: K, per group.
            groups: ids per position.
            code_width: numbers of a code.
            anneal_steps: of training until the temperature is at its lowest.
        """
        super().__init__()
        self.width, self.groups, self.codes, self.anneal_steps = width, groups, codes, anneal_steps
        self.inward = nn.Linear(width, groups * codes)
        self.outward = nn.Linear(groups * code_width, width)
        self.table = nn.Parameter(torch.randn(groups, codes, code_width))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> float:
        """Of the next training step."""
        share = min(1.0, int(self.get_buffer("step")) / max(1, self.anneal_steps))
        first, last = _TEMPERATURES
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))

    def forward(self, z: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None) -> Quantized:
        """Returns mixed codes while training, the likeliest otherwise; the loss is their divergence from even use."""
        logits = self.inward(z).unflatten(-1, (self.groups, -1)).float()
        ids = logits.argmax(dim=-1)
        share = F.log_softmax(logits, dim=-1)
        apart = math.log(self.codes) + (share.exp() * share).sum(dim=-1).mean(dim=-1)
        real = torch.ones_like(apart) if mask is None else mask.to(apart)
        loss = _EVEN * (apart * real).sum() / real.sum().clamp(min=1)
        if not _learning(self):
            return Quantized(self.values(ids), ids, loss)
        weights = F.gumbel_softmax(logits, self.temperature)
        self.get_buffer("step").add_(1)
        return Quantized(self.outward(torch.einsum("btgk,gkl->btgl", weights, self.table).flatten(2)), ids, loss)

    def values(self, ids: Int[Tensor, "B T G"]) -> Float[Tensor, "B T D"]:
        """Returns the vectors that ids stand for."""
        chosen = self.table[torch.arange(self.groups, device=ids.device), ids]
        mapped: Tensor = self.outward(chosen.flatten(2))
        return mapped


def usage(ids: Int[Tensor, "N G"], codes: int) -> dict[str, float]:
    """Returns how evenly codes are used, the mean over the groups.

    Args:
        ids: of real positions.
        codes: per group.

    Returns:
        ``share_used``: of the codes, how many occur. ``perplexity``: how many codes, evenly used, would be as hard to
        guess.
    """
    shares, perplexities = [], []
    for column in ids.T:
        count = torch.bincount(column.long(), minlength=codes).double()
        p = count / count.sum().clamp(min=1)
        shares.append(float((count > 0).double().mean()))
        perplexities.append(float(torch.exp(-(p * p.clamp(min=1e-30).log()).sum())))
    return {"share_used": sum(shares) / len(shares), "perplexity": sum(perplexities) / len(perplexities)}


TOKENIZER = Codebook
