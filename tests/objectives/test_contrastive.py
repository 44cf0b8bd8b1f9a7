import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from intermodal.errors import InvalidValue, UnknownName
from intermodal.objectives import contrastive, tiles
from intermodal.objectives.contrastive import info_nce, sigmoid_loss


def rows(count, width=5, seed=0, dtype=torch.float64):
    made = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(made, dim=1).to(dtype)


def slow_direction(logits, positives, weights, transposed):
    """Returns one direction of InfoNCE, pair by pair; ``weights`` belong to the rows of the matrix as it was."""
    total, weight_sum = 0.0, 0.0
    for i, row in enumerate(logits):
        log_sum = math.log(sum(math.exp(x) for x in row))
        partners = [j for j in range(len(row)) if positives[i, j]]
        for j in partners:
            weight = weights[j if transposed else i] / len(partners)
            total += weight * (log_sum - row[j])
            weight_sum += weight
    return total / weight_sum if weight_sum else 0.0


def slow_info_nce(a, b, scale, positives, weights):
    logits = scale * a.numpy() @ b.numpy().T
    there = slow_direction(logits, positives.numpy(), weights.numpy(), transposed=False)
    back = slow_direction(logits.T, positives.numpy().T, weights.numpy(), transposed=True)
    return (there + back) / 2


def slow_sigmoid(a, b, scale, bias, positives):
    total = 0.0
    for i, x in enumerate(a.numpy()):
        for j, y in enumerate(b.numpy()):
            sign = 1.0 if positives[i, j] else -1.0
            total += math.log1p(math.exp(-sign * (scale * float(np.dot(x, y)) + bias)))
    return total / len(a)


@st.composite
def cases(draw):
    count_a, count_b = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    cells = draw(st.lists(st.booleans(), min_size=count_a * count_b, max_size=count_a * count_b))
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=count_a, max_size=count_a))
    seed = draw(st.integers(0, 1000))
    return (
        rows(count_a, seed=seed),
        rows(count_b, seed=seed + 1),
        torch.tensor(cells).reshape(count_a, count_b),
        torch.tensor(weights, dtype=torch.float64),
    )


@given(cases(), st.floats(0.1, 20.0), st.sampled_from([None, 1, 2, 5]))
def test_info_nce_equals_a_loop(case, scale, block):
    a, b, positives, weights = case
    found = info_nce(a, b, scale, positives, weights, block)
    assert found.item() == pytest.approx(slow_info_nce(a, b, scale, positives, weights), rel=1e-9, abs=1e-9)
    unweighted = info_nce(a, b, torch.tensor(scale), positives, block=block)
    assert unweighted.item() == pytest.approx(
        slow_info_nce(a, b, torch.tensor(scale).item(), positives, torch.ones_like(weights)), rel=1e-6, abs=1e-6
    )


@given(cases(), st.floats(0.1, 20.0), st.floats(-12.0, 2.0))
def test_sigmoid_loss_equals_a_loop(case, scale, bias):
    a, b, positives, _ = case
    expected = slow_sigmoid(a, b, scale, bias, positives)
    for small in (0, contrastive.SMALL):  # in tiles, and as it stands in the paper
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contrastive, "SMALL", small)
            assert sigmoid_loss(a, b, scale, bias, positives).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("block", [None, 3])
def test_the_diagonal_is_the_default(block):
    a, b, diagonal = rows(7), rows(7, seed=1), torch.eye(7, dtype=torch.bool)
    weights = torch.arange(7, dtype=torch.float64)
    targets = torch.arange(7)
    logits = 9.0 * a @ b.T
    plain = (
        torch.nn.functional.cross_entropy(logits, targets) + torch.nn.functional.cross_entropy(logits.T, targets)
    ) / 2
    assert info_nce(a, b, 9.0, block=block).item() == pytest.approx(plain.item(), rel=1e-12)
    assert info_nce(a, b, 9.0, diagonal, block=block).item() == pytest.approx(plain.item(), rel=1e-12)
    weighted = info_nce(a, b, 9.0, diagonal, weights).item()
    assert info_nce(a, b, 9.0, None, weights, block).item() == pytest.approx(weighted, rel=1e-12)
    assert sigmoid_loss(a, b, 9.0, -5.0) == sigmoid_loss(a, b, 9.0, -5.0, diagonal)


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("several", [False, True])
def test_gradients_of_info_nce(block, several):
    a, b = rows(5, 3).requires_grad_(), rows(5, 3, seed=1).requires_grad_()
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    positives = torch.eye(5, dtype=torch.bool) if several else None
    if positives is not None:
        positives[0, 3] = True
        positives[4, 4] = False
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b, s: info_nce(a, b, s, positives, weights, block), (a, b, scale))


