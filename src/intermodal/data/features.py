"""What a frozen encoder says of a data set, kept on disk: computed once, read in seconds ever after.

A folder per encoder, its revision, data, split and field holds a file for every few hundred samples, each written
beside its place and renamed; what was interrupted goes on with the first file that is missing. Numbers are float16:
eleven significant bits are more than what an encoder means.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from intermodal import catalog
from intermodal.errors import InvalidData, InvalidValue
from intermodal.types import Batch, Item

SAMPLES = 250
"""Of one file."""
ITEMS = 32
"""That an encoder is given at a time; of texts eight times as many."""

Says = Callable[[Sequence[Item]], Batch]


@dataclass(frozen=True)
class Features:
    """Rows of numbers, some for each item; several items of a sample (captions) stand one after the other.

    Attributes:
        rows: of all items, one behind the other.
        starts: where the rows of each item begin, and where those of the last one end.
        owner: the sample that each item is of; never falls.
    """

    rows: Float16[Tensor, "R W"]
    starts: Int64[Tensor, " N1"]
    owner: Int64[Tensor, " N"]

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.owner)

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """Returns the items ``index`` as ``(B, W, rows)``; -1 gives a row whose mask is all False."""
        chosen = torch.as_tensor(np.asarray(index, np.int64))
        there = chosen >= 0
        first = self.starts[chosen.clamp(min=0)]
        count = (self.starts[chosen.clamp(min=0) + 1] - first) * there
        places = torch.arange(max(1, int(count.max())))
        mask = places < count[:, None]
        found = self.rows[(first[:, None] + places).clamp(max=len(self.rows) - 1)].float()
        return Batch((found if bool(mask.all()) else found * mask[..., None]).transpose(1, 2), mask)

    def first(self, count: int) -> "Features":
        """Returns the first ``count`` rows of each item alone; none has fewer."""
        index = self.starts[:-1, None] + torch.arange(count)
        return Features(self.rows[index.flatten()], torch.arange(len(self) + 1) * count, self.owner)


def features(
    says: Says,
    revision: str,
    source: Any,
    field: str,
    folder: Path,
    progress: Callable[[float], None] | None = None,
) -> Features:
    """Returns what an encoder says of one field of a data source: from disk as far as it is there, else computed.

    Args:
        says: items -> their rows ``(B, W, rows)``.
        revision: tells this encoder from all others.
        source: data; of several captions each is an item.
        field: of the data.
        folder: of all that is kept.
        progress: called with the share that is done.

    Raises:
        InvalidData: no sample has the field.
    """
    about = {"encoder": revision, "field": field, "data": _identity(source)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f"{field}-{key}"
    place.mkdir(parents=True, exist_ok=True)
    _write_text(place / "about.json", json.dumps(about, indent=1))
    parts = []
    for start in range(0, len(source), SAMPLES):
        path = place / f"{start:08d}.safetensors"
        found = _read(path)
        if found is None:
            found = _computed(says, source, field, range(start, min(start + SAMPLES, len(source))))
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            save_file(found, beside)
            os.replace(beside, path)
        parts.append(found)
        if progress:
            progress(min(1.0, (start + SAMPLES) / len(source)))
    kept = [part for part in parts if len(part["owner"])]
    if not kept:
        raise InvalidData(f"no sample of the data has the field {field!r}; leave it out or check the files")
    lengths = torch.cat([part["lengths"] for part in kept])
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    return Features(torch.cat([p["rows"] for p in kept]), starts, torch.cat([p["owner"] for p in kept]))


def _identity(source: Any) -> dict[str, Any]:
    """Returns what tells this data from other data."""
    told = source.describe()
    return {name: told[name] for name in sorted(told) if name not in ("problems", "fields", "rows_with")}


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)


def _read(path: Path) -> dict[str, Tensor] | None:
    """Returns the tensors in a file; None where it is absent or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def items_of(source: Any, field: str, index: Sequence[int]) -> tuple[list[Item], list[int]]:
    """Returns the items that samples have in a field, each caption by itself, and the sample each is of."""
    captions = getattr(source, "captions", None) if source.fields[field] == "text" else None
    text = catalog.module("modalities", "text").ITEM
    narrow = copy(source)
    narrow.fields = {field: source.fields[field]}  # no other media need be opened
    items: list[Item] = []
    owners: list[int] = []
    for i, sample in zip(index, narrow.samples(index), strict=True):
        several = captions(i, field) if captions else ()
        found = [text(words) for words in several] or ([sample[field]] if field in sample else [])
        items += found
        owners += [i] * len(found)
    return items, owners


