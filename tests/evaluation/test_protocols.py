"""Protocols over a model and a source small enough to be counted by hand."""

from collections.abc import Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.errors import InvalidData, Unsupported
from intermodal.evaluation.protocols import (
    PROBE_SAMPLES,
    Vectors,
    alignments,
    any_to_any,
    embed_source,
    label_groups,
    probe,
    zero_shot,
)
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries


def series(number: float) -> TimeSeries:
    return TimeSeries(np.full((1, 2), number, np.float32), ("a",), 1.0)


class Words:
    """Texts and series; the series says which text is its own. Labels or captions as asked."""

    def __init__(self, texts: list[Any], numbers: list[float | None]) -> None:
        self.fields = {"text": "text", "timeseries": "timeseries"}
        self.texts, self.numbers = texts, numbers

    def __len__(self) -> int:
        return len(self.texts)

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        made = []
        for i in index:
            first = self.texts[i][0] if isinstance(self.texts[i], tuple) else self.texts[i]
            sample = {"text": Text(first), "timeseries": None if self.numbers[i] is None else series(self.numbers[i])}
            made.append({k: v for k, v in sample.items() if v is not None})
        return made

    def describe(self) -> dict[str, Any]:
        return {"name": "words", "split": "test", "count": len(self), "fields": self.fields}

    def captions(self, index: int, field: str | None = None) -> tuple[str, ...]:
        return self.texts[index] if isinstance(self.texts[index], tuple) else (self.texts[index],)


class Angles:
    """Puts texts (numbers in words) and series (their value) at that angle in degrees on a circle."""

    config = SimpleNamespace(towers={"text": 1, "timeseries": 1})

    def embed(self, items: Sequence[Any], fields: str | None = None) -> torch.Tensor:
        degrees = [float(i.text) if isinstance(i, Text) else float(i.values[0, 0]) for i in items]
        angle = torch.deg2rad(torch.tensor(degrees))
        return torch.stack((angle.cos(), angle.sin()), dim=1)

    def classify(
        self, items: Sequence[Any], labels: Sequence[str], prompts: Any, field: str | None = None
    ) -> torch.Tensor:
        return (10 * self.embed(items) @ self.embed([Text(x) for x in labels]).T).softmax(dim=1)


def test_each_field_is_searched_in_each_other_and_counted() -> None:
    result = any_to_any(Angles(), Words(["0", "50", "100"], [1.0, 48.0, 20.0]))
    assert set(result["pairs"]) == {"text>timeseries", "timeseries>text"}
    assert result["pairs"]["text>timeseries"]["recall_at_1"] == pytest.approx(2 / 3)  # 100 finds 48, its own is 20
    assert result["pairs"]["timeseries>text"]["recall_at_1"] == pytest.approx(2 / 3)  # 20 finds 0
    assert result["pairs"]["text>timeseries"]["queries"] == 3
    assert (result["split"], result["count"]) == ("test", 3)


def test_sample_without_a_field_is_no_query_and_not_in_the_gallery() -> None:
    pair = any_to_any(Angles(), Words(["0", "50", "100"], [1.0, None, 99.0]))["pairs"]["text>timeseries"]
    assert (pair["queries"], pair["gallery"], pair["recall_at_1"]) == (2, 2, 1.0)


def test_every_caption_is_a_query_and_any_of_them_is_right() -> None:
    result = any_to_any(Angles(), Words([("0", "5"), ("50", "170")], [2.0, 51.0]))
    there, back = result["pairs"]["text>timeseries"], result["pairs"]["timeseries>text"]
    assert (there["queries"], there["gallery"], there["recall_at_1"]) == (4, 2, 1.0)
    assert (back["queries"], back["gallery"], back["recall_at_1"]) == (2, 4, 1.0)
    assert back["map"] < 1.0  # 170 is far from 51


def test_equal_texts_are_labels_and_whatever_has_the_label_is_right() -> None:
    source = Words(["0"] * 3 + ["90"] * 3, [1.0, 2.0, 88.0, 91.0, 92.0, 93.0])
    assert label_groups(source) == {0: "0", 1: "0", 2: "0", 3: "90", 4: "90", 5: "90"}
    result = any_to_any(Angles(), source)
    assert result["pairs"]["timeseries>text"]["recall_at_1"] == pytest.approx(5 / 6)  # 88 finds 90
    assert result["pairs"]["text>timeseries"]["recall_at_1"] == 1.0
    assert "equal text" in result["protocol"]
    assert label_groups(Words(["1", "2", "3", "3"], [0.0] * 4)) is None


