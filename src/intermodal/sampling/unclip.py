"""What unCLIP draws: vectors of pictures from sentences, and what is clean in pictures of which vectors are known.

Source: Ramesh et al. 2022, arXiv 2204.06125, sections 2.1 and 2.2.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from intermodal.decoders.prior import Prior, Sentence
from intermodal.objectives.diffusion import Diffusion
from intermodal.sampling.diffusion import Clean, Drawing, Drawn, Noise, draw, guided

_LOG = logging.getLogger(__name__)
Last = Callable[[Iterable[Drawn], str], Tensor]
"""The steps of a drawing and what is drawn -> what it came to."""


@dataclass(frozen=True)
class Wanted:
    """What pictures are to show.

    Attributes:
        vectors: CLIP's, of such pictures; zeros where nothing of it is known.
        numbers: of each picture, from which its noise comes.
        words: tokens of words and their mask, for a decoder that reads them.
        start: what the decoder begins with; None for noise.
        known: values of pictures, and which of their pixels stay.
    """

    vectors: Float[Tensor, "B D"]
    numbers: Sequence[int]
    words: tuple[Float[Tensor, "B S U"], Bool[Tensor, "B S"]] | None = None
    start: Float[Tensor, "B C h w"] | None = None
    known: tuple[Float[Tensor, "B 3 H W"], Bool[Tensor, "B H W"]] | None = None


def scaled(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Returns vectors as long as normal noise of their width is."""
    long: Tensor = F.normalize(vectors, dim=-1) * float(vectors.shape[-1]) ** 0.5
    return long


def drawing_of(sampling: Any, own: Drawing) -> Drawing:
    """Returns how pictures are drawn: as was asked for, or a model's own way, with the seed of a ``Sampling``."""
    if sampling is None or isinstance(sampling, Drawing):
        return sampling or own
    _LOG.info("of how ids would be chosen the seed alone counts: this model draws by diffusion")
    return replace(own, seed=sampling.seed)


def limits(colours: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the least and the largest value of what is drawn.

    Args:
        colours: the preprocessor of the pictures; None for numbers of codes.
        device: where they are compared.
    """
    if colours is None:
        return torch.tensor(-1.0, device=device), torch.tensor(1.0, device=device)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (colours.mean, colours.std))
    return (0 - mean) / std, (1 - mean) / std


def teller(
    net: Any,
    diffusion: Diffusion,
    wanted: Wanted,
    guidance: float,
    limits: tuple[Tensor, Tensor],
    given: Float[Tensor, "B 3 H W"] | None = None,
) -> Clean:
    """Returns a function that tells what is clean in mixtures.

    Args:
        net: a denoiser.
        diffusion: that it has learnt.
        wanted: what the pictures show.
        guidance: towards that; see ``Drawing``.
        limits: the least and the largest value that there can be.
        given: coarser pictures, for a denoiser that takes some.
    """
    vectors, told = scaled(wanted.vectors), (wanted.vectors != 0).any(dim=1)

    def clean(x: Tensor, t: Tensor, known: Bool[Tensor, " B"]) -> Tensor:
        words = None if wanted.words is None else (wanted.words[0], wanted.words[1] & known[:, None])
        found = net(x, t, vectors, known & told, given, words)
        return diffusion.clean(found, x, diffusion.level(t, 4)).clamp(*limits)

    return guided(clean, guidance)


def imagined(
    prior: Any, numbers: Prior, diffusion: Diffusion, sentence: Sentence, noise: Noise, last: Last
) -> Float[Tensor, "B D"]:
    """Returns vectors that CLIP could give pictures of sentences: of a few that are drawn for each, the best.

    Args:
        prior: of either form.
        numbers: it was built with.
        diffusion: that it has learnt, in its first form.
        sentence: what each picture should show.
        noise: of ``numbers.candidates`` rows for each.
        last: follows the steps.
    """
    tries = numbers.candidates
    tokens, mask, said = (part.repeat_interleave(tries, dim=0) for part in sentence)
    if numbers.form == "diffusion":

        def clean(x: Tensor, t: Tensor, known: Bool[Tensor, " B"]) -> Tensor:
            return diffusion.clean(prior(x, t, (tokens, mask, said), known), x, diffusion.level(t, 2))

        how = Drawing("dpm", numbers.steps, numbers.guidance)
        steps = draw(guided(clean, numbers.guidance), diffusion, how, noise(said.shape[1:]), noise)
        found = F.normalize(last(steps, "prior"), dim=-1)
    else:
        found = prior.write((tokens, mask, said), torch.special.ndtr(noise((prior.components + 1,))))
    best = (found * said).sum(dim=1).view(-1, tries).argmax(dim=1)
    return found.view(-1, tries, found.shape[1])[torch.arange(len(best), device=best.device), best]
