"""Python in docs/landmarks.md runs; its diagrams are those of the systems as they are now."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from intermodal import catalog

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "landmarks.md").read_text("utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    told: dict[str, Any] = {}
    exec(block, told)
    assert told["found"].edges[:2] == (("text", "reader"), ("image", "reader"))
    ElementTree.parse(tmp_path / "unified.svg")


def test_every_landmark_is_drawn_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import landmarks

    landmarks.draw(tmp_path)
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text("utf-8") for path in (ROOT / "docs" / "landmarks").iterdir()}
    stale = [name for name in drawn if drawn[name] != kept.get(name)]
    assert not stale, f"{stale}: run python benchmarks/landmarks.py --draw"
    assert set(kept) == set(drawn)
    assert {Path(name).stem for name in drawn} <= set(catalog.names("systems"))
    assert set(re.findall(r"\(landmarks/(\w+\.svg)\)", PAGE)) == set(drawn)