def test_ceiling_is_what_the_keys_allow() -> None:
    class Keyed(Words):
        def keys(self, index: Sequence[int], *fields: str) -> list[Hashable]:
            return [("same", "same", "other")[i] for i in index]

    pair = any_to_any(Angles(), Keyed(["0", "50", "100"], [1.0, 51.0, 99.0]))["pairs"]["text>timeseries"]
    assert pair["ceiling"] == pytest.approx(2 / 3)
    assert pair["share_of_ceiling"] == pytest.approx(1.5)


def test_zero_shot_names_items_by_words() -> None:
    result = zero_shot(Angles(), Words(["0", "90", "90"], [5.0, 80.0, 10.0]), "timeseries")
    assert (result["accuracy"], result["labels"], result["items"]) == (pytest.approx(2 / 3), 2, 3)
    with pytest.raises(Unsupported, match="no field 'image'"):
        zero_shot(Angles(), Words(["0"], [1.0]), "image")


def test_fields_that_are_not_there_are_named() -> None:
    with pytest.raises(Unsupported, match="the data has no field 'image'"):
        embed_source(Angles(), Words(["0"], [1.0]), ["image"])
    with pytest.raises(InvalidData, match="'timeseries'"):
        embed_source(Angles(), Words(["0"], [None]))


class Unlabelled(Words):
    """A sample with an empty text has none."""

    def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
        found = super().samples(index)
        return [{k: v for k, v in sample.items() if k != "text" or v.text} for sample in found]

    def captions(self, index: int, field: str | None = None) -> tuple[str, ...]:
        return (self.texts[index],) if self.texts[index] else ()


def test_sample_without_a_label_is_left_out_and_a_label_that_nothing_has_is_no_query() -> None:
    source = Unlabelled(["0", "0", "0", "90", "90", "90", "", "120"], [1.0, 2.0, 3.0, 88.0, 91.0, 92.0, 1.0, None])
    pairs = any_to_any(Angles(), source)["pairs"]
    there, back = pairs["text>timeseries"], pairs["timeseries>text"]
    assert (there["queries"], there["gallery"], there["recall_at_1"]) == (6, 6, 1.0)
    assert (back["queries"], back["gallery"], back["recall_at_1"]) == (6, 7, pytest.approx(1.0))


def test_ceiling_of_nothing_is_no_division() -> None:
    class Keyed(Words):
        def keys(self, index: Sequence[int], *fields: str) -> list[Hashable]:
            return [object() for _ in index]

    pair = any_to_any(Angles(), Keyed(["0", "50"], [1.0, 51.0]))["pairs"]["text>timeseries"]
    assert (pair["recall_at_1"], pair["ceiling"], pair["share_of_ceiling"]) == (1.0, 0.0, 0.0)


def test_interval_lies_around_the_recall_and_takes_captions_of_a_sample_for_one_draw() -> None:
    rng = np.random.default_rng(0)
    numbers = np.arange(0.0, 300.0, 6.0)
    source = Words([str(n) for n in numbers], [float(n) for n in numbers + rng.normal(0, 5, len(numbers))])
    pair = any_to_any(Angles(), source)["pairs"]["text>timeseries"]
    low, high = pair["interval"]
    assert low < pair["recall_at_1"] < high
    assert 0.15 < high - low < 0.35  # two deviations of a share of about a half of 50 queries, to both sides
    tripled = Words([(t, t, t) for t in source.texts], source.numbers)
    again = any_to_any(Angles(), tripled)["pairs"]["text>timeseries"]
    assert again["queries"] == 150
    assert again["interval"] == pytest.approx([low, high], abs=1e-9)


