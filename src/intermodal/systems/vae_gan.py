"""A VAE-GAN over several modalities: one latent for whatever is there, and media from it that look and sound real.

    image ─ reader ─ expert, style ──┐                              ┌─ + style ─ painter ─ image ─ discriminator
    audio ─ reader ─ expert, style ──┼─ prior x experts ─ latent ───┼─ + style ─ painter ─ audio ─ discriminator
    text  ─ reader ─ expert ─────────┘                              └─ storyteller ─ text              │
                                                                            features: how far from the true one
Any subset of the fields gives z: the experts of those that are there are multiplied with the prior, and none of them
gives the prior itself, from which all fields are then made together (``imagine``). What a field has of its own (a hand,
a voice) is its style, which is drawn where it is not known.

Follows: Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", arXiv 1512.09300: a VAE
whose error is measured on the discriminator's features; the adversary sees reconstructions and samples, and teaches the
painters, not the encoders. The latent: products of experts with the prior, Wu and Goodman 2018, arXiv 1802.05335,
mixed over the subsets, Sutter et al. 2021, arXiv 2105.02470 (MoPoE), which holds the mixture over single ones, Shi et
al. 2019, arXiv 1911.03393 (MMVAE). Styles beside it: Lee and Pavlovic 2021, arXiv 2012.13024. Samples have to be read
back as what they were made of: the latent regressor of Zhu et al. 2017, arXiv 1711.11586.

Changed: some reconstructions get another style; one subset is drawn per row and step; one optimizer takes the step
of all parts at once, each loss cut off from the parts that it must not move; the reader of samples is held, so that it
cannot agree with a painter on signs that nobody sees; words have no adversary, since their likelihood is exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from intermodal import catalog
from intermodal.decoders.discriminator import Discriminator, held
from intermodal.decoders.latent import Medium, Painter, maker
from intermodal.encoders.experts import Reader, Told, drawn, product, subsets
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem
from intermodal.objectives import adversarial
from intermodal.types import Batch, Candidate, Grid, Item, Sample, Symbols

TEMPERATURE = 0.7  # of latents and styles where nothing is said: they are drawn with so much of their spread
ASTRAY = 0.1  # of the reconstructions get a style that is not theirs, so that what fields share is asked of the latent
ROWS = 128  # computed at once; changes nothing but the memory needed


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        towers: field name -> how it is read, made and judged; at least one.
        latent: numbers of what the fields share.
        adversary: weight of deceiving the discriminators; 0 for a plain VAE, which has none.
        features: weight of the error on the discriminators' features.
        cells: weight of the squared error of cells; the paper has 0, a plain VAE needs it.
        words: weight of a word's cost, in nats.
        kl: weight of a nat that the latent tells.
        style_kl: weight of a nat that a style tells.
        recall: weight of reading a sample back as what it was made of.
        longest: ids that a text is written with at most.
    """

    towers: Mapping[str, Medium] = field(default_factory=dict)
    latent: int = 16
    adversary: float = 0.05
    features: float = 1.0
    cells: float = 10.0
    words: float = 1.0
    kl: float = 0.05
    style_kl: float = 0.03
    recall: float = 0.1
    longest: int = 64

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if not self.towers or self.latent < 1 or self.longest < 2:
            numbers = f"{len(self.towers)} fields, latent {self.latent} and longest {self.longest}"
            raise InvalidValue(f"vae_gan has {numbers}; give at least one field, one number and two ids")
        for name in ("adversary", "features", "cells", "words", "kl", "style_kl", "recall"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"the weight {name} of vae_gan is {getattr(self, name)}; give at least 0")
        if not self.cells and not (self.adversary and self.features):
            raise InvalidValue("without an adversary media are learnt by their cells alone; set cells above 0")


