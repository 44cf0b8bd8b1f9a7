"""Matrices moved together are moved as one by one."""

import pytest
import torch
from torch import nn

import intermodal.training.muon as muon_module
from intermodal.training.muon import Muon, orthogonal

SETTINGS = {"lr": 5e-3, "weight_decay": 0.05, "momentum": 0.95}


def matrices() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(48, 16), (16, 16), (16, 48), (48, 16), (7, 16), (16, 16)]
    return [nn.Parameter(torch.randn(shape, generator=generator) * 0.05) for shape in shapes]


@pytest.mark.parametrize("together", [2**24, 1000])
def test_the_update_is_torchs(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(muon_module, "TOGETHER", together)
    ours, theirs = matrices(), matrices()
    first, second = Muon(ours, **SETTINGS), torch.optim.Muon(theirs, **SETTINGS, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours[4].grad = theirs[4].grad = None
        before = [a.detach().clone() for a in ours]
        first.step()
        second.step()
        for a, b, old in zip(ours, theirs, before, strict=True):
            assert (a is ours[4]) == bool((a == old).all())
            assert (a - b).norm().item() <= 0.02 * (b - old).norm().item()
    second.load_state_dict(first.state_dict())
    state = first.state_dict()["state"]
    assert set(state) == {0, 1, 2, 3, 5}
    assert all(set(one) == {"momentum_buffer"} for one in state.values())


def test_rows_come_out_nearly_orthonormal() -> None:
    torch.manual_seed(0)
    stack = torch.randn(3, 8, 20)
    found = orthogonal(stack, (3.4445, -4.775, 2.0315), 5, 1e-7).float()
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    _, _, basis = torch.linalg.svd(stack, full_matrices=False)
    torch.testing.assert_close(found @ basis.mT @ basis, found, rtol=0, atol=0.05)