def test_gradients_of_sigmoid_loss():
    a, b = rows(4, 3).requires_grad_(), rows(6, 3, seed=1).requires_grad_()
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (4.0, -3.0))
    positives = torch.rand(4, 6) < 0.3
    assert torch.autograd.gradcheck(lambda *x: sigmoid_loss(*x, positives), (a, b, scale, bias))


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case, random):
    a, b, positives, weights = case
    i, j = list(range(len(a))), list(range(len(b)))
    random.shuffle(i)
    random.shuffle(j)
    there = info_nce(a, b, 3.0, positives, weights).item()
    assert info_nce(a[i], b[j], 3.0, positives[i][:, j], weights[i]).item() == pytest.approx(there, abs=1e-12)
    swapped = info_nce(b, a, 3.0, positives.T).item()
    assert info_nce(a, b, 3.0, positives).item() == pytest.approx(swapped, abs=1e-12)
    shuffled = sigmoid_loss(a[i], b[j], 3.0, -1.0, positives[i][:, j]).item()
    assert sigmoid_loss(a, b, 3.0, -1.0, positives).item() == pytest.approx(shuffled, abs=1e-12)


def test_rows_without_partner_are_only_negatives():
    a, b = rows(3), rows(3, seed=1)
    positives = torch.eye(3, dtype=torch.bool)
    positives[2, 2] = False
    logits = 5.0 * a @ b.T
    there = -logits.log_softmax(1).diagonal()[:2].mean()
    back = -logits.log_softmax(0).diagonal()[:2].mean()
    assert info_nce(a, b, 5.0, positives).item() == pytest.approx((there + back).item() / 2, rel=1e-12)


def test_chance_is_the_logarithm_of_the_batch():
    same = rows(1).expand(32, -1)
    assert info_nce(same, same, 10.0).item() == pytest.approx(math.log(32))


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_without_negatives_teaches_nothing(count):
    a, b = rows(count).requires_grad_(), rows(count, seed=1).requires_grad_()
    loss = info_nce(a, b, 10.0)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(a.grad) == torch.count_nonzero(b.grad) == 0


def test_nothing_positive_is_no_loss_and_no_nan():
    a = rows(3).requires_grad_()
    loss = info_nce(a, rows(4, seed=1), 10.0, torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(a.grad) == 0


def test_extreme_scales_stay_finite():
    a, b = rows(8, dtype=torch.float32).requires_grad_(), rows(8, seed=1, dtype=torch.float32)
    for loss in (info_nce(a, b, 1e4), info_nce(a, -a, 1e4), sigmoid_loss(a, b, 1e4, 0.0)):
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(a.grad).all()
    assert info_nce(a, a, 1e4).item() == 0.0


def test_it_is_computed_in_fp32_whatever_surrounds_it():
    a, b = rows(16, dtype=torch.float32), rows(16, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside, inside_sigmoid = info_nce(a, b, 50.0), sigmoid_loss(a, b, 50.0, -10.0)
    assert inside == info_nce(a, b, 50.0)
    assert inside_sigmoid == sigmoid_loss(a, b, 50.0, -10.0)
    halves = info_nce(a.bfloat16(), b.bfloat16(), 50.0)
    assert halves.dtype == torch.float32
    assert halves == info_nce(a.bfloat16().float(), b.bfloat16().float(), 50.0)


def test_blocks_give_the_same_gradient_and_hold_less():
    a, b = rows(300, dtype=torch.float32).requires_grad_(), rows(300, seed=1, dtype=torch.float32).requires_grad_()
    held = []

    def largest(tensor):
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(largest, lambda tensor: tensor):
        blocked = info_nce(a, b, 20.0, block=32)
    gradients = torch.autograd.grad(blocked, (a, b))
    whole = torch.autograd.grad(info_nce(a, b, 20.0), (a, b))
    for one, other in zip(gradients, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert max(held) < 300 * 32


def test_unequal_lengths_need_positives():
    for loss in (lambda: info_nce(rows(2), rows(3), 1.0), lambda: sigmoid_loss(rows(2), rows(3), 1.0, 0.0)):
        with pytest.raises(InvalidValue, match="2 rows and b 3"):
            loss()
    with pytest.raises(InvalidValue, match="block is 0"):
        info_nce(rows(2), rows(2), 1.0, block=0)


def test_shapes_that_would_spread_silently_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    nce, sigmoid = (getattr(f, "__wrapped__", f) for f in (info_nce, sigmoid_loss))
    column = torch.ones(3, 1, dtype=torch.bool)
    with pytest.raises(InvalidValue, match="one truth value per pair"):
        nce(rows(3), rows(3), 1.0, column)
    with pytest.raises(InvalidValue, match="one truth value per pair"):
        sigmoid(rows(3), rows(3), 1.0, 0.0, column)
    with pytest.raises(InvalidValue, match="one weight per row"):
        nce(rows(3), rows(3), 1.0, None, torch.ones(1))


# ---- Tiles, groups, precision


def plain_info_nce(a, b, scale):
    logits, targets = scale * a @ b.T, torch.arange(len(a))
    there = torch.nn.functional.cross_entropy(logits, targets)
    return (there + torch.nn.functional.cross_entropy(logits.T, targets)) / 2


def gap(found, expected):
    """Returns the largest relative distance of some gradients."""
    return max(float((x - y).norm() / y.norm()) for x, y in zip(found, expected, strict=True))


def leaves(a, b, scale):
    return [x.clone().requires_grad_() for x in (a, b, torch.as_tensor(scale, dtype=a.dtype))]


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "TILE", (3, 4))
    monkeypatch.setattr(tiles, "HELD", 0)
    monkeypatch.setattr(contrastive, "SMALL", 0)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 12, 23])
