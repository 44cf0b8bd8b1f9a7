"""Time to quality: runs are chosen on the dev split and timed on the test split; old curves are used and named."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    import time_to_quality

    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
    monkeypatch.setattr(time_to_quality, "version", lambda _: "1.0")
    return time_to_quality


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    """Returns a curve with a point every ten steps, of pairs of quality on the test and on the dev split."""
    rows = enumerate(((0.0, 0.0), *points))
    return [{"step": 10 * i, "weights": 1e6, "quality": test, "dev_quality": dev} for i, (test, dev) in rows]


def test_a_run_is_chosen_on_dev_and_timed_on_test(script: ModuleType) -> None:
    a, b = (script.Setting("ours", "flickr8k", steps) for steps in (1, 2))
    peer = script.Setting("open_clip", "flickr8k", 1)
    runs = {
        a.name: curve((0.8, 0.1), (0.8, 0.8)),  # the first on the test split alone
        b.name: curve((0.2, 0.6), (0.6, 0.6)),
        peer.name: curve((0.1, 0.1), (0.4, 0.4)),
    }
    cost = {a.name: 1.0, b.name: 2.0, peer.name: 5.0}
    sides = {"ours": [a, b], "open_clip": [peer]}
    found = {line.name: line for line in script._lines("flickr8k", sides, runs, cost)}
    whole = found["time_to_quality.flickr8k.100"]
    assert (whole.ours, whole.used_well) == (2.0 * 15, 5.0 * 20)
    assert "chosen on the split dev" in whole.agreement
    assert "best R@10 ours 80.0 %, peer 40.0 %" in whole.agreement
    old = {name: [{k: v for k, v in p.items() if k != "dev_quality"} for p in points] for name, points in runs.items()}
    for given in (old, runs | {peer.name: old[peer.name]}):  # one old curve is enough
        whole = script._lines("flickr8k", sides, given, cost)[-1]
        assert whole.ours == pytest.approx(5.0)
        assert "chosen on the split test (curves without the dev split)" in whole.agreement


def test_a_target_that_is_not_reached_gives_no_line(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    ours, peer = script.Setting("ours", "diorama", 1), script.Setting("open_clip", "diorama", 1)
    sides, cost = {"ours": [ours], "open_clip": [peer]}, {ours.name: 1.0, peer.name: 1.0}
    for points in (((0.5, 0.5),), ((0.9, 0.5),), ((0.5, 0.9),)):
        runs = {ours.name: curve(*points), peer.name: curve((0.8, 0.8))}
        assert script._lines("diorama", sides, runs, cost) == []
        assert "no run of ours comes to R@10 80.00 % on both splits" in capsys.readouterr().err


def test_a_run_that_comes_to_the_target_on_dev_alone_is_passed_over(script: ModuleType) -> None:
    short, long = (script.Setting("ours", "diorama", steps) for steps in (1, 2))
    peer = script.Setting("open_clip", "diorama", 1)
    runs = {
        short.name: curve((0.7, 0.8)),
        long.name: curve((0.1, 0.1), (0.9, 0.9)),
        peer.name: curve((0.8, 0.8)),
    }
    cost = dict.fromkeys(runs, 1.0)
    whole = script._lines("diorama", {"ours": [short, long], "open_clip": [peer]}, runs, cost)[-1]
    assert whole.ours == pytest.approx(18.75)


def test_seconds_lie_between_the_points(script: ModuleType) -> None:
    points = curve((0.2, 0.4), (0.6, 0.5))
    assert script.seconds_to(0.4, points, 2.0, "quality") == pytest.approx(30.0)
    assert script.seconds_to(0.2, points, 2.0, "dev_quality") == pytest.approx(10.0)
    assert script.seconds_to(0.7, points, 2.0, "quality") == float("inf")
