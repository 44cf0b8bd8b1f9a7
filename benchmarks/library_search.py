"""How fast a library finds the ten nearest vectors, exactly, on one core.

    python benchmarks/library_search.py --rows 10000 100000 200000

Four ways, interleaved, each query once per round, medians: ``library`` is ``Library.search`` by a vector, from the
question to the hits with their metadata; ``scan`` its scan alone; ``lancedb`` the flat scan of the table format's own
database; ``numpy`` one float32 product over all rows and a partial sort. Recall is against ``numpy``. Below: the matrix
products that a scan could use, and the floor that the memory's speed sets (bytes over bandwidth). Wall time suffers
from whatever else the machine does; the processor time beside it does less.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything that starts threads

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from intermodal.library import product, scan
from intermodal.library.library import Library
from intermodal.library.store import Row
from intermodal.library.view import ExactView

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from figures import machine, record

TOP = 10
Timings = dict[str, list[tuple[float, float]]]


def unit(rows: np.ndarray) -> np.ndarray:
    """Returns float32 rows of unit length."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors(kind: str, count: int, width: int) -> np.ndarray:
    """Returns unit vectors: ``spread`` evenly, or ``clustered`` in a narrow cone as models make them."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, width), dtype=np.float32)
    if kind == "clustered":
        centres = rng.standard_normal((200, width), dtype=np.float32)
        scales = rng.exponential(1.0, width).astype(np.float32)
        rows = (
            0.5 * rows
            + centres[rng.integers(0, 200, count)] * scales
            + 2 * rng.standard_normal(width, dtype=np.float32)
        )
    return unit(rows)


def fill(library: Library, rows: np.ndarray) -> None:
    """Puts vectors in a library as pictures with metadata."""
    for start in range(0, len(rows), 20_000):
        batch = [
            Row(f"{n * 2654435761 % 2**32:08x}{n:024x}", "image", rows[n], f"/media/{n}.jpg", metadata={"number": n})
            for n in range(start, min(start + 20_000, len(rows)))
        ]
        library._store.insert(batch)
    library.compact()


def interleaved(ways: dict[str, Callable[[np.ndarray], object]], queries: np.ndarray, rounds: int) -> Timings:
    """Returns wall and processor seconds of each way, one query after the other."""
    times: Timings = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            way(queries[number % len(queries)])
            if number >= 2:
                times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def median_ms(times: list[tuple[float, float]]) -> dict[str, float]:
    """Returns the medians in milliseconds."""
    wall, processor = (1000 * float(np.median(column)) for column in zip(*times, strict=True))
    return {"wall_ms": wall, "processor_ms": processor}


def by_numpy(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Returns the places of the nearest rows by one float32 product."""
    cosines = rows @ query
    best = np.argpartition(cosines, -TOP)[-TOP:]
    return best[np.argsort(-cosines[best])]


