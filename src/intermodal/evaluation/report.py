"""A report as one self-contained HTML file: the any-to-any matrix, learning curves, retrieved examples to see and hear.

Nothing is fetched when it is opened: pictures, sounds and clips are in the file.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intermodal.evaluation.protocols import Vectors
from intermodal.types import Item

_STYLE = Path(__file__).with_suffix(".css")
_EXPLAINED = (
    "<p>Recall@1: how often the best hit is the right one. The row is what one searches with, the column what is "
    "found; beside it the ceiling, the best possible with what both renderings tell. Colour: share of the ceiling.</p>"
)
_HUES = ("#2457c5", "#c2410c", "#15803d", "#a21caf", "#b45309", "#0e7490", "#be123c", "#4d7c0f", "#6d28d9", "#475569")
_SHOWN_CURVES = 10
_SHOWN_QUERIES = 2  # of each field


def write_report(
    path: str | Path,
    title: str,
    result: Mapping[str, Any],
    vectors: Mapping[str, Vectors],
    source: Any,
    log: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    more: Sequence[str] = (),
) -> Path:
    """Writes the report and returns its path.

    Args:
        path: of the HTML file.
        title: of the page.
        result: of ``protocols.any_to_any``.
        vectors: of ``protocols.embed_source`` on the same source.
        source: the data, asked for the samples that are shown.
        log: lines of the training log; their losses become curves.
        notes: sentences under the title.
        more: further parts of the page, as HTML.
    """
    parts = opening(title, result, notes)
    parts.append(f'<h2>Any to any</h2>{_EXPLAINED}<div class="scroll">{matrix_html(result)}</div>')
    if log:
        parts += ["<h2>Learning</h2>", f'<div class="curves">{curves_svg(log)}</div>']
    parts.append("<h2>Found</h2><p>Outlined: the query. Beside it the three best of another field.</p>")
    parts += _examples(vectors, source)
    return write_page(path, title, [*parts, *more])


def opening(title: str, result: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """Returns the first parts of a page: its title, what was measured on what, and notes."""
    count = f"{result['count']} samples of {result['name']}, split {result['split']}"
    told = f"<p>{html.escape(count)}. {html.escape(result['protocol'])}.</p>"
    return [f"<h1>{html.escape(title)}</h1>", told, *(f"<p>{html.escape(note)}</p>" for note in notes)]


def write_page(path: str | Path, title: str, parts: Sequence[str]) -> Path:
    """Writes a page of the report's look and returns its path.

    Args:
        path: of the HTML file; its folder is made.
        title: of the page.
        parts: HTML, one after the other.
    """
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE.read_text('utf-8')}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def matrix_html(result: Mapping[str, Any]) -> str:
    """Returns the matrix of Recall@1 as a table coloured by the share of the ceiling."""
    names = list(dict.fromkeys(name for pair in result["pairs"] for name in pair.split(">")))
    head = "".join(f"<th scope=col>{html.escape(n)}</th>" for n in names)
    rows = []
    for a in names:
        cells = []
        for b in names:
            pair = result["pairs"].get(f"{a}>{b}")
            if pair is None:
                cells.append("<td>·</td>")
                continue
            colour = ground(pair["share_of_ceiling"])
            cells.append(
                f'<td style="background:{colour};color:#fff" title="R@5 {pair["recall_at_5"]:.3f}, '
                f'R@10 {pair["recall_at_10"]:.3f}, median rank {pair["median_rank"]:.1f}">'
                f"{100 * pair['recall_at_1']:.1f}<small>of {100 * pair['ceiling']:.1f}</small></td>"
            )
        rows.append(f"<tr><th scope=row>{html.escape(a)}</th>{''.join(cells)}</tr>")
    return f'<table class="matrix"><tr><td></td>{head}</tr>{"".join(rows)}</table>'


def matrix_svg(
    shares: Mapping[str, float],
    cell: int = 104,
    label: str = "share of the best possible Recall@1 by query (row) and result (column)",
) -> str:
    """Returns a matrix as a picture of its own: shares by ``"image>text"``, from rows to columns."""
    names = list(dict.fromkeys(name for pair in shares for name in pair.split(">")))
    left, top, tall = 112, 40, cell // 2
    width, height = left + cell * len(names), top + tall * len(names) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" font-size="15" role="img" aria-label="{html.escape(label)}">'
        f'<rect width="{width}" height="{height}" rx="8" fill="#12151c"/>'
    ]
    for i, a in enumerate(names):
        y = top + tall * i
        parts.append(f'<text x="16" y="{y + tall * 0.62:.0f}" fill="#e8ebf2">{html.escape(a)}</text>')
        parts.append(
            f'<text x="{left + cell * (i + 0.5):.0f}" y="26" text-anchor="middle" fill="#e8ebf2">'
            f"{html.escape(a)}</text>"
        )
        for j, b in enumerate(names):
            x = left + cell * j
            if f"{a}>{b}" not in shares:
                continue
            value = shares[f"{a}>{b}"]
            parts.append(
                f'<rect x="{x + 2}" y="{y + 2}" width="{cell - 4}" height="{tall - 4}" rx="4" fill="{ground(value)}"/>'
                f'<text x="{x + cell / 2:.0f}" y="{y + tall * 0.62:.0f}" text-anchor="middle" fill="#fff">'
                f"{100 * value:.1f}</text>"
            )
    return "".join(parts) + "</svg>"


def ground(share: float) -> str:
    """Returns the colour of a cell: red for nothing, green for all; white writing stands out on each."""
    kept = min(1.0, max(0.0, share))
    return f"hsl({8 + 140 * kept:.0f} 55% {30 + 4 * kept:.0f}%)"


def curves_svg(log: Sequence[Mapping[str, Any]]) -> str:
    """Returns the losses over time as an inline SVG: one line per loss of the log, seconds along the bottom."""
    rows = [r for r in log if r.get("kind") == "step"]
    known = {"kind", "step", "seconds", "samples_per_s", "rate"}
    names = [k for k in (rows[-1] if rows else {}) if k not in known][:_SHOWN_CURVES]
    if len(rows) < 2:
        return "<p>The log has fewer than two lines.</p>"
    x = np.array([r["seconds"] for r in rows], dtype=float)
    top = max(float(r.get(n, 0.0)) for r in rows for n in names) or 1.0
    width, height, left, bottom = 720, 280, 48, 32
    done = (x - x[0]) / max(x[-1] - x[0], 1e-9)
    lines = []
    for i, name in enumerate(names):
        y = np.array([float(r.get(name, np.nan)) for r in rows])
        points = " ".join(
            f"{place:.1f},{12 + (height - bottom - 12) * (1 - value / top):.1f}"
            for place, value in zip(left + (width - left - 150) * done, y, strict=True)
            if np.isfinite(value)
        )
        hue = _HUES[i % len(_HUES)]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{hue}" stroke-width="2"/>')
        lines.append(f'<rect x="{width - 140}" y="{16 + 20 * i}" width="12" height="3" fill="{hue}"/>')
        lines.append(f'<text x="{width - 122}" y="{22 + 20 * i}">{html.escape(name)}</text>')
    for share in (0.0, 0.5, 1.0):
        y0 = 12 + (height - bottom - 12) * (1 - share)
        lines.append(f'<text x="{left - 8}" y="{y0 + 4:.0f}" text-anchor="end">{top * share:.2g}</text>')
        lines.append(
            f'<line x1="{left}" x2="{width - 150}" y1="{y0:.0f}" y2="{y0:.0f}" stroke="currentColor" opacity=".15"/>'
        )
    for share in (0.0, 0.5, 1.0):
        place = left + (width - left - 150) * share
        lines.append(
            f'<text x="{place:.0f}" y="{height - 10}" text-anchor="middle">{x[0] + share * (x[-1] - x[0]):.0f} s</text>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="losses over time">{"".join(lines)}</svg>'


def _examples(vectors: Mapping[str, Vectors], source: Any) -> list[str]:
    """Returns rows of cards: a query of each field and the three best hits in the next field, and so on in turn."""
    names = list(vectors)
    parts = []
    for place, name in enumerate(names):
        query = vectors[name]
        for n in range(min(_SHOWN_QUERIES, len(query.rows))):
            other = names[(place + 1 + n) % len(names)]
            if other == name:
                continue
            row = (n * 37 + place * 11) % len(query.rows)
            owner = int(query.owner[row])
            scores = vectors[other].rows @ query.rows[row]
            best = np.argsort(-scores, kind="stable")[:3]
            cards = [card(source.samples([owner])[0].get(name), f"{name}", "card query")]
            for k in best:
                found = int(vectors[other].owner[k])
                kind = "card hit" if found == owner else "card"
                cards.append(card(source.samples([found])[0].get(other), f"{other} · cosine {scores[k]:.3f}", kind))
            parts.append(f'<div class="row">{"".join(cards)}</div>')
    return parts


def card(item: Item | None, label: str, kind: str) -> str:
    """Returns one item as it shows itself."""
    shown = "(absent)" if item is None else item._repr_html_()
    return f'<div class="{kind}"><header>{html.escape(label)}</header>{shown}</div>'
