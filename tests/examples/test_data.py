"""Commands and Python in docs/data.md run, over small folders, shards and parquet files with the names used there."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from intermodal.cli.app import run
from tests.data_files import FILE, picture, png, write_parquet, write_shard

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal [^#\n]*)", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
QUICK = ["--batch", "2", "--set", "train.steps=1", "--set", "train.warmup_steps=1", "--set", "train.precision=fp32"]
SMALL = [word for tower in ("image", "text") for word in ("--set", f"towers.{tower}.depth=1")]


def written(place: Path) -> None:
    """Writes the data that the page names: the hub's in its cache, as its library keeps them."""
    (place / "photos").mkdir()
    rows = []
    for i in range(4):
        picture(60 * i).save(place / "photos" / f"{i}.png")
        rows.append({"image_file_name": f"{i}.png", "text": f"number {i}", "split": "train" if i < 2 else "dev"})
    (place / "photos" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, many in (("train-000000", 2), ("train-000001", 2), ("val-000000", 2)):
        members = [(f"{i}.png", png(i, place)) for i in range(many)] + [(f"{i}.txt", f"text {i}") for i in range(many)]
        write_shard(place / "shards" / f"{name}.tar", members)
    pictures = [{"bytes": png(i, place), "path": None} for i in range(4)]
    repo = place / "hub" / "datasets--ylecun--mnist"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["zero", "one"]}}
    for split in ("train", "test"):
        path = repo / "snapshots" / ("0" * 40) / "mnist" / f"{split}-00000-of-00001.parquet"
        columns = {"image": pictures, "label": [0, 1, 0, 1]}
        write_parquet(repo / "blobs" / split, columns, {"image": FILE, "label": pa.int64()}, features)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(repo / "blobs" / split, path.parent))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("INTERMODAL_THREADS", "1")
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if words[0] == "train":
            words += [*QUICK, *SMALL]
        assert run(words) == 0, command
    assert "4 items of image named right among 2 labels" in capsys.readouterr().out
    assert len(BLOCKS) == 1
    known: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "docs/data.md", "exec"), known)
    shown = capsys.readouterr().out
    assert "4 {'image': 'image', 'text': 'text'}" in shown
    assert "('text 1',) {'key': '1', 'split': 'train'}" in shown
