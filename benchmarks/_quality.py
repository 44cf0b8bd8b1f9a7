"""Data, settings and evaluation of ``time_to_quality.py``, the same for both sides.

A run is described by a ``Setting`` and is a function of it alone: the order of the samples, the caption that is drawn
for each picture, the part of the picture that is cut out and its mirroring depend on the seed and the number of the
step. Quality is therefore a function of the step, and how long a step takes is measured apart from it.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.evaluation.retrieval import retrieval_between
from intermodal.modalities.image import Image, ImagePreprocessor

STORED = {"flickr8k": 112, "diorama": 64}
"""Side of the pictures in the cache, in pixels."""
SHOWN = {"flickr8k": 96, "diorama": 64}
"""Side of what a model is shown: a random part in training, the middle in evaluation."""
SCENES = {"train": 20_000, "dev": 1_000, "test": 1_000}
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VOCABULARY = {"flickr8k": 4_000, "diorama": 1_000}
SPACE = 128


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        side: ``ours`` or ``open_clip``.
        data: a key of ``STORED``.
        steps: of the whole run; the learning rate ends there.
        batch: pictures, each with one caption, per step.
        rate: peak learning rate of AdamW.
        matrix_rate: peak of Muon; 0 for AdamW alone (ours only).
        dropped: share of the patches left out in training.
        stem: early convolutions (ours only).
        width: of both towers.
        depth: of both towers.
        decay: weight decay.
        patch: side of a patch in pixels.
        warmup: steps in which the learning rate rises.
        seed: of weights and order.
    """

    side: str
    data: str
    steps: int
    batch: int = 128
    rate: float = 1e-3
    matrix_rate: float = 5e-3
    dropped: float = 0.0
    stem: bool = True
    width: int = 192
    depth: int = 4
    decay: float = 0.2
    patch: int = 16
    warmup: int = 50
    seed: int = 0

    @property
    def name(self) -> str:
        """Differs between any two settings."""
        usual = asdict(Setting(self.side, self.data, 0))
        changed = {k: v for k, v in asdict(self).items() if v != usual[k]}
        return "-".join([self.side, self.data, *(f"{k}{v}" for k, v in changed.items())]).replace("_", "")


@dataclass(frozen=True)
class Data:
    """Pictures and their captions, by split."""

    name: str
    pixels: Mapping[str, np.ndarray]
    captions: Mapping[str, Sequence[Sequence[str]]]


def load(name: str, work: Path, shared: Path = SHARED) -> Data:
    """Returns a data set from its cache in ``work``, written there if it is absent."""
    folder = work / f"{name}-{STORED[name]}"
    if not (folder / "captions.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = _flickr8k(shared / "flickr8k") if name == "flickr8k" else _diorama()
        captions = {}
        for split, (pixels, texts) in rows.items():
            np.save(folder / f"{split}.npy", pixels)
            captions[split] = texts
        beside = folder / ".captions.json"
        beside.write_text(json.dumps(captions))
        beside.rename(folder / "captions.json")
    captions = json.loads((folder / "captions.json").read_text())
    return Data(name, {split: np.load(folder / f"{split}.npy") for split in captions}, captions)


def _flickr8k(source: Path) -> dict[str, tuple[np.ndarray, list[list[str]]]]:
    """Returns the official splits: the middle square of each photograph, made small, and its five captions."""
    side = STORED["flickr8k"]
    fit = ImagePreprocessor(side, side, side)
    rows = [json.loads(line) for line in (source / "pairs.jsonl").open(encoding="utf-8")]
    result = {}
    with zipfile.ZipFile(source / "images.zip") as archive:
        for split in ("train", "dev", "test"):
            own = [row for row in rows if row["split"] == split]
            pixels = [
                fit._fitted([Image.open(archive.read(row["image"]), at_least=(side, side)).pixels])[0] for row in own
            ]
            result[split] = (np.stack(pixels), [row["captions"] for row in own])
    return result


def _diorama() -> dict[str, tuple[np.ndarray, list[list[str]]]]:
    """Returns scenes rendered once: a picture and a sentence each."""
    from intermodal.diorama.source import Diorama

    result = {}
    for split, count in SCENES.items():
        source = Diorama(split, ("image", "text"), size=count)
        pixels, texts = [], []
        for start in range(0, count, 500):
            for sample in source.samples(range(start, start + 500)):
                pixels.append(sample["image"].pixels)
                texts.append([sample["text"].text])
        result[split] = (np.stack(pixels), texts)
    return result


def cut(pixels: np.ndarray, side: int, draw: np.random.Generator | None) -> np.ndarray:
    """Returns the middle ``side`` x ``side`` of each picture, or with ``draw`` a random part, mirrored at random."""
    room = pixels.shape[1] - side
    result = np.empty((len(pixels), side, side, 3), np.uint8)
    for i, picture in enumerate(pixels):
        top, left = (room // 2, room // 2) if draw is None else draw.integers(0, room + 1, 2)
        part = picture[top : top + side, left : left + side]
        result[i] = part[:, ::-1] if draw is not None and room and draw.random() < 0.5 else part
    return result


class Drawn:
    """The batches of a run: step -> rows, pixels and numbers of the drawn captions."""

    def __init__(self, data: Data, setting: Setting) -> None:
        self.data, self.setting, self.size = data, setting, len(data.pixels["train"])
        self.per_epoch = self.size // setting.batch

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        epoch, place = divmod(step, self.per_epoch)
        batch = self.setting.batch
        rows = np.random.default_rng((self.setting.seed, epoch)).permutation(self.size)[place * batch :][:batch]
        draw = np.random.default_rng((self.setting.seed, 1, step))
        which = np.array([draw.integers(len(self.data.captions["train"][row])) for row in rows])
        return rows, cut(self.data.pixels["train"][rows], SHOWN[self.data.name], draw), which


class Ids:
    """Captions as ids, tokenised once: row and number of the caption -> its ids."""

    def __init__(self, captions: Sequence[Sequence[str]], encode: Callable[[str], list[int]]) -> None:
        self.first = np.cumsum([0, *map(len, captions)])
        self.ids = [encode(text) for texts in captions for text in texts]

    def padded(self, places: Sequence[int], pad: int) -> tuple[Tensor, Tensor]:
        """Returns ids padded to the longest, and how many of each row are real."""
        chosen = [self.ids[i] for i in places]
        width = max(map(len, chosen))
        values = torch.tensor([row + [pad] * (width - len(row)) for row in chosen])
        return values, torch.tensor([len(row) for row in chosen])


def recall(pictures: Tensor, texts: Tensor, captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns Recall@1, 5 and 10 in both directions, all captions, and the mean of the two Recall@10."""
    a, b = (F.normalize(x.float(), dim=-1).numpy() for x in (pictures, texts))
    own, others = np.arange(len(a)), np.repeat(np.arange(len(a)), [len(t) for t in captions])
    found = {
        "picture_to_text": retrieval_between(a, b, own, others),
        "text_to_picture": retrieval_between(b, a, others, own),
    }
    result = {f"{way}.{k}": v for way, f in found.items() for k, v in f.items() if k.startswith("recall")}
    return {**result, "quality": float(np.mean([f["recall_at_10"] for f in found.values()]))}
