"""From a sentence to the vector of a picture that it could be of: two transformers, each causal.

    diffusion:       words, the sentence's vector, the time, a noisy vector, a query ─ blocks ─ the clean vector
    autoregressive:  words, the sentence's vector, how well both agree, a level, ... ─ blocks ─ the next level

Source: Ramesh et al. 2022, arXiv 2204.06125, section 2.2. The second form writes the vector's principal components,
from the widest one on, each rounded to one of some levels. Changed: components and their spread are found in the first
batches of training and kept from then on; how well both agree is drawn, at the end, from the upper half of a normal
distribution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.decoders.denoiser import Time
from intermodal.errors import InvalidValue, UnknownName
from intermodal.layers.attention import attend
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions

Sentence = tuple[Float[Tensor, "B S U"], Bool[Tensor, "B S"], Float[Tensor, "B E"]]
"""Tokens of words, their mask, and the sentence's vector."""

FORMS = ("diffusion", "autoregressive")
ROWS = 2048  # that components are found in
REACH = 3.0  # levels lie within so many deviations


@dataclass(frozen=True)
class Prior:
    """The numbers of a prior: saved with the model it belongs to.

    Attributes:
        form: one of ``FORMS``.
        width: D of a token.
        depth: blocks.
        heads: of each block.
        dropped: share of the sentences that are left out while training, so that guidance can be given.
        components: of a vector, written in the second form; at most its width.
        levels: of each component.
        candidates: drawn for each sentence; that which agrees best with it is taken.
        steps: of drawing in the first form.
        guidance: of drawing in the first form; 1 for none.
    """

    form: str = "diffusion"
    width: int = 128
    depth: int = 3
    heads: int = 4
    dropped: float = 0.1
    components: int = 64
    levels: int = 128
    candidates: int = 2
    steps: int = 16
    guidance: float = 1.0

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if self.form not in FORMS:
            raise UnknownName("form of the prior", self.form, FORMS)
        for name in ("width", "depth", "heads", "components", "levels", "candidates", "steps"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"{name} of the prior is {getattr(self, name)}; give at least 1")
        if not 0 <= self.dropped < 1 or not self.guidance >= 0:
            raise InvalidValue(
                f"dropped {self.dropped} of the prior is a share from 0 to below 1, and guidance {self.guidance} is at "
                "least 0; change the one that is not"
            )


