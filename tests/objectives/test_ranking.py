import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cosine_embedding_loss, normalize
from torch.nn.functional import margin_ranking_loss as torch_margin_ranking_loss

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives.ranking import cosine_loss, margin_ranking_loss, triplet_loss

MININGS = ("hard", "semi-hard", "all")


def rows(count, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=1)


def slow_triplet(similarity, positives, margin, mining):
    total = 0.0
    for s, p in ((similarity, positives), (similarity.T, positives.T)):
        for i in range(len(s)):
            for j in range(len(s[i])):
                if not p[i, j]:
                    continue
                others = [s[i, k] for k in range(len(s[i])) if not p[i, k]]
                if mining == "semi-hard":
                    others = [x for x in others if s[i, j] - margin < x < s[i, j]]
                if mining != "all":
                    others = [max(others)] if others else []
                total += sum(max(0.0, margin + x - s[i, j]) for x in others)
    return total / max(1, positives.sum())


@st.composite
def cases(draw):
    count_a, count_b = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    cells = draw(st.lists(st.booleans(), min_size=count_a * count_b, max_size=count_a * count_b))
    seed = draw(st.integers(0, 1000))
    return rows(count_a, seed=seed), rows(count_b, seed=seed + 1), torch.tensor(cells).reshape(count_a, count_b)


@given(cases(), st.floats(0.0, 1.5), st.sampled_from(MININGS))
def test_triplet_loss_equals_a_loop(case, margin, mining):
    a, b, positives = case
    expected = slow_triplet((a @ b.T).numpy(), positives.numpy(), margin, mining)
    assert triplet_loss(a, b, margin, mining, positives).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("mining", MININGS)
def test_the_diagonal_is_the_default(mining):
    a, b = rows(6), rows(6, seed=1)
    diagonal = torch.eye(6, dtype=torch.bool)
    assert triplet_loss(a, b, 0.3, mining) == triplet_loss(a, b, 0.3, mining, diagonal)
    assert triplet_loss(a, b, 0.3, mining) > 0


@pytest.mark.parametrize("mining", MININGS)
def test_gradients_of_the_triplet_loss(mining):
    a, b = rows(5).requires_grad_(), rows(4, seed=1).requires_grad_()
    positives = torch.rand(5, 4, generator=torch.Generator().manual_seed(3)) < 0.4
    assert torch.autograd.gradcheck(lambda a, b: triplet_loss(a, b, 0.6, mining, positives), (a, b))


@given(cases(), st.sampled_from(MININGS), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case, mining, random):
    a, b, positives = case
    i, j = list(range(len(a))), list(range(len(b)))
    random.shuffle(i)
    random.shuffle(j)
    there = triplet_loss(a, b, 0.4, mining, positives).item()
    assert triplet_loss(a[i], b[j], 0.4, mining, positives[i][:, j]).item() == pytest.approx(there, abs=1e-12)
    assert triplet_loss(b, a, 0.4, mining, positives.T).item() == pytest.approx(there, abs=1e-12)


def test_minings_differ_as_they_should():
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[0.5, 0.0], [0.7, 0.0], [0.4, 0.0], [0.1, 0.0]])
    positives = torch.tensor([[True, False, False, False]])
    assert triplet_loss(a, b, 0.2, "hard", positives).item() == pytest.approx(0.4)
    assert triplet_loss(a, b, 0.2, "semi-hard", positives).item() == pytest.approx(0.1)
    assert triplet_loss(a, b, 0.2, "all", positives).item() == pytest.approx(0.5)


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("positives", [torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)])
def test_nothing_to_compare_is_no_loss_and_no_nan(mining, positives):
    a = rows(3).requires_grad_()
    loss = triplet_loss(a, rows(3, seed=1), 0.2, mining, positives)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(a.grad) == 0


@given(st.integers(1, 8), st.floats(0.0, 2.0), st.integers(0, 100))
def test_margin_ranking_equals_torch(count, margin, seed):
    better, worse = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch_margin_ranking_loss(better, worse, torch.ones_like(better), margin=margin)
    assert margin_ranking_loss(better, worse, margin).item() == pytest.approx(expected.item(), abs=1e-12)


@given(st.integers(1, 8), st.floats(-1.0, 1.0), st.integers(0, 100))
def test_cosine_loss_equals_torch(count, margin, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, 3, generator=generator, dtype=torch.float64)
    together = torch.rand(count, generator=generator) < 0.5
    expected = cosine_embedding_loss(a, b, together.double() * 2 - 1, margin=margin)
    assert cosine_loss(a, b, together, margin).item() == pytest.approx(expected.item(), abs=1e-7)
    assert cosine_loss(3 * a, 0.2 * b, together, margin).item() == pytest.approx(expected.item(), abs=1e-7)


def test_gradients_of_the_pairwise_losses():
    a, b = rows(5).requires_grad_(), rows(5, seed=1).requires_grad_()
    target = torch.tensor([True, False, False, True, False])
    assert torch.autograd.gradcheck(lambda a, b: cosine_loss(a, b, target, 0.1), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: margin_ranking_loss(a, b, 0.25), (a, b))


def test_nothing_at_all_is_no_loss():
    assert margin_ranking_loss(torch.zeros(0), torch.zeros(0)).item() == 0.0
    assert cosine_loss(rows(0), rows(0), torch.zeros(0, dtype=torch.bool)).item() == 0.0
    assert triplet_loss(rows(0), rows(0)).item() == 0.0
    zeros = torch.zeros(2, 3)
    assert cosine_loss(zeros, zeros, torch.tensor([True, False])).item() == 0.5


def test_it_is_computed_in_fp32_whatever_surrounds_it():
    a, b = rows(16).float(), rows(16, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = triplet_loss(a, b)
    assert inside == triplet_loss(a, b)


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidValue, match="3 rows and b 2"):
        triplet_loss(rows(3), rows(2))
    for wrong in (-0.1, float("nan")):
        with pytest.raises(InvalidValue, match="margin is"):
            triplet_loss(rows(3), rows(3), margin=wrong)
        with pytest.raises(InvalidValue, match="margin is"):
            margin_ranking_loss(torch.ones(2), torch.ones(2), wrong)
    with pytest.raises(InvalidValue, match="-1 to 1"):
        cosine_loss(rows(2), rows(2), torch.ones(2, dtype=torch.bool), 1.5)


def test_another_mining_is_refused():
    """Asked of the plain function: under the shape checks of the tests the wrong word would not get that far."""
    plain = getattr(triplet_loss, "__wrapped__", triplet_loss)
    with pytest.raises(UnknownName, match="hard, semi-hard"):
        plain(rows(2), rows(2), 0.2, "hardest")