@pytest.mark.parametrize("scale", [5.0, 100.0, 300.0])
def test_tiles_equal_the_whole_matrix(small_tiles, count, scale):
    made = leaves(rows(count), rows(count, seed=1), scale)
    tiled, plain = info_nce(*made), plain_info_nce(*made)
    torch.testing.assert_close(tiled, plain, atol=1e-12, rtol=1e-10)
    found, expected = (torch.autograd.grad(loss, made) for loss in (tiled, plain))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("several", [False, True])
def test_gradients_of_tiles(small_tiles, several):
    made = leaves(rows(7, 3), rows(7, 3, seed=1), 4.0)
    positives = (torch.arange(7)[:, None] // 2 == torch.arange(7) // 2) if several else None
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b, s: info_nce(a, b, s, positives, weights), made)
    bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: sigmoid_loss(*x, positives), [*made, bias])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(0, 100), st.booleans())
def test_groups_are_positives_without_a_matrix(numbers, seed, weighted):
    a, b, groups = rows(len(numbers), seed=seed), rows(len(numbers), seed=seed + 1), torch.tensor(numbers)
    positives = groups[:, None] == groups
    weights = torch.arange(len(numbers), dtype=torch.float64) if weighted else None
    for tile, held in (((1024, 4096), 2**24), ((2, 3), 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "TILE", tile)
            patch.setattr(tiles, "HELD", held)
            patch.setattr(contrastive, "SMALL", held)
            for first, second in (
                (info_nce(a, b, 7.0, positives, weights), info_nce(a, b, 7.0, None, weights, groups=groups)),
                (sigmoid_loss(a, b, 7.0, -2.0, positives), sigmoid_loss(a, b, 7.0, -2.0, groups=groups)),
            ):
                torch.testing.assert_close(first, second, atol=1e-12, rtol=1e-10)
    made = leaves(a, b, 7.0)
    one = torch.autograd.grad(info_nce(*made, positives, weights), made)
    other = torch.autograd.grad(info_nce(*made, None, weights, groups=groups), made)
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x, y, atol=1e-12, rtol=1e-9)


def adversarial(kind, count=40, width=16):
    """Returns unit rows on which sums of plain exponentials lose rows, overflow, or cancel."""
    a = rows(count, width)
    b = rows(count, width, seed=1)
    if kind == "opposite":
        return a, -a
    if kind == "equal":
        return a, a
    if kind == "one far away":  # a column that every row is opposite to
        pole = torch.zeros(1, width, dtype=torch.float64)
        pole[0, 0] = 1.0
        a = normalize(pole + 0.05 * a, dim=1)
        return a, torch.cat((-pole, normalize(pole + 0.05 * b[1:], dim=1)))
    return normalize(a[:1] + 1e-3 * a, dim=1), normalize(a[:1] + 1e-3 * b, dim=1)  # all the same


