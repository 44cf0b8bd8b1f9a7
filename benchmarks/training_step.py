"""One training step of CLIP: ours against open_clip's own model, loss and optimizer, from the same weights.

    python benchmarks/training_step.py [--quick] [--json] [--record]

Width 256, depth 6, four heads, batch 128, two threads, AdamW; captions as long as those of Flickr8k (14 ids on average,
begin and end among them), in open_clip's vocabulary. A step is all of it: batch to loss, gradient, its norm cut to 1,
and the optimizer; ours is the training loop's own. Each round takes one step and returns the losses so far. Cases:

- the same mathematics on pictures of 224 x 224 in patches of 32 (49 tokens and the class token);
- the same on pictures of 64 x 64 in patches of 16 (16 and one), where the texts weigh more;
- ours with three quarters of the patches dropped (FLIP, arXiv 2212.00794), and a vocabulary of 4,000 ids: another
  recipe, so its loss is not compared.

open_clip as shipped computes in fp32 with texts padded to 77. Used well it computes in bf16, the allocator keeps its
memory, and its texts are cut to the longest of the batch, which its ``encode_text`` does not do by itself; the lines
that say "77" leave that out.
"""

import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from _contest import ALLOCATOR, Contender, Turns, contest, open_clip
from _table import Line, run
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, DEPTH, HEADS, BATCH, SPACE = 256, 6, 4, 128, 256
RATE, DECAY, CLIP = 5e-4, 0.2, 1.0
VOCABULARY, SMALL = 49_408, 4_000
BATCHES = 4
"""Different batches, taken in turns."""
CASES = {"224": (224, 32), "64": (64, 16)}
SLOW = ("ours fp32", "bf16, 77")
"""Contenders that ``--quick`` leaves out."""
COMPARED = 5
"""Steps whose losses are compared."""
AGREES = 1e-3
"""How far they may differ, as a share."""


def batches(case: str, vocabulary: int = VOCABULARY) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Returns pictures, ids padded to 77 with 0, and lengths; the last id of a text is the largest."""
    side, _ = CASES[case]
    made = []
    for number in range(BATCHES):
        draw = torch.Generator().manual_seed(number)
        pictures = torch.randn(BATCH, 3, side, side, generator=draw)
        lengths = (2.625 + 0.28 * torch.randn(BATCH, generator=draw)).exp().round().long().clamp(5, 40)
        ids = torch.randint(1, vocabulary - 2, (BATCH, 77), generator=draw)
        ids[:, 0] = vocabulary - 2
        ids[torch.arange(BATCH), lengths - 1] = vocabulary - 1
        ids[torch.arange(77) >= lengths[:, None]] = 0
        made.append((pictures, ids, lengths))
    return made


def peer_model(case: str) -> nn.Module:
    """Returns open_clip's model with the weights that all begin with."""
    side, patch = CASES[case]
    torch.manual_seed(0)
    common = {"width": WIDTH, "layers": DEPTH}
    picture = {"image_size": side, "patch_size": patch, "head_width": WIDTH // HEADS}
    model: nn.Module = open_clip().CLIP(SPACE, {**picture, **common}, {**common, "heads": HEADS})
    return model


def prepare_peer(case: str, bf16: bool, cut: bool) -> Callable[[], list[float]]:
    """Returns one step as open_clip's training script takes it."""
    model, loss_of, data = peer_model(case), open_clip().ClipLoss(), batches(case)
    model.train()
    named = list(model.named_parameters())
    gains = [p for n, p in named if p.ndim < 2 or "ln" in n or "bias" in n or "logit_scale" in n]
    rest = [p for p in model.parameters() if all(p is not g for g in gains)]
    groups = [{"params": gains, "weight_decay": 0.0}, {"params": rest, "weight_decay": DECAY}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    losses: list[float] = []

    def step() -> list[float]:
        pictures, ids, lengths = data[len(losses) % BATCHES]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            a = model.encode_image(pictures, normalize=True)
            if cut:
                b = F.normalize(encode_cut_text(model, ids[:, : int(lengths.max())]), dim=-1)
            else:
                b = model.encode_text(ids, normalize=True)
            loss = loss_of(a, b, model.logit_scale.exp())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(float(loss.detach()))
        return losses

    return step


def encode_cut_text(model: Any, ids: Tensor) -> Tensor:
    """Returns what open_clip's ``encode_text`` gives for ids padded to 77, from ids that were cut to fewer."""
    count = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:count]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:count, :count]))
    result: Tensor = x[torch.arange(len(x)), ids.argmax(dim=-1)] @ model.text_projection
    return result


