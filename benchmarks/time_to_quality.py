"""Seconds of training to the same Recall@10: open_clip's own model against ours, on Flickr8k and on Diorama.

    python benchmarks/time_to_quality.py [--data flickr8k] [--svg FILE] [--quick] [--json] [--record]

Both see the same pictures and captions (decoded and made small once, to one cache that both read; captions tokenised
once), are evaluated by the same function (Recall@10 over a split with all captions, the mean of both directions)
and are of the same width and depth; weights are reported. Each side has a search of equally many trials over equally
many samples, listed in ``SEARCH``; the trial that is the first to reach nine tenths of the best quality of its side is
taken again in a run of half as many steps and in one of twice as many. open_clip is used well: bf16, texts cut to
the longest of the batch, the allocator keeps its memory; its tokenizer is its own, its own dropping of patches is among
its trials.

Quality is a function of the number of the step, and kept as a curve under ``--work``, of the dev and of the test split.
The seconds of a step are measured apart, the sides in turns, on two threads, and multiplied; evaluation is left out for
both. Trials, and the run of each side that is held against the other's, are chosen on the dev split (the run that is
first at the target there, of those that come to it on the test split too); its seconds are those to the target on the
test split, on the straight line between two measured points. Curves that were kept before they held the dev split are
used, but then all is chosen on the test split, and the table says so. Without the curves the whole takes
some three hours of one core; with them, minutes.
``--quick`` trains nothing: it uses the curves that are there.
"""

import html
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from _contest import ALLOCATOR, Contender, contest
from _quality import Setting
from _sides import curve, decoded, known, make
from _table import Line, run

