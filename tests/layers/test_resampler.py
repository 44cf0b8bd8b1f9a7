"""The resampler: so many tokens from any number of frames, each frame and place told apart."""

import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.layers.resampler import Resampler


def small() -> Resampler:
    torch.manual_seed(0)
    return Resampler(features=6, places=4, width=16, queries=3, depth=2, heads=2, frames=5).eval()


def test_gives_as_many_tokens_as_it_has_queries() -> None:
    for frames in (1, 2, 5):
        assert small()(torch.randn(2, frames, 4, 6)).shape == (2, 3, 16)


def test_equals_its_formula() -> None:
    model, seen = small(), torch.randn(2, 2, 4, 6)
    where = model.places.axes[0][:2, None] + model.places.axes[1][None]
    x = (model.project(model.norm_in(seen)) + where).reshape(2, 8, 16)
    told = model.queries.expand(2, -1, -1)
    for block in model.blocks:
        keys = torch.cat((x, told), dim=1)
        middle = told + block.attend_cross(block.norm_cross(told), None, keys)
        told = middle + block.mlp_out(torch.nn.functional.gelu(block.mlp_in(block.norm_mlp(middle))))
    torch.testing.assert_close(model(seen), model.norm(told))


def test_tells_frames_and_places_apart() -> None:
    model, seen = small(), torch.randn(1, 3, 4, 6)
    with torch.no_grad():  # fresh ones are small
        for axis in model.places.axes:
            axis.mul_(30)
    for axis in (1, 2):
        assert float((model(seen) - model(seen.flip(axis))).detach().abs().max()) > 1e-3


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, seen = small(), torch.randn(3, 2, 4, 6)
    torch.testing.assert_close(model(seen)[1:2], model(seen[1:2]))


def test_too_much_is_refused_in_a_sentence() -> None:
    with pytest.raises(InvalidValue, match="6 tokens along axis 0 are more than the 5"):
        small()(torch.randn(1, 6, 4, 6))
    with pytest.raises(InvalidValue, match="are at least 1"):
        Resampler(6, 4, 16, 0, 2, 2)