def _computed(says: Says, source: Any, field: str, index: Sequence[int]) -> dict[str, Tensor]:
    """Returns rows, the number of rows of each item, and its sample."""
    items, owners = items_of(source, field, index)
    order = sorted(range(len(items)), key=lambda i: len(getattr(items[i], "text", "")))  # little padding
    size = ITEMS * (8 if source.fields[field] == "text" else 1)
    found: list[Tensor] = [torch.zeros(0, 1)] * len(items)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        batch = says([items[i] for i in part])
        for i, values, mask in zip(part, batch.values, batch.mask, strict=True):
            found[i] = values.T[mask].detach().cpu().half()
    if not all(bool(rows.isfinite().all()) for rows in found):
        raise InvalidValue(f"the encoder of {field!r} gave numbers beyond 65,504 or none at all; scale what it gives")
    lengths = torch.tensor([len(rows) for rows in found], dtype=torch.int64)
    rows = torch.cat(found) if found else torch.zeros(0, 1, dtype=torch.float16)
    return {"rows": rows.contiguous(), "lengths": lengths, "owner": torch.tensor(owners, dtype=torch.int64)}


# ---- Batches


class Paired:
    """Numbered batches of samples, by what encoders say of their fields; see ``training/loop.py``.

    Each epoch shows every sample once, in another order, with one of its captions, so that no caption of a picture
    counts against another. A batch named ``group`` says which samples tell the same.
    """

    def __init__(
        self, given: Mapping[str, Features], groups: Int64[Tensor, " S"], batch_size: int, seed: int = 0
    ) -> None:
        """Finds the samples that have two fields or more.

        Args:
            given: field -> what is said of it.
            groups: a number per sample of the data, equal for those that belong together.
            batch_size: samples of a batch, at most as many as there are.
            seed: of the order.

        Raises:
            InvalidData: fewer than two samples have two fields.
        """
        self._given, self._groups, self._seed = dict(given), groups, seed
        count = len(groups)
        self._first: dict[str, Int64[np.ndarray, " S"]] = {}
        self._count: dict[str, Int64[np.ndarray, " S"]] = {}
        for name, one in given.items():
            owner = one.owner.numpy()
            self._first[name] = np.searchsorted(owner, np.arange(count))
            self._count[name] = np.bincount(owner, minlength=count)
        fields = sum((np.minimum(many, 1) for many in self._count.values()), np.zeros(count, np.int64))
        self._samples = np.flatnonzero(fields >= 2)
        if len(self._samples) < 2:
            raise InvalidData(
                f"{len(self._samples)} of {count} samples have two of the fields {', '.join(given)}; at least two "
                "samples with pairs are needed"
            )
        self.batch_size = min(batch_size, len(self._samples))
        self.per_epoch = len(self._samples) // self.batch_size

    def steps(self, first: int, last: int) -> Iterator[dict[str, Batch]]:
        """Yields batches ``first`` to ``last - 1``."""
        for number in range(first, last):
            epoch, place = divmod(number, self.per_epoch)
            order = np.random.default_rng((self._seed, epoch)).permutation(self._samples)
            yield self._batch(order[place * self.batch_size : (place + 1) * self.batch_size], epoch)

    def _batch(self, samples: Int64[np.ndarray, " B"], epoch: int) -> dict[str, Batch]:
        """Returns the batch of these samples; another epoch shows the next of several captions."""
        made = {}
        for name, one in self._given.items():
            many = self._count[name][samples]
            # 7919 is prime: neighbours begin with different captions
            index = self._first[name][samples] + (samples * 7919 + epoch) % np.maximum(many, 1)
            made[name] = one.batch(np.where(many > 0, index, -1))
        ids = self._groups[torch.as_tensor(samples)][:, None]
        return {**made, "group": Batch(ids, torch.ones_like(ids, dtype=torch.bool))}


def groups_of(source: Any, fields: Sequence[str]) -> Int64[Tensor, " S"]:
    """Returns a number per sample, equal for samples that share a text in one of ``fields``, directly or by others."""
    root = list(range(len(source)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    seen: dict[tuple[str, str], int] = {}
    for name in fields:
        for start in range(0, len(source), SAMPLES) if source.fields.get(name) == "text" else ():
            found, owners = items_of(source, name, range(start, min(start + SAMPLES, len(source))))
            for item, owner in zip(found, owners, strict=True):
                words = " ".join(getattr(item, "text", "").casefold().split())
                first = seen.setdefault((name, words), owner)
                root[find(owner)] = find(first)
    return torch.tensor([find(i) for i in range(len(source))])
