"""Tensors to vectors: pictures and short captions through ViT-B/32, ours against transformers and open_clip.

    python benchmarks/inference.py [--quick] [--json] [--record] [--model NAME]

All have the same weights: random ones, written by transformers in its own layout, read from that folder by ours and
copied into open_clip's model. One thread each. Pictures come as normalised tensors of 224 x 224; texts as ids of
captions (those of Flickr8k where the data is, else made up to the same lengths), padded to 77 as open_clip's tokenizer
gives them, and the peers' are cut to the longest of a batch where they are used well.

- as shipped: fp32, texts padded to 77; the faster of the two peers;
- used well: bf16, texts cut to the longest of each batch of 64, the allocator set; the faster of the two. open_clip's
  ``encode_text`` does not cut by itself, so for texts that is transformers.

With ``--quick`` transformers is the only peer.

Agreement is with transformers in fp32. The share of the peak is that of the products that a path computes, against the
fastest product of 1,600 x 768 x 3,072 in its precision, which is measured in the same turns; padding is none of them,
nor is what the last block leaves out.

``--model`` measures agreement with trained weights instead: how often the nearest other picture is the same as in fp32,
on the test pictures of Flickr8k where they are, else of Diorama, and on Diorama for a model that ends in "diorama".
"""

import io
import json
import sys
import zipfile
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

FLICKR8K = Path(__file__).parents[2] / "shared" / "data" / "flickr8k"
ASKED: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "pictures": {"fp32": (2.3, None), "bf16": (4.4, 1.2), "int8": (7.0, 1.8)},
    "texts": {"fp32": (None, None), "bf16": (22.0, 1.7), "int8": (22.0, 1.7)},
}
OTHER_NEIGHBOUR = {"bf16": 0.5, "int8": 2.0}
"""Per cent of the pictures that may have another nearest neighbour than in fp32."""
PLACES, BATCH = 77, 64
CAPTIONS = "captions.json"
BEGIN, END = 49_406, 49_407
PRECISIONS = ("fp32", "bf16", "int8")


# ---- What is computed


def pictures(count: int) -> Tensor:
    """Returns normalised pictures."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def captions(folder: str, count: int) -> list[list[int]]:
    """Returns the first of the captions that ``write_captions`` wrote."""
    found: list[list[int]] = json.loads((Path(folder) / CAPTIONS).read_text())
    return found[:count]


def write_captions(folder: Path, count: int) -> None:
    """Writes the ids of captions, begin and end among them, in no order of length."""
    (folder / CAPTIONS).write_text(json.dumps(_captions(count)))


def _captions(count: int) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    if (FLICKR8K / "pairs.jsonl").exists():
        from intermodal.tokenizers.bpe import BPETokenizer

        merges = Path(open_clip().__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
        encode = BPETokenizer.from_clip_merges(merges).encode
        rows = [json.loads(line) for line in (FLICKR8K / "pairs.jsonl").read_text().splitlines()]
        texts = [caption for row in rows if row["split"] == "test" for caption in row["captions"]]
        return [encode(texts[i]) for i in torch.randperm(len(texts), generator=draw)[:count].tolist()]
    lengths = (2.55 + 0.28 * torch.randn(count, generator=draw)).exp().round().long().clamp(5, 40).tolist()
    return [[BEGIN, *torch.randint(1, BEGIN, (n - 2,), generator=draw).tolist(), END] for n in lengths]


def padded(rows: list[list[int]], width: int) -> Tensor:
    """Returns ids, with zeros behind the end as open_clip's tokenizer gives them."""
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def write_weights(folder: Path) -> None:
    """Writes ViT-B/32 with random weights in the layout of transformers, and CLIP's tokenizer."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from intermodal.tokenizers.bpe import BPETokenizer

    torch.manual_seed(0)
    text = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": END}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    made = BPETokenizer.from_clip_merges(Path(open_clip().__file__).parent / "bpe_simple_vocab_16e6.txt.gz")
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(made.vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *made.merges, ""]))


# ---- Contenders


def prepare_ours(folder: str, what: str, count: int, precision: str) -> Callable[[], Tensor]:
    """Returns a round of ours."""
    from intermodal.encoders.inference import pooled
    from intermodal.saving import load_model
    from intermodal.types import Batch

    model = load_model(folder)
    field = {"pictures": "image", "texts": "text"}[what]
    encoder, head = model.encoders[field], model.heads[field]
    if what == "pictures":
        values = pictures(count)
        batch = Batch(values, torch.ones(count, 49, dtype=torch.bool))
    else:
        rows = captions(folder, count)
        there = torch.arange(PLACES) < torch.tensor([len(row) for row in rows])[:, None]
        batch = Batch(padded(rows, PLACES), there)

    @torch.no_grad()
    def turn() -> Tensor:
        return F.normalize(head(pooled(encoder, batch, precision)), dim=-1)

    return turn


def prepare_transformers(folder: str, what: str, count: int, bf16: bool) -> Callable[[], Tensor]:
    """Returns a round of transformers."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, dtype=torch.bfloat16 if bf16 else torch.float32).eval()
    return _round(
        folder,
        lambda x: model.get_image_features(pixel_values=x),
        lambda x: model.get_text_features(input_ids=x, attention_mask=(x != 0).long()),
        what,
        count,
        bf16,
        bf16,
    )