def products(rows: np.ndarray, queries: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the time of the matrix products that a scan could use, and the floor of each."""
    exact = torch.from_numpy(rows)
    half = exact.bfloat16()
    rounded, scale = scan.quantise(rows, rows.mean(axis=0))[:2]
    coarse = torch.from_numpy(rounded)
    kinds = {"int8, compiled": product.Compiled, "int8 by bfloat16, torch": product.Packed}
    columns = torch.from_numpy(np.random.default_rng(0).integers(-127, 128, (coarse.shape[1], 2), dtype=np.int8))

    ways: dict[str, Callable[[np.ndarray], object]] = {
        "read float32 once": lambda _: exact.sum(),
        "float32, numpy": lambda query: rows @ query,
        "float32, torch": lambda query: exact @ torch.from_numpy(query),
        "bfloat16, torch": lambda query: half @ torch.from_numpy(query).bfloat16(),
        "int8 by int8, 2 columns": lambda _: torch._int_mm(coarse, columns),
    }
    for name, make in kinds.items():
        if name != "int8, compiled" or product.fastest(rows.shape[1], 10**9) is product.Compiled:
            ways[name] = lambda query, make=make: make(query).reaching(rounded, scale, None, 1.0)  # type: ignore[misc]
    result = {name: median_ms(times) for name, times in interleaved(ways, queries, rounds).items()}
    read = result["read float32 once"]["processor_ms"]
    for name in list(ways)[1:]:
        result[name]["floor_ms"] = read / {"float32": 1, "bfloat16": 2}.get(name.partition(",")[0], 4)
    result["read float32 once"]["gb_per_s"] = rows.nbytes / read / 1e6
    return result


def measure(count: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Returns everything measured at one number of rows."""
    import lancedb

    rows = vectors(arguments.vectors, count, arguments.width)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((arguments.rounds, arguments.width)) * 0.7 / arguments.width**0.5
    queries = unit(rows[rng.integers(0, count, arguments.rounds)] + noise)
    with tempfile.TemporaryDirectory() as folder:
        library = Library.create(Path(folder) / "library")
        fill(library, rows)
        table = lancedb.connect(str(library.path)).open_table("items")
        began = time.perf_counter()
        library.search(queries[0])
        derived_s = time.perf_counter() - began
        began = time.perf_counter()
        Library.open(library.path).search(queries[0])
        opened_s = time.perf_counter() - began
        view = library._view(False)
        assert isinstance(view, ExactView)
        parts = [scan.Part(block.rows) for block in view._blocks]

        def flat(query: np.ndarray) -> object:
            asked = table.search(query, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
            return asked.limit(TOP).select(["id", "source", "metadata", "_distance"]).to_arrow()

        ways: dict[str, Callable[[np.ndarray], object]] = {
            "library": lambda query: library.search(query, top=TOP),
            "scan": lambda query: scan.nearest(parts, query, TOP),
            "lancedb": flat,
            "numpy": lambda query: by_numpy(rows, query),
        }
        times = {name: median_ms(found) for name, found in interleaved(ways, queries, arguments.rounds).items()}
        right = 0
        for query in queries:
            found = {hit.metadata["number"] for hit in library.search(query, top=TOP)}
            right += len(found & set(by_numpy(rows, query).tolist()))
        make = product.fastest(arguments.width, 10**9) or product.Packed
        candidates = [sum(map(len, scan._candidates(parts, scan._Coarse(query, make), TOP))) for query in queries]
    return {
        "rows": count,
        "times": times,
        "recall": right / (TOP * len(queries)),
        "lancedb_over_library": times["lancedb"]["wall_ms"] / times["library"]["wall_ms"],
        "numpy_over_library": times["numpy"]["wall_ms"] / times["library"]["wall_ms"],
        "scored_again": float(np.median(candidates)),
        "derive_s": derived_s,
        "open_and_search_s": opened_s,
        "products": products(rows, queries, min(arguments.rounds, 20)),
    }


def show(result: dict[str, object]) -> None:
    """Prints one size for people."""
    print(f"\n{result['rows']:,} rows        wall ms   processor ms")
    for name, times in result["times"].items():  # type: ignore[attr-defined]
        print(f"  {name:<12} {times['wall_ms']:10.2f} {times['processor_ms']:14.2f}")
    print(
        f"  recall {result['recall']:.4f}, {result['scored_again']:.0f} rows scored again; library is "
        f"{result['lancedb_over_library']:.1f} times as fast as lancedb, {result['numpy_over_library']:.2f} as numpy"
    )
    print(f"  derived in {result['derive_s']:.2f} s; opened and searched in {result['open_and_search_s']:.3f} s")
    for name, times in result["products"].items():  # type: ignore[attr-defined]
        floor = f", floor {times['floor_ms']:.2f}" if "floor_ms" in times else f", {times['gb_per_s']:.1f} GB/s"
        print(f"    {name:<24} {times['wall_ms']:8.2f} {times['processor_ms']:8.2f}{floor}")


def main() -> None:
    """Measures each size and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 200_000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--vectors", choices=["spread", "clustered"], default="spread")
    parser.add_argument("--core", type=int, help="run on this core alone; default the last one")
    parser.add_argument("--record", action="store_true", help="write the figure asked for to docs/figures.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    where = machine()
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores) if arguments.core is None else arguments.core})
    torch.set_num_threads(1)
    command = shlex.join(["python", *sys.argv])
    if not arguments.json:
        print(f"{command}\n{where}; one of them used")
    results = []
    for count in arguments.rows:
        results.append(measure(count, arguments))
        if not arguments.json:
            show(results[-1])
        if arguments.record and count == 100_000:
            value = results[-1]["times"]["library"]["wall_ms"]  # type: ignore[index]
            record("library.search.100000x256_ms", round(value, 2), "ms", "at most 15, recall 1.0", command)
    if arguments.json:
        print(json.dumps({"command": command, "machine": where, "results": results}))


if __name__ == "__main__":
    main()
