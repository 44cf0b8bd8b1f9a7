"""The two sides of ``time_to_quality.py``: open_clip's own model and training step, and ours."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from _contest import open_clip
from _quality import SHOWN, SPACE, VOCABULARY, Data, Drawn, Ids, Setting, cut, load, recall
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import runtime
from intermodal.encoders.tower import TowerConfig
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import TextPreprocessor
from intermodal.systems.clip import Clip, Config, build
from intermodal.tokenizers.bpe import BPETokenizer
from intermodal.training.log import RunLog
from intermodal.training.loop import Loop, Options, Progress, train
from intermodal.training.optimizer import optimizers
from intermodal.types import Batch


class Ours:
    """Our CLIP as the training loop trains it: a small vocabulary made of the captions, early convolutions."""

    def __init__(self, data: Data, setting: Setting) -> None:
        self.data, self.setting = data, setting
        flat = [text for texts in data.captions["train"] for text in texts]
        tokenizer = BPETokenizer.train(flat, VOCABULARY[data.name], lower=True)
        side = SHOWN[data.name]
        heads = setting.width // 64
        common = {"width": setting.width, "depth": setting.depth, "heads": heads}
        cells = side // setting.patch
        self.pictures = ImagePreprocessor(side, side, setting.patch)
        self.texts = TextPreprocessor(tokenizer, 64)
        stem = {"first": (4, 4), "channels": (48, 96)} if setting.stem else {}
        towers = {
            "image": TowerConfig(self.pictures, sizes=(cells, cells), token_dropout=setting.dropped, **stem, **common),
            "text": TowerConfig(self.texts, sizes=(64,), **common),
        }
        runtime.seed(setting.seed)
        self.model: Clip = build(Config(towers, SPACE))
        self.ids = {split: Ids(c, tokenizer.encode) for split, c in data.captions.items()}
        self.drawn = Drawn(data, setting)
        self.batch_size = setting.batch
        self.pad = tokenizer.pad_id

    def options(self) -> Options:
        """Returns the settings of the loop."""
        s = self.setting
        return Options(
            steps=s.steps,
            optimizer="muon" if s.matrix_rate else "adamw",
            learning_rate=s.rate,
            matrix_rate=s.matrix_rate or 1.0,
            weight_decay=s.decay,
            warmup_steps=s.warmup,
            precision="bf16",
            seed=s.seed,
            evaluate_every=every(s),
            checkpoint_every=every(s),
            log_every=20,
        )

    def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
        """Yields batches."""
        for step in range(first, last):
            rows, pixels, which = self.drawn(step)
            pixels.setflags(write=False)
            yield {
                "image": self.pictures([Image(p) for p in pixels]),
                "text": self._text("train", self.ids["train"].first[rows] + which),
            }

    def _text(self, split: str, places: Sequence[int]) -> Batch:
        values, lengths = self.ids[split].padded(places, self.pad)
        return Batch(values, torch.arange(values.shape[1]) < lengths[:, None])

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Returns the figures of the model as it is."""
        self.model.eval()
        shown = cut(self.data.pixels[split], SHOWN[self.data.name], None)
        shown.setflags(write=False)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = [
                self.model.vectors("image", self.pictures([Image(p) for p in shown[i : i + 200]]))
                for i in range(0, len(shown), 200)
            ]
            order = np.argsort([len(ids) for ids in self.ids[split].ids], kind="stable")
            parts = [
                self.model.vectors("text", self._text(split, order[i : i + 200])) for i in range(0, len(order), 200)
            ]
        texts = torch.cat(parts)[torch.from_numpy(np.argsort(order))]
        return recall(torch.cat(pictures), texts, self.data.captions[split])

    def stepper(self) -> Callable[[int], float]:
        """Returns what takes the next step of the training loop and gives its loss."""
        runtime.keep_memory()
        folder, settings = TemporaryDirectory(), self.options()
        made = optimizers(
            self.model, settings.optimizer, settings.learning_rate, settings.matrix_rate, settings.weight_decay
        )
        loop = Loop(self.model, made, settings, RunLog(Path(folder.name)), {"step": 0, "seconds": 0.0}, print)
        source = self.steps(0, self.setting.steps)
        self.model.train()

        def step(_: int) -> float:
            loop.take(source)
            return loop.losses["loss"] if folder else 0.0

        return step

    def train(self, folder: Path, note: Callable[[int, float, Mapping[str, float]], None]) -> None:
        """Trains to the end, from the newest checkpoint on."""

        def measure(step: int) -> Mapping[str, float]:
            found = quality(self)
            note(step, seen[-1].losses["loss"] if seen else math.nan, found)
            return found

        seen: list[Progress] = []
        runtime.keep_memory()
        train(self.model, self, self.options(), folder, True, measure, lambda p: seen.__setitem__(slice(None), [p]))


