"""Seconds of training to the same Recall@10: open_clip's own model against ours, on Flickr8k and on Diorama.

    python benchmarks/time_to_quality.py [--data flickr8k] [--svg FILE] [--quick] [--json] [--record]

Both see the same pictures and captions (decoded and made small once, to one cache that both read; captions tokenised
once), are evaluated by the same function (Recall@10 over the test split with all captions, the mean of both directions)
and are of the same width and depth; weights are reported. Each side has a search of equally many trials over equally
many samples, listed in ``SEARCH``; the trial that is the first to reach nine tenths of the best quality of its side is
taken again in a run of half as many steps and in one of three times as many. open_clip is used well: bf16, texts cut to
the longest of the batch, the allocator keeps its memory; its tokenizer is its own, its own dropping of patches is among
its trials.

Quality is a function of the number of the step, and kept as a curve under ``--work``. The seconds of a step are
measured apart, the sides in turns, on two threads, and multiplied; evaluation is left out for both. Seconds to a
quality are those of the earliest point at which any run of that side reaches it, on the straight line between two
measured ones. Without the curves the whole takes
some four hours of one core; with them, minutes. ``--quick`` trains nothing: it uses the curves that are there.
"""

import html
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from _contest import ALLOCATOR, Contender, MissingPeer, contest
from _quality import Setting
from _sides import curve, decoded, known, make
from _table import Line, options, publish

AGAIN = (0.5, 3.0)
"""Lengths of the runs that the best trial is taken again for, in trials."""
TAKEN = 5
"""Steps of one timed round."""
ASKED = 4.0
SHARES = (0.9, 1.0)
"""Targets, as shares of the best quality that open_clip reaches in any run."""


def _trials(data: str, steps: int) -> dict[str, list[Setting]]:
    """Returns the search of both sides on one data set; ``steps`` at batches of 128."""
    peer = Setting("open_clip", data, steps, width=128)
    ours = Setting("ours", data, steps, width=128, decay=0.05)
    small = {"batch": 64, "steps": 2 * steps}
    few = {"dropped": 0.5}
    early = {"warmup": 20}
    return {
        "open_clip": [
            *(peer, replace(peer, rate=2e-3), replace(peer, **small), replace(peer, **few), replace(peer, **early)),
            replace(peer, rate=5e-4),
        ],
        "ours": [
            *(ours, replace(ours, **few), replace(ours, **few, **small), replace(ours, matrix_rate=1e-2)),
            *(replace(ours, **early), replace(ours, stem=False)),
        ],
    }


SEARCH = {"flickr8k": _trials("flickr8k", 300), "diorama": _trials("diorama", 200)}

Curve = Sequence[Mapping[str, float]]


def prepare_step(setting: Mapping[str, Any], work: str) -> Callable[[], list[float]]:
    """Returns a round of ``TAKEN`` steps of a setting."""
    made = make(decoded(setting), Path(work))
    step, taken = made.stepper(), [0]

    def turn() -> list[float]:
        losses = [step(taken[0] + i) for i in range(TAKEN)]
        taken[0] += TAKEN
        return losses

    return turn


def step_seconds(settings: Sequence[Setting], work: Path, quick: bool) -> dict[str, float]:
    """Returns the median seconds of a step of each setting, by name; measured in turns."""
    contenders = [
        Contender(s.name, "prepare_step", {"setting": asdict(s), "work": str(work)}, 2, dict(ALLOCATOR))
        for s in settings
    ]
    turns = contest(__file__, contenders, 3 if quick else 7, 1)
    return {name: turn.median_s / TAKEN for name, turn in turns.items()}


def seconds_to(target: float, runs: Mapping[str, Curve], cost: Mapping[str, float]) -> float | None:
    """Returns the fewest seconds after which a run is at ``target``; None where none gets there.

    Args:
        target: of quality.
        runs: name of a setting -> its curve.
        cost: name of a setting -> seconds of a step.
    """
    found = []
    for name, points in runs.items():
        for before, after in pairwise(points):
            if before["quality"] < target <= after["quality"]:
                way = (target - before["quality"]) / (after["quality"] - before["quality"])
                found.append(cost[name] * (before["step"] + way * (after["step"] - before["step"])))
                break
    return min(found, default=None)


def chosen_trial(trials: Sequence[Setting], runs: Mapping[str, Curve], cost: Mapping[str, float]) -> Setting:
    """Returns the trial that is first at nine tenths of the best quality of all of them."""
    best = max(p["quality"] for s in trials for p in runs[s.name])
    at = {s.name: seconds_to(0.9 * best, {s.name: runs[s.name]}, cost) for s in trials}
    return min(trials, key=lambda s: at[s.name] or float("inf"))


def again(setting: Setting) -> list[Setting]:
    """Returns the same setting for fewer and for more steps."""
    return [replace(setting, steps=round(share * setting.steps)) for share in AGAIN]


def measure(data: str, work: Path, quick: bool) -> tuple[list[Line], dict[str, dict[str, list[tuple[float, float]]]]]:
    """Returns the lines of one data set, and per side and run the points (seconds, quality)."""
    read = known if quick else curve
    sides: dict[str, list[Setting]] = {}
    runs: dict[str, Curve] = {}
    for side, trials in SEARCH[data].items():
        sides[side] = []
        for setting in trials:
            points = read(setting, work)
            if points:
                runs[setting.name] = points
                sides[side].append(setting)
    if not all(sides.values()):
        raise SystemExit(f"there are no curves of {data} in {work}; run without --quick, it takes hours")
    cost = step_seconds([s for trials in sides.values() for s in trials], work, quick)
    for side, trials in sides.items():
        best = chosen_trial(trials, runs, cost)
        for other in again(best):
            points = read(other, work)
            if points:
                runs[other.name], cost[other.name] = points, cost[best.name]
                sides[side] = [*sides[side], other]
    return _lines(data, sides, runs, cost), {
        side: {s.name: [(cost[s.name] * p["step"], p["quality"]) for p in runs[s.name]] for s in settings}
        for side, settings in sides.items()
    }


