"""Run by torchrun: each process compares what it gets together with the other with what it gets alone."""

import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from intermodal.diorama.source import Diorama
from intermodal.systems.clip import build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.caching import measure
from intermodal.training.processes import ALONE, Processes, joined, parts
from intermodal.types import Batch

CPU = torch.device("cpu")


class Mean(nn.Module):
    """A system whose loss is a mean over rows and not known to be one of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.fit, self.idle, self.some = nn.Linear(2, 1), nn.Linear(1, 1), nn.Linear(1, 1)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        x = batch["x"].values
        extra = self.some(x[:, :1]).mean() * 0.5 if bool((x > 9).any()) else 0.0  # used by one process only
        return {"square": self.fit(x).square().mean() + extra}


def taken(model: nn.Module, batch: Mapping[str, Batch], micro_batch: int, among: Processes) -> tuple[float, Tensor]:
    """Returns the sum of the losses and all gradients after they were added up; a missing one counts as 7."""
    model.zero_grad(set_to_none=True)
    rows = len(next(iter(batch.values())))
    pieces = [{n: Batch(b.values[p], b.mask[p]) for n, b in batch.items()} for p in parts(rows, micro_batch, among)]
    losses, add = measure(model, pieces, "fp32", CPU, among)
    add(0.5)
    add_again = measure(model, pieces, "fp32", CPU, among)[1]
    add_again(0.5)  # as accumulation does
    among.add_gradients(model.parameters())
    grads = [torch.full_like(p, 7.0) if p.grad is None else p.grad for p in model.parameters()]
    return float(sum(losses.values())), torch.cat([g.flatten() for g in grads])


def main() -> None:
    with joined() as among:
        assert (among.count, among.first) == (2, among.rank == 0)
        torch.manual_seed(among.rank)  # each begins with other weights
        config = sized("tiny", {n: n for n in ("text", "image", "timeseries")}, WordTokenizer(words=Diorama.vocabulary))
        model = build(config).train()
        among.same_weights(model)
        samples = [dict(s) for s in Diorama("train", size=64).samples(range(12))]
        for sample in samples[6:]:
            del sample["timeseries"]  # the second process has none at all
        samples[11]["text"] = samples[0]["text"]
        batch = batches(model, samples)
        for micro_batch in (0, 4):
            loss, grads = taken(model, batch, micro_batch, among)
            alone, expected = taken(model, batch, 0, ALONE)
            assert abs(loss - alone) <= 1e-5 * alone, (loss, alone)
            assert (grads - expected).norm() <= 1e-5 * expected.norm(), (grads - expected).norm() / expected.norm()
        mean = Mean()
        among.same_weights(mean)
        x = torch.arange(24.0).reshape(12, 2)
        batch = {"x": Batch(x, torch.ones(12, 1, dtype=torch.bool))}
        loss, grads = taken(mean, batch, 0, among)
        assert grads[3:5].tolist() == [7.0, 7.0]  # unused everywhere: it has no gradient after either
        assert grads[5] != 7.0
        assert among.agreed(float(among.rank)) == 0.0
        assert among.mean(float(among.rank)) == 0.5
        assert not among.all(among.first)
        flags = among.gather(torch.tensor([among.first, True]))
        assert flags.tolist() == [True, True, False, True]
        sys.stdout.write(f"{among.rank}:equal\n")


if __name__ == "__main__":
    main()