class VaeGan(nn.Module):
    """Readers, makers and judges around one latent. Trains, Translates, Completes."""

    def __init__(self, config: Config, parts: Mapping[str, Mapping[str, nn.Module]]) -> None:
        """Assembles built ``readers``, ``makers`` and ``judges`` by field; judges of media alone, if at all."""
        super().__init__()
        self.config = config
        self.preprocessors: dict[str, Any] = {name: tower.preprocessor for name, tower in config.towers.items()}
        kinds = ("readers", "makers", "judges")
        self.readers, self.makers, self.judges = (nn.ModuleDict(parts[kind]) for kind in kinds)

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns what the latent and styles tell, the error of each field, and what its adversary and maker lose.

        Every field is to be made again from a latent that a random subset of the fields gave.
        """
        told = {name: reader(batch[name]) for name, reader in self.readers.items() if name in batch}
        present = torch.stack([batch[name].present for name in told], dim=1)
        some = present.any(dim=1)
        if not bool(some.any()):
            return {}
        mean, variance = product([*told.values()], subsets(present))
        z = drawn(mean, variance)
        result = {"latent": self.config.kl * adversarial.divergence(mean[some], variance[some]).mean()}
        for name, one in told.items():
            rows = batch[name].present
            if bool(rows.any()):
                part = batch[name].rows(rows)
                if self.config.towers[name].style:
                    cost = adversarial.divergence(one.style_mean[rows], one.style_variance[rows])
                    result[f"{name}.style"] = self.config.style_kl * cost.mean()
                if isinstance(self.preprocessors[name].layout, Symbols):
                    loss: Any = self.makers[name].loss
                    result[name] = self.config.words * loss(z[rows], part.values, part.mask)
                else:
                    style = drawn(one.style_mean[rows], one.style_variance[rows])
                    result |= self._medium_losses(name, part, z[rows], style)
        return result

    def _medium_losses(
        self, name: str, batch: Batch, z: Float[Tensor, "B L"], style: Float[Tensor, "B S"]
    ) -> dict[str, Tensor]:
        """Returns the losses of one medium that is there in every row."""
        config, values, paint = self.config, batch.values, cast(Painter, self.makers[name])
        mask = paint.within(batch.mask)
        real = mask.reshape(len(mask), *paint.grid(mask.shape[1]))
        astray = torch.rand(len(z), 1, device=z.device) < ASTRAY
        known = torch.cat((z, torch.where(astray, torch.randn_like(style), style)), dim=1)
        result = {}
        if paint.ends is not None:  # a length counts as a tenth of a word
            result[f"{name}.length"] = config.words * 0.1 * paint.length_loss(known, mask)
        if name not in self.judges:
            return result | {name: config.cells * adversarial.squared_error(paint(known, mask), values, real)}
        free = _free(z.detach(), style.detach())
        twice = torch.cat((mask, mask))
        both = paint(torch.cat((known, free)), twice)
        (guess, made), judge = both.chunk(2), self.judges[name]
        seen, found = judge(values, mask), held(judge)(both, twice)
        looked, wanted = [one[: len(mask)] for one in found.features], [one.detach() for one in seen.features]
        apart = adversarial.feature_distance(looked, wanted, real)
        result[name] = config.features * apart + config.cells * adversarial.squared_error(guess, values, real)
        result[f"{name}.fools"] = config.adversary * adversarial.fooled(found.logits[len(mask) :])
        caught, shaken = judge(made.detach(), mask), judge(adversarial.shaken(values), mask)
        told = adversarial.told_apart(seen.logits, caught.logits, shaken.logits)
        result[f"{name}.judge"] = config.adversary * told
        if config.recall:
            result[f"{name}.recall"] = config.recall * self._recall(name, Batch(made, mask), free)
        return result

    def _recall(self, name: str, made: Batch, free: Float[Tensor, "B R"]) -> Float[Tensor, ""]:
        """Returns how far samples are, when read, from what they were made of, in variances; mean over all numbers."""
        told: Told = held(self.readers[name])(made)
        mean, variance = product([told], made.present[:, None])
        means = torch.cat((mean, told.style_mean), dim=1)
        variances = torch.cat((variance, told.style_variance), dim=1).detach().clamp(min=0.05)  # need not be closer
        return ((free - means).square() / variances).mean()

    # ---- What is made

    @torch.no_grad()
    def infer(self, samples: Sequence[Sample]) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N L"]]:
        """Returns mean and variance of the latent of each sample, given all fields that it has; the prior for none.

        Raises:
            UnknownName: a sample has a field that this model does not know.
        """
        given = list(dict.fromkeys(name for sample in samples for name in sample))
        if unknown := [name for name in given if name not in self.preprocessors]:
            raise UnknownName("field of this model", unknown[0], self.preprocessors)
        device = next(self.parameters()).device
        if not given:
            nothing = torch.zeros(len(samples), self.config.latent, device=device)
            return nothing, nothing + 1
        batches = {n: self.preprocessors[n]([sample.get(n) for sample in samples]).to(device) for n in given}
        told = [self.readers[name](batch) for name, batch in batches.items()]
        return product(told, torch.stack([batch.present for batch in batches.values()], dim=1))

    def _normal(self, sampling: Any, candidates: Int64[Tensor, " B"]) -> dict[str, Tensor]:
        """Returns what is drawn for each candidate, at the temperature asked for: of the latent (``""``), of styles."""
        heat, seed = (sampling.temperature, sampling.seed) if sampling else (TEMPERATURE, 0)
        widths = {"": self.config.latent} | {name: tower.style for name, tower in self.config.towers.items()}
        luck = [torch.Generator().manual_seed((seed * 1_000_003 + n) % 2**63) for n in candidates.tolist()]
        normal = heat * torch.stack([torch.randn(sum(widths.values()), generator=one) for one in luck])
        parts = normal.to(next(self.parameters()).device).split(list(widths.values()), dim=1)
        return dict(zip(widths, parts, strict=True))

    def _made(
        self, name: str, z: Float[Tensor, "B L"], style: Float[Tensor, "B S"]
    ) -> tuple[list[Item], Float[Tensor, " B"]]:
        """Returns items of a field, and how likely they are (words) or how likely they are read as this latent."""
        make = self.preprocessors[name]
        by: Any = self.makers[name]
        if isinstance(make.layout, Symbols):
            words = make.tokenizer
            ids, score = by.written(z, words.begin_id, words.end_id, words.pad_id, self.config.longest)
            return make.invert(ids.cpu()), score
        latents = torch.cat((z, style), dim=1)
        steps = by.steps(latents)
        mask = by.mask(steps)
        values = by(latents, mask)
        mean, variance = product([self.readers[name](Batch(values, mask))], mask.any(dim=1, keepdim=True))
        items: list[Item] = []
        for row, count in zip(values.cpu(), steps.tolist(), strict=True):
            cells = [(n or count) * p for n, p in zip(by.sizes, make.layout.patch, strict=True)]
            items += make.invert(row[(slice(None), *(slice(0, n) for n in cells))][None])
        return items, -adversarial.surprise(z, mean, variance)

    @torch.no_grad()
    def _ready(self, run: Callable[[], Any]) -> Any:
        """Returns what ``run`` gives while nothing is being learnt."""
        training = self.training
        self.eval()
        found = run()
        self.train(training)
        return found

    def filled(
        self, samples: Sequence[Sample], *, sampling: Any = None, candidates: Sequence[int] | None = None
    ) -> list[dict[str, Item]]:
        """Returns each sample, of any fields or none, with all that it lacked, made together from one latent.

        ``candidates`` are the numbers of the draws, one for each sample; by default all get the first.
        """
        numbers = torch.tensor([0] * len(samples) if candidates is None else list(candidates), dtype=torch.int64)

        def run() -> list[dict[str, Item]]:
            found = [dict(sample) for sample in samples]
            for start in range(0, len(samples), ROWS):
                part = found[start : start + ROWS]
                mean, variance = self.infer(samples[start : start + ROWS])
                normal = self._normal(sampling, numbers[start : start + ROWS])
                z = mean + variance.sqrt() * normal[""]
                for name in self.preprocessors:
                    lacking = [i for i, sample in enumerate(part) if name not in sample]
                    if lacking:
                        items, _ = self._made(name, z[lacking], normal[name][lacking])
                        for i, item in zip(lacking, items, strict=True):
                            part[i][name] = item
            return found

        return list(self._ready(run))

    def imagine(self, count: int, *, sampling: Any = None) -> list[dict[str, Item]]:
        """Returns ``count`` samples with every field, made from noise."""
        return self.filled([{}] * count, sampling=sampling, candidates=range(count))

    def rebuilt(self, name: str, items: Sequence[Item]) -> list[Item]:
        """Returns each item made again from what was read in it, its style included."""

        def run() -> list[Item]:
            found: list[Item] = []
            for start in range(0, len(items), ROWS):
                batch = self.preprocessors[name](items[start : start + ROWS]).to(next(self.parameters()).device)
                told: Told = self.readers[name](batch)
                found += self._made(name, product([told], batch.present[:, None])[0], told.style_mean)[0]
            return found

        return list(self._ready(run))

    # ---- Translates, Completes

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Every field to every other one."""
        return tuple(permutations(self.preprocessors, 2))

    def translate(
        self,
        items: Sequence[Item],
        to: str,
        *,
        source: str | None = None,
        sampling: Any = None,
        count: int = 1,
    ) -> list[Item]:
        """Returns an item of the field ``to`` for each item: the best of ``count``, drawn by temperature and seed.

        Raises:
            Unsupported: there is no such direction.
        """
        samples = []
        for item in items:
            own = [name for name, make in self.preprocessors.items() if make.modality == item.modality]
            name = source or (item.modality if item.modality in own else next(iter(own), item.modality))
            if (name, to) not in self.directions or name not in own:
                ways = ", ".join(f"{a} to {b}" for a, b in self.directions) or "none"
                raise Unsupported(f"this model does not translate {name} ({item.modality}) to {to}; directions: {ways}")
            samples.append({name: item})
        return [best[0].item for best in self.candidates(samples, to, sampling=sampling, count=count)]

    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns ``count`` candidates for the field ``to`` of each sample, the best first.

        The score of words is their log-likelihood, that of a medium the log-density at which it is read as the latent
        that it was made of, in nats; it compares candidates of one sample.

        Raises:
            Unsupported: the field is not made by this model, or a sample has it already.
            InvalidValue: ``count`` is below 1.
        """
        if to not in self.preprocessors or any(to in sample for sample in samples):
            raise Unsupported(f"{to} cannot be made: this model makes {', '.join(self.preprocessors)}, where missing")
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        found = self._ready(lambda: self._candidates(samples, to, sampling, count))
        return [sorted(row, key=lambda one: -one.score) for row in found]

    def _candidates(self, samples: Sequence[Sample], to: str, sampling: Any, count: int) -> list[list[Candidate]]:
        """Returns the candidates of each sample in the order of their numbers."""
        rows: list[list[Candidate]] = [[] for _ in samples]
        for start in range(0, len(samples), ROWS):
            mean, variance = self.infer(samples[start : start + ROWS])
            for number in range(count):
                normal = self._normal(sampling, torch.full((len(mean),), number))
                items, scores = self._made(to, mean + variance.sqrt() * normal[""], normal[to])
                for row, item, score in zip(rows[start:], items, scores.tolist(), strict=False):
                    row.append(Candidate(item, score))
        return rows


def _free(z: Float[Tensor, "B L"], style: Float[Tensor, "B S"]) -> Float[Tensor, "B R"]:
    """Returns what samples are made of: for a third of them all that is known, for a third the latent, else nothing."""
    kind = torch.randint(3, (len(z), 1), device=z.device)
    shared, own = torch.where(kind == 2, torch.randn_like(z), z), torch.where(kind > 0, torch.randn_like(style), style)
    return torch.cat((shared, own), dim=1)


def build(config: Config) -> VaeGan:
    """Returns the system that ``config`` describes, with fresh weights."""
    parts: dict[str, dict[str, nn.Module]] = {"readers": {}, "makers": {}, "judges": {}}
    for name, medium in config.towers.items():
        layout = medium.preprocessor.layout
        first = stem(layout, medium.width, medium.first, medium.channels)
        places = Positions(medium.width, medium.sizes)
        parts["readers"][name] = Reader(first, places, medium.blocks(), config.latent, medium.style)
        parts["makers"][name] = maker(medium, config.latent)
        if isinstance(layout, Grid) and config.adversary:
            parts["judges"][name] = Discriminator(layout, medium.width, medium.first, medium.channels)
    return VaeGan(config, parts)


# ---- Sizes


def _tiny(modality: str, tokenizer: Any) -> Medium:
    """Returns a medium for a laptop."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return Medium(make(tokenizer=tokenizer, tokens_max=64), sizes=(64,), style=0)
    if modality == "image":
        return Medium(make(height=64, width=64, patch=16), 128, 1, 4, (4, 4), (4, 4), (48, 96))
    if modality == "video":
        clip = make(frames=8, height=64, width=64, patch=(8, 16, 16))
        return Medium(clip, 128, 1, 4, (1, 4, 4), (8, 4, 4), (48, 96))
    if modality == "audio":
        sound = make(channels=2, mels=96, window=1024, hop=320, patch_frames=4)
        return Medium(sound, 128, 1, 4, (1, 0), (8, 2), (48, 96))
    return Medium(make(channels=9, patch=16), depth=1)