def our_model(case: str, dropped: float = 0.0, vocabulary: int = VOCABULARY) -> Any:
    """Returns our CLIP of the same shape."""
    from intermodal.encoders.tower import TowerConfig
    from intermodal.modalities.image import ImagePreprocessor
    from intermodal.modalities.text import TextPreprocessor
    from intermodal.systems.clip import Config, build
    from intermodal.tokenizers.byte import ByteTokenizer

    side, patch = CASES[case]
    grid = (side // patch, side // patch)
    shape = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "per_cell": True}
    texts = TowerConfig(TextPreprocessor(ByteTokenizer(), 77), sizes=(77,), pooling="last", causal=True, **shape)
    pictures = TowerConfig(
        ImagePreprocessor(side, side, patch), sizes=grid, pooling="first", class_token=True, norm_first=True,
        token_dropout=dropped, **shape,
    )  # fmt: skip
    model = build(Config({"image": pictures, "text": texts}, SPACE, equal_texts=False))
    model.encoders["text"].stem.table = nn.Embedding(vocabulary, WIDTH)  # a tokenizer of that size, without its words
    nn.init.normal_(model.encoders["text"].stem.table.weight, std=0.02)
    return model


@torch.no_grad()
def copy_weights(ours: Any, peer: Any) -> None:
    """Gives ours the weights of open_clip's model; what that has not (a bias of the patches) is 0 and stays it."""
    image, text, visual = ours.encoders["image"], ours.encoders["text"], peer.visual
    image.stem.project.weight.copy_(visual.conv1.weight.flatten(1))
    image.stem.project.bias.zero_()
    image.stem.project.bias.requires_grad_(False)
    image.first_token.copy_(visual.class_embedding + visual.positional_embedding[0])
    image.positions.cells.copy_(visual.positional_embedding[1:])
    text.stem.table.weight.copy_(peer.token_embedding.weight)
    text.positions.cells.copy_(peer.positional_embedding)
    norms = [(image.norm_in, visual.ln_pre), (image.norm, visual.ln_post), (text.norm, peer.ln_final)]
    blocks = [*zip(image.blocks, visual.transformer.resblocks, strict=True)]
    for own, other in [*blocks, *zip(text.blocks, peer.transformer.resblocks, strict=True)]:
        own.attend_self.qkv.weight.copy_(other.attn.in_proj_weight)
        own.attend_self.qkv.bias.copy_(other.attn.in_proj_bias)
        norms += [(own.attend_self.out, other.attn.out_proj), (own.norm_self, other.ln_1), (own.norm_mlp, other.ln_2)]
        norms += [(own.mlp_in, other.mlp.c_fc), (own.mlp_out, other.mlp.c_proj)]
    for own, other in norms:
        own.load_state_dict(other.state_dict())
    ours.heads["image"].weight.copy_(visual.proj.T)
    ours.heads["text"].weight.copy_(peer.text_projection.T)
    ours.log_scales["image-text"].copy_(peer.logit_scale)


def prepare_ours(case: str, same: bool, precision: str = "bf16") -> Callable[[], list[float]]:
    """Returns one step of the training loop.

    Args:
        case: a key of ``CASES``.
        same: open_clip's mathematics from its weights; else the recipe with few patches and few words.
        precision: of the matrix products.
    """
    from intermodal import runtime
    from intermodal.training.log import RunLog
    from intermodal.training.loop import Loop, Options
    from intermodal.training.optimizer import optimizers
    from intermodal.types import Batch

    runtime.keep_memory()
    vocabulary = VOCABULARY if same else SMALL
    torch.manual_seed(0)
    model = our_model(case, 0.0 if same else 0.75, vocabulary)
    if same:
        copy_weights(model, peer_model(case))
    model.train()
    tokens = math.prod(model.encoders["image"].positions.sizes)
    everything = torch.ones(BATCH, tokens, dtype=torch.bool)
    data = []
    for pictures, ids, lengths in batches(case, vocabulary):
        count = int(lengths.max())
        mask = torch.arange(count) < lengths[:, None]
        data.append({"image": Batch(pictures, everything), "text": Batch(ids[:, :count], mask)})

    def source() -> Iterator[Mapping[str, Batch]]:
        while True:
            yield from data

    settings = Options(
        steps=10**6, optimizer="adamw", learning_rate=RATE, weight_decay=DECAY, warmup_steps=1, clip_norm=CLIP,
        precision=precision,
    )  # fmt: skip
    made = optimizers(model, "adamw", RATE, 1.0, DECAY)
    folder = TemporaryDirectory()
    loop = Loop(model, made, settings, RunLog(Path(folder.name)), {"step": 0, "seconds": 0.0}, print)
    turns, losses, kept = source(), [], [folder]

    def step() -> list[float]:
        loop.take(turns)
        losses.append(loop.losses["loss"])
        return losses if kept else []

    return step


