"""Commands and Python in docs/connect.md run, over small folders with the names used there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intermodal as im
from intermodal.cli.app import run
from tests import published

PAGE = (Path(__file__).parents[2] / "docs" / "connect.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal (?!serve)[^#\n]*)", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def folders(place: Path) -> None:
    """Writes the folders, pictures, sounds, series and pairs that the page names."""
    from tests.adapters import test_blip, test_clap, test_vits
    from tests.adapters.test_bert_sentences import write

    published.siglip(place / "siglip-base-patch16-224")
    write(place / "all-MiniLM-L6-v2")
    test_clap.build(place / "clap-htsat-unfused", fused=False)
    test_blip.build(place / "blip-image-captioning-base", "BlipForConditionalGeneration")
    test_vits.build(place / "mms-tts-eng")
    for name in ("photos", "captioned", "movements"):
        (place / name).mkdir()
    im.Image(published.picture(60, 90)).save(place / "photo.jpg")
    im.Image(published.picture(50, 40, 1)).save(place / "photos" / "a.png")
    im.Audio(published.wave(0.6, 16_000), 16_000).save(place / "interview.wav")
    words = [f"a photo of the {one} {two}" for one in ("cat", "dog", "red") for two in ("house", "dog", "cat", "barks")]
    (place / "sentences.txt").write_text("\n".join(f"{text} {more}" for text in words for more in ("two", "yes")))
    rows: dict[str, list[dict[str, Any]]] = {"captioned": [], "movements": []}
    for i, text in enumerate(words):
        split = "train" if i < 8 else "dev"
        im.Image(published.picture(40, 40, i)).save(place / "captioned" / f"{i}.png")
        rows["captioned"].append({"image_file_name": f"{i}.png", "text": [text, f"{text} is"], "split": split})
        wave = np.sin(np.arange(64) * (i + 1) / 10)[None].astype(np.float32)
        im.TimeSeries(wave, ("x",), 32.0).save(place / "movements" / f"{i}.csv")
        rows["movements"].append({"timeseries_file_name": f"{i}.csv", "text": text, "split": split})
    im.TimeSeries(wave, ("x",), 32.0).save(place / "walk.csv")
    for name, found in rows.items():
        (place / name / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.mark.peer
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.library()
    folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        quick = ["--epochs", "1", "--width", "8"] if " connect " in command else []
        assert run([*shlex.split(command)[1:], *quick]) == 0, command
    assert len(BLOCKS) == 3
    known: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block.replace("epochs=5, width=64", "epochs=1, width=8"), "docs/connect.md", "exec"), known)
    directions = known["model"].directions
    assert directions[:2] == (("image", "text"), ("text", "speech"))
    assert ("image", "speech") in directions[2:]
    assert known["result"]["fields"]["audio"]["space"] == "second"
