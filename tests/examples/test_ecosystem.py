"""Commands and Python in docs/ecosystem.md run, over small folders with the names used there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import intermodal as im
from intermodal.cli.app import run
from tests import published

PAGE = (Path(__file__).parents[2] / "docs" / "ecosystem.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal [^#\n]*)", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
QUICK = ["--batch", "4", "--set", "train.steps=2", "--set", "train.precision=fp32", "--set", "train.warmup_steps=1"]


def folders(place: Path) -> None:
    """Writes the model, the pictures and the pairs that the page names."""
    published.siglip(place / "siglip-base-patch16-224")
    rows = []
    for i in range(8):
        kind = ("cat", "dog")[i % 2]
        for folder in (place / "pictures" / kind, place / "captioned", place / "photos"):
            folder.mkdir(parents=True, exist_ok=True)
            im.Image(published.picture(40, 40, i)).save(folder / f"{i}.png")
        split = "train" if i < 6 else "dev"
        rows.append({"image_file_name": f"{i}.png", "text": f"a photo of the {kind} {i}", "split": split})
    (place / "captioned" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    im.Image(published.picture(60, 90)).save(place / "photo.jpg")


@pytest.mark.peer
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.library()
    folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        assert run([*shlex.split(command)[1:], *(QUICK if " train " in command else [])]) == 0, command
    classify, measure, cut = BLOCKS
    known: dict[str, Any] = {}
    exec(compile(classify, "docs/ecosystem.md", "exec"), known)
    assert known["search"].best_score_ >= 0
    assert set(known["labels"]) == {"cat", "dog"}
    exec(compile(cut, "docs/ecosystem.md", "exec"), known)
    assert known["library"].width == known["library"].stats().dimension == 32
    for line in measure.splitlines():  # what fetches nothing
        if line.startswith(("from intermodal", "encoder =")):
            exec(compile(line, "docs/ecosystem.md", "exec"), known)
    assert known["encoder"].modalities == ["text", "image"]


def test_the_tasks_that_the_page_names_are_mtebs() -> None:
    found = re.search(r"get_tasks\(tasks=(\[.*\])\)", PAGE)
    assert found
    names = json.loads(found[1])
    mteb = pytest.importorskip("mteb")
    assert {task.metadata.name for task in mteb.get_tasks(tasks=names)} == set(names)
