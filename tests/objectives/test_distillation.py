"""Soft labels, the slow copy and the queue, against plain loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from intermodal.objectives.contrastive import info_nce
from intermodal.objectives.distillation import Queue, contrast, follow, soft_contrast, soft_targets


def rows(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_targets_mix_what_the_data_says_with_what_the_slow_copy_says() -> None:
    similarity = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    positives = torch.tensor([[True, False], [True, True]])
    hard = soft_targets(similarity, positives, 0.0)
    assert hard.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    mixed = soft_targets(similarity, positives, 0.4)
    torch.testing.assert_close(mixed, torch.tensor([[0.6 + 0.4 * 0.25, 0.4 * 0.75], [0.5, 0.5]]))


def test_the_loss_is_a_divergence() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 1.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0]])
    expected = sum(
        t * (math.log(t) - float(logits[i].detach().log_softmax(0)[j]))
        for i, row in enumerate(targets.tolist())
        for j, t in enumerate(row)
        if t
    )
    assert float(soft_contrast(logits, targets).detach()) == pytest.approx(expected / 3, rel=1e-5)
    own = logits.detach().softmax(dim=1)
    assert float(soft_contrast(own.log(), own)) == pytest.approx(0.0, abs=1e-6)
    soft_contrast(logits, targets).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=1) - targets) / 3, atol=1e-6, rtol=1e-5)


def test_without_a_slow_copy_it_is_info_nce() -> None:
    a, b, scale = rows(5, 0), rows(5, 1), torch.tensor(7.0)
    keys = torch.arange(5)
    torch.testing.assert_close(contrast((a, b), (a, b), keys, scale, 0.0), info_nce(a, b, 7.0), atol=1e-5, rtol=1e-5)


def test_each_side_is_compared_with_the_slow_other_side_and_the_queue() -> None:
    a, b, slow_a, slow_b = (rows(4, seed) for seed in range(4))
    past_a, past_b = rows(3, 5), rows(3, 6)
    keys, past = torch.tensor([1, 2, 3, 1]), torch.tensor([9, 2, 8])
    queue = Queue(3, 6)
    queue.add(past_a, past_b, past)
    scale, share = torch.tensor(5.0), 0.3
    total = 0.0
    for own, slow, others in ((a, slow_a, torch.cat((slow_b, past_b))), (b, slow_b, torch.cat((slow_a, past_a)))):
        every = torch.cat((keys, past))
        for i in range(4):
            right = (every == keys[i]).float()
            target = share * (5 * slow[i] @ others.T).softmax(0) + (1 - share) * right / right.sum()
            logs = (5 * own[i] @ others.T).log_softmax(0)
            total += float((torch.xlogy(target, target) - target * logs).sum()) / 8
    found = contrast((a, b), (slow_a, slow_b), keys, scale, share, queue)
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_the_slow_copy_follows() -> None:
    model, slow = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    before = slow.weight.detach().clone()
    follow(slow, model, 0.9)
    torch.testing.assert_close(slow.weight, 0.9 * before + 0.1 * model.weight)
    follow(slow, model, 0.0)
    torch.testing.assert_close(slow.weight, model.weight)


def test_the_queue_holds_the_last_rows() -> None:
    queue = Queue(4, 6)
    assert [len(part) for part in queue.held] == [0, 0, 0]
    every = rows(7, 0)
    for start in (0, 3, 6):
        stop = min(start + 3, 7)
        queue.add(every[start:stop], -every[start:stop], torch.arange(start, stop))
    one, other, keys = queue.held
    assert sorted(keys.tolist()) == [3, 4, 5, 6]
    for vector, opposite, key in zip(one, other, keys.tolist(), strict=True):
        torch.testing.assert_close(vector, every[key])
        torch.testing.assert_close(opposite, -every[key])
    queue.add(every, every, torch.arange(7))
    assert sorted(queue.held[2].tolist()) == [3, 4, 5, 6]
    copy = Queue(4, 6)
    copy.load_state_dict(queue.state_dict())
    assert torch.equal(copy.held[0], queue.held[0])
    none = Queue(0, 6)
    none.add(every, every, torch.arange(7))
    assert len(none.held[0]) == 0