class Peer:
    """open_clip's own model, tokenizer, loss and training step: bf16, captions cut to the longest of the batch."""

    def __init__(self, data: Data, setting: Setting) -> None:
        library = open_clip()
        self.data, self.setting, side = data, setting, SHOWN[data.name]
        torch.manual_seed(setting.seed)
        heads = setting.width // 64
        picture = {"image_size": side, "patch_size": setting.patch, "head_width": 64, "patch_dropout": setting.dropped}
        common = {"width": setting.width, "layers": setting.depth}
        self.model = library.CLIP(SPACE, {**picture, **common}, {**common, "heads": heads})
        self.loss = library.ClipLoss()
        tokenizer = library.get_tokenizer("ViT-B-32")

        def encode(text: str) -> list[int]:
            return [int(i) for i in tokenizer([text])[0] if i]

        self.ids = {split: Ids(c, encode) for split, c in data.captions.items()}
        self.drawn = Drawn(data, setting)
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        gains = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
        known = {id(p) for p in gains}
        rest = [p for _, p in named if id(p) not in known]
        self.optimizer = torch.optim.AdamW(
            [{"params": gains, "weight_decay": 0.0}, {"params": rest, "weight_decay": setting.decay}],
            lr=setting.rate,
            betas=(0.9, 0.98),
            eps=1e-6,
        )
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (library.OPENAI_DATASET_MEAN, library.OPENAI_DATASET_STD))
        self.mean, self.std = mean, std

    def pixels(self, pixels: np.ndarray) -> Tensor:
        """Returns what the model is shown."""
        return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255) - self.mean) / self.std

    def text(self, ids: Tensor) -> Tensor:
        """Returns ``encode_text`` of ids that were cut: the same operations on fewer places."""
        return encode_cut_text(self.model, ids)

    def stepper(self) -> Callable[[int], float]:
        """Returns what takes step ``number`` and gives its loss."""
        return self.step

    def step(self, number: int) -> float:
        """Takes one step as open_clip's training script does, and returns the loss."""
        warmup = self.setting.warmup
        rate = self.setting.rate * ((number + 1) / warmup if number < warmup else _cosine(number, warmup, self.setting))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows, pixels, which = self.drawn(number)
        ids, _ = self.ids["train"].padded(self.ids["train"].first[rows] + which, 0)
        self.model.train()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            a = self.model.encode_image(self.pixels(pixels), normalize=True)
            b = F.normalize(self.text(ids), dim=-1)
            loss = self.loss(a, b, self.model.logit_scale.exp())
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        return float(loss.detach())

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Returns the figures of the model as it is."""
        self.model.eval()
        shown = cut(self.data.pixels[split], SHOWN[self.data.name], None)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = [self.model.encode_image(self.pixels(shown[i : i + 200])) for i in range(0, len(shown), 200)]
            order = np.argsort([len(ids) for ids in self.ids[split].ids], kind="stable")
            parts = [self.text(self.ids[split].padded(order[i : i + 200], 0)[0]) for i in range(0, len(order), 200)]
        texts = torch.cat(parts)[torch.from_numpy(np.argsort(order))]
        return recall(torch.cat(pictures), texts, self.data.captions[split])

    def train(self, folder: Path, note: Callable[[int, float, Mapping[str, float]], None]) -> None:
        """Trains to the end, from the newest checkpoint on."""
        folder.mkdir(parents=True, exist_ok=True)
        saved, first = folder / "state.pt", 0
        if saved.exists():
            state = torch.load(saved)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            first = state["step"]
        for number in range(first, self.setting.steps):
            torch.manual_seed((self.setting.seed << 32) + number)
            loss = self.step(number)
            if (number + 1) % every(self.setting) == 0 or number + 1 == self.setting.steps:
                note(number + 1, loss, quality(self))
                state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": number + 1}
                torch.save(state, saved.with_suffix(".new"))
                os.replace(saved.with_suffix(".new"), saved)


def encode_cut_text(model: nn.Module, ids: Tensor) -> Tensor:
    """Returns what open_clip's ``encode_text`` gives for ids padded to 77, from ids that were cut to fewer."""
    count = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:count]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:count, :count]))
    return x[torch.arange(len(x)), ids.argmax(dim=-1)] @ model.text_projection


def _cosine(number: int, warmup: int, setting: Setting) -> float:
    share = (number - warmup) / max(1, setting.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * share))


def every(setting: Setting) -> int:
    """Returns after how many steps quality is measured: about twelve times in a run."""
    return max(20, math.ceil(setting.steps / 12))


def quality(side: "Ours | Peer") -> dict[str, float]:
    """Returns the figures of a model on the test split, and as ``dev_quality`` that on the dev split."""
    return {**side.evaluate("test"), "dev_quality": side.evaluate("dev")["quality"]}


def make(setting: Setting, work: Path) -> "Ours | Peer":
    """Returns the model of a setting with its data, ready to train."""
    data = load(setting.data, work)
    return Ours(data, setting) if setting.side == "ours" else Peer(data, setting)


def curve(setting: Setting, work: Path) -> list[dict[str, float]]:
    """Returns quality at some steps of the run, trained if it is not in ``work`` yet; goes on where it was stopped."""
    path = work / "curves" / f"{setting.name}.json"
    if path.exists():
        return json.loads(path.read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    running = path.with_suffix(".partial")
    points = json.loads(running.read_text()) if running.exists() else []

    def note(step: int, loss: float, found: Mapping[str, float]) -> None:
        points[:] = [p for p in points if p["step"] < step] + [{"step": step, "loss": loss, **found}]
        running.write_text(json.dumps(points))
        print(f"{setting.name} {step}: loss {loss:.3f} R@10 {100 * found['quality']:.2f}", flush=True)

    made = make(setting, work)
    if not points:
        count = sum(p.numel() for p in made.model.parameters())
        points.append({"step": 0, "weights": count, **quality(made)})
    made.train(work / "runs" / setting.name, note)
    running.rename(path)
    return points


def known(setting: Setting, work: Path) -> list[dict[str, float]]:
    """Returns the curve of a run that was trained before; empty where it was not."""
    path = work / "curves" / f"{setting.name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def decoded(entry: Mapping[str, Any]) -> Setting:
    """Returns the setting that ``asdict`` wrote."""
    return Setting(**entry)
