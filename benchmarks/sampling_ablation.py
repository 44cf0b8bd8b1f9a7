"""What hard-negative mining and a curriculum change: the same model, data, steps and seeds, three ways to fill batches.

    python benchmarks/sampling_ablation.py --steps 400 --seeds 2

A text-image pair on Diorama, 20,000 scenes. ``random``: batches drawn evenly. ``mined``: from half of the steps on,
groups of four near neighbours by the model's own text vectors at that time. ``curriculum``: scenes with few words
first, all from half of the steps on. Figure: Recall@1 on 1,000 unseen scenes, mean of both directions.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from intermodal import runtime
from intermodal.data.loader import Loader
from intermodal.diorama.source import Diorama
from intermodal.evaluation.protocols import any_to_any
from intermodal.systems import clip
from intermodal.training.curriculum import curriculum
from intermodal.training.loop import Options, Progress, train
from intermodal.training.mining import hard_batches
from intermodal.training.recipe import recipe

POOL = 20_000
BATCH = 128


def measure(way: str, steps: int, seed: int, group: int) -> float:
    """Returns Recall@1 after training with one way to fill batches."""
    source = Diorama("train", fields=("text", "image"), size=POOL)
    runtime.seed(seed)
    model = clip.build(recipe("clip", source))
    loader = Loader(source, model.preprocessors, BATCH, seed=seed)
    options = Options(steps=steps, seed=seed, checkpoint_every=steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        if way == "curriculum":
            texts = [s["text"].text for s in Diorama("train", fields=("text",), size=POOL).samples(range(POOL))]
            words = np.array([len(text.split()) for text in texts])
            loader = loader.with_sampler(curriculum(words, BATCH, steps // 2, seed=seed))
        if way == "mined":
            with contextlib.suppress(Half):
                train(model, loader, options, run, on_step=stop_after(steps // 2))
            texts = Diorama("train", fields=("text",), size=POOL).samples(range(POOL))
            vectors = model.embed([s["text"] for s in texts], batch_size=256).numpy()
            loader = loader.with_sampler(hard_batches(vectors, BATCH, group, seed=seed))
        train(model, loader, options, run, resume=True)
    found = any_to_any(model, Diorama("test", fields=("text", "image")))["pairs"]
    return float(np.mean([pair["recall_at_1"] for pair in found.values()]))


class Half(Exception):
    """Half of the steps are done."""


def stop_after(step: int) -> Callable[[Progress], None]:
    """Returns what ends a run one step after its checkpoint of ``step``."""

    def on_step(progress: Progress) -> None:
        if progress.step > step:
            raise Half

    return on_step


def main() -> None:
    """Measures each way and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--ways", default="random,mined,curriculum")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/figures.json")
    arguments = parser.parse_args()
    runtime.threads()
    runtime.keep_memory()
    result = {}
    for way in arguments.ways.split(","):
        values = [measure(way, arguments.steps, seed, arguments.group) for seed in range(arguments.seeds)]
        result[way] = {"recall_at_1": float(np.mean(values)), "seeds": values}
        print(
            f"{way:<11} R@1 {np.mean(values):.3f}  ({', '.join(f'{v:.3f}' for v in values)})",
            file=sys.stderr,
            flush=True,
        )
    command = f"python benchmarks/sampling_ablation.py --steps {arguments.steps} --seeds {arguments.seeds}"
    print(json.dumps({"command": command, "steps": arguments.steps, "ways": result}))
    if arguments.record:
        sys.path.append(str(Path(__file__).parents[1] / "tools"))
        from figures import record

        for way, found in result.items():
            record(f"sampling.{way}", round(found["recall_at_1"], 3), "Recall@1", "-", f"{command} --record")


if __name__ == "__main__":
    main()
