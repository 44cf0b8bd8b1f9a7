"""DALL-E 2: a sentence becomes the vector that CLIP would give a picture of it, and that vector becomes a picture.

    text ─ CLIP ─ prior ─ the picture's vector ─ decoder ─ a small picture ─ upsampler ─ picture
    picture ─ CLIP ───────────────┘ (variations, what lies between two, differences in words)

Follows: Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents", arXiv 2204.06125,
figure 2: prior (both forms), decoder that also reads the caption, guidance by leaving either out, DDIM inversion for
what the vector does not hold. With ``latent``, decoder and upsampler give way to one denoiser in the codes of an
autoencoder, as in Rombach et al. 2022, arXiv 2112.10752 (its form VQ-reg: rounding belongs to the decoder). Changed:
transformers instead of U-Nets; what is clean is told, not what is noise; the upsampler also sees the vector, and its
coarse picture is spoilt by noise alone; in-painting puts in what is known and has no training of its own. Left out:
moving averages of the weights (the rate falls to zero instead), a second upsampler.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import catalog
from intermodal.decoders.denoiser import Denoiser, Stage
from intermodal.decoders.prior import AutoregressivePrior, DiffusionPrior, Prior, Sentence
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.objectives.diffusion import Diffusion, learn
from intermodal.sampling.diffusion import Drawing, Drawn, Noise, draw, kept
from intermodal.sampling.unclip import Wanted, drawing_of, imagined, limits, scaled, teller
from intermodal.types import Batch, Candidate, Item, Sample

ROWS = 64  # drawn at once; changes nothing but the memory needed
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        clip: config of the clip whose space it is; it is not trained here.
        latent: config of the codec, with fsq, in whose codes pictures are drawn; None to draw pixels.
        text_field: the tower of sentences.
        picture_field: the tower of pictures.
        prior: sentence to vector.
        decoder: vector to small picture, or to codes.
        upsampler: small picture to picture.
        reduced: how many times smaller the small picture is along each side; 1 to need no upsampler.
        captions: share of the rows in which the decoder also reads the words; 0 for one that never does.
        diffusion: what decoder and upsampler learn.
        prior_diffusion: what the prior learns, in its first form.
        drawing: how pictures are drawn where nothing is said.
        spoilt: the most noise, in deviations, that the coarse picture has while the upsampler learns.
    """

    clip: Any = None
    latent: Any = None
    text_field: str = "text"
    picture_field: str = "image"
    prior: Prior = field(default_factory=Prior)
    decoder: Stage = field(default_factory=Stage)
    upsampler: Stage = field(default_factory=lambda: Stage(patch=8, width=128, depth=2, learns=0.5))
    reduced: int = 2
    captions: float = 0.5
    diffusion: Diffusion = field(default_factory=Diffusion)
    prior_diffusion: Diffusion = field(default_factory=Diffusion)
    drawing: Drawing = field(default_factory=lambda: Drawing(guidance=1.5))
    spoilt: float = 0.2

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        if self.clip is None:
            raise InvalidValue("dalle2 has no clip; give the config of one that was trained on texts and pictures")
        for name, modality in ((self.text_field, "text"), (self.picture_field, "image")):
            if name not in self.clip.towers:
                raise UnknownName(f"tower of the clip, for {modality},", name, self.clip.towers)
            if (found := self.clip.towers[name].modality) != modality:
                raise InvalidValue(f"the field {name!r} of the clip is {found}; dalle2 needs {modality} there")
        if not 0 <= self.captions <= 1 or self.spoilt < 0:
            raise InvalidValue(f"captions {self.captions} is 0 to 1, and spoilt {self.spoilt} at least 0; change them")
        own = self.pictures
        if self.latent is None:
            if self.reduced < 1 or own.height % self.reduced or own.width % self.reduced:
                raise InvalidValue(f"reduced is {self.reduced}; it must divide pictures of {own.height} x {own.width}")
            return
        other, book = self.latent.preprocessor, self.latent.codebook
        if book.quantizer != "fsq" or 0 in self.latent.sizes or other.modality != "image":
            raise Unsupported(
                f"dalle2 draws codes of pictures of one size made by fsq, not {book.quantizer} of {other.modality} in "
                f"{self.latent.sizes}; train the codec of an image with quantizer fsq"
            )
        if replace(other, patch=own.patch) != own:
            raise InvalidValue(f"the clip takes pictures as {own}, the codec as {other}: train one like the other")

    @property
    def pictures(self) -> Any:
        """The preprocessor of pictures."""
        return self.clip.towers[self.picture_field].preprocessor

    @property
    def small(self) -> tuple[int, int, int]:
        """Channels, rows and columns of what the decoder draws."""
        if self.latent is None:
            return 3, self.pictures.height // self.reduced, self.pictures.width // self.reduced
        return self.latent.codebook.groups * len(self.latent.codebook.levels), *self.latent.sizes


