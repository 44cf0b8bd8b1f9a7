"""Commands and Python in docs/export.md run, and so do the lines of Python in the page that lies beside a tower."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters import _frozen
from intermodal.cli.app import run
from intermodal.diorama.source import Diorama
from intermodal.saving import save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer
from tests import published

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal [^#\n]*)", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def folders(place: Path) -> None:
    """Writes the folders and pairs that the page names."""
    from tests.adapters import test_clip
    from tests.adapters.test_bert_sentences import write

    test_clip.published(place / "clip-vit-base-patch32", published.library())
    published.siglip(place / "siglip-base-patch16-224")
    write(place / "all-MiniLM-L6-v2")
    fields = {"text": "text", "timeseries": "timeseries"}
    model = build(sized("tiny", fields, WordTokenizer(words=Diorama.vocabulary)))
    (place / "runs" / "photos").mkdir(parents=True)
    save_model(place / "runs" / "photos" / "model", model)
    (place / "captioned").mkdir()
    rows = []
    for i, word in enumerate(published.WORDS[:12]):
        im.Image(published.picture(40, 40, i)).save(place / "captioned" / f"{i}.png")
        rows.append({"image_file_name": f"{i}.png", "text": f"a {word}", "split": "train" if i < 8 else "dev"})
    (place / "captioned" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.peer
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    published.library()
    folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))
    verbs = ["export", "export", "export", "connect", "train", "export", "export", "embed", "push"]
    assert [command.split()[1] for command in COMMANDS] == verbs
    for command in COMMANDS:
        quick = ["--epochs", "1", "--width", "8", "--head", "0,0.1,0"] if " connect " in command else []
        assert run([*shlex.split(command)[1:], *quick]) == 0, command
    told = capsys.readouterr().out
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    for line in shown[1].splitlines():
        assert re.sub(r"[\d.]+e-\d+", "", line) in re.sub(r"[\d.]+e-\d+", "", told)

    model = im.load("diorama")
    pictures = [sample["image"] for sample in Diorama("test", fields=("image",)).samples(range(3))]
    found = _frozen.of_onnx("seeing/tower.onnx").says(pictures).pooled
    assert torch.allclose(found, model.embed(pictures, precision="fp32"), atol=1e-5)
    joined = im.load("joined")
    assert torch.allclose(joined.embed([im.Image(published.picture(40, 40))]).norm(), torch.tensor(1.0))

    known: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/export.md", "exec"), known)
    texts = [im.Text("a small red circle"), im.Text("a large blue star moving left")]
    wanted = model.embed(texts, precision="fp32").numpy()
    np.testing.assert_allclose(known["vectors"], wanted, atol=1e-5)

    first, second = (im.load(name).embed(texts, precision="fp32") for name in ("mine", "mine-for-sentences"))
    assert torch.equal(first, second)
    assert torch.allclose(first, im.load("runs/mine/model").embed(texts, precision="fp32"), atol=1e-5)

    for folder in ("words", "seeing"):
        code = re.search(r"```python\n(.*?)```", (tmp_path / folder / "README.md").read_text(), re.DOTALL)
        assert code
        lines = code[1].replace("pixel_values': ...", "pixel_values': np.zeros((2, 3, 64, 64), np.float32)")
        monkeypatch.chdir(tmp_path / folder)
        exec(compile(lines, f"{folder}/README.md", "exec"), known)
        assert known["vectors"].shape == (2, 128)
