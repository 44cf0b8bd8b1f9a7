import pytest
import torch
from torch import nn

from intermodal.errors import InvalidValue, UnknownName
from intermodal.training.optimizer import BETAS, optimizers, rate


def test_every_parameter_is_moved_by_exactly_one_and_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2), nn.LayerNorm(2), nn.Conv1d(2, 2, 3))
    muon, adamw = optimizers(model, "muon", 1e-3, 5e-3, 0.1)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [model[1].weight.shape]
    moved = [id(p) for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
    assert sorted(moved) == sorted(id(p) for p in model.parameters())
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            assert all((p.dim() > 1) == (group["weight_decay"] == 0.1) for p in group["params"])
    assert (muon.param_groups[0]["peak"], adamw.param_groups[0]["peak"]) == (5e-3, 1e-3)
    assert len(optimizers(model, "adamw", 1e-3, 5e-3, 0.1)) == 1
    with pytest.raises(UnknownName, match="'sgd'; use one of: adamw, muon"):
        optimizers(model, "sgd", 1e-3, 5e-3, 0.1)


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(InvalidValue, match="every parameter is frozen"):
        optimizers(nn.Linear(2, 2).requires_grad_(False), "muon", 1e-3, 5e-3, 0.1)


def test_rate_rises_then_falls_as_a_cosine() -> None:
    rises = [rate(0.0, step, 10) for step in range(10)]
    assert rises == sorted(rises)
    assert rises[-1] == 1.0
    falls = [rate(share / 10, 100, 10) for share in range(11)]
    assert falls == sorted(falls, reverse=True)
    assert falls[5] == pytest.approx((1 + 0.01) / 2)
    assert falls[-1] == pytest.approx(0.01)
    assert torch.isfinite(torch.tensor(falls)).all()


def test_one_pass_over_each_weight_is_adamw() -> None:
    def trained(fused: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(6, 4)
        made = optimizers(layer, "adamw", 1e-2, 1.0, 0.1)[0]
        assert made.param_groups[0]["fused"]
        if not fused:
            made = torch.optim.AdamW(
                [{k: v for k, v in group.items() if k in ("params", "weight_decay")} for group in made.param_groups],
                lr=1e-2,
                betas=BETAS,
                fused=False,
            )
        for step in range(5):
            layer.zero_grad()
            layer(torch.randn(3, 6, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            made.step()
        return layer.weight.detach()

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-5, atol=1e-7)
