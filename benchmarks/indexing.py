"""How long indexing takes: for each item as a library grows, and from media files to a searchable library.

    python3 dev.py bench indexing            200,000 items, 2,000 files
    python3 dev.py bench indexing --quick    20,000 items, 200 files

*Flat*: texts are added in one ``add`` with a model that costs next to nothing, so that the library's own work shows:
reading, hashing, durable commits of 1,024 items. Time for each item over the last tenth is held against that over the
first tenth (the first commit, which makes the table, left out), with the memory that the process holds; then the time
of a further ``add`` of one item. *Files*: a folder of pictures, sounds and texts, made here or given with ``--media``,
becomes a library that was searched once, with the model that ships. What of it is reading and decoding, embedding, and
writing is found by adding the same with the model that costs nothing, and by timing the commits; in one thread, so that
the parts add up. Wall time throughout.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything that starts threads

import random
import shutil
import sys
import tempfile
import time
import zlib
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Line, run

import intermodal
from intermodal.library.library import Library
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text

WIDTH = 512
WORDS = ["red", "blue", "small", "circle", "square", "dog", "cat", "runs", "over", "under", "the", "a", "lake", "hill"]


class MadeUp:
    """A model that costs next to nothing: the sum of two rows of a table, chosen by what an item holds."""

    name = "made-up"

    def __init__(self) -> None:
        """Makes the table."""
        self._table = np.random.default_rng(0).standard_normal((4096, WIDTH), dtype=np.float32)

    def embed(self, items: Sequence[Any]) -> torch.Tensor:
        """Returns a vector for each item."""
        keys = np.array([zlib.crc32(_content(item)) for item in items])
        return torch.from_numpy(self._table[keys % 4096] + self._table[keys // 4096 % 4096])


def _content(item: Any) -> bytes:
    """Returns a little of what an item holds."""
    if item.modality == "text":
        return bytes(item.text, "utf-8")
    return np.ascontiguousarray((item.pixels if item.modality == "image" else item.samples).ravel()[:4096]).tobytes()


def say(text: str) -> None:
    """Prints for people."""
    print(text, file=sys.stderr, flush=True)


def held_mb() -> float:
    """Returns the MiB of memory that this process holds besides mapped files; 0 where that cannot be known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def growing(items: int, folder: Path) -> list[Line]:
    """Returns how the time for an item changes while a library grows to so many."""
    made = Library.create(folder / "growing", MadeUp())
    told: list[tuple[int, float]] = []  # items that are in, and when
    marks = [mark for mark in (1000, 10_000, 50_000, 100_000, 200_000, 500_000, 1_000_000) if mark <= items]

    def committed(ids: tuple[str, ...]) -> None:
        told.append(((told[-1][0] if told else 0) + len(ids), time.perf_counter()))
        if marks and told[-1][0] >= marks[0]:
            each = 1e6 * (told[-1][1] - began) / told[-1][0]
            say(f"    {marks.pop(0):>9,} items: {each:6.0f} us each so far, {held_mb():5.0f} MiB held")

    began = time.perf_counter()
    texts = (Text(f"text number {number}") for number in range(items))
    added = made.add(texts, committed=committed, keep_media=False)
    all_s = time.perf_counter() - began
    tenth = max(1, (len(told) - 1) // 10)
    first, last = (_each_us(told[at]) for at in (slice(0, tenth + 1), slice(-tenth - 1, None)))
    say(f"    {added.added:,} items in {all_s:.1f} s; first tenth {first:.0f} us each, last tenth {last:.0f} us")
    began = time.perf_counter()
    made.search(np.ones(WIDTH))
    say(f"    searchable after another {time.perf_counter() - began:.2f} s")
    took = []
    for number in range(5):
        began = time.perf_counter()
        made.add([Text(f"one more, {number}")], keep_media=False)
        took.append(1e3 * (time.perf_counter() - began))
    say(f"    one more item: {np.median(took):.0f} ms (the first {took[0]:.0f})")
    return [
        Line(f"time for an item, at {items:,} over at the start", last / first, "x", asked=1.25, name="indexing.flat"),
        Line("items to durable rows, a model that costs nothing", items / all_s, "/s", name="indexing.items"),
        Line(f"one more item in a library of {items:,}", float(np.median(took)), "ms", name="indexing.one_more"),
    ]


def _each_us(told: list[tuple[int, float]]) -> float:
    """Returns the microseconds for each item between the first and the last of some commits."""
    (before, start), (after, stop) = told[0], told[-1]
    return 1e6 * (stop - start) / max(after - before, 1)


def media(folder: Path, files: int) -> None:
    """Writes pictures as a camera's are sized on the web (500 x 375), sounds of three seconds, and texts."""
    rng, words = np.random.default_rng(0), random.Random(0)
    folder.mkdir()
    for number in range(files):
        path = folder / f"{number:06d}"
        if number % 10 < 7:
            coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 48, 64)).astype(np.float32))
            grown = torch.nn.functional.interpolate(coarse, (375, 500), mode="bicubic")[0].permute(1, 2, 0)
            noise = torch.from_numpy(rng.normal(0, 6, (375, 500, 3)).astype(np.float32))
            Image((grown + noise).clamp(0, 255).byte().numpy()).save(path.with_suffix(".jpg"))
        elif number % 10 < 8:
            samples = 0.2 * np.sin(np.arange(48_000) * rng.uniform(0.02, 0.5)) + rng.normal(0, 0.02, 48_000)
            Audio(samples[None].astype(np.float32), 16_000).save(path.with_suffix(".wav"))
        else:
            path.with_suffix(".txt").write_text(" ".join(words.choices(WORDS, k=12)) + f" {number}", encoding="utf-8")


