"""The loop on a small system: what is asked of every run, killed or not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intermodal.errors import InvalidValue, Unsupported
from intermodal.training.checkpoint import checkpoints, load_checkpoint
from intermodal.training.log import read_log
from intermodal.training.loop import Options, Progress, clip, train
from intermodal.training.optimizer import optimizers
from intermodal.types import Batch

QUIET = {"precision": "fp32", "warmup_steps": 2, "log_every": 1, "checkpoint_every": 5}


class Line(nn.Module):
    """Learns y = w x with dropout, so that the random numbers of the loop matter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fit = nn.Linear(4, 1)
        self.drop = nn.Dropout(0.3)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        x = batch["x"].values
        return {"square": (self.fit(self.drop(x[:, :4])) - x[:, 4:]).square().mean()}


@dataclass
class Numbered:
    """Batches that depend on their number alone."""

    batch_size: int = 8
    broken: frozenset[int] = frozenset()

    def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
        for step in range(first, last):
            x = torch.randn(self.batch_size, 5, generator=torch.Generator().manual_seed(step))
            if step in self.broken:
                x[0, 0] = float("nan")
            yield {"x": Batch(x, torch.ones(self.batch_size, 1, dtype=torch.bool))}


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Stop(Exception):
    """Stands for a kill."""


