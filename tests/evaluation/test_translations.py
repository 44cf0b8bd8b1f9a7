"""Measured translators whose faults are known: a perfect one, and some that go wrong in a countable way."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intermodal.diorama.scene import Scene
from intermodal.diorama.source import Diorama
from intermodal.errors import MissingExtra, UnknownName, Unsupported
from intermodal.evaluation.scenes import attributes_shared
from intermodal.evaluation.translations import completions, examples, translations
from intermodal.evaluation.uncertainty import wilson
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model
from tests.translators import ALL, FIELDS, NOTHING, Completer, Oracle, recolour, recolour_first

SOURCE = Diorama("test", size=10)
SCENES = list(SOURCE.scenes(range(10)))
OBJECTS = sum(len(scene.things) for scene in SCENES)
PLACED = [("text", "image"), ("video", "image"), ("image", "text"), ("text", "video")]
"""Directions whose target tells the cell, so that no two objects can be taken for each other."""


def test_a_perfect_translator_scores_one_in_all_twenty_directions():
    shares: list[float] = []
    result = translations(Oracle(), SOURCE, batch_size=4, progress=lambda share, _: shares.append(share))
    assert set(result["directions"]) == {f"{a}>{b}" for a, b in ALL}
    for name, figures in result["directions"].items():
        a, b = name.split(">")
        assert figures["attributes"] == list(attributes_shared(a, b))
        assert (figures["attribute_accuracy"], figures["scene_accuracy"]) == (1.0, 1.0), name
        assert (figures["unreadable_share"], figures["count"]) == (0.0, 10.0)
        assert figures["scene_accuracy_low"] == pytest.approx(wilson(10, 10)[0])
    assert result["mean"]["attribute_accuracy"] == result["mean"]["scene_accuracy"] == 1.0
    assert (result["name"], result["split"], result["count"]) == ("diorama", "test", 10)
    assert (result["candidates"], result["sampling"], result["batch_size"]) == (1, None, 4)
    assert result["left_out"] == {}
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_wrong_colours_cost_just_the_colour():
    result = translations(Oracle(spoil=recolour), SOURCE, directions=[*PLACED, ("text", "timeseries")])
    for a, b in PLACED:
        figures, shared = result["directions"][f"{a}>{b}"], attributes_shared(a, b)
        assert figures["colour_accuracy"] == figures["scene_accuracy"] == 0.0
        assert figures["attribute_accuracy"] == pytest.approx(1 - 1 / len(shared))
    series = result["directions"]["text>timeseries"]  # which tells no colour
    assert (series["attribute_accuracy"], series["scene_accuracy"]) == (1.0, 1.0)
    lost = [1 / len(attributes_shared(a, b)) for a, b in PLACED]
    assert result["mean"]["attribute_accuracy"] == pytest.approx(1 - sum(lost) / 5)
    assert result["mean"]["scene_accuracy"] == pytest.approx(1 / 5)


def test_one_wrong_object_costs_its_share_and_the_whole_scene():
    figures = translations(Oracle(spoil=recolour_first), SOURCE, directions=PLACED)["directions"]["text>image"]
    assert figures["objects"] == OBJECTS
    assert figures["colour_accuracy"] == pytest.approx((OBJECTS - 10) / OBJECTS)
    assert figures["shape_accuracy"] == 1.0
    assert figures["scene_accuracy"] == 0.0


def test_scenes_that_are_spared_are_right_with_their_interval():
    def crowded(scene: Scene) -> Scene:
        return recolour(scene) if len(scene.things) == 3 else scene

    spared = sum(len(scene.things) < 3 for scene in SCENES)
    assert 0 < spared < 10
    figures = translations(Oracle(spoil=crowded), SOURCE, directions=[("text", "image")])["directions"]["text>image"]
    assert figures["scene_accuracy"] == spared / 10
    assert (figures["scene_accuracy_low"], figures["scene_accuracy_high"]) == pytest.approx(wilson(spared, 10))


def test_a_lost_motion_is_seen_where_both_sides_carry_it():
    def still(scene: Scene) -> Scene:
        return Scene(tuple(replace(t, motion=0) for t in scene.things))

    result = translations(Oracle(spoil=still), SOURCE, directions=[("text", "video"), ("image", "video")])
    unmoved = sum(t.motion == 0 for scene in SCENES for t in scene.things)
    assert result["directions"]["text>video"]["motion_accuracy"] == pytest.approx(unmoved / OBJECTS)
    assert result["directions"]["image>video"]["attribute_accuracy"] == 1.0


class Mumbler(Oracle):
    """Says nothing of use of every second item; ``clock`` advances by 2 s per item."""

    clock = 0.0

    def translate(self, items: Sequence[Any], to: str, **options: Any) -> list[Any]:
        self.clock += 2.0 * len(items)
        made = super().translate(items, to, **options)
        return [Text("nothing to see here") if n % 2 else item for n, item in enumerate(made)]


def test_what_cannot_be_read_is_counted_and_wrong(monkeypatch):
    model = Mumbler()
    monkeypatch.setattr("intermodal.evaluation.translations.time.perf_counter", lambda: model.clock)
    figures = translations(model, SOURCE, directions=[("image", "text")])["directions"]["image>text"]
    assert (figures["unreadable"], figures["unreadable_share"]) == (5.0, 0.5)
    assert figures["scene_accuracy"] == 0.5
    kept = sum(len(scene.things) for scene in SCENES[::2])
    assert figures["attribute_accuracy"] == pytest.approx(kept / OBJECTS)
    assert figures["seconds_per_item"] == pytest.approx(2.0)


class Rambler(Oracle):
    """Goes on for too long in the first item of each request."""

    def translate(self, items: Sequence[Any], to: str, **options: Any) -> list[Any]:
        first, *others = super().translate(items, to, **options)
        longer = np.concatenate([first.values, first.values], axis=1)
        return [TimeSeries(longer, first.channels, first.sample_rate_hz), *others]


def test_results_in_another_format_are_unreadable_and_told_apart():
    result = translations(Rambler(), SOURCE, directions=[("text", "timeseries")], batch_size=4)
    figures = result["directions"]["text>timeseries"]
    assert (figures["misshapen"], figures["unreadable"], figures["scene_accuracy"]) == (3, 3.0, 0.7)
    assert "shape (9, 128)" in figures["misshapen_why"]
    good = translations(Oracle(), SOURCE, directions=[("text", "timeseries")])["directions"]["text>timeseries"]
    assert (good["misshapen"], good["misshapen_why"]) == (0, "")


def test_the_request_reaches_the_model_and_the_result():
    model, sampling = Oracle(), Sampling(temperature=0.5, seed=3)
    result = translations(model, SOURCE, directions=[("text", "image")], count=4, sampling=sampling, batch_size=8)
    assert [call["items"] for call in model.calls] == [8, 2]
    assert {(call["count"], call["sampling"]) for call in model.calls} == {(4, sampling)}
    assert result["candidates"] == 4
    assert result["sampling"] == {"temperature": 0.5, "top_k": 0, "top_p": 1.0, "seed": 3}


def test_only_directions_between_the_fields_asked_for():
    result = translations(Oracle(), SOURCE, fields=["text", "image"])
    assert list(result["directions"]) == ["text>image", "image>text"]
    with pytest.raises(UnknownName, match="'smell'"):
        translations(Oracle(), SOURCE, fields=["text", "smell"])


def test_what_cannot_be_measured_is_left_out_and_said_to_be(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = Oracle([("text", "image"), ("speech", "text"), ("text", "speech"), ("text", "answer")])
    result = translations(model, SOURCE)
    assert list(result["directions"]) == ["text>image"]
    assert set(result["left_out"]) == {"speech>text", "text>speech", "text>answer"}
    assert "no field 'speech'" in result["left_out"]["speech>text"]
    assert "pocketsphinx" in result["left_out"]["text>speech"]
    assert "answer shows no whole scene" in result["left_out"]["text>answer"]
    with pytest.raises(MissingExtra, match="pocketsphinx"):
        translations(model, SOURCE, directions=[("text", "speech")])
    with pytest.raises(Unsupported, match="no direction of the model can be measured .* speech>text: the data has no"):
        translations(Oracle([("speech", "text")]), SOURCE)
    with pytest.raises(Unsupported, match="the model has no direction image>text; it has text>image"):
        translations(model, SOURCE, directions=[("image", "text")])


def test_a_transcript_is_read_as_text():
    result = translations(Oracle([("image", "transcript")]), SOURCE)
    assert result["directions"]["image>transcript"]["scene_accuracy"] == 1.0


class Blind:
    """Data that does not know what it shows."""

    def describe(self) -> dict[str, Any]:
        return {"name": "holiday", "split": "test", "count": 3}


def test_data_without_scenes_and_models_without_directions_are_refused():
    for measure in (translations, completions):
        with pytest.raises(Unsupported, match=r"holiday does not know .* give diorama"):
            measure(Completer(), Blind())
    for measure, model, message in (
        (translations, object(), "does not translate"),
        (completions, Oracle(), "nothing from several fields together"),
    ):
        unchecked = getattr(measure, "__wrapped__", measure)  # without the types that are checked in tests
        with pytest.raises(Unsupported, match=message):
            unchecked(model, SOURCE)


def test_a_perfect_model_completes_every_field_from_the_other_four():
    model = Completer()
    result = completions(model, SOURCE, batch_size=6)
    assert list(result["fields"]) == list(FIELDS)
    for to, figures in result["fields"].items():
        assert figures["from"] == [name for name in FIELDS if name != to]
        assert figures["attributes"] == list(attributes_shared([n for n in FIELDS if n != to], to))
        assert (figures["attribute_accuracy"], figures["scene_accuracy"], figures["count"]) == (1.0, 1.0, 10.0)
    assert result["mean"]["attribute_accuracy"] == 1.0
    assert {call["source"] for call in model.calls if call["to"] == "audio"} == {"text+image+video+timeseries"}


def test_completions_judge_what_any_of_the_others_tells():
    source = Diorama("test", fields=("image", "timeseries", "video"), size=10)
    model = Completer([("image", "video"), ("timeseries", "video"), ("video", "image")])
    result = completions(model, source, fields=["image", "timeseries", "video"])
    assert list(result["fields"]) == ["image", "video"]  # it writes no series
    video = result["fields"]["video"]
    assert video["attributes"] == ["shape", "colour", "size", "cell", "motion"]
    # the fake looks at the picture alone, and a picture does not tell the motion
    unmoved = sum(t.motion == 0 for scene in SCENES for t in scene.things)
    assert video["motion_accuracy"] == pytest.approx(unmoved / OBJECTS)
    assert video["shape_accuracy"] == 1.0


def test_completions_refuse_too_few_or_unknown_fields():
    with pytest.raises(Unsupported, match="there is only text"):
        completions(Completer(), Diorama("test", fields=("text",), size=2))
    with pytest.raises(UnknownName, match="'speech'"):
        completions(Completer(), SOURCE, fields=["text", "speech"])


def test_examples_are_what_was_asked_made_and_had():
    shown = examples(Oracle(), SOURCE, ["text>image", "audio>text"], count=2)
    assert [len(rows) for rows in shown.values()] == [2, 2]
    samples = SOURCE.samples(range(4))
    assert [row[0] for row in shown["text>image"]] == [s["text"] for s in samples[:2]]
    assert [row[2] for row in shown["audio>text"]] == [s["text"] for s in samples[2:]]
    assert all(row[1].modality == "image" for row in shown["text>image"])
    bare = Diorama("test", fields=("text",), size=4)
    assert [row[2] for row in examples(Oracle(), bare, ["text>image"], 1)["text>image"]] == [None]
    assert NOTHING not in SCENES  # what the fake shows where it reads nothing is no accident


def test_the_model_that_comes_with_the_package_translates() -> None:
    ways = [("image", "text"), ("text", "image"), ("audio", "timeseries"), ("text", "video")]
    found = translations(load_model("diorama"), Diorama("test", size=16), directions=ways)["directions"]
    assert {name: way["attribute_accuracy"] > 0.85 for name, way in found.items()} == {
        f"{a}>{b}": True for a, b in ways
    }
