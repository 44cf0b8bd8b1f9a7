import copy
import pickle
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intermodal.encoders.inference import pooled
from intermodal.encoders.tower import TowerConfig, encoder
from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.modalities.timeseries import ITEM, PREPROCESSOR, TimeSeries, TimeSeriesPreprocessor
from intermodal.types import Grid, Preprocessor
from tests.media.malformed import valid_files


def series(channels: int = 2, samples: int = 10, rate: float = 32.0, seed: int = 0) -> TimeSeries:
    values = np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32)
    return TimeSeries(values, tuple(f"c{i}" for i in range(channels)), rate)


@pytest.mark.parametrize("ending", ["csv", "npz", "parquet"])
def test_series_survive_saving(tmp_path: Path, ending: str) -> None:
    item = series(rate=44.1)
    path = item.save(tmp_path / f"a.{ending}")
    assert TimeSeries.open(path) == TimeSeries.open(path.read_bytes()) == item


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", r"is text \(txt\), no time series"),
        (valid_files()["png"], r"is image \(png\), no time series"),
        (b"a,b\n1,2\n3,nan\n", "has nan in row 3, column 'b'"),
    ],
)
def test_what_is_no_series_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        TimeSeries.open(data)


def test_saving_needs_a_known_suffix(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"\.csv, \.npz, \.parquet"):
        series().save(tmp_path / "a.xls")


