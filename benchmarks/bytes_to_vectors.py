"""JPEG bytes to vectors: decode, resize and a ViT-B/32 on two cores, ours against transformers on the same weights.

    python benchmarks/bytes_to_vectors.py [--quick] [--json] [--record]

Photographs of 500 x 375 in quality 90, about 60 kB each, lie in memory as JPEG files, so the disk plays no part: those
of Flickr8k enlarged with a little grain where the data is (they are there in 128 x 128 only), else drawn. The weights
are random, made by transformers in its own layout, and read from that folder by both. Every contender has two threads.

- ours: ``data/stream.py``, in each precision, as ``intermodal embed`` uses it;
- as shipped: Pillow, ``CLIPImageProcessor`` and ``CLIPModel`` in fp32, a batch of 32 after the other;
- used well: the model in bf16, batches of 64, decoded and prepared in threads while the batch before is computed; the
  number of those threads that is fastest here.

Without ``--quick`` also: what opening, preparing and computing one picture take on one thread. Agreement is the cosine
with the vectors of transformers in fp32; vectors of random weights lie close together, so next to it stands how far the
centred ones agree.
"""

import io
import sys
import time
import zipfile
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from _contest import ALLOCATOR, Contender, Turns, contest
from _table import Line, run
from PIL import Image as Pillow

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "flickr8k" / "images.zip"
SIZE, QUALITY = (500, 375), 90
ASKED = {"bf16": (4.5, 1.4), "int8": (6.5, 2.0), "fp32": (None, None)}
BATCH, LARGE_BATCH = 32, 64
SHIPPED = "transformers as shipped"


def photos(count: int) -> list[bytes]:
    """Returns JPEG files."""
    rng = np.random.default_rng(0)
    made = []
    for picture in islice(_pictures(), count):
        grain = rng.normal(0, 6, (SIZE[1], SIZE[0], 1)) + np.zeros(3)
        pixels = np.clip(np.asarray(picture.resize(SIZE, Pillow.Resampling.BICUBIC)) + grain, 0, 255)
        file = io.BytesIO()
        Pillow.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        made.append(file.getvalue())
    return made


