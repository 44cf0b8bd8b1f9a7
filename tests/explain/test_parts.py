"""Parts of items: a model whose vectors are known shows which part it must be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.explain.parts import Part, explain, heat


class Known:
    """Vectors of two numbers: how much of what is looked for is in an item, and 1."""

    def __init__(self, share: Any) -> None:
        """Keeps what tells it."""
        self.share = share

    def embed(self, items: Sequence[Any], **_: Any) -> torch.Tensor:
        """Returns unit rows; a query of words is what is looked for."""
        rows = torch.tensor([[1.0, 0.0] if i == 0 else [float(self.share(x)), 1.0] for i, x in enumerate(items)])
        return torch.nn.functional.normalize(rows, dim=-1)


QUERY = im.Text("what is looked for")


def test_the_region_that_decides_is_found_in_a_picture() -> None:
    pixels = np.full((60, 48, 3), 30, np.uint8)
    pixels[30:40, 8:16] = 250  # the fourth row and the second column of six
    model = Known(lambda item: (item.pixels > 200).mean() * 20)
    found = explain(model, im.Image(pixels), QUERY)
    assert len(found.parts) == 36
    grid = heat(found.parts)
    assert grid.shape == (6, 6)
    assert np.unravel_index(grid.argmax(), grid.shape) == (3, 1)
    assert found.strongest.box == pytest.approx((1 / 6, 0.5, 2 / 6, 4 / 6))
    assert grid[0, 5] == pytest.approx(0, abs=1e-6)
    share = 80 / (60 * 48) * 20
    assert found.cosine == pytest.approx(share / np.hypot(share, 1), rel=1e-5)


def test_the_weight_of_a_part_is_what_the_cosine_loses() -> None:
    pixels = np.full((2, 2, 3), 30, np.uint8)
    pixels[0, 0] = 250
    model = Known(lambda item: float(item.pixels[0, 0, 0] > 200))
    found = explain(model, im.Image(pixels), QUERY, cells=2)
    fall = np.sqrt(0.5)
    assert [part.weight for part in found.parts] == pytest.approx([fall, fall / 2, fall / 2, fall / 4], rel=1e-5)


def test_the_seconds_that_decide_are_found_in_a_sound() -> None:
    samples = np.zeros((1, 12_000), np.float32)
    samples[0, 7_000:8_000] = 0.5
    found = explain(Known(lambda item: np.abs(item.samples).mean() * 9), im.Audio(samples, 1_000), QUERY)
    assert (found.strongest.start_s, found.strongest.stop_s) == (7.0, 8.0)
    assert [part.start_s for part in found.parts] == [float(i) for i in range(12)]


def test_regions_and_moments_of_a_clip_are_told_apart() -> None:
    frames = np.full((8, 32, 32, 3), 30, np.uint8)
    frames[5, 8:16, 24:] = 250
    found = explain(Known(lambda item: (item.frames > 200).mean() * 90), im.Video(frames, 4.0), QUERY)
    regions, moments = found.parts[:16], found.parts[16:]
    assert max(regions, key=lambda part: part.weight).box == (0.75, 0.25, 1.0, 0.5)
    best = max(moments, key=lambda part: part.weight)
    assert (best.start_s, best.stop_s) == (1.25, 1.5)
    assert len(moments) == 8


def test_a_clip_of_one_frame_has_regions_alone() -> None:
    found = explain(Known(lambda item: 1.0), im.Video(np.zeros((1, 8, 8, 3), np.uint8), 4.0), QUERY)
    assert len(found.parts) == 16
    assert all(part.box for part in found.parts)


def test_seconds_and_channels_of_a_series() -> None:
    values = np.zeros((3, 24), np.float32)
    values[1, 10:12] = 5.0
    series = im.TimeSeries(values, ("x", "y", "z"), 2.0)
    found = explain(Known(lambda item: np.abs(item.values).mean()), series, QUERY)
    spans, channels = found.parts[:12], found.parts[12:]
    assert max(spans, key=lambda part: part.weight).start_s == 5.0
    assert [part.channel for part in channels] == ["x", "y", "z"]
    assert max(channels, key=lambda part: part.weight).channel == "y"


def test_words_are_left_out_one_by_one() -> None:
    text = "a small  red circle,\nand more"
    model = Known(lambda item: "red" in item.text)
    found = explain(model, im.Text(text), QUERY)
    assert [part.words for part in found.parts] == text.split()
    assert all(text[slice(*part.place)] == part.words for part in found.parts if part.place)
    assert found.strongest.words == "red"
    assert sum(part.weight > 1e-6 for part in found.parts) == 1


def test_a_long_text_is_told_several_words_at_a_time() -> None:
    words = [f"w{i}" for i in range(500)]
    found = explain(Known(lambda item: "w123" in item.text.split()), im.Text(" ".join(words)), QUERY)
    assert len(found.parts) == 64
    assert "w123" in (found.strongest.words or "").split()


def test_what_is_hidden_leaves_the_item_as_it_was() -> None:
    image = im.Diorama("test", fields=("image",)).samples([3])[0]["image"]
    before = image.content_hash()
    explain(Known(lambda item: item.pixels.mean() / 255), image, QUERY)
    assert image.content_hash() == before


def test_told_holds_what_is_known_and_no_more() -> None:
    assert Part(0.5, start_s=1.0, stop_s=2.0).told() == {"weight": 0.5, "start_s": 1.0, "stop_s": 2.0}


def test_mistakes_are_explained() -> None:
    with pytest.raises(im.InvalidValue, match="1 cells and 12 spans"):
        explain(Known(lambda item: 1.0), im.Text("x"), QUERY, cells=1)
    with pytest.raises(im.InvalidValue, match="no regions"):
        heat([Part(1.0, words="x")])


@pytest.mark.parametrize("field", ["text", "image", "audio", "video", "timeseries"])
def test_the_shipped_model_explains_every_modality(field: str) -> None:
    model = im.load("diorama")
    sample = im.Diorama("test").samples([5])[0]
    other = sample["image" if field != "image" else "text"]
    found = explain(model, sample[field], other, cells=3, spans=4)
    assert found.cosine == pytest.approx(float(model.score([sample[field]], [other])), abs=2e-3)
    assert found.strongest.weight > 0.01
