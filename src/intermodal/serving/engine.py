"""What is loaded, and its verbs for many clients at once: each goes through one of two queues.

Embedding is quick and has a queue and threads of its own, so that a clip being made does not hold up a search. A model
is asked by its name. A name of the hosted API, such as ``gpt-4o``, stands for the first model that can do what is
asked, since many programs have such a name built in; the answer says which model it was. Any other name is an error.
"""

import asyncio
import contextvars
import itertools
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32

from intermodal import runtime, translation
from intermodal.data.stream import unit_rows
from intermodal.errors import Unsupported
from intermodal.explain.parts import Explanation, explain
from intermodal.serving.batching import Queue, check_stopped, interruptible
from intermodal.serving.faults import Refused
from intermodal.serving.settings import Settings
from intermodal.types import Answers, Candidate, Completes, Embeds, Item, Reply, Sample, Scores, Talks, Translates, Turn

HOSTED = re.compile(r"(gpt|chatgpt|o[1-9]|text-embedding|whisper|tts|dall-e|sora|codex|davinci)(-|$)")
"""How the names of models of the hosted API begin."""

DECODERS = 4  # media opened or encoded at a time
EMBEDDERS = 2  # batches embedded beside each other: while one of them is in Python, the other computes

Out = TypeVar("Out")


@dataclass(frozen=True, eq=False)
class Made:
    """What was made of one item.

    Attributes:
        candidates: best first.
        way: the steps there.
        model: names of the models that did it.
    """

    candidates: list[Candidate]
    way: translation.Way
    model: str