def contenders(case: str) -> list[Contender]:
    """Returns those compared on one size of pictures, the quickest last."""
    kept = dict(ALLOCATOR)

    def peer(name: str, bf16: bool, cut: bool, environment: Mapping[str, str]) -> Contender:
        return Contender(name, "prepare_peer", {"case": case, "bf16": bf16, "cut": cut}, 2, environment)

    return [
        peer("shipped", False, False, {}),
        peer("bf16, 77", True, False, kept),
        peer("bf16, cut", True, True, kept),
        Contender("ours fp32", "prepare_ours", {"case": case, "same": True, "precision": "fp32"}, 2),
        Contender("ours", "prepare_ours", {"case": case, "same": True}, 2),
        Contender("ours, dropping", "prepare_ours", {"case": case, "same": False}, 2),
    ]


def operations(case: str, packed: bool, bf16_ids: int = 77) -> float:
    """Returns the multiplications and additions of the matrix products of one step, in thousands of millions.

    Args:
        case: a key of ``CASES``.
        packed: texts as long as they are; else padded to ``bf16_ids``.
        bf16_ids: see there.
    """
    side, patch = CASES[case]
    cells = (side // patch) ** 2
    lengths = batches(case)[0][2]
    words = float(lengths.float().mean()) if packed else bf16_ids
    block = 12 * WIDTH**2
    towers = sum(3 * 2 * DEPTH * (block * t + 2 * t * t * WIDTH) for t in (cells + 1, words))
    return BATCH * (towers + 2 * 2 * cells * 3 * patch**2 * WIDTH) / 1e9


def lines(case: str, turns: Mapping[str, Turns], peer: str) -> list[Line]:
    """Returns what the table shows of one size of pictures."""
    side, patch = CASES[case]
    seconds = {name: found.median_s for name, found in turns.items()}
    size = f"{side} x {side} in patches of {patch}"
    far = max(agreement(turns[name], turns["shipped"]) for name in ("ours", "ours fp32") if name in turns)
    said = f"loss within {far:.1e} over {min(COMPARED, len(turns['ours'].result))} steps" + (
        "" if far <= AGREES else ", TOO FAR"
    )
    common = {"unit": "s", "peer": peer, "shipped": seconds["shipped"]}
    made = [
        Line(f"one training step, {size}", seconds["ours"], used_well=seconds["bf16, cut"], asked_shipped=6.0,
             asked_used_well=1.9, agreement=said, name=f"training_step.{case}", **common),
        Line(f"another recipe: 3/4 of the patches dropped, 4,000 ids, {size}", seconds["ours, dropping"],
             used_well=seconds["bf16, cut"], name=f"training_step.{case}.dropping", **common),
    ]  # fmt: skip
    if "bf16, 77" in seconds:
        made.append(
            Line(f"the same against bf16 with texts of 77, {size}", seconds["ours"], used_well=seconds["bf16, 77"],
                 asked_used_well=1.9, agreement=said, name=f"training_step.{case}.bf16_77", **common)
        )  # fmt: skip
    if "ours fp32" in seconds:
        name = f"training_step.{case}.fp32"
        made.append(Line(f"the same in fp32, {size}", seconds["ours fp32"], agreement=said, name=name, **common))
    return made


def agreement(a: Turns, b: Turns) -> float:
    """Returns by how much the losses of the first steps differ at most, as a share."""
    first, other = a.result[:COMPARED], b.result[:COMPARED]
    return float(np.max(np.abs(first - other) / np.abs(other)))


def measure(chosen: Namespace) -> list[Line]:
    """Measures, says everything and returns what the table shows."""
    found: list[Line] = []
    for case in [chosen.only] if chosen.only else CASES:
        taking_part = [c for c in contenders(case) if not (chosen.quick and c.name in SLOW)]
        turns = contest(__file__, taking_part, *((1, 1) if chosen.quick else (9, 2)))
        for name, turn in turns.items():
            print(f"{case:4} {name:16} {turn.median_s:7.3f} s  {turn.peak_bytes / 2**20:6.0f} MiB", file=sys.stderr)
        done = operations(case, True)
        print(
            f"{case:4} the floor: {done:.0f} Gflop of products; ours does {done / turns['ours'].median_s:.0f} Gflop/s; "
            f"padded to 77 it is {operations(case, False):.0f} Gflop",
            file=sys.stderr,
        )
        found += lines(case, turns, f"open_clip {version('open_clip_torch')}")
    return found


if __name__ == "__main__":
    raise SystemExit(run(__doc__, measure, only={"choices": CASES, "help": "one size of pictures"}))
