"""A system's Figure 1, drawn from the system itself: fields at the left, its parts, what it learns at the right.

Columns are by the longest way from the fields, as in Sugiyama et al. 1981, "Methods for visual understanding of
hierarchical system structures"; within a column each box is near what gives to it. What flows back to a part that was
used before is dashed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import mean

from intermodal.explain.flow import Flow, Part

WIDE, HIGH, LETTER = 132, 38, 6.4
GAP, BETWEEN, EDGE, THIN = 54, 16, 24, 10
SWEEPS = 6
FILLS = {"field": ("#1d3a5f", "#7aa2f7"), "loss": ("#4a2b36", "#f7768e"), "part": ("#222836", "#5b6478")}
Way = tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    x: float
    y: float


def diagram(flow: Flow, title: str) -> str:
    """Returns what flows from where to where as an SVG picture.

    Args:
        flow: see ``intermodal.explain.flow``.
        title: read out by screen readers, and shown above.
    """
    order, back = _order(flow)
    ahead = [edge for edge in flow.edges if edge not in back]
    columns, ways = _columns(sorted(flow.parts, key=lambda part: order.index(part.name)), ahead)
    wide = max(WIDE, LETTER * max(len(label) for part in flow.parts for label in _labels(part)) + 16)
    places, height = _places(columns, ways, wide)
    width = 2 * EDGE + len(columns) * wide + (len(columns) - 1) * GAP
    below = 18 * bool(back) * len(back)
    lines = [_line([places[step] for step in way], wide) for way in ways]
    lines += [_bow(places[a], places[b], wide, height + 8 + 18 * i) for i, (a, b) in enumerate(back)]
    boxes = [_box(part, places[part.name], wide) for part in flow.parts]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height + below + EDGE:.0f}" '
        f'width="{width:.0f}" font-family="system-ui, sans-serif" font-size="11" role="img" '
        f'aria-label="{escape(title)}"><rect width="100%" height="100%" rx="8" fill="#12151c"/>'
        f'<text x="{EDGE}" y="22" fill="#e8ebf2" font-size="13">{escape(title)}</text>{"".join(lines + boxes)}</svg>'
    )


def _order(flow: Flow) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns the names so that what gives comes first, and the edges back that had to be left out for that.

    Back is what lies on a circle and leads to a part that was used before.
    """
    index = {part.name: i for i, part in enumerate(flow.parts)}
    reached = {name: {b for a, b in flow.edges if a == name} for name in index}
    for middle in index:  # Warshall's: all that can be reached through it too
        for ways in reached.values():
            if middle in ways:
                ways |= reached[middle]
    back = [(a, b) for a, b in flow.edges if index[a] >= index[b] and a in reached[b]]
    order: list[str] = []
    while len(order) < len(index):
        waiting = {b for a, b in flow.edges if (a, b) not in back and a not in order}
        order.append(next(name for name in index if name not in order and name not in waiting))
    return order, back


def _columns(parts: Sequence[Part], edges: Sequence[tuple[str, str]]) -> tuple[list[list[str]], list[Way]]:
    """Returns the names in each column, and each edge as a way through all columns between its ends.

    Where an edge passes a column it has a place there, of a name of its own.

    Args:
        parts: what gives before what is given to.
        edges: without those back.
    """
    kinds = {part.name: part.kind for part in parts}
    given = defaultdict(list)
    for a, b in edges:
        given[b].append(a)
    rank: dict[str, int] = {}
    for part in parts:
        rank[part.name] = max((rank[a] + 1 for a in given[part.name]), default=0)
    last = 1 + max(column for name, column in rank.items() if kinds[name] != "loss")
    takers = defaultdict(list)
    for a, b in edges:
        takers[a].append(b)
    for part in reversed(parts):
        if kinds[part.name] == "loss":
            rank[part.name] = last
        elif not given[part.name] and takers[part.name] and part.kind != "field":  # a table stands by its reader
            rank[part.name] = max(0, min(rank[b] for b in takers[part.name]) - 1)
    columns: list[list[str]] = [[] for _ in range(last + 1)]
    for part in parts:
        columns[rank[part.name]].append(part.name)
    ways = []
    for a, b in edges:
        between = [f"{a}>{b}>{column}" for column in range(rank[a] + 1, rank[b])]
        for column, name in enumerate(between, rank[a] + 1):
            columns[column].append(name)
        ways.append((a, *between, b))
    return _sorted(columns, ways), ways


def _sorted(columns: list[list[str]], ways: Sequence[Way]) -> list[list[str]]:
    """Returns the columns in an order in which each name is near what it is joined to, so that few lines cross."""
    before, after = defaultdict(list), defaultdict(list)
    for way in ways:
        for a, b in pairwise(way):
            before[b].append(a)
            after[a].append(b)
    for sweep in range(SWEEPS):
        beside = before if sweep % 2 == 0 else after
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            at = {name: i / max(1, len(other)) for other in columns for i, name in enumerate(other)}
            column.sort(key=lambda name: mean([at[one] for one in beside[name]] or [at[name]]))
    return columns