class Reader(nn.Module):
    """What both forms do with a sentence, and the blocks."""

    def __init__(self, numbers: Prior, words: tuple[int, int], vector_width: int) -> None:
        """Builds them.

        Args:
            numbers: of the prior.
            words: width of the words' tokens, and the most there can be.
            vector_width: E.
        """
        super().__init__()
        width = numbers.width
        self.words, self.text = nn.Linear(words[0], width), nn.Linear(vector_width, width)
        self.places = Positions(width, (words[1],))
        self.nothing = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, numbers.heads) for _ in range(numbers.depth))
        self.norm = nn.LayerNorm(width)

    def sentence(
        self, given: Sentence, known: Bool[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T"]]:
        """Returns a sentence as it enters the blocks, its vector last; where it is not to be known only its length."""
        tokens, mask, vector = given
        words, text = self.words(tokens), self.text(vector)[:, None]
        if known is not None:
            words = torch.where(known[:, None, None], words, self.nothing[0].to(words))
            text = torch.where(known[:, None, None], text, self.nothing[1].to(text))
        words = words + self.places(words.shape[1:2])
        return torch.cat((words, text), dim=1), F.pad(mask, (0, 1), value=True)

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Returns what the blocks make of a stream."""
        for block in self.blocks:
            x = block(x, mask, causal=True)
        normed: Tensor = self.norm(x)
        return normed


class DiffusionPrior(nn.Module):
    """Tells of a noisy vector of a picture what is clean in it, given a sentence."""

    def __init__(self, numbers: Prior, words: tuple[int, int], vector_width: int) -> None:
        """Builds all parts; see ``Reader``."""
        super().__init__()
        width = numbers.width
        self.reader = Reader(numbers, words, vector_width)
        self.time, self.noisy = Time(width), nn.Linear(vector_width, width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.tell = nn.Linear(width, vector_width)

    def forward(
        self, x: Float[Tensor, "B E"], t: Float[Tensor, " B"], sentence: Sentence, known: Bool[Tensor, " B"]
    ) -> Float[Tensor, "B E"]:
        """Returns what is told of each noisy vector.

        Args:
            x: noisy vectors, of about the length of normal noise.
            t: the time of each.
            sentence: what each picture should show.
            known: where that is looked at.
        """
        told, mask = self.reader.sentence(sentence, known)
        query = self.query.to(told).expand(len(told), 1, -1)
        stream = torch.cat((told, self.time(t)[:, None], self.noisy(x)[:, None], query), dim=1)
        vector: Tensor = self.tell(self.reader(stream, F.pad(mask, (0, 3), value=True))[:, -1])
        return vector


class AutoregressivePrior(nn.Module):
    """Writes the vector of a picture, component by component, given a sentence."""

    def __init__(self, numbers: Prior, words: tuple[int, int], vector_width: int) -> None:
        """Builds all parts; see ``Reader``."""
        super().__init__()
        width, levels = numbers.width, numbers.levels
        self.reader = Reader(numbers, words, vector_width)
        self.components, self.levels = min(numbers.components, vector_width), levels
        self.agreement = nn.Linear(1, width)
        self.table = nn.Embedding(levels, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.places = Positions(width, (self.components,))
        self.tell = nn.Linear(width, levels)
        for name, shape in {"sums": (vector_width,), "products": (vector_width, vector_width)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("agreed", torch.zeros(2))  # sums of the cosines and of their squares
        self.register_buffer("mean", torch.zeros(vector_width))
        self.register_buffer("axes", torch.eye(vector_width)[:, : self.components].contiguous())
        self.register_buffer("spread", torch.ones(self.components))

    @torch.no_grad()
    def learn(self, vectors: Float[Tensor, "B E"], texts: Float[Tensor, "B E"]) -> None:
        """Finds the components of pictures' vectors, and how well these agree with texts', in the first batches."""
        if int(self.seen) >= ROWS:  # type: ignore[arg-type]
            return
        cosines = (vectors * texts).sum(dim=1)
        self.get_buffer("seen").add_(len(vectors))
        self.get_buffer("sums").add_(vectors.sum(dim=0))
        self.get_buffer("products").add_(vectors.T @ vectors)
        self.get_buffer("agreed").add_(torch.stack((cosines.sum(), cosines.square().sum())))
        count = self.get_buffer("seen").to(vectors)
        mean = self.get_buffer("sums") / count
        values, axes = torch.linalg.eigh(self.get_buffer("products") / count - mean[:, None] * mean)
        axes, values = axes.flip(1)[:, : self.components], values.flip(0)[: self.components]
        signs = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("axes").copy_(axes * signs)
        self.get_buffer("spread").copy_(values.clamp(min=1e-8).sqrt())

    def rounded(self, vectors: Float[Tensor, "B E"]) -> Int64[Tensor, "B K"]:
        """Returns the level of each component of vectors."""
        along = (vectors - self.get_buffer("mean")) @ self.get_buffer("axes") / self.get_buffer("spread")
        return ((along / REACH + 1) / 2 * self.levels).floor().long().clamp(0, self.levels - 1)

    def vectors(self, levels: Int64[Tensor, "B K"]) -> Float[Tensor, "B E"]:
        """Returns the unit vectors that levels of components stand for."""
        along = ((levels + 0.5) / self.levels * 2 - 1) * REACH * self.get_buffer("spread")
        return F.normalize(along @ self.get_buffer("axes").T + self.get_buffer("mean"), dim=-1)

    def _agreement(self, cosines: Float[Tensor, " B"]) -> Float[Tensor, "B 1 D"]:
        """Returns the token that says how well sentence and picture agree, against what is usual."""
        mean, spread = self._usual()
        token: Tensor = self.agreement(((cosines - mean) / spread).clamp(-REACH, REACH)[:, None, None])
        return token

    def _usual(self) -> tuple[Tensor, Tensor]:
        """Returns the mean and the spread of the cosines of sentences and their pictures."""
        mean, square = self.get_buffer("agreed") / self.get_buffer("seen").clamp(min=1)
        return mean, (square - mean.square()).clamp(min=1e-6).sqrt()

    def losses(
        self, vectors: Float[Tensor, "B E"], sentence: Sentence, known: Bool[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Returns the mean cost of the level of each component, in nats."""
        told, mask = self.reader.sentence(sentence, known)
        levels = self.rounded(vectors)
        agreement = self._agreement((vectors * sentence[2]).sum(dim=1))
        before = self.table(levels[:, :-1]) + self.places((self.components - 1,))
        stream = torch.cat((told, agreement.to(told), before), dim=1)
        found = self.reader(stream, F.pad(mask, (0, self.components), value=True))
        logits = self.tell(found[:, told.shape[1] :])
        cost = F.cross_entropy(logits.float().flatten(0, 1), levels.flatten(), reduction="none")
        return cost.view(levels.shape).mean(dim=1)

    def write(self, sentence: Sentence, draws: Float[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Returns unit vectors, component after component; keys and values of what stands before are kept.

        Args:
            sentence: what each picture should show.
            draws: numbers in [0, 1), one more than there are components: how well both agree, and which level is taken.
        """
        told, mask = self.reader.sentence(sentence)
        mean, spread = self._usual()
        better = torch.special.ndtri(0.5 + draws[:, 0].clamp(max=0.999) / 2)
        x = torch.cat((told, self._agreement(mean + spread * better).to(told)), dim=1)
        held: list[tuple[Tensor, Tensor]] = []
        places = self.places((self.components,))
        square = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        mask = F.pad(mask, (0, 1), value=True)
        hidden = self._extended(x, held, mask[:, None] & square)
        levels: list[Tensor] = []
        for component in range(self.components):
            below = self.tell(hidden[:, -1]).float().softmax(dim=-1).cumsum(dim=-1)
            chosen = (below <= draws[:, component + 1, None] * below[:, -1:]).sum(dim=-1)
            levels.append(chosen.clamp(max=self.levels - 1))
            if component + 1 < self.components:
                mask = F.pad(mask, (0, 1), value=True)
                token = (self.table(levels[-1]) + places[component])[:, None]
                hidden = self._extended(token, held, mask[:, None])
        return self.vectors(torch.stack(levels, dim=1))

    def _extended(
        self, x: Float[Tensor, "B T D"], held: list[tuple[Tensor, Tensor]], allowed: Bool[Tensor, "B T S"]
    ) -> Float[Tensor, "B T D"]:
        """Returns what the blocks make of new tokens; ``held`` are keys and values of each block, of all before."""
        first = not held

        def gather(place: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
            def put(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                if not first:
                    k, v = (torch.cat(pair, dim=2) for pair in zip(held[place], (k, v), strict=True))
                    held[place] = (k, v)
                else:
                    held.append((k, v))
                return attend(q, k, v, allowed[:, None])

            return put

        for place, block in enumerate(self.reader.blocks):
            x = block.extend(x, gather(place))  # type: ignore[operator]
        normed: Tensor = self.reader.norm(x)
        return normed
