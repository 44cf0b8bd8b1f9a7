"""Pictures changed in the space of their vectors: variations, what lies between two, differences in words, in-painting.

All of these take a system that draws pictures of CLIP's vectors, ``systems/dalle2.py``. The vector holds what CLIP
knows of a picture; the rest is in the noise from which DDIM would draw it, which is found by going that way backwards.

Source: Ramesh et al. 2022, arXiv 2204.06125, section 3. Simplified: variations begin with fresh noise, so that they
share the vector alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.sampling.diffusion import Drawing, inverted, slerp
from intermodal.sampling.unclip import Wanted, drawing_of, limits, teller
from intermodal.types import Item


def variations(model: Any, items: Sequence[Item], count: int = 4, sampling: Any = None) -> list[list[Item]]:
    """Returns for each picture ``count`` others that CLIP sees as much the same, the most alike first.

    Args:
        model: draws pictures of CLIP's vectors.
        items: pictures.
        count: of each.
        sampling: how they are drawn; default: the model's own.
    """
    found = model.candidates([{model.shown: item} for item in items], model.shown, sampling=sampling, count=count)
    return [[candidate.item for candidate in row] for row in found]


@torch.no_grad()
def between(model: Any, first: Item, last: Item, count: int = 5, sampling: Any = None) -> list[Item]:
    """Returns ``count`` pictures on the way from one to another, both ends among them, drawn anew.

    Args:
        model: draws pictures of CLIP's vectors.
        first: a picture.
        last: a picture.
        count: at least 2.
        sampling: how they are drawn; default: the model's own. A solver that draws noise in its steps breaks the way.
    """
    if count < 2:
        raise InvalidValue(f"{count} pictures on the way from one to another were asked for; give at least 2")
    how = drawing_of(sampling, model.config.drawing)
    vectors, noise = known(model, [first, last], how.steps)
    shares = [i / (count - 1) for i in range(count)]
    way = torch.cat([slerp(vectors[:1], vectors[1:], share) for share in shares])
    start = torch.cat([slerp(noise[:1], noise[1:], share) for share in shares])
    return drawn(model, Wanted(way, [0] * count, start=start), how)


@torch.no_grad()
def changed(
    model: Any, item: Item, before: Item, after: Item, shares: Sequence[float] = (0.1, 0.2, 0.3), sampling: Any = None
) -> list[Item]:
    """Returns a picture after each share of the way from what ``before`` says to what ``after`` says.

    Args:
        model: draws pictures of CLIP's vectors.
        item: a picture.
        before: a sentence that fits it.
        after: a sentence that should.
        shares: of the way from the picture's vector to the difference of both sentences, 0 to 1.
        sampling: how they are drawn; default: the model's own.
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise InvalidValue(f"shares of the way are {tuple(shares)}; give at least one, each from 0 to 1")
    how = drawing_of(sampling, model.config.drawing)
    vectors, noise = known(model, [item], how.steps)
    said = model.sentence(model.preprocessors[model.said]([before, after]).to(vectors.device))[2]
    difference = F.normalize(said[1:] - said[:1], dim=-1)
    way = torch.cat([slerp(vectors, difference, share) for share in shares])
    start = noise.repeat(len(shares), 1, 1, 1)
    return drawn(model, Wanted(way, [0] * len(shares), start=start), how)


@torch.no_grad()
def repainted(
    model: Any,
    items: Sequence[Item],
    masks: Sequence[Bool[np.ndarray, "H W"]],
    texts: Sequence[Item] | None = None,
    sampling: Any = None,
) -> list[Item]:
    """Returns pictures of which a part is drawn anew; every pixel of the rest is as it was.

    Args:
        model: draws pictures of CLIP's vectors.
        items: pictures.
        masks: of each picture, True where it is drawn anew, in the size that the model draws.
        texts: what each picture should show in all; default: what it shows already.
        sampling: how they are drawn; default: the model's own.

    Raises:
        InvalidValue: other numbers of pictures, masks and texts, or a mask of another size.
    """
    asked = items if texts is None else texts
    if not items or len({len(items), len(masks), len(asked)}) > 1:
        raise InvalidValue(f"{len(items)} pictures, {len(masks)} masks and {len(asked)} texts; give one of each")
    how = drawing_of(sampling, model.config.drawing)
    values = model.preprocessors[model.shown](items).values.to(model.decoder.nothing.device)
    for mask in masks:
        if np.shape(mask) != tuple(values.shape[2:]):
            raise InvalidValue(f"a mask is of {np.shape(mask)} pixels, pictures are of {tuple(values.shape[2:])}")
    stays = ~torch.from_numpy(np.stack([np.asarray(mask, bool) for mask in masks])).to(values.device)
    field = model.shown if texts is None else model.said
    found, _ = model.wanted([{field: one} for one in asked], [0] * len(items), how.seed)
    return drawn(model, Wanted(found.vectors, found.numbers, found.words, known=(values, stays)), how)


def known(model: Any, items: Sequence[Item], steps: int) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B C h w"]]:
    """Returns CLIP's vectors of pictures, and the noise from which the decoder draws them without guidance."""
    model.eval()
    batch = model.preprocessors[model.shown](items).to(model.decoder.nothing.device)
    vectors = model.vectors(batch)
    colours = model.config.pictures if model.latent is None else None
    wanted = Wanted(vectors, [0] * len(items))
    tell = teller(model.decoder, model.config.diffusion, wanted, 1.0, limits(colours, vectors.device))
    return vectors, inverted(tell, model.config.diffusion, steps, model.reduced(batch.values))


def drawn(model: Any, wanted: Wanted, how: Drawing) -> list[Item]:
    """Returns the pictures that show what is wanted."""
    model.eval()
    made: list[Item] = model.preprocessors[model.shown].invert(model.pictures(wanted, how))
    return made
