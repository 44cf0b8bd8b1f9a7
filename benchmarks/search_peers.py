"""How fast, how exactly and how large: a library's search beside faiss, usearch and lancedb's flat scan.

    python3 dev.py bench search_peers            10,000 to 1,000,000 vectors of 512 numbers; graphs up to 100,000
    python3 dev.py bench search_peers --quick    10,000 and 200,000 of one data set, graphs at 10,000
    python3 dev.py bench search_peers --full     graphs at all sizes: an hour

Two data sets: ``clustered``, a narrow cone with clusters and a few strong directions, as models make them; ``spread``,
directions without any structure, where every pair is about equally far and graphs lose their way. Queries are further
vectors of the same kind. Each query is asked once of every way before the next one is: ``library`` is
``Library.search`` on a memory-mapped library, from the vector to hits with their metadata, durable on disk;
``faiss Flat`` (IndexFlatIP) and ``lancedb flat`` are exact too; ``HNSW`` and ``usearch`` are graphs in memory with 32
and 16 neighbours. Recall is against one float32 product over all rows, the best of it in float64. One core searches;
graphs are built by all cores. ``memory`` is what the process holds besides mapped files. Wall time suffers from what
else the machine does, processor time less.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything that starts threads

import importlib.metadata
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    import faiss
    import lancedb
    from usearch.index import Index
except ImportError as error:
    print(f"{error.name} is not installed: pip install faiss-cpu usearch lancedb", file=sys.stderr)
    raise SystemExit(2) from error

from _table import Line, run
from _vectors import BLOCK, TOP, WIDTH, Data, data, truth

from intermodal.library.filters import Filter, field
from intermodal.library.hits import Hit
from intermodal.library.library import Library
from intermodal.library.product import fastest
from intermodal.library.store import Row

GROUPS = 100
KINDS = ("clustered", "spread")
Way = Callable[[np.ndarray], list[int]]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class Built:
    """An index, and what it took.

    Attributes:
        ask: query -> numbers of the rows found.
        build_s: seconds.
        memory: bytes that the process holds more than before.
        disk: bytes when saved.
    """

    ask: Way
    build_s: float
    memory: int
    disk: int


def say(text: str) -> None:
    """Prints for people."""
    print(text, file=sys.stderr, flush=True)


def pinned(cores: int) -> None:
    """Lets this process use so many cores and threads."""
    if CORES:
        os.sched_setaffinity(0, CORES[-cores:])
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)


def held() -> int:
    """Returns the bytes of memory that this process holds besides mapped files; 0 where that cannot be known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def size(path: Path) -> int:
    """Returns the bytes of a file or of all files below a folder."""
    return sum(each.stat().st_size for each in [path, *path.rglob("*")] if each.is_file())


def library(rows: np.ndarray, folder: Path) -> tuple[Library, Built]:
    """Returns a library of these vectors: stored durably, its derived files made by a first search."""
    made = Library.create(folder / "library")
    began = time.perf_counter()
    for start in range(0, len(rows), BLOCK):
        batch = [
            Row(f"{n * 2654435761 % 2**32:08x}{n:024x}", "image", rows[n], f"/media/{n}.jpg",
                metadata={"number": n, "group": n * 7919 % GROUPS})
            for n in range(start, min(start + BLOCK, len(rows)))
        ]  # fmt: skip
        made._store.insert(batch)
    stored = time.perf_counter() - began
    made.search(rows[0])
    build = time.perf_counter() - began
    say(f"    library: stored in {stored:.1f} s, derived in {build - stored:.1f} s")
    del made, batch
    before = held()
    opened = opening(folder / "library", rows[1])
    grown = max(held() - before, 0)

    def ask(query: np.ndarray) -> list[int]:
        return numbers(opened.search(query, top=TOP))

    return opened, Built(ask, build, grown, size(folder / "library"))


def numbers(hits: list[Hit]) -> list[int]:
    """Returns which rows were found."""
    return [int(hit.metadata["number"]) for hit in hits]


