"""The denoiser: what it looks at and what not, and that it learns to tell."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intermodal.decoders.denoiser import Denoiser, Modulated, Stage, Time
from intermodal.errors import InvalidValue
from intermodal.layers.block import Block

STAGE = Stage(patch=2, width=16, depth=2, heads=2, painted=4)


def stirred(net: Denoiser) -> Denoiser:
    """Returns it with drawn weights everywhere: where it starts at zero nothing would show."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return net.eval()


def made(**changes: Any) -> Denoiser:
    torch.manual_seed(0)
    return stirred(Denoiser(replace(STAGE, **changes.pop("stage", {})), (3, 4, 6), 5, **changes))


def told(net: Denoiser, **changes: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Any] = {
        "x": torch.randn(2, 3, 4, 6, generator=generator),
        "t": torch.tensor([0.2, 0.7]),
        "vector": torch.randn(2, 5, generator=generator),
        "known": torch.tensor([True, True]),
    }
    with torch.no_grad():
        found: Tensor = net(**{**given, **changes})
    return found


@pytest.mark.parametrize("painted", [0, 4])
def test_at_first_it_tells_nothing_and_later_a_grid(painted: int) -> None:
    fresh = Denoiser(replace(STAGE, painted=painted), (3, 4, 6), 5)
    assert not told(fresh).any()
    found = told(made(stage={"painted": painted}))
    assert found.shape == (2, 3, 4, 6)
    assert bool(found.abs().min() > 0)


def test_everything_that_is_given_is_looked_at() -> None:
    net = made(given=2, words=7)
    words = (torch.randn(2, 3, 7), torch.tensor([[True, True, False], [False, False, False]]))
    usual: dict[str, Any] = {"given": torch.randn(2, 2, 4, 6), "words": words}
    plain = told(net, **usual)
    for change in (
        {"t": torch.tensor([0.3, 0.8])},
        {"vector": torch.ones(2, 5)},
        {"known": torch.tensor([False, False])},
        {"given": torch.zeros(2, 2, 4, 6)},
    ):
        assert bool(((told(net, **{**usual, **change}) - plain).abs().amax(dim=(1, 2, 3)) > 1e-4).all()), change
    tokens = words[0].clone()
    tokens[:, 2] = 9.0  # behind the mask
    torch.testing.assert_close(told(net, **{**usual, "words": (tokens, words[1])}), plain)
    tokens[:, 0] = 9.0
    moved = (told(net, **{**usual, "words": (tokens, words[1])}) - plain).abs().amax(dim=(1, 2, 3))
    assert moved[0] > 1e-4
    assert moved[1] == 0  # whose words are all hidden
    torch.testing.assert_close(told(net, **{**usual, "words": None})[1], plain[1])


def test_the_vector_tells_each_patch_something_of_its_own_before_any_block_does() -> None:
    torch.manual_seed(0)
    net = Denoiser(replace(STAGE, painted=0), (3, 4, 6), 5)  # whose blocks do nothing yet
    nn.init.normal_(net.paint.weight)
    same = {"x": torch.zeros(2, 3, 4, 6), "t": torch.tensor([0.5, 0.5])}
    one, other = told(net, **same)
    patches = (one - other).unfold(1, 2, 2).unfold(2, 2, 2).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    assert bool((patches.norm(dim=1) > 0.1).all())
    alike = nn.functional.cosine_similarity(patches[:, None], patches[None], dim=2)
    assert float(alike.triu(1).max()) < 0.999


def test_a_vector_that_is_not_known_makes_no_difference() -> None:
    net, hidden = made(), torch.tensor([False, True])
    assert torch.equal(told(net, known=hidden)[0], told(net, known=hidden, vector=torch.zeros(2, 5))[0])


def test_a_row_is_the_same_alone() -> None:
    net = made()
    whole = told(net)
    generator = torch.Generator().manual_seed(1)
    x, vector = torch.randn(2, 3, 4, 6, generator=generator), torch.randn(2, 5, generator=generator)
    alone = told(net, x=x[1:], t=torch.tensor([0.7]), vector=vector[1:], known=torch.tensor([True]))
    torch.testing.assert_close(alone, whole[1:], atol=1e-5, rtol=1e-5)


def test_the_convolutions_see_across_the_borders_of_patches() -> None:
    """What two convolutions of three cells reach beyond its patch, without blocks to carry anything there."""
    net = made(stage={"depth": 1})
    for block in net.blocks:
        nn.init.zeros_(block.modulate.weight)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(block.modulate.bias)  # type: ignore[union-attr, arg-type]
    x = torch.zeros(1, 3, 4, 6)
    numbers: dict[str, Any] = {"t": torch.tensor([0.5]), "vector": torch.ones(1, 5), "known": torch.tensor([True])}
    plain = told(net, x=x, **numbers)
    x = x.clone()
    x[..., 0, 0] = 5.0
    moved = (told(net, x=x, **numbers) - plain).abs().amax(dim=(0, 1)) > 1e-7
    assert bool(moved[:4, :4].all())
    assert not moved[:, 4:].any()


def test_a_modulated_block_is_a_block_whose_branches_are_gated() -> None:
    torch.manual_seed(0)
    gated, x, condition = Modulated(8, 2, context_width=8), torch.randn(2, 3, 8), torch.randn(2, 8)
    assert torch.equal(gated(x, condition), x)
    with torch.no_grad():
        gated.modulate.bias.view(6, 8)[2] = 1.0
        gated.modulate.bias.view(6, 8)[5] = 1.0
    context, mask = torch.randn(2, 4, 8), torch.tensor([[True] * 4, [False] * 4])
    block: Block = gated.block
    torch.testing.assert_close(gated(x, condition), block(x))
    torch.testing.assert_close(gated(x, condition, context, mask), block(x, None, context, mask))


@torch.no_grad()
def test_times_are_told_apart() -> None:
    torch.manual_seed(0)
    found = Time(16)(torch.tensor([0.5, 0.501, 0.6]))
    assert found.shape == (3, 16)
    assert float((found[0] - found[1]).abs().max()) > 1e-3


def test_numbers_that_cannot_be_are_refused() -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"patch": 0}, "patch of a denoiser is 0; give at least 1"),
        ({"depth": 0}, "depth of a denoiser is 0"),
        ({"painted": -1}, "painted of a denoiser is -1; give at least 0"),
        ({"dropped": 1.0}, "dropped 1.0 of a denoiser"),
        ({"learns": 0.0}, "learns 0.0 is above 0"),
    ]
    for change, message in changes:
        with pytest.raises(InvalidValue, match=message):
            replace(STAGE, **change)
    with pytest.raises(InvalidValue, match="5 x 4 does not divide into patches of 2"):
        Denoiser(STAGE, (3, 5, 4), 5)
