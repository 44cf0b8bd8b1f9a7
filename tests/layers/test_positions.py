import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.layers.positions import Positions, sines


def test_grid_is_the_sum_of_its_axes_in_row_major_order() -> None:
    positions = Positions(8, (3, 4))
    grid = positions((2, 4)).view(2, 4, 8)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(grid[i, j], positions.axes[0][i] + positions.axes[1][j])


def test_open_axis_takes_any_length_and_starts_the_same() -> None:
    positions = Positions(16, (0,))
    torch.testing.assert_close(positions((500,))[:7], positions((7,)))


def test_sines_are_distinct_and_bounded() -> None:
    table = sines(200, 32, torch.device("cpu"))
    assert float(table.abs().max()) <= 1.0
    assert float(torch.pdist(table).min()) > 0.1


def test_axis_with_a_limit_refuses_more() -> None:
    with pytest.raises(InvalidValue, match="5 tokens along axis 0 .* 4"):
        Positions(8, (4,))((5,))


def test_per_cell_each_cell_has_its_own_vector_and_only_the_first_axis_may_be_shorter() -> None:
    positions = Positions(8, (3, 4), per_cell=True)
    assert torch.equal(positions((3, 4)), positions.cells)
    assert torch.equal(positions((2, 4)), positions.cells[:8])
    with pytest.raises(InvalidValue, match=r"\(3, 3\) tokens does not fit .* \(3, 4\)"):
        positions((3, 3))
    with pytest.raises(InvalidValue, match="a size for every axis"):
        Positions(8, (3, 0), per_cell=True)
