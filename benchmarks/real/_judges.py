"""Classifiers that judge what a model made: trained apart, on real pictures or recordings alone.

A judge looks at the whole of a picture, or listens to the whole of a recording, and names one class for each slot: a
digit has one slot, a sentence of six words has six. They are small on purpose: a minute or two of training each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 64


class Looker(nn.Module):
    """Pictures to one class per slot: convolutions, brightness alone."""

    def __init__(self, slots: Sequence[int]) -> None:
        """Builds it for so many classes in each slot."""
        super().__init__()
        self.slots = tuple(slots)
        steps: list[nn.Module] = []
        for before, after in ((1, 24), (24, 48), (48, 96)):
            steps += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.steps = nn.Sequential(*steps, nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Dropout(0.3))
        self.heads = nn.ModuleList(nn.Linear(96 * 16, size) for size in slots)

    def forward(self, values: Tensor, mask: Tensor) -> list[Tensor]:
        """Returns the logits of each slot for pictures ``(B, 3, H, W)``."""
        x = self.steps(values.mean(dim=1, keepdim=True))
        return [head(x) for head in self.heads]

    def varied(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the pictures moved by up to two pixels."""
        down, across = torch.randint(-2, 3, (2,)).tolist()
        return values.roll((down, across), (2, 3)), mask


class Listener(nn.Module):
    """Log-mel spectrograms to one class per slot: convolutions in time, then what each slot attends to."""

    def __init__(self, slots: Sequence[int], mels: int, width: int = 160) -> None:
        """Builds it for so many classes in each slot."""
        super().__init__()
        self.slots, self.mels = tuple(slots), mels
        self.steps = nn.ModuleList()
        for before, step in ((mels, 1), (width, 2), (width, 1), (width, 2), (width, 1)):
            convolution = nn.Conv1d(before, width, 5, step, 2)
            self.steps.append(nn.Sequential(convolution, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1)))
        self.attends = nn.Linear(width + 6, len(self.slots))
        self.out = nn.Dropout(0.3)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in slots)

    def forward(self, values: Tensor, mask: Tensor) -> list[Tensor]:
        """Returns the logits of each slot for spectrograms ``(B, C, mels, frames)``; ``mask`` is of frames ``(B, F)``.

        A recording's own mean and spread are taken away first, so that loudness says nothing.
        """
        x, weight, _ = self.attended(values, mask)
        found = self.out(torch.einsum("bts,bct->bsc", weight, x))
        return [head(found[:, i]) for i, head in enumerate(self.heads)]

    @torch.no_grad()
    def centres(self, values: Tensor, mask: Tensor) -> Tensor:
        """Returns where each slot listens ``(B, slots)``, as a share of the recording."""
        _, weight, place = self.attended(values, mask)
        return torch.einsum("bts,bt->bs", weight, place)

    def attended(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what is heard ``(B, D, T)``, how much of it each slot takes ``(B, T, slots)``, and where T lie."""
        real = mask[:, None].to(values)
        x = values.mean(dim=1)
        count = real.sum(dim=2, keepdim=True) * self.mels
        mean = (x * real).sum(dim=(1, 2), keepdim=True) / count
        spread = (((x - mean) * real).square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
        x = (x - mean) / (spread + 1e-3) * real
        for step in self.steps:
            x = step(x)
            real = F.interpolate(real, x.shape[2])
            x = x * real
        place = real.cumsum(dim=2) / real.sum(dim=2, keepdim=True)  # how far into the recording, 0 to 1
        waves = torch.cat([f(place * n * torch.pi) for n in (1, 2, 3) for f in (torch.sin, torch.cos)], dim=1)
        weight = self.attends(torch.cat((x, waves), dim=1).transpose(1, 2)).masked_fill(real[:, 0, :, None] == 0, -1e4)
        return x, weight.softmax(dim=1), place[:, 0]

    def varied(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns spectrograms faster or slower, higher or lower, with noise, and with stretches and bands missing."""
        frames, mels = values.shape[3], values.shape[2]
        length = int(frames * (0.85 + 0.3 * torch.rand(())))
        high = int(mels * (0.95 + 0.1 * torch.rand(())))
        x = F.interpolate(values, (high, length), mode="bilinear")
        x = F.pad(x, (0, 0, 0, max(0, mels - high)), value=float(values.min()))[:, :, :mels]
        x = x + torch.randn_like(x) * 0.2 * torch.rand(len(x), 1, 1, 1)
        for axis, size in ((2, mels // 8), (3, length // 12)):
            start = torch.randint(0, x.shape[axis] - size, ())
            x = x.index_fill(axis, torch.arange(int(start), int(start) + size), float(values.mean()))
        return x, F.interpolate(mask[:, None].float(), length)[:, 0] > 0.5


def rows(preprocessor: Any, items: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Returns the values of items, and which of their frames are real (of a picture: all)."""
    batch = preprocessor(items)
    each = getattr(preprocessor, "patch_frames", 1)
    return batch.values, batch.mask.repeat_interleave(each, dim=1)


def taught(judge: nn.Module, values: Tensor, mask: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """Returns ``judge``, taught by so many steps on real items whose classes are ``labels (N, slots)``."""
    judge.train()
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    order = torch.randperm(len(values))
    for step in range(steps):
        at = step * BATCH % len(values)
        if at + BATCH > len(values):
            order = torch.randperm(len(values))
        chosen = order[at : at + BATCH]
        longest = max(1, int(mask[chosen].sum(dim=1).max()))
        part, real = values[chosen], mask[chosen]
        if isinstance(judge, Listener):
            part, real = part[..., :longest], real[:, :longest]
        logits = judge(*judge.varied(part, real))
        terms = [F.cross_entropy(one, labels[chosen, i], label_smoothing=0.05) for i, one in enumerate(logits)]
        optimizer.zero_grad()
        torch.stack(terms).mean().backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def judged(judge: nn.Module, preprocessor: Any, items: Sequence[Any]) -> Tensor:
    """Returns the class of each slot ``(N, slots)`` that a judge sees or hears in items."""
    found = []
    for start in range(0, len(items), BATCH):
        logits = judge.eval()(*rows(preprocessor, items[start : start + BATCH]))
        found.append(torch.stack([one.argmax(dim=1) for one in logits], dim=1))
    return torch.cat(found)


def kept_judge(path: Path, judge: nn.Module, items: Any, preprocessor: Any, steps: int) -> nn.Module:
    """Returns a judge from ``path``, taught and written there first if it is not.

    Args:
        path: of its weights.
        judge: with fresh weights.
        items: called for the real items and their classes ``(N, slots)``, if it is to be taught.
        preprocessor: of the items.
        steps: of teaching.
    """
    from safetensors.torch import load_file, save_file

    if not path.exists():
        torch.manual_seed(0)
        real, labels = items()
        taught(judge, *rows(preprocessor, real), labels, steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        save_file(judge.state_dict(), beside)
        beside.rename(path)
    judge.load_state_dict(load_file(path))
    return judge.eval()
