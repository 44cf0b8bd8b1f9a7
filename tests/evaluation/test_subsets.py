"""Figures of subsets against models whose answers are known, noise of a known share, a late fusion of known best."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.decoders.tasks import Task
from intermodal.errors import InvalidData, InvalidValue, UnknownName, Unsupported
from intermodal.evaluation import subsets
from intermodal.evaluation.subsets import Told, against, by_subset, noisy, pooled, score, subsets_of, told, tuned_pool
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video

TASK = Task("classes", ("no", "yes"))


class Reads:
    """Holds a class as likely as the words of its fields say: ``yes`` in all of them for certain."""

    def __init__(self, fields: Sequence[str], words: tuple[str, ...] = TASK.words) -> None:
        self.tasks = {"label": Task("classes", words)}
        self.fields = fields

    def predict(self, samples: Sequence[Any]) -> dict[str, torch.Tensor]:
        rows = []
        for sample in samples:
            said = [sample[f].text == "yes" for f in self.fields if f in sample]
            yes = sum(said) / len(said) if said else 0.5
            rows.append([1 - yes, yes + 1e-3])
        return {"label": torch.tensor(rows)}


class Rows:
    """Samples given as rows of words for the fields a, b and label."""

    def __init__(self, *rows: tuple[str, str, str]) -> None:
        self.rows = [dict(zip(("a", "b", "label"), row, strict=True)) for row in rows]
        self.fields = dict.fromkeys(("a", "b", "label"), "text")

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        return [{k: Text(v) for k, v in self.rows[i].items() if v} for i in index]

    def describe(self) -> dict[str, Any]:
        return {"name": "rows", "split": "test", "count": len(self)}


SOURCE = Rows(
    ("yes", "yes", "yes"), ("yes", "no", "yes"), ("no", "no", "no"), ("no", "yes", "no"), ("no", "", "no"),
    ("no", "no", "perhaps"),
)  # fmt: skip


def test_only_complete_samples_count_and_unknown_classes_are_wrong() -> None:
    found = told(SOURCE, ("a", "b"), "label", TASK)
    assert len(found.samples) == 5
    assert found.truth.tolist() == [1, 1, 0, 0, -1]
    assert score(TASK, np.eye(2)[[1, 1, 0, 0, 0]], found.truth) == pytest.approx(4 / 5)
    assert len(told(SOURCE, ("a",), "label", TASK, limit=2).samples) == 2


def test_every_subset_gets_its_figure_and_each_field_its_weight() -> None:
    found = by_subset(Reads(("a", "b")), told(SOURCE, ("a", "b"), "label", TASK), ("a", "b"), "label", noise=())
    assert {name: each["accuracy"] for name, each in found["subsets"].items()} == {"a": 0.8, "b": 0.4, "a+b": 0.6}
    low, high = found["subsets"]["a"]["interval"]
    assert low < 0.8 < high
    assert found["changes_without"] == {"a": pytest.approx(1 / 5), "b": pytest.approx(1 / 5)}
    assert found["noise"] == {}
    assert subsets_of("abc") == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]


def test_noise_takes_from_a_field_what_it_tells() -> None:
    steps: list[float] = []
    test = told(SOURCE, ("a", "b"), "label", TASK)
    found = by_subset(Reads(("a", "b")), test, ("a", "b"), "label", (0.0, 1.0), steps.append)["noise"]
    assert found["a"]["alone"] == {"0": 0.8, "1": 0.4}  # without its words it says no
    assert found["a"]["all"]["0"] == 0.6
    assert steps[-1] == 1.0
    assert steps == sorted(steps)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_noise_has_its_share_and_leaves_the_loudness(share: float) -> None:
    draws = np.random.default_rng(0)
    items: list[Any] = [
        Audio(0.1 * np.sin(np.arange(20_000, dtype=np.float32)), 8000),
        TimeSeries(
            np.stack([np.sin(np.arange(5000)), 9 + 3 * np.cos(np.arange(5000))]).astype(np.float32), ("a", "b"), 8.0
        ),
        Image(draws.integers(90, 160, (60, 60, 3), dtype=np.uint8)),
        Video(draws.integers(90, 160, (3, 40, 40, 3), dtype=np.uint8), 8.0),
    ]
    names = ("samples", "values", "pixels", "frames")
    for item, name in zip(items, names, strict=True):
        before = getattr(item, name).astype(np.float64)
        after = getattr(noisy(item, share, 1), name).astype(np.float64)
        if name in ("pixels", "frames"):
            before, after = before.reshape(1, -1), after.reshape(1, -1)
        assert noisy(item, 0.0, 1) == item
        for x, y in zip(before, after, strict=True):
            kept = np.corrcoef(x, y)[0, 1] ** 2
            assert kept == pytest.approx(1 - share, abs=0.05)
            assert y.std() == pytest.approx(x.std(), rel=0.05)
            assert y.mean() == pytest.approx(x.mean(), abs=0.1 * x.std() + 0.5 * (name == "pixels"))
        assert type(noisy(item, share, 1)) is type(item)
        assert np.array_equal(getattr(noisy(item, share, 1), name), getattr(noisy(item, share, 1), name))
        assert not np.array_equal(getattr(noisy(item, share, 1), name), getattr(noisy(item, share, 2), name))


def test_words_are_left_out() -> None:
    item = Text(" ".join(["word"] * 1000))
    assert len(noisy(item, 0.3, 0).text.split()) == pytest.approx(700, abs=60)  # type: ignore[attr-defined]
    assert noisy(item, 1.0, 0).text == ""  # type: ignore[attr-defined]
    with pytest.raises(InvalidValue, match="0 to 1"):
        noisy(item, 1.5, 0)


def test_scores_of_labels_and_numbers() -> None:
    labels, truth = Task("labels", ("a", "b")), np.array([[1, 0], [1, 1.0]])
    assert score(labels, np.array([[0.9, 0.9], [0.9, 0.1]]), truth) == pytest.approx(2 * 2 / (3 + 3))
    number, true = Task("number"), np.array([[1.0], [2.0], [3.0]])
    assert score(number, true, true) == 1.0
    assert score(number, np.full((3, 1), 2.0), true) == 0.0
    with pytest.raises(InvalidValue):
        score(number, true[:0], true[:0])


def test_numbers_are_held_against_their_own_units() -> None:
    task = Task("number", offset=5.0, scale=2.0)
    source = Rows(("x", "y", "7"), ("x", "y", "many"), ("x", "y", "1.5"))
    found = told(source, ("a", "b"), "label", task)
    assert found.truth[:, 0].tolist() == [7.0, 1.5]
    assert len(found.samples) == 2


def test_the_product_and_the_mean_of_decisions() -> None:
    a, b = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.7, 0.3]])
    np.testing.assert_allclose(pooled([a, b], (0.25, 0.75), "linear", "classes"), 0.25 * a + 0.75 * b)
    product = a**0.5 * b**0.5
    np.testing.assert_allclose(
        pooled([a, b], (0.5, 0.5), "product", "classes"), product / product.sum(axis=1, keepdims=True)
    )
    odds = (a / (1 - a)) ** 0.5 * (b / (1 - b)) ** 0.5
    np.testing.assert_allclose(pooled([a, b], (0.5, 0.5), "product", "labels"), odds / (1 + odds))
    np.testing.assert_allclose(pooled([a, b], (0.5, 0.5), "product", "number"), (a + b) / 2)
    with pytest.raises(UnknownName):
        pooled([a, b], (0.5, 0.5), "vote", "classes")


def test_late_fusion_is_tuned_to_trust_the_better_one() -> None:
    draws = np.random.default_rng(0)
    truth = draws.integers(0, 2, 400)
    sure = np.where((draws.random(400) < 0.95)[:, None], np.eye(2)[truth], 1 - np.eye(2)[truth]) * 0.8 + 0.1
    noise = draws.dirichlet((1, 1), 400)
    pool = tuned_pool({"good": sure, "bad": noise}, truth, TASK)
    assert pool.weights["good"] >= 0.5
    assert pool.dev >= score(TASK, sure, truth)
    even = tuned_pool({"one": sure, "same": sure}, truth, TASK)
    assert even.weights == {"one": 0.5, "same": 0.5}
    assert tuned_pool({"one": sure}, truth, TASK).weights == {"one": 1.0}
    assert sum(tuned_pool(dict.fromkeys("abc", sure), truth, TASK).weights.values()) == pytest.approx(1.0)
    with pytest.raises(InvalidValue, match="at least one"):
        tuned_pool({}, truth, TASK)


def test_models_trained_apart_stand_beside_with_their_late_fusion() -> None:
    part = told(SOURCE, ("a", "b"), "label", TASK)
    found = against({("a",): Reads("a"), ("b",): Reads("b")}, part, part, "label")
    assert found["alone"]["a"]["accuracy"] == found["alone"]["a"]["dev"] == 0.8
    assert found["late"]["accuracy"] == 0.8
    assert found["late"]["weights"]["a"] > 0.5
    assert "late" not in against({("a",): Reads("a")}, part, part, "label")
    assert against({}, part, part, "label") == {"alone": {}}
    with pytest.raises(InvalidValue, match="do not|not all"):
        against({("a",): Reads("a"), ("b",): Reads("b", ("yes", "no"))}, part, part, "label")


def test_data_without_the_fields_is_refused() -> None:
    with pytest.raises(Unsupported, match="no field 'c'"):
        told(SOURCE, ("a", "c"), "label", TASK)
    with pytest.raises(InvalidData, match="no sample has all"):
        told(Rows(("yes", "", "yes")), ("a", "b"), "label", TASK)
    with pytest.raises(InvalidData, match="no text of label holds a number"):
        told(Rows(("x", "y", "many")), ("a", "b"), "label", Task("number"))


def test_what_is_told_is_kept_as_it_came() -> None:
    assert isinstance(told(SOURCE, ("a",), "label", TASK), Told)
    assert set(subsets.METRICS) == {"classes", "labels", "number"}