def killer(step: int):
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return on_step


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    options = Options(steps=20, **QUIET)
    whole = Line()
    train(whole, Numbered(), options, tmp_path / "whole")
    first = Line()
    with pytest.raises(Stop):
        train(first, Numbered(), options, tmp_path / "cut", on_step=killer(13))
    assert [p.name for p in checkpoints(tmp_path / "cut")] == ["step-00000005", "step-00000010"]
    again = Line()
    end = train(again, Numbered(), options, tmp_path / "cut", resume=True)
    assert end.step == 20
    assert torch.equal(weights(again), weights(whole))
    steps = [row["step"] for row in read_log(tmp_path / "cut") if row["kind"] == "step"]
    assert steps == list(range(1, 21))
    losses = [[r["square"] for r in read_log(tmp_path / run) if r["kind"] == "step"] for run in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_a_run_is_not_overwritten_by_another(tmp_path: Path) -> None:
    train(Line(), Numbered(), Options(steps=2, **QUIET), tmp_path)
    with pytest.raises(InvalidValue, match="step-00000002: go on with --resume"):
        train(Line(), Numbered(), Options(steps=2, **QUIET), tmp_path)


def test_interrupt_keeps_what_was_done(tmp_path: Path) -> None:
    def on_step(progress: Progress) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    model = Line()
    with pytest.raises(KeyboardInterrupt):
        train(model, Numbered(), Options(steps=20, **QUIET), tmp_path, on_step=on_step)
    other = Line()
    state = load_checkpoint(checkpoints(tmp_path)[-1], other, optimizers(other, "muon", 1e-3, 5e-3, 0.05))
    assert state["step"] == 7
    assert torch.equal(weights(other), weights(model))


def test_accumulation_averages_gradients(tmp_path: Path) -> None:
    class Steady(Line):
        def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
            x = batch["x"].values
            return {"square": (self.fit(x[:, :4]) - x[:, 4:]).square().mean()}

    @dataclass
    class Halves(Numbered):
        batch_size: int = 4

        def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
            for half in range(first, last):
                whole = next(iter(Numbered().steps(half // 2, half // 2 + 1)))["x"]
                part = slice(0, 4) if half % 2 == 0 else slice(4, 8)
                yield {"x": Batch(whole.values[part], whole.mask[part])}

    one, two = Steady(), Steady()
    train(one, Numbered(), Options(steps=5, **QUIET), tmp_path / "a")
    train(two, Halves(), Options(steps=5, accumulate=2, **QUIET), tmp_path / "b")
    torch.testing.assert_close(weights(one), weights(two), rtol=1e-5, atol=1e-6)


class Pairs(nn.Module):
    """Fits rows to each other by a loss of all of them, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fit = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.3)

    def represent(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        x = batch["x"].values
        return {"one": self.fit(self.drop(x[:, :4])), "other": self.fit(x[:, 1:])}

    def losses_of(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = rows["one"] @ rows["other"].T
        return {"pairs": nn.functional.cross_entropy(logits, torch.arange(len(logits)))}

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        return self.losses_of(self.represent(batch))


def test_a_batch_in_pieces_is_the_same_run_also_when_resumed(tmp_path: Path) -> None:
    options = {**QUIET, "checkpoint_every": 3, "optimizer": "adamw"}
    plain, cached, again = Pairs(), Pairs(), Pairs()
    for model in (plain, cached):
        model.drop.p = 0.0
    train(plain, Numbered(), Options(steps=6, **options), tmp_path / "plain")
    train(cached, Numbered(), Options(steps=6, micro_batch=3, **options), tmp_path / "cached")
    torch.testing.assert_close(weights(cached), weights(plain), rtol=1e-4, atol=1e-6)
    whole, first = Pairs(), Pairs()
    train(whole, Numbered(), Options(steps=6, micro_batch=3, **options), tmp_path / "whole")
    with pytest.raises(Stop):
        train(first, Numbered(), Options(steps=6, micro_batch=3, **options), tmp_path / "cut", on_step=killer(5))
    train(again, Numbered(), Options(steps=6, micro_batch=3, **options), tmp_path / "cut", resume=True)
    assert torch.equal(weights(again), weights(whole))
    assert not torch.equal(weights(whole), weights(cached))  # dropout was there


def test_pieces_are_refused_where_the_loss_is_not_one_of_rows(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="Line cannot be trained in 2 pieces"):
        train(Line(), Numbered(), Options(steps=2, micro_batch=4, **QUIET), tmp_path)


def test_minutes_end_a_run_and_its_schedule(tmp_path: Path) -> None:
    seen: list[float] = []
    end = train(
        Line(),
        Numbered(),
        Options(steps=10**6, minutes=0.005, **{**QUIET, "checkpoint_every": 0}),
        tmp_path,
        on_step=lambda p: seen.append(p.share),
    )
    assert 1 < end.step < 10**6
    assert seen == sorted(seen)
    rates = [row["rate"] for row in read_log(tmp_path) if row["kind"] == "step"]
    assert rates[-1] < 0.2 * max(rates)


def test_evaluation_is_logged_at_the_end_and_on_the_way(tmp_path: Path) -> None:
    train(
        Line(),
        Numbered(),
        Options(steps=6, evaluate_every=4, **QUIET),
        tmp_path,
        evaluate=lambda step: {"score": step / 10},
    )
    found = [(row["step"], row["score"]) for row in read_log(tmp_path) if row["kind"] == "evaluation"]
    assert found == [(4, 0.4), (6, 0.6)]


def test_steps_that_are_not_finite_are_skipped_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    model = Line()
    train(model, Numbered(broken=frozenset({3})), Options(steps=6, **QUIET), tmp_path, say=said.append)
    assert weights(model).isfinite().all()
    assert [text for text in said if "nan at step 3" in text]
    assert any(row["kind"] == "warning" for row in read_log(tmp_path))


def test_a_run_that_is_broken_for_good_ends(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="in a row were not finite"):
        train(Line(), Numbered(broken=frozenset(range(100))), Options(steps=50, **QUIET), tmp_path, say=lambda _: None)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"learning_rate": 0.0}, {"minutes": -1.0}, {"micro_batch": -3}])
def test_options_explain_what_is_wrong(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=str(next(iter(changes.values())))):
        Options(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("norm_max", "length"), [(1.0, 1.0), (100.0, 13.0)])
def test_only_a_gradient_that_is_too_long_is_cut(norm_max: float, length: float) -> None:
    owners = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    owners[0].grad, owners[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 12.0])
    assert clip(owners, norm_max) == pytest.approx(13.0)
    found = torch.cat([p.grad for p in owners if p.grad is not None])
    assert float(found.norm()) == pytest.approx(length, rel=1e-5)
