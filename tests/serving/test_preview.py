"""Items made small."""

import json
from typing import Any

import numpy as np
import pytest

import intermodal as im
from intermodal.serving import preview


def told(item: Any, size: int = 8) -> dict[str, Any]:
    data, media_type = preview.made(item, size)
    assert media_type == "application/json"
    found: dict[str, Any] = json.loads(data)
    return found


def test_a_picture_and_a_clip_become_small_pictures() -> None:
    wide = np.zeros((50, 100, 3), np.uint8)
    wide[:, :50] = 200
    for item in (im.Image(wide), im.Video(np.stack([wide, 0 * wide]), 8.0)):
        data, media_type = preview.made(item, 40)
        assert media_type == "image/webp"
        small = im.Image.open(data).pixels
        assert small.shape == (20, 40, 3)
        assert small[:, :18].mean() > 190, "the first frame"
        assert small[:, 22:].mean() < 10


def test_a_very_small_picture_keeps_every_pixel_and_a_large_one_few_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    data, _ = preview.made(im.Image(pixels[:64, :64]), 320)
    assert im.Image.open(data) == im.Image(pixels[:64, :64])
    data, _ = preview.made(im.Image(pixels), 300)
    assert len(data) < pixels.nbytes / 3


def test_the_outline_of_a_sound_holds_its_ends_over_all_channels() -> None:
    samples = np.zeros((2, 800), np.float32)
    samples[0, 250], samples[1, 799] = 0.5, -0.25
    found = told(im.Audio(samples, 8000))
    (channel,) = found["channels"]
    assert found["seconds"] == 0.1
    assert channel["high"] == [0, 0, 0.5, 0, 0, 0, 0, 0]
    assert channel["low"] == [0, 0, 0, 0, 0, 0, 0, -0.25]


def test_a_series_has_an_outline_per_channel_and_says_what_is_left_out() -> None:
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    found = told(im.TimeSeries(values, tuple(f"c{n}" for n in range(20)), 2.0))
    assert [one["name"] for one in found["channels"]] == [f"c{n}" for n in range(preview.CHANNELS_MAX)]
    assert found["channels"][3] == {"name": "c3", "low": [6, 7], "high": [6, 7]}
    assert (found["left_out"], found["seconds"]) == (8, 1.0)


def test_the_beginning_of_a_long_text() -> None:
    found = told(im.Text("x" * (preview.TEXT_MAX + 5)))
    assert (len(found["text"]), found["left_out"]) == (preview.TEXT_MAX, 5)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 1000])
def test_every_value_is_in_one_column(length: int) -> None:
    values = np.random.default_rng(length).standard_normal((3, length)).astype(np.float32)
    low, high = preview.outline(values, 8)
    assert low.shape == high.shape == (3, min(8, length))
    assert np.array_equal(low.min(1), values.min(1))
    assert np.array_equal(high.max(1), values.max(1))
    assert (low <= high).all()