def add(folder: Path, path: Path, model: Any, threads: int) -> tuple[float, float, int]:
    """Returns the seconds until a folder can be searched, those of writing among them, and how many items it gave."""
    torch.set_num_threads(threads)
    made = Library.create(path, model)
    written = 0.0
    insert = made._store.insert

    def timed(rows: Any) -> int:
        nonlocal written
        began = time.perf_counter()
        try:
            return insert(rows)
        finally:
            written += time.perf_counter() - began

    made._store.insert = timed  # type: ignore[method-assign]
    began = time.perf_counter()
    added = made.add(folder)
    middle = time.perf_counter()
    made.search(np.ones(made.stats().dimension))  # writes the derived files
    end = time.perf_counter()
    if added.failed:
        say(f"    {len(added.failed)} failed, as in {added.failed[0]}")
    shutil.rmtree(path)
    return end - began, written + end - middle, added.added


def from_files(folder: Path, files: int) -> list[Line]:
    """Returns files per second from media to a searchable library, and says where the time goes."""
    model = intermodal.load("diorama")
    cores = torch.get_num_threads()
    for each in (MadeUp(), model):  # a first time, which loads what is loaded once
        some = folder.parent / "some"
        some.mkdir(exist_ok=True)
        for path in list(_files(folder))[:20]:
            shutil.copy(path, some / path.name)
        add(some, folder.parent / "library", each, cores)
    whole, written, items = add(folder, folder.parent / "library", model, 1)
    cheap, cheap_written, _ = add(folder, folder.parent / "library", MadeUp(), 1)
    read = max(cheap - cheap_written, 0.0)
    all_cores, _, _ = add(folder, folder.parent / "library", model, cores)
    say(f"    {files:,} files, {items:,} items: {whole:.1f} s in one thread, {all_cores:.1f} s in {cores}")
    parts = {"reading and decoding": read, "writing": written, "embedding": max(whole - read - written, 0.0)}
    say("    " + ", ".join(f"{name} {100 * part / whole:.0f} %" for name, part in parts.items()))
    return [
        Line("files to a searchable library, one thread", files / whole, "/s", name="indexing.files.one_thread"),
        Line(f"files to a searchable library, {cores} threads", files / all_cores, "/s", name="indexing.files"),
        Line("share of writing", 100 * written / whole, "%", name="indexing.files.writing"),
    ]


def _files(folder: Path) -> Iterator[Path]:
    """Gives the files below a folder, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def measure(chosen: Namespace) -> list[Line]:
    """Returns what the table shows."""
    items = chosen.items or (20_000 if chosen.quick else 200_000)
    files = chosen.files or (200 if chosen.quick else 2000)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    with tempfile.TemporaryDirectory(prefix="intermodal-bench-") as name:
        folder = Path(name)
        say(f"a library that grows, vectors of {WIDTH}")
        lines = growing(items, folder)
        shutil.rmtree(folder / "growing")
        if chosen.media is None:
            media(folder / "media", files)
        else:
            shutil.copytree(chosen.media, folder / "media")
            files = len(list(_files(folder / "media")))
        say("media files")
        return lines + from_files(folder / "media", files)


if __name__ == "__main__":
    flags = {
        "items": {"type": int, "help": "how many a library grows to"},
        "files": {"type": int, "help": "how many files are made"},
        "media": {"type": Path, "help": "a folder of files instead of those made here"},
    }
    raise SystemExit(run(__doc__, measure, **flags))
