"""Diagrams: everything is in the picture, nothing lies on anything else."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from intermodal.explain.diagram import diagram
from intermodal.explain.flow import Flow, Part

SVG = "{http://www.w3.org/2000/svg}"
FLOW = Flow(
    (
        Part("image", "field"),
        Part("text", "field"),
        Part("seen", "Stem", 62_832),
        Part("words", "Words", 1_250_000),
        Part("blocks", "Block", 1_779_456, True, 4),
        Part("a_part_with_quite_a_long_name", "Linear", 386),
        Part("loss words & more", "loss"),
    ),
    (
        ("image", "seen"),
        ("text", "words"),
        ("seen", "blocks"),
        ("words", "blocks"),
        ("blocks", "a_part_with_quite_a_long_name"),
        ("a_part_with_quite_a_long_name", "words"),
        ("a_part_with_quite_a_long_name", "loss words & more"),
        ("text", "loss words & more"),
    ),
)


@pytest.fixture(scope="module")
def root() -> ElementTree.Element:
    return ElementTree.fromstring(diagram(FLOW, "A <small> system"))


def boxes(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    found = [one.attrib for one in root.iter(f"{SVG}rect")][1:]  # the first is the ground
    return [(float(a["x"]), float(a["y"]), float(a["width"]), float(a["height"])) for a in found]


def test_all_parts_have_a_box_with_their_labels(root: ElementTree.Element) -> None:
    assert len(boxes(root)) == len(FLOW.parts)
    said = {one.text for one in root.iter(f"{SVG}text")}
    assert {"A <small> system", "image", "blocks x 4", "Block, 1.78 M", "Words, 1.25 M", "Linear, 386"} <= said
    assert "loss words & more" in said
    dashed = [one for one in root.iter(f"{SVG}rect") if "stroke-dasharray" in one.attrib]
    assert len(dashed) == 1  # what is frozen


def test_boxes_lie_apart_and_inside(root: ElementTree.Element) -> None:
    _, _, wide, high = map(float, root.attrib["viewBox"].split())
    for x, y, w, h in boxes(root):
        assert 0 <= x <= x + w <= wide
        assert 0 <= y <= y + h <= high
    for (x, y, w, h), (u, v, _, _) in combinations(boxes(root), 2):
        assert abs(x - u) >= w or abs(y - v) >= h


def test_every_edge_is_a_line_and_goes_to_the_right_unless_it_is_dashed(root: ElementTree.Element) -> None:
    lines = [one.attrib for one in root.iter(f"{SVG}path") if one.attrib["fill"] == "none"]
    assert len(lines) == len(FLOW.edges)
    for line in lines:
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", line["d"])]
        if "stroke-dasharray" not in line:
            assert numbers[-2] > numbers[0]
    assert sum("stroke-dasharray" in line for line in lines) == 1


def test_labels_fit_their_boxes(root: ElementTree.Element) -> None:
    wide = boxes(root)[0][2]
    longest = max(len(one.text or "") for one in root.iter(f"{SVG}text"))
    assert wide > 6 * longest


def test_drawn_twice_it_is_the_same() -> None:
    assert diagram(FLOW, "one") == diagram(FLOW, "one")