@pytest.mark.parametrize("kind", ["opposite", "equal", "one far away", "all the same"])
@pytest.mark.parametrize("scale", [14.0, 100.0])
@pytest.mark.parametrize("tiled", [False, True])
def test_fp32_at_the_largest_scale_equals_fp64(kind, scale, tiled, request):
    if tiled:
        request.getfixturevalue("small_tiles")
    exact = leaves(*adversarial(kind), scale)
    made = leaves(*(x.detach().float() for x in exact[:2]), scale)
    expected, found = plain_info_nce(*exact), info_nce(*made)
    assert found.item() >= 0.0
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=2e-5)
    wanted = torch.autograd.grad(expected, exact)
    for one, other in zip(torch.autograd.grad(found, made), wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_never_negative(seed, small_tiles):
    a = rows(50, 8, seed, torch.float32)
    for scale in (1.0, 50.0, 100.0, 1e3, 1e4):
        assert info_nce(a, a, scale).item() >= 0.0
        assert info_nce(a, a, scale, groups=torch.arange(50) // 2).item() >= 0.0


def test_bf16_is_close_where_many_pairs_share_the_softmax_and_taken_only_there(monkeypatch):
    monkeypatch.setattr(tiles, "HELD", 0)
    monkeypatch.setattr(tiles.runtime, "has_bf16", lambda device: True)
    tried = []
    takes = tiles.takes_bf16
    monkeypatch.setattr(contrastive, "takes_bf16", lambda *x: tried.append(takes(*x)) or tried[-1])
    pole, other = rows(1, 256) * 1.5, rows(1, 256, seed=1) * 1.5  # rows far from 0 on the whole, as towers give them
    cone, near = (normalize(p + rows(2000, 256, seed=s), dim=1).float() for p, s in ((pole, 3), (other, 4)))
    sharp = normalize(cone - cone.mean(dim=0), dim=1)
    cases = {"spread": (cone, near, 7.0), "sharp": (sharp, normalize(sharp + 6.0 * near, dim=1), 100.0)}
    for kind, (a, b, scale) in cases.items():
        made = leaves(a, b, scale)
        exact = torch.autograd.grad(info_nce(*made, precision="fp32"), made)
        rough, auto = (torch.autograd.grad(info_nce(*made, precision=p), made) for p in ("bf16", "auto"))
        assert tried[-1] is (kind == "spread")
        assert gap(auto[:2], exact[:2]) < 1e-4
        assert gap(auto[2:], exact[2:]) < 1e-3  # a single number, of which most cancels out
        assert gap(rough, exact) < (1e-3 if kind == "spread" else 0.3)
        assert gap(rough, exact) > 1e-7  # it was computed otherwise


def test_bf16_keeps_the_gradients_of_groups_and_weights(monkeypatch):
    monkeypatch.setattr(tiles, "HELD", 0)
    made = leaves(rows(600, 256, dtype=torch.float32), rows(600, 256, seed=1, dtype=torch.float32), 5.0)
    weights = torch.rand(600, generator=torch.Generator().manual_seed(0))
    for further in ({"weights": weights}, {"groups": torch.arange(600) // 3}, {"positives": torch.eye(600) > 0}):
        exact, rough = (torch.autograd.grad(info_nce(*made, precision=p, **further), made) for p in ("fp32", "bf16"))
        assert gap(rough, exact) < 5e-3


def test_precision_and_groups_explain_what_is_wrong():
    with pytest.raises(UnknownName, match="'int4'"):
        getattr(info_nce, "__wrapped__", info_nce)(rows(2), rows(2), 1.0, precision="int4")
    with pytest.raises(InvalidValue, match=r"groups is \(2,\).*no positives besides"):
        info_nce(rows(2), rows(2), 1.0, torch.eye(2, dtype=torch.bool), groups=torch.arange(2))


def test_only_what_asks_for_a_gradient_gets_one(small_tiles):
    a, b = rows(9).requires_grad_(), rows(9, seed=1)
    whole = leaves(a.detach(), b, 3.0)
    expected = torch.autograd.grad(info_nce(*whole), whole)
    torch.testing.assert_close(torch.autograd.grad(info_nce(a, b, 3.0), a)[0], expected[0])
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(info_nce(a.detach(), b, scale), scale)[0], expected[2])
    with torch.no_grad():
        assert not sigmoid_loss(*whole, -1.0).requires_grad
    assert not info_nce(a.detach(), b, 3.0).requires_grad


def test_the_gradient_can_be_taken_twice_and_is_the_same():
    made = leaves(rows(20), rows(20, seed=1), 9.0)
    loss = info_nce(*made)
    first = torch.autograd.grad(loss, made, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(loss, made), strict=True):
        assert torch.equal(one, other)
