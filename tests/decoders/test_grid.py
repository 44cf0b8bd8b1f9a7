"""Tokens back to a grid: the way of the stem, backwards."""

import pytest
import torch

from intermodal.decoders.grid import ConvolutionDecoder, PatchDecoder, grid_decoder, unpatched
from intermodal.errors import InvalidValue
from intermodal.layers.stem import ConvolutionStem, patches, widen
from intermodal.types import Grid

CASES = [
    (Grid(1, 2, (8,)), (2,), (4,)),
    (Grid(2, 3, (8, 8)), (2, 2), (2, 3)),
    (Grid(2, 2, (12, 4)), (4, 1), (1, 5)),
    (Grid(3, 3, (4, 8, 8)), (4, 2, 2), (2, 2, 3)),
    (Grid(3, 3, (4, 4, 4)), (1, 2, 2), (2, 2, 1)),
    (Grid(2, 1, (6, 9)), (2, 3), (2, 2)),
]


@pytest.mark.parametrize(
    ("sizes", "patch"), [((12,), (3,)), ((8, 12), (4, 3)), ((4, 6, 10), (2, 3, 5)), ((4, 6), (1, 1))]
)
def test_unpatched_undoes_patches(sizes: tuple[int, ...], patch: tuple[int, ...]) -> None:
    values = torch.randn(2, 3, *sizes)
    torch.testing.assert_close(unpatched(patches(values, patch), patch), values)


@pytest.mark.parametrize(("layout", "first", "grid"), CASES)
def test_each_token_is_painted_as_a_patch_of_the_layout(
    layout: Grid, first: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    made = ConvolutionDecoder(layout, 12, first, (6, 8, 10))
    count = int(torch.tensor(grid).prod())
    mask = torch.ones(2, count, dtype=torch.bool)
    tokens = torch.randn(2, count, 12)
    painted = made(tokens, mask, grid)
    assert painted.shape == (2, layout.channels, *(n * p for n, p in zip(grid, layout.patch, strict=True)))
    tokens[:, 0] += 1.0
    change = (made(tokens, mask, grid) - painted).detach().abs().amax(dim=(0, 1))
    own = change[tuple(slice(0, p) for p in layout.patch)]
    elsewhere = (change.sum() - own.sum()) / (change.numel() - own.numel())
    assert float(own.mean()) > 1.5 * float(elsewhere)


@pytest.mark.parametrize(("layout", "first", "grid"), CASES)
def test_steps_are_those_of_the_stem_backwards(layout: Grid, first: tuple[int, ...], grid: tuple[int, ...]) -> None:
    stem, made = ConvolutionStem(layout, 12, first, (6, 8, 10)), ConvolutionDecoder(layout, 12, first, (6, 8, 10))
    assert made.rest == stem.rest
    assert made.active == stem.active
    assert [c.stride for c in made.convolutions] == [c.stride for c in stem.convolutions][::-1]


@pytest.mark.parametrize(("layout", "first", "grid"), CASES)
@pytest.mark.parametrize("channels", [(), (6, 8)])
def test_padding_never_reaches_a_real_cell(
    layout: Grid, first: tuple[int, ...], grid: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    made = grid_decoder(layout, 12, first, channels)
    count = int(torch.tensor(grid).prod())
    mask = torch.ones(2, count, dtype=torch.bool)
    mask[1, count // 2 :] = False
    tokens = torch.randn(2, count, 12)
    painted = made(tokens, mask, grid)
    wild = torch.where(mask[..., None], tokens, 100 * torch.randn_like(tokens))
    cells = widen(mask.reshape(2, *grid), painted.shape[2:])[:, None].expand_as(painted)
    torch.testing.assert_close(made(wild, mask, grid)[cells], painted[cells])


def test_shorter_row_is_painted_as_it_is_alone() -> None:
    made = ConvolutionDecoder(Grid(2, 2, (8, 4)), 12, (2, 1), (6, 8))
    tokens = torch.randn(1, 3, 12)
    alone = made(tokens, torch.ones(1, 3, dtype=torch.bool), (1, 3))
    padded = torch.cat((tokens, torch.randn(1, 2, 12)), dim=1)
    among = made(padded, torch.arange(5)[None] < 3, (1, 5))
    torch.testing.assert_close(among[..., :12], alone)


def test_without_channels_patches_are_one_product() -> None:
    made = grid_decoder(Grid(2, 3, (4, 4)), 12)
    assert isinstance(made, PatchDecoder)
    tokens = torch.randn(2, 6, 12)
    painted = made(tokens, torch.ones(2, 6, dtype=torch.bool), (2, 3))
    torch.testing.assert_close(patches(painted, (4, 4)).flatten(1, 2), made.paint(tokens))


@pytest.mark.parametrize(
    ("first", "message"),
    [((3, 2), "do not divide"), ((2,), "do not divide"), ((8, 8), "use no convolutions then")],
)
def test_small_patches_that_do_not_fit_are_refused(first: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        ConvolutionDecoder(Grid(2, 3, (8, 8)), 12, first, (6, 8))
