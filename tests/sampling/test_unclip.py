"""What is asked of a denoiser, and how a drawing is chosen; the whole is tested with the system."""

from typing import Any

import torch
from torch import Tensor

from intermodal.modalities.image import ImagePreprocessor
from intermodal.objectives.diffusion import Diffusion
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.diffusion import Drawing
from intermodal.sampling.unclip import Wanted, drawing_of, limits, scaled, teller


def test_vectors_are_as_long_as_noise() -> None:
    found = scaled(torch.tensor([[3.0, 4.0, 0.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.2, 1.6, 0.0, 0.0]]))


def test_a_drawing_is_taken_as_it_is_and_of_ids_the_seed() -> None:
    own, other = Drawing(steps=5), Drawing("ddim", 3, seed=1)
    assert drawing_of(None, own) is own
    assert drawing_of(other, own) is other
    assert drawing_of(Sampling(0.7, seed=9), own) == Drawing(steps=5, seed=9)


def test_limits_are_black_and_white_or_the_numbers_of_codes() -> None:
    pixels = ImagePreprocessor(16, 16, 8, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    low, high = limits(pixels, torch.device("cpu"))
    torch.testing.assert_close(low.flatten(), torch.tensor([-1.0, -2.0, -3.0]))
    torch.testing.assert_close(high.flatten(), torch.tensor([1.0, 3.0, 7.0]))
    assert [float(end) for end in limits(None, torch.device("cpu"))] == [-1.0, 1.0]


def test_a_denoiser_is_shown_vector_words_and_what_is_given() -> None:
    seen: list[tuple[Any, ...]] = []

    def net(x: Tensor, t: Tensor, vector: Tensor, known: Tensor, given: Tensor, words: Any) -> Tensor:
        seen.append((vector, known.tolist(), given, words))
        return torch.where(known[:, None, None, None], 5.0, 0.25).expand_as(x)

    tokens, mask = torch.zeros(2, 3, 4), torch.tensor([[True, True, False], [False] * 3])
    wanted = Wanted(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), [0, 1], (tokens, mask))
    given = torch.ones(2, 3, 2, 2)
    tell = teller(net, Diffusion(), wanted, 2.0, (torch.tensor(-1.0), torch.tensor(1.0)), given)
    found = tell(torch.zeros(2, 3, 2, 2), torch.tensor([0.5, 0.5]))
    assert bool((found == 0.25 + 2 * (1.0 - 0.25)).all())  # each within the limits, then guided
    for vector, _, coarse, _ in seen:
        torch.testing.assert_close(vector, scaled(wanted.vectors))
        assert coarse is given
    assert [known for _, known, _, _ in seen] == [[True, True], [False, False]]
    assert torch.equal(seen[0][3][1], mask)
    assert not seen[1][3][1].any()
    seen.clear()
    nothing = Wanted(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), [0, 1], (tokens, mask))
    teller(net, Diffusion(), nothing, 1.0, (torch.tensor(-1.0), torch.tensor(1.0)))(
        torch.zeros(2, 3, 2, 2), torch.rand(2)
    )
    assert seen[0][1] == [False, True]
    assert torch.equal(seen[0][3][1], mask)
