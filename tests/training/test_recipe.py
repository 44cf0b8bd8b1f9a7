"""What the data says of itself becomes numbers of the config, and whoever knows better overrides them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from intermodal import catalog
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidData, InvalidValue, UnknownName, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.systems.clip import build
from intermodal.testing import batches
from intermodal.training.recipe import recipe


def picture(height: int, width: int) -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sound(channels: int) -> Audio:
    return Audio(np.random.default_rng(0).uniform(-1, 1, (channels, 8000)).astype(np.float32), 16000)


def trace(channels: int = 3, samples: int = 80, rate_hz: float = 50.0) -> TimeSeries:
    values = np.random.default_rng(0).normal(5.0, 2.0, (channels, samples)).astype(np.float32)
    return TimeSeries(values, tuple(f"c{i}" for i in range(channels)), rate_hz)


class Few:
    """Samples given one by one; their fields are named after their modalities."""

    def __init__(self, *samples: Mapping[str, Any]) -> None:
        self.given = samples
        self.fields = {name: item.modality for sample in samples for name, item in sample.items()}

    def __len__(self) -> int:
        return len(self.given)

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        return [dict(self.given[i]) for i in index]


def preprocessor(source: Any, name: str, **options: Any) -> Any:
    return recipe("clip", source, **options).towers[name].preprocessor


@pytest.mark.parametrize(
    ("size", "expected"), [((28, 28), (32, 32, 8)), ((40, 20), (32, 32, 8)), ((41, 20), (64, 64, 16))]
)
def test_small_pictures_get_32_pixels(size: tuple[int, int], expected: tuple[int, int, int]) -> None:
    made = preprocessor(Few({"text": Text("a"), "image": picture(*size)}), "image")
    assert (made.height, made.width, made.patch) == expected


def test_one_large_picture_among_small_ones_changes_nothing() -> None:
    samples = [{"text": Text("a"), "image": picture(*size)} for size in ((28, 28), (300, 200), (28, 30))]
    assert preprocessor(Few(*samples), "image").height == 32


def test_channels_of_sound_are_those_of_the_data() -> None:
    assert preprocessor(Few({"text": Text("a"), "audio": sound(1)}), "audio").channels == 1
    mixed = Few({"text": Text("a"), "audio": sound(1)}, {"audio": sound(2)})
    assert preprocessor(mixed, "audio").channels == 2


def test_series_give_channels_rate_scale_and_about_four_tokens() -> None:
    item = trace()
    made = preprocessor(Few({"text": Text("a"), "timeseries": item}, {"timeseries": trace(2)}), "timeseries")
    assert (made.channels, made.sample_rate_hz, made.patch) == (3, 50.0, 16)
    values = made([item]).values
    assert abs(float(values.mean())) < 0.1
    assert float(values.std()) == pytest.approx(1.0, abs=0.05)
    assert preprocessor(Few({"text": Text("a"), "timeseries": trace(1, 7)}), "timeseries").patch == 1


def test_series_that_never_vary_are_not_divided_by_nothing() -> None:
    flat = TimeSeries(np.full((1, 16), 3.0, np.float32), ("a",), 10.0)
    made = preprocessor(Few({"text": Text("a"), "timeseries": flat}), "timeseries")
    assert (made.offset, made.scale) == (3.0, 1.0)


def test_what_is_chosen_fits_together() -> None:
    sample = {"text": Text("a b"), "image": picture(28, 28), "audio": sound(1), "timeseries": trace()}
    source = Few(sample, {**sample, "text": Text("c")})
    torch.manual_seed(0)
    model = build(recipe("clip", source))
    losses = model.losses(batches(model, source.samples([0, 1])))
    assert len(losses) == 6
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_vocabulary_is_the_datas_own_where_it_has_one() -> None:
    source = Diorama("train", fields=("text", "timeseries"), size=100)
    assert preprocessor(source, "text").tokenizer.words == tuple(Diorama.vocabulary)


def test_words_are_those_of_the_texts_of_the_captions_or_of_the_samples() -> None:
    samples = [{"text": Text("one two"), "timeseries": trace()}, {"text": Text("two three"), "timeseries": trace()}]

    class Captioned(Few):
        def captions(self, index: int, field: str | None = None) -> tuple[str, ...]:
            return (("four", "five six"), ())[index]

    class Texts(Captioned):
        def texts(self, field: str, index: Iterable[int]) -> list[str]:
            return [f"{field} {i}" for i in index]

    def words(source: Any) -> set[str]:
        return set(preprocessor(source, "text").tokenizer.words)

    assert words(Few(*samples)) == {"one", "two", "three"}
    assert words(Captioned(*samples)) == {"four", "five", "six", "two", "three"}  # a row without captions has its text
    assert words(Texts(*samples)) == {"text", "0", "1"}


def test_only_the_fields_asked_for_become_towers() -> None:
    source = Few({"text": Text("a"), "image": picture(28, 28), "timeseries": trace()})
    assert list(recipe("clip", source).towers) == ["text", "image", "timeseries"]
    assert list(recipe("clip", source, fields=("timeseries", "text")).towers) == ["text", "timeseries"]


def test_changes_come_last() -> None:
    source = Few({"text": Text("a"), "image": picture(28, 28)})
    changes = {"width": "64", "towers.image.preprocessor.height": "40", "towers.text.depth": "1", "pairs": "text"}
    made = recipe("clip", source, changes=changes)
    assert (made.width, made.pairs, made.towers["text"].depth) == (64, "text", 1)
    shape = made.towers["image"].preprocessor
    assert (shape.height, shape.width) == (40, 32)


def test_published_size_keeps_its_numbers() -> None:
    made = preprocessor(Few({"text": Text("a"), "image": picture(28, 28)}), "image", size="paper")
    assert (made.height, made.patch) == (224, 32)


def test_field_that_no_sample_has_is_said() -> None:
    source = Few({"text": Text("a"), "timeseries": trace()})
    source.fields["image"] = "image"
    with pytest.raises(InvalidData, match="no sample has the field 'image'"):
        recipe("clip", source)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"system": "clop"}, UnknownName, "no system named 'clop'"),
        ({"size": "huge"}, UnknownName, "'huge'; use one of: paper, tiny"),
        ({"fields": ("text", "smell")}, UnknownName, "'smell'; use one of: text, timeseries"),
        ({"changes": {"towers.text.breadth": "3"}}, UnknownName, "'breadth'"),
        ({"changes": {"towers.text.width": "wide"}}, InvalidValue, "'wide' is no int"),
    ],
)
def test_names_and_numbers_that_do_not_exist_are_named(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    source = Few({"text": Text("a"), "timeseries": trace()})
    with pytest.raises(kind, match=message):
        recipe(**{"system": "clip", "source": source, **options})


def test_codec_has_one_field_its_preprocessor_and_its_range() -> None:
    source = Few({"text": Text("a"), "image": picture(28, 28)}, {"image": picture(28, 28)})
    with pytest.raises(Unsupported, match="choose one with --fields: image"):
        recipe("codec", source)
    made = recipe("codec", source, fields=("image",), changes={"codebook.groups": "3"})
    assert (made.name, made.preprocessor.height, made.codebook.groups) == ("image", 32, 3)
    values = (made.preprocessor([s["image"] for s in source.samples([0, 1])]).values - made.offset) / made.scale
    assert float(values.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(values.std()) == pytest.approx(0.5, abs=1e-3)
    tokens = catalog.module("systems", "codec").build(made).tokens([picture(28, 28)])
    assert tokens.mask.shape[1] == 16


def test_codec_takes_series_of_any_length() -> None:
    for length in (1, 7, 80):
        source = Few({"timeseries": trace(2, length)})
        model = catalog.module("systems", "codec").build(recipe("codec", source))
        ids = model.tokens([source.samples([0])[0]["timeseries"]])
        assert model.items(ids.values, ids.mask)[0].values.shape[1] >= length


def test_codec_of_what_never_varies_is_not_divided_by_nothing() -> None:
    flat = TimeSeries(np.full((1, 16), 3.0, np.float32), ("a",), 10.0)
    assert recipe("codec", Few({"timeseries": flat})).scale == 1.0


def pairs() -> Few:
    return Few({"text": Text("a b"), "image": picture(28, 28)}, {"text": Text("b c"), "image": picture(28, 28)})


def test_saved_parts_are_taken_in_whole_and_changes_come_after() -> None:
    part = recipe("codec", pairs(), fields=("image",), changes={"codebook.groups": "3"})
    made = recipe("dalle1", pairs(), changes={"width": "96"}, parts={"codecs.image": part})
    assert made.codecs == {"image": part}
    assert (made.width, made.text.tokenizer.words) == (96, ("b", "a", "c"))
    changed = recipe("dalle1", pairs(), changes={"codecs.image.offset": "0.5"}, parts={"codecs.image": part})
    assert changed.codecs["image"] == dataclasses.replace(part, offset=0.5)


@pytest.mark.parametrize(
    ("system", "path", "part", "kind", "message"),
    [
        ("dalle1", "codecs.image", "clip", InvalidValue, "codecs.image is of type codec; it takes no config of clip"),
        ("dalle1", "codecs.photo", "codec", InvalidValue, "draws one field, not image, photo"),
        ("dalle1", "codec.image", "codec", UnknownName, "'codec'; use one of: codecs, depth"),
        ("dalle1", "width", "codec", InvalidValue, "width is of type int; it takes no config of codec"),
        ("clip", "towers.image", "codec", InvalidValue, "it takes no config of codec"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    system: str, path: str, part: str, kind: type[Exception], message: str
) -> None:
    saved = recipe(part, pairs(), fields=("image",) if part == "codec" else None)
    with pytest.raises(kind, match=message):
        recipe(system, pairs(), parts={path: saved})