def _places(columns: Sequence[Sequence[str]], ways: Sequence[Way], wide: float) -> tuple[dict[str, _Place], float]:
    """Returns where the middle of each box and of each passing line is, and how high all of it is."""

    def tall(name: str) -> float:
        return THIN if name.count(">") == 2 else HIGH + BETWEEN

    heights = [sum(tall(name) for name in column) for column in columns]
    most = max(heights)
    places = {}
    for i, (column, height) in enumerate(zip(columns, heights, strict=True)):
        spare = (most - height) / (len(column) + 1)  # spread, so that lines lie flat
        y = EDGE + 12 + spare
        for name in column:
            places[name] = _Place(EDGE + i * (wide + GAP) + wide / 2, y + tall(name) / 2)
            y += tall(name) + spare
    return places, EDGE + 12 + most


def _line(way: Sequence[_Place], wide: float) -> str:
    """Returns a line through all places of a way, with a point at its end."""
    first, last = way[0], way[-1]
    path = f"M{first.x + wide / 2:.1f} {first.y:.1f}"
    here = _Place(first.x + wide / 2, first.y)
    for step in way[1:-1]:
        path += _curve(here, _Place(step.x - wide / 2, step.y)) + f"L{step.x + wide / 2:.1f} {step.y:.1f}"
        here = _Place(step.x + wide / 2, step.y)
    end = _Place(last.x - wide / 2, last.y)
    path += _curve(here, _Place(end.x - 5, end.y))
    point = f'<path d="M{end.x - 6:.1f} {end.y - 3.5:.1f}L{end.x:.1f} {end.y:.1f}l-6 3.5z" fill="#8f99ad"/>'
    return f'<path d="{path}" fill="none" stroke="#8f99ad" stroke-opacity="0.75"/>{point}'


def _curve(a: _Place, b: _Place) -> str:
    """Returns the piece of a path between two columns."""
    middle = (a.x + b.x) / 2
    return f"C{middle:.1f} {a.y:.1f} {middle:.1f} {b.y:.1f} {b.x:.1f} {b.y:.1f}"


def _bow(a: _Place, b: _Place, wide: float, y: float) -> str:
    """Returns a dashed line below all boxes, from a part back to one before it."""
    x0, x1, foot = a.x + wide / 4, b.x - wide / 4, HIGH / 2
    path = f"M{x0:.1f} {a.y + foot:.1f}V{y - 8:.1f}Q{x0:.1f} {y:.1f} {x0 - 8:.1f} {y:.1f}"
    path += f"H{x1 + 8:.1f}Q{x1:.1f} {y:.1f} {x1:.1f} {y - 8:.1f}V{b.y + foot + 5:.1f}"
    point = f'<path d="M{x1 - 3.5:.1f} {b.y + foot + 6:.1f}l3.5 -6l3.5 6z" fill="#8f99ad"/>'
    return f'<path d="{path}" fill="none" stroke="#8f99ad" stroke-dasharray="4 3"/>{point}'


def _labels(part: Part) -> list[str]:
    """Returns the lines of text in a box."""
    if part.kind in ("field", "loss"):
        return [part.name]
    many = f" x {part.count}" if part.count > 1 else ""
    return [part.name + many, f"{part.kind}, {_short(part.weights)}"]


def _short(weights: int) -> str:
    """Returns a number of weights as it is read quickly."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if weights >= size:
            return f"{weights / size:.3g} {unit}"
    return str(weights)


def _box(part: Part, at: _Place, wide: float) -> str:
    """Returns a box with its labels; that of a frozen part has a broken border."""
    fill, border = FILLS.get(part.kind, FILLS["part"])
    broken = ' stroke-dasharray="5 4"' if part.frozen else ""
    round_ = HIGH / 2 if part.kind in FILLS else 5
    box = (
        f'<rect x="{at.x - wide / 2:.1f}" y="{at.y - HIGH / 2:.1f}" width="{wide:.1f}" height="{HIGH}" rx="{round_}" '
        f'fill="{fill}" stroke="{border}"{broken}/>'
    )
    labels = _labels(part)
    first = at.y + 4 - 7 * (len(labels) - 1)
    colours: Mapping[int, str] = {0: "#e8ebf2", 1: "#8f99ad"}
    return box + "".join(
        f'<text x="{at.x:.1f}" y="{first + 14 * i:.1f}" text-anchor="middle" fill="{colours[i]}">{escape(label)}</text>'
        for i, label in enumerate(labels)
    )