class DallE2(nn.Module):
    """A CLIP that is not trained; a prior, a decoder, an upsampler that are. Trains, Translates, Completes."""

    def __init__(self, config: Config, clip: Any, latent: Any = None) -> None:
        """Assembles built parts, which are not trained here, and builds the others."""
        super().__init__()
        self.config = config
        self.said, self.shown = config.text_field, config.picture_field
        self.preprocessors: dict[str, Any] = {n: config.clip.towers[n].preprocessor for n in (self.said, self.shown)}
        self.clip = clip.requires_grad_(False).eval()
        self.latent = None if latent is None else latent.requires_grad_(False).eval()
        self.on_step: Callable[[str, Drawn], None] | None = None  # called after every step of drawing
        space, words, small = config.clip.width, int(clip.encoders[self.said].width), config.small
        form = DiffusionPrior if config.prior.form == "diffusion" else AutoregressivePrior
        self.prior: Any = form(config.prior, (words, self.preprocessors[self.said].tokens_max), space)
        self.decoder = Denoiser(config.decoder, small, space, words=words if config.captions else 0)
        self.upsampler = None
        if latent is None and config.reduced > 1:
            shape = (3, config.pictures.height, config.pictures.width)
            self.upsampler = Denoiser(config.upsampler, shape, space, given=3)

    def train(self, mode: bool = True) -> "DallE2":
        """Sets the mode of all that is trained here."""
        super().train(mode)
        self.clip.eval()
        self.latent = self.latent and self.latent.eval()
        return self

    # ---- What goes in

    @torch.no_grad()
    def sentence(self, batch: Batch) -> Sentence:
        """Returns CLIP's tokens of sentences, their mask, and CLIP's vectors, of length 1; of absent ones zeros."""
        with torch.autocast(batch.mask.device.type, enabled=False):
            found = self.clip.encode(self.said, batch)
            return found.tokens, found.mask, F.normalize(self.clip.heads[self.said](found.pooled), dim=-1)

    @torch.no_grad()
    def vectors(self, batch: Batch) -> Float[Tensor, "B D"]:
        """Returns CLIP's vectors of pictures, of length 1; zeros where there is none."""
        with torch.autocast(batch.mask.device.type, enabled=False):
            found: Tensor = self.clip.vectors(self.shown, batch)
        return found

    @torch.no_grad()
    def reduced(self, values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Returns pictures as the decoder draws them: smaller, or as the numbers of their codes, -1 to 1."""
        if self.latent is None:
            return F.avg_pool2d(values, self.config.reduced)
        _, rows, columns = self.config.small
        with torch.autocast(values.device.type, enabled=False):
            ids = self.latent.encode(Batch(values, values.new_ones(len(values), rows * columns).bool())).values
        numbers: Tensor = self.latent.codebook.numbers(ids).transpose(1, 2)
        return numbers.reshape(*numbers.shape[:2], rows, columns)

    # ---- Trains

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns the loss of the prior over pairs, and of decoder and upsampler over pictures; they share nothing."""
        result: dict[str, Tensor] = {}
        if self.shown not in batch or not bool((here := batch[self.shown].present).any()):
            return result
        pictures, sentence = batch[self.shown].rows(here), None
        vectors = self.vectors(pictures)
        if self.said in batch and bool((both := batch[self.said].present[here]).any()):
            sentence = self.sentence(batch[self.said].rows(here))
            tokens, mask, said = (part[both] for part in sentence)
            result["prior"] = self._prior_loss(vectors[both], (tokens, mask, said))
        clean, values = self.reduced(pictures.values), pictures.values
        result["decoder"] = self._stage_loss(self.decoder, self.config.decoder, clean, vectors, sentence=sentence)
        if self.upsampler is not None:
            noise = torch.randn_like(clean) * torch.rand(len(clean), 1, 1, 1, device=clean.device)
            coarse = self._coarse(clean + self.config.spoilt * noise)
            result["upsampler"] = self._stage_loss(self.upsampler, self.config.upsampler, values, vectors, coarse)
        return result

    def _prior_loss(self, vectors: Float[Tensor, "B D"], sentence: Sentence) -> Float[Tensor, ""]:
        """Returns the loss of the prior over pairs."""
        known = torch.rand(len(vectors), device=vectors.device) >= self.config.prior.dropped
        if self.config.prior.form == "diffusion":
            tell = partial(self.prior, sentence=sentence, known=known)
            return learn(self.config.prior_diffusion, tell, scaled(vectors))
        if self.training:
            with torch.autocast(vectors.device.type, enabled=False):
                self.prior.learn(vectors, sentence[2])
        cost: Tensor = self.prior.losses(vectors, sentence, known).mean()
        return cost

    def _stage_loss(
        self,
        net: Denoiser,
        stage: Stage,
        clean: Float[Tensor, "B C h w"],
        vectors: Float[Tensor, "B D"],
        given: Tensor | None = None,
        sentence: Sentence | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the loss of a denoiser over the first rows, as many as it learns from."""
        rows = slice(max(1, round(len(clean) * stage.learns)))
        vector = scaled(vectors[rows])
        u, w = torch.rand(2, len(vector), device=clean.device)
        words = None
        if sentence is not None and self.config.captions:
            words = (sentence[0][rows], sentence[1][rows] & (w < self.config.captions)[:, None])
        given = None if given is None else given[rows]
        tell = partial(net, vector=vector, known=u >= stage.dropped, given=given, words=words)
        return learn(self.config.diffusion, tell, clean[rows])

    def _coarse(self, small: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 H W"]:
        """Returns small pictures in full size."""
        return F.interpolate(small, scale_factor=self.config.reduced, mode="bilinear")

    # ---- Draws

    def imagined(self, sentence: Sentence, numbers: Sequence[int], seed: int) -> Float[Tensor, "B D"]:
        """Returns vectors that CLIP could give pictures of sentences: see ``sampling.unclip.imagined``."""
        one = self.config.prior
        rows = [n * one.candidates + i for n in numbers for i in range(one.candidates)]
        noise = Noise(seed, rows, sentence[2].device)
        return imagined(self.prior, one, self.config.prior_diffusion, sentence, noise, self._last)

    def pictures(self, wanted: Wanted, how: Drawing) -> Float[Tensor, "B 3 H W"]:
        """Returns pictures that show what is wanted, as values of the preprocessor."""
        noise = Noise(how.seed, wanted.numbers, wanted.vectors.device)
        small = self._drawn(self.decoder, wanted, how, noise)
        if self.latent is not None:
            values = self.latent.decode(self.latent.codebook.ids_near(small.flatten(2).transpose(1, 2)))
        elif self.upsampler is not None:
            values = self._drawn(self.upsampler, wanted, replace(how, guidance=1.0), noise, self._coarse(small))
        else:
            values = small
        return values if wanted.known is None else torch.where(wanted.known[1][:, None], wanted.known[0], values)

    def _drawn(
        self, net: Denoiser, wanted: Wanted, how: Drawing, noise: Noise, given: Tensor | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Returns what one denoiser draws; what is known of the pictures stays as it is."""
        shape = self.config.small if given is None else tuple(given.shape[1:])
        ends = limits(None if self.latent is not None else self.config.pictures, wanted.vectors.device)
        tell = teller(net, self.config.diffusion, wanted, how.guidance, ends, given)
        if wanted.known is not None:
            values, stays = wanted.known
            sides = (stays.shape[1] // shape[1], stays.shape[2] // shape[2])
            whole = F.avg_pool2d(stays[:, None].float(), sides) > 0.999
            tell = kept(tell, values if given is not None else self.reduced(values), whole)
        start = noise(shape) if given is not None or wanted.start is None else wanted.start
        steps = draw(tell, self.config.diffusion, how, start, noise)
        return self._last(steps, "decoder" if given is None else "upsampler")

    def _last(self, steps: Iterable[Drawn], what: str) -> Tensor:
        """Returns what was drawn; ``on_step`` is told of every step, the log of the speed."""
        for now in steps:
            if self.on_step:
                self.on_step(what, now)
        _LOG.info("%s: %d rows, %d steps, %.1f steps/s", what, len(now.clean), now.steps, now.steps_per_s)
        return now.clean

    # ---- Translates, Completes

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Sentences to pictures, and pictures to variations of them."""
        return ((self.said, self.shown), (self.shown, self.shown))

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns a picture for each sentence or picture: see ``types.Translates``, and ``candidates``."""
        kinds = {"text": self.said, "image": self.shown}
        samples = [{source or kinds.get(item.modality, item.modality): item} for item in items]
        return [best[0].item for best in self.candidates(samples, to, sampling=sampling, count=count)]

    @torch.no_grad()
    def candidates(
        self, samples: Sequence[Sample], to: str, *, sampling: Any = None, count: int = 1
    ) -> list[list[Candidate]]:
        """Returns for each sample ``count`` pictures, best first by CLIP's cosine of each with what was given.

        What is drawn of an item is the same on every call and in any company; another seed draws something else.

        Args:
            samples: with a sentence; or else with a picture, of which variations are drawn.
            to: the field of pictures.
            sampling: a ``Drawing``; of a ``Sampling``, which is for ids, the seed alone counts.
            count: pictures for each sample.

        Raises:
            Unsupported: another field is asked for, or a sample has neither.
            InvalidValue: ``count`` is below 1.
        """
        self._check(samples, to, count)
        how = drawing_of(sampling, self.config.drawing)
        training, made = self.training, []
        self.eval()
        for start in range(0, len(samples), max(1, ROWS // count)):
            part = [sample for sample in samples[start : start + max(1, ROWS // count)] for _ in range(count)]
            wanted, asked = self.wanted(part, [i % count for i in range(len(part))], how.seed)
            values = self.pictures(wanted, how)
            items = self.preprocessors[self.shown].invert(values)
            scores = (self.vectors(self.preprocessors[self.shown](items).to(values.device)) * asked).sum(dim=1).tolist()
            made += [Candidate(item, score) for item, score in zip(items, scores, strict=True)]
        self.train(training)
        rows = [made[i : i + count] for i in range(0, len(made), count)]
        return [sorted(row, key=lambda one: -one.score) for row in rows]

    @torch.no_grad()
    def wanted(self, samples: Sequence[Sample], tries: Sequence[int], seed: int) -> tuple[Wanted, Tensor]:
        """Returns what pictures of samples are to show, and CLIP's vector of what each sample gives.

        Args:
            samples: as for ``candidates``.
            tries: the number of the candidate that each is.
            seed: of what the prior draws.
        """
        device = self.decoder.nothing.device
        told = [self.said in sample for sample in samples]
        given: list[Any] = [sample[self.said if told[i] else self.shown] for i, sample in enumerate(samples)]
        # within 32 bits: torch's generators tell no more of a seed
        numbers = [
            (int(one.content_hash()[:8], 16) + n * 2654435761) % 2**32 for one, n in zip(given, tries, strict=True)
        ]
        texts, pictures = (
            self.preprocessors[name]([one if yes else None for one, yes in zip(given, here, strict=True)]).to(device)
            for name, here in ((self.said, told), (self.shown, [not yes for yes in told]))
        )
        tokens, mask, said = self.sentence(texts)
        asked = said + self.vectors(pictures)
        vectors, rows = asked.clone(), texts.present
        if any(told):
            sure = [n for n, yes in zip(numbers, told, strict=True) if yes]
            vectors[rows] = self.imagined((tokens[rows], mask[rows], said[rows]), sure, seed)
        return Wanted(vectors, numbers, (tokens, mask) if self.config.captions else None), asked

    def _check(self, samples: Sequence[Sample], to: str, count: int) -> None:
        """Raises where something else is asked for than to draw pictures."""
        if to != self.shown:
            raise Unsupported(f"this model draws {self.shown} from {self.said} or {self.shown}; it makes no {to}")
        if count < 1:
            raise InvalidValue(f"{count} candidates were asked for; give at least 1")
        for sample in samples:
            item = sample.get(self.said, sample.get(self.shown))
            if item is None or item.modality != ("text" if self.said in sample else "image"):
                found = ", ".join(f"{name} ({one.modality})" for name, one in sample.items()) or "no field"
                raise Unsupported(f"{self.shown} is drawn from {self.said} or {self.shown}; the sample has {found}")


def build(config: Config) -> DallE2:
    """Returns the system that ``config`` describes, with fresh weights; clip and codec are to be filled."""
    latent = config.latent and catalog.system_of(config.latent).build(config.latent)
    return DallE2(config, catalog.system_of(config.clip).build(config.clip), latent)


# ---- Sizes

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "paper": {
        "prior": Prior(width=2048, depth=24, heads=32, components=319, levels=1024, steps=64, guidance=4.0),
        "decoder": Stage(2, 2304, 30, 36),
        "upsampler": Stage(8, 1536, 16, 24),
        "reduced": 4,
    },
}
"""``tiny`` trains on a laptop: small pictures of 32 x 32, 6 million weights. ``paper`` is that of arXiv 2204.06125,
table 3: a prior of a billion weights, a decoder of 3.5 billion and an upsampler of 700 million, as transformers."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any) -> Config:
    """Returns the config of one size for data with these fields (field name -> modality).

    Clip is that of ``systems/clip.py`` of that size, to be replaced by a trained one.

    Raises:
        UnknownName: there is no such size.
        Unsupported: the data has no text or no picture, or several and none that is named like its modality.
    """
    if size not in SIZES:
        raise UnknownName("size of dalle2", size, SIZES)
    chosen = {}
    for modality in ("text", "image"):
        found = [name for name, kind in fields.items() if kind == modality]
        if len(found) != 1 and modality not in found:
            raise Unsupported(
                f"dalle2 learns from one field of text and one of image; of {modality} the data has "
                f"{', '.join(found) or 'none'}; choose with --fields"
            )
        chosen[found[0] if len(found) == 1 else modality] = modality
    clip = catalog.module("systems", "clip").sized(size, chosen, tokenizer)
    said, shown = chosen
    return Config(clip, None, said, shown, **SIZES[size])