def _lines(
    data: str, sides: Mapping[str, Sequence[Setting]], runs: Mapping[str, Curve], cost: Mapping[str, float]
) -> list[Line]:
    """Returns one line per target, and says on standard error what each run came to."""
    best = {}
    for side, settings in sides.items():
        for s in settings:
            top = max(p["quality"] for p in runs[s.name])
            best[side] = max(best.get(side, 0.0), top)
            print(
                f"{s.name:60} {runs[s.name][0]['weights'] / 1e6:5.2f} M weights  {1000 * cost[s.name]:6.0f} ms/step  "
                f"{cost[s.name] * runs[s.name][-1]['step']:6.0f} s  best R@10 {100 * top:5.2f} %",
                file=sys.stderr,
            )
    lines = []
    for share in SHARES:
        target = share * best["open_clip"]
        at = {side: seconds_to(target, {s.name: runs[s.name] for s in own}, cost) for side, own in sides.items()}
        if at["ours"] is None or at["open_clip"] is None:
            print(f"{data}: ours does not reach R@10 {100 * target:.2f} %", file=sys.stderr)
            continue
        lines.append(
            Line(
                f"seconds to R@10 {100 * target:.1f} % on {data}, {share:.0%} of the peer's best",
                at["ours"],
                "s",
                f"open_clip {version('open_clip_torch')}",
                used_well=at["open_clip"],
                asked_used_well=ASKED,
                agreement=f"same evaluation; best R@10 ours {100 * best['ours']:.1f} %, "
                f"peer {100 * best['open_clip']:.1f} %",
                name=f"time_to_quality.{data}.{round(100 * share)}",
            )
        )
    return lines


COLOURS = {"ours": "#2f9e68", "open_clip": "#d9702b"}


def svg(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]]) -> str:
    """Returns quality against seconds as an SVG, one panel per data set: a line per run, the longest of a side bold."""
    wide, tall, left, bottom, top = 420, 300, 52, 40, 36
    parts = []
    for place, (data, sides) in enumerate(panels.items()):
        points = [p for runs in sides.values() for run in runs.values() for p in run]
        end, best = max(s for s, _ in points), max(q for _, q in points)
        x0 = place * wide + left

        def at(point: tuple[float, float], x0: int = x0, end: float = end, best: float = best) -> str:
            x = x0 + (wide - left - 20) * point[0] / end
            y = tall - bottom - (tall - bottom - top) * point[1] / best
            return f"{x:.1f},{y:.1f}"

        parts.append(f'<text x="{x0}" y="20" font-weight="bold">{html.escape(data)}: Recall@10 (%)</text>')
        for share in (0.0, 0.5, 1.0):
            x, y = at((share * end, share * best)).split(",")
            parts.append(f'<text x="{x0 - 6}" y="{float(y) + 4:.0f}" text-anchor="end">{100 * share * best:.3g}</text>')
            parts.append(
                f'<line x1="{x0}" x2="{x0 + wide - left - 20}" y1="{y}" y2="{y}" stroke="currentColor" opacity=".15"/>'
            )
            parts.append(
                f'<text x="{x}" y="{tall - bottom + 18}" text-anchor="middle">{share * end:.0f}'
                f"{' s' if share == 1.0 else ''}</text>"
            )
        for side, runs in sides.items():
            longest = max(runs, key=lambda name: runs[name][-1][0])
            for name, run in runs.items():
                line = " ".join(at(point) for point in run)
                thick, faint = ("2.5", "1") if name == longest else ("1", ".45")
                parts.append(
                    f'<polyline points="{line}" fill="none" stroke="{COLOURS[side]}" stroke-width="{thick}" '
                    f'opacity="{faint}"><title>{html.escape(name)}</title></polyline>'
                )
    for i, (side, colour) in enumerate(COLOURS.items()):
        x = left + 110 * i
        parts.append(f'<rect x="{x}" y="{tall - 12}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{tall - 6}">{html.escape(side)}</text>')
    width = wide * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="Recall@10 against seconds of training">{"".join(parts)}</svg>\n'
    )


def main() -> None:
    """Trains what is missing, measures, prints and draws."""
    parser = options(__doc__)
    parser.add_argument("--data", choices=SEARCH, help="one data set (default: both)")
    parser.add_argument("--work", type=Path, help="caches and curves (default: quality/ in the cache of intermodal)")
    parser.add_argument("--svg", type=Path, help="draw quality against seconds")
    chosen = parser.parse_args()
    if chosen.work is None:
        from intermodal.runtime import cache_folder

        chosen.work = cache_folder() / "quality"
    lines: list[Line] = []
    panels = {}
    for data in [chosen.data] if chosen.data else SEARCH:
        try:
            found, panels[data] = measure(data, chosen.work, chosen.quick)
        except MissingPeer as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from error
        lines += found
    if chosen.svg:
        chosen.svg.write_text(svg(panels))
    publish("time_to_quality", lines, chosen)


if __name__ == "__main__":
    main()