def prepare_open_clip(folder: str, what: str, count: int, bf16: bool) -> Callable[[], Tensor]:
    """Returns a round of open_clip."""
    from transformers import CLIPModel

    module = open_clip()
    model: nn.Module = module.create_model("ViT-B-32-quickgelu").eval()
    load(model, CLIPModel.from_pretrained(folder).state_dict())
    model = model.to(torch.bfloat16 if bf16 else torch.float32)
    return _round(folder, model.encode_image, model.encode_text, what, count, bf16, False)  # type: ignore[arg-type]


def _round(
    folder: str,
    of_pictures: Callable[[Tensor], Any],
    of_texts: Callable[[Tensor], Any],
    what: str,
    count: int,
    bf16: bool,
    cut: bool,
) -> Callable[[], Tensor]:
    """Returns a round of a peer, a batch after the other."""
    if what == "pictures":
        batches = list(pictures(count).to(torch.bfloat16 if bf16 else torch.float32).split(BATCH // 2))
        of = of_pictures
    else:
        rows = captions(folder, count)
        parts = [rows[start : start + BATCH] for start in range(0, count, BATCH)]
        batches = [padded(part, max(map(len, part)) if cut else PLACES) for part in parts]
        of = of_texts

    @torch.inference_mode()
    def turn() -> Tensor:
        found = [of(batch) for batch in batches]
        made = [one if isinstance(one, Tensor) else one.pooler_output for one in found]
        return F.normalize(torch.cat(made).float(), dim=-1)

    return turn


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fills open_clip's model with the weights of transformers' model."""
    state: dict[str, Tensor] = {"logit_scale": weights["logit_scale"]}
    for theirs, ours in (("vision_model", "visual."), ("text_model", "")):
        for i in range(12):
            source, target = f"{theirs}.encoder.layers.{i}", f"{ours}transformer.resblocks.{i}"
            for kind in ("weight", "bias"):
                three = [weights[f"{source}.self_attn.{n}_proj.{kind}"] for n in "qkv"]
                state[f"{target}.attn.in_proj_{kind}"] = torch.cat(three)
                for a, b in (
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    state[f"{target}.{b}.{kind}"] = weights[f"{source}.{a}.{kind}"]
    pairs = {
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    }
    for name, theirs in (
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
        ("ln_final", "text_model.final_layer_norm"),
    ):
        pairs |= {f"{name}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
    state |= {name: weights[theirs] for name, theirs in pairs.items()}
    state["visual.proj"] = weights["visual_projection.weight"].T
    state["text_projection"] = weights["text_projection.weight"].T
    model.load_state_dict(state)


def prepare_peak(precision: str) -> Callable[[], Tensor]:
    """Returns a round of eight large products, in the fastest form there is."""
    from intermodal.layers.linear import Int8, product, rows_to_bytes

    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1600, 768, generator=draw), torch.randn(3072, 768, generator=draw)
    form = product(weight, None, precision)
    if isinstance(form, Int8):
        steps, _ = rows_to_bytes(x)
        run: Callable[[], Tensor] = lambda: form._product(steps, 128, torch.bfloat16)  # noqa: E731
    else:
        x = x if precision == "fp32" else x.bfloat16()
        run = lambda: form(x)  # noqa: E731

    @torch.inference_mode()
    def turn() -> Tensor:
        for _ in range(8):
            found = run()
        return found[:1]

    return turn


PEAK_GFLOP = 8 * 2 * 1600 * 768 * 3072 / 1e9


def gflop(what: str, lengths: list[int]) -> float:
    """Returns the billions of operations in the products that ours computes for one item, in the mean."""
    width, depth = (768, 12) if what == "pictures" else (512, 12)
    total = 0.0
    for n in lengths:
        total += (depth - 1) * (24 * width**2 * n + 4 * n**2 * width)
        total += 4 * width**2 * n + 20 * width**2 + 4 * n * width + 2 * width * 512
        total += 2 * 49 * 3072 * width if what == "pictures" else 0
    return total / len(lengths) / 1e9


# ---- The table


def contenders(folder: str, what: str, quick: bool) -> list[Contender]:
    """Returns who takes part, with counts that take about as long."""
    fast, slow = (32, 32) if what == "pictures" else (512, 64)
    if quick:
        fast, slow = (16, 8) if what == "pictures" else (128, 16)
    given = {"folder": folder, "what": what}
    made = [Contender(p, "prepare_ours", {**given, "count": fast, "precision": p}) for p in PRECISIONS]
    made += [Contender(f"peak {p}", "prepare_peak", {"precision": p}) for p in PRECISIONS]
    well = {**given, "count": fast, "bf16": True}
    shipped = {**given, "count": slow, "bf16": False}
    made.append(Contender("transformers used well", "prepare_transformers", well, environment=ALLOCATOR))
    if what == "pictures" and not quick:
        made.append(Contender("open_clip used well", "prepare_open_clip", well, environment=ALLOCATOR))
    made.append(Contender("transformers as shipped", "prepare_transformers", shipped))
    if not quick:
        made.append(Contender("open_clip as shipped", "prepare_open_clip", shipped))
    return made


def lines(folder: str, what: str, turns: dict[str, Turns], counts: Mapping[str, int]) -> Iterator[Line]:
    """Gives the rate of each precision beside the peers'."""
    rate = {name: counts[name] / found.median_s for name, found in turns.items() if name in counts}
    best = {how: max((n for n in rate if n.endswith(how)), key=rate.__getitem__) for how in ("as shipped", "used well")}
    lengths = [50] if what == "pictures" else [len(row) for row in captions(folder, counts["fp32"])]
    work = gflop(what, lengths)
    for name, found in sorted(rate.items()):
        print(f"{what}, {name:<24} {found:8.1f}/s", file=sys.stderr)
    exact = turns["transformers as shipped"].result
    for precision in PRECISIONS:
        found = turns[precision].result[: len(exact)]
        cosine = float((found * exact).sum(axis=1).min())
        peak = PEAK_GFLOP / turns[f"peak {precision}"].median_s
        share = f"{100 * work * rate[precision] / peak:.0f} % of a peak of {peak:.0f} GFLOP/s"
        apart = f"max {np.abs(found - exact).max():.0e}" if precision == "fp32" else f"cosine {cosine:.5f} or more"
        asked_shipped, asked_used_well = ASKED[what][precision]
        yield Line(
            f"{what}, tensors to vectors, {precision}",
            ours=rate[precision],
            unit="/s",
            peer=f"{best['as shipped'].split()[0]}, {best['used well'].split()[0]} (transformers "
            f"{version('transformers')}, open_clip {version('open_clip_torch')})",
            shipped=rate[best["as shipped"]],
            used_well=rate[best["used well"]],
            asked_shipped=asked_shipped,
            asked_used_well=asked_used_well,
            agreement=f"{apart}; {share}",
            name=f"speed.{what}.{precision}",
        )


# ---- Trained weights


def neighbours(name: str, quick: bool) -> dict[str, float]:
    """Returns per cent of test pictures whose nearest other picture is not the same as in fp32, by precision."""
    from intermodal.saving import load_model

    torch.set_num_threads(1)
    model = load_model(name)
    items = list(_test_pictures(name, 200 if quick else 1000))
    found = {p: model.embed(items, precision=p) for p in PRECISIONS}
    nearest = {}
    for precision, rows in found.items():
        scores = rows @ rows.T
        scores.fill_diagonal_(-2)
        nearest[precision] = scores.argmax(dim=1)
        cosine = float((rows * found["fp32"]).sum(dim=1).min())
        same = float((nearest[precision] == nearest["fp32"]).float().mean())
        print(
            f"{precision}: {100 * same:.2f} % of {len(items)} pictures have the nearest neighbour that they have in "
            f"fp32; cosine {cosine:.5f} or more",
            file=sys.stderr,
        )
    return {p: 100 * float((nearest[p] != nearest["fp32"]).float().mean()) for p in OTHER_NEIGHBOUR}


def _is_for_photographs(name: str) -> bool:
    """Returns whether a model is measured on Flickr8k: where that is, and no model of Diorama."""
    return (FLICKR8K / "pairs.jsonl").exists() and not name.rstrip("/").endswith("diorama")


def _test_pictures(name: str, count: int) -> Iterator[Any]:
    """Gives test pictures of the data that a model is likely made for."""
    from intermodal.diorama.source import Diorama
    from intermodal.modalities.image import Image

    if _is_for_photographs(name):
        rows = [json.loads(line) for line in (FLICKR8K / "pairs.jsonl").read_text().splitlines()]
        with zipfile.ZipFile(FLICKR8K / "images.zip") as archive:
            for row in [row for row in rows if row["split"] == "test"][:count]:
                yield Image.open(io.BytesIO(archive.read(row["image"])).getvalue())
    else:
        for sample in Diorama("test", fields=("image",)).samples(range(count)):
            yield sample["image"]


def trained(chosen: Namespace) -> list[Line]:
    """Returns one line per precision for a trained model."""
    data = "flickr8k" if _is_for_photographs(chosen.model) else "diorama"
    return [
        Line(
            f"test pictures of {data} with another nearest picture than in fp32, {precision}, trained weights",
            ours=share,
            unit="%",
            asked=OTHER_NEIGHBOUR[precision],
            name=f"speed.other_neighbour.{data}.{precision}",
        )
        for precision, share in neighbours(chosen.model, chosen.quick).items()
    ]


def measure(chosen: Namespace) -> list[Line]:
    """Returns what was asked for: speed beside the peers, or what trained weights keep."""
    if chosen.model:
        return trained(chosen)
    made: list[Line] = []
    with TemporaryDirectory() as folder:
        write_weights(Path(folder))
        write_captions(Path(folder), 512)
        for what in ASKED:
            who = contenders(folder, what, chosen.quick)
            turns = contest(__file__, who, *((2, 1) if chosen.quick else (7, 2)))
            made += lines(folder, what, turns, {c.name: c.arguments["count"] for c in who if "count" in c.arguments})
    return made


if __name__ == "__main__":
    model = {"metavar": "NAME", "help": "trained weights: a folder or a shipped model"}
    raise SystemExit(run(__doc__, measure, model=model))
