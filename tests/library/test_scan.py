import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intermodal.library import product, scan
from intermodal.library.product import Compiled, Packed
from intermodal.library.scan import Found, Inconsistent, Part, Rows, nearest, quantise


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def rows_of(exact: np.ndarray) -> Rows:
    centre = exact.mean(axis=0) if len(exact) else np.zeros(exact.shape[1], np.float32)
    coarse, scale, residual, longest = quantise(exact, centre)
    return Rows(exact, coarse, scale, residual, centre, longest)


def brute(parts: list[Part], query: np.ndarray, top: int) -> Found:
    found = []
    for number, part in enumerate(parts):
        cosine = part.rows.exact.astype(np.float64) @ query.astype(np.float64)
        mask = np.ones(len(cosine), bool) if part.mask is None else part.mask
        found += [(-(part.offset + part.gain * c), number, row, c) for row, c in enumerate(cosine) if mask[row]]
    best = sorted((round(score, 12), number, row, cosine) for score, number, row, cosine in found)[:top]
    score, part, row, cosine = zip(*best, strict=True) if best else ((), (), (), ())
    return Found(np.array(part, int), np.array(row, int), np.array(cosine), -np.array(score))


def same(found: Found, expected: Found) -> None:
    assert found.part.tolist() == expected.part.tolist()
    assert found.row.tolist() == expected.row.tolist()
    np.testing.assert_allclose(found.cosine, expected.cosine, atol=1e-12)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-11)


def clustered(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Rows as models make them: one direction that all share, few clusters, some dimensions much larger than others."""
    centres = rng.standard_normal((8, width)) * rng.exponential(1.0, width)
    return unit(
        3 * rng.standard_normal(width) + centres[rng.integers(0, 8, count)] + 0.3 * rng.standard_normal((count, width))
    )


MAKERS = {
    "spread": lambda rng, count, width: unit(rng.standard_normal((count, width))),
    "clustered": clustered,
    "equal": lambda rng, count, width: np.repeat(unit(rng.standard_normal((10, width))), count // 10, axis=0),
}


WAYS = {"compiled": Compiled, "packed": Packed, "float32": None}


def use(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Has a scan take this product, whatever is the fastest here."""
    if way == "compiled" and product._compiled() is None:
        pytest.skip("no C compiler")
    monkeypatch.setattr(scan, "fastest", lambda width, scanned_bytes: WAYS[way])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", list(MAKERS))
def test_exact_whatever_the_rows(make: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, way)
    rng = np.random.default_rng(1)
    for count, width in ((5000, 64), (1000, 7), (300, 256)):
        exact = MAKERS[make](rng, count, width)
        parts = [Part(rows_of(exact))]
        for query in (exact[3], unit(rng.standard_normal(width)), -exact[5], unit(exact[7] + 0.1 * exact[8])):
            same(nearest(parts, query, 10), brute(parts, query, 10))


@pytest.mark.parametrize("way", ["compiled", "packed"])
def test_int8_and_float32_give_the_same_answer(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    parts = [Part(rows_of(clustered(rng, 40_000, 64)))]
    answers = []
    for each in (way, "float32"):
        use(monkeypatch, each)
        answers.append(nearest(parts, parts[0].rows.exact[17], 50))
    same(*answers)


@pytest.mark.parametrize("way", ["compiled", "packed"])
def test_threads_do_not_matter(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, way)
    monkeypatch.setattr(scan, "CHUNK", 100)
    monkeypatch.setattr(scan, "_FIRST", 30)
    monkeypatch.setattr(scan, "_SHARED_BYTES", 0)
    rng = np.random.default_rng(12)
    parts = [
        Part(rows_of(unit(rng.standard_normal((count, 48)))), gain, 0.1, mask)
        for count, gain, mask in ((950, 1.0, None), (1, 2.0, None), (0, 1.0, None), (730, 1.5, rng.random(730) < 0.2))
    ]
    for threads in (1, 2, 5):
        monkeypatch.setattr(scan.torch, "get_num_threads", lambda threads=threads: threads)
        for query in (parts[0].rows.exact[940], parts[3].rows.exact[3]):
            same(nearest(parts, query, 15), brute(parts, query, 15))


@pytest.mark.parametrize("chunk", [16, 100, 100_000])
def test_chunks_do_not_matter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", chunk)
    use(monkeypatch, "packed")
    exact = unit(np.random.default_rng(3).standard_normal((1500, 16)))
    same(nearest([Part(rows_of(exact))], exact[9], 20), brute([Part(rows_of(exact))], exact[9], 20))


def test_parts_with_their_own_scores_and_masks() -> None:
    rng = np.random.default_rng(4)
    parts = [
        Part(rows_of(unit(rng.standard_normal((900, 32)))), 3.0, -1.0),
        Part(rows_of(clustered(rng, 700, 32)), 20.0, -17.0, rng.random(700) < 0.7),
        Part(rows_of(unit(rng.standard_normal((400, 32)))), 0.5, 1e-3, np.zeros(400, bool)),
        Part(rows_of(np.empty((0, 32), np.float32))),
    ]
    for _ in range(5):
        query = unit(rng.standard_normal(32))
        same(nearest(parts, query, 25), brute(parts, query, 25))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.5, 1.0])
