"""A discriminator: shapes, no influence of company or padding, and weights that can be held."""

import pytest
import torch
from torch import nn

from intermodal.decoders.discriminator import Discriminator, held
from intermodal.types import Grid

PICTURE, SOUND, SERIES = Grid(2, 3, (8, 8)), Grid(2, 1, (16, 4)), Grid(1, 2, (4,))


def judge(layout: Grid) -> Discriminator:
    torch.manual_seed(0)
    if layout is SERIES:
        return Discriminator(layout, 12)
    return Discriminator(layout, 12, (2, 2) if layout is PICTURE else (4, 2), (6, 8))


@pytest.mark.parametrize(("layout", "size"), [(PICTURE, (16, 24)), (SOUND, (16, 12)), (SERIES, (20,))])
def test_one_logit_each_and_features_from_fine_to_coarse(layout: Grid, size: tuple[int, ...]) -> None:
    values = torch.randn(3, layout.channels, *size)
    tokens = values[0, 0].numel() // torch.Size(layout.patch).numel()
    found = judge(layout)(values, torch.ones(3, tokens, dtype=torch.bool))
    assert found.logits.shape == (3,)
    cells = [one[0, ..., 0].numel() for one in found.features]
    assert cells == sorted(cells, reverse=True)
    assert len(cells) == (1 if layout is SERIES else 2)


def test_neither_company_nor_padding_matters() -> None:
    network = judge(SOUND).eval()
    values, mask = torch.randn(2, 1, 16, 12), torch.tensor([[True, True, True], [True, False, False]])
    together = network(values, mask)
    alone = network(values[1:, :, :, :4], mask[1:, :1])
    wild = values.clone()
    wild[1, :, :, 4:] = 50.0
    other = network(wild, mask)
    torch.testing.assert_close(together.logits[1:], alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.logits, other.logits)
    torch.testing.assert_close(together.features[1][1:, :, :1], alone.features[1], atol=1e-5, rtol=1e-5)


def test_what_is_held_gives_gradients_to_what_it_sees_alone() -> None:
    network = judge(PICTURE)
    mask = torch.ones(1, 4, dtype=torch.bool)
    values = torch.randn(1, 3, 16, 16, requires_grad=True)
    free, still = network(values, mask), held(network)(values, mask)
    torch.testing.assert_close(free.logits, still.logits)
    still.logits.sum().backward()
    assert values.grad is not None
    assert float(values.grad.abs().sum()) > 0
    assert all(p.grad is None for p in network.parameters())
    free.logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_buffers_are_held_too() -> None:
    norm = nn.BatchNorm1d(2).eval()
    norm.running_mean.fill_(3.0)  # type: ignore[union-attr]
    x = torch.randn(4, 2)
    torch.testing.assert_close(held(norm)(x), norm(x))