def _paper(modality: str, tokenizer: Any) -> Medium:
    """Returns the convolutions of Larsen et al. 2016, table 1, for 64 x 64 pictures; other media in the same widths."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return Medium(make(tokenizer=tokenizer, tokens_max=64), 512, heads=8, sizes=(64,), style=0)
    if modality == "timeseries":
        return Medium(make(channels=9, patch=8), 512, heads=8, style=64)
    shapes: dict[str, tuple[Any, ...]] = {
        "image": ({"height": 64, "width": 64, "patch": 8}, (8, 8), (1, 1)),
        "video": ({"frames": 8, "height": 64, "width": 64, "patch": (8, 8, 8)}, (1, 8, 8), (8, 1, 1)),
        "audio": ({"channels": 1, "mels": 96, "window": 1024, "hop": 320, "patch_frames": 8}, (1, 0), (1, 1)),
    }
    shape, sizes, first = shapes[modality]
    return Medium(make(**shape), 512, 2, 8, sizes, first, (64, 128, 256, 256), 64)


SIZES: dict[str, Callable[[str, Any], Medium]] = {"tiny": _tiny, "paper": _paper}
"""Size -> (modality, tokenizer) -> medium. ``tiny`` trains on a laptop; ``paper`` is the published one."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    Raises:
        UnknownName: there is no such size.
    """
    if size not in SIZES:
        raise UnknownName("size of vae_gan", size, SIZES)
    media = {name: SIZES[size](modality, tokenizer) for name, modality in fields.items()}
    return Config(media, {"tiny": 16, "paper": 128}[size])
