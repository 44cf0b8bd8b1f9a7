"""Counter-based random numbers: stable for ever, independent of the batch, uniform."""

import os
import subprocess
import sys
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.draws import mix, pick, uniform

_PRINT = "from intermodal.diorama.draws import uniform; print(uniform(7, 'image', [5, 123456789], 3).tolist())"


def _splitmix(word: int) -> int:
    """Returns what ``mix`` does, in whole numbers without a limit."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


@given(st.integers(0, 2**64 - 1))
def test_mix_is_splitmix64(word):
    assert int(mix(np.array([word], np.uint64))[0]) == _splitmix(word)


def test_a_draw_is_this_number_and_nothing_but_its_arguments_decides_it():
    row = uniform(0, "image", [3], 2)[0]
    golden = 0x9E3779B97F4A7C15
    state = _splitmix((_splitmix(3 + zlib.crc32(b"image")) + golden) % 2**64)
    assert [(_splitmix((state + golden * k) % 2**64) >> 11) * 2.0**-53 for k in (1, 2)] == row.tolist()
    np.testing.assert_array_equal(row, [0.5942122900596308, 0.004695521695110894])
    np.testing.assert_array_equal(uniform(0, "image", [9, 3, 3], 2)[1:], [row, row])
    np.testing.assert_array_equal(uniform(0, "image", 3, 5)[0, :2], row)


def test_another_process_draws_the_same_numbers():
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(uniform(7, "image", [5, 123456789], 3).tolist())


@given(st.integers(-(2**40), 2**40), st.lists(st.integers(0, 2**40), min_size=1, max_size=8), st.integers(1, 9))
def test_numbers_are_in_range_and_do_not_depend_on_the_batch(seed, index, count):
    rows = uniform(seed, "any", index, count)
    assert rows.shape == (len(index), count)
    assert ((rows >= 0) & (rows < 1)).all()
    for i, row in zip(index, rows, strict=True):
        np.testing.assert_array_equal(uniform(seed, "any", [i], count)[0], row)


def test_seeds_streams_and_indices_are_uncorrelated_and_uniform():
    base = uniform(0, "image", range(20_000), 4)
    histogram = np.stack([np.histogram(column, bins=10, range=(0, 1))[0] for column in base.T]) / len(base)
    np.testing.assert_allclose(histogram, 0.1, atol=0.01)
    others = (uniform(1, "image", range(20_000), 4), uniform(0, "video", range(20_000), 4), np.roll(base, 1, axis=0))
    for other in (*others, np.roll(base, 1, axis=1)):
        correlation = np.corrcoef(base.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 0.02


def test_mix_gives_different_words_for_different_words():
    assert len(np.unique(mix(np.arange(100_000, dtype=np.uint64)))) == 100_000


def test_picking_takes_each_true_option_as_often():
    options = np.array([[True, True, True, True], [False, True, False, True], [False, False, True, False]])
    u = uniform(0, "pick", np.arange(4000), 1)[:, 0]
    for row, numbers in zip(options, ([0, 1, 2, 3], [1, 3], [2]), strict=True):
        picked = pick(np.tile(row, (4000, 1)), u)
        shares = np.bincount(picked, minlength=4) / 4000
        np.testing.assert_allclose(shares, np.isin(np.arange(4), numbers) / len(numbers), atol=0.03)
        assert set(picked.tolist()) == set(numbers)
    together = pick(options, np.array([0.99999, 0.0, 0.5]))
    assert together.tolist() == [3, 1, 2]
    assert pick(np.zeros((1, 3), bool), np.array([0.7])).tolist() == [0]
