import torch

from intermodal.layers.regions import Regions, cell_boxes, colours, hide
from intermodal.types import Batch, Grid

PICTURES = Grid(2, 3, (4, 4))


def pictures(rows: int = 2) -> Batch:
    """Returns pictures of two rows and three columns of cells."""
    return Batch(torch.randn(rows, 3, 8, 12), torch.ones(rows, 6, dtype=torch.bool))


def test_cells_have_boxes_in_row_major_order() -> None:
    x, boxes = Regions(PICTURES, 16)(pictures())
    assert (x.shape, boxes.shape) == ((2, 6, 16), (2, 6, 4))
    assert boxes[0, 0].tolist() == [0.0, 0.0, 1 / 3, 0.5] or torch.allclose(
        boxes[0, 0], torch.tensor([0.0, 0.0, 1 / 3, 0.5])
    )
    torch.testing.assert_close(boxes[1, 5], torch.tensor([2 / 3, 0.5, 1.0, 1.0]))
    assert torch.equal(cell_boxes((2, 3), torch.device("cpu")), boxes[0])


def test_hidden_cells_tell_nothing_and_neighbours_nothing_of_them() -> None:
    stem = Regions(PICTURES, 16, first=(2, 2), channels=(8, 16))
    batch, hidden = pictures(), torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 1] = hidden[1, 5] = True
    other = batch.values.clone()
    other[0, :, :4, 4:8] = 7.0
    other[1, :, 4:, 8:] = 7.0
    x, _ = stem(batch, hidden)
    torch.testing.assert_close(stem(Batch(other, batch.mask), hidden)[0], x)
    assert not torch.allclose(stem(Batch(other, batch.mask))[0], stem(batch)[0])
    shown = hide(batch, hidden, (4, 4)).values
    assert float(shown[0, :, :4, 4:8].abs().sum()) == 0.0
    assert torch.equal(shown[0, :, 4:], batch.values[0, :, 4:])


def test_given_regions_are_vectors_and_their_boxes() -> None:
    stem = Regions(Grid(1, 9, (1,)), 16)
    batch = Batch(torch.randn(2, 9, 3), torch.ones(2, 3, dtype=torch.bool))
    x, boxes = stem(batch)
    vectors = batch.values[:, :5].transpose(1, 2)
    torch.testing.assert_close(x, stem.stem.project(vectors))  # type: ignore[operator, union-attr]
    assert torch.equal(boxes, batch.values[:, 5:].transpose(1, 2))
    assert torch.equal(stem.content(batch), vectors)
    assert (stem.given, stem.size) == (True, 5)
    hidden = torch.tensor([[True, False, False], [False, False, False]])
    blind, boxes_too = stem(batch, hidden)
    torch.testing.assert_close(blind[0, 0], stem.stem.project.bias)  # type: ignore[union-attr, arg-type]
    assert torch.equal(boxes_too, boxes)


def test_content_is_the_pixels_of_each_cell() -> None:
    stem, batch = Regions(PICTURES, 16), pictures()
    found = stem.content(batch)
    assert found.shape == (2, 6, stem.size)
    torch.testing.assert_close(found[1, 4], batch.values[1, :, 4:, 4:8].flatten())


def test_colours_are_the_shares_of_pixels_in_each_box_of_colour_space() -> None:
    mean, std, levels = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2), 3
    plain = torch.rand(2, 3, 8, 12)
    plain[0, :, :4, :4] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    values = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    shares = colours(values, (4, 4), levels, mean, std)
    assert shares.shape == (2, 6, 27)
    torch.testing.assert_close(shares.sum(dim=2), torch.ones(2, 6))
    assert shares[0, 0].argmax() == 2 + 3 * 1 + 9 * 0
    assert float(shares[0, 0].max()) == 1.0
    counts = torch.zeros(27)
    for r, g, b in plain[1, :, 4:, 8:].flatten(1).T.tolist():
        counts[int(r * 3) + 3 * int(g * 3) + 9 * int(b * 3)] += 1 / 16
    torch.testing.assert_close(shares[1, 5], counts, atol=0.1, rtol=0)  # a rounded edge may move a pixel
