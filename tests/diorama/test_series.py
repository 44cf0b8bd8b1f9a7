"""A tracker's channels: the same in any batch, true to the scene, read back exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.scene import Scene, Scenes, Thing, draw_scenes
from intermodal.diorama.series import CHANNELS, EXTENTS, NOISE, NOISE_MAX, SAMPLES, TRAVEL, read_series, render_series
from intermodal.errors import InvalidValue, UnreadableMedia


def _repeated(thing: Thing, count: int) -> Scenes:
    return Scenes.of([Scene((thing,))] * count)


def _wrong(split: str, noise: float, ids: range) -> list[str]:
    scenes = draw_scenes(split, ids)
    pairs = zip(scenes, render_series(scenes, ids, noise=noise), strict=True)
    return [str(a) for a, values in pairs if read_series(values).seen_by("timeseries") != a.seen_by("timeseries")]


@pytest.mark.parametrize("noise", [0.0, NOISE, NOISE_MAX])
@pytest.mark.parametrize("split", ["train", "test", "compositional"])
def test_series_are_read_exactly(split, noise):
    assert _wrong(split, noise, range(300)) == []


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, NOISE, NOISE_MAX])
@pytest.mark.parametrize("split", ["train", "test", "compositional"])
def test_thousands_of_series_are_read_exactly(split, noise):
    assert _wrong(split, noise, range(300, 3300)) == []


def test_a_scene_gives_the_same_series_alone_and_in_any_batch():
    ids = np.arange(500, 700)
    scenes = draw_scenes("train", ids)
    batch = render_series(scenes, ids)
    assert batch.shape == (200, len(CHANNELS), SAMPLES)
    for i in (0, 77, 199):
        np.testing.assert_array_equal(render_series(scenes.take([i]), ids[[i]])[0], batch[i])
    np.testing.assert_array_equal(render_series(scenes.take(slice_ := np.arange(3, 50)), ids[slice_]), batch[3:50])
    assert (render_series(scenes, ids, seed=1) != batch).any(axis=(1, 2)).all()
    assert -0.05 < batch.min() < batch.max() < 1.1


def test_channels_say_where_an_object_is_how_large_it_is_and_how_it_moves():
    values = render_series(_repeated(Thing(cell=5, shape=0, colour=0, size=1, motion=3), 300), range(300), noise=0)
    tracks = values.reshape(300, 3, 3, SAMPLES)
    there = tracks.any(axis=(2, 3))
    assert there.sum(axis=1).tolist() == [1] * 300
    np.testing.assert_allclose(there.mean(axis=0), 1 / 3, atol=0.1)  # the track is drawn
    x, y, extent = np.moveaxis(tracks[there], 1, 0)
    assert x.mean() == pytest.approx(5 / 6, abs=0.005)
    assert y[:, 0].mean() == pytest.approx(1 / 2, abs=0.005)
    assert (y[:, -1] - y[:, 0]).mean() == pytest.approx(-TRAVEL, abs=0.005)
    assert extent.mean() == pytest.approx(EXTENTS[1], abs=0.005)
    assert x[:, 0].std() > 0.005


def test_a_track_without_an_object_is_zero_but_for_the_noise():
    scenes = _repeated(Thing(0, 0, 0, 0, 0), 50)
    clean = render_series(scenes, range(50), noise=0)
    assert ((clean == 0).all(axis=2).sum(axis=1) == 6).all()
    left_over = render_series(scenes, range(50), noise=0.01) - clean
    assert left_over.std() == pytest.approx(0.01, rel=0.05)
    assert np.abs(np.corrcoef(left_over[0])[np.triu_indices(9, 1)]).max() < 0.6


def test_shape_and_colour_leave_no_trace():
    plain, other = Thing(4, 0, 0, 1, 2), Thing(4, 5, 7, 1, 2)
    np.testing.assert_array_equal(
        render_series(_repeated(plain, 9), range(9)), render_series(_repeated(other, 9), range(9))
    )


def _tracks(*tracks: tuple[float, float, float]) -> np.ndarray:
    values = np.zeros((3, 3, SAMPLES), np.float32)
    for k, track in enumerate(tracks):
        values[k] = np.array(track)[:, None]
    return values.reshape(9, SAMPLES)


def test_of_two_tracks_in_one_cell_the_more_central_one_is_kept():
    values = _tracks((0.30, 0.17, EXTENTS[0]), (0.17, 0.17, EXTENTS[1]), (0.9, 0.9, EXTENTS[0]))
    assert read_series(values) == Scene((Thing(0, 0, 0, 1, 0), Thing(8, 0, 0, 0, 0)))
    assert read_series(_tracks((-3.0, 9.0, EXTENTS[0]))) == Scene((Thing(6, 0, 0, 0, 0),))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6))
def test_noise_gives_a_scene_or_unreadable(seed, loudness):
    values = np.random.default_rng(seed).normal(0, loudness, (9, SAMPLES)).astype(np.float32)
    try:
        assert 1 <= len(read_series(values).things) <= 3
    except UnreadableMedia as error:
        assert "no track reaches" in str(error)  # noqa: PT017


def test_what_is_no_series_is_refused():
    with pytest.raises(UnreadableMedia, match="no track reaches an extent"):
        read_series(np.zeros((9, SAMPLES), np.float32))
    with pytest.raises(UnreadableMedia, match="not finite"):
        read_series(np.full((9, SAMPLES), np.nan, np.float32))
    with pytest.raises(InvalidValue, match="9 channels of 64 samples"):
        read_series(np.zeros((9, 32), np.float32))
    scenes = draw_scenes("train", range(2))
    with pytest.raises(InvalidValue, match="2 scenes came with 1 indices"):
        render_series(scenes, [0])
    with pytest.raises(InvalidValue, match=r"0 to 0\.02"):
        render_series(scenes, [0, 1], noise=0.5)
