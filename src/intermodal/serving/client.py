"""A server's models and library, asked from Python as if they were here.

    there = intermodal.Client("http://127.0.0.1:8000")
    there.embed([im.Text("a red circle"), im.Image.open("photo.jpg")])
    there.translate([im.Text("a red circle")], "image")
    there.search(im.Audio.open("bark.wav"), among="image", top=5)[0].item

It keeps the contracts Embeds, Translates and Answers, so it can stand wherever such a model can. It needs nothing that
the package itself does not: the standard library sends the requests, some at a time, and the server computes them
together. What comes back is as it was made: pictures, sounds, clips and series are sent without loss.
"""

import base64
import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from intermodal import catalog
from intermodal.errors import IntermodalError, InvalidValue, StoreError, UnreadableMedia, Unsupported
from intermodal.types import Item, Sample

if TYPE_CHECKING:
    from intermodal.library.hits import Hit

AT_ONCE = 16  # requests in flight
TOGETHER = 64  # items of a request for vectors
RETRIES = 5
WAIT_MAX_S = 30.0
_LOSSLESS = {"image": "png", "audio": "wav", "video": "mkv", "timeseries": "npz"}
_ERRORS: dict[str, type[IntermodalError]] = {
    "unreadable_media": UnreadableMedia,
    "unsupported": Unsupported,
    "store_error": StoreError,
    "no_library": StoreError,
    "gone": StoreError,
}


