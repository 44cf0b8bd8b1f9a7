import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from intermodal import runtime
from intermodal.library import product
from intermodal.library.product import WORTH_BYTES, Compiled, Packed, fastest, padded

needs_a_compiler = pytest.mark.skipif(runtime.compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def _asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))
    product._compiled.cache_clear()
    product._fastest_of.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def _ask_again_after() -> object:
    yield
    product._compiled.cache_clear()
    product._fastest_of.cache_clear()


def made(width: int, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns int8 rows, scales that are bfloat16 numbers, and a query."""
    rng = np.random.default_rng(width)
    rows = rng.integers(-127, 128, (count, padded(width)), dtype=np.int8)
    rows[0], rows[1] = 127, -127
    scale = torch.from_numpy(rng.random(count, np.float32)).bfloat16().float().numpy()
    return rows, scale, rng.standard_normal(width).astype(np.float32)


@pytest.mark.parametrize("make", [pytest.param(Compiled, marks=needs_a_compiler), Packed])
@pytest.mark.parametrize("width", [1, 7, 63, 64, 65, 250, 1000])
def test_no_product_is_more_wrong_than_it_says(make: type[Compiled] | type[Packed], width: int) -> None:
    rows, scale, query = made(width)
    restored = rows[:, :width].astype(np.float64) * scale[:, None]
    true, length = restored @ query.astype(np.float64), np.linalg.norm(rows * scale[:, None], axis=1)
    for vector in (query, -query, 1e-4 * query, np.eye(width, dtype=np.float32)[0]):
        true = restored @ vector.astype(np.float64)
        asked = make(vector)
        place, found = asked.reaching(rows, scale, None, -np.inf)
        assert place.tolist() == list(range(200))
        bound = length * (asked.lost + 2e-6 * np.linalg.norm(vector)) + asked.rounded * np.abs(true)
        assert (np.abs(found - true) <= bound).all()
        which = np.array([5, 1, 199, 0, 5])
        place, some = asked.reaching(rows, scale, which, -np.inf)
        assert place.tolist() == which.tolist()
        np.testing.assert_allclose(some, found[which], rtol=1e-6)
        for least in (float(found[7]), 0.0, np.inf):
            place, reached = asked.reaching(rows, scale, None, least)
            assert place.tolist() == np.flatnonzero(found >= least).tolist()
            assert np.array_equal(reached, found[place])
    nothing = np.empty(0, np.int64)
    assert [len(each) for each in asked.reaching(rows, scale, nothing, -np.inf)] == [0, 0]
    assert [len(each) for each in asked.reaching(rows[:0], scale[:0], None, -np.inf)] == [0, 0]


@needs_a_compiler
def test_two_digits_lose_little_of_the_query() -> None:
    query = made(512)[2]
    query /= np.linalg.norm(query)
    assert Compiled(query).lost < 1e-4 < Packed(query).lost
    nought = Compiled(np.zeros(64, np.float32))
    assert nought.reaching(*made(64)[:2], None, -1.0)[1].tolist() == [0.0] * 200


@needs_a_compiler
def test_a_place_outside_the_rows_is_refused() -> None:
    rows, scale, query = made(64)
    for which in ([200], [-1]):
        with pytest.raises(IndexError):
            Compiled(query).reaching(rows, scale, np.array(which), 0.0)


@needs_a_compiler
def test_it_is_compiled_once_for_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Compiled(np.ones(3, np.float32))
    made = list((tmp_path / "cache").iterdir())
    assert [path.suffix for path in made] == [".so"]
    product._compiled.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    Compiled(np.ones(3, np.float32))
    monkeypatch.setattr(product, "_processor", lambda: "another one")
    monkeypatch.setattr(product, "_compile", lambda compiler, path: (_ for _ in ()).throw(OSError("asked to")))
    product._compiled.cache_clear()
    assert product._compiled() is None


@pytest.mark.parametrize("compiler", ["", "false", "true", "no-such-compiler"])
def test_without_a_compiler_that_works(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_COMPILER", compiler)
    with pytest.raises(OSError, match="no compiled product"):
        Compiled(np.ones(3, np.float32))
    assert fastest(64, 10 * WORTH_BYTES) in (Packed, None)


@needs_a_compiler
def test_a_damaged_or_foreign_file_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product._compiled()
    (path,) = (tmp_path / "cache").iterdir()
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    product._compiled.cache_clear()
    assert product._compiled() is None
    monkeypatch.undo()
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / path.name).write_bytes(b"no library")
    product._compiled.cache_clear()
    assert product._compiled() is None


def test_a_product_that_is_wrong_or_missing_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scale, query = made(64, 500)
    assert product._right(Packed, rows, scale, query) is not None
    real = torch._weight_int8pack_mm
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda *given: real(*given) * 1.02)
    assert product._right(Packed, rows, scale, query) is None
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    assert product._right(Packed, rows, scale, query) is None


@needs_a_compiler
def test_a_compiled_product_that_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scale, query = made(64, 500)
    assert product._right(Compiled, rows, scale, query) is not None
    real = Compiled.reaching
    for wrong in (
        lambda place, value: (place, value + np.float32(0.05)),
        lambda place, value: (place[:-1], value[:-1]),
        lambda place, value: (place + (len(place) < 500), value),
    ):
        monkeypatch.setattr(Compiled, "reaching", lambda *given, wrong=wrong: wrong(*real(*given)))
        assert product._right(Compiled, rows, scale, query) is None


def test_the_fastest_is_taken_and_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def durations(work: object) -> float:
        asked.append(work)
        return (3.0, 2.0, 1.0)[len(asked) - 1]

    monkeypatch.setattr(product, "_least_s", durations)
    expected = Compiled if product._compiled() is not None else Packed
    assert fastest(48, WORTH_BYTES) is expected
    assert fastest(48, WORTH_BYTES) is expected
    assert len(asked) == 3 if expected is Compiled else 2
    asked.clear()
    assert fastest(48, WORTH_BYTES - 1) is Packed
    asked.clear()
    monkeypatch.setattr(product, "_least_s", lambda work: time.perf_counter())  # each slower than the one before
    assert fastest(49, WORTH_BYTES) is None
    assert fastest(1_000_000, WORTH_BYTES) is None


def test_padded() -> None:
    assert [padded(width) for width in (0, 1, 64, 65)] == [0, 64, 64, 128]
