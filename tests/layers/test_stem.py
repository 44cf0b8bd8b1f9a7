import pytest
import torch
from torch.nn import functional as F

from intermodal.errors import InvalidValue
from intermodal.layers.stem import ConvolutionStem, PatchStem, SymbolStem, patches, stem
from intermodal.types import Batch, Grid, Symbols


def whole(values: torch.Tensor, tokens: int) -> Batch:
    return Batch(values, torch.ones(len(values), tokens, dtype=torch.bool))


def test_patches_are_what_unfold_gives() -> None:
    x = torch.randn(2, 3, 8, 12)
    expected = F.unfold(x, (4, 6), stride=(4, 6)).transpose(1, 2).reshape(2, 2, 2, -1)
    torch.testing.assert_close(patches(x, (4, 6)), expected)


def test_patches_refuse_a_grid_that_does_not_fit() -> None:
    with pytest.raises(InvalidValue, match=r"\(7,\) is no multiple of the patch \(4,\)"):
        patches(torch.randn(1, 2, 7), (4,))


def test_patch_stem_equals_a_strided_convolution() -> None:
    made = PatchStem(Grid(2, 3, (4, 4)), 10)
    x = torch.randn(2, 3, 8, 8)
    tokens, grid = made(whole(x, 4))
    expected = (
        F.conv2d(x, made.project.weight.view(10, 3, 4, 4), made.project.bias, stride=4).flatten(2).transpose(1, 2)
    )
    assert grid == (2, 2)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("layout", "first", "size", "grid"),
    [
        (Grid(1, 2, (8,)), (2,), (32,), (4,)),
        (Grid(2, 3, (8, 8)), (2, 2), (16, 24), (2, 3)),
        (Grid(3, 3, (2, 8, 8)), (2, 4, 4), (8, 16, 16), (4, 2, 2)),
        (Grid(3, 3, (4, 8, 8)), (1, 2, 2), (8, 16, 16), (2, 2, 2)),
        (Grid(2, 2, (16, 4)), (4, 1), (16, 12), (1, 3)),
    ],
)
def test_convolution_stem_gives_one_token_per_patch(
    layout: Grid, first: tuple[int, ...], size: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    made = ConvolutionStem(layout, 12, first, (6, 8))
    count = int(torch.tensor(grid).prod())
    x = torch.randn(2, layout.channels, *size)
    tokens, found = made(whole(x, count))
    assert found == grid
    assert tokens.shape == (2, count, 12)
    cell = tuple(slice(0, n) for n in layout.patch)
    x[(slice(None), slice(None), *cell)] += 1.0
    changed = made(whole(x, count))[0]
    assert not torch.allclose(changed[:, 0], tokens[:, 0])


def test_convolution_stem_equals_a_plain_convolution_written_out() -> None:
    made = ConvolutionStem(Grid(2, 3, (8, 8)), 12, (2, 2), (6, 8))
    x = torch.randn(2, 3, 16, 16)
    y = F.conv2d(x, made.embed.weight.view(6, 3, 2, 2), made.embed.bias, stride=2)
    y = F.gelu(F.layer_norm(y.movedim(1, -1), (6,), made.norms[0].weight, made.norms[0].bias)).movedim(-1, 1)
    y = F.conv2d(y, made.convolutions[0].weight, made.convolutions[0].bias, stride=2, padding=1)
    y = F.gelu(F.layer_norm(y.movedim(1, -1), (8,), made.norm.weight, made.norm.bias)).movedim(-1, 1)
    y = F.conv2d(y, made.project.weight.view(12, 8, 2, 2), made.project.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(made(whole(x, 4))[0], y, atol=1e-4, rtol=1e-4)


def test_convolution_never_reads_beyond_the_mask() -> None:
    made = ConvolutionStem(Grid(2, 2, (8, 4)), 12, (2, 1), (6, 8, 8)).eval()
    x = torch.randn(1, 2, 8, 12)
    longer = torch.cat((x, torch.zeros(1, 2, 8, 8)), dim=3)
    mask = torch.tensor([[True, True, True, False, False]])
    alone = made(whole(x, 3))[0]
    torch.testing.assert_close(made(Batch(longer, mask))[0][:, :3], alone, atol=1e-5, rtol=1e-4)


def test_stem_is_chosen_by_the_layout() -> None:
    assert isinstance(stem(Symbols(10), 8), SymbolStem)
    assert isinstance(stem(Grid(1, 2, (4,)), 8), PatchStem)
    assert isinstance(stem(Grid(1, 2, (4,)), 8, (1,), (4, 4)), ConvolutionStem)
    with pytest.raises(InvalidValue, match="do not divide"):
        ConvolutionStem(Grid(1, 2, (4,)), 8, (3,), (4, 4))
    with pytest.raises(InvalidValue, match="cover the whole patch"):
        ConvolutionStem(Grid(1, 2, (4,)), 8, (4,), (4, 4))