class Client:
    """A server. Embeds, Translates, Answers; and its library."""

    def __init__(self, url: str, key: str | None = None, model: str = "", timeout_s: float = 600.0) -> None:
        """Keeps the address; nothing is asked yet.

        Args:
            url: such as ``http://127.0.0.1:8000``.
            key: where the server asks for one.
            model: one of its models; default: the first that can do what is asked.
            timeout_s: of one request.

        Raises:
            InvalidValue: the address is none of a server.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidValue(f"{url!r} is no address of a server; give one such as http://127.0.0.1:8000")
        self.url, self.model = url.rstrip("/").removesuffix("/v1"), model
        self._key, self._timeout_s = key, timeout_s
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")  # no proxy leads to this machine
        handlers = [urllib.request.ProxyHandler({})] if here else []
        self._opener = urllib.request.build_opener(*handlers)

    def __repr__(self) -> str:
        """Returns the address; never the key."""
        return f"Client({self.url!r})"

    # ---- the verbs of a model

    def embed(self, items: Sequence[Item]) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given."""
        parts = [_part(item) for item in items]
        groups = [parts[i : i + TOGETHER] for i in range(0, len(parts), TOGETHER)]
        asked = [{"model": self.model, "input": group, "encoding_format": "base64"} for group in groups]
        rows = [
            np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
            for told in self._all("/v1/embeddings", asked)
            for one in told["data"]
        ]
        return torch.from_numpy(np.stack(rows).astype(np.float32)) if rows else torch.zeros(0, 0)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The (from, to) pairs of fields that the server has a way for."""
        told = self._json("/v1/directions")["directions"]
        return tuple((one["from"], one["to"]) for one in told)

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns one item of field ``to`` for each item, the best of ``count``: see ``types.Translates``."""
        options: dict[str, Any] = {"to": to, "from": source or "", "model": self.model, "count": count}
        if sampling is not None:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
            options |= {"top_k": sampling.top_k}
        asked = [{**options, "input": _part(item), "format": "lossless"} for item in items]
        return [_item(told["candidates"][0]) for told in self._all("/v1/translate", asked)]

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words."""
        parts = {field: _part(item) for field, item in sample.items()}
        told = self._json("/v1/answer", {"sample": parts, "question": question, "model": self.model})
        return str(told["answer"])

    # ---- the verbs of a library

    def search(
        self,
        query: "Item | Hit",
        among: str | Sequence[str] | None = None,
        top: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> "list[Hit]":
        """Returns the items of the server's library that fit best; each is fetched when its ``item`` is asked for.

        Args:
            query: an item, or a hit of an earlier search.
            among: modality or modalities to find; None for all.
            top: how many.
            where: metadata that they must have: key -> value or values.
        """
        known = getattr(query, "id", None)
        asked: dict[str, Any] = {"id": known} if known else {"query": _part(query)}
        asked |= {"among": [among] if isinstance(among, str) else list(among or ()), "top": top}
        asked |= {"where": dict(where or {})}
        return [self._hit(told) for told in self._json("/v1/search", asked)["hits"]]

    def add(self, *sources: str | Path | Item, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns what was added to the server's library: counts, and what could not be read.

        Args:
            sources: files and items; one after the other, so that memory holds one.
            metadata: said of all of them.
        """
        total: dict[str, Any] = {"added": 0, "skipped": 0, "failed": []}
        for source in sources:
            if isinstance(source, str | Path):
                told = self._form("/v1/library", Path(source), metadata or {})
            else:
                told = self._json("/v1/library", {"items": [_part(source)], "metadata": dict(metadata or {})})
            total["added"] += told["added"]
            total["skipped"] += told["skipped"]
            total["failed"] += told["failed"]
        return total

    def remove(self, id: str) -> int:
        """Returns how many items were removed from the server's library."""
        return int(self._json(f"/v1/library/items/{quote(id, safe='')}", method="DELETE")["removed"])

    def stats(self) -> dict[str, Any]:
        """Returns what the server's library holds."""
        return self._json("/v1/library")

    # ---- requests

    def _hit(self, told: Mapping[str, Any]) -> "Hit":
        """Returns a hit whose item is fetched when it is asked for."""
        from intermodal.library.hits import Hit

        score, cosine = (float("nan") if told[name] is None else told[name] for name in ("score", "cosine"))
        load = partial(self._fetched, told["id"], told["modality"])
        start_s, stop_s = told["start_s"], told["stop_s"]
        metadata = told["metadata"]
        return Hit(told["id"], told["modality"], score, cosine, told["name"], start_s, stop_s, metadata, load)

    def _fetched(self, id: str, modality: str) -> Item:
        """Returns an item of the library."""
        data = self._send("GET", f"/v1/library/items/{quote(id, safe='')}/media?format=lossless", None, {})
        made: Item = catalog.module("modalities", modality).ITEM.open(data)
        return made

    def _all(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the answers to several requests, some at a time, in their order."""
        if len(bodies) < 2:
            return [self._json(path, body) for body in bodies]
        with ThreadPoolExecutor(min(AT_ONCE, len(bodies)), "asking") as pool:
            return list(pool.map(partial(self._json, path), bodies))

    def _json(self, path: str, body: Mapping[str, Any] | None = None, method: str = "") -> dict[str, Any]:
        """Returns the answer to a request whose body and answer are JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        told: dict[str, Any] = json.loads(
            self._send(method or ("GET" if data is None else "POST"), path, data, headers)
        )
        return told

    def _form(self, path: str, file: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request with a file."""
        mark = "intermodal-3f1c9a7e5b2d48"
        name = file.name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{json.dumps(dict(metadata))}\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        data = head.encode() + file.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        told: dict[str, Any] = json.loads(self._send("POST", path, data, headers))
        return told

    def _send(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> bytes:
        """Returns the body of an answer; comes back later where the server is busy.

        Raises:
            IntermodalError: what the server says, as the error that it would be here.
        """
        key = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        for left in reversed(range(RETRIES)):
            request = urllib.request.Request(f"{self.url}{path}", data, {**headers, **key}, method=method)
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    found: bytes = answer.read()
                    return found
            except urllib.error.HTTPError as error:
                with error:
                    told = error.read()
                if error.code not in (429, 503) or not left:
                    raise _error(error.code, told) from error
                time.sleep(min(WAIT_MAX_S, float(error.headers.get("Retry-After") or 1)))
            except (urllib.error.URLError, TimeoutError) as error:
                raise IntermodalError(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from error
        raise AssertionError  # the last try returns or raises


def _error(status: int, told: bytes) -> IntermodalError:
    """Returns what a server says as an error of this package."""
    try:
        error = json.loads(told)["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        return IntermodalError(f"the server answered with status {status} and no reason; is it an intermodal server?")
    kind = _ERRORS.get(code, InvalidValue if status < 500 and status != 429 else IntermodalError)
    return kind(message)


def _part(item: Any) -> dict[str, Any]:
    """Returns an item as a part of a request; nothing of it is lost."""
    modality = getattr(type(item), "modality", None)
    if modality == "text":
        return {"type": "text", "text": item.text}
    if modality not in _LOSSLESS:
        raise InvalidValue(f"{type(item).__name__} is no item; give Text, Image, Audio, Video or TimeSeries")
    with tempfile.TemporaryDirectory(prefix="intermodal-") as folder:
        data = item.save(Path(folder) / f"item.{_LOSSLESS[modality]}").read_bytes()
    return {"type": "media", "data": base64.b64encode(data).decode()}


def _item(told: Mapping[str, Any]) -> Item:
    """Returns the item in an answer."""
    kind = catalog.module("modalities", str(told["modality"])).ITEM
    made: Item = (
        kind(told["text"]) if told["modality"] == "text" else kind.open(base64.b64decode(told["url"].partition(",")[2]))
    )
    return made