def opening(path: Path, query: np.ndarray) -> Library:
    """Returns the library in a folder, and says how long opening and the first search take."""
    for cold in (True, False):
        if cold and hasattr(os, "posix_fadvise"):
            for each in path.rglob("*"):
                if each.is_file():
                    with open(each, "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        opened = Library.open(path)
        opened_s = time.perf_counter() - began
        opened.search(query)
        first_s = time.perf_counter() - began - opened_s
        where = "from the disk" if cold else "again, from the page cache"
        say(f"    library: opened in {1e3 * opened_s:.0f} ms, first search {1e3 * first_s:.0f} ms, {where}")
    return opened


def built(make: Callable[[], Any], ask: Callable[[Any], Way], save: Callable[[Any, str], Any]) -> Built:
    """Returns an index made by all cores, with what it took."""
    pinned(len(CORES) or 1)
    before, began = held(), time.perf_counter()
    index = make()
    build = time.perf_counter() - began
    memory = max(held() - before, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        save(index, str(path))
        disk = size(path)
    pinned(1)
    return Built(ask(index), build, memory, disk)


def flat(rows: np.ndarray) -> tuple[Any, Built]:
    """Returns faiss's exact index."""
    index = faiss.IndexFlatIP(WIDTH)
    before, began = held(), time.perf_counter()
    for start in range(0, len(rows), BLOCK):
        index.add(np.ascontiguousarray(rows[start : start + BLOCK]))
    build = time.perf_counter() - began

    def ask(query: np.ndarray) -> list[int]:
        return index.search(query[None], TOP)[1][0].tolist()  # type: ignore[no-any-return]

    return index, Built(ask, build, held() - before, rows.nbytes)


def graphs(rows: np.ndarray, all_kinds: bool) -> Iterator[tuple[str, Built]]:
    """Gives the graphs of faiss and usearch; one graph is searched with several efforts."""

    def hnsw() -> Any:
        index = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
        for start in range(0, len(rows), BLOCK):
            index.add(np.ascontiguousarray(rows[start : start + BLOCK]))
        return index

    def by_faiss(index: Any) -> Way:
        return lambda query: index.search(query[None], TOP)[1][0].tolist()  # type: ignore[no-any-return]

    def effort(index: Any, ef: int) -> Way:
        chosen = faiss.SearchParametersHNSW(efSearch=ef)
        return lambda query: index.search(query[None], TOP, params=chosen)[1][0].tolist()  # type: ignore[no-any-return]

    kept: list[Any] = []
    one = built(lambda: kept.append(hnsw()) or kept[0], by_faiss, faiss.write_index)
    for ef in (16, 64, 256, 1024):
        yield f"faiss HNSW, ef {ef}", Built(effort(kept[0], ef), one.build_s, one.memory, one.disk)
    for kind in ("f32", "f16", "i8") if all_kinds else ("i8",):

        def make(kind: str = kind) -> Any:
            index = Index(ndim=WIDTH, metric="ip", dtype=kind, expansion_search=256)
            index.add(np.arange(len(rows)), rows, threads=len(CORES) or 1)
            return index

        def by_usearch(index: Any) -> Way:
            return lambda query: index.search(query, TOP, threads=1).keys.tolist()  # type: ignore[no-any-return]

        yield f"usearch {kind}, ef 256", built(make, by_usearch, lambda index, path: index.save(path))


def lancedb_flat(path: Path, condition: str = "") -> Way:
    """Returns the flat scan of the table format's own database, over the library's table."""
    table = lancedb.connect(str(path)).open_table("items")

    def ask(query: np.ndarray) -> list[int]:
        asked = table.search(query, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
        asked = asked.where(condition, prefilter=True) if condition else asked
        found = asked.limit(TOP).select(["id", "source", "metadata", "_distance"]).to_arrow()
        return [int(name[8:], 16) for name in found.column("id").to_pylist()]

    return ask


@dataclass(frozen=True)
class Timed:
    """Medians of wall and processor time in milliseconds, and what was found."""

    wall: float
    processor: float
    found: list[list[int]]


def timed(ways: dict[str, Way], queries: np.ndarray, slow: dict[str, int]) -> dict[str, Timed]:
    """Returns what each way took; each query is asked of all ways in turn.

    Args:
        ways: what is compared.
        queries: asked one by one.
        slow: ways that are asked fewer queries, and how many.
    """
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, list[list[int]]] = {name: [] for name in ways}
    for name, way in ways.items():
        for query in queries[: 1 if name in slow else 3]:
            way(query)
    for number, query in enumerate(queries):
        for name, way in ways.items():
            if number < slow.get(name, len(queries)):
                wall, processor = time.perf_counter(), time.process_time()
                answer = way(query)
                took[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)))
                found[name].append(answer)
    return {name: Timed(*np.median(took[name], axis=0).tolist(), found[name]) for name in ways}


def recall(found: list[list[int]], nearest: np.ndarray) -> float:
    """Returns the share of the nearest rows that were found."""
    hits = [len(set(some) & set(all_.tolist())) for some, all_ in zip(found, nearest, strict=False)]
    return sum(hits) / sum(len(all_) for all_ in nearest[: len(found)])


def filtered(kind: str, given: Data, opened: Library, index: Any) -> None:
    """Says how long searches with a filter take, beside those without."""
    group = np.arange(len(given.rows)) * 7919 % GROUPS
    for share, condition, where, mask in (
        ("1 %", field("group") == 7, "`num:group` = 7", group == 7),
        ("half", field("group") < 50, "`num:group` < 50", group < 50),
    ):
        asked: Filter = condition
        began = time.perf_counter()
        opened.search(given.queries[0], top=TOP, where=asked)
        first = 1e3 * (time.perf_counter() - began)
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.flatnonzero(mask)))
        ways: dict[str, Way] = {
            "library": lambda q, asked=asked: numbers(opened.search(q, top=TOP, where=asked)),
            "faiss Flat": lambda q, chosen=chosen: index.search(q[None], TOP, params=chosen)[1][0].tolist(),
            "lancedb flat": lancedb_flat(opened.path, where),
        }  # fmt: skip
        times = timed(ways, given.queries[:8], {"lancedb flat": 1})
        right = recall(times["library"].found, truth(given.rows, given.queries[:8], mask))
        told = ", ".join(f"{name} {it.wall:.2f} ms" for name, it in times.items())
        say(f"    filter that lets {share} through: {told}; library recall {right:.4f}, asked first {first:.0f} ms")