def test_blocks_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(30, 4))), dim=1).numpy() for _ in range(2)]
    vectors = {name: Vectors(r, np.arange(30)) for name, r in zip(("text", "timeseries"), rows, strict=True)}
    source = Words(["0"] * 30, [0.0] * 30)
    source.vocabulary = ("0",)  # type: ignore[attr-defined]  # so that its texts are no labels
    whole = any_to_any(Angles(), source, vectors)
    monkeypatch.setattr("intermodal.evaluation.protocols._ENTRIES", 100)
    parts = any_to_any(Angles(), source, vectors)
    for name, figures in whole["pairs"].items():
        assert parts["pairs"][name].pop("interval") == pytest.approx(figures.pop("interval"))
        assert parts["pairs"][name] == pytest.approx(figures)
    ranks = (rows[0] @ rows[1].T > (rows[0] * rows[1]).sum(axis=1)[:, None] + 1e-12).sum(axis=1)
    assert whole["pairs"]["text>timeseries"]["recall_at_5"] == pytest.approx((ranks < 5).mean())


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_alignment_tells_related_from_unrelated_vectors() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 8))
    turned = base @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + np.array([3.0] + [0.0] * 7)
    vectors = {
        "one": Vectors(unit(base), np.arange(300)),
        "near": Vectors(unit(base + 0.3 * rng.normal(size=base.shape)), np.arange(300)),
        "turned": Vectors(unit(turned), np.arange(300)),
        "other": Vectors(unit(rng.normal(size=base.shape)), np.arange(300)),
    }
    found = alignments(vectors)
    assert list(found) == ["one-near", "one-turned", "one-other", "near-turned", "near-other", "turned-other"]
    near, turned_, other = found["one-near"], found["one-turned"], found["one-other"]
    assert near["canonical_correlation"] > 0.8 > 0.3 > near["canonical_correlation_shuffled"]
    assert other["canonical_correlation"] == pytest.approx(other["canonical_correlation_shuffled"], abs=0.1)
    assert near["cka"] > 0.8
    assert abs(other["cka"]) < 0.1
    assert turned_["cka"] > 0.5  # rotation does not matter, to the information of the dot products it does
    assert turned_["mutual_information_bound"] < 0.3
    assert turned_["gap"] > 0.5 > near["gap"]
    assert 3.0 < near["mutual_information_bound"] <= np.log(300)
    assert other["mutual_information_bound"] < 0.05
    assert {pair["candidates"] for pair in found.values()} == {300.0}


def test_alignment_pairs_rows_by_sample() -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(40, 3)))
    order = rng.permutation(40)
    captioned = Vectors(np.repeat(rows, 2, axis=0), np.repeat(np.arange(40), 2))
    shuffled = Vectors(rows[order][:30], order[:30])
    pair = alignments({"text": captioned, "image": shuffled})["text-image"]
    assert pair["samples"] == 30
    assert pair["cka"] == pytest.approx(1.0)
    assert pair["gap"] == pytest.approx(0.0, abs=1e-6)


def test_bound_of_information_takes_so_many_pairs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intermodal.evaluation.protocols._CANDIDATES", 64)
    rows = unit(np.random.default_rng(0).normal(size=(200, 8)))
    pair = alignments({"a": Vectors(rows, np.arange(200)), "b": Vectors(rows, np.arange(200))})["a-b"]
    assert pair["candidates"] == 64
    assert pair["mutual_information_bound"] == pytest.approx(np.log(64), abs=0.1)


def test_probe_reads_labels_that_lie_apart_and_not_those_that_do_not() -> None:
    def labelled(seed: int, apart: float) -> Words:
        rng = np.random.default_rng(seed)
        texts = rng.choice(["0", "1", "2"], 60).tolist()
        return Words(texts, [float(apart * 100 * int(t) + rng.normal(0, 5)) for t in texts])

    result = probe(Angles(), labelled(0, 1.0), labelled(1, 1.0), "timeseries")
    assert result["accuracy"] == 1.0
    assert (result["labels"], result["train_items"], result["items"], result["count"]) == (3, 60, 60, 60)
    assert probe(Angles(), labelled(0, 0.0), labelled(1, 0.0), "timeseries")["accuracy"] < 0.6


def test_probe_is_fitted_to_a_bounded_number_of_samples_all_over_the_data() -> None:
    asked: list[int] = []

    class Endless(Words):
        def __len__(self) -> int:
            return 1_000_000

        def samples(self, index: Sequence[int]) -> list[dict[str, Any]]:
            asked.extend(index)
            return [{"text": Text(str(i % 2)), "timeseries": series(90.0 * (i % 2))} for i in index]

    shares: list[float] = []
    small = Words(["0", "1"], [0.0, 90.0])
    result = probe(Angles(), Endless([], []), small, "timeseries", progress=shares.append)
    assert result["train_items"] == len(set(asked)) == PROBE_SAMPLES
    assert (asked[0], asked[-1]) == (0, 999_999)
    assert result["accuracy"] == 1.0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_cannot_be_probed_is_explained() -> None:
    labels = Words(["0", "0", "1", "1"], [0.0, 1.0, 90.0, 91.0])
    with pytest.raises(InvalidData, match="4 of 4 texts in 'text' are distinct"):
        probe(Angles(), Words(["1", "2", "3", "4"], [0.0] * 4), labels, "timeseries")
    with pytest.raises(InvalidData, match="training part has 'timeseries' and 'text'"):
        probe(Angles(), Words(["0"], [None]), labels, "timeseries")
    with pytest.raises(Unsupported, match="no field 'image'"):
        probe(Angles(), labels, labels, "image")
    with pytest.raises(Unsupported, match="'timeseries' holds timeseries; labels must be texts"):
        probe(Angles(), labels, labels, "text", "timeseries")