def test_masks_of_any_size(share: float, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, way)
    monkeypatch.setattr(scan, "CHUNK", 1000)
    rng = np.random.default_rng(5)
    exact = unit(rng.standard_normal((8000, 24)))
    part = Part(rows_of(exact), mask=rng.random(8000) < share)
    same(nearest([part], exact[0], 12), brute([part], exact[0], 12))


def test_more_wanted_than_there_are() -> None:
    exact = unit(np.random.default_rng(6).standard_normal((5, 8)))
    assert len(nearest([Part(rows_of(exact))], exact[0], 100).row) == 5
    assert len(nearest([], exact[0], 100).row) == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 600), st.integers(1, 40), st.integers(1, 30), st.floats(0, 50))
def test_exact_for_any_shape(seed: int, count: int, width: int, top: int, pull: float) -> None:
    rng = np.random.default_rng(seed)
    exact = unit(rng.standard_normal((count, width)) + pull * rng.standard_normal(width))
    query = unit(rng.standard_normal(width) + pull / 2)
    same(nearest([Part(rows_of(exact))], query, top), brute([Part(rows_of(exact))], query, top))


def test_residuals_are_never_too_short() -> None:
    rng = np.random.default_rng(7)
    for exact in (unit(rng.standard_normal((500, 96))), clustered(rng, 500, 96)):
        centre = exact.mean(axis=0)
        coarse, scale, residual, longest = quantise(exact, centre)
        assert coarse.shape == (500, 128)
        assert not coarse[:, 96:].any()
        assert np.array_equal(torch.from_numpy(scale).bfloat16().float().numpy(), scale)
        moved = coarse[:, :96].astype(np.float64) * scale[:, None].astype(np.float64)
        lost = np.linalg.norm(exact.astype(np.float64) - centre - moved, axis=1)
        assert (lost <= residual).all()
        assert (residual < 0.02).all()
        assert np.linalg.norm(moved, axis=1).max() <= longest < 1.5


def test_only_rows_that_a_filter_lets_through_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "packed")
    read: list[int] = []
    real = scan._Coarse.reaching

    def noted(self: scan._Coarse, rows: Rows, at: slice, which: np.ndarray | None, least: float) -> object:
        read.append(at.stop - at.start if which is None else len(which))
        return real(self, rows, at, which, least)

    monkeypatch.setattr(scan._Coarse, "reaching", noted)
    monkeypatch.setattr(scan, "CHUNK", 1000)
    exact = unit(np.random.default_rng(13).standard_normal((8000, 24)))
    for mask, expected in (
        (np.arange(8000) % 10 == 0, 800),
        (np.arange(8000) % 2 == 0, 8000),
        (np.arange(8000) < 1000, 1000),
    ):
        read.clear()
        part = Part(rows_of(exact), mask=mask)
        same(nearest([part], exact[0], 12), brute([part], exact[0], 12))
        assert sum(read) == expected


@pytest.mark.parametrize("way", ["compiled", "packed"])
def test_few_rows_are_scored_again(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, way)
    rng = np.random.default_rng(8)
    part = Part(rows_of(unit(rng.standard_normal((10_000, 256)))))
    candidates = scan._candidates([part], scan._Coarse(part.rows.exact[1], WAYS[way]), 10)
    assert 10 <= len(candidates[0]) < 200


@pytest.mark.parametrize("wrong", ["exact", "coarse", "scale"])
def test_rows_that_do_not_belong_together_are_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "packed")
    rng = np.random.default_rng(9)
    rows = rows_of(unit(rng.standard_normal((3000, 32))))
    query = rows.exact[5].copy()
    if wrong == "exact":
        rows.exact[5] = rows.exact[6]
    elif wrong == "coarse":
        rows.coarse[:] = np.roll(rows.coarse, 1, axis=0)
    else:
        rows.scale[:] *= 1.5
    with pytest.raises(Inconsistent):
        nearest([Part(rows)], query, 10)


@pytest.mark.parametrize("way", ["compiled", "packed"])
@pytest.mark.parametrize("make", ["spread", "clustered"])
def test_estimates_keep_their_bounds(make: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, way)
    rng = np.random.default_rng(11)
    rows = rows_of(MAKERS[make](rng, 3000, 100))
    for query in (rows.exact[3], unit(rng.standard_normal(100)), -rows.exact[4]):
        true = rows.exact.astype(np.float64) @ query.astype(np.float64)
        for asked in (scan._Coarse(query, WAYS[way]), scan._Exact(query)):
            at = slice(0, 3000)
            bound = asked.bound(rows, at)
            place, estimate = asked.reaching(rows, at, None, -np.inf)
            assert place.tolist() == list(range(3000))
            low, high = bound.interval(estimate, rows.residual)
            assert ((low <= true) & (true <= high)).all()
            assert (high - low).max() < 0.06
            for cosine in (-0.3, 0.0, 0.2, 0.9):
                assert set(np.flatnonzero(high >= cosine)) <= set(
                    asked.reaching(rows, at, None, bound.reaching(cosine))[0]
                )
            assert all(bound.least_of(float(e)) <= t for e, t in zip(estimate, true, strict=True))


def test_a_low_precision_of_matrix_products_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = clustered(np.random.default_rng(10), 4000, 128)
    expected = brute([Part(rows_of(exact))], exact[3], 10)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        for way in ("packed", "float32"):
            use(monkeypatch, way)
            same(nearest([Part(rows_of(exact))], exact[3], 10), expected)
    finally:
        torch.set_float32_matmul_precision(before)
