"""The report: one file that fetches nothing, with what was measured and what was found."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermodal.diorama.source import Diorama
from intermodal.evaluation.protocols import Vectors, any_to_any
from intermodal.evaluation.report import curves_svg, matrix_html, matrix_svg, write_report

LOG = [{"kind": "step", "step": i, "seconds": 2 * i, "rate": 0.1, "a": 3 - i, "loss": 4 - i} for i in range(3)]
FIGURES = {
    "recall_at_1": 0.5,
    "recall_at_5": 0.9,
    "recall_at_10": 1.0,
    "median_rank": 1.5,
    "ceiling": 0.8,
    "share_of_ceiling": 0.625,
}


class Tags(HTMLParser):
    """Collects the tags with their attributes, and the text outside of style sheets."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data if self.tags and self.tags[-1][0] != "style" else ""

    def classes(self, name: str) -> int:
        return sum(name == attributes.get("class") for _, attributes in self.tags)


class Perfect:
    """Diorama with one-hot vectors: every item finds its own pair."""

    def __init__(self, fields: Sequence[str], count: int = 6) -> None:
        self.source = Diorama("test", fields=fields, size=count)
        self.vectors = {name: Vectors(np.eye(count, dtype=np.float32), np.arange(count)) for name in fields}

    def embed(self, items: Sequence[Any]) -> Any:
        raise AssertionError("the vectors are there")

    def write(self, path: Path, **options: Any) -> str:
        result = any_to_any(self, self.source, self.vectors)
        return write_report(path, "a <title>", result, self.vectors, self.source, **options).read_text("utf-8")


def test_page_fetches_nothing_and_shows_every_part(tmp_path: Path) -> None:
    page = Perfect(("text", "timeseries")).write(tmp_path / "new" / "r.html", log=LOG, notes=["1 < 2 & true"])
    read = Tags(page)
    assert "a <title>" in read.text
    assert "1 < 2 & true" in read.text
    assert "6 samples of diorama, split test" in read.text
    assert "<title>a &lt;title&gt;</title>" in page
    assert "prefers-color-scheme: dark" in page
    assert [tag for tag, _ in read.tags if tag in ("script", "link", "iframe", "object")] == []
    for _, attributes in read.tags:
        for name in ("src", "href", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page
    assert "@import" not in page
    assert "losses over time" in page
    assert "losses over time" not in Perfect(("text", "timeseries")).write(tmp_path / "r.html")


def test_each_field_asks_and_its_own_pair_is_marked(tmp_path: Path) -> None:
    for fields in (("text", "image", "timeseries"), ("text", "image")):
        read = Tags(Perfect(fields).write(tmp_path / "r.html"))
        assert read.classes("row") == len(fields) * (len(fields) - 1)  # two of each field, never in itself
        assert read.classes("card query") == read.classes("card hit") == read.classes("row")
        assert read.classes("card") == 2 * read.classes("row")
        assert any(tag == "img" for tag, _ in read.tags)


def test_query_that_the_data_no_longer_shows_is_absent(tmp_path: Path) -> None:
    made = Perfect(("text", "timeseries"))
    made.source.fields.pop("text")
    result = {"count": 6, "name": "x", "split": "test", "protocol": "p", "pairs": {"text>timeseries": FIGURES}}
    page = write_report(tmp_path / "r.html", "t", result, made.vectors, made.source).read_text("utf-8")
    assert "(absent)" in page


def test_matrix_shows_each_figure_with_its_ceiling() -> None:
    page = matrix_html({"pairs": {"a>b": FIGURES, "b>a": {**FIGURES, "recall_at_1": 0.0, "share_of_ceiling": 0.0}}})
    read = Tags(page)
    assert "50.0<small>of 80.0" in page
    assert "0.0<small>of 80.0" in page
    assert "R@5 0.900, R@10 1.000, median rank 1.5" in page
    assert read.text.count("·") == 2  # nothing is searched in itself
    grounds = [a["style"] for tag, a in read.tags if tag == "td" and a.get("style")]
    assert len(set(grounds)) == 2
    assert "&lt;b &amp; c" in matrix_html({"pairs": {"<b & c>d": FIGURES}})


def test_matrix_as_a_picture_is_whole_by_itself() -> None:
    shares = {"a>b": 0.951, "b>a": 1.2, "a>c": 0.0, "<d>a": 0.5}
    root = ElementTree.fromstring(matrix_svg(shares))
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert {"95.1", "120.0", "0.0", "50.0"} <= set(texts)
    assert texts.count("<d") == 2
    assert sum(node.tag.endswith("rect") for node in root.iter()) == 1 + len(shares)
    width, height = (float(root.attrib["viewBox"].split()[k]) for k in (2, 3))
    for node in root.iter():
        if "x" in node.attrib:
            assert 0 <= float(node.attrib["x"]) <= width
            assert 0 <= float(node.attrib["y"]) <= height


def test_curves_are_the_losses_over_time() -> None:
    root = ElementTree.fromstring(curves_svg([{"kind": "evaluation", "step": 1, "seconds": 1, "x": 9}, *LOG]))
    lines = [node.attrib["points"].split() for node in root.iter() if node.tag.endswith("polyline")]
    assert [len(points) for points in lines] == [3, 3]
    heights = [[float(point.split(",")[1]) for point in points] for points in lines]
    assert heights[1][0] == pytest.approx(12.0)  # the highest loss at the top
    for place in heights:
        assert place == sorted(place)  # falling losses fall
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert texts[:2] == ["a", "loss"]
    assert {"0 s", "2 s", "4 s", "4"} <= set(texts)


def test_losses_that_are_missing_or_broken_are_left_out() -> None:
    log = [{**LOG[0], "a": math.nan}, {k: v for k, v in LOG[1].items() if k != "a"}, LOG[2]]
    root = ElementTree.fromstring(curves_svg(log))
    lines = [node.attrib["points"].split() for node in root.iter() if node.tag.endswith("polyline")]
    assert [len(points) for points in lines] == [1, 3]
    assert "fewer than two lines" in curves_svg([])
    assert "fewer than two lines" in curves_svg(LOG[:1])