@pytest.fixture
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets wrong types reach the package, as they do outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("values", "channels", "rate", "reason"),
    [
        (ONES.astype(np.float64), ("a", "b"), 1.0, "float32, not an array of float64"),
        ([[1.0]], ("a",), 1.0, "float32, not list"),
        (ONES[0], ("a",), 1.0, r"shape \(3,\)"),
        (ONES[:, :0], ("a", "b"), 1.0, r"shape \(2, 0\)"),
        (ONES, ("a",), 1.0, "2 channels have the names"),
        (ONES, "ab", 1.0, "2 channels have the names 'ab'"),
        (ONES, ("a", "a"), 1.0, "each its own name"),
        (ONES, ("a", " b"), 1.0, "named ' b'"),
        (ONES, ("a", ""), 1.0, "named ''"),
        (ONES, ("a", "b\n"), 1.0, r"named 'b\\n'"),
        (ONES, ("a", "b"), 0.0, "sample_rate_hz is 0.0"),
        (ONES, ("a", "b"), float("nan"), "sample_rate_hz is nan"),
        (ONES * np.array([1, 1, np.inf], np.float32), ("a", "b"), 1.0, "channel 'a', sample 2 is inf"),
    ],
)
@pytest.mark.usefixtures("_without_shape_checks")
def test_wrong_series_are_refused(values: object, channels: object, rate: float, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        TimeSeries(values, channels, rate)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_without_shape_checks")
def test_lists_and_whole_numbers_are_taken_as_they_are_meant() -> None:
    item = TimeSeries(ONES, ["a", "b"], 2)  # type: ignore[arg-type]
    assert (item.channels, item.sample_rate_hz, type(item.sample_rate_hz)) == (("a", "b"), 2.0, float)


def test_series_are_values_that_nobody_can_change() -> None:
    mine = ONES.copy()
    item = TimeSeries(mine, ("a", "b"), 2.0)
    mine[0, 0] = 5
    assert item == TimeSeries(ONES, ("a", "b"), 2.0)
    others = [
        TimeSeries(ONES, ("a", "c"), 2.0),
        TimeSeries(ONES, ("a", "b"), 3.0),
        TimeSeries(-ONES, ("a", "b"), 2.0),
        TimeSeries(ONES.reshape(3, 2), ("a", "b", "c"), 2.0),
    ]
    assert all(item != other for other in others)
    assert len({item.content_hash(), *(other.content_hash() for other in others)}) == 5
    assert {item, TimeSeries(ONES, ("a", "b"), 2.0)} == {item}
    assert item != "a"
    zero, minus = (TimeSeries(np.array([[sign * 0.0]], np.float32), ("a",), 1.0) for sign in (1, -1))
    assert zero == minus
    assert hash(zero) == hash(minus)
    assert item.seconds == 1.5
    for same in (item, pickle.loads(pickle.dumps(item)), copy.deepcopy(item)):
        assert same == item
        with pytest.raises(ValueError, match="read-only"):
            same.values[0, 0] = 1


@pytest.mark.parametrize("item", [series(), series(1, 1), series(12, 5000), TimeSeries(ONES, ("<b>", "a & b"), 1.0)])
def test_it_is_shown_as_a_plot(item: TimeSeries) -> None:
    assert "Hz)" in repr(item)
    assert len(repr(item)) < 80
    figure = ET.fromstring(item._repr_html_())
    lines = figure.findall(".//polyline")
    assert len(lines) == min(9, len(item.channels))
    for line in lines:
        points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert len(points) <= 1200
        assert all(0 <= x <= 640 and 0 <= y <= 200 for x, y in points)
    labels = [text.text for text in figure.findall(".//text")]
    assert labels[-1] == f"{item.seconds:.4g} s"
    legend = "".join(figure.find("figcaption").itertext())  # type: ignore[union-attr]
    assert all(name in legend for name in item.channels[:9])
    assert ("and 3 more" in legend) == (len(item.channels) == 12)


def test_a_plot_shows_the_extremes_of_a_long_series() -> None:
    values = np.zeros((1, 100_000), np.float32)
    values[0, 77_777] = 1
    figure = ET.fromstring(TimeSeries(values, ("a",), 1.0)._repr_html_())
    heights = [float(p.split(",")[1]) for p in figure.find(".//polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert sorted(heights)[:2] == [8.0, 176.0]


PREPROCESS = TimeSeriesPreprocessor(channels=3, sample_rate_hz=32.0, patch=4, seconds_max=1.0)


def test_rows_are_as_long_as_the_longest_series() -> None:
    items = [series(2, 10), None, series(3, 5, seed=1), series(1, 1)]
    batch = PREPROCESS(items)
    assert batch.values.shape == (4, 3, 12)
    assert batch.mask.tolist() == [[True] * 3, [False] * 3, [True, True, False], [True, False, False]]
    np.testing.assert_array_equal(batch.values[0, :2, :10], items[0].values)
    assert not batch.values[0, 2].any()
    assert not batch.values[0, :, 10:].any()
    assert not batch.values[1].any()
    for row, item in zip(batch.values, items, strict=True):
        alone = PREPROCESS([item]).values[0]
        assert torch.equal(row[:, : alone.shape[1]], alone)


def test_a_batch_of_nothing_is_one_token_wide() -> None:
    batch = PREPROCESS([None, None])
    assert batch.values.shape == (2, 3, 4)
    assert not batch.values.any()
    assert batch.mask.tolist() == [[False], [False]]


def test_long_series_are_cut() -> None:
    item = series(1, 1000)
    batch = PREPROCESS([item])
    assert batch.values.shape == (1, 3, 32)
    np.testing.assert_array_equal(batch.values[0, 0], item.values[0, :32])


@pytest.mark.parametrize(
    ("rate", "samples", "expected"), [(16.0, 10, 20), (64.0, 20, 10), (48.0, 30, 20), (0.1, 5, 320)]
)
def test_other_rates_are_resampled(rate: float, samples: int, expected: int) -> None:
    slope = (np.arange(samples) / rate)[None].astype(np.float32)
    preprocess = TimeSeriesPreprocessor(1, 32.0, 1, seconds_max=10.0)
    values = preprocess([TimeSeries(slope, ("a",), rate)]).values[0, 0]
    assert len(values) == expected
    inside = np.minimum(np.arange(expected) / 32.0, slope[0, -1])  # the last value is held
    np.testing.assert_allclose(values, inside, atol=1e-5)


def test_resampling_does_not_depend_on_what_is_cut() -> None:
    item = series(1, 500, rate=50.0)
    long = TimeSeriesPreprocessor(1, 32.0, 4, seconds_max=20.0)([item]).values
    short = TimeSeriesPreprocessor(1, 32.0, 4, seconds_max=2.0)([item]).values
    assert torch.equal(long[..., :64], short)


def test_channels_go_to_their_names() -> None:
    preprocess = TimeSeriesPreprocessor(3, names=("x", "y", "z"))
    item = TimeSeries(np.array([[1], [2]], np.float32), ("z", "x"), 32.0)
    assert preprocess([item]).values[0, :, 0].tolist() == [2, 0, 1]
    with pytest.raises(InvalidValue, match="channel 'w'; expected any of: x, y, z"):
        preprocess([TimeSeries(np.ones((1, 1), np.float32), ("w",), 32.0)])


def test_more_channels_than_fit_are_refused() -> None:
    with pytest.raises(InvalidValue, match="4 channels, more than the 3 that fit"):
        PREPROCESS([series(4)])


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.just(3), st.integers(1, 8).map(lambda n: 4 * n)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_series_come_back_exactly(values: np.ndarray) -> None:
    item = TimeSeries(values, ("channel1", "channel2", "channel3"), 32.0)
    assert PREPROCESS.invert(PREPROCESS([item]).values) == [item]


@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_offset_and_scale_are_undone(offset: float, scale: float) -> None:
    preprocess = TimeSeriesPreprocessor(2, offset=offset, scale=scale, names=("c0", "c1"))
    item = series(2, 8)
    batch = preprocess([item])
    np.testing.assert_allclose(batch.values[0], (item.values - offset) / scale, rtol=1e-5, atol=1e-5)
    found = preprocess.invert(batch.values)[0]
    assert found.channels == item.channels
    np.testing.assert_allclose(found.values, item.values, atol=1e-4)


def test_values_out_of_range_become_finite() -> None:
    large = TimeSeries(np.full((1, 4), 3e38, np.float32), ("a",), 32.0)
    assert TimeSeriesPreprocessor(1, scale=1e-9)([large]).values.isfinite().all()
    values = torch.tensor([[[float("nan"), float("inf"), -float("inf"), 1.0]]])
    found = TimeSeriesPreprocessor(1).invert(values)[0].values[0]
    assert found[[0, 3]].tolist() == [0, 1]
    assert np.isfinite(found).all()


def test_it_keeps_the_contract() -> None:
    assert isinstance(PREPROCESS, Preprocessor)
    assert PREPROCESS.layout == Grid(1, 3, (4,))
    assert (TimeSeries, TimeSeriesPreprocessor) == (ITEM, PREPROCESSOR)
    assert ITEM.modality == PREPROCESSOR.modality == "timeseries"


def test_of_several_sensors_every_token_is_of_one() -> None:
    make = TimeSeriesPreprocessor(6, 32.0, 4, sensors=3)
    assert make.layout == Grid(2, 2, (1, 4))
    long, short = series(6, 12), series(6, 5, seed=1)
    batch = make([long, short, None])
    assert batch.values.shape == (3, 2, 3, 12)
    np.testing.assert_array_equal(batch.values[0, :, 1], long.values[2:4])  # the second sensor's channels
    assert batch.mask.tolist() == [[True] * 9, [True, True, False] * 3, [False] * 9]
    alone = TimeSeriesPreprocessor(6, 32.0, 4)
    np.testing.assert_array_equal(
        make.invert(batch.values)[1].values, alone.invert(alone([long, short]).values)[1].values
    )


def test_a_tower_reads_several_sensors_whatever_else_is_in_the_batch() -> None:
    config = TowerConfig(TimeSeriesPreprocessor(6, 32.0, 4, sensors=3), width=32, heads=2, sizes=(3, 0))
    torch.manual_seed(0)
    tower = encoder(config).eval()
    items = [series(6, samples, seed=samples) for samples in (12, 5, 40)]
    with torch.no_grad():
        together = tower(config.preprocessor(items)).pooled
        alone = torch.cat([tower(config.preprocessor([item])).pooled for item in items])
        sooner = pooled(tower, config.preprocessor(items), "fp32")
        swapped = [TimeSeries(np.roll(i.values, 2, axis=0), i.channels, i.sample_rate_hz) for i in items]
        other = tower(config.preprocessor(swapped)).pooled
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sooner, together, rtol=1e-4, atol=1e-5)
    assert float((other - together).abs().max()) > 1e-3  # which sensor it is counts
    with pytest.raises(InvalidValue, match="sizes for 1 axes"):
        encoder(replace(config, sizes=(0,)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channels": 9, "sensors": 2}, "9 channels cannot be of 2 sensors"),
        ({"channels": 0}, "channels is 0"),
        ({"patch": -1}, "patch is -1"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"offset": float("nan")}, "offset is nan"),
        ({"seconds_max": 0.001}, "no sample at 32.0 Hz"),
        ({"channels": 2, "names": ("a", "a")}, re.escape("names ('a', 'a')")),
        ({"channels": 2, "names": ("a",)}, "2 channels have the names"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        TimeSeriesPreprocessor(**options)  # type: ignore[arg-type]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        PREPROCESS([])
