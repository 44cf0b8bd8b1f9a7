"""WaveNet: sound sample by sample, each from all that came before within reach, and from vectors that say what to make.

    ids before ─ table ─┬─ [now, d samples ago] ─ tanh x sigmoid ─┬─ + ─ next layer, d doubled ─ ...
                        └─────────────────────────────────────────│──┘
    vectors ────────────────── added inside the gate              └─ skip ─ sum ─ ReLU ─ linear ─ ReLU ─ linear ─ id

A layer keeps what it will need in a queue, so that drawing a sample costs one step through the layers, whatever its
place; the result is that of the whole forward pass.

Source: van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv 1609.03499, figure 4 and eqs. 2, 3;
queues as in Le Paine et al. 2016, arXiv 1611.09482. Simplified: a vector holds for ``hop`` samples as it is, where the
paper also learns to interpolate. Left out: the mixture of logistics of later versions.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import InvalidValue


def to_ids(samples: Float[Tensor, "..."], levels: int = 256) -> Int64[Tensor, "..."]:
    """Returns the mu-law id of samples in [-1, 1], those beyond cut: fine near silence, coarse where it is loud.

    Source: ITU-T G.711 as in arXiv 1609.03499, section 2.2.
    """
    mu = levels - 1
    x = samples.float().clamp(-1, 1)
    pressed = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)
    return ((pressed + 1) / 2 * mu).round().long()


def to_samples(ids: Int64[Tensor, "..."], levels: int = 256) -> Float[Tensor, "..."]:
    """Returns the samples that mu-law ids stand for."""
    mu = levels - 1
    pressed = 2 * ids.float() / mu - 1
    return pressed.sign() * torch.expm1(pressed.abs() * math.log1p(mu)) / mu


class Gated(nn.Module):
    """One layer: a causal convolution of two cells ``dilation`` apart, through a gate."""

    def __init__(self, channels: int, skip: int, dilation: int, condition: int, last: bool) -> None:
        """Builds the products.

        Args:
            channels: C.
            skip: width of what is skipped to the end.
            dilation: cells between the two that are looked at.
            condition: width of the vectors that say what to make; 0 for none.
            last: no layer follows.
        """
        super().__init__()
        self.dilation = dilation
        self.look = nn.Linear(2 * channels, 2 * channels)
        self.told = nn.Linear(condition, 2 * channels, bias=False) if condition else None
        self.on, self.out = None if last else nn.Linear(channels, channels), nn.Linear(channels, skip)

    def forward(
        self, now: Float[Tensor, "B S C"], before: Float[Tensor, "B S C"], told: Float[Tensor, "B #S D"] | None
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B S K"]]:
        """Returns what goes to the next layer and what is skipped to the end; ``before`` is ``dilation`` cells ago."""
        x = self.look(torch.cat((before, now), dim=-1))
        if self.told is not None and told is not None:
            x = x + self.told(told)
        value, gate = x.chunk(2, dim=-1)
        passed = value.tanh() * gate.sigmoid()
        return now if self.on is None else now + self.on(passed), self.out(passed)


class WaveNet(nn.Module):
    """Ids of samples, and vectors, to the logits of each sample."""

    def __init__(
        self, dilations: Sequence[int], channels: int = 64, skip: int = 128, levels: int = 256, condition: int = 0
    ) -> None:
        """Builds it.

        Args:
            dilations: of each layer, such as 1, 2, 4, ..., 512, again and again.
            channels: C.
            skip: width of what the layers tell the end.
            levels: ids of a sample.
            condition: width of the vectors that say what to make; 0 for none.
        """
        super().__init__()
        if not dilations or min(dilations) < 1:
            raise InvalidValue(f"the dilations are {tuple(dilations)}; give at least one, each of 1 or more")
        self.levels, self.condition = levels, condition
        self.table = nn.Embedding(levels + 1, channels)  # the last id stands before the first sample
        last = len(dilations) - 1
        self.layers = nn.ModuleList(Gated(channels, skip, d, condition, i == last) for i, d in enumerate(dilations))
        self.mix, self.choose = nn.Linear(skip, skip), nn.Linear(skip, levels)

    @property
    def reach(self) -> int:
        """Samples before one that it depends on."""
        return 1 + sum(layer.dilation for layer in self.layers)  # type: ignore[misc]

    def _told(self, vectors: Float[Tensor, "B T D"] | None, samples: int, hop: int) -> Float[Tensor, "B #S D"] | None:
        """Returns the vector of each sample, or the one of all.

        Raises:
            InvalidValue: there are vectors where none are taken, none where they are, or too few.
        """
        if (vectors is None) is bool(self.condition):
            raise InvalidValue(
                f"this WaveNet takes vectors of width {self.condition}; give {'them' if self.condition else 'none'}"
            )
        if vectors is None or vectors.shape[1] == 1:
            return vectors
        if vectors.shape[1] * hop < samples:
            raise InvalidValue(f"{vectors.shape[1]} vectors of {hop} samples each are too few for {samples} samples")
        return vectors.repeat_interleave(hop, dim=1)[:, :samples]

    def _ended(self, skipped: Float[Tensor, "B S K"]) -> Float[Tensor, "B S L"]:
        logits: Tensor = self.choose(self.mix(skipped.relu()).relu())
        return logits.float()

    def forward(
        self, ids: Int64[Tensor, "B S"], vectors: Float[Tensor, "B T D"] | None = None, hop: int = 1
    ) -> Float[Tensor, "B S L"]:
        """Returns the logits of each sample, given all before it.

        Args:
            ids: of the samples.
            vectors: what to make: one for all, or one for each ``hop`` samples.
            hop: samples that a vector holds for.
        """
        told = self._told(vectors, ids.shape[1], hop)
        x = self.table(F.pad(ids[:, :-1], (1, 0), value=self.levels))
        skipped: Tensor | None = None
        for layer in self.layers:
            before = F.pad(x, (0, 0, layer.dilation, 0))[:, : x.shape[1]]  # type: ignore[arg-type]
            x, out = layer(x, before, told)
            skipped = out if skipped is None else skipped + out
        if skipped is None:
            raise InvalidValue("a WaveNet needs at least one layer")
        return self._ended(skipped)

    def bits(
        self,
        ids: Int64[Tensor, "B S"],
        mask: Bool[Tensor, "B S"],
        vectors: Float[Tensor, "B T D"] | None = None,
        hop: int = 1,
    ) -> Float[Tensor, ""]:
        """Returns the mean cost of a real sample in bits: what a coder that knows this model needs."""
        cost = F.cross_entropy(self(ids, vectors, hop).transpose(1, 2), ids, reduction="none")
        real = mask.to(cost)
        return (cost * real).sum() / real.sum().clamp(min=1) / math.log(2)

    # ---- Sample by sample

    def queues(self, rows: int) -> list[Tensor]:
        """Returns the empty memory of each layer, ``(rows, dilation, C)``: what it saw in the last steps."""
        table = self.table.weight
        gaps = [int(layer.dilation) for layer in self.layers]  # type: ignore[arg-type]
        return [table.new_zeros(rows, gap, table.shape[1]) for gap in gaps]

    @torch.no_grad()
    def step(
        self, queues: list[Tensor], place: int, before: Int64[Tensor, " B"], told: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B L"]:
        """Returns the logits of one sample and puts what was seen on the way into the queues.

        Args:
            queues: of ``queues``; changed in place.
            place: number of the sample, from 0 on.
            before: id of the sample before it; ``levels`` where there is none.
            told: its vector.
        """
        x = self.table(before)[:, None]
        vector = None if told is None else told[:, None]
        skipped = 0.0
        for layer, queue in zip(self.layers, queues, strict=True):
            at = place % queue.shape[1]
            old = queue[:, at : at + 1].clone()
            queue[:, at : at + 1] = x
            x, out = layer(x, old, vector)
            skipped = skipped + out
        return self._ended(skipped)[:, 0]  # type: ignore[arg-type]

    @torch.no_grad()
    def drawn(
        self,
        rows: int,
        samples: int,
        vectors: Float[Tensor, "B T D"] | None = None,
        hop: int = 1,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Int64[Tensor, "B S"]:
        """Returns ids drawn one after another; a row's numbers depend on the seed and its place alone.

        Args:
            rows: sounds.
            samples: of each.
            vectors: as in ``forward``.
            hop: as in ``forward``.
            temperature: logits are divided by it; 0 takes the likeliest id.
            seed: of what is drawn.
        """
        told = self._told(vectors, samples, hop)
        device = self.table.weight.device
        made = torch.full((rows, samples + 1), self.levels, device=device)
        generators = [torch.Generator().manual_seed((seed * 1_000_003 + row) % 2**63) for row in range(rows)]
        luck = torch.stack([torch.rand(samples, generator=one) for one in generators]).to(device)
        queues = self.queues(rows)
        for place in range(samples):
            now = None if told is None else told[:, min(place, told.shape[1] - 1)]
            logits = self.step(queues, place, made[:, place], now)
            if temperature:
                below = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
                chosen = (below <= luck[:, place, None] * below[:, -1:]).sum(dim=-1).clamp(max=self.levels - 1)
            else:
                chosen = logits.argmax(dim=-1)
            made[:, place + 1] = chosen
        return made[:, 1:]