AGAIN = (0.5, 2.0)
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
    return {
        "open_clip": [peer, replace(peer, rate=2e-3), replace(peer, **small), replace(peer, **few)],
        "ours": [ours, replace(ours, matrix_rate=1e-2), replace(ours, **few), replace(ours, **few, **small)],
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


def seconds_to(target: float, points: Curve, step_s: float, key: str) -> float:
    """Returns the seconds after which a run is at ``target``; infinity where it never is.

    Args:
        target: of quality.
        points: the curve of the run.
        step_s: seconds of a step.
        key: ``quality``, of the test split, or ``dev_quality``.
    """
    for before, after in pairwise(points):
        if before[key] < target <= after[key]:
            way = (target - before[key]) / (after[key] - before[key])
            return step_s * (before["step"] + way * (after["step"] - before["step"]))
    return math.inf


def judge(runs: Mapping[str, Curve]) -> str:
    """Returns what runs are chosen by: the quality on the dev split, or on the test split where a curve lacks that."""
    complete = all("dev_quality" in point for points in runs.values() for point in points)
    return "dev_quality" if complete else "quality"


def best_point(settings: Sequence[Setting], runs: Mapping[str, Curve], key: str) -> Mapping[str, float]:
    """Returns the point of the highest quality in any of these runs."""
    return max((point for s in settings for point in runs[s.name]), key=lambda point: point[key])


def first_at(
    target: float, settings: Sequence[Setting], runs: Mapping[str, Curve], cost: Mapping[str, float], key: str
) -> Setting:
    """Returns the setting whose run is the first at ``target``."""
    return min(settings, key=lambda s: seconds_to(target, runs[s.name], cost[s.name], key))


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
    key = judge(runs)
    for side, trials in sides.items():
        best = first_at(0.9 * best_point(trials, runs, key)[key], trials, runs, cost, key)
        for trial in trials:  # those of the best are trained, those of others count where they are there
            for other in again(trial):
                points = (read if trial is best else known)(other, work)
                if points:
                    runs[other.name], cost[other.name] = points, cost[trial.name]
                    sides[side] = [*sides[side], other]
    return _lines(data, sides, runs, cost), {
        side: {s.name: [(cost[s.name] * p["step"], p["quality"]) for p in runs[s.name]] for s in settings}
        for side, settings in sides.items()
    }


def _lines(
    data: str, sides: Mapping[str, Sequence[Setting]], runs: Mapping[str, Curve], cost: Mapping[str, float]
) -> list[Line]:
    """Returns one line per target, and says on standard error what each run came to."""
    key = judge(runs)
    best = {side: best_point(settings, runs, key) for side, settings in sides.items()}
    for s in [s for settings in sides.values() for s in settings]:
        top = best_point([s], runs, key)["quality"]
        print(
            f"{s.name:60} {runs[s.name][0]['weights'] / 1e6:5.2f} M weights  {1000 * cost[s.name]:6.0f} ms/step  "
            f"{cost[s.name] * runs[s.name][-1]['step']:6.0f} s  best R@10 {100 * top:5.2f} %",
            file=sys.stderr,
        )
    split = "dev" if key == "dev_quality" else "test (curves without the dev split)"
    lines = []
    for share in SHARES:
        target = share * best["open_clip"]["quality"]
        aim = share * best["open_clip"][key]
        at = {side: _seconds_at(aim, target, settings, runs, cost, key) for side, settings in sides.items()}
        if math.inf in at.values():
            late = ", ".join(side for side, seconds in at.items() if seconds == math.inf)
            print(f"{data}: no run of {late} comes to R@10 {100 * target:.2f} % on both splits", file=sys.stderr)
            continue
        lines.append(
            Line(
                f"seconds to R@10 {100 * target:.1f} % on {data}, {share:.0%} of the peer's best",
                at["ours"],
                "s",
                f"open_clip {version('open_clip_torch')}",
                used_well=at["open_clip"],
                asked_used_well=ASKED,
                agreement=f"same evaluation; best R@10 ours {100 * best['ours']['quality']:.1f} %, "
                f"peer {100 * best['open_clip']['quality']:.1f} %; runs chosen on the split {split}",
                name=f"time_to_quality.{data}.{round(100 * share)}",
            )
        )
    return lines


def _seconds_at(
    aim: float,
    target: float,
    settings: Sequence[Setting],
    runs: Mapping[str, Curve],
    cost: Mapping[str, float],
    key: str,
) -> float:
    """Returns the seconds to ``target`` on the test split, of the run that is first at ``aim`` by ``key``."""

    def seconds(setting: Setting, goal: float, by: str) -> float:
        return seconds_to(goal, runs[setting.name], cost[setting.name], by)

    able = [s for s in settings if math.inf not in (seconds(s, aim, key), seconds(s, target, "quality"))]
    return seconds(first_at(aim, able, runs, cost, key), target, "quality") if able else math.inf


COLOURS = {"ours": "#2f9e68", "open_clip": "#d9702b"}


def svg(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]]) -> str:
    """Returns quality against seconds as an SVG, one panel per data set: a line per run, the longest of a side bold."""
    wide, tall, left, bottom, top = 420, 300, 52, 40, 36
    parts = []
    for place, (data, sides) in enumerate(panels.items()):
        points = [p for runs in sides.values() for way in runs.values() for p in way]
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
            for name, way in runs.items():
                line = " ".join(at(point) for point in way)
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


def everything(chosen: Namespace) -> list[Line]:
    """Trains what is missing, measures, draws and returns what the table shows."""
    if chosen.work is None:
        from intermodal.runtime import cache_folder

        chosen.work = cache_folder() / "quality"
    lines: list[Line] = []
    panels = {}
    for data in [chosen.data] if chosen.data else SEARCH:
        found, panels[data] = measure(data, chosen.work, chosen.quick)
        lines += found
    if chosen.svg:
        chosen.svg.write_text(svg(panels))
    return lines


if __name__ == "__main__":
    flags = {
        "data": {"choices": SEARCH, "help": "one data set (default: both)"},
        "work": {"type": Path, "help": "caches and curves (default: quality/ in the cache of intermodal)"},
        "svg": {"type": Path, "help": "draw quality against seconds"},
    }
    raise SystemExit(run(__doc__, everything, **flags))
