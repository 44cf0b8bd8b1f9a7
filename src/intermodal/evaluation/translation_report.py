"""The report on translations: the table of every field into every other, and what was made beside what was asked.

One self-contained HTML file with the look of ``evaluation.report``; its pictures, sounds and clips are in it.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from intermodal.evaluation.report import card, ground, opening, write_page
from intermodal.types import Item

Shown = Mapping[str, Sequence[tuple[Item, Item, Item | None]]]
"""As ``translations.examples`` gives it: "text>image" -> what was asked, what was made, what the data has."""

_EXPLAINED = (
    "<p>What was made is read back: how many of the attributes that both sides carry are right, in %, and below, how "
    "many scenes are right as a whole. The row is what was given, the column what was made. Point at a cell to see "
    "each attribute, the interval and the time.</p>"
)
_COMPLETED = "<p>Each field made from all the others of its sample; judged is what any of them tells of it.</p>"


def write_translation_report(
    path: str | Path,
    title: str,
    result: Mapping[str, Any],
    shown: Shown,
    completed: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes the report and returns its path.

    Args:
        path: of the HTML file.
        title: of the page.
        result: of ``translations.translations``.
        shown: of ``translations.examples``.
        completed: of ``translations.completions``.
        notes: sentences under the title.
    """
    return write_page(path, title, [*opening(title, result, notes), *translation_parts(result, shown, completed)])


def translation_parts(result: Mapping[str, Any], shown: Shown, completed: Mapping[str, Any] | None = None) -> list[str]:
    """Returns the tables and the examples as parts of a page; see ``write_translation_report``."""
    parts = [f'<h2>From, to</h2>{_EXPLAINED}<div class="scroll">{directions_html(result)}</div>']
    parts.append(f"<p>{html.escape(mean_text(result))}.</p>")
    parts += [f"<p>{html.escape(text)}</p>" for text in misshapen_texts(result["directions"])]
    if result["left_out"]:
        reasons = "".join(f"<li>{html.escape(f'{name}: {why}')}</li>" for name, why in result["left_out"].items())
        parts.append(f"<p>Not measured:</p><ul>{reasons}</ul>")
    if completed:
        parts.append(f'<h2>Completed</h2>{_COMPLETED}<div class="scroll">{completed_html(completed)}</div>')
    parts.append("<h2>Made</h2><p>Outlined: what was given. Beside it what was made, and what the data has.</p>")
    for name, rows in shown.items():
        a, b = name.split(">")
        for asked, made, had in rows:
            cards = card(asked, a, "card query") + card(made, f"{b}, made", "card") + card(had, f"{b}, data", "card")
            parts.append(f'<div class="row">{cards}</div>')
    return parts


def directions_html(result: Mapping[str, Any]) -> str:
    """Returns the table of directions, coloured by the share of attributes that arrived."""
    pairs = [name.split(">") for name in result["directions"]]
    rows, columns = (list(dict.fromkeys(pair[k] for pair in pairs)) for k in (0, 1))
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in columns)
    lines = []
    for a in rows:
        cells = "".join(_cell(result["directions"].get(f"{a}>{b}")) for b in columns)
        lines.append(f"<tr><th scope=row>{html.escape(a)}</th>{cells}</tr>")
    return f'<table class="matrix"><tr><td></td>{head}</tr>{"".join(lines)}</table>'


def completed_html(completed: Mapping[str, Any]) -> str:
    """Returns the fields that were made from all the others, as a table of one row."""
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in completed["fields"])
    cells = "".join(_cell(figures) for figures in completed["fields"].values())
    return f'<table class="matrix"><tr>{head}</tr><tr>{cells}</tr></table>'


def mean_text(result: Mapping[str, Any]) -> str:
    """Returns the means in words."""
    mean = result["mean"]
    return (
        f"mean: {mean['attribute_accuracy']:.2%} of the attributes, {mean['scene_accuracy']:.2%} of the scenes as a "
        f"whole, {mean['unreadable_share']:.2%} unreadable, {mean['seconds_per_item']:.3f} s per item"
    )


def misshapen_texts(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each task of which results were in another format than the readers know."""
    return [
        f"{name}: {each['misshapen']} results in another format, counted as unreadable: {each['misshapen_why']}"
        for name, each in figures.items()
        if each["misshapen"]
    ]


def _cell(figures: Mapping[str, Any] | None) -> str:
    """Returns one cell: attributes right, and below them scenes right."""
    if figures is None:
        return "<td>·</td>"
    # the low end of the colours is at half of the attributes: less than that is hardly a translation
    colour = ground(2 * figures["attribute_accuracy"] - 1)
    each = ", ".join(f"{name} {100 * figures[f'{name}_accuracy']:.1f}" for name in figures["attributes"])
    low, high = figures["scene_accuracy_low"], figures["scene_accuracy_high"]
    told = (
        f"{each}; scenes {100 * low:.1f} to {100 * high:.1f}; unreadable {100 * figures['unreadable_share']:.1f}; "
        f"{figures['seconds_per_item']:.3f} s"
    )
    return (
        f'<td style="background:{colour};color:#fff" title="{html.escape(told)}">'
        f"{100 * figures['attribute_accuracy']:.1f}<small>{100 * figures['scene_accuracy']:.1f}</small></td>"
    )