def batches(given: Data, ask: Way, index: Any) -> None:
    """Says what a query costs when several are asked at once; the library is asked one by one."""
    for count in (10, 100):
        queries = np.resize(given.queries, (count, WIDTH))
        took: dict[str, list[float]] = {"library": [], "faiss": []}
        for _ in range(3 if count == 10 else 1):
            began = time.perf_counter()
            for query in queries:
                ask(query)
            middle = time.perf_counter()
            index.search(queries, TOP)
            took["library"].append(middle - began)
            took["faiss"].append(time.perf_counter() - middle)
        mine, theirs = (1e3 * float(np.median(each)) / count for each in took.values())
        say(f"    {count} queries at once, each: library {mine:.2f} ms, faiss Flat {theirs:.2f} ms")


def measure(kind: str, count: int, queries: int, with_graphs: bool) -> Line:
    """Returns what one size of one data set gave; says the rest."""
    folder = Path(tempfile.mkdtemp(prefix="intermodal-bench-"))
    try:
        given = data(kind, count, queries, folder)
        say(f"\n{kind}, {count:,} vectors of {WIDTH}")
        opened, mine = library(given.rows, folder)
        index, exact = flat(given.rows)
        indexes = {"library": mine, "faiss Flat": exact}
        if with_graphs:
            indexes |= dict(graphs(given.rows, count <= 10_000))
        ways = {name: each.ask for name, each in indexes.items()} | {"lancedb flat": lancedb_flat(opened.path)}
        times = timed(ways, given.queries, {"lancedb flat": 3 if count > 100_000 else 10})
        say(f"    {'':<22}{'p50 ms':>9}{'cpu ms':>9}{'recall@10':>11}{'build s':>9}{'memory MB':>11}{'disk MB':>9}")
        for name, ask in times.items():
            it = indexes.get(name, Built(ways[name], 0, 0, size(opened.path / "items.lance")))
            sizes = f"{it.build_s:9.1f}{it.memory / 1e6:11.0f}{it.disk / 1e6:9.0f}"
            right = recall(ask.found, given.nearest)
            say(f"    {name:<22}{ask.wall:9.2f}{ask.processor:9.2f}{right:11.4f}{sizes}")
        if count >= 200_000:
            filtered(kind, given, opened, index)
            batches(given, mine.ask, index)
        pinned(min(2, len(CORES) or 1))
        two = timed({"library": mine.ask, "faiss Flat": exact.ask}, given.queries, {})
        pinned(1)
        say(f"    two threads: library {two['library'].wall:.2f} ms, faiss Flat {two['faiss Flat'].wall:.2f} ms")
        right = recall(times["library"].found, given.nearest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    asked = count >= 200_000
    return Line(
        f"exact search, {count:,} x {WIDTH}, {kind}", times["library"].wall, "ms",
        f"lancedb {version('lancedb')} flat scan; faiss {version('faiss-cpu')} IndexFlatIP",
        times["lancedb flat"].wall, times["faiss Flat"].wall, 30 if asked else None, 2.5 if asked else None,
        None, f"recall@10 {right:.4f}", f"search_peers.{kind}.{count}",
    )  # fmt: skip


def version(name: str) -> str:
    """Returns the version of an installed package."""
    return importlib.metadata.version(name)


def all_sizes(chosen: Namespace) -> list[Line]:
    """Returns the lines of every size of the data sets."""
    sizes = chosen.rows or ([10_000, 200_000] if chosen.quick else [10_000, 100_000, 200_000, 1_000_000])
    graphs_up_to = 10_000 if chosen.quick else max(sizes) if chosen.full else 100_000
    pinned(1)
    product = fastest(WIDTH, 10**9)
    say(f"int8 products: {'none, float32' if product is None else product.__name__.lower()}")  # type: ignore[attr-defined]
    return [
        measure(kind, count, 20 if count > 200_000 else 40, count <= graphs_up_to)
        for kind in chosen.kinds or KINDS[: 1 if chosen.quick else 2]
        for count in sizes
    ]


if __name__ == "__main__":
    flags = {
        "full": {"action": "store_true", "help": "build graphs at every size"},
        "rows": {"type": int, "nargs": "+", "help": "sizes instead of those of this run"},
        "kinds": {"nargs": "+", "choices": KINDS, "help": "default: both, or the first with --quick"},
    }
    raise SystemExit(run(__doc__, all_sizes, **flags))
