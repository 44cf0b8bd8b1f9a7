import pytest
import torch
from torch.nn import functional as F

from intermodal.objectives.masked import choose, features_loss, mask_words, shares_loss, words_loss
from intermodal.types import Batch


def rows(lengths: list[int], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def test_a_share_of_each_row_is_chosen_and_never_padding() -> None:
    mask = rows([20, 3, 0, 10], 20)
    chosen = choose(mask, 0.15)
    assert chosen.sum(dim=1).tolist() == [3, 1, 0, 2]
    assert not bool((chosen & ~mask).any())
    seen = torch.stack([choose(mask, 0.15) for _ in range(200)]).any(dim=0)
    assert torch.equal(seen, mask)


def test_words_are_hidden_exchanged_or_left_and_begin_and_end_never() -> None:
    torch.manual_seed(0)
    mask = rows([32, 12, 2, 0], 32).repeat(300, 1)
    ids = torch.randint(4, 1000, mask.shape)
    masked = mask_words(Batch(ids, mask), 0.3, 1000)
    ends = torch.zeros_like(mask)
    ends[:, 0] = True
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        ends[row, max(0, length - 1)] = True
    assert not bool((masked.chosen & (ends | ~mask)).any())
    assert masked.chosen.sum(dim=1)[:4].tolist() == [9, 3, 0, 0]
    assert not bool((masked.hidden & ~masked.chosen).any())
    changed = masked.batch.values != ids
    assert not bool((changed & (masked.hidden | ~masked.chosen)).any())
    total = int(masked.chosen.sum())
    assert int(masked.hidden.sum()) / total == pytest.approx(0.8, abs=0.03)
    assert int(changed.sum()) / total == pytest.approx(0.1, abs=0.03)
    assert torch.equal(masked.batch.mask, mask)


def test_losses_are_means_and_zero_where_there_is_nothing() -> None:
    logits, ids = torch.randn(5, 7, requires_grad=True), torch.tensor([0, 6, 2, 2, 1])
    torch.testing.assert_close(words_loss(logits, ids), F.cross_entropy(logits, ids))
    wanted = torch.rand(5, 7).softmax(dim=1)
    slow = (
        sum(float((w * (w.log() - p)).sum()) for w, p in zip(wanted, logits.log_softmax(1).detach(), strict=True)) / 5
    )
    assert float(shares_loss(logits, wanted).detach()) == pytest.approx(slow, rel=1e-4)
    assert float(shares_loss(wanted.log(), wanted)) == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(features_loss(logits, wanted), F.mse_loss(logits, wanted))
    for loss, other in ((words_loss, ids[:0]), (shares_loss, wanted[:0]), (features_loss, wanted[:0])):
        nothing = loss(logits[:0], other)
        assert float(nothing.detach()) == 0.0
        nothing.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0.0
