import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue
from intermodal.training.mining import hard_batches, nearest


def unit(rows: int, width: int = 6, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(2, 60), st.integers(1, 5))
def test_nearest_is_what_sorting_everything_gives(rows: int, count: int) -> None:
    count = min(count, rows - 1)
    x = unit(rows, seed=rows)
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(nearest(x, count), np.argsort(-scores, axis=1, kind="stable")[:, :count])


def test_batches_hold_near_neighbours_and_depend_on_the_step_alone() -> None:
    x = unit(400)
    hard, plain = hard_batches(x, 32, group=4), hard_batches(x, 32, group=1)

    def likeness(sampler) -> float:
        total = []
        for step in range(20):
            rows = x[sampler(step)]
            scores = rows @ rows.T
            np.fill_diagonal(scores, -np.inf)
            total.append(scores.max(axis=1).mean())
        return float(np.mean(total))

    assert likeness(hard) > likeness(plain) + 0.05
    assert hard(7) == hard_batches(x, 32, group=4)(7) != hard(8)
    assert all(len(set(hard(step))) == 32 for step in range(10))


def test_samples_are_named_by_the_index_given() -> None:
    sampler = hard_batches(unit(10), 4, group=2, index=range(100, 110))
    assert all(100 <= i < 110 for i in sampler(0))


def test_numbers_that_do_not_fit_are_explained() -> None:
    with pytest.raises(InvalidValue, match="group 5, batch_size 4"):
        hard_batches(unit(10), 4, group=5)
    with pytest.raises(InvalidValue, match="10 neighbours of 10"):
        nearest(unit(10), 10)
