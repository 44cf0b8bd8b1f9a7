"""The README's Python runs and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from intermodal.saving import shipped

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_python_block_prints_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, expected = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL).groups()  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_the_model_it_loads_comes_with_the_package() -> None:
    assert 'im.load("diorama")' in README
    assert "diorama" in shipped()


def test_every_verb_it_shows_exists() -> None:
    from intermodal.cli.app import VERBS

    shown = set(re.findall(r"^\$ intermodal (\w+)", README, re.MULTILINE))
    assert shown
    assert shown <= set(VERBS)