class Engine:
    """The models of a server, their queues, and the threads that open media."""

    def __init__(self, models: Mapping[str, Any], settings: Settings) -> None:
        """Keeps loaded models, ready to answer.

        Args:
            models: name -> model; the first that can do something is asked where no name is given.
            settings: sizes of the queues.
        """
        self.models = {name: interruptible(model) for name, model in models.items()}
        self.settings = settings
        count = settings.threads or max(1, runtime.cores() // 2)
        numbers = itertools.count()

        def embedder() -> None:
            torch.set_num_threads(max(1, count // EMBEDDERS))
            runtime.stay(next(numbers), EMBEDDERS)

        self.quick = Queue(settings.together, settings.queue, settings.wait_s, embedder, EMBEDDERS)
        self._alone = {
            name: threading.Lock() for name, model in models.items() if not isinstance(model, torch.nn.Module)
        }
        ready = partial(torch.set_num_threads, count)
        self.slow = Queue(settings.made_together, settings.queue, settings.wait_s, ready)
        self._decoders = ThreadPoolExecutor(DECODERS, "media")

    # ---- which model

    def able(self, name: str, kind: Any, what: str) -> tuple[str, Any]:
        """Returns the name and the model that a request is for.

        Args:
            name: as it was asked for; empty for any.
            kind: the contract that it has to keep.
            what: what a model of that contract does, for the message.

        Raises:
            Refused: there is no such model, or it cannot do that.
        """
        can = [each for each, model in self.models.items() if isinstance(model, kind)]
        if self.named(name):
            if name not in can:
                others = f"; of the models here these can: {', '.join(can)}" if can else ""
                raise Refused(400, f"the model {name!r} does not {what}{others}", "unsupported", "model")
            return name, self.models[name]
        if not can:
            raise Refused(400, f"no model here can {what}; start the server with one that does", "unsupported", "model")
        return can[0], self.models[can[0]]

    def named(self, name: str) -> bool:
        """Returns whether one certain model is meant.

        Raises:
            Refused: there is none of that name.
        """
        if name and name not in self.models and not HOSTED.match(name):
            known = ", ".join(self.models)
            raise Refused(404, f"there is no model {name[:100]!r}; use one of: {known}", "model_not_found", "model")
        return name in self.models

    def translating(self, name: str) -> dict[str, Any]:
        """Returns the models that may make something.

        Raises:
            Refused: there is none.
        """
        first, model = self.able(name, Translates, "translate between modalities")
        if self.named(name):
            return {first: model}
        return {each: one for each, one in self.models.items() if isinstance(one, Translates)}

    def talker(self, name: str) -> str:
        """Returns the model that goes on with conversations: the one asked for, or the first; empty where none does.

        Raises:
            Refused: there is no such model.
        """
        can = [each for each, model in self.models.items() if isinstance(model, Talks)]
        if self.named(name):
            return name if name in can else ""
        return next(iter(can), "")

    def abilities(self, name: str) -> dict[str, Any]:
        """Returns what a model can do: verbs, modalities that it reads, directions, and what was measured of it."""
        model = self.models[name]
        verbs = {"embed": Embeds, "translate": Translates, "answer": Answers, "score": Scores, "complete": Completes}
        verbs["talk"] = Talks
        known = getattr(model, "preprocessors", None) or {}
        return {
            "verbs": [verb for verb, kind in verbs.items() if isinstance(model, kind)],
            "modalities": sorted({str(p.modality) for p in known.values()}),
            "directions": [list(pair) for pair in model.directions] if isinstance(model, Translates) else [],
            "figures": dict(getattr(model, "figures", None) or {}),
        }

    # ---- what it does

    async def embed(self, name: str, items: Sequence[Item], bounded: bool = True) -> Float32[np.ndarray, "N D"]:
        """Returns one unit vector per item, computed together with those of other requests."""
        model, alone = self.models[name], self._alone.get(name, nullcontext())

        def work(pieces: list[Any]) -> list[Any]:
            with alone:  # what is no network need not stand two callers
                return list(unit_rows(model.embed(pieces), len(pieces)))

        rows = await self.quick.do(("embed", name), work, items, bounded)
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    async def translate(
        self,
        models: Mapping[str, Any],
        items: Sequence[Item],
        to: str,
        source: str | None = None,
        sampling: Any = None,
        count: int = 1,
    ) -> list[Made]:
        """Returns what is made of each item, all of one field: see ``translation.translate``."""
        given = list(models.values())
        start = source or translation.field_of(given, items)
        translation.find_way(given, start, to)  # said at once, not after a wait in the queue

        def work(pieces: list[Any]) -> list[Any]:
            return _made(models, translation.translate(given, pieces, to, source=start, sampling=sampling, count=count))

        return await self.slow.do(("translate", tuple(models), start, to, sampling, count), work, items)

    async def complete(
        self, models: Mapping[str, Any], samples: Sequence[Sample], to: str, sampling: Any = None, count: int = 1
    ) -> list[Made]:
        """Returns the field ``to`` of each sample, made from all its fields: see ``translation.complete``."""
        given = list(models.values())

        def work(pieces: list[Any]) -> list[Any]:
            return _made(models, translation.complete(given, pieces, to, sampling=sampling, count=count))

        fields = tuple(sorted({field for sample in samples for field in sample}))
        return await self.slow.do(("complete", tuple(models), fields, to, sampling, count), work, samples)

    async def answer(self, name: str, sample: Sample, question: str) -> str:
        """Returns the answer to a question about a sample."""
        model = self.models[name]

        def work(pieces: list[Any]) -> list[Any]:
            return [model.answer(*piece) for piece in pieces]

        found: str = (await self.slow.do(("answer", name, tuple(sample)), work, [(sample, question)]))[0]
        return found

    async def talk(
        self, name: str, turns: Sequence[Turn], sampling: Any = None, longest: int | None = None
    ) -> AsyncIterator[str | Reply]:
        """Gives what is said next, piece by piece as it is written, and then all of it: see ``types.Talks``."""
        model, loop = self.models[name], asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def heard(words: str) -> None:
            check_stopped()
            loop.call_soon_threadsafe(pieces.put_nowait, words)

        def work(given: list[Any]) -> list[Any]:
            return [model.talk(each, sampling=sampling, longest=longest, heard=heard) for each in given]

        task = asyncio.ensure_future(self.slow.do(object(), work, [turns]))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (words := await pieces.get()) is not None:
                yield words
            yield (await task)[0]
        finally:
            task.cancel()

    async def explain(self, name: str, item: Item, query: Item, cells: int, spans: int) -> Explanation:
        """Returns which parts of an item decide how well it fits a query: see ``explain.parts.explain``."""
        model = self.models[name]

        def work(pieces: list[Any]) -> list[Any]:
            return [explain(model, of, asked, cells, spans) for of, asked in pieces]

        found: Explanation = (await self.slow.do(("explain", name, cells, spans), work, [(item, query)]))[0]
        return found

    async def aside(self, work: Callable[..., Out], *given: Any) -> Out:
        """Returns what ``work`` gives, called in a thread that opens and encodes media."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._decoders, context.run, work, *given)

    async def drain(self) -> bool:
        """Returns whether all that waited could be finished before the server stops."""
        done = [await queue.drain(self.settings.drain_s) for queue in (self.quick, self.slow)]
        self._decoders.shutdown(wait=False, cancel_futures=True)
        return all(done)

    # ---- words

    def count(self, texts: Sequence[str], name: str = "") -> int:
        """Returns how many tokens texts have, by the tokenizer of a model; words where it has none.

        Raises:
            Refused: more than a request may have.
        """
        most = self.settings.tokens
        length = sum(map(len, texts))
        known = getattr(self.models.get(name), "preprocessors", None) or {}
        reader = next((p for p in known.values() if p.modality == "text"), None)
        tokenizer = getattr(reader, "tokenizer", None)
        total = length
        if length <= 16 * most:
            total = sum(len(tokenizer.encode(t)) if tokenizer else len(t.split()) for t in texts)
        if total > most:
            raise Refused(400, f"the texts have more than {most:,} tokens; send fewer", "too_many_tokens", "input")
        return total


def _made(models: Mapping[str, Any], done: translation.Translated) -> list[Made]:
    """Returns what was made of each item, with the names of the models on the way."""
    names = list(models)
    by = "+".join(dict.fromkeys(names[step.model] for step in done.way))
    return [Made(found, done.way, by) for found in done.candidates]


def field_like(model: Any, modality: str, wanted: Sequence[str]) -> str:
    """Returns the first of the wanted fields that a model has, else the name of the modality."""
    known = getattr(model, "preprocessors", None) or {}
    return next((name for name in wanted if name in known), modality)


def direction(models: Mapping[str, Any], ways: Sequence[tuple[str, str]], what: str) -> tuple[str, str]:
    """Returns the first of these directions that one of the models has.

    Raises:
        Unsupported: none has any; says which kind of model would.
    """
    for a, b in ways:
        if any((a, b) in model.directions for model in models.values()):
            return a, b
    wanted = " or ".join(f"from {a} to {b}" for a, b in ways)
    raise Unsupported(
        f"{', '.join(models)} cannot {what}; that takes a model with a direction {wanted}: train one on data that has "
        "both fields"
    )
