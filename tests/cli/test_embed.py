"""``intermodal embed`` takes whatever a person names, reports what is bad, and writes one whole npz file."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from intermodal import catalog
from intermodal.cli import embed as module
from intermodal.cli.app import run
from intermodal.cli.embed import Vectors
from intermodal.cli.items import item_of
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.saving import load_model, save_model
from intermodal.tokenizers.word import WordTokenizer


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")


def picture(level: int) -> Image:
    rng = np.random.default_rng(level)
    return Image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))


def test_folders_patterns_archives_files_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for n in range(4):
        picture(n).save(tmp_path / "photos" / ("more" if n % 2 else "") / f"{n}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as archive:
        archive.write(tmp_path / "photos" / "0.png", "inside/é.png")
        archive.writestr("inside/broken.png", b"\x89PNG\r\n\x1a\n")
    picture(7).save(tmp_path / "alone.png")
    asked = [tmp_path / "photos", tmp_path / "few.zip", "a red circle", tmp_path / "*.png", tmp_path / "nothing.jpg"]
    out = tmp_path / "new" / "v.npz"
    assert run(["embed", "diorama", *map(str, asked), "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["count"], found["width"]) == (7, 128)
    assert [Path(one["source"]).name for one in found["failed"]] == ["broken.png", "broken.png", "nothing.jpg"]
    assert "skipped" in said.err
    with np.load(out) as file:
        names, kinds, vectors = (file[key] for key in ("names", "modalities", "vectors"))
    wanted = ["0.png", "2.png", "1.png", "3.png", "é.png", "a red circle", "alone.png"]
    assert [Path(name).name for name in names] == wanted
    assert list(kinds) == ["image"] * 5 + ["text", "image"]
    np.testing.assert_array_equal(vectors[0], vectors[4])
    model = load_model("diorama")
    items = [picture(0), picture(2), picture(1), picture(3), picture(0), Text("a red circle"), picture(7)]
    np.testing.assert_allclose(vectors, model.embed(items).numpy(), atol=1e-5)
    assert [p.name for p in out.parent.iterdir()] == ["v.npz"]


def test_a_model_that_makes_no_vectors_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"text": "text", "image": "image"}
    system = catalog.module("systems", "language")
    save_model(tmp_path / "m", system.build(system.sized("tiny", fields, WordTokenizer(words=("a", "b")))))
    model, library = str(tmp_path / "m"), str(tmp_path / "l")
    for command in (["embed", model, "a"], ["index", library, "a", "--model", model]):
        assert run(command) == 2
        assert "does not embed" in capsys.readouterr().err
    assert not (tmp_path / "l").exists()


def test_nothing_readable_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "v.npz"
    out.write_bytes(b"before")
    assert run(["embed", "diorama", "no/file.jpg", "--out", str(out)]) == 2
    assert "none of the 1 inputs could be embedded" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["v.npz"]


def test_many_failures_are_told_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHOWN", 2)
    missing = [f"no/{n}.jpg" for n in range(5)]
    assert run(["embed", "diorama", "words and words", *missing, "--out", str(tmp_path / "v.npz"), "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["failed"]) == 5
    assert "and 3 more; all of them with --json" in said.err
    assert "no/2.jpg" not in said.err


def test_an_npz_that_grows_is_the_one_that_numpy_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 3)).astype(np.float32)
    names = [f"{'ä' * n}\n{n}" for n in range(49)] + ["a\ud800"]  # a name on disk need not be UTF-8
    with Vectors(tmp_path / "v.npz") as file:
        for row, name in zip(rows, names, strict=True):
            file.add(row, name, "text")
        assert not (tmp_path / "v.npz").exists()
        file.write()
    with np.load(tmp_path / "v.npz") as found:
        np.testing.assert_array_equal(found["vectors"], rows)
        assert found["names"].tolist() == names
        assert found["modalities"].tolist() == ["text"] * 50
    with Vectors(tmp_path / "plain") as file:
        file.add(rows[0], "a", "text")
        file.write()
    assert (tmp_path / "plain.npz").exists()  # as numpy.savez names it


def test_a_query_is_opened_as_small_as_the_sources(tmp_path: Path) -> None:
    path = Image(np.zeros((640, 640, 3), np.uint8)).save(tmp_path / "large.jpg")
    assert item_of(str(path)).pixels.shape == (640, 640, 3)  # type: ignore[attr-defined]
    assert item_of(str(path), load_model("diorama")).pixels.shape == (160, 160, 3)  # type: ignore[attr-defined]
