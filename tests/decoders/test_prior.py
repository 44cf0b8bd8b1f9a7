"""Both forms of the prior: what is padded or left out is not seen, components are those of the data, writing equals
reading."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.decoders.prior import AutoregressivePrior, DiffusionPrior, Prior, Sentence
from intermodal.errors import InvalidValue, UnknownName

NUMBERS = Prior(width=16, depth=2, heads=2, components=4, levels=32)
WORDS, SPACE = (6, 5), 8


def sentence(rows: int = 3, seed: int = 0) -> Sentence:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True] * 3 + [False] * 2])[:rows]
    vectors = F.normalize(torch.randn(rows, SPACE, generator=generator), dim=-1)
    return torch.randn(rows, 5, 6, generator=generator), mask, vectors


def flat_data(count: int = 400) -> Tensor:
    """Returns unit vectors that vary along three directions, one after the other less."""
    torch.manual_seed(3)
    x = torch.zeros(count, SPACE)
    x[:, 0] = 1.0
    for axis, spread in ((4, 0.3), (2, 0.2), (6, 0.1)):
        x[:, axis] = spread * torch.randn(count)
    return F.normalize(x, dim=-1)


def diffusing() -> DiffusionPrior:
    torch.manual_seed(0)
    return DiffusionPrior(NUMBERS, WORDS, SPACE).eval()


def writing(**changes: Any) -> AutoregressivePrior:
    torch.manual_seed(0)
    return AutoregressivePrior(replace(NUMBERS, **changes), WORDS, SPACE).eval()


@torch.no_grad()
def test_the_diffusing_form_looks_at_all_but_padding_and_what_is_left_out() -> None:
    net, (tokens, mask, vectors) = diffusing(), sentence()
    x, t, known = torch.randn(3, SPACE), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([True, True, False])
    plain = net(x, t, (tokens, mask, vectors), known)
    assert plain.shape == (3, SPACE)
    wild = torch.where(mask[..., None], tokens, torch.full_like(tokens, 7.0))
    torch.testing.assert_close(net(x, t, (wild, mask, vectors), known), plain)
    for other in (
        net(x + 1, t, (tokens, mask, vectors), known),
        net(x, t + 0.05, (tokens, mask, vectors), known),
        net(x, t, (tokens, mask, vectors), ~known),
    ):
        assert bool(((other - plain).abs().amax(dim=1) > 1e-4).all())
    for other in (net(x, t, (tokens + 1, mask, vectors), known), net(x, t, (tokens, mask, -vectors), known)):
        moved = (other - plain).abs().amax(dim=1)
        assert bool((moved[:2] > 1e-4).all())
        assert moved[2] == 0
    alone = net(x[1:2], t[1:2], (tokens[1:2, :2], mask[1:2, :2], vectors[1:2]), known[1:2])
    torch.testing.assert_close(alone, plain[1:2], atol=1e-5, rtol=1e-5)


def test_components_are_those_of_the_data_the_widest_first() -> None:
    net, data = writing(components=3), flat_data()
    for rows in data.split(100):
        net.learn(rows, rows)
    axes, spread = net.get_buffer("axes"), net.get_buffer("spread")
    centred = data - data.mean(dim=0)
    _, widths, directions = torch.linalg.svd(centred.double() / len(data) ** 0.5, full_matrices=False)
    torch.testing.assert_close(spread, widths[:3].float(), rtol=1e-3, atol=1e-4)
    assert bool(((directions[:3].float() @ axes).diagonal().abs() > 0.999).all())
    assert [int(axis.abs().argmax()) for axis in axes.T] == [4, 2, 6]
    assert bool((axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all())
    back = net.vectors(net.rounded(data))
    inside = ((centred @ axes / spread).abs() < 2.9).all(dim=1)
    assert float((back - data)[inside].norm(dim=1).max()) < 0.2
    assert float((back - data)[inside].norm(dim=1).mean()) < 0.04


def test_components_stay_once_enough_was_seen() -> None:
    net, data = writing(), flat_data(2048)
    net.learn(data, data)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.learn(torch.randn(64, SPACE), torch.randn(64, SPACE))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_writing_takes_what_reading_holds_for_likely() -> None:
    """Levels picked one after the other, with keys kept, cost what the whole stream read at once says they do."""
    net, data = writing(), flat_data()
    net.learn(data, data)
    given = sentence()
    with torch.no_grad():
        net.tell.weight.mul_(30)
        draws = torch.rand(3, 5, generator=torch.Generator().manual_seed(2))
        made = net.write(given, draws)
        assert torch.equal(net.write(given, draws), made)
        torch.testing.assert_close(made.norm(dim=1), torch.ones(3))
        levels = net.rounded(made * 1.0)
        # read: the stream of the levels that were written, with the agreement that was asked for
        told, mask = net.reader.sentence(given)
        mean, spread = net._usual()
        better = torch.special.ndtri(0.5 + draws[:, 0] / 2)
        picked: list[Tensor] = []
        for component in range(net.components):
            before = [net.table(level) + net.places((net.components,))[i] for i, level in enumerate(picked)]
            stream = torch.cat((told, net._agreement(mean + spread * better), *(b[:, None] for b in before)), dim=1)
            whole = F.pad(mask, (0, stream.shape[1] - mask.shape[1]), value=True)
            below = net.tell(net.reader(stream, whole)[:, -1]).softmax(dim=-1).cumsum(dim=-1)
            picked.append((below <= draws[:, component + 1, None] * below[:, -1:]).sum(dim=-1).clamp(max=31))
        torch.testing.assert_close(net.vectors(torch.stack(picked, dim=1)), made, atol=1e-4, rtol=1e-4)
        assert levels.shape == (3, 4)
        alone = net.write((given[0][1:2, :2], given[1][1:2, :2], given[2][1:2]), draws[1:2])
        torch.testing.assert_close(alone, made[1:2], atol=1e-4, rtol=1e-4)


def test_the_cost_is_that_of_the_levels() -> None:
    net, data = writing(), flat_data()
    net.learn(data, data)
    with torch.no_grad():
        net.tell.weight.zero_()
        net.tell.bias.copy_(torch.linspace(0, 1, 32))
        known = torch.tensor([True, False, True])
        found = net.losses(data[:3], sentence(), known)
    cost = -net.tell.bias.detach().log_softmax(dim=0)[net.rounded(data[:3])].mean(dim=1)
    torch.testing.assert_close(found, cost)


@pytest.mark.parametrize("form", [diffusing, writing])
def test_every_part_learns(form: Any) -> None:
    net = form()
    data, given, known = flat_data()[:3], sentence(), torch.tensor([True, True, False])
    if isinstance(net, AutoregressivePrior):
        net.learn(data, given[2])
        net.losses(data, given, known).sum().backward()
    else:
        net(data, torch.rand(3), given, known).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownName, match="form of the prior named 'x'"):
        Prior(form="x")
    for name in ("width", "depth", "heads", "components", "levels", "candidates", "steps"):
        change: dict[str, Any] = {name: 0}
        with pytest.raises(InvalidValue, match=f"{name} of the prior is 0; give at least 1"):
            replace(NUMBERS, **change)
    with pytest.raises(InvalidValue, match="guidance -1 is at least 0"):
        replace(NUMBERS, guidance=-1)