def _pictures() -> Iterator[Pillow.Image]:
    """Gives the pictures that are enlarged: photographs, or colours that change slowly."""
    if PHOTOS.exists():
        with zipfile.ZipFile(PHOTOS) as archive:
            for name in archive.namelist():
                yield Pillow.open(io.BytesIO(archive.read(name))).convert("RGB")
    rng = np.random.default_rng(1)
    while True:
        waves = sum(
            np.kron(rng.normal(0, 40 / n, (3 * n, 4 * n, 3)), np.ones((48 // n, 48 // n, 1))) for n in (1, 2, 4, 8)
        )
        yield Pillow.fromarray(np.clip(waves + 128, 0, 255).astype(np.uint8))


def write_weights(folder: Path) -> None:
    """Writes a folder in the layout of transformers: random ViT-B/32 weights, and a tokenizer of bytes."""
    import json

    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from intermodal.tokenizers.bpe import CLIP_SPECIALS, byte_symbols

    first = list(byte_symbols())
    symbols = [*first, *(symbol + "</w>" for symbol in first), *CLIP_SPECIALS]
    text = {"vocab_size": len(symbols), "bos_token_id": len(symbols) - 2, "eos_token_id": len(symbols) - 1}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def prepare_ours(folder: str, count: int, precision: str) -> Callable[[], np.ndarray]:
    """Returns a round of ours."""
    from intermodal.data.stream import stream
    from intermodal.saving import load_model

    model, files = load_model(folder), photos(count)

    def turn() -> np.ndarray:
        found = list(stream(model, files, precision))
        bad = [one.error for one in found if one.vector is None]
        if bad:
            raise RuntimeError(f"{len(bad)} files failed, the first: {bad[0]}")
        return np.stack([one.vector for one in found if one.vector is not None])

    return turn


def _peer(folder: str, dtype: torch.dtype) -> tuple[Callable[[list[bytes]], Any], Callable[[Any], torch.Tensor]]:
    """Returns what prepares files and what computes their vectors, by transformers."""
    from transformers import AutoImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(folder, dtype=dtype).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def prepare(files: list[bytes]) -> torch.Tensor:
        pictures = [Pillow.open(io.BytesIO(file)).convert("RGB") for file in files]
        values: torch.Tensor = processor(images=pictures, return_tensors="pt")["pixel_values"]
        return values.to(dtype)

    @torch.inference_mode()
    def compute(values: torch.Tensor) -> torch.Tensor:
        found = model.get_image_features(pixel_values=values)
        rows = found if isinstance(found, torch.Tensor) else found.pooler_output
        return torch.nn.functional.normalize(rows.float(), dim=-1)

    return prepare, compute


def prepare_shipped(folder: str, count: int) -> Callable[[], torch.Tensor]:
    """Returns a round of transformers as its documentation has it."""
    prepare, compute = _peer(folder, torch.float32)
    files = photos(count)
    starts = range(0, count, BATCH)
    return lambda: torch.cat([compute(prepare(files[start : start + BATCH])) for start in starts])


def prepare_used_well(folder: str, count: int, decoders: int) -> Callable[[], torch.Tensor]:
    """Returns a round of transformers in bf16, with threads that decode and prepare ahead."""
    prepare, compute = _peer(folder, torch.bfloat16)
    files = photos(count)
    part = 8  # files that a thread takes at a time
    large = min(LARGE_BATCH, count // 2)  # of few files too, one batch is decoded while another is computed

    def turn() -> torch.Tensor:
        rows: list[torch.Tensor] = []
        waiting: deque[Future[torch.Tensor]] = deque()
        with ThreadPoolExecutor(decoders, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting.extend(pool.submit(prepare, files[start : start + part]) for start in range(0, count, part))
            while waiting:
                batch = [waiting.popleft().result() for _ in range(min(max(1, large // part), len(waiting)))]
                rows.append(compute(torch.cat(batch)))
        torch.set_num_threads(2)
        return torch.cat(rows)

    return turn


def prepare_stages(folder: str, count: int, precision: str) -> Callable[[], np.ndarray]:
    """Returns a round that takes the milliseconds of each stage for a picture, on one thread."""
    from intermodal.data.stream import picture_size
    from intermodal.modalities.image import Image
    from intermodal.saving import load_model

    model, files = load_model(folder), photos(count)
    least = picture_size(model)
    preprocess = model.preprocessors[model.field_of("image")]

    def turn() -> np.ndarray:
        began = time.perf_counter()
        items = [Image.open(file, least) for file in files]
        opened = time.perf_counter()
        preprocess(items)
        prepared = time.perf_counter()
        model.embed(items, precision=precision)
        done = time.perf_counter()
        stages = np.array([opened - began, prepared - opened, (done - prepared) - (prepared - opened)])
        return 1000 * stages / count

    return turn


def agreement(found: np.ndarray, peer: np.ndarray) -> str:
    """Returns how far vectors agree with those of the peer, in words."""
    cosine = float((found * peer).sum(axis=1).min())
    ours, theirs = found - found.mean(axis=0), peer - peer.mean(axis=0)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    centred = float(np.median((ours * theirs).sum(axis=1) / lengths))
    return f"cosine {cosine:.5f} or more, centred {centred:.3f}"


def lines(turns: dict[str, Turns], count: int, precisions: list[str]) -> list[Line]:
    """Returns the rates."""
    rate = {name: count / found.median_s for name, found in turns.items()}
    best = max(rate[name] for name in rate if name.startswith("transformers used well"))
    made = []
    for precision in precisions:
        asked_shipped, asked_used_well = ASKED[precision]
        made.append(
            Line(
                f"JPEG bytes to vectors, 2 cores, {precision}",
                ours=rate[precision],
                unit="/s",
                peer=f"transformers {version('transformers')}",
                shipped=rate[SHIPPED],
                used_well=best,
                asked_shipped=asked_shipped,
                asked_used_well=asked_used_well,
                agreement=agreement(turns[precision].result, turns[SHIPPED].result),
                name=f"bytes_to_vectors.{precision}",
            )
        )
    return made


def measure(chosen: Namespace) -> list[Line]:
    """Measures, says everything and returns what the table shows."""
    count = chosen.count or (64 if chosen.quick else 192)
    precisions = chosen.precisions or (["bf16", "int8"] if chosen.quick else list(ASKED))
    with TemporaryDirectory() as folder:
        given = {"folder": folder, "count": count}
        write_weights(Path(folder))
        contenders = [Contender(p, "prepare_ours", {**given, "precision": p}, 2) for p in precisions]
        contenders += [
            Contender(
                f"transformers used well, {n} decoding", "prepare_used_well", {**given, "decoders": n}, 2, ALLOCATOR
            )
            for n in ((1,) if chosen.quick else (1, 2))
        ]
        contenders += [Contender(SHIPPED, "prepare_shipped", given, 2)]
        turns = contest(__file__, contenders, *((2, 1) if chosen.quick else (7, 2)))
        given["count"] = 32
        alone = [Contender(p, "prepare_stages", {**given, "precision": p}) for p in precisions]
        stages = {} if chosen.quick else contest(__file__, alone, rounds=1, warmup=1)
    for name, found in turns.items():
        peak = found.peak_bytes / 2**20
        print(f"{name:<40} {count / found.median_s:7.1f} pictures/s, {peak:,.0f} MiB at most", file=sys.stderr)
    for name, found in stages.items():
        opening, preparing, computing = found.result
        print(
            f"{name}: on one thread, ms a picture: opening {opening:.2f}, preparing {preparing:.2f}, "
            f"computing {computing:.1f}",
            file=sys.stderr,
        )
    return lines(turns, count, precisions)


if __name__ == "__main__":
    flags = {
        "precisions": {"nargs": "+", "choices": list(ASKED), "help": "default: all; bf16 and int8 with --quick"},
        "count": {"type": int, "help": "photographs; default 192, or 64 with --quick"},
    }
    raise SystemExit(run(__doc__, measure, **flags))
