"""Pictures changed by their vectors: what is asked of a system, told by one that draws what its vector says."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text
from intermodal.objectives.diffusion import Diffusion
from intermodal.sampling.diffusion import Drawing
from intermodal.sampling.editing import between, changed, known, repainted, variations
from intermodal.sampling.unclip import Wanted
from intermodal.types import Batch, Candidate

PIXELS = ImagePreprocessor(8, 8, 4)
VECTORS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


def flat(*colour: int) -> Image:
    return Image(np.full((8, 8, 3), colour, np.uint8))


RED, GREEN = flat(255, 0, 0), flat(0, 255, 0)


class Texts:
    """Words to numbers, as a preprocessor gives them."""

    def __call__(self, items: list[Text]) -> Batch:
        return Batch(
            torch.tensor([[list(VECTORS).index(item.text)] for item in items]), torch.ones(len(items), 1).bool()
        )


class Painter:
    """Its space are the colours; it paints flat pictures of its vectors, with a trace of what it began with."""

    said, shown, latent = "text", "image", None

    def __init__(self) -> None:
        self.preprocessors: dict[str, Any] = {"text": Texts(), "image": PIXELS}
        self.config: Any = type("Config", (), {})()
        self.config.drawing, self.config.diffusion, self.config.pictures = Drawing(steps=3), Diffusion(), PIXELS
        self.decoder: Any = self.net
        self.asked: list[Wanted] = []
        self.hows: list[Drawing] = []

    def eval(self) -> None:
        """Does nothing: there is nothing to learn."""

    def vectors(self, batch: Batch) -> Tensor:
        return F.normalize((batch.values.mean(dim=(2, 3)) + 1) / 2, dim=-1)

    def sentence(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.values[..., None].float(), batch.mask, torch.tensor(list(VECTORS.values()))[batch.values[:, 0]]

    def reduced(self, values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2)

    class _Net:
        nothing = torch.zeros(3)

        def __call__(self, x: Tensor, t: Tensor, vector: Tensor, known: Tensor, given: Any, words: Any) -> Tensor:
            return (2 * F.normalize(vector, dim=-1) - 1)[:, :, None, None].expand_as(x)

    net = _Net()

    def wanted(self, samples: list[dict[str, Any]], tries: list[int], seed: int) -> tuple[Wanted, Tensor]:
        if "text" in samples[0]:
            vectors = self.sentence(Texts()([sample["text"] for sample in samples]))[2]
        else:
            vectors = self.vectors(PIXELS([sample["image"] for sample in samples]))
        return Wanted(vectors, tries), vectors

    def pictures(self, wanted: Wanted, how: Drawing) -> Tensor:
        self.asked.append(wanted)
        self.hows.append(how)
        values = (2 * wanted.vectors - 1)[:, :, None, None].expand(-1, -1, 8, 8)
        return values if wanted.known is None else torch.where(wanted.known[1][:, None], wanted.known[0], values)

    def candidates(self, samples: list[Any], to: str, *, sampling: Any, count: int) -> list[list[Candidate]]:
        return [[Candidate(sample["image"], float(count - i)) for i in range(count)] for sample in samples]


def colours(items: Any) -> list[list[int]]:
    return [item.pixels[0, 0].tolist() for item in items]


def test_variations_are_candidates_of_pictures() -> None:
    found = variations(Painter(), [RED, GREEN], 3)
    assert [colours(row) for row in found] == [[[255, 0, 0]] * 3, [[0, 255, 0]] * 3]


def test_the_way_between_two_goes_along_the_circle_of_vectors_and_of_noise() -> None:
    model = Painter()
    made = colours(between(model, RED, GREEN, 3))
    half = round(255 * 0.5**0.5)
    assert made == [[255, 0, 0], [half, half, 0], [0, 255, 0]]
    asked = model.asked[0]
    assert asked.start is not None
    assert list(asked.numbers) == [0, 0, 0]
    _, noise = known(model, [RED, GREEN], 3)
    torch.testing.assert_close(asked.start[[0, 2]], noise)
    with pytest.raises(InvalidValue, match="1 pictures on the way"):
        between(model, RED, GREEN, 1)


def test_a_difference_in_words_turns_the_vector_and_keeps_the_noise() -> None:
    model = Painter()
    changed(model, RED, Text("green"), Text("blue"), (0.0, 0.5, 1.0), Drawing("ddim", 4))
    asked = model.asked[0]
    difference = F.normalize(torch.tensor([0.0, -1.0, 1.0]), dim=0)
    red = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(asked.vectors[0], red)
    torch.testing.assert_close(asked.vectors[1], F.normalize(red + difference, dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(asked.vectors[2], difference, atol=1e-5, rtol=1e-5)
    assert asked.start is not None
    assert torch.equal(asked.start[0], asked.start[2])
    assert model.hows[0] == Drawing("ddim", 4)
    for shares in ((), (1.5,)):
        with pytest.raises(InvalidValue, match="shares of the way are"):
            changed(model, RED, Text("red"), Text("blue"), shares)


def test_the_noise_of_a_picture_is_what_its_vector_does_not_tell() -> None:
    vectors, noise = known(Painter(), [RED, GREEN], 20)
    torch.testing.assert_close(vectors, torch.tensor([VECTORS["red"], VECTORS["green"]]))
    assert noise.shape == (2, 3, 4, 4)
    assert float(noise.abs().max()) < 0.01  # flat pictures of pure colours are all told


def test_only_the_masked_part_is_painted() -> None:
    model, mask = Painter(), np.zeros((8, 8), bool)
    mask[:, 4:] = True
    (made,) = repainted(model, [RED], [mask], [Text("blue")])
    assert (made.pixels[:, :4] == (255, 0, 0)).all()  # type: ignore[attr-defined]
    assert (made.pixels[:, 4:] == (0, 0, 255)).all()  # type: ignore[attr-defined]
    (same,) = repainted(model, [RED], [mask])
    assert (same.pixels == (255, 0, 0)).all()  # type: ignore[attr-defined]
    with pytest.raises(InvalidValue, match="1 pictures, 2 masks and 1 texts"):
        repainted(model, [RED], [mask, mask])
    with pytest.raises(InvalidValue, match=r"a mask is of \(4, 4\) pixels"):
        repainted(model, [RED], [mask[:4, :4]])
